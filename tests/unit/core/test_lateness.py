"""Tests of batchproxy.core.lateness: who cannot be answered in time, and what they are told."""

from __future__ import annotations

import pytest

from batchproxy.core.errors import DeadlineExceeded, TooLate
from batchproxy.core.lane import Lane
from batchproxy.core.lateness import refuse_hopeless, why_late
from batchproxy.core.policy import Policy
from batchproxy.core.request import Entry, State
from batchproxy.testing import Playbook, StubWaiter, a_request


def _waiting(deadline: float | None) -> tuple[Lane, Entry]:
    """The last of three rows that wait, each for 10 ms of the pool's time, for batches that take 20 ms."""
    play = Playbook({"m": Policy(max_delay_s=9.0)})
    play.submit(a_request(2))
    entry = Entry(a_request(deadline=deadline), StubWaiter(), 0.0)
    play.scheduler.submit(entry, 0.0)
    assert isinstance(entry.home, Lane)
    entry.home.row_s, entry.home.batch_s = 0.010, 0.020
    return entry.home, entry


@pytest.mark.parametrize("deadline", [None, 0.051, 1.0])
def test_who_can_be_answered_waits_on(deadline: float | None) -> None:
    """Three rows of 10 ms and a batch of 20 ms are 50 ms."""
    lane, entry = _waiting(deadline)

    refuse_hopeless(lane, entry, 0.0)

    assert (State.QUEUED, 3) == (entry.state, lane.rows)


def test_who_cannot_be_answered_is_refused_at_once() -> None:
    """And waits no longer."""
    lane, entry = _waiting(0.049)

    with pytest.raises(TooLate, match=r"2 rows wait .* about 0\.050 s, but its deadline is in 0\.049 s"):
        refuse_hopeless(lane, entry, 0.0)

    assert (State.DONE, 2) == (entry.state, lane.rows)


def test_what_late_callers_are_told() -> None:
    """Whose time is up, the plain truth; who would only be late, that another try may succeed."""
    _, entry = _waiting(1.0)

    assert isinstance(why_late(entry, 1.0), DeadlineExceeded)
    assert isinstance(why_late(_waiting(None)[1], 1.0), DeadlineExceeded)
    early = why_late(entry, 0.9)
    assert isinstance(early, TooLate)
    assert "deadline is in 0.100 s" in early.message
