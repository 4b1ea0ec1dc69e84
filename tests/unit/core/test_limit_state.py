"""What a limit tells over a restart."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.core.cost import Cost
from batchproxy.core.limit import Flight, Limit

GOOD = {"ceiling": 4.2, "partial": 4, "full": 9, "starting": 0, "turn": 812}


def busy(batches: int, at_once: int) -> Limit:
    """A limit that saw batches of 10 ms, so many of them in flight at any time, which slowed nobody."""
    limit, cost = Limit(), Cost()
    flights: list[Flight] = []
    for number in range(batches):
        now = number * 0.010 / at_once
        if len(flights) == at_once:
            limit.arrive(flights.pop(0), cost, 4, 32, now)
        flights.append(limit.depart(now))
    return limit


def test_a_limit_that_saw_nothing_has_no_state() -> None:
    """There is nothing to write."""
    assert Limit().state() is None


def test_a_fixed_limit_neither_tells_nor_takes() -> None:
    """The user knows better."""
    limit = Limit(3)
    limit.arrive(limit.depart(0.0), Cost(), 1, 32, 0.01)
    limit.restore(GOOD)

    assert limit.state() is None
    assert (3, 3) == (limit.partial, limit.full)


def test_a_restored_limit_goes_on_where_the_old_one_was() -> None:
    """With its figures, and without starting over."""
    limit = busy(2000, 6)
    restored = Limit()
    restored.restore(json.loads(json.dumps(limit.state())))

    assert limit.ceiling > 4.0
    assert limit.ceiling == restored.ceiling
    assert limit.state() == restored.state()
    assert 0 == restored.in_flight


@given(
    ceiling=st.floats(1.0, 64.0),
    partial=st.integers(1, 64),
    more=st.integers(0, 63),
    starting=st.booleans(),
    turn=st.integers(0, 2**53),
)
def test_any_state_in_range_is_taken_and_told_again(
    ceiling: float, partial: int, more: int, starting: bool, turn: int
) -> None:
    """As it was, once a batch has been."""
    full = min(64, partial + more)
    state = {"ceiling": ceiling, "partial": partial, "full": full, "starting": int(starting), "turn": turn}
    limit = Limit()
    limit.restore(state)

    assert (state if turn else None) == limit.state()


@pytest.mark.parametrize(
    "changes",
    [
        {"ceiling": 0.5}, {"ceiling": math.nan}, {"ceiling": 1e6}, {"partial": 0}, {"partial": 65}, {"partial": "4"},
        {"full": 3}, {"full": 1000}, {"starting": 2}, {"starting": None}, {"turn": -1}, {"turn": 0.5},
    ],
)  # fmt: skip
def test_nonsense_changes_nothing(changes: dict[str, Any]) -> None:
    """The text names the key."""
    limit = Limit()
    before = repr(limit)

    with pytest.raises(ValueError, match=f"{next(iter(changes))} is no"):
        limit.restore({**GOOD, **changes})
    assert before == repr(limit)


def test_what_is_no_document_changes_nothing() -> None:
    """A list in the place of the figures."""
    with pytest.raises(ValueError, match="ceiling is no number from 1 to 64: None"):
        Limit().restore([1])
