"""Tests of batchproxy.core.compare."""

from __future__ import annotations

from decimal import Decimal
from math import inf, nan
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.core.columns import Array, ArrayColumn
from batchproxy.core.compare import FLOAT8, TOLERANCES, Comparable, arrays, values

FLOATS: dict[str, Any] = {
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "float32": np.float32,
    "float64": np.float64,
    "complex64": np.complex64,
    "complex128": np.complex128,
    "float8_e5m2": ml_dtypes.float8_e5m2,
    "float8_e4m3fn": ml_dtypes.float8_e4m3fn,
}


def f32(values: Any) -> Array:
    """A tensor of float32."""
    return np.array(values, np.float32)


@pytest.mark.parametrize("name", FLOATS)
def test_numbers_with_a_fraction_have_a_tolerance(name: str) -> None:
    """One unit in the last place is within it; what is three times as far as it reaches is not."""
    dtype = FLOATS[name]
    relative, _ = TOLERANCES.get(name, FLOAT8)
    one = np.array([16.0, 4.0]).astype(dtype)
    last = {"float8_e5m2": 4.0, "float8_e4m3fn": 2.0}.get(name, 16 * relative / 4)

    assert 0.0 == arrays(one, np.array([16 + last, 4]).astype(dtype))
    assert 0.0 < arrays(one, np.array([16 * (1 + 3 * relative), 4]).astype(dtype))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([1, 2], [1, 3]),
        ([True], [False]),
        (np.array([b"a"], object), np.array([b"b"], object)),
        (f32([1, 2]), f32([1])),
        (f32([1]), np.array([1.0])),
        (f32([1, nan]), f32([nan, 1])),
        (f32([inf]), f32([-inf])),
        (f32([inf]), f32([1e30])),
    ],
)
def test_what_no_rounding_explains(one: Any, other: Any) -> None:
    """Shape, dtype, what has no fraction, and where numbers are not finite."""
    assert inf == arrays(np.asarray(one), np.asarray(other))


def test_the_largest_number_is_the_measure() -> None:
    """A difference counts by what it is a part of: small numbers beside large ones are what is left of those."""
    assert 0.01 == pytest.approx(arrays(f32([1e-3, 100]), f32([1.001, 100])))


def test_near_zero_the_absolute_tolerance_holds() -> None:
    """R1: 2e-6 relative or 1e-6 absolute."""
    assert 0.0 == arrays(f32([0.0]), f32([9e-7]))
    assert 0.0 < arrays(f32([0.0]), f32([2e-6]))


@pytest.mark.parametrize(
    "array", [f32(3), np.zeros((2, 0)), np.array([nan, inf, -inf]), np.array([1e308, -1e308]), np.array(1j)]
)
def test_what_is_equal_is_equal(array: Any) -> None:
    """Of any rank, empty, not finite, or near the end of what there is."""
    assert 0.0 == arrays(np.asarray(array), np.array(array))


def test_what_is_far_apart_does_not_overflow() -> None:
    """Their difference is no number any more; it is large all the same."""
    assert arrays(np.array([1e308]), np.array([-1e308])) > 1


def test_order_does_not_matter() -> None:
    """Rows of a matrix that was turned, too."""
    one = np.arange(6, dtype=np.float32).reshape(2, 3)

    assert 0.0 == arrays(one.T, np.ascontiguousarray(one.T))
    assert arrays(one, one + 1) == arrays(one + 1, one)


def test_array_columns_are_comparable() -> None:
    """By their arrays."""
    column = ArrayColumn(f32([1, 2]))

    assert isinstance(column, Comparable)
    assert 0.0 == column.deviation(ArrayColumn(f32([1, 2.000001])))
    assert inf == column.deviation(ArrayColumn(f32([1])))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ({"a": [1.0, "x", None, True]}, {"a": [1.000001, "x", None, True]}, 0.0),
        (Decimal(1), 1.0, 0.0),
        (Decimal(1), Decimal(2), inf),
        ([0.5, 2.0], [1.5, 2.0], 0.5),
        (True, Decimal(1), inf),
        ("1", Decimal(1), inf),
        (None, 0.0, inf),
        ([1.0], [1.0, 2.0], inf),
        ({"a": 1.0}, {"b": 1.0}, inf),
        ({}, [], inf),
        ({}, {}, 0.0),
        ([], [], 0.0),
        (nan, nan, 0.0),
        (nan, 1.0, inf),
    ],
)
def test_values_of_json(one: Any, other: Any, expected: float) -> None:
    """Numbers with a fraction have a tolerance, all else must be equal."""
    assert expected == values(one, other)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=3) | st.integers().map(Decimal),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=20,
)


@given(JSON, JSON)
def test_values_are_like_themselves_and_order_does_not_matter(one: Any, other: Any) -> None:
    """Two laws that hold for whatever is compared."""
    assert 0.0 == values(one, one)
    assert values(one, other) == values(other, one)


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=8))
def test_texts_and_tensors_agree(numbers: list[float]) -> None:
    """float32 is judged alike, by gRPC and by REST."""
    one = np.array(numbers, np.float32)
    other = np.roll(one, 1)

    assert values(one.tolist(), other.tolist()) == arrays(one, other)
