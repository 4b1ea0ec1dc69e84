"""Tests of batchproxy.core.units: what is compared, when another unit is taken, and what is told of it."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.core.request import BatchKey, Entry, Request
from batchproxy.core.units import SAMPLES, SELDOM, Line, Unit, Units, Weight
from batchproxy.testing import StubWaiter

WEIGHTS = st.builds(Weight, st.integers(1, 64), st.floats(1, 1e6), st.floats(1, 1e6))


def _entry(rows: int, nbytes: int) -> Entry:
    return Entry(Request(BatchKey("m", 1, "s"), {}, rows, nbytes), StubWaiter(), 0.0)


def _taught(unit: Unit, batches: int = 400, *, seed: int = 1, units: Units | None = None) -> Units:
    """Units of a server that takes 1 ms and 0.1 ms for each hundred bytes, or rows, that it sees."""
    draw, units = Random(seed), units or Units()
    for _ in range(batches):
        lengths = [draw.lognormvariate(4.0, 0.8) for _ in range(draw.randint(1, 8))]
        weight = Weight(len(lengths), sum(lengths), len(lengths) * max(lengths))
        size = 75 * weight.rows if unit is Unit.ROWS else weight.in_unit(unit)
        units.learn(weight, (0.001 + 1e-6 * size) * draw.lognormvariate(0, 0.08))
    return units


def test_weight_of_a_batch() -> None:
    """Bytes of all, and rows times those of the longest; filler is as long as the others are."""
    entries = [_entry(1, 10), _entry(2, 60), _entry(1, 10)]

    assert Weight(4, 80.0, 120.0) == Weight.of(entries, 4)
    assert Weight(8, 160.0, 240.0) == Weight.of(entries, 8)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("unit", Unit)
def test_the_unit_is_found_and_kept(unit: Unit, seed: int) -> None:
    """And found again when the server becomes another one."""
    units = _taught(unit, seed=seed)

    assert unit is units.unit
    for other in Unit:
        assert other is _taught(other, seed=seed, units=units).unit


def test_nothing_is_decided_at_once() -> None:
    """A few batches show noise."""
    assert Unit.ROWS is _taught(Unit.BYTES, SAMPLES - 1).unit


@given(weight=WEIGHTS)
def test_rows_are_rows_until_something_is_known(weight: Weight) -> None:
    """With the filler."""
    assert weight.rows == Units().rows(weight)


def test_rows_of_mean_length() -> None:
    """A batch of usual rows has as many as it has rows; one twice as long has twice as many."""
    units = _taught(Unit.BYTES)
    usual = units.rows(Weight(10, 10 * units.scale, 0.0))

    assert usual == pytest.approx(10)
    assert units.rows(Weight(10, 20 * units.scale, 0.0)) == pytest.approx(20)


def test_rows_of_one_length_are_seldom_weighed() -> None:
    """Only where they had the endpoint to themselves, and then one in so many."""
    units = Units()
    wanted = 0
    for _ in range(SAMPLES + 4 * SELDOM):
        if units.wanted(alone=True):
            wanted += 1
            units.learn(Weight(4, 400, 400), 0.01)

    assert SAMPLES <= wanted <= SAMPLES + 6
    assert not units.wanted(alone=False)
    assert _taught(Unit.BYTES).wanted(alone=False)


def test_rows_that_differ_are_all_weighed() -> None:
    """Where they had the endpoint to themselves."""
    units = _taught(Unit.ROWS)

    assert all(units.wanted(alone=True) for _ in range(3 * SELDOM))


@given(
    samples=st.lists(st.tuples(st.floats(0.1, 1e6), st.floats(1e-6, 100)), min_size=1, max_size=30),
    at=st.floats(0.1, 1e6),
)
def test_a_line_predicts_more_than_nothing(samples: list[tuple[float, float]], at: float) -> None:
    """Whatever it was told, and no less for more."""
    line = Line()
    for place, (size, seconds) in enumerate(samples):
        line.learn(size, seconds, place + 1)

    assert line.seconds(at) > 0.0
    assert line.seconds(2 * at) >= line.seconds(at)
    assert line.variance >= 0.0


def test_a_restart_keeps_the_unit() -> None:
    """And how long a row is."""
    units, again = _taught(Unit.PADDED), Units()
    again.restore(units.state())

    assert (units.unit, units.scale) == (again.unit, again.scale)


@pytest.mark.parametrize(
    "state", [None, {}, {"unit": "rows"}, {"unit": "stones", "scale": 1.0}, {"unit": "rows", "scale": 0}]
)
def test_what_is_no_state_changes_nothing(state: object) -> None:
    """A file that somebody edited."""
    units = Units()
    before = units.state()

    with pytest.raises(ValueError, match="scale is no|unit is none"):
        units.restore(state)
    assert before == units.state()
