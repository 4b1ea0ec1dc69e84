"""The state machine that says what to send where, and when to look again. It never waits, sends, logs or reads a clock.

Its rhythm: ``submit`` takes an entry in; ``poll`` is called until it has nothing more to send; ``settle`` says how a
call ended; ``overdue`` lists who must be told that time is up; ``wake_at`` says when ``poll`` could next say something.
An entry that was taken in is answered exactly once by whoever drives this: with the reply of a settled call,
or with the error that ``settle`` or ``overdue`` names.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence

from batchproxy.core.balancer import NOT_PROBED, Balancer, Endpoint
from batchproxy.core.batch import Batch, Bisection, Dispatch
from batchproxy.core.errors import BatchProxyError, Code, DeadlineExceeded, NoEndpoint, QueueFull
from batchproxy.core.lane import Lane
from batchproxy.core.lanes import Lanes
from batchproxy.core.outcome import Outcome
from batchproxy.core.policy import Policy
from batchproxy.core.request import BatchKey, Entry, State, Target

MAX_ATTEMPTS = 3
"""Endpoints a call that did not run may be tried on."""

MAX_QUEUED_BYTES = 256 << 20
"""What may wait in all lanes of a pool, unless configured: half of what R7 allows to be buffered in all."""

CALL_TIMEOUT_S = 300.0
"""How long a call may take where its caller set no deadline, unless configured (R6)."""

Failure = tuple[Entry, BatchProxyError]


class Scheduler:
    """Lanes x one pool.

    Args:
        policies: model name to policy; a request of a model that has none is a bug.
        endpoints: the pool.
        max_queued_bytes: what may wait in all lanes together, in bytes.
        call_timeout_s: how long a member without a deadline waits for a call in flight; 0: for ever.
        notice: told of each change of state that an operator should know, in one line.
    """

    def __init__(
        self,
        policies: Mapping[str, Policy],
        endpoints: Sequence[Endpoint],
        *,
        max_queued_bytes: int = MAX_QUEUED_BYTES,
        call_timeout_s: float = CALL_TIMEOUT_S,
        notice: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.balancer = Balancer(endpoints)
        self.unbatched: set[Target] = set()
        self._policies = policies
        self._lanes = Lanes(policies, max_queued_bytes)
        self._call_timeout_s = call_timeout_s
        self._notice = notice
        self._front: deque[Batch] = deque()
        self._relays: deque[Dispatch] = deque()
        self._running: dict[Batch, Dispatch] = {}
        self._late: list[Entry] = []

    # -- taking in ---------------------------------------------------------------------------------

    def submit(self, entry: Entry, now: float) -> bool:
        """Take an entry in; returns whether ``poll`` may now have something to say.

        Raises:
            DeadlineExceeded: its time is up already.
            NoEndpoint: no endpoint of the pool is up.
            QueueFull: a bound on rows, bytes, lanes or unmerged calls is reached.
        """
        request = entry.request
        if request.deadline is not None and request.deadline <= now:
            raise DeadlineExceeded("Deadline Exceeded")
        if not self.balancer.any_up():
            raise NoEndpoint(self.balancer.why_none(request.key.model))
        policy = self._policies[request.key.model]
        alone = bool(self.unbatched) and request.key.target in self.unbatched
        if alone or request.rows is None or not policy.batching:
            self._relay(entry, now)
            return True
        self._lanes.push(entry)
        return self.balancer.free_slot()

    def _relay(self, entry: Entry, now: float) -> None:
        batch = Batch([entry], merged=False)
        endpoint = self.balancer.acquire_relay(batch.rows)
        if endpoint is None:
            raise QueueFull(
                f"model {entry.request.key.model!r}: every endpoint has max_relayed unmerged calls in flight; try again"
            )
        self._relays.append(self._bind(batch, endpoint, now))

    # -- sending -----------------------------------------------------------------------------------

    def poll(self, now: float) -> Dispatch | None:
        """The next call to make, or None. Call until None."""
        while self._relays:
            dispatch = self._relays.popleft()
            if self._refresh(dispatch.batch, now):
                return dispatch
            self._release(dispatch)
        while self._front and self.balancer.free_slot():
            batch = self._front.popleft()
            if self._refresh(batch, now):
                return self._send(batch, now)
            batch.leave_family()
            self._requeue_released(batch)
        while self.balancer.free_slot() and (lane := self._lanes.next_ripe(now)) is not None:
            alone = lane.key.target in self.unbatched  # since it was queued
            taken, late = lane.take(now, alone=alone)
            self._late += late
            self._lanes.rank(lane)
            if taken:
                batch = Batch(taken, merged=True)
                batch.padded = not alone
                return self._send(batch, now)
        return None

    def _send(self, batch: Batch, now: float) -> Dispatch:
        endpoint = self.balancer.acquire_slot(batch.rows, batch.avoid)
        assert endpoint is not None, "a batch left its queue without a free slot. This is a bug."
        return self._bind(batch, endpoint, now)

    def _bind(self, batch: Batch, endpoint: Endpoint, now: float) -> Dispatch:
        for entry in batch.entries:
            entry.state = State.RUNNING
        dispatch = self._running[batch] = Dispatch(batch, endpoint, now)
        return dispatch

    def _refresh(self, batch: Batch, now: float) -> bool:
        """Drop the members of a waiting batch that left or are late; whether any remain."""
        for entry in batch.entries:
            if entry.waiter.done():
                entry.state = State.DONE
            elif entry.state is not State.DONE and entry.expired(now):
                entry.state = State.DONE
                self._late.append(entry)
        if any(entry.state is State.DONE for entry in batch.entries):
            batch.adopt()
        return batch.live > 0

    # -- ending ------------------------------------------------------------------------------------

    def settle(
        self, dispatch: Dispatch, now: float, outcome: Outcome, error: BatchProxyError | None = None
    ) -> list[Failure]:
        """A call has ended: free its slot and decide what becomes of its members.

        Members not named in the result are either to be answered with their part of the reply (OK) or
        were taken back to be sent again.

        Args:
            dispatch: what ``poll`` gave.
            now: the engine's clock, in seconds.
            outcome: how it ended.
            error: what it said; required unless OK.

        Returns:
            The members to be failed, each with its error. Texts of a merged call are in it only
            where R3 allows.
        """
        batch = dispatch.batch
        self._release(dispatch)
        failures = self._settled(dispatch, now, outcome, error)
        self._requeue_released(batch)
        return failures

    def _settled(
        self, dispatch: Dispatch, now: float, outcome: Outcome, error: BatchProxyError | None
    ) -> list[Failure]:
        batch = dispatch.batch
        shared = len(batch.entries) > 1
        batch.entries = [entry for entry in batch.entries if entry.state is State.RUNNING]
        if outcome is Outcome.OK:
            self._settle_ok(batch)
            return []
        assert error is not None, "a call that failed has no error. This is a bug."
        if outcome in {Outcome.NOT_RUN, Outcome.MAYBE_RUN} and batch.entries:
            if shared and outcome is Outcome.MAYBE_RUN:
                error = BatchProxyError("the connection was lost after the call was sent", code=Code.UNAVAILABLE)
            return self._try_elsewhere(dispatch, now, outcome, error)
        batch.leave_family()
        if not batch.entries:
            return []
        if outcome is Outcome.SAME_FOR_ALL:
            return self._fail(batch.entries, error)
        if not shared and not (outcome is Outcome.UNSPLITTABLE and batch.padded):
            return self._fail(batch.entries, error)
        if outcome is Outcome.LATE:
            return self._fail(batch.entries, DeadlineExceeded("Deadline Exceeded"))
        if outcome is Outcome.TOO_BIG_OR_BUSY:
            batch.avoid = dispatch.endpoint
        return self._settle_rejected(batch, shared, outcome, error)

    def _settle_ok(self, batch: Batch) -> None:
        batch.leave_family()
        for entry in batch.entries:
            entry.state = State.DONE
        if batch.halved:
            quarantined = self._lanes.lane(batch.key)
            if quarantined.lower_cap(batch.rows):
                self._lanes.rank(quarantined)  # it may be full now
                self._notice(f"model {batch.key.model!r}: the backend took {batch.rows} rows at a time, but not more")
        elif batch.merged and batch.family is None and (lane := self._lanes.find(batch.key)) is not None:
            lane.note(bad=False)
            if not lane.live:
                self._lanes.rank(lane)  # it may be forgotten, now that it remembers nothing

    def _settle_rejected(self, batch: Batch, shared: bool, outcome: Outcome, error: BatchProxyError) -> list[Failure]:
        model, version, signature = batch.key.target
        if outcome is Outcome.UNSPLITTABLE:
            self._stop_batching(batch.key, error.message)
        if not self._policies[model].idempotent:
            self._stop_batching(batch.key, "a merged call was rejected and idempotent: false forbids to run it again")
            text = (
                f"a call that this request shared was rejected ({error.code.name}); model {model!r} is configured "
                "idempotent: false, so it was not run again by itself. Later requests travel alone"
            )
            return self._fail(batch.entries, BatchProxyError(text, code=Code.ABORTED))
        for entry in batch.entries:
            entry.state = State.QUEUED
        if outcome is Outcome.UNSPLITTABLE:
            batch.padded = False
            sizes = [1] * len(batch.entries)
            # a lone one was padded in vain: running it as it came is no part of any bisecting
            pieces = batch.family.cut(batch, sizes) if batch.family and shared else batch.cut(sizes)
            self._front.extendleft(reversed(pieces))
            return []
        if batch.family is None:
            batch.family = Bisection(len(batch.entries))
            lane = self._lanes.lane(batch.key)
            if outcome is Outcome.REJECTED and lane.note(bad=True):
                self._lanes.rank(lane)  # it may be full now
                self._notice(
                    f"model {model!r}, version {version}, {signature!r}: two bad batches within 32; "
                    f"at most {lane.cap} rows ride together until 32 good ones have passed"
                )
        batch.halved = outcome is Outcome.TOO_BIG_OR_BUSY
        batch.family.park(batch)
        return []

    def _requeue_released(self, batch: Batch) -> None:
        """A batch has ended: what of its family may be sent now goes before everything that waits."""
        if batch.family is not None:
            self._front.extendleft(reversed(batch.family.release()))

    def _try_elsewhere(self, dispatch: Dispatch, now: float, outcome: Outcome, error: BatchProxyError) -> list[Failure]:
        batch = dispatch.batch
        if outcome is Outcome.MAYBE_RUN and not self._policies[batch.key.model].idempotent:
            batch.leave_family()
            text = "the connection was lost after the call was sent, and idempotent: false forbids to run it again"
            return self._fail(batch.entries, BatchProxyError(text, code=Code.UNAVAILABLE))
        failures: list[Failure] = []
        for entry in batch.entries:
            entry.attempts += 1
            if entry.attempts >= MAX_ATTEMPTS or not self.balancer.any_up():
                failures += self._fail([entry], error)
            else:
                entry.state = State.QUEUED
        batch.avoid = dispatch.endpoint
        batch.adopt()
        if not batch.live:
            batch.leave_family()
        elif batch.merged:
            self._front.appendleft(batch)
        elif (endpoint := self.balancer.acquire_relay(batch.rows, batch.avoid)) is not None:
            self._relays.append(self._bind(batch, endpoint, now))
        else:
            failures += self._fail(batch.entries, error)
        return failures

    def _fail(self, entries: list[Entry], error: BatchProxyError) -> list[Failure]:
        for entry in entries:
            entry.state = State.DONE
        return [(entry, error) for entry in entries]

    def _stop_batching(self, key: BatchKey, why: str) -> None:
        if key.target not in self.unbatched:
            self.unbatched.add(key.target)
            model, version, signature = key.target
            self._notice(f"model {model!r}, version {version}, {signature!r}: batching is off from now on: {why}")

    def _release(self, dispatch: Dispatch) -> None:
        del self._running[dispatch.batch]
        endpoint = dispatch.endpoint
        if dispatch.batch.merged:
            endpoint.in_flight -= 1
        else:
            endpoint.relayed -= 1
        endpoint.rows -= dispatch.rows

    # -- endpoints that go and come ----------------------------------------------------------------

    def take_out(self, endpoint: Endpoint, why: str) -> list[Failure]:
        """An endpoint cannot be used: leave it out until ``bring_back``.

        Returns:
            Everyone who waits, each with an error, if it was the last one.
        """
        if endpoint.up:
            endpoint.up = False
            self._notice(f"endpoint {endpoint.name}: left out, and probed until it answers: {why}")
        endpoint.last_error = why
        if self.balancer.any_up():
            return []
        waiting = [entry for entry in self._unanswered() if entry.state is State.QUEUED]
        return [(entry, NoEndpoint(self.balancer.why_none(entry.request.key.model))) for entry in waiting]

    def bring_back(self, endpoint: Endpoint) -> None:
        """An endpoint answered its probe."""
        if not endpoint.up and endpoint.last_error != NOT_PROBED:
            self._notice(f"endpoint {endpoint.name}: answers again, and is used again")
        endpoint.up = True
        endpoint.last_error = ""

    # -- leaving early -----------------------------------------------------------------------------

    def discard(self, entry: Entry) -> Dispatch | None:
        """The caller is gone or was answered: forget the entry, wherever it is.

        Returns:
            The call in flight that nobody waits for any more, if this was its last live member.
        """
        home, running = entry.home, entry.state is State.RUNNING
        if entry.state is State.DONE:
            return None
        entry.state = State.DONE
        if isinstance(home, Lane):
            home.remove(entry)
            if not home.live:
                self._lanes.rank(home)
        elif isinstance(home, Batch):
            home.live -= 1
            if running and not home.live:
                return self._running.get(home)
        return None

    def overdue(self, now: float) -> list[Entry]:
        """Everyone whose time is up, queued or running; each must be answered and discarded."""
        found, self._late = self._late, []
        found += [entry for entry in self._unanswered() if entry.expired(now)]
        if self._call_timeout_s:
            for dispatch in self._running.values():
                if dispatch.started + self._call_timeout_s <= now:
                    members = dispatch.batch.entries
                    found += [e for e in members if e.state is State.RUNNING and e.request.deadline is None]
        return found

    def late(self) -> bool:
        """Whether ``poll`` came upon entries whose time is up, so that ``overdue`` should be asked now."""
        return bool(self._late)

    def stranded(self) -> list[Entry]:
        """Everyone not yet answered, queued or running: for the end of a shutdown."""
        found, self._late = self._late, []
        return found + list(self._unanswered())

    def _unanswered(self) -> Iterator[Entry]:
        yield from self._lanes.entries()
        open_batches = (*self._front, *self._running)
        families = {batch.family: None for batch in open_batches if batch.family is not None}
        parked = [batch for family in families for batch in family.parked]
        for batch in (*open_batches, *parked):
            yield from (entry for entry in batch.entries if entry.state is not State.DONE)

    # -- being looked at ---------------------------------------------------------------------------

    def wake_at(self, now: float) -> float | None:
        """When ``poll`` could next say something without a ``settle`` before it; None: not by itself."""
        if self._relays:
            return now
        if not self.balancer.free_slot():
            return None
        if self._front:
            return now
        due = self._lanes.next_due()
        return None if due is None else max(now, due)

    @property
    def busy(self) -> bool:
        """Whether anything is queued or running."""
        return bool(self._running or self._front or self._late or self._lanes.rows)

    @property
    def queued_bytes(self) -> int:
        """Bytes of the requests that wait in lanes."""
        return self._lanes.nbytes

    def queued_rows(self) -> dict[str, int]:
        """Model name to rows that wait in its lanes."""
        return {name: book.rows for name, book in self._lanes.books.items()}

    def __repr__(self) -> str:
        return f"Scheduler(lanes={len(self._lanes)}, queued_rows={self._lanes.rows}, running={len(self._running)})"
