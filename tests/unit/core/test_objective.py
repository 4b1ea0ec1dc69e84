"""Tests of batchproxy.core.objective: how much time batches may take, and whose patience counts."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.core.cost import Cost
from batchproxy.core.objective import HALF, KEPT, MOST, Objective, rows_within

TIMES = st.floats(1e-4, 1.0)


def _cost(alpha: float, beta: float) -> Cost:
    cost = Cost()
    cost.alpha, cost.beta, cost.known = alpha, beta, True
    return cost


@given(alpha=TIMES, beta=TIMES, slo_s=TIMES, cap=st.integers(1, 1024))
def test_batches_are_answered_in_time(alpha: float, beta: float, slo_s: float, cap: int) -> None:
    """Within half of the objective, or within nine tenths where more is worked off; one row is always allowed."""
    cost = _cost(alpha, beta)
    rows = Objective(slo_s).rows(cost, cap)
    if rows == inf:
        assert cost.seconds(1) * cost.p95 > MOST * slo_s
        return

    assert 1.0 <= rows <= cap
    assert rows == 1.0 or cost.seconds(rows) * cost.p95 <= MOST * slo_s + 1e-9
    if rows > 1.0 and cost.seconds(rows) * cost.p95 > HALF * slo_s + 1e-9:
        half = max(1.0, rows_within(cost, HALF * slo_s))
        assert half / cost.seconds(half) < KEPT * rows / cost.seconds(rows) + 1e-9


def test_rows_that_share_nothing_keep_to_half() -> None:
    """A larger batch would work off no more."""
    cost = _cost(0.001, 0.004)

    assert Objective(0.1).rows(cost, 64) == pytest.approx((0.05 / cost.p95 - 0.001) / 0.004)


def test_nothing_is_bounded_where_nothing_is_known() -> None:
    """Neither an objective nor what a batch costs."""
    assert inf == Objective().rows(_cost(0.001, 0.004), 64)
    assert inf == Objective(0.1).rows(Cost(), 64)


def test_rows_that_cost_nothing() -> None:
    """As many as there may be, or none."""
    assert inf == rows_within(_cost(0.01, 0.0), 0.1)
    assert 0.0 == rows_within(_cost(0.01, 0.0), 0.005)
    assert 64 == Objective(0.1).rows(_cost(0.01, 0.0), 64)


def test_patience_is_that_of_nearly_all() -> None:
    """Who waits less soon counts; who waits longer counts once many do, and who waits for ever as one who does."""
    objective = Objective(2.0)
    objective.seen(inf)
    assert 2.0 == objective.seconds

    for _ in range(20):
        objective.seen(10.0)
    assert 2.0 == objective.seconds
    for _ in range(40):
        objective.seen(0.1)
    assert objective.seconds == pytest.approx(0.1, rel=0.2)
    objective.seen(inf)
    assert objective.seconds < 0.12
    for _ in range(2000):
        objective.seen(inf)
    assert 2.0 == objective.seconds


@given(st.lists(st.floats(1e-3, 1e4) | st.just(inf), max_size=60))
def test_patience_is_within_what_was_seen(seen: list[float]) -> None:
    """No less than the least of it."""
    objective = Objective()
    for patience in seen:
        objective.seen(patience)

    assert objective.seconds >= min(seen, default=inf) * (1 - 1e-9)
