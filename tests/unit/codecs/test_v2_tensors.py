"""Raw buffers of the Open Inference Protocol: what they hold, what they cannot, and what is not copied."""

from __future__ import annotations

import numpy as np
import pytest

from batchproxy.codecs import _dtypes, v2_tensors
from batchproxy.core.columns import ArrayColumn, PackedColumn
from batchproxy.core.errors import BackendProtocolError, Code, DecodeError, RequestError

ROWS = pytest.mark.parametrize("row", [row for row in _dtypes.TABLE if row.v2], ids=lambda row: row.v2)
NUMBERS = np.arange(6, dtype=np.float32).reshape(3, 2)


def some(row: _dtypes.DType) -> ArrayColumn:
    """Four elements of a type."""
    if row.name == "string":
        return ArrayColumn(np.array([[b"", b"\xff"], [b"x" * 300, b"y"]], np.object_))
    return ArrayColumn(np.array([[0, 1], [1, 0]]).astype(row.numpy))


@ROWS
def test_what_is_written_is_read_again(row: _dtypes.DType) -> None:
    """Each type, with its name, its shape and its values."""
    column = some(row)
    again = v2_tensors.read_raw("x", row.v2, (2, 2), bytes(v2_tensors.write_raw(column)))

    assert row.v2 == v2_tensors.datatype_of("x", again)
    assert (2, 2) == v2_tensors.shape_sent(again)
    assert row.numpy == v2_tensors.dtype_of(again)
    assert column.array.tolist() == again.array.tolist()
    assert column.shape_class == again.shape_class


def test_numbers_stay_where_they_are() -> None:
    """A buffer becomes rows without an array; they join, and are written again, as bytes."""
    data = NUMBERS.tobytes()
    column = v2_tensors.read_raw("x", "FP32", (3, 2), data)
    both = column.concat([v2_tensors.read_raw("x", "FP32", (1, 2), NUMBERS[:1].tobytes())])

    assert isinstance(column, PackedColumn)
    assert data is v2_tensors.write_raw(column)
    assert (4, 2) == v2_tensors.shape_sent(both)
    assert np.concatenate([NUMBERS, NUMBERS[:1]]).tobytes() == v2_tensors.write_raw(both)


@pytest.mark.parametrize("shape", [(), (0, 3), (3, 0)])
def test_shapes_without_rows_or_elements(shape: tuple[int, ...]) -> None:
    """A scalar, and tensors of nothing."""
    array = np.ones(shape, np.float32)
    column = v2_tensors.read_raw("x", "FP32", shape, array.tobytes())

    assert shape == column.array.shape == v2_tensors.shape_sent(column)
    assert array.tolist() == column.array.tolist()


def test_any_byte_but_zero_is_true() -> None:
    """A client may write 255."""
    found = v2_tensors.read_raw("x", "BOOL", (3,), b"\x00\x01\xff").array

    assert [False, True, True] == found.tolist()


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "text"),
    [
        ("FP8", (1,), b"\0", "'FP8', which the protocol does not have"),
        ("FP32", (-1,), b"", "lengths are not negative"),
        ("FP32", (1,) * 65, b"\0\0\0\0", "65 dimensions"),
        ("FP32", (0, 2**62), b"", "no machine has the memory"),
        ("BYTES", (2**62, 2**62, 0), b"", "no machine has the memory"),
        ("BOOL", (0, 2**70), b"", "no machine has the memory"),
        ("FP32", (2,), b"\0\0\0\0", "4 bytes are no FP32 of shape [2], which takes 8"),
        ("BYTES", (2**40,), b"\0\0\0\0", "too few"),
        ("BYTES", (1,), b"\x05\0\0\0abc", "ends within string 0 of 1"),
        ("BYTES", (2,), b"\x02\0\0\0abcd\0\0", "ends within string 1 of 2"),
        ("BYTES", (2,), b"\x04\0\0\0abcd", "ends within string 1 of 2"),
        ("BYTES", (1,), b"\x01\0\0\0abc", "2 bytes are left over"),
    ],
)
def test_buffers_that_do_not_fit_are_refused(datatype: str, shape: tuple[int, ...], data: bytes, text: str) -> None:
    """By name, before anything of the claimed size is made."""
    with pytest.raises(DecodeError, match="'x'") as refused:
        v2_tensors.read_raw("x", datatype, shape, data)

    assert text in refused.value.message


def test_large_buffers_are_views_where_they_lie_well() -> None:
    """Small ones, and those at odd places, are copied: a body is not kept for a few bytes of it."""
    body = bytes(v2_tensors.SMALL * 2 + 64)
    large = v2_tensors.cut(body, 32, 32 + v2_tensors.SMALL + 4, "FP32")

    assert isinstance(large, memoryview)
    assert isinstance(v2_tensors.cut(body, 33, 33 + v2_tensors.SMALL + 4, "FP32"), bytes)
    assert isinstance(v2_tensors.cut(body, 32, 36, "FP32"), bytes)
    assert isinstance(v2_tensors.cut(body, 0, len(body), "nothing"), bytes)


def test_types_without_a_counterpart_are_named() -> None:
    """UNIMPLEMENTED: the caller may ask in another protocol."""
    with pytest.raises(RequestError, match="'y' is of type DT_COMPLEX64") as refused:
        v2_tensors.datatype_of("y", ArrayColumn(np.zeros(1, np.complex64)))

    assert Code.UNIMPLEMENTED is refused.value.code


def test_strings_are_bytes_or_text() -> None:
    """A model that gives anything else is told so."""
    column = ArrayColumn(np.array(["é", b"\xff"], np.object_))

    assert b"\x02\0\0\0\xc3\xa9\x01\0\0\0\xff" == v2_tensors.write_raw(column)
    with pytest.raises(BackendProtocolError, match="type int"):
        v2_tensors.write_raw(ArrayColumn(np.array([1], np.object_)))
