"""The one table of element types, in everybody's words: ours, TensorFlow's, ONNX's, v2's. No values here.

Our name of a type is numpy's (``float32``, ``int64``, ``bool``, ``bfloat16``); text and bytes are ``string``.
Types that TensorFlow has and we do not carry (quantized, RESOURCE, VARIANT) are named so that a refusal can name them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from batchproxy.core.errors import BackendProtocolError, ConfigError


@dataclass(frozen=True, slots=True)
class DType:
    """One element type in everybody's words.

    Args:
        name: ours, which is numpy's; ``string`` for bytes.
        number: ``tensorflow.DataType`` (``core/framework/types.proto``).
        tf_name: its name there, such as ``DT_HALF``; REST metadata shows it.
        short_name: ``DataTypeString`` (``core/framework/types.cc``), such as ``half``; error texts show it.
        numpy: what arrays of it hold; ``object`` (of ``bytes``) for ``string``.
        field: the typed value field of ``TensorProto`` that carries it.
        onnx: onnxruntime's type text, such as ``tensor(float16)``; empty where there is none.
        v2: the Open Inference Protocol's name, such as ``FP16``; empty where there is none.
        contents: the field of ``InferTensorContents`` that carries it there; empty where there is none.
        triton: its number in Triton's ``model_config.proto``; 0 where there is none.
    """

    name: str
    number: int
    tf_name: str
    short_name: str
    numpy: np.dtype[Any]
    field: str
    onnx: str = ""
    v2: str = ""
    contents: str = ""
    triton: int = 0


_V2: Mapping[str, tuple[str, str, int]] = {
    "bool": ("BOOL", "bool_contents", 1),
    "uint8": ("UINT8", "uint_contents", 2),
    "uint16": ("UINT16", "uint_contents", 3),
    "uint32": ("UINT32", "uint_contents", 4),
    "uint64": ("UINT64", "uint64_contents", 5),
    "int8": ("INT8", "int_contents", 6),
    "int16": ("INT16", "int_contents", 7),
    "int32": ("INT32", "int_contents", 8),
    "int64": ("INT64", "int64_contents", 9),
    "float16": ("FP16", "", 10),
    "float32": ("FP32", "fp32_contents", 11),
    "float64": ("FP64", "fp64_contents", 12),
    "string": ("BYTES", "bytes_contents", 13),
    "bfloat16": ("BF16", "", 14),
}
"""Ours to the Open Inference Protocol's name, its field for values, and Triton's number."""


def _row(number: int, tf_name: str, kind: npt.DTypeLike, field: str, onnx: str, short_name: str = "") -> DType:
    dtype = np.dtype(kind)
    name = "string" if dtype.hasobject else dtype.name
    onnx = f"tensor({onnx})" if onnx else ""
    return DType(name, number, f"DT_{tf_name}", short_name or name, dtype, field, onnx, *_V2.get(name, ()))


TABLE: tuple[DType, ...] = (
    _row(1, "FLOAT", np.float32, "float_val", "float", "float"),
    _row(2, "DOUBLE", np.float64, "double_val", "double", "double"),
    _row(3, "INT32", np.int32, "int_val", "int32"),
    _row(4, "UINT8", np.uint8, "int_val", "uint8"),
    _row(5, "INT16", np.int16, "int_val", "int16"),
    _row(6, "INT8", np.int8, "int_val", "int8"),
    _row(7, "STRING", np.object_, "string_val", "string"),
    _row(8, "COMPLEX64", np.complex64, "scomplex_val", "complex64"),
    _row(9, "INT64", np.int64, "int64_val", "int64"),
    _row(10, "BOOL", np.bool_, "bool_val", "bool"),
    _row(14, "BFLOAT16", ml_dtypes.bfloat16, "half_val", "bfloat16"),
    _row(17, "UINT16", np.uint16, "int_val", "uint16"),
    _row(18, "COMPLEX128", np.complex128, "dcomplex_val", "complex128"),
    _row(19, "HALF", np.float16, "half_val", "float16", "half"),
    _row(22, "UINT32", np.uint32, "uint32_val", "uint32"),
    _row(23, "UINT64", np.uint64, "uint64_val", "uint64"),
    _row(24, "FLOAT8_E5M2", ml_dtypes.float8_e5m2, "float8_val", "float8e5m2"),
    _row(25, "FLOAT8_E4M3FN", ml_dtypes.float8_e4m3fn, "float8_val", "float8e4m3fn"),
    _row(26, "FLOAT8_E4M3FNUZ", ml_dtypes.float8_e4m3fnuz, "float8_val", "float8e4m3fnuz"),
    _row(27, "FLOAT8_E4M3B11FNUZ", ml_dtypes.float8_e4m3b11fnuz, "float8_val", ""),
    _row(28, "FLOAT8_E5M2FNUZ", ml_dtypes.float8_e5m2fnuz, "float8_val", "float8e5m2fnuz"),
    _row(29, "INT4", ml_dtypes.int4, "int_val", "int4"),
    _row(30, "UINT4", ml_dtypes.uint4, "int_val", "uint4"),
    _row(31, "INT2", ml_dtypes.int2, "int_val", "int2"),
    _row(32, "UINT2", ml_dtypes.uint2, "int_val", "uint2"),
    _row(33, "FLOAT4_E2M1FN", ml_dtypes.float4_e2m1fn, "float8_val", "float4e2m1"),
)
"""Every type we carry, by ascending number."""

LEAST_NORMAL: Mapping[str, float] = {"float32": 2.0**-126, "float64": 2.0**-1022}
"""The size below which a number is denormal, by type: TF Serving's REST door reads and writes those as zero, as a
running server showed."""

UNSUPPORTED: dict[int, str] = {
    11: "DT_QINT8",
    12: "DT_QUINT8",
    13: "DT_QINT32",
    15: "DT_QINT16",
    16: "DT_QUINT16",
    20: "DT_RESOURCE",
    21: "DT_VARIANT",
}
"""Types of TensorFlow that no model of ours takes: numbers to names, for refusals."""

_FOREIGN = {0: "DT_INVALID", **UNSUPPORTED}
"""What a signature may name beside ours: DT_INVALID is the output of the ``__saved_model_init_op`` of most models."""

_BY_NAME = {row.name: row for row in TABLE}
_BY_NUMBER = {row.number: row for row in TABLE}
_FOREIGN_NUMBERS = {name: number for number, name in _FOREIGN.items()}
_BY_ONNX = {row.onnx: row for row in TABLE if row.onnx}
_BY_V2 = {row.v2: row for row in TABLE if row.v2}


def by_name(name: str) -> DType:
    """The type called ``name`` by us.

    Raises:
        ConfigError: there is none; only a model's own declaration can cause it.
    """
    try:
        return _BY_NAME[name]
    except KeyError:
        raise ConfigError(f"{name!r} is no dtype; one of: {', '.join(_BY_NAME)}") from None


def by_number(number: int) -> DType | None:
    """The type with this ``tensorflow.DataType`` number; None for one that we do not carry."""
    return _BY_NUMBER.get(number)


@lru_cache(256)  # reading a dtype's name makes it anew each time: 0.7 us, several times a request
def by_numpy(dtype: np.dtype[Any]) -> DType:
    """The type of a numpy array. Text (``U``), bytes (``S``) and objects are ``string``; byte order does not matter.

    Raises:
        BackendProtocolError: no TensorFlow type holds it; only a model's output can cause it.
    """
    row = _BY_NAME.get("string" if dtype.kind in "OSU" else dtype.name)
    if row is None:
        raise BackendProtocolError(f"the model gave an array of dtype {dtype}, which no TensorFlow type holds; cast it")
    return row


def by_onnx(text: str) -> DType | None:
    """The type that onnxruntime writes as ``text``, such as ``tensor(float)``; None for one that we do not carry."""
    return _BY_ONNX.get(text)


def by_v2(datatype: str) -> DType | None:
    """The type that the Open Inference Protocol calls ``datatype``, such as ``FP32``; None: none is called so."""
    return _BY_V2.get(datatype)


def v2_name(name: str) -> str:
    """What the Open Inference Protocol calls ours; TensorFlow's name of one that it does not have.

    >>> v2_name("float16"), v2_name("complex64"), v2_name("DT_RESOURCE")
    ('FP16', 'DT_COMPLEX64', 'DT_RESOURCE')
    """
    row = _BY_NAME.get(name)
    return tf_name(name) if row is None or not row.v2 else row.v2


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The numpy dtype of ours: ``object`` for ``string``.

    >>> numpy_dtype("float32")
    dtype('float32')
    """
    return by_name(name).numpy


def declared(number: int) -> str:
    """The name under which a signature has the type with this number: ours, or TensorFlow's where we have none.

    >>> declared(19), declared(20), declared(250)
    ('float16', 'DT_RESOURCE', 'DT_250')
    """
    row = _BY_NUMBER.get(number)
    return row.name if row is not None else _FOREIGN.get(number, f"DT_{number}")


def declared_number(name: str) -> int:
    """The number of a type by the name that ``declared`` gave it.

    >>> [declared_number(declared(number)) for number in (0, 19, 250)]
    [0, 19, 250]
    """
    if not name.startswith("DT_"):
        return by_name(name).number
    suffix = name.removeprefix("DT_")
    return int(suffix) if suffix.isdecimal() else _FOREIGN_NUMBERS[name]


def tf_name(name: str) -> str:
    """TensorFlow's enum name of ours, or of one that only it has.

    >>> tf_name("float16"), tf_name("DT_RESOURCE")
    ('DT_HALF', 'DT_RESOURCE')
    """
    return name if name.startswith("DT_") else by_name(name).tf_name


def short_name(name: str) -> str:
    """What TensorFlow's error texts call ours, or one that only it has.

    >>> short_name("float16"), short_name("DT_RESOURCE")
    ('half', 'resource')
    """
    return name.removeprefix("DT_").lower() if name.startswith("DT_") else by_name(name).short_name
