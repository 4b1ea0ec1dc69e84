"""Tests of batchproxy.core.parts."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.core.columns import ArrayColumn, Columns, Layout, PackedColumn
from batchproxy.core.parts import Part, parts, together


def a_whole(rows: int, first: int) -> Columns:
    """Rows that are all different, read as one."""
    array = np.arange(first, first + 2 * rows, dtype=np.float32).reshape(rows, 2)
    x: ArrayColumn = PackedColumn(array.tobytes(), Layout.of(array))
    return {"x": x, "y": ArrayColumn(array[:, :1])}


def rows_of(columns: Columns) -> list[tuple[str, list[object]]]:
    """As plain values."""
    return [(name, column.array.tolist()) for name, column in columns.items()]  # type: ignore[attr-defined]


def test_each_has_its_own_rows() -> None:
    """Under the names of all."""
    first, second = parts(a_whole(4, 0), 4, 2)

    assert [("x", [[0, 1], [2, 3]]), ("y", [[0], [2]])] == rows_of(first)
    assert [("x", [[4, 5], [6, 7]]), ("y", [[4], [6]])] == rows_of(second)
    assert (2, ["x", "y"], True) == (len(first), list(first), "x" in first)


def test_neighbours_are_the_whole_again() -> None:
    """Nothing of it is copied."""
    whole = a_whole(3, 0)
    (found,) = together(parts(whole, 3, 1))

    assert found["x"].data is whole["x"].data  # type: ignore[attr-defined]
    assert rows_of(whole) == rows_of(found)


def test_others_are_left_as_they_are() -> None:
    """Where the first one is no part, nobody looks for any."""
    columns = [a_whole(1, 0), *parts(a_whole(2, 10), 2, 1)]

    assert together(columns) is columns


@given(
    st.lists(
        st.tuples(st.integers(1, 4), st.integers(1, 2), st.booleans(), st.sets(st.integers(0, 7))),
        min_size=1,
        max_size=4,
    ),
    st.randoms(),
    st.booleans(),
)
def test_the_rows_and_their_order_stay(
    wholes: list[tuple[int, int, bool, set[int]]], random: object, shuffled: bool
) -> None:
    """Whoever left, in whatever order the others stand, and whatever is between them."""
    pieces: list[Columns] = []
    for number, (count, each, plain, gone) in enumerate(wholes):
        whole = a_whole(count * each, 100 * number)
        cut = [whole] if plain else parts(whole, count * each, each)
        pieces += [piece for place, piece in enumerate(cut) if place not in gone]
    if shuffled:
        random.shuffle(pieces)  # type: ignore[attr-defined]
    if not pieces:
        return
    found = together(pieces)
    first, *others = found

    for name in ("x", "y"):
        joined = first[name].concat([other[name] for other in others])
        due = [row for piece in pieces for row in dict(rows_of(piece))[name]]
        assert due == joined.array.tolist()  # type: ignore[attr-defined]
    apart = [
        not (type(one) is Part and type(after) is Part and one.whole is after.whole and one.stop == after.start)
        for one, after in pairwise(pieces)
    ]
    assert len(found) == (1 + sum(apart) if type(pieces[0]) is Part else len(pieces))
