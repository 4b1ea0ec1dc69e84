"""Tests of batchproxy.core.lane."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.core.allowance import MEMORY_BATCHES
from batchproxy.core.book import Book, Waiting
from batchproxy.core.lane import AGING_S, MAX_TEXT_BYTES, Lane
from batchproxy.core.policy import Policy
from batchproxy.core.raw import GRPC, REST, RawCall
from batchproxy.core.request import Entry, State
from batchproxy.testing import StubWaiter, a_request


def _lane(policy: Policy | None = None) -> Lane:
    return Lane(a_request().key, Book(policy or Policy(max_batch_rows=8), Waiting()))


def _push(
    lane: Lane, *rows: int, deadline: float | None = None, arrival: float = 0.0, priority: int | None = None
) -> list[Entry]:
    requests = [a_request(size, deadline=deadline, priority=priority) for size in rows]
    entries = [Entry(request, StubWaiter(), arrival) for request in requests]
    for entry in entries:
        lane.push(entry)
    return entries


def test_entries_leave_in_order_as_many_as_fit() -> None:
    """The next one that does not fit is not overtaken by one behind it that would."""
    lane = _lane()
    a, b, c, d = _push(lane, 3, 4, 2, 1)

    assert ([a, b], []) == lane.take(0.0, lane.cap)
    assert ([c, d], []) == lane.take(0.0, lane.cap)
    assert ([], []) == lane.take(0.0, lane.cap)


def test_larger_than_a_batch_goes_alone_in_its_turn() -> None:
    """An oversize request neither waits for ever nor takes company."""
    lane = _lane()
    a, big, c = _push(lane, 1, 20, 1)

    assert [[a], [big], [c]] == [lane.take(0.0, lane.cap)[0] for _ in range(3)]


def test_alone_takes_one() -> None:
    """Where merging was found impossible, each entry leaves by itself."""
    lane = _lane()
    a, b = _push(lane, 1, 1)

    assert ([a], []) == lane.take(0.0, 0)
    assert ([b], []) == lane.take(0.0, 0)


def test_earliest_deadline_leaves_first_then_who_came_first() -> None:
    """Who has no deadline, or one further off than ``AGING_S``, is pressed by that; equals keep their order."""
    lane = _lane()
    a, b = _push(lane, 1, 1)
    (far,) = _push(lane, 1, deadline=30.0)
    late, later = *_push(lane, 1, deadline=2.0), *_push(lane, 1, deadline=2.0)
    (first,) = _push(lane, 1, deadline=1.0)

    assert [first, late, later, a, b, far] == lane.take(0.0, 8)[0]


def test_higher_priority_leaves_first() -> None:
    """A request's own, or its model's; deadlines count among equals only."""
    lane = _lane(Policy(priority=2))
    (low,) = _push(lane, 1, deadline=0.1)
    (normal,) = _push(lane, 1, priority=1)
    high, urgent = *_push(lane, 1, priority=0), *_push(lane, 1, priority=0, deadline=1.0)

    assert [urgent, high, normal, low] == lane.take(0.0, 8)[0]


def test_waiting_makes_up_for_priority() -> None:
    """A low one that has waited for two levels is as urgent as a high one that comes now."""
    lane = _lane()
    (low,) = _push(lane, 1, priority=2)
    early, late = (
        *_push(lane, 1, priority=0, arrival=2 * AGING_S - 0.1),
        *_push(lane, 1, priority=0, arrival=2 * AGING_S + 0.1),
    )

    assert [early, low, late] == lane.take(2 * AGING_S, 8)[0]


WAITS = st.tuples(
    st.floats(0, 30), st.sampled_from((0, 1, 2)), st.sampled_from((None, None, 0.5, 3.0, 30.0)), st.integers(1, 4)
)


@given(waits=st.lists(WAITS, max_size=30), cap=st.integers(1, 8), pauses=st.sets(st.integers(0, 30)))
def test_nobody_is_overtaken_by_who_comes_much_later(
    waits: list[tuple[float, int, float | None, int]], cap: int, pauses: set[int]
) -> None:
    """However arrivals and takes are mixed, an entry waits for such as came ``AGING_S * (priority + 1)`` after it."""
    lane = _lane()
    waiting: list[Entry] = []
    now = 0.0
    for number, (pause, priority, time_left, rows) in enumerate(waits):
        now += pause
        deadline = None if time_left is None else now + time_left
        waiting += _push(lane, rows, arrival=now, priority=priority, deadline=deadline)
        if number in pauses:
            continue
        taken, late = lane.take(now, cap)
        waiting = [entry for entry in waiting if entry not in {*taken, *late}]
        last = max((entry.arrival for entry in taken), default=-inf)

        for entry in waiting:
            level = entry.request.priority or 0
            assert last <= entry.arrival + AGING_S * (level + 1) or entry.expired(now)
    assert (len(waiting), sum(entry.request.rows or 0 for entry in waiting)) == (lane.live, lane.rows)


def test_push_tells_what_changes_the_lanes_place() -> None:
    """The first entry, one that is more urgent than all others, and one that fills it."""
    lane = _lane(Policy(max_batch_rows=4))
    a, b, c, d, e = (
        Entry(a_request(deadline=deadline), StubWaiter(), 0.0) for deadline in (None, None, 2.0, 3.0, None)
    )

    assert [True, False, True, True, False] == [lane.push(entry) for entry in (a, b, c, d, e)]
    assert 2.0 + AGING_S == lane.order
    assert lane.in_order()

    lane.remove(c)

    assert not lane.in_order()
    assert 3.0 + AGING_S == lane.order
    assert lane.in_order()


def test_order_of_an_empty_lane_is_a_bug() -> None:
    """It is nobody's."""
    with pytest.raises(AssertionError, match="This is a bug"):
        _lane().in_order()


def test_oldest_entry_decides_when_the_lane_is_due() -> None:
    """Not the most urgent one, which may have come just now."""
    lane = _lane(Policy(max_delay_s=0.5))
    _push(lane, 1, arrival=1.0)
    _push(lane, 1, arrival=1.3, deadline=2.0)

    assert 1.5 == lane.due()
    assert [False, True] == [lane.ripe(1.4), lane.ripe(1.5)]


def test_bytes_are_capped() -> None:
    """A lane with as many is full, and a batch holds no more; one request with more goes alone."""
    lane = _lane(Policy(max_batch_bytes=40, max_delay_s=9.0))
    a, b = _push(lane, 2, 2)

    assert (32, False) == (lane.nbytes, lane.full())

    c, big = _push(lane, 1, 9)

    assert lane.full()
    assert [[a, b, c], [big], []] == [lane.take(0.0, lane.cap)[0] for _ in range(3)]
    assert 0 == lane.nbytes


@pytest.mark.parametrize(("protocol", "expected"), [(REST, MAX_TEXT_BYTES), (GRPC, 64 << 20)])
def test_text_is_capped_at_less(protocol: str, expected: int) -> None:
    """R7: 8 MiB of JSON that goes to a server as it came, 64 MiB of all else."""
    lane = _lane(Policy())
    request = a_request()
    request.raw = RawCall(protocol, "POST", "", (), b"")
    lane.push(Entry(request, StubWaiter(), 0.0))

    assert expected == lane.max_bytes


def test_dead_and_late_entries_are_not_sent() -> None:
    """The answered are dropped, the late are handed back to be told, and neither shifts the others."""
    lane = _lane()
    a, gone, late, b = *_push(lane, 1, 1), *_push(lane, 1, deadline=0.5), *_push(lane, 1)
    assert isinstance(gone.waiter, StubWaiter)
    gone.waiter.cancel()

    assert ([a, b], [late]) == lane.take(1.0, lane.cap)
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


def test_cancelled_ones_among_others_are_passed_over() -> None:
    """They neither leave nor take anybody's place."""
    lane = _lane()
    a, b, c, d = _push(lane, 3, 4, 4, 1)
    lane.remove(b)

    assert ([a, c, d], []) == lane.take(0.0, lane.cap)


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


def test_forgettable_when_empty_and_without_memory() -> None:
    """Only then may the lane be dropped and made anew."""
    forgettable = [(lane := _lane()).forgettable]
    (entry,) = _push(lane, 1)
    forgettable.append(lane.forgettable)
    lane.remove(entry)
    lane.lower_cap(2)
    forgettable.append(lane.forgettable)

    assert [True, False, False] == forgettable


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(0, 12), st.sampled_from([20, 60, 1000]))
def test_fitting_is_what_take_finds(rows: list[int], cap: int, max_bytes: int) -> None:
    """Where nobody is late: cancelled entries are no part of it."""
    lane = _lane(Policy(max_batch_rows=8, max_batch_bytes=max_bytes))
    entries = _push(lane, *rows)
    lane.remove(entries[len(entries) // 2])
    fitting = lane.fitting(cap)
    requests = [entry.request for entry in lane.take(0.0, cap)[0]]

    assert (sum(request.rows or 0 for request in requests), sum(request.nbytes for request in requests)) == fitting
