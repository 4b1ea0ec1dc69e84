"""Long arrays of numbers against the exact way: where they are taken, they are the same to the last bit."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from batchproxy.codecs import tfs_numbers
from batchproxy.codecs.tfs_exact import exact_columns
from batchproxy.codecs.tfs_numbers import Numbers
from batchproxy.codecs.tfs_parse import parse
from batchproxy.core.columns import Array
from batchproxy.core.errors import DecodeError
from batchproxy.core.shapes import UNDECLARED, Signature, TensorSpec

DTYPES = ("float32", "float64", "int32", "uint8", "int64", "uint64", "bool", "string", None)


def both(text: str, dtype: str | None) -> tuple[Any, Any]:
    """What the two ways make of an array, comparable; an error, and None where the quick way is not sure."""
    numbers = Numbers.of(text.encode())
    taken = None if numbers is None else numbers.array(dtype)
    signature = UNDECLARED if dtype is None else Signature({"x": TensorSpec(dtype)})
    try:
        doc = parse(f'{{"inputs": {text}}}'.encode())
        exact: Any = comparable(exact_columns(doc, signature, "")[0]["x"])
    except DecodeError as error:
        exact = error
    return None if taken is None else comparable(taken), exact


def comparable(array: Array) -> Any:
    """Dtype, shape and values to the last bit."""
    return array.dtype.str, array.shape, array.tolist() if array.dtype.hasobject else array.tobytes()


MIDDLES = st.floats(width=32, min_value=0, max_value=2.0**90).map(
    lambda low: (low + float(np.nextafter(np.float32(low), np.float32(np.inf)))) / 2
)
"""Doubles half-way between two float32: the exact way may take the other one than the correct way."""

NEAR_MIDDLES = st.builds(lambda middle, steps: middle + steps * math.ulp(middle), MIDDLES, st.integers(-3, 3))
NUMBER = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(["1e-40", "-1e-45", "1e-310", "-5e-324", "1.17549435e-38", f"0.{'0' * 39}1"]),
    st.floats(0, 1).map(repr),
    NEAR_MIDDLES.map(repr),
    st.integers(0, 255).map(lambda pixel: repr(pixel / 255)),
    st.decimals(allow_nan=False, allow_infinity=False, places=20, min_value=-1000, max_value=1000).map(str),
    st.builds(lambda whole, part: f"{whole}.{part}", st.integers(-(10**12), 10**12), st.integers(0, 10**12)),
    st.builds(lambda m, e: f"{m}e{e}", st.integers(-(10**25), 10**25), st.integers(-340, 320)),
    st.builds(
        lambda digits, point: f"{digits[:point]}.{digits[point:]}",
        st.from_regex("[1-9][0-9]{15,18}", fullmatch=True),
        st.integers(1, 14),
    ),
    st.integers(-(2**70), 2**70).map(str),
    st.integers(-300, 300).map(str),
    st.sampled_from(
        ["-0.0", "-0", "0.0", "9007199254740993.0", "90071992547409919.0", "9.0071992547409921", "1e400", "01"]
    ),
)


@settings(max_examples=600)
@given(st.lists(NUMBER, min_size=1, max_size=12), st.sampled_from(DTYPES))
@example(["0.99999997019767761"], "float32")
@example(["0.94178901234567891", "-94178.901234567891"], "float64")
@example(["1"] * 20 + ["2.5"], None)
def test_a_list_is_what_the_exact_way_makes_of_it(numbers: list[str], dtype: str | None) -> None:
    """For any numbers, and any model."""
    quick, exact = both(f"[{', '.join(numbers)}]", dtype)

    assert quick is None or quick == exact


BRACKETS = st.recursive(
    st.sampled_from(["1", "2.5", "-3e1", "", " ", "4 5"]),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{','.join(items)}]") | st.tuples(inner, inner).map("".join)
    ),
    max_leaves=12,
)


@settings(max_examples=600)
@given(BRACKETS | st.text("[],1 .", max_size=14))
@example("[[1,]2,[3,4]]")
@example("[[1,2],3[,4]]")
@example("[[1,2],[3,4]]]")
@example("[[],[]]")
@example("[[1][2]]")
def test_brackets_are_where_they_belong(text: str) -> None:
    """A text that is no array is none here, either."""
    quick, exact = both(text, "float32")

    assert quick is None or quick == exact


@pytest.mark.parametrize("shape", [(1,), (7,), (1, 5), (4, 3), (2, 3, 4), (1, 2, 2, 3), (2, 1, 1, 1, 2)])
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
@pytest.mark.parametrize("whole", [True, False])
def test_any_shape_is_taken(shape: tuple[int, ...], separators: tuple[str, str], whole: bool) -> None:
    """Written as orjson or as the standard library does."""
    draws = np.random.default_rng(3)
    array = draws.integers(0, 255, shape) if whole else draws.random(shape)
    quick, exact = both(json.dumps(array.tolist(), separators=separators), "float32")

    assert exact == quick
    assert shape == quick[1]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_many_numbers_are_read_in_pieces(dtype: str) -> None:
    """None is lost between two."""
    draws = np.random.default_rng(4)
    values = np.concatenate([draws.random(4000), draws.normal(size=4000), draws.integers(0, 256, 2000) / 255])
    quick, exact = both(json.dumps(values.tolist()), dtype)

    assert exact == quick


@given(st.lists(st.sampled_from(["0", "12", "3" * 19, ".", ",", "[", "]", "e", "-"]), max_size=40), st.integers(1, 30))
def test_a_text_is_looked_at_in_pieces(parts: list[str], piece: int) -> None:
    """Brackets and commas in order, and digits in a row, wherever it is cut."""
    text = "".join(parts)
    runs = [found.span() for found in re.finditer("[0-9]{21,}", text)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tfs_numbers, "_PIECE", piece)
        held = text.encode() or b","
        bones, places = tfs_numbers._bones(held), tfs_numbers._places(held, ord(",")).tolist()
        found = tfs_numbers._long_runs(held).tolist()

    assert "".join(byte for byte in held.decode() if byte in "[],").encode() == bones
    assert [at for at, byte in enumerate(held) if byte == ord(",")] == places
    assert [at for start, stop in runs for at in range(start, stop - 20)] == sorted(set(found))


@pytest.mark.parametrize("digits", [15, 17, 19, 20, 21, 22, 40])
def test_digits_in_a_row(digits: int) -> None:
    """From 21 on each number is read by itself: TF Serving may round it otherwise."""
    rows = [[f"0.{'4' * digits}", f"-1.{'7' * digits}"], [f"{'9' * min(digits, 300)}.5", "2.5"]]
    text = "[" + ",".join("[" + ", ".join(row) + "]" for row in rows) + "]"
    quick, exact = both(text, "float32")

    assert exact == quick


@pytest.mark.parametrize(
    ("text", "dtype"),
    [
        ("", "float32"),
        ("[]", "float32"),
        ('["1"]', "float32"),
        ("[true]", "float32"),
        ("[1,,2]", "float32"),
        ("[[1,2],[3]]", "float32"),
        ("[36893488147419103232]", "float32"),
        ("[" * 65 + "1" + "]" * 65, "float32"),
        ("[9223372036854775808]", "uint64"),
        ("[256000000000]", "int32"),
        ("[1.5]", "int32"),
        ("[1]", "bool"),
        ("[1.5]", "string"),
        ("[0.5, 0e309]", "float32"),
    ],
)
def test_what_is_not_sure_is_not_taken(text: str, dtype: str) -> None:
    """Whatever the reason."""
    numbers = Numbers.of(text.encode())

    assert numbers is None or numbers.array(dtype) is None


@pytest.mark.parametrize("text", ["[[1,2] , [3,4]]", "[ [1, 2],\n [3, 4]\n]", "[\t[1,2],[3,4] ]"])
def test_white_space_does_not_matter(text: str) -> None:
    """As pretty printers leave it."""
    quick, exact = both(text, "float32")

    assert quick == exact


def test_what_was_read_before_does_not_change() -> None:
    """The reader's memory is used again, its numbers are not."""
    first = Numbers.of(b"[1.5,2.5]")
    assert first is not None
    before = first.array("float64")
    assert Numbers.of(b"[3.5,4.5]") is not None

    assert [1.5, 2.5] == np.asarray(before).tolist() == np.asarray(first.array("float64")).tolist()
