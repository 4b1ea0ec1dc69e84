"""What a model says about its tensors: specs, signatures, and what may be batched. No data lives here.

A dimension of ``None`` is open: any length. A shape of ``None`` is of unknown rank.
dtype names are numpy's (``float32``, ``int64``, ``bool``, ``bfloat16``); text and bytes are ``string``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

DEFAULT_SIGNATURE = "serving_default"
"""The signature an unnamed request means (TensorFlow's ``DEFAULT_SERVING_SIGNATURE_DEF_KEY``)."""

PREDICT_METHOD = "tensorflow/serving/predict"
"""``SignatureDef.method_name`` of a predict signature (TensorFlow's ``PREDICT_METHOD_NAME``)."""

Shape = tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One named input or output of a model.

    Args:
        dtype: numpy's name of the element type, or ``"string"``.
        shape: length per axis, ``None`` where open; ``None`` as a whole for unknown rank.
        name: the tensor's name in the graph (``TensorInfo.name``); the alias serves where it is empty.

    Example:
        >>> TensorSpec("float32", (None, 3)).leading_open
        True
    """

    dtype: str
    shape: Shape | None = None
    name: str = ""

    @property
    def leading_open(self) -> bool:
        """Whether axis 0 may have any length. Unknown rank counts as open until a split check fails (R5)."""
        return self.shape is None or (len(self.shape) > 0 and self.shape[0] is None)


@dataclass(frozen=True, slots=True)
class Signature:
    """The typed inputs and outputs of one (model, version, method).

    Args:
        inputs: input alias to spec.
        outputs: output alias to spec.
        declared: False where the model says nothing about itself (a bare Python function):
            names, dtypes and shapes of requests are then taken as they come.
        method_name: ``SignatureDef.method_name``.

    Attributes:
        batchable: whether the model's own metadata lets rows of several requests share one call.
    """

    inputs: Mapping[str, TensorSpec] = field(default_factory=dict)
    outputs: Mapping[str, TensorSpec] = field(default_factory=dict)
    declared: bool = True
    method_name: str = PREDICT_METHOD
    batchable: bool = field(init=False, repr=False, compare=False)  # kept: every request asks

    def __post_init__(self) -> None:
        specs = (*self.inputs.values(), *self.outputs.values())
        open_ = bool(self.inputs) and all(spec.leading_open for spec in specs)
        object.__setattr__(self, "batchable", open_ or not self.declared)


UNDECLARED = Signature(declared=False)
"""What we know of a model that declares nothing."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What is known of one served version of a model: the answer to status and metadata calls.

    Args:
        name: the name callers use.
        version: the concrete version number that answers.
        signatures: signature name to signature.
        max_rows: that its server takes in a call at most; ``None``: it does not say.
    """

    name: str
    version: int
    signatures: Mapping[str, Signature]
    max_rows: int | None = None
