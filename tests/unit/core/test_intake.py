"""Tests of batchproxy.core.intake: requests that come together are treated as if they had come one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import inf

from hypothesis import given
from hypothesis import strategies as st

from batchproxy.core.balancer import Endpoint
from batchproxy.core.batch import Dispatch
from batchproxy.core.errors import DeadlineExceeded, QueueFull, TooLate, Unavailable
from batchproxy.core.lane import Lane
from batchproxy.core.outcome import Outcome
from batchproxy.core.policy import Policy
from batchproxy.core.request import DONE, Entry, Request
from batchproxy.core.scheduler import Scheduler
from batchproxy.testing import FIXED, StubWaiter, a_request
from tests.property.strategies import MODELS, REQUESTS, policies


@dataclass
class Kind:
    """Neighbours that are alike."""

    request: Request
    time_left: float | None
    count: int
    shared: bool  # one key for all, and one request where they come at once; or a key each
    apart_s: float


@dataclass
class Turn:
    """Arrivals, under the given circumstances, and what happens then."""

    kinds: list[Kind]
    gone: set[int]
    held_s: float
    crammed_s: float
    row_s: float
    batch_s: float
    polled: bool
    ended: bool
    up: bool


KINDS = st.builds(
    Kind,
    REQUESTS,
    time_left=st.sampled_from((None, -1.0, 0.005, 0.05, 1.0, 5.5, 30.0)),
    count=st.integers(1, 20),
    shared=st.booleans(),
    apart_s=st.sampled_from((0.0, 0.001, 1.0)),
)
TURNS = st.builds(
    Turn,
    kinds=st.lists(KINDS, max_size=4),
    gone=st.sets(st.integers(0, 30), max_size=5),
    held_s=st.sampled_from((-inf, -inf, 0.01, 0.5, 20.0, inf)),
    crammed_s=st.sampled_from((-inf, -inf, -inf, 0.01, inf)),
    row_s=st.sampled_from((0.0, 0.0, 0.01, 1.0)),
    batch_s=st.sampled_from((0.0, 0.0, 0.02, 2.0)),
    polled=st.booleans(),
    ended=st.booleans(),
    up=st.sampled_from((True, True, True, True, False)),
)


@dataclass
class Twin:
    """One of two schedulers to which the same happens; entries are told apart by when they came."""

    scheduler: Scheduler
    together: bool
    entries: list[Entry] = field(default_factory=list)
    in_flight: list[Dispatch] = field(default_factory=list)

    def take_in(self, requests: Sequence[tuple[Request, float]], gone: set[int], now: float) -> object:
        """What the scheduler says, and who is refused why."""
        entries = [Entry(request, StubWaiter(), arrival) for request, arrival in requests]
        first = len(self.entries)
        self.entries += entries
        for place in gone:
            if place < len(entries):
                self.scheduler.discard(entries[place])
        if self.together:
            news, failures = self.scheduler.submit_all(entries, now)
            assert all(entry.state is DONE for entry, _ in failures)
            told = [(entries.index(entry), type(why), why.message) for entry, why in failures]
        else:
            news, told = False, []
            for place, entry in enumerate(entries):
                if entry.state is DONE:
                    continue
                try:
                    news |= self.scheduler.submit(entry, now)
                except (Unavailable, DeadlineExceeded) as why:
                    entry.state = DONE
                    told.append((place, type(why), why.message))
        return news, told, first

    def poll(self, now: float) -> object:
        """The calls that leave."""
        sent = []
        while (dispatch := self.scheduler.poll(now)) is not None:
            self.in_flight.append(dispatch)
            sent.append((dispatch.endpoint.name, dispatch.reason, dispatch.cap, self._numbers(dispatch.batch.entries)))
        return sent, self._numbers(self.scheduler.overdue(now))

    def state(self, now: float) -> object:
        """All that can be seen of it."""
        scheduler = self.scheduler
        lanes = {
            key: (
                *(self._numbers(lane), lane.rows, lane.nbytes, lane.live, lane.order, lane.max_bytes, lane.cap),
                *(lane._sorted, lane._fifo, lane._last, lane.share and lane.share.rows),
            )
            for key, lane in scheduler._lanes._lanes.items()
        }
        return (
            *(lanes, scheduler.queued_rows(), scheduler.queued_bytes, scheduler._lanes.rows, scheduler.busy),
            *(scheduler._held_until, scheduler._crammed_until, scheduler.wake_at(now), scheduler._lanes.next_due()),
            [(entry.state, isinstance(entry.home, Lane), getattr(entry, "order", None)) for entry in self.entries],
        )

    def _numbers(self, entries: object) -> list[int]:
        return [self.entries.index(entry) for entry in entries]  # type: ignore[attr-defined]


@given(
    drawn=st.tuples(policies(), policies()),
    turns=st.lists(TURNS, min_size=1, max_size=5),
    max_inflight=st.sampled_from((1, 2, None)),
    max_relayed=st.sampled_from((1, 3, 256)),
    max_queued_bytes=st.sampled_from((120, 1 << 20)),
)
def test_many_at_once_are_as_many_one_by_one(
    drawn: tuple[Policy, Policy], turns: list[Turn], max_inflight: int | None, max_relayed: int, max_queued_bytes: int
) -> None:
    """The same are refused with the same words, the same lanes hold the same, and the same batches leave."""
    twins = []
    for together in (False, True):
        endpoint = Endpoint("e", max_inflight=max_inflight, max_relayed=max_relayed)
        configured = dict(zip(MODELS, drawn, strict=True))
        scheduler = Scheduler(configured, [endpoint], max_queued_bytes=max_queued_bytes, call_timeout_s=0)
        twins.append(Twin(scheduler, together))
    now = 0.0
    for turn in turns:
        now += 0.1
        came: list[tuple[Request, float]] = []
        arrival = now
        for kind in turn.kinds:
            for number in range(kind.count):
                if not number or kind.apart_s or not kind.shared:
                    deadline = None if kind.time_left is None else arrival + kind.time_left
                    key = kind.request.key if kind.shared else kind.request.key._replace()
                    request = replace(kind.request, key=key, deadline=deadline)
                came.append((request, arrival))
                arrival += kind.apart_s
        now = arrival
        seen = []
        for twin in twins:
            scheduler = twin.scheduler
            scheduler.balancer.endpoints[0].up = turn.up
            scheduler._held_until, scheduler._crammed_until = now + turn.held_s, now + turn.crammed_s
            for lane in scheduler._lanes._lanes.values():
                lane.row_s, lane.batch_s = turn.row_s, turn.batch_s
            seen.append([twin.take_in(came, turn.gone, now), twin.state(now)])
            if turn.polled:
                scheduler._look_again()
                seen[-1] += [twin.poll(now), twin.state(now)]
            if turn.ended and twin.in_flight:
                scheduler.settle(twin.in_flight.pop(0), now + 0.05, Outcome.OK)
                seen[-1].append(twin.state(now + 0.05))

        assert seen[0] == seen[1]


def _scheduler(policy: Policy | None = None) -> Scheduler:
    endpoint = Endpoint("e", max_inflight=1)
    endpoint.up = True
    return Scheduler({"m": policy or Policy()}, [endpoint])


def _entries(*requests: Request) -> list[Entry]:
    return [Entry(request, StubWaiter(), 0.0) for request in requests]


def test_who_left_is_passed_over() -> None:
    """At the front, in the middle and at the end of those who came; the others ride together."""
    scheduler = _scheduler()
    entries = _entries(*(a_request() for _ in range(6)))
    for place in (0, 3, 5):
        scheduler.discard(entries[place])

    assert (True, []) == scheduler.submit_all(entries, 0.0)
    dispatch = scheduler.poll(0.0)
    assert dispatch is not None
    assert [entries[1], entries[2], entries[4]] == dispatch.batch.entries


def test_each_that_finds_no_room_is_named() -> None:
    """Whoever fits behind it is taken in; an error knows nothing of where it was raised, so that it goes at once."""
    scheduler = _scheduler(Policy(max_queued_rows=4))
    entries = _entries(a_request(3), a_request(2), a_request(1), a_request(1), a_request(1, signature=FIXED))

    news, failures = scheduler.submit_all(entries, 0.0)

    assert news
    assert [(entries[1], QueueFull), (entries[3], QueueFull)] == [(entry, type(why)) for entry, why in failures]
    assert [None, None] == [why.__traceback__ for _, why in failures]
    assert {"m": 4} == scheduler.queued_rows()


def test_who_would_be_late_is_told_before_it_waits() -> None:
    """Its neighbours that have the time wait, before it and behind it."""
    scheduler = _scheduler(Policy(max_batch_rows=2))
    scheduler.submit_all(_entries(a_request(deadline=0.1)), 0.0)
    (lane,) = scheduler._lanes._lanes.values()
    lane.row_s = 1.0
    entries = _entries(*(a_request(deadline=deadline) for deadline in (9.0, 9.0, 2.0, 9.0)))

    _, failures = scheduler.submit_all(entries, 0.0)

    assert [(entries[2], TooLate)] == [(entry, type(why)) for entry, why in failures]
    assert 4 == lane.rows


def test_nothing_comes_of_nobody() -> None:
    """And nothing of those who all left, not even a lane."""
    scheduler = _scheduler()
    (entry,) = _entries(a_request())
    scheduler.discard(entry)

    assert (False, []) == scheduler.submit_all([], 0.0)
    assert (False, []) == scheduler.submit_all([entry], 0.0)
    assert 0 == len(scheduler._lanes)
