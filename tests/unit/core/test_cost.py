"""Tests of batchproxy.core.cost: laws that hold whatever its constants are."""

from __future__ import annotations

import json
import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.core.cost import HEAVIEST, LONGEST, SHORTEST, Cost

SIZES = [1, 2, 4, 8, 16, 32, 64]
ROWS = st.integers(1, 4096)
SECONDS = st.floats(1e-9, 1e3)
SAMPLES = st.lists(st.tuples(ROWS, SECONDS), min_size=1, max_size=30)


def _taught(samples: list[tuple[int, float]]) -> Cost:
    cost = Cost()
    for turn, (rows, seconds) in enumerate(samples):
        cost.learn(rows, seconds, turn)
    return cost


def _on_a_line(alpha: float, beta: float, sizes: list[int], rounds: int = 8) -> Cost:
    return _taught([(rows, alpha + beta * rows) for _ in range(rounds) for rows in sizes])


def test_knows_nothing_at_first() -> None:
    """Then every prediction is 0, and nothing is claimed of merging."""
    cost = Cost()

    assert (False, 0, 0, 0.0) == (cost.known, cost.samples, cost.batches, cost.seconds(8))
    assert (1.0, 0.0, 1.0) == (cost.gain(8), cost.unshared, cost.pace)
    assert not cost.covers(1, 0)
    assert "Cost(0.000 ms + 0.0000 ms a row, noise=10%)" == repr(cost)


# -- the line ----------------------------------------------------------------------------------------


@given(st.floats(1e-6, 10.0), st.floats(0.0, 1.0), st.integers(1, 7))
def test_learns_a_line_from_exact_samples(whole: float, part: float, sizes: int) -> None:
    """Whatever part of a lone row's time merging saves: predictions within 3 % at every size that was seen."""
    alpha, beta = whole * part, whole * (1.0 - part)
    seen = SIZES if sizes > 1 else [sizes]
    cost = _on_a_line(alpha, beta, seen)

    for rows in seen:
        assert alpha + beta * rows == pytest.approx(cost.seconds(rows), rel=0.03)


@given(SAMPLES, st.data())
def test_line_never_falls(samples: list[tuple[int, float]], data: st.DataObject) -> None:
    """More rows never take less, none takes less than nothing, and no number is infinite, whatever was seen."""
    cost = Cost()
    for turn, (rows, seconds) in enumerate(samples):
        match data.draw(st.sampled_from(["learn", "shape", "bend", "scale"])):
            case "shape":
                cost.shape(rows, seconds, data.draw(st.floats(0.25, 4.0)))
            case "bend" if cost.known:
                cost.bend(data.draw(st.floats(0.1, 10.0)))
            case "scale" if cost.known:
                cost.scale(data.draw(st.floats(0.1, 10.0)))
            case _:
                cost.learn(rows, seconds, turn)

        assert cost.known
        assert 0.0 <= cost.alpha < math.inf
        assert 0.0 <= cost.beta < math.inf
        assert 0.0 < cost.seconds(1) <= cost.seconds(2) <= cost.seconds(4096)
        assert 0.0 <= cost.unshared <= 1.0
        assert 0.0 <= cost.noise <= 1.0


def test_line_that_would_begin_below_nothing_begins_at_nothing() -> None:
    """Times that grow faster than the rows."""
    cost = _taught([(1, 0.001), (64, 1.0)] * 8)

    assert 0.0 == cost.alpha
    assert cost.beta > 0.0


@given(st.floats(0.3, 3.0))
def test_follows_a_drift(factor: float) -> None:
    """Within some dozens of batches of each size, at each size."""
    cost = _on_a_line(0.010, 0.001, SIZES)
    for turn in range(100 * len(SIZES)):
        rows = SIZES[turn % len(SIZES)]
        cost.learn(rows, factor * (0.010 + 0.001 * rows), turn)

    for rows in SIZES:
        assert factor * (0.010 + 0.001 * rows) == pytest.approx(cost.seconds(rows), rel=0.05)


@given(st.floats(1.2, 3.0))
def test_slowness_of_one_size_is_that_of_the_others(factor: float) -> None:
    """Sizes that are not seen meanwhile follow the one that is, at least in part."""
    cost = _on_a_line(0.010, 0.001, SIZES)
    before = cost.seconds(32)
    for turn in range(40):
        cost.learn(1, factor * 0.011, turn)

    assert before < cost.seconds(32)


@pytest.mark.parametrize("seed", range(3))
def test_noise_makes_rare_sizes_no_cheaper(seed: int) -> None:
    """However many batches of another size come in between: noise of 25 %, whose logarithm has a mean below 0."""
    cost, draw = _on_a_line(0.001, 0.004, [1, 32]), Random(seed)
    for turn in range(3000):
        cost.learn(1, 0.005 * draw.lognormvariate(-(0.25**2) / 2, 0.25), turn)

    assert 0.129 == pytest.approx(cost.seconds(32), rel=0.25)


def test_what_is_old_weighs_no_more_than_what_is_new() -> None:
    """After a fade, one batch brings the time half the way to its own."""
    cost = Cost()
    for turn in range(50):
        cost.learn(1, 0.1, turn)
    before = cost.seconds(1)
    cost.fade()

    assert before == pytest.approx(cost.seconds(1))
    cost.learn(1, 0.05, 50)
    assert 0.05 < cost.seconds(1) <= 0.0751


def test_a_size_that_is_far_off_holds_the_line() -> None:
    """Lone rows alone would say nothing of large batches, however many come."""
    cost = _on_a_line(0.010, 0.001, [1, 64])
    for turn in range(1000):
        cost.learn(1, 0.011, turn)

    assert 0.074 == pytest.approx(cost.seconds(64), rel=0.03)


def test_shapes_are_evidence_too() -> None:
    """Of sizes that never had the endpoint to themselves; they count as no lone batch."""
    cost = _on_a_line(0.010, 0.001, [1])
    for _ in range(16):
        cost.shape(40.5, 0.0505, 4.0)

    assert 0.0505 == pytest.approx(cost.seconds(40.5), rel=0.03)
    assert 8 == cost.samples
    assert not cost.covers(40, 0)


# -- slower than was thought -------------------------------------------------------------------------


@given(SAMPLES, st.floats(0.1, 10.0))
def test_scale_multiplies_every_prediction(samples: list[tuple[int, float]], factor: float) -> None:
    """At sizes that were seen or not."""
    cost = _taught(samples)
    before = [cost.seconds(rows) for rows in SIZES]
    cost.scale(factor)

    assert [factor * seconds for seconds in before] == pytest.approx([cost.seconds(rows) for rows in SIZES])


@given(SAMPLES, st.lists(st.floats(0.01, 100.0), min_size=1, max_size=50))
def test_a_bend_has_its_bounds(samples: list[tuple[int, float]], factors: list[float]) -> None:
    """However often and however far: never by more than a fifth, and never by more than the noise is worth."""
    cost = _taught(samples)
    before = cost.seconds(8)
    room = max(0.05, min(0.2, 0.75 * cost.noise))
    for factor in factors:
        cost.bend(factor)

        assert abs(math.log(cost.seconds(8) / before)) <= room + 1e-9


@given(SAMPLES, st.lists(st.floats(0.01, 100.0), max_size=50), ROWS, SECONDS)
def test_a_bend_is_undone_by_the_next_lone_batch(
    samples: list[tuple[int, float]], factors: list[float], rows: int, seconds: float
) -> None:
    """Better evidence makes forget what the weaker said."""
    bent, straight = _taught(samples), _taught(samples)
    for factor in factors:
        bent.bend(factor)
    for cost in (bent, straight):
        cost.learn(rows, seconds, 99)

    assert [straight.seconds(rows) for rows in SIZES] == pytest.approx([bent.seconds(rows) for rows in SIZES])


def test_a_bend_goes_the_way_it_is_told() -> None:
    """A little of it."""
    cost = _on_a_line(0.010, 0.001, SIZES)
    before = cost.seconds(8)
    cost.bend(1.5)

    assert before < cost.seconds(8) < 1.2 * before


# -- what else is known ------------------------------------------------------------------------------


@given(SAMPLES)
def test_quantiles_are_in_order(samples: list[tuple[int, float]]) -> None:
    """More of the batches stay under a larger number; none is below the prediction."""
    cost = _taught(samples)

    assert 1.0 <= cost.p90 <= cost.p95


def test_quantiles_are_of_time_over_prediction() -> None:
    """One batch in twelve takes double: nine in ten stay near the prediction; before, they are those of the noise."""
    cost = _taught([(1, 0.010)] * 4)
    early = cost.p95
    for turn in range(64):
        cost.learn(1, 0.020 if turn % 12 == 0 else 0.010, turn)

    assert 1.0 < early < 1.25
    assert cost.p90 < 1.2
    assert 1.5 < cost.p95 < 2.1


@given(st.lists(st.tuples(st.sampled_from(SIZES), st.integers(0, 100)), max_size=8), st.integers(0, 100))
def test_covers_sizes_between_those_seen_lately(seen: list[tuple[int, int]], since: int) -> None:
    """From the smallest to the largest of the lone batches since then, and somewhat beyond."""
    cost = Cost()
    last: dict[int, int] = {}
    for rows, turn in seen:
        cost.learn(rows, 0.01, turn)
        last[rows] = turn
    sizes = [rows for rows, turn in last.items() if turn >= since]

    assert not sizes or all(cost.covers(rows, since) for rows in range(min(sizes), max(sizes) + 1))
    assert not cost.covers(10 * max(sizes, default=1), since)
    assert not sizes or not cost.covers(min(sizes) / 10, since)


@given(SAMPLES, st.integers(1, 4096))
def test_gain_is_between_none_and_all(samples: list[tuple[int, float]], rows: int) -> None:
    """Merging ``rows`` rows is worth 1 at least and ``rows`` at most, and lies within its own bounds."""
    cost = _taught(samples)
    gain = cost.gain(rows)
    low, high = cost.gain_between(rows)

    assert 1.0 - 1e-9 <= gain <= rows * (1.0 + 1e-9)
    assert low - 1e-9 <= gain <= high + 1e-9


def test_bounds_of_the_gain_narrow() -> None:
    """One size says nothing of it; two sizes the more, the more often they were seen."""
    alone = _on_a_line(0.010, 0.001, [1]).gain_between(32)
    few = _on_a_line(0.010, 0.001, [1, 32], rounds=2).gain_between(32)
    many = _on_a_line(0.010, 0.001, [1, 32], rounds=50).gain_between(32)

    assert (1.0, 32.0) == Cost().gain_between(32)
    assert 1.0 == alone[0]
    assert few[0] < many[0] < 8.4 < many[1] < few[1]


@given(st.lists(ROWS, min_size=1, max_size=50))
def test_mean_rows_are_within_those_seen(rows: list[int]) -> None:
    """A running mean that begins at a single row; each answered batch counts."""
    cost = Cost()
    for number in rows:
        cost.seen(number)

    assert 1.0 <= cost.rows <= max(rows) + 1e-9
    assert len(rows) == cost.batches


# -- over a restart ----------------------------------------------------------------------------------


@given(SAMPLES, st.integers(0, 40))
def test_goes_on_where_it_was(samples: list[tuple[int, float]], since: int) -> None:
    """What was written down as JSON and read again predicts and learns the same."""
    cost, again = _taught(samples), Cost()
    cost.seen(7)
    again.restore(json.loads(json.dumps(cost.state())))
    same = [again.seconds(rows) for rows in SIZES]

    assert [cost.seconds(rows) for rows in SIZES] == pytest.approx(same)
    assert (cost.rows, cost.batches, cost.samples, cost.noise) == (again.rows, 1, again.samples, again.noise)
    assert all(cost.covers(rows, since) == again.covers(rows, since) for rows in SIZES)
    for both in (cost, again):
        both.learn(5, 0.02, 99)
    assert [cost.seconds(rows) for rows in SIZES] == pytest.approx([again.seconds(rows) for rows in SIZES])


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        {},
        {"points": []},
        {"points": None},
        {"points": [None]},
        {"points": [{"rows": 1, "seconds": 0.0, "weight": 1.0, "turn": 0}]},
        {"points": [{"rows": 0, "seconds": SHORTEST, "weight": 1.0, "turn": 0}]},
        {"points": [{"rows": 1, "seconds": 2 * LONGEST, "weight": 1.0, "turn": 0}]},
        {"points": [{"rows": 1, "seconds": 1.0, "weight": 2 * HEAVIEST, "turn": 0}]},
        {"points": [{"rows": 1, "seconds": math.nan, "weight": 1.0, "turn": 0}]},
        {"points": [{"rows": 1, "seconds": 1.0, "weight": 1.0, "turn": -2}]},
        {"noise": 7.0},
        {"rows": 0.5},
        {"samples": 1.5},
        {"batches": "many"},
    ],
    ids=str,
)
def test_what_is_no_state_changes_nothing(wrong: dict[str, object] | None) -> None:
    """A file that somebody edited: refused as a whole."""
    cost = _on_a_line(0.010, 0.001, [1, 8])
    before = cost.state()
    state = None if wrong is None else {**before, **wrong} if wrong else {}

    with pytest.raises(ValueError, match=r"is no|points"):
        cost.restore(state)
    assert before == cost.state()


def test_what_was_wrong_is_forgotten() -> None:
    """All that was learned of times; how many batches there were is no less true."""
    cost = _on_a_line(0.010, 0.001, [1, 8])
    cost.seen(8)
    version, batches, rows = cost.version, cost.batches, cost.rows
    cost.forget()
    fresh = Cost()

    assert (version, batches, rows) == (cost.version, cost.batches, cost.rows)
    assert (fresh.known, fresh.samples, fresh.noise) == (cost.known, cost.samples, cost.noise)
    assert (0.0, fresh.p95) == (cost.seconds(64), cost.p95)


def test_a_batch_that_was_given_up_counts_where_it_was_longer_than_expected() -> None:
    """Else it says nothing; and nothing where nothing is known."""
    cost = Cost()
    cost.outlasted(1, 9.0)
    known = [cost.known]
    for turn in range(20):
        cost.learn(1, 0.1, turn)
    expected, p95 = cost.seconds(1), cost.p95
    cost.outlasted(1, 0.05)
    known.append(cost.seconds(1) == expected)
    for _ in range(20):
        cost.outlasted(1, 0.4)

    assert [False, True] == known
    assert expected < cost.seconds(1) <= 0.4
    assert cost.p95 > p95
