"""Columns that are still bytes, and shares that are not cut yet."""

from __future__ import annotations

import numpy as np
import pytest

from batchproxy.core.columns import ArrayColumn, Layout, PackedColumn
from batchproxy.core.request import Reply, Share

ROWS = np.arange(12, dtype=np.float32).reshape(2, 3, 2)


def packed(array: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> PackedColumn:
    """A column of the bytes of an array."""
    return PackedColumn(array.tobytes(), Layout.of(array))


def test_it_is_what_the_array_would_be() -> None:
    """In all that a batch needs to know."""
    column, due = packed(ROWS), ArrayColumn(ROWS)

    assert (due.rows, due.rank, due.nbytes, due.shape_class) == (
        column.rows,
        column.rank,
        column.nbytes,
        column.shape_class,
    )
    assert due.array.tolist() == column.array.tolist()
    assert column.array is column.array
    assert ROWS[1:].tolist() == column.take(1, 2).array.tolist()


def test_bytes_are_joined_as_bytes() -> None:
    """And only become an array where somebody asks."""
    joined = packed(ROWS).concat([packed(ROWS[:1]), packed(ROWS[1:])])

    assert isinstance(joined, PackedColumn)
    assert ROWS.tobytes() * 2 == joined.data
    assert 4 == joined.rows


def test_with_arrays_they_are_joined_as_arrays() -> None:
    """In either order."""
    both = [packed(ROWS).concat([ArrayColumn(ROWS)]), ArrayColumn(ROWS).concat([packed(ROWS)])]

    assert [np.concatenate([ROWS, ROWS]).tolist()] * 2 == [column.array.tolist() for column in both]


def test_other_attributes_are_missing_as_usual() -> None:
    """Only what is made on demand is."""
    share = Share(Reply({"y": ArrayColumn(ROWS)}, 1), 0, 1)

    with pytest.raises(AttributeError, match="nothing"):
        packed(ROWS).nothing  # noqa: B018
    with pytest.raises(AttributeError, match="nothing"):
        share.nothing  # noqa: B018
    assert share.columns is share.columns
