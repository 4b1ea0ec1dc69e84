"""Tests of batchproxy.core.pace: laws of how far behind one batch the next one leaves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.core.cost import Cost
from batchproxy.core.pace import EASE, PACE, Hurry, gap


def _cost(alpha: float, beta: float, rows: float) -> Cost:
    cost = Cost()
    cost.alpha, cost.beta, cost.known, cost.rows = alpha, beta, True, rows
    return cost


TIMES = st.floats(1e-5, 1.0)
BUSY = st.tuples(st.floats(1, 16), st.integers(0, 30))


@given(
    alpha=TIMES,
    beta=TIMES,
    mean=st.floats(1, 64),
    rows=st.integers(1, 64),
    busy=BUSY,
)
def test_nobody_is_held_for_longer_than_the_endpoint_takes(
    alpha: float, beta: float, mean: float, rows: int, busy: tuple[float, int]
) -> None:
    """To work one batch off, and a third more of its fixed part."""
    cost, (places, in_flight) = _cost(alpha, beta, mean), busy

    assert 0.0 <= gap(cost, rows, places, in_flight) <= cost.seconds(rows) / PACE / places + 1e-12


@pytest.mark.parametrize(("mean", "in_flight"), [(1.0, 9), (8.0, 0)])
def test_nobody_is_held_for_nothing(mean: float, in_flight: int) -> None:
    """Not for company that never comes, nor while the endpoint has places enough."""
    assert 0.0 == gap(_cost(0.1, 0.01, mean), 4, 4.0, in_flight)


def test_rows_that_share_nothing_are_hardly_held() -> None:
    """A place that stays empty would lose more than a larger batch saves."""
    shared, unshared = gap(_cost(0.1, 0.0, 8.0), 8, 4.0, 4), gap(_cost(0.002, 0.01225, 8.0), 8, 4.0, 4)

    assert shared > 10 * unshared


def test_short_holds_need_steady_arrivals() -> None:
    """An event loop's timer is no finer than the hold, so it is the next arrival that ends it."""
    assert 0.0 == gap(_cost(0.001, 0.0, 2.0), 2, 4.0, 4)
    assert 0.0 < gap(_cost(0.001, 0.0, 8.0), 2, 4.0, 4) < 0.0005


def test_ease() -> None:
    """No deadline presses."""
    assert Hurry() == EASE
