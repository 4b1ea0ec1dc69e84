"""Tests of batchproxy.core.columns."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from batchproxy.core.columns import ArrayColumn, ListColumn, TensorColumn


def _bytes(*items: bytes) -> npt.NDArray[np.object_]:
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


def test_array_rows() -> None:
    """Axis 0 is what is counted; a scalar has no rows."""
    assert 3 == ArrayColumn(np.zeros((3, 2))).rows
    assert 0 == ArrayColumn(np.zeros((0, 2))).rows
    assert ArrayColumn(np.zeros(())).rows is None


def test_array_nbytes() -> None:
    """Numbers count their bytes, strings their length and what Python adds to each."""
    assert 24 == ArrayColumn(np.zeros((3, 2), np.float32)).nbytes
    assert 2 * 33 + 5 == ArrayColumn(_bytes(b"ab", b"cde")).nbytes


def test_array_shape_class() -> None:
    """Dtype and inner shape must agree; the number of rows need not."""
    one = ArrayColumn(np.zeros((3, 2), np.float32))

    assert one.shape_class == ArrayColumn(np.zeros((1, 2), np.float32)).shape_class
    assert one.shape_class != ArrayColumn(np.zeros((3, 2), np.float64)).shape_class
    assert one.shape_class != ArrayColumn(np.zeros((3, 3), np.float32)).shape_class


def test_array_take_is_a_view() -> None:
    """Splitting copies nothing."""
    array = np.arange(6)

    part = ArrayColumn(array).take(2, 4)

    assert [2, 3] == part.array.tolist()
    assert np.shares_memory(array, part.array)


def test_array_concat() -> None:
    """Rows in order, dtype kept."""
    joined = ArrayColumn(np.array([1], np.int8)).concat([ArrayColumn(np.array([2, 3], np.int8))])

    assert [1, 2, 3] == joined.array.tolist()
    assert "ArrayColumn(int8, shape=(3,))" == repr(joined)


def test_a_servers_tensor_keeps_what_is_beside_its_values() -> None:
    """Each slice, and what is put together from slices, looks as the server wrote it."""
    column = TensorColumn(np.arange(4), content=True, extras=b"x")
    parts = [column.take(0, 1), column.take(1, 4).concat([column.take(0, 1)])]

    assert [[0], [1, 2, 3, 0]] == [part.array.tolist() for part in parts]
    assert {(True, b"x")} == {(part.content, part.extras) for part in parts}
    assert ArrayColumn(np.arange(4)).shape_class == column.shape_class
    assert "TensorColumn(int64, shape=(4,))" == repr(column)


def test_list_column() -> None:
    """A list of objects is a column of as many rows, all of one shape class."""
    column = ListColumn(["a", None])
    joined = column.concat([ListColumn([3]), ListColumn([])])

    assert (2, 16) == (column.rows, column.nbytes)
    assert column.shape_class == joined.shape_class
    assert ["a", None, 3] == joined.items
    assert [None, 3] == joined.take(1, 3).items
    assert "ListColumn(3 items)" == repr(joined)


def test_ranks() -> None:
    """The number of an array's axes; of a list nothing is known."""
    assert (0, 2) == (ArrayColumn(np.zeros(())).rank, ArrayColumn(np.zeros((2, 3))).rank)
    assert ListColumn([[1]]).rank is None
