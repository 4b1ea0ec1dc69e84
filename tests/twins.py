"""Python twins of the small models whose answers were recorded (``tests/golden``); no test lives here.

Each function computes what its SavedModel computes, dtype for dtype. TensorFlow's kernels take numbers too small for a
normal float as zero; where a recorded case shows that, the twin does the same. numpy broadcasts as TensorFlow does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from batchproxy.backends.callable import signature
from batchproxy.core.columns import Array
from batchproxy.core.shapes import Shape

Outputs = dict[str, Array]
Twin = Callable[[Outputs], Outputs]
Spec = tuple[str, Shape | None]

FLOATS: Spec = ("float32", (None,))
PAIRS: Spec = ("float32", (None, 2))
STRINGS: Spec = ("string", (None,))
NOTHING: dict[str, Spec] = {}


def flushed(array: Array) -> Array:
    """The array with denormal numbers as zero of their sign."""
    return np.where(np.abs(array) < np.finfo(array.dtype).tiny, np.copysign(np.zeros_like(array), array), array)


def linear(factor: float, constant: float) -> Twin:
    """``factor * x + constant``, in float32."""

    @signature(inputs={"x": FLOATS}, outputs={"y": FLOATS})
    def twin(inputs: Outputs) -> Outputs:
        return {"y": inputs["x"] * np.float32(factor) + np.float32(constant)}

    return twin


def identity(dtype: str, shape: Shape | None) -> Twin:
    """``y`` is ``x``."""

    @signature(inputs={"x": (dtype, shape)}, outputs={"y": (dtype, shape)})
    def twin(inputs: Outputs) -> Outputs:
        return {"y": flushed(inputs["x"]) if dtype in {"float32", "float64"} else inputs["x"]}

    return twin


@signature(inputs={"x": ("float32", (None, 3))}, outputs={"y": ("float32", (None, 3))})
def hpt2(inputs: Outputs) -> Outputs:
    """Half plus two on rows of three."""
    return {"y": inputs["x"] * np.float32(0.5) + np.float32(2)}


@signature(inputs={"a": PAIRS, "b": PAIRS}, outputs={"sum": PAIRS, "prod": PAIRS})
def sum_and_product(inputs: Outputs) -> Outputs:
    """Two inputs, two outputs."""
    return {"sum": inputs["a"] + inputs["b"], "prod": inputs["a"] * inputs["b"]}


@signature(inputs={"a": PAIRS, "b": PAIRS}, outputs={"sum": PAIRS})
def only_sum(inputs: Outputs) -> Outputs:
    """Two inputs, one output."""
    return {"sum": inputs["a"] + inputs["b"]}


@signature(inputs={"x": FLOATS}, outputs={"y": FLOATS, "first2": ("float32", (2,))})
def mixed_batch_out(inputs: Outputs) -> Outputs:
    """One output has not the rows of the batch."""
    return {"y": inputs["x"], "first2": inputs["x"][:2]}


@signature(inputs={"s": STRINGS}, outputs={"s": STRINGS})
def exclaim(inputs: Outputs) -> Outputs:
    """Each string with an exclamation mark."""
    return {"s": np.asarray(inputs["s"] + b"!", np.object_)}  # numpy makes bytes of a lone string


@signature(inputs={"s": STRINGS}, outputs={"out_bytes": STRINGS})
def bytes_out(inputs: Outputs) -> Outputs:
    """The output's name asks for base64."""
    return {"out_bytes": inputs["s"]}


@signature(inputs={"image_bytes": STRINGS}, outputs={"len": ("int32", (None,)), "copy_bytes": STRINGS})
def bytes_in(inputs: Outputs) -> Outputs:
    """Lengths and a copy."""
    taken = inputs["image_bytes"]
    return {"len": np.array([len(item) for item in taken.flat], np.int32).reshape(taken.shape), "copy_bytes": taken}


@signature(inputs={"s": ("string", (None, 2))}, outputs={"s": ("string", (None, 2))})
def string_matrix(inputs: Outputs) -> Outputs:
    """Strings in rows of two, as they came."""
    return {"s": inputs["s"]}


@signature(inputs={"x": ("int64", (None,))}, outputs={"y": ("int64", (None,))})
def int64_model(inputs: Outputs) -> Outputs:
    """``2x + 1`` in whole numbers."""
    return {"y": inputs["x"] * 2 + 1}


@signature(inputs={"x": FLOATS}, outputs={"total": ("float32", ())})
def total(inputs: Outputs) -> Outputs:
    """An output of rank 0."""
    return {"total": inputs["x"].sum(dtype=np.float32)}


@signature(inputs={"x": ("float32", ())}, outputs={"y": ("float32", ())})
def scalar_in(inputs: Outputs) -> Outputs:
    """An input of rank 0."""
    return {"y": inputs["x"] + np.float32(1)}


@signature(inputs={"x": ("float32", (None, None))}, outputs={"y": ("float32", (None, None)), "row_sum": FLOATS})
def var_len(inputs: Outputs) -> Outputs:
    """Rows of any length."""
    return {"y": inputs["x"] * np.float32(2), "row_sum": inputs["x"].sum(axis=1, dtype=np.float32)}


@signature(inputs={"x": FLOATS}, outputs={"y": FLOATS})
def reject_negative(inputs: Outputs) -> Outputs:
    """Square roots; a negative number fails the whole call."""
    if (inputs["x"] < 0).any():
        raise ValueError("negative input is not allowed")
    return {"y": np.sqrt(inputs["x"])}


@signature(inputs={"x": FLOATS}, outputs={"y": FLOATS, "log": FLOATS})
def special(inputs: Outputs) -> Outputs:
    """Infinities and NaN come out."""
    taken = flushed(inputs["x"])
    with np.errstate(divide="ignore", invalid="ignore"):
        return {"y": np.float32(1) / taken, "log": np.log(taken)}


@signature(inputs={"x": ("float64", (None,))}, outputs={"y": ("float64", (None,))})
def special_double(inputs: Outputs) -> Outputs:
    """As ``special``, in float64."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return {"y": 1.0 / inputs["x"]}


@signature(inputs={"x": ("float32", (2, 2))}, outputs={"y": ("float32", (2, 2))})
def fixed_batch(inputs: Outputs) -> Outputs:
    """The batch size is a part of the model."""
    return {"y": inputs["x"] + np.float32(1)}


@signature(inputs=NOTHING, outputs={"c": ("float32", (2,))})
def const(inputs: Outputs) -> Outputs:
    """No inputs at all."""
    return {"c": np.array([1, 2], np.float32)}


@signature(inputs={"x": FLOATS}, outputs={"o1": FLOATS, "o2": FLOATS, "o3": FLOATS, "o4": FLOATS})
def many_out(inputs: Outputs) -> Outputs:
    """Four outputs, to choose from."""
    return {f"o{step}": inputs["x"] + np.float32(step) for step in range(1, 5)}


_DTYPES = (
    "float64",
    "float16",
    "bfloat16",
    "int8",
    "uint8",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "bool",
    "string",
    "complex64",
    "complex128",
)
_SIGNATURE_NAMES = {"float64": "double", "float16": "half"}

TWINS: dict[str, dict[str, Twin]] = {
    "half_plus_two": {"serving_default": linear(0.5, 2)},
    "multi_version": {"serving_default": linear(0.5, 3)},
    "hpt2": {"serving_default": hpt2},
    "two_in_two_out": {"serving_default": sum_and_product, "only_sum": only_sum},
    "mixed_batch_out": {"serving_default": mixed_batch_out},
    "strings": {
        "serving_default": exclaim,
        "bytes_out": bytes_out,
        "bytes_in": bytes_in,
        "mat": string_matrix,
    },
    "dtypes": {
        "serving_default": identity("float32", (None,)),
        **{_SIGNATURE_NAMES.get(dtype, dtype): identity(dtype, (None,)) for dtype in _DTYPES},
    },
    "any_rank": {
        "serving_default": identity("float32", None),
        "ints": identity("int64", None),
        "strs": identity("string", None),
    },
    "int64_model": {"serving_default": int64_model},
    "scalar_out": {"serving_default": total, "scalar_in": scalar_in},
    "var_len": {"serving_default": var_len},
    "reject_negative": {"serving_default": reject_negative},
    "special": {"serving_default": special, "dbl": special_double},
    "fixed_batch": {"serving_default": fixed_batch},
    "no_input": {"serving_default": linear(1, 1), "const": const},
    "many_out": {"serving_default": many_out},
}
"""Model name to signature name to function. ``multi_version`` is its version 2, which answered."""

OLDER: Mapping[tuple[str, int], dict[str, Twin]] = {("multi_version", 1): {"serving_default": linear(0.5, 2)}}
"""Versions that were served beside the newest."""

LABELS: Mapping[str, Mapping[str, int]] = {"multi_version": {"stable": 1, "canary": 2}}
"""Version labels by model, as they were configured."""
