"""A state machine that drives a Scheduler as the engine does, and checks after each step what must always hold.

It polls only when the scheduler's own answers tell it to, so that a lost wake-up is seen as such.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from batchproxy.core.balancer import Endpoint
from batchproxy.core.batch import Bisection, Dispatch, Release
from batchproxy.core.errors import BatchProxyError, Code, DeadlineExceeded, NoEndpoint, Unavailable
from batchproxy.core.lane import Lane
from batchproxy.core.outcome import Outcome
from batchproxy.core.policy import Policy
from batchproxy.core.request import BatchKey, Entry, Reply, Request, State
from batchproxy.core.scheduler import Scheduler
from batchproxy.testing import StubWaiter, a_request
from tests.property.arrivals_machine import TIMES_LEFT, ArrivalsMachine
from tests.property.hedge_machine import is_lost
from tests.property.order import leaves_before, urgency
from tests.property.pool_machine import WHICH, has_room, keeps_its_last_try, waiter_of
from tests.property.strategies import MODELS, REQUESTS, policies

STEPS = st.sampled_from((0.001, 0.01, 0.05, 0.5, 3.0))  # seconds
NOT_EXECUTED = {Outcome.NOT_RUN}
MERGED_TEXT_ALLOWED = {Outcome.NOT_RUN, Outcome.SAME_FOR_ALL}  # ruling R3


class SchedulerMachine(ArrivalsMachine):
    """One scheduler with two models and up to three endpoints."""

    @initialize(
        drawn=st.tuples(policies(), policies()),
        endpoints=st.integers(1, 3),
        max_inflight=st.sampled_from((1, 2, 3, None, None)),
        max_relayed=st.sampled_from((1, 3, 256)),
        max_queued_bytes=st.sampled_from((120, 1 << 20)),
        hedges_are_nearly_spent=st.sampled_from((False, False, True)),
    )
    def start(
        self,
        drawn: tuple[Policy, Policy],
        endpoints: int,
        max_inflight: int | None,
        max_relayed: int,
        max_queued_bytes: int,
        hedges_are_nearly_spent: bool,
    ) -> None:
        self.policies = dict(zip(MODELS, drawn, strict=True))
        self.max_queued_bytes = max_queued_bytes
        self.make_endpoint = partial(Endpoint, max_inflight=max_inflight, max_relayed=max_relayed)
        self.endpoints = [self.make_endpoint(f"e{number}") for number in range(endpoints)]
        self.removed: list[Endpoint] = []
        self.bound: set[Dispatch] = set()
        for endpoint in self.endpoints:
            endpoint.up = True
        self.scheduler = Scheduler(self.policies, self.endpoints, max_queued_bytes=max_queued_bytes, call_timeout_s=0.4)
        self.now = 0.0
        self.must_pump = False
        self.entries: list[Entry] = []
        self.full: set[BatchKey] = set()
        self.serial: dict[Entry, int] = {}
        self.bad: set[Entry] = set()
        self.executions: Counter[Entry] = Counter()
        self.in_flight: dict[Dispatch, tuple[Entry, ...]] = {}
        self.budgets: dict[Bisection, int] = {}
        self.one_by_one: set[object] = set()
        self.calls: list[float] = []
        self.hedges: list[float] = []
        if hedges_are_nearly_spent:
            self.spend_hedges()

    # -- what happens to a scheduler ---------------------------------------------------------------

    @rule(request=REQUESTS, time_left=TIMES_LEFT, bad=st.booleans())
    def submit(self, request: Request, time_left: float | None, bad: bool) -> None:
        request.deadline = None if time_left is None else self.now + time_left
        entry = Entry(request, StubWaiter(), self.now)
        waiting = self._queued_in_lanes()
        try:
            look_again = self.scheduler.submit(entry, self.now)
        except Unavailable:
            return
        self.serial[entry] = len(self.serial)
        self.entries.append(entry)
        if bad:
            self.bad.add(entry)
        self.must_pump |= look_again
        if isinstance(entry.home, Lane):
            self._check_bounds(request, waiting)

    @rule(count=st.integers(3, 32), bad=st.integers(0, 2**32 - 1), some=st.booleans())
    def submit_many(self, count: int, bad: int, some: bool) -> None:
        """Many callers at once, of which some or none are refused by the backend."""
        for place in range(count):
            self.submit(a_request(), None, some and bool(bad >> place & 1))

    @rule(model=st.sampled_from(MODELS), seconds=STEPS)
    def submit_one_after_another(self, model: str, seconds: float) -> None:
        self.submit(a_request(model=model), None, bad=False)
        self.let_time_pass(seconds)
        self.submit(a_request(model=model), None, bad=False)

    @rule(model=st.sampled_from(MODELS), goes=st.booleans())
    def one_is_late(self, model: str, goes: bool) -> None:
        self.submit(a_request(model=model), None, bad=False)
        self.let_time_pass(0.05)
        if goes and self.entries:
            self._cancel(self.entries[-1], told=True)

    @precondition(lambda self: self.must_pump)
    @rule()
    def pump(self) -> None:
        self.must_pump = False
        while True:
            ripe = {lane.key: list(lane) for lane in self._lanes() if self._is_ripe(lane)}
            self.full = {lane.key for lane in self._lanes() if lane.full()}
            dispatch = self.scheduler.poll(self.now)
            if dispatch is None:
                break
            self._check_dispatch(dispatch, ripe)
            if dispatch.reason is Release.HEDGE:
                self.check_hedge(dispatch)
            self.in_flight[dispatch] = tuple(dispatch.batch.entries)
        if self.scheduler.late():
            self.sweep()
        self._check_nothing_ripe()

    @rule(seconds=STEPS)
    def let_time_pass(self, seconds: float) -> None:
        if self.must_pump:
            self.pump()
        until = self.now + seconds
        while (wake := self.scheduler.wake_at(self.now)) is not None and wake <= until:
            assert wake > self.now, "wake_at() asks to be woken for something that poll() does not give"
            self.now = wake
            self.pump()
        self.now = until

    @rule(model=st.sampled_from(MODELS))
    def let_ejections_end(self, model: str) -> None:
        self.let_time_pass(320.0)
        self.submit(a_request(model=model), None, bad=False)
        self.pump()
        late = [endpoint for endpoint in self.endpoints if endpoint.out and endpoint.ejected_until <= self.now]
        assert not late, "left out for ever"

    @precondition(lambda self: self.in_flight)
    @rule(which=WHICH)
    def finish(self, which: int) -> None:
        """The backend refuses bad rows and answers the others."""
        dispatch = self._call(which)
        bad = any(entry in self.bad for entry in self.in_flight[dispatch])
        self._finish(dispatch, Outcome.REJECTED if bad else Outcome.OK)

    @precondition(lambda self: self.in_flight)
    @rule(which=st.lists(WHICH, min_size=2, max_size=20))
    def finish_many(self, which: list[int]) -> None:
        for place in which:
            if self.in_flight:
                self.finish(place)

    @precondition(lambda self: self.in_flight)
    @rule(outcome=st.sampled_from([Outcome.REJECTED, Outcome.TOO_BIG_OR_BUSY, Outcome.NOT_RUN]))
    def finish_all(self, outcome: Outcome) -> None:
        """Everything in flight fails in the same way."""
        for dispatch in list(self.in_flight):
            self._finish(dispatch, outcome)

    @precondition(lambda self: self.in_flight)
    @rule(which=WHICH, outcome=st.sampled_from(Outcome))
    def finish_somehow(self, which: int, outcome: Outcome) -> None:
        dispatch = self._call(which)
        if outcome is Outcome.UNSPLITTABLE and len(self.in_flight[dispatch]) == 1 and dispatch.sent == dispatch.rows:
            outcome = Outcome.OK  # a lone answer is not split
        self._finish(dispatch, outcome)

    @precondition(lambda self: self.entries)
    @rule(which=WHICH, told=st.sampled_from((True, True, True, False)))
    def cancel(self, which: int, told: bool) -> None:
        """A caller goes away; where nobody is told, its waiter is merely done."""
        self._cancel(self.entries[-1 - which % len(self.entries)], told)

    @precondition(lambda self: self._queued_in_lanes())
    @rule()
    def cancel_a_head(self) -> None:
        self._cancel(self._queued_in_lanes()[0], told=True)

    @rule(model=st.sampled_from(MODELS), seconds=STEPS)
    def the_first_of_two_goes(self, model: str, seconds: float) -> None:
        self.submit_one_after_another(model, seconds)
        if self._queued_in_lanes():
            self.cancel_a_head()
            self.pump()

    @rule()
    def sweep(self) -> None:
        overdue = self.scheduler.overdue(self.now)
        assert len(set(overdue)) == len(overdue), "an entry is overdue twice"
        for entry in overdue:
            self.scheduler.discard(entry)
            self.tell(entry, DeadlineExceeded("late"))

    # -- doing it ----------------------------------------------------------------------------------

    def _cancel(self, entry: Entry, told: bool) -> None:
        waiter = waiter_of(entry)
        if not waiter.done():
            waiter.cancel()
            if told:
                abandoned = self.scheduler.discard(entry)
                self._check_abandoned(entry, abandoned)
                wake = self.scheduler.wake_at(self.now)  # whoever is behind it may have less time
                self.must_pump |= wake is not None and wake <= self.now

    def _call(self, which: int) -> Dispatch:
        return list(self.in_flight)[which % len(self.in_flight)]

    def _finish(self, dispatch: Dispatch, outcome: Outcome) -> None:
        members = self.in_flight.pop(dispatch)
        batch, was_fresh = dispatch.batch, dispatch.batch.family is None
        undecided = [other for other in self.in_flight if other.batch is batch]
        lost, waiting = is_lost(dispatch), {entry: entry.state for entry in members}
        self._count(dispatch, members, outcome)
        self.calls.append(self.now)
        error = BatchProxyError("names every member", code=Code.INVALID_ARGUMENT)
        live = sum(entry.state is State.RUNNING for entry in members)
        if outcome is Outcome.UNSPLITTABLE and live and not undecided:
            self.one_by_one.add(batch.key.target)
        failures = self.scheduler.settle(dispatch, self.now, outcome, None if outcome is Outcome.OK else error)
        if lost or (undecided and outcome is not Outcome.OK):
            assert [] == failures, "a call fails whose batch is under way elsewhere, or was answered"
            assert waiting == {entry: entry.state for entry in members}, "such a call changes what becomes of its batch"
        if was_fresh and batch.family is not None:
            self.budgets[batch.family] = live + (live - 1).bit_length()
        if outcome is Outcome.OK:
            assert [] == failures
            for entry in members:
                assert entry.state is State.DONE
                if not entry.waiter.done():
                    entry.waiter.set_result(Reply({}, 1))
        assert len({entry for entry, _ in failures}) == len(failures), "an entry fails twice"
        for entry, why in failures:
            if entry not in members:
                assert isinstance(why, NoEndpoint), "somebody else's entry fails"
            assert why is not error or len(members) == 1 or outcome in MERGED_TEXT_ALLOWED, "a merged text gets out"
            self.tell(entry, why)
        self.must_pump = True
        self.pump()

    def _count(self, dispatch: Dispatch, members: tuple[Entry, ...], outcome: Outcome) -> None:
        if outcome not in NOT_EXECUTED:
            self.executions.update(members)
            for entry in members:
                idempotent = self.policies[entry.request.key.model].idempotent
                assert idempotent or self.executions[entry] == 1, "idempotent: false was run twice"
            family = dispatch.batch.family
            padded_in_vain = outcome in {Outcome.UNSPLITTABLE, Outcome.TOO_BIG_OR_BUSY} and len(members) == 1
            retried = outcome is Outcome.MAYBE_RUN or padded_in_vain
            if family in self.budgets and not retried:  # retries have a budget of their own
                self.budgets[family] -= 1
                assert self.budgets[family] >= 0, "more bisecting calls than n + ceil(log2 n)"

    # -- what must hold at certain moments -----------------------------------------------------------

    def _is_ripe(self, lane: Lane) -> bool:
        entries, policy = list(lane), self.policies[lane.key.model]
        full = sum(entry.request.rows or 0 for entry in entries) >= lane.cap
        full |= sum(entry.request.nbytes for entry in entries) >= policy.max_batch_bytes
        return full or self._due(lane) <= self.now

    def _due(self, lane: Lane) -> float:
        """After its delay, or when its most urgent entry would else be late."""
        head = min(lane, key=partial(urgency, self.policies, self.serial))
        oldest = min(entry.arrival for entry in lane)
        return min(oldest + lane.book.policy.max_delay_s, max(oldest, lane.latest(head)))

    def _check_dispatch(self, dispatch: Dispatch, ripe: dict[BatchKey, list[Entry]]) -> None:
        entries = dispatch.batch.entries
        request = entries[0].request
        policy = self.policies[request.key.model]
        assert dispatch not in self.in_flight
        usable = dispatch.endpoint.up and not dispatch.endpoint.out
        assert usable or not dispatch.batch.merged, "sent to an endpoint that is down or left out"
        assert not dispatch.endpoint.gone or dispatch in self.bound, "sent to an endpoint that was removed"
        assert {request.key} == {entry.request.key for entry in entries}, "keys are mixed"
        assert not any(entry.waiter.done() for entry in entries), "a dead entry is sent"
        assert not any(entry.expired(self.now) for entry in entries), "a late entry is sent"
        assert dispatch.rows <= dispatch.sent <= max(policy.max_batch_rows, dispatch.rows), "padded to more than fits"
        if dispatch.batch.merged:
            self.check_slots(dispatch)
        if len(entries) > 1:
            assert sum(entry.request.rows or 0 for entry in entries) <= policy.max_batch_rows, "the batch overflows"
            if dispatch.batch.family is None:
                assert sum(entry.request.nbytes for entry in entries) <= policy.max_batch_bytes, "too many bytes"
            assert policy.batching, "merged in spite of batching: false"
            assert request.rows is not None, "merged what may not be merged"
        fresh = dispatch.batch.merged and dispatch.batch.family is None and not dispatch.batch.avoid
        if fresh and dispatch.reason is not Release.HEDGE:
            self._check_fresh(request.key, entries, ripe)

    def _check_fresh(self, key: BatchKey, entries: list[Entry], ripe: dict[BatchKey, list[Entry]]) -> None:
        if all(self.executions[entry] == 0 and entry.attempts == 0 for entry in entries):
            assert key in ripe, "a lane leaves that is neither full nor due"
            assert len(entries) == 1 or key.target not in self.one_by_one, "merged on, after an answer without rows"
            if key in self.full:  # which leave where nothing else may
                ripe = {other: entries for other, entries in ripe.items() if other in self.full}
            leaves_before(entries, key, ripe, partial(urgency, self.policies, self.serial), self.now)

    def _check_nothing_ripe(self) -> None:
        if not any(has_room(endpoint) for endpoint in self.endpoints):
            return
        for batch in self.scheduler._front.batches:
            assert keeps_its_last_try(batch, self.endpoints), "a batch does not leave though a slot is free"
        busy = any(endpoint.in_flight for endpoint in self.endpoints if endpoint.up and not endpoint.out)
        if busy and all(endpoint.limit.fixed is None for endpoint in self.endpoints):
            return  # endpoints share what waits: one may be left idle for a while in which another works
        for lane in self._lanes():
            assert not self._is_ripe(lane), "a lane that is full or due does not leave though a slot is free"

    def _check_abandoned(self, entry: Entry, abandoned: Sequence[Dispatch]) -> None:
        calls = [call for call, members in self.in_flight.items() if entry in members and entry.home is call.batch]
        last = [call for call in calls if all(other.state is State.DONE for other in self.in_flight[call])]
        last = [call for call in last if not is_lost(call)]
        named = [call for call in abandoned if call in self.in_flight]
        assert set(named) == set(last), "a call that nobody waits for is not named, or one that somebody does is"

    # -- what must hold always -----------------------------------------------------------------------

    def _lanes(self) -> Iterator[Lane]:
        return iter({entry.home: None for entry in self.entries if isinstance(entry.home, Lane)})

    @invariant()
    def queues_add_up(self) -> None:
        queued = self._queued_in_lanes()
        rows = {model: sum(e.request.rows or 0 for e in queued if e.request.key.model == model) for model in MODELS}
        assert rows == self.scheduler.queued_rows()
        assert sum(entry.request.nbytes for entry in queued) == self.scheduler.queued_bytes
        for lane in self._lanes():
            here = [entry for entry in queued if entry.home is lane]
            assert set(here) == set(lane), "a lane holds others than it should"
            assert (len(here), sum(entry.request.rows or 0 for entry in here)) == (lane.live, lane.rows)

    @invariant()
    def somebody_will_look(self) -> None:
        waiting = [entry for entry in self.entries if entry.state is not State.DONE]
        assert self.scheduler.busy or not waiting, "entries wait, and nobody is busy"
        if self.must_pump or not waiting or not any(endpoint.up for endpoint in self.endpoints):
            return
        wake = self.scheduler.wake_at(self.now)
        assert self.in_flight or wake is not None, "entries wait, and nothing will wake the engine"
        if any(has_room(endpoint) for endpoint in self.endpoints):
            for lane in self._lanes():
                due = self._due(lane)
                assert wake is not None, "a lane waits, and nothing will wake the engine"
                assert wake <= max(due, self.now), "the engine is woken too late"

    @invariant()
    def budgets_hold(self) -> None:
        for family in self.budgets:
            assert 0 <= family.unresolved <= family.calls_left
            assert family.open or not family.parked, "a failed piece waits for nothing"

    def teardown(self) -> None:
        """With time and health, everybody is answered and nothing is left over."""
        if not hasattr(self, "scheduler"):
            return
        self.add_endpoint()
        self.endpoints_up()
        self.pump()
        for _ in range(10_000):
            if self.in_flight:
                self.finish(0)
            elif (wake := self.scheduler.wake_at(self.now)) is not None:
                self.now = max(self.now, wake)
                self.pump()
            else:
                break
            self.budgets_hold()
        for entry in self.entries:
            assert entry.waiter.done(), f"{entry} hangs"
        assert not self.scheduler.busy
        self.endpoints_add_up()
        self.queues_add_up()
