"""Arrivals keep to their rates, and a seed decides them."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.simulation.arrivals import Arrivals, bursty, diurnal, mixed, poisson, sized, steps
from batchproxy.simulation.draws import stream

Make = Callable[[float, float, Random], list[float]]

SHAPES: dict[str, Make] = {
    "poisson": poisson,
    "bursty": bursty,
    "diurnal": lambda rate, horizon_s, draw: diurnal(0.1 * rate, 1.9 * rate, 1.0, horizon_s, draw),
    "steps": lambda rate, horizon_s, draw: steps(((0.0, rate / 2), (horizon_s / 2, 1.5 * rate)), horizon_s, draw),
}


@pytest.mark.parametrize("name", SHAPES)
@given(seed=st.integers(0, 1000))
def test_times_ascend_within_the_horizon(name: str, seed: int) -> None:
    """From 0 up to the horizon, in order, and the same ones again from the same seed."""
    times = SHAPES[name](200.0, 2.0, stream(seed, "x"))

    assert sorted(times) == times
    assert all(0 <= time < 2.0 for time in times)
    assert times == SHAPES[name](200.0, 2.0, stream(seed, "x"))


@pytest.mark.parametrize("name", SHAPES)
def test_rate_is_the_mean(name: str) -> None:
    """Over 400 s, four standard errors of what each shape makes of a rate."""
    count = len(SHAPES[name](50.0, 400.0, stream(3, name)))

    assert 50 * 400 == pytest.approx(count, rel=0.2 if name == "bursty" else 0.03)


def test_poisson_gaps_are_exponential() -> None:
    """Mean and standard deviation of the gaps are equal."""
    gaps = [after - before for before, after in pairwise(poisson(100.0, 200.0, stream(1, "x")))]
    mean = sum(gaps) / len(gaps)
    deviation = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps))

    assert mean == pytest.approx(deviation, rel=0.05)


def test_bursts_are_nine_times_as_dense_as_lulls() -> None:
    """The densest tenth of a second has far more than a Poisson stream of that rate ever has."""
    counts: dict[int, int] = {}
    for time in bursty(100.0, 100.0, stream(1, "x")):
        counts[int(10 * time)] = counts.get(int(10 * time), 0) + 1

    assert 25 < max(counts.values()) < 60


def test_steps_change_the_rate() -> None:
    """Four times as many after a step to four times the rate."""
    times = steps(((0.0, 100.0), (50.0, 400.0)), 100.0, stream(1, "x"))
    early = sum(time < 50 for time in times)

    assert 4 * early == pytest.approx(len(times) - early, rel=0.1)


def test_sizes_are_drawn() -> None:
    """Each request gets one of the sizes, and each size comes."""
    arrivals = sized([0.1] * 100, (1, 5), stream(1, "x"))

    assert {1, 5} == set(arrivals.rows)
    assert 100 == len(arrivals.rows) == len(arrivals.times)


def test_mixing_keeps_order_and_kinds() -> None:
    """The kind is the part a request came in; rows stay with it, 1 where there are none."""
    found = mixed([Arrivals([0.1, 0.3], [7, 8]), Arrivals([0.2])])

    assert Arrivals([0.1, 0.2, 0.3], [7, 1, 8], [0, 1, 0]) == found
