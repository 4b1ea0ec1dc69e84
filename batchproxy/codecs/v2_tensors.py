"""Tensors of the Open Inference Protocol as bytes: raw buffers to columns and back. No messages and no JSON here.

Numbers are little-endian, row after row; a string is its length in four bytes, then its bytes (the protocol's
"Tensor Data", and Triton's binary tensor data extension).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from batchproxy.codecs import _dtypes
from batchproxy.codecs.tensor_proto import MAX_RANK
from batchproxy.core.columns import Array, ArrayColumn, Layout, PackedColumn
from batchproxy.core.errors import BackendProtocolError, Code, DecodeError, RequestError

SMALL = 64 << 10
"""Bytes of a buffer up to which it is copied out of its body (4 us), so that it does not hold all of that in memory."""

NOBODYS_ELEMENTS = 2**40
"""What a shape may claim, zeros apart: as in ``tensor_proto``. numpy has no arrays of nothing with larger ones."""

_LENGTH = struct.Struct("<I")


def row_of(alias: str, datatype: str) -> _dtypes.DType:
    """The type that a message names.

    Raises:
        DecodeError: the protocol has none of that name.
    """
    row = _dtypes.by_v2(datatype)
    if row is None:
        raise DecodeError(f"tensor {alias!r} is of datatype {datatype!r}, which the protocol does not have")
    return row


def shape_of(alias: str, sizes: Sequence[int]) -> tuple[tuple[int, ...], int]:
    """A shape and the number of its elements.

    Raises:
        DecodeError: a negative length, too many axes, or lengths that are no machine's.
    """
    shape = tuple(sizes)
    if any(size < 0 for size in shape):
        raise DecodeError(f"tensor {alias!r} has the shape {list(shape)}; lengths are not negative in data")
    if len(shape) > MAX_RANK:
        raise DecodeError(f"tensor {alias!r} has {len(shape)} dimensions; batchproxy takes at most {MAX_RANK}")
    if math.prod([size or 1 for size in shape]) > NOBODYS_ELEMENTS:
        raise DecodeError(f"tensor {alias!r} has the shape {list(shape)}, for which no machine has the memory")
    return shape, math.prod(shape)


def read_raw(alias: str, datatype: str, sizes: Sequence[int], data: bytes | memoryview) -> ArrayColumn:
    """The column that a buffer holds, without a copy of large numbers.

    Args:
        alias: the tensor's name, for error texts.
        datatype: the protocol's name of its type.
        sizes: its shape.
        data: the buffer; a view is into a body that lives as long as the column.

    Raises:
        DecodeError: the buffer does not fit type and shape.
    """
    row = row_of(alias, datatype)
    shape, count = shape_of(alias, sizes)
    if row.name == "string":
        return ArrayColumn(_strings(alias, data, count).reshape(shape))
    if len(data) != count * row.numpy.itemsize:
        raise DecodeError(
            f"tensor {alias!r}: {len(data)} bytes are no {datatype} of shape {list(shape)}, which takes "
            f"{count * row.numpy.itemsize}"
        )
    if row.name == "bool":
        return ArrayColumn((np.frombuffer(data, np.uint8) != 0).reshape(shape))  # any byte but 0 is true
    if not shape or not count:
        return ArrayColumn(np.frombuffer(bytes(data), row.numpy).reshape(shape))
    row_shape = shape[1:]
    row_nbytes = len(data) // shape[0]
    return PackedColumn(data, Layout(row.numpy, row_shape, row_nbytes, shape[0], (row.name, row_shape)))


def cut(body: bytes, start: int, stop: int, datatype: str) -> bytes | memoryview:
    """A buffer of a body: a view where it is large and its numbers lie where a processor wants them."""
    row = _dtypes.by_v2(datatype)
    if stop - start <= SMALL or row is None or start % row.numpy.itemsize:
        return body[start:stop]
    return memoryview(body)[start:stop]


def write_raw(column: ArrayColumn) -> bytes | memoryview:
    """The buffer of a column, without a copy of numbers that lie row after row.

    Raises:
        RequestError: its type has no counterpart in the protocol.
        BackendProtocolError: a string that is neither bytes nor text.
    """
    if isinstance(column, PackedColumn):
        return column.data
    array = column.array
    row = _dtypes.by_numpy(array.dtype)
    if row.name == "string":
        parts: list[bytes] = []
        for item in array.ravel().tolist():
            data = as_bytes(item)
            parts += (_LENGTH.pack(len(data)), data)
        return b"".join(parts)
    return np.ascontiguousarray(array, row.numpy).reshape(-1).view(np.uint8).data


def dtype_of(column: ArrayColumn) -> np.dtype[Any]:
    """The type of a column's elements, without making an array of it."""
    return column.layout.dtype if isinstance(column, PackedColumn) else column.array.dtype


def shape_sent(column: ArrayColumn) -> tuple[int, ...]:
    """The shape of a column, without making an array of it."""
    if isinstance(column, PackedColumn):
        return (column.layout.rows, *column.layout.row_shape)
    return column.array.shape


def datatype_of(alias: str, column: ArrayColumn) -> str:
    """The protocol's name of a column's type.

    Raises:
        RequestError: UNIMPLEMENTED: it has none.
    """
    row = _dtypes.by_numpy(dtype_of(column))
    if not row.v2:
        raise no_counterpart(alias, row.name)
    return row.v2


def no_counterpart(alias: str, name: str) -> RequestError:
    """A tensor is of a type that the protocol does not have."""
    return RequestError(
        f"tensor {alias!r} is of type {_dtypes.v2_name(name)}, which has no counterpart in the Open Inference "
        "Protocol: ask over TF Serving's gRPC API, or cast it inside the model",
        code=Code.UNIMPLEMENTED,
    )


def as_bytes(item: object) -> bytes:
    """An element of a string array.

    Raises:
        BackendProtocolError: it is neither bytes nor text.
    """
    if isinstance(item, bytes):
        return item
    if isinstance(item, str):
        return item.encode("utf-8", "surrogatepass")
    raise BackendProtocolError(f"the model gave an object of type {type(item).__name__} where a string is due")


def _strings(alias: str, data: bytes | memoryview, count: int) -> Array:
    if count * _LENGTH.size > len(data):  # before anything is allocated: ten bytes can claim any size
        raise DecodeError(f"tensor {alias!r}: {len(data)} bytes are too few for {count} strings with their lengths")
    array = np.empty(count, np.object_)
    at, end = 0, len(data)
    for index in range(count):
        start = at + _LENGTH.size
        if start > end:
            raise DecodeError(f"tensor {alias!r}: its buffer ends within string {index} of {count}")
        at = start + _LENGTH.unpack_from(data, at)[0]
        if at > end:
            raise DecodeError(f"tensor {alias!r}: its buffer ends within string {index} of {count}")
        array[index] = bytes(data[start:at])
    if at != end:
        raise DecodeError(f"tensor {alias!r}: {end - at} bytes are left over behind {count} strings")
    return array
