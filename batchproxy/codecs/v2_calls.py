"""Calls of the Open Inference Protocol, however they were written: what is asked, and what rides together. No bytes.

The protocol has no signatures: ``serving_default`` is meant, unless the parameter ``signature_name`` names another.
Of the open ``parameters``, those that we answer for ourselves (priority, timeout, how outputs are written) are taken
out; what is left says something to the model and is part of the key.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import orjson

from batchproxy.codecs import _dtypes
from batchproxy.codecs.v2_tensors import dtype_of, no_counterpart, read_raw
from batchproxy.core.columns import ArrayColumn
from batchproxy.core.errors import Code, DecodeError, RequestError
from batchproxy.core.policy import PRIORITIES
from batchproxy.core.request import Reply, Request, Share, Version, build_request
from batchproxy.core.shapes import DEFAULT_SIGNATURE, ModelInfo, Signature, TensorSpec

Value = bool | int | float | str
Parameters = Mapping[str, Value]

PLATFORM = "batchproxy"
"""What metadata calls the thing that runs a model: callers of ours cannot tell, and need not."""

EXTENSIONS = ("binary_tensor_data", "model_repository", "schedule_policy", "model_configuration", "statistics")
"""Triton's names of the extensions that we answer."""

SIGNATURE_NAME = "signature_name"
SEQUENCE = "sequence_id"
BINARY_DATA, BINARY_DATA_OUTPUT, BINARY_DATA_SIZE = "binary_data", "binary_data_output", "binary_data_size"

_OURS = frozenset({SIGNATURE_NAME, "priority", "timeout", BINARY_DATA_OUTPUT})
_OURS_OF_A_TENSOR = frozenset({BINARY_DATA, BINARY_DATA_SIZE})
_SHARED_MEMORY = "shared_memory_region"
_CLASSIFICATION = "classification"

_INT64_MAX = 2**63 - 1


@dataclass(slots=True, eq=False)
class InferCall:
    """One inference call, as sent.

    Attributes:
        model: its name; empty where the message does not say (REST says it in the path).
        version: as for ``BatchKey``.
        id: to be written into the answer; empty for none.
        inputs: input name to column.
        outputs: output names asked for, in the order of the answer; empty for all.
        parameters: of the call.
        input_parameters: of inputs that have some, without how their bytes are sent.
        output_parameters: of outputs that have some, as sent.
        odd: why it can only be passed on as it came; empty where we understand all of it.
        buffers: whether it takes a server with Triton's binary tensor data extension to answer it as it came.
        whole: what came without a word about it: the model's only input (see ``read_whole``). None: nothing did.
    """

    model: str
    version: Version
    id: str
    inputs: dict[str, ArrayColumn]
    outputs: tuple[str, ...] = ()
    parameters: Parameters = field(default_factory=dict)
    input_parameters: Mapping[str, Parameters] = field(default_factory=dict)
    output_parameters: Mapping[str, Parameters] = field(default_factory=dict)
    odd: str = ""
    buffers: bool = False
    whole: bytes | None = None

    @property
    def signature_name(self) -> str:
        """After defaulting, so never empty."""
        name = self.parameters.get(SIGNATURE_NAME)
        return name if isinstance(name, str) and name else DEFAULT_SIGNATURE

    @property
    def sequence(self) -> bool:
        """Whether it is one of a sequence, which a server keeps state of: never batched (R3)."""
        return bool(self.parameters.get(SEQUENCE))

    @property
    def priority(self) -> int | None:
        """One of ``policy.PRIORITIES``; None: its model's. Triton counts from 1, the highest; 0 is its default."""
        level = self.parameters.get("priority")
        if not isinstance(level, int) or isinstance(level, bool) or level < 1:
            return None
        return min(level - 1, max(PRIORITIES.values()))

    @property
    def timeout_s(self) -> float | None:
        """How long it may take; None: it does not say. Triton counts microseconds, and 0 is none."""
        timeout = self.parameters.get("timeout")
        if not isinstance(timeout, int) or isinstance(timeout, bool) or timeout < 1:
            return None
        return timeout / 1e6

    def extras(self) -> bytes | None:
        """What the parameters say to the model, for ``BatchKey.extras``; None: something that cannot be kept there."""
        own = {name: value for name, value in self.parameters.items() if name not in _OURS}
        if not own and not self.input_parameters:
            return b""
        values = [*own.values(), *(value for held in self.input_parameters.values() for value in held.values())]
        if any(isinstance(value, float) and not math.isfinite(value) for value in values):
            return None
        return orjson.dumps([own, self.input_parameters], option=orjson.OPT_SORT_KEYS)

    def refuse_odd(self) -> None:
        """Say that nobody but a server of this protocol can answer this call.

        Raises:
            RequestError: UNIMPLEMENTED.
        """
        if self.odd:
            raise RequestError(
                f"model {self.model!r}: {self.odd} is answered by servers of the Open Inference Protocol only; "
                "send the tensors in the request, and ask for all of an output",
                code=Code.UNIMPLEMENTED,
            )


class Said(NamedTuple):
    """What a server of this protocol said beside its tensors; kept in the ``memo`` of its reply.

    Attributes:
        version: as it wrote it.
        parameters: of the answer.
        output_parameters: of outputs that have some.
    """

    version: str = ""
    parameters: Parameters = MappingProxyType({})
    output_parameters: Mapping[str, Parameters] = MappingProxyType({})


def said(reply: Reply) -> Said:
    """What the server said; nothing where it was none of this protocol."""
    whole = reply.whole if type(reply) is Share else reply
    found = whole.memo.get(Said)
    return found if found is not None else Said(str(whole.version) if whole.version else "")


def read_extras(extras: bytes) -> tuple[Parameters, Mapping[str, Parameters]]:
    """The parameters of a call and of its inputs, out of a key."""
    if not extras:
        return {}, {}
    own, of_inputs = orjson.loads(extras)
    return own, of_inputs


def own_parameters(parameters: Parameters) -> dict[str, Value]:
    """Those of a tensor that do not only say how its bytes are sent."""
    return {name: value for name, value in parameters.items() if name not in _OURS_OF_A_TENSOR}


def oddity(parameters: Parameters) -> str:
    """Why a tensor with these parameters can only be passed on; empty: it need not."""
    if _SHARED_MEMORY in parameters:
        return "shared memory"
    return "the classification extension" if parameters.get(_CLASSIFICATION) else ""


def version_of(text: str) -> Version:
    """The version that a path or a message names: a number, a label, or none.

    Raises:
        DecodeError: a number beyond 64 bits.

    >>> version_of("7"), version_of("stable"), version_of("")
    (7, 'stable', None)
    """
    if not (text.isascii() and text.isdigit()):
        return text or None
    number = int(text[:32])
    if number > _INT64_MAX or len(text) > 32:
        raise DecodeError(f"version {text[:32]} is beyond 64 bits")
    return number


def version_number(text: str | None) -> int:
    """The version that an answer names; 0 where that is no number.

    >>> version_number("7"), version_number("stable"), version_number(None)
    (7, 0, 0)
    """
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 19 else 0


def version_text(version: Version) -> str:
    """As ``version_of`` reads it."""
    return "" if version is None else str(version)


def signature_of(info: ModelInfo, name: str) -> Signature:
    """The signature called ``name``.

    Raises:
        RequestError: the model has no such signature.
    """
    signature = info.signatures.get(name)
    if signature is None:
        have = ", ".join(sorted(info.signatures))
        raise RequestError(f"model {info.name!r} has no signature {name!r}; it has: {have}")
    return signature


def read_whole(call: InferCall, model: str, signature: Signature) -> None:
    """Make what came without JSON the model's only input, as Triton does; its shape is what its size leaves open.

    Of several open axes the first one, which is the batch's, is 1. A string comes as it is, and is one row.

    Raises:
        RequestError: nothing came so well described by its model alone.
    """
    if call.whole is None:
        return
    if len(signature.inputs) != 1:
        raise RequestError(f"model {model!r} does not have exactly one input, which a request without JSON stands for")
    ((name, spec),) = signature.inputs.items()
    datatype, data = _dtypes.v2_name(spec.dtype), call.whole
    if _dtypes.by_v2(datatype) is None:
        raise no_counterpart(name, spec.dtype)
    sizes = list(spec.shape or ())
    if spec.dtype == "string" and len(sizes) == 1:
        call.inputs[name] = ArrayColumn(np.array([data], np.object_))
        return
    if sizes.count(None) > 1 and sizes[0] is None:
        sizes[0] = 1
    known = _dtypes.numpy_dtype(spec.dtype).itemsize * math.prod([size for size in sizes if size is not None])
    fits = None not in sizes or (sizes.count(None) == 1 and known > 0 and len(data) % known == 0)
    if spec.shape is None or spec.dtype == "string" or not fits:
        raise RequestError(
            f"input {name!r} of model {model!r}, {datatype} of shape {sizes_of(spec)}: its lengths cannot be told from "
            f"{len(data)} bytes; describe it in JSON"
        )
    shape = [len(data) // known if size is None else size for size in sizes]
    try:
        call.inputs[name] = read_raw(name, datatype, shape, data)
    except DecodeError as error:
        raise RequestError(error.message) from None


def infer_request(
    call: InferCall, model: str, version: Version, signature: Signature, *, extras: bytes | None, sent: bool = True
) -> Request:
    """The request that a call stands for.

    Args:
        call: what is asked.
        model: the name to key it by.
        version: likewise.
        signature: what the model says of itself.
        extras: for the key; None: it must travel alone.
        sent: whether its inputs are to be checked here; False where a server's own words are wanted.

    Raises:
        RequestError: its inputs or outputs are not the model's.
    """
    if sent and signature.declared:
        _check(call, model, signature)
    outputs = call.outputs
    if signature.declared and len(outputs) == len(signature.outputs) and set(outputs) == signature.outputs.keys():
        outputs = ()  # all of them, as most callers say by naming none
    request = build_request((model, version, call.signature_name), signature, call.inputs, outputs)
    if extras is None or call.sequence:
        request.rows = None
    if extras:
        request.key = request.key._replace(extras=extras)
    return request


def _check(call: InferCall, model: str, signature: Signature) -> None:
    for name, column in call.inputs.items():
        spec = signature.inputs.get(name)
        if spec is None:
            have = ", ".join(sorted(signature.inputs))
            raise RequestError(f"model {model!r} has no input {name!r}; it has: {have}")
        given = _dtypes.by_numpy(dtype_of(column)).name
        if given != spec.dtype:
            expected = _dtypes.v2_name(spec.dtype)
            if _dtypes.by_v2(expected) is None:
                raise no_counterpart(name, spec.dtype)
            raise RequestError(
                f"input {name!r} of model {model!r} is of datatype {_dtypes.v2_name(given)}, the model takes {expected}"
            )
    for name in signature.inputs:
        if name not in call.inputs:
            raise RequestError(f"model {model!r}: input {name!r} is missing")
    for at, name in enumerate(call.outputs):
        if name not in signature.outputs:
            have = ", ".join(sorted(signature.outputs))
            raise RequestError(f"model {model!r} has no output {name!r}; it has: {have}")
        if name in call.outputs[:at]:
            raise RequestError(f"model {model!r}: output {name!r} is asked for twice")


def sizes_of(spec: TensorSpec) -> Sequence[int]:
    """A shape as metadata has it: -1 for an open length; an unknown rank, which the protocol cannot say, is [-1]."""
    return [-1] if spec.shape is None else [-1 if size is None else size for size in spec.shape]


def spec_of(alias: str, datatype: str, sizes: Sequence[int]) -> TensorSpec:
    """What metadata says of a tensor.

    Raises:
        DecodeError: a type that the protocol does not have.
    """
    row = _dtypes.by_v2(datatype)
    if row is None:
        raise DecodeError(f"tensor {alias!r} is of datatype {datatype!r}, which the protocol does not have")
    return TensorSpec(row.name, tuple(None if size < 0 else size for size in sizes))


def info_of(
    name: str, versions: Sequence[str], inputs: Mapping[str, TensorSpec], outputs: Mapping[str, TensorSpec]
) -> ModelInfo:
    """What metadata says of a model; its version is the highest number that it names, 0 for none."""
    numbers = [int(text) for text in versions if text.isascii() and text.isdigit() and len(text) < 20]
    return ModelInfo(name, max(numbers, default=0), {DEFAULT_SIGNATURE: Signature(inputs, outputs)})
