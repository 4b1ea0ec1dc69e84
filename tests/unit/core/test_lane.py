"""Tests of batchproxy.core.lane."""

from __future__ import annotations

import pytest

from batchproxy.core.lane import MEMORY_BATCHES, Book, Lane, Waiting
from batchproxy.core.policy import Policy
from batchproxy.core.request import Entry, State
from batchproxy.testing import StubWaiter, a_request


def _lane(policy: Policy | None = None) -> Lane:
    return Lane(a_request().key, Book(policy or Policy(max_batch_rows=8), Waiting()))


def _push(lane: Lane, *rows: int, deadline: float | None = None, arrival: float = 0.0) -> list[Entry]:
    entries = [Entry(a_request(size, deadline=deadline), StubWaiter(), arrival) for size in rows]
    for entry in entries:
        lane.push(entry)
    return entries


def test_entries_leave_in_order_as_many_as_fit() -> None:
    """The next one that does not fit is not overtaken by one behind it that would."""
    lane = _lane()
    a, b, c, d = _push(lane, 3, 4, 2, 1)

    assert ([a, b], []) == lane.take(0.0)
    assert ([c, d], []) == lane.take(0.0)
    assert ([], []) == lane.take(0.0)


def test_larger_than_a_batch_goes_alone_in_its_turn() -> None:
    """An oversize request neither waits for ever nor takes company."""
    lane = _lane()
    a, big, c = _push(lane, 1, 20, 1)

    assert [[a], [big], [c]] == [lane.take(0.0)[0] for _ in range(3)]


def test_alone_takes_one() -> None:
    """Where merging was found impossible, each entry leaves by itself."""
    lane = _lane()
    a, b = _push(lane, 1, 1)

    assert ([a], []) == lane.take(0.0, alone=True)
    assert ([b], []) == lane.take(0.0, alone=True)


def test_dead_and_late_entries_are_not_sent() -> None:
    """The answered are dropped, the late are handed back to be told, and neither shifts the others."""
    lane = _lane()
    a, gone, late, b = *_push(lane, 1, 1), *_push(lane, 1, deadline=0.5), *_push(lane, 1)
    assert isinstance(gone.waiter, StubWaiter)
    gone.waiter.cancel()

    assert ([a, b], [late]) == lane.take(1.0)
    assert [State.DONE, State.DONE] == [gone.state, late.state]
    assert (0, 0) == (lane.live, lane.rows)


def test_books_follow_what_waits() -> None:
    """Rows and bytes of the living only, in the lane and over all lanes of the model."""
    lane = _lane()
    a, b = _push(lane, 3, 2)
    lane.remove(a)

    waiting = lane.book.waiting
    assert (1, 2) == (lane.live, lane.rows)
    assert (2, 2, 16) == (lane.book.rows, waiting.rows, waiting.nbytes)
    assert b is lane.head()
    assert [b] == list(lane)
    assert "Lane(m, live=1, rows=2, cap=8)" == repr(lane)


def test_tombstones_are_swept() -> None:
    """A thousand cancelled entries behind a living head do not stay in memory."""
    lane = _lane()
    (head,) = _push(lane, 1)
    for entry in _push(lane, *[1] * 1000):
        lane.remove(entry)

    assert [head] == list(lane)
    assert len(lane._entries) < 100


def test_due_when_full_or_waited_long_enough() -> None:
    """A full lane was due when its head came; else the head waits max_delay."""
    lane = _lane(Policy(max_batch_rows=4, max_delay_s=0.5))
    _push(lane, 3, arrival=1.0)

    assert 1.5 == lane.due()

    _push(lane, 1, arrival=1.2)

    assert lane.full()
    assert 1.0 == lane.due()


def test_due_of_an_empty_lane_is_a_bug() -> None:
    """It has no head to be due."""
    with pytest.raises(AssertionError, match="This is a bug"):
        _lane().due()


def test_two_bad_batches_within_memory_halve_the_cap_until_as_many_clean_ones() -> None:
    """One bad batch is an accident; a second one within 32 is not (R3)."""
    lane = _lane()

    assert not lane.note(bad=True)
    assert 8 == lane.cap
    assert lane.note(bad=True)
    assert 4 == lane.cap

    for _ in range(MEMORY_BATCHES - 1):
        assert not lane.note(bad=False)

    assert 4 == lane.cap
    assert not lane.note(bad=False)
    assert 8 == lane.cap


def test_bad_batches_far_apart_do_no_harm() -> None:
    """The first is forgotten once 32 batches have come after it."""
    lane = _lane()
    lane.note(bad=True)
    forgettable = []
    for _ in range(MEMORY_BATCHES):
        lane.note(bad=False)
        forgettable.append(lane.forgettable)

    assert [False] * (MEMORY_BATCHES - 1) + [True] == forgettable
    assert not lane.note(bad=True)
    assert 8 == lane.cap


def test_cap_falls_to_one_row_at_least() -> None:
    """Batch after bad batch, and still something is sent."""
    lane = _lane()

    assert [False, True, True, True, False] == [lane.note(bad=True) for _ in range(5)]
    assert 1 == lane.cap


def test_cap_never_rises_by_being_lowered() -> None:
    """A larger half that passed later says nothing new."""
    lane = _lane()

    assert lane.lower_cap(3)
    assert not lane.lower_cap(5)
    assert 3 == lane.cap


def test_forgettable_when_empty_and_without_memory() -> None:
    """Only then may the lane be dropped and made anew."""
    forgettable = [(lane := _lane()).forgettable]
    (entry,) = _push(lane, 1)
    forgettable.append(lane.forgettable)
    lane.remove(entry)
    lane.lower_cap(2)
    forgettable.append(lane.forgettable)

    assert [True, False, False] == forgettable
