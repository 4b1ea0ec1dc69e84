"""The law of the splice (R1): a slice of a merged answer is, byte for byte, the answer to that slice alone.

Answers are written by ``tfs_json``, which writes what TF Serving does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from batchproxy.codecs import tfs_json
from batchproxy.codecs.tfs_splice import JsonAnswer, read_answer, splice
from batchproxy.core.columns import Array

STRINGS = st.one_of(
    st.sampled_from(
        [b"", b"NaN", b"-Infinity", b"],[", b"\n    ]", b'"', b'\\"', b"\\", b"{", b", ", b"\xff\xfe", b"\0"]
    ),
    st.binary(max_size=6),
)
DTYPES = st.sampled_from([np.dtype(name) for name in ("float32", "float64", "int64", "bool", "object")])
NAMES = st.lists(
    st.sampled_from(["a", "b", "out_bytes", "NaN", "Infinity,", "[", "é"]), min_size=1, max_size=3, unique=True
)


def contents(dtype: np.dtype[np.generic]) -> st.SearchStrategy[object]:
    """Elements, odd numbers among them."""
    if dtype.hasobject:
        return STRINGS
    return hnp.from_dtype(dtype, allow_nan=True, allow_infinity=True)


@st.composite
def outputs(draw: st.DrawFn) -> dict[str, Array]:
    """One to three outputs of as many rows."""
    rows = draw(st.integers(1, 6))
    arrays = {}
    for name in draw(NAMES):
        dtype = np.dtype(object) if name.endswith("_bytes") else draw(DTYPES)
        shape = (rows, *draw(hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3)))
        arrays[name] = draw(hnp.arrays(dtype, shape, elements=contents(dtype)))
    return arrays


@st.composite
def cuts(draw: st.DrawFn) -> tuple[dict[str, Array], list[int], bool]:
    """Outputs, where they are cut, and whether in row form."""
    arrays = draw(outputs())
    rows = len(next(iter(arrays.values())))
    inner = draw(st.sets(st.integers(1, rows)))
    return arrays, sorted({0, *inner, rows}), draw(st.booleans())


def writer(row_form: bool) -> Callable[[Mapping[str, Array]], bytes]:
    """What writes an answer."""
    return tfs_json.predictions if row_form else tfs_json.outputs


def parts_of(arrays: Mapping[str, Array], places: list[int]) -> list[dict[str, Array]]:
    """The outputs of each piece."""
    return [{name: array[start:stop] for name, array in arrays.items()} for start, stop in pairwise(places)]


@given(cuts())
def test_a_slice_is_the_answer_to_the_slice(drawn: tuple[dict[str, Array], list[int], bool]) -> None:
    """In row and in column form, with all that numbers and strings can hold."""
    arrays, places, row_form = drawn
    write = writer(row_form)
    columns = read_answer(write(arrays), row_form)
    slices = [
        splice({name: column.take(start, stop) for name, column in columns.items()}) for start, stop in pairwise(places)
    ]

    assert {places[-1]} == {column.rows for column in columns.values()}
    assert [write(part) for part in parts_of(arrays, places)] == slices
    assert write(arrays) == splice(columns)


@given(cuts())
def test_pieces_join_again(drawn: tuple[dict[str, Array], list[int], bool]) -> None:
    """Slices of one answer, or answers to the slices, joined, are the answer to all."""
    arrays, places, row_form = drawn
    write = writer(row_form)
    whole = read_answer(write(arrays), row_form)
    slices = [{name: column.take(start, stop) for name, column in whole.items()} for start, stop in pairwise(places)]
    answers = [read_answer(write(part), row_form) for part in parts_of(arrays, places)]

    assert write(arrays) == splice(joined(slices))
    assert write(arrays) == splice(joined(answers))


def joined(pieces: list[dict[str, JsonAnswer]]) -> dict[str, JsonAnswer]:
    """All pieces in one, column by column."""
    first, *others = pieces
    return {name: column.concat([piece[name] for piece in others]) for name, column in first.items()}
