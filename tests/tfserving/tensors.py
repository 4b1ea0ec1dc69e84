"""TensorProto to array and back, by TensorFlow's rules for sparse, broadcast and wrapped values. No model, no wire."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from tensorflow.core.framework import tensor_pb2, types_pb2

Array = np.ndarray[Any, np.dtype[Any]]

MOST_ELEMENTS = 1 << 28
"""A real server tries to allocate any number, and fails after ten seconds (facts 8); this one fails at once."""


class Kind(NamedTuple):
    """How a type is called, held, and carried in typed fields."""

    name: str
    numpy: np.dtype[Any]
    field: str


def _kind(name: str, numpy: Any, field: str) -> Kind:
    return Kind(name, np.dtype(numpy), field)


KINDS: dict[int, Kind] = {
    types_pb2.DT_FLOAT: _kind("float", np.float32, "float_val"),
    types_pb2.DT_DOUBLE: _kind("double", np.float64, "double_val"),
    types_pb2.DT_INT32: _kind("int32", np.int32, "int_val"),
    types_pb2.DT_UINT8: _kind("uint8", np.uint8, "int_val"),
    types_pb2.DT_INT16: _kind("int16", np.int16, "int_val"),
    types_pb2.DT_INT8: _kind("int8", np.int8, "int_val"),
    types_pb2.DT_STRING: _kind("string", object, "string_val"),
    types_pb2.DT_COMPLEX64: _kind("complex64", np.complex64, "scomplex_val"),
    types_pb2.DT_INT64: _kind("int64", np.int64, "int64_val"),
    types_pb2.DT_BOOL: _kind("bool", np.bool_, "bool_val"),
    types_pb2.DT_BFLOAT16: _kind("bfloat16", ml_dtypes.bfloat16, "half_val"),
    types_pb2.DT_UINT16: _kind("uint16", np.uint16, "int_val"),
    types_pb2.DT_COMPLEX128: _kind("complex128", np.complex128, "dcomplex_val"),
    types_pb2.DT_HALF: _kind("half", np.float16, "half_val"),
    types_pb2.DT_UINT32: _kind("uint32", np.uint32, "uint32_val"),
    types_pb2.DT_UINT64: _kind("uint64", np.uint64, "uint64_val"),
}

_NUMBERS = {kind.numpy: number for number, kind in KINDS.items()}


def from_proto(proto: Any) -> Array:
    """The array that TensorFlow makes of it.

    Raises:
        ValueError: if it makes none.
    """
    kind = KINDS.get(proto.dtype)
    if kind is None:
        raise ValueError(f"type {proto.dtype} is unknown")
    shape = [] if proto.tensor_shape.unknown_rank else [dim.size for dim in proto.tensor_shape.dim]
    size = math.prod(shape)
    if min(shape, default=0) < 0 or size > MOST_ELEMENTS:
        raise ValueError(f"shape {shape} is impossible")
    if proto.tensor_content:
        flat = _from_content(kind, proto.tensor_content, size)
        if flat.size != size:
            raise ValueError(f"{flat.size} elements of content for shape {shape}")
    else:
        flat = _filled(_from_values(kind, getattr(proto, kind.field)), size)
    return flat.reshape(shape)


def _from_content(kind: Kind, content: bytes, size: int) -> Array:
    if kind.name != "string":
        return np.frombuffer(content, kind.numpy).copy()
    lengths, position = [], 0
    for _ in range(size):  # all lengths, then all bytes
        length, position = _read_varint(content, position)
        lengths.append(length)
    strings = []
    for length in lengths:
        strings.append(content[position : position + length])
        position += length
    if position != len(content):
        raise ValueError(f"strings end at {position}, content at {len(content)}")
    return _strings(strings)


def _read_varint(content: bytes, position: int) -> tuple[int, int]:
    number, shift = 0, 0
    for byte in content[position:]:
        number |= (byte & 0x7F) << shift
        shift += 7
        position += 1
        if byte < 0x80:
            return number, position
    raise ValueError("the content ends within a length")


def _from_values(kind: Kind, values: Any) -> Array:
    if kind.name == "string":
        return _strings(values)
    if kind.field == "half_val":
        return np.array(values, np.int64).astype(np.uint16).view(kind.numpy)
    if kind.field == "int_val":
        return np.array(values, np.int64).astype(kind.numpy)  # wraps
    if kind.field in {"scomplex_val", "dcomplex_val"}:
        part = np.float32 if kind.field == "scomplex_val" else np.float64
        return np.array(values[: len(values) // 2 * 2], part).view(kind.numpy)
    return np.array(values, kind.numpy)


def _filled(values: Array, size: int) -> Array:
    """Too many are cut, the last one of too few is repeated, none at all is zeros."""
    if values.size >= size:
        return values[:size]
    if values.size:
        return np.concatenate([values, np.repeat(values[-1:], size - values.size)])
    return np.full(size, b"", object) if values.dtype == object else np.zeros(size, values.dtype)


def _strings(items: Any) -> Array:
    return np.fromiter(items, dtype=object)


def to_proto(array: Array, *, content: bool) -> Any:
    """The message of an array.

    Args:
        array: what TensorFlow's session returned.
        content: whether as ``tensor_content``; else in the typed field, all values written out.
    """
    proto = tensor_pb2.TensorProto(dtype=_NUMBERS[array.dtype])
    proto.tensor_shape.SetInParent()  # also for a scalar
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    kind = KINDS[proto.dtype]
    flat = array.ravel()
    if content:
        proto.tensor_content = _to_content(kind, flat)
    elif kind.field == "half_val":
        proto.half_val.extend(flat.view(np.uint16).tolist())
    elif kind.field in {"scomplex_val", "dcomplex_val"}:
        part = np.float32 if kind.field == "scomplex_val" else np.float64
        getattr(proto, kind.field).extend(flat.view(part).tolist())
    else:
        getattr(proto, kind.field).extend(flat.tolist())
    return proto


def _to_content(kind: Kind, flat: Array) -> bytes:
    if kind.name != "string":
        return flat.tobytes()
    return b"".join(_varint(len(item)) for item in flat) + b"".join(flat)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
