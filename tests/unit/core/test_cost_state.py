"""What a cost tells over a restart, and the bounds of the gain."""

from __future__ import annotations

import copy
import json
import math
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.core.cost import Cost

BATCHES = st.lists(st.tuples(st.integers(1, 512), st.floats(1e-6, 100.0)), min_size=1, max_size=40)


def taught(batches: list[tuple[int, float]]) -> Cost:
    """A cost that learned from lone batches of (rows, seconds)."""
    cost = Cost()
    for turn, (rows, seconds) in enumerate(batches):
        cost.seen(rows)
        cost.learn(rows, seconds, turn)
    return cost


def through_a_file(cost: Cost) -> Cost:
    """What is restored from the text of its state."""
    restored = Cost()
    restored.restore(json.loads(json.dumps(cost.state())))
    return restored


@given(batches=BATCHES, rows=st.integers(1, 1000))
def test_a_restored_cost_predicts_what_the_old_one_did(batches: list[tuple[int, float]], rows: int) -> None:
    """To the last digits, and covers the same sizes; its state is the same again."""
    cost = taught(batches)
    restored = through_a_file(cost)

    assert math.isclose(cost.seconds(rows), restored.seconds(rows), rel_tol=1e-9)
    assert cost.covers(rows, 3) == restored.covers(rows, 3)
    assert cost.state() == restored.state()


@given(batches=BATCHES, more=BATCHES)
def test_a_restored_cost_goes_on_learning_the_same(
    batches: list[tuple[int, float]], more: list[tuple[int, float]]
) -> None:
    """From where the old one was."""
    cost = taught(batches)
    restored = through_a_file(cost)
    for rows, seconds in more:
        cost.learn(rows, seconds, 1)
        restored.learn(rows, seconds, 1)

    assert math.isclose(cost.seconds(8), restored.seconds(8), rel_tol=1e-6)


def test_sizes_that_were_never_alone_stay_so() -> None:
    """Evidence from the crowd is no lone batch after a restart, either."""
    cost = Cost()
    cost.shape(8.0, 0.01, 2.0)
    restored = through_a_file(cost)

    assert restored.known
    assert not restored.covers(8, 0)


GOOD = taught([(1, 0.01), (32, 0.02)]).state()


def _with(**changes: object) -> dict[str, Any]:
    return {**copy.deepcopy(GOOD), **changes}


def _point(**changes: object) -> dict[str, Any]:
    state = copy.deepcopy(GOOD)
    state["points"][1] |= changes
    return state


@pytest.mark.parametrize(
    ("state", "fault"),
    [
        (None, "version is no"),
        ([], "version is no"),
        (_with(version="3"), "version is no"),
        (_with(batches=-1), "batches is no"),
        (_with(samples=1.5), "samples is no"),
        (_with(noise=math.nan), "noise is no"),
        (_with(noise=-0.1), "noise is no"),
        (_with(rows=0), "rows is no"),
        (_with(points=None), "points is no list"),
        (_with(points=[]), "points is no list"),
        (_with(points=[1]), "rows is no"),
        (_point(rows=0.0005), "rows is no"),
        (_point(seconds=0.0), "seconds is no"),
        (_point(seconds=math.inf), "seconds is no"),
        (_point(weight=1e9), "weight is no"),
        (_point(weight=0.0), "weight is no"),
        (_point(turn=None), "turn is no"),
    ],
)
def test_nonsense_changes_nothing(state: object, fault: str) -> None:
    """A hand-edited file is refused with the key that is wrong, and what was known stays."""
    cost = taught([(4, 0.5)])
    before = cost.state()

    with pytest.raises(ValueError, match=fault):
        cost.restore(state)
    assert before == cost.state()


@given(
    rows=st.floats(1.0, 2.0**31), seconds=st.floats(1e-9, 1e6), weight=st.floats(1e-3, 16.0), other=st.floats(1e-9, 1e6)
)
def test_whatever_is_accepted_gives_a_cost_that_can_be_used(
    rows: float, seconds: float, weight: float, other: float
) -> None:
    """Finite, not negative, and able to learn."""
    cost = Cost()
    cost.restore(
        _with(
            points=[
                {"rows": rows, "seconds": seconds, "weight": weight, "turn": -1},
                {"rows": 1.0, "seconds": other, "weight": weight, "turn": 5},
            ]
        )
    )
    cost.learn(4, 0.01, 6)

    assert 0.0 <= cost.alpha < math.inf
    assert 0.0 <= cost.beta < math.inf
    assert cost.seconds(1) > 0.0


# ---------------------------------------------------------------- the bounds of the gain


def test_nothing_is_known_of_the_gain_before_anything_is_learned() -> None:
    """It is anything from none to all."""
    assert (1.0, 8.0) == Cost().gain_between(8.0)


def test_one_row_has_no_gain() -> None:
    """Whatever was learned."""
    assert (1.0, 1.0) == taught([(1, 0.01), (8, 0.02)]).gain_between(1.0)


def test_one_size_says_nothing_of_the_gain() -> None:
    """A thousand batches of eight rows do not tell what one row takes."""
    assert (1.0, 8.0) == taught([(8, 0.01)] * 1000).gain_between(8.0)


@given(batches=BATCHES, rows=st.floats(1.0, 512.0))
def test_the_gain_lies_within_its_bounds_and_they_within_reason(batches: list[tuple[int, float]], rows: float) -> None:
    """From none to all, unless the line itself says less or more."""
    cost = taught(batches)
    gain, (low, high) = cost.gain(rows), cost.gain_between(rows)

    assert low <= gain * (1 + 1e-9)
    assert gain <= high * (1 + 1e-9)
    assert low * (1 + 1e-9) >= min(1.0, gain)
    assert high <= max(rows, gain) * (1 + 1e-9)


@pytest.mark.parametrize("noise", [0.02, 0.08, 0.25])
def test_the_bounds_hold_the_truth_as_often_as_they_say(noise: float) -> None:
    """In at least nine of ten worlds of lone batches of all sizes; and they are no excuse."""
    draw, held, widths, worlds = Random(7), 0, 0.0, 200
    truth = (0.008 + 0.00025) * 16 / (0.008 + 0.00025 * 16)
    for _ in range(worlds):
        sizes = [draw.randint(1, 32) for _ in range(60)]
        cost = taught([(rows, (0.008 + 0.00025 * rows) * draw.lognormvariate(0.0, noise)) for rows in sizes])
        low, high = cost.gain_between(16)
        held += low <= truth <= high
        widths += (high - low) / truth

    assert held >= 0.9 * worlds
    assert widths / worlds < 6 * noise
