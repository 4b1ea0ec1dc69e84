"""Tests of batchproxy.core.window."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.core.cost import Cost
from batchproxy.core.window import GUARD, NEAR, Window

BATCHES = st.lists(
    st.tuples(st.integers(0, 1), st.integers(1, 64), st.floats(1e-6, 10.0), st.integers(1, 8)), min_size=1, max_size=30
)


def _costs() -> list[Cost]:
    """Of two kinds: 10 ms + 1 ms a row, and 1 ms + 0.1 ms a row."""
    costs = [Cost(), Cost()]
    for turn in range(16):
        for rows in (1, 64):
            costs[0].learn(rows, 0.010 + 0.001 * rows, turn)
            costs[1].learn(rows, 0.001 + 0.0001 * rows, turn)
    return costs


@given(BATCHES)
def test_sums(batches: list[tuple[int, int, float, int]]) -> None:
    """N is time by fair share, S is work by fair share; both over all kinds."""
    costs, window = _costs(), Window()
    for kind, rows, share, crowd in batches:
        window.add(costs[kind], rows, 64, share, share * crowd)
    shares = [share for _, _, share, _ in batches]
    seconds = [share * crowd for _, _, share, crowd in batches]
    work = [costs[kind].seconds(rows) for kind, rows, _, _ in batches]

    assert (len(batches), sum(rows for _, rows, _, _ in batches)) == (window.count, window.rows)
    assert 64 * len(batches) == window.room
    assert math.fsum(seconds) / math.fsum(shares) == pytest.approx(window.crowd)
    assert 1.0 - 1e-9 <= window.crowd <= 8.0 + 1e-9
    assert math.fsum(work) / math.fsum(shares) == pytest.approx(window.speed)
    assert window.rows / len(batches) == window.mean_rows


@given(st.lists(st.integers(1, 64), min_size=1, max_size=30))
def test_typical_is_near_the_mean_and_was_sent_if_any_was(sizes: list[int]) -> None:
    """An endpoint that compiles has met it then."""
    window = Window()
    for rows in sizes:
        window.add(_costs()[0], rows, 64, 1.0, 1.0)
    near = {rows for rows in sizes if NEAR * window.mean_rows <= rows <= window.mean_rows / NEAR}

    assert window.typical in (near or {max(1, round(window.mean_rows))})


@given(st.integers(1, 9), st.integers(1, 9))
def test_main_is_the_kind_of_most_batches(first: int, second: int) -> None:
    """However large or slow they were."""
    costs, window = _costs(), Window()
    for kind, count in enumerate((first, second)):
        for _ in range(count):
            window.add(costs[kind], 64 if kind else 1, 64, 1.0, 1.0)

    assert costs[int(second > first)] is window.main


def test_speed_is_by_the_costs_as_they_are_known_now() -> None:
    """A window that is judged again after a cost was corrected tells another speed."""
    costs, window = _costs(), Window()
    window.add(costs[0], 8, 64, 0.018, 0.018)
    before = window.speed
    costs[0].scale(2.0)

    assert 2.0 * before == pytest.approx(window.speed)


@given(st.floats(0.5, 2.0))
def test_costs_are_corrected_together(factor: float) -> None:
    """Those of its kinds, and no other's."""
    costs, other, window = _costs(), _costs()[0], Window()
    for cost in costs:
        window.add(cost, 8, 64, 0.01, 0.01)
    before = [cost.seconds(8) for cost in (*costs, other)]
    window.rescale(factor)

    assert [factor * before[0], factor * before[1], before[2]] == pytest.approx(
        [cost.seconds(8) for cost in (*costs, other)]
    )


@given(st.floats(1.05, 2.0))
def test_costs_are_bent_together(factor: float) -> None:
    """A little."""
    costs, window = _costs(), Window()
    for cost in costs:
        window.add(cost, 8, 64, 0.01, 0.01)
    before = [cost.seconds(8) for cost in costs]
    window.bend(factor)

    assert all(old < cost.seconds(8) <= factor * old for old, cost in zip(before, costs, strict=True))


def test_shapes_are_told_by_size() -> None:
    """Sizes that nobody has timed alone: their times, but for what others took of them."""
    cost, window = Cost(), Window()
    for turn in range(16):
        cost.learn(1, 0.011, turn)
    for _ in range(16):
        window.add(cost, 40, 64, 0.05, 0.1)
        window.add(cost, 1, 64, 0.011, 0.022)
    for _ in range(8):
        window.teach_shapes(0.5)

    assert [0.011, 0.05] == pytest.approx([cost.seconds(1), cost.seconds(40)], rel=0.05)


def test_padding_costs_but_is_no_part_of_the_rows() -> None:
    """By which it is told whether batches were full."""
    cost, window = Cost(), Window()
    for turn in range(16):
        for rows in (1, 64):
            cost.learn(rows, 0.001 * rows, turn)
    window.add(cost, 40, 64, 0.064, 0.064, 24)

    assert (40, 64, 64) == (window.rows, window.room, window.mean_rows)
    assert 1.0 == pytest.approx(window.speed, rel=0.05)


@pytest.mark.parametrize(("slower", "learned"), [(1.0, True), (1.2, True), (2.0, False)])
def test_sizes_are_introduced_by_those_beside_them(slower: float, learned: bool) -> None:
    """Where those that are known took no longer than alone, a new size did not either; else it cannot be told."""
    cost, window = Cost(), Window()
    for turn in range(16):
        cost.learn(1, 0.005, turn)
    for rows in (1, 1, 20, 20):
        window.add(cost, rows, 64, 0.04, slower * (0.001 + 0.004 * rows))
    window.introduce(16)

    assert learned is (cost.seconds(20) == pytest.approx(0.081, rel=0.1))
    assert 0.005 == pytest.approx(cost.seconds(1), rel=0.05)
    assert learned is cost.covers(20, 16)


def test_introduced_sizes_change_no_known_ones() -> None:
    """Nor is anything said by sizes of which none is known, or one batch."""
    cost, known, window, few = Cost(), _costs()[0], Window(), Window()
    cost.shape(4, 0.1, 1.0)
    before = known.seconds(1), known.seconds(64)
    for rows in (1, 1, 64, 64):
        window.add(cost, rows, 64, 0.1, 0.1)
        window.add(known, rows, 64, 0.1, 0.01)
    for rows in (1, 20, 20):
        few.add(known, rows, 64, 0.1, 0.001)
    window.introduce(1)
    few.introduce(1)

    assert before == (known.seconds(1), known.seconds(64))
    assert 0.1 == pytest.approx(cost.seconds(4))


@given(st.integers(1, 30), st.integers(1, 30), st.booleans())
def test_a_window_is_complete_when_it_has_a_batch_for_each_place(count: int, places: int, first: bool) -> None:
    """And as many as make a mean: fewer of them at the very start."""
    window, cost = Window(), _costs()[0]
    for _ in range(count):
        window.add(cost, 1, 64, 0.01, 0.01)

    assert (count >= places and count >= (4 if first else 8)) is window.complete(places, first=first)


@given(BATCHES, st.floats(0.02, 0.5))
def test_luck_is_that_of_the_window_alone(batches: list[tuple[int, int, float, int]], noise: float) -> None:
    """Never more than the guard's, which fewer lone batches widen; within its bounds."""
    costs, window = _costs(), Window()
    for kind, rows, share, crowd in batches:
        window.add(costs[kind], rows, 64, share, share * crowd)
    for cost in costs:
        cost.noise = noise
    luck = window.luck
    window.main.samples = 1

    assert luck == window.luck
    assert GUARD[0] <= luck <= window.guard <= GUARD[1]
