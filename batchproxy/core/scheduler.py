"""The state machine that says what to send where, and when to look again. It never waits, sends, logs or reads a clock.

Its rhythm: ``submit`` takes an entry in, ``submit_all`` several; ``poll`` is called until it has nothing more to send;
``settle`` says how a call ended; ``overdue`` lists who must be told that time is up; ``wake_at`` says when ``poll``
could say something by itself. An entry that was taken in is answered exactly once by whoever drives this: with the
reply of a settled call, or with the error that ``settle`` or ``overdue`` names.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import inf

from batchproxy.core.balancer import Balancer, Endpoint
from batchproxy.core.batch import Batch, Dispatch, Release
from batchproxy.core.canary import Canary
from batchproxy.core.compiling import Compiling
from batchproxy.core.ends import Ends, Failure
from batchproxy.core.errors import BatchProxyError
from batchproxy.core.front import Front
from batchproxy.core.health import Health
from batchproxy.core.hedging import Hedging
from batchproxy.core.intake import Intake
from batchproxy.core.lane import Lane
from batchproxy.core.lanes import Lanes
from batchproxy.core.outcome import Outcome
from batchproxy.core.overload import Overload
from batchproxy.core.pace import EASE, Hurry
from batchproxy.core.padding import Rounded, rows_sent, rows_to_take
from batchproxy.core.policy import Policy
from batchproxy.core.request import DONE, RUNNING, BatchKey, Entry
from batchproxy.core.retries import Retries
from batchproxy.core.sizes import Sizes
from batchproxy.core.unanswered import Unanswered

PASSES = 2
"""Full batches of others that may pass a lane whose turn it is: then it goes as they do, full or not."""

MAX_QUEUED_BYTES = 256 << 20
"""What may wait in all lanes of a pool, unless configured: half of what R7 allows to be buffered in all."""

CALL_TIMEOUT_S = 300.0
"""How long a call may take where its caller set no deadline, unless configured (R6)."""


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
        self._policies = policies
        self.policies = Rounded(policies)
        self._lanes = Lanes(self.policies, max_queued_bytes)
        self.sizes = Sizes(self.policies, self._lanes)
        self._compiling = Compiling(self.policies, self._lanes, notice)
        self.retries = Retries(notice)
        self._ends = Ends(policies, self._lanes, self.balancer, self._relay_batch, self.retries, notice)
        self.unbatched = self._ends.unbatched
        self._running: dict[Batch, Dispatch] = {}
        self._unanswered = Unanswered(self._lanes, self._ends.front, self._running)
        self.stranded = self._unanswered.stranded
        self.health = Health(self.balancer, self._unanswered, self.discard, self._look_again, notice)
        self._outliers = self.health.outliers
        self.hedging = Hedging(self.policies, self.balancer, self.retries, self._refresh, self._send)
        self.overload = Overload(self._lanes, notice)
        self._intake = Intake(
            policies, self._lanes, self.balancer, self.unbatched, self.overload, self._relay, self._news
        )
        self.add_endpoint, self.remove_endpoint = self.health.add, self.health.remove
        self.take_out, self.bring_back = self.health.take_out, self.health.bring_back
        self.canary = Canary(policies, self._ends.stop_batching, notice)
        self.call_timeout_s = call_timeout_s
        self._notice = notice
        self._front = Front(self._ends, self.balancer, self._place, self._refresh)
        self._again = self._front.batches
        self._relays: deque[Dispatch] = deque()
        self._now = -inf  # of the input that is being worked on
        self._held_until = -inf
        self._held: Lane | None = None
        self._passed = 0
        self._crammed_until = -inf

    # -- taking in ---------------------------------------------------------------------------------

    def submit(self, entry: Entry, now: float) -> bool:
        """Take an entry in; returns whether ``poll`` may now have something to say.

        Raises:
            DeadlineExceeded: its time is up already.
            NoEndpoint: no endpoint of the pool is up.
            TooLate: by what is known, it would be answered after its deadline.
            QueueFull: a bound on rows, bytes, lanes or unmerged calls is reached.
        """
        lane = self._intake.admit(entry, now)
        if now < self._held_until < inf:
            self._hurry((entry,))
        return self._news(lane, now)

    def submit_all(self, entries: Sequence[Entry], now: float) -> tuple[bool, list[Failure]]:
        """``submit`` each, the earliest first, but for those that left already: in a third of the time.

        Returns whether ``poll`` may now have something to say, and who was not taken in, each with its error.
        """
        news, failures = self._intake.admit_all(entries, now)
        if now < self._held_until < inf and self._hurry(entries):
            news = news or now >= self._crammed_until
        return news, failures

    def _news(self, lane: Lane | None, now: float) -> bool:
        """Whether ``poll`` may have something to say, since more wait in a lane; None: since one goes alone."""
        return lane is None or (now >= self._crammed_until and (now >= self._held_until or lane.full()))

    def _hurry(self, entries: Sequence[Entry]) -> bool:
        """Whether any of those who have just come cannot wait for as long as the others: nobody has to, then."""
        if any(isinstance(lane := entry.home, Lane) and lane.latest(entry) < self._held_until for entry in entries):
            self._held_until = -inf
        return self._held_until == -inf

    def is_open(self, now: float) -> bool:
        """Whether whoever comes now may leave now, as far as can be said before it is taken in."""
        return now >= self._crammed_until and now >= self._held_until

    def _relay(self, entry: Entry, now: float, reason: Release) -> bool:
        self._now = now
        return self._relay_batch(Batch([entry], merged=False), reason)

    def _relay_batch(self, batch: Batch, reason: Release = Release.ALONE) -> bool:
        endpoint = self.balancer.acquire_relay(batch.rows, batch.avoid, batch.key)
        if endpoint is None:
            return False
        self._relays.append(self._bind(Dispatch(batch, endpoint, self._now, reason, batch.rows, None)))
        return True

    # -- sending -----------------------------------------------------------------------------------

    def poll(self, now: float) -> Dispatch | None:
        """The next call to make, or None. Call until None."""
        if now >= self._outliers.due:
            self._outliers.look(now)
        if now >= self.overload.due:
            self.overload.look(now)
        while self._relays:
            relay = self._relays.popleft()
            if self._refresh(relay.batch, now):
                return relay
            del self._running[relay.batch]
            self._release(relay, now, answered=False)
        if self._again and now >= self._crammed_until and (found := self._front.next(now)) is not None:
            batch, endpoint = found
            return self._send(batch, endpoint, now, Release.AGAIN, batch.rows)
        if (dispatch := self._next_batch(now)) is None and self.hedging.watched:
            dispatch = self.hedging.next(now)
        return dispatch

    def _next_batch(self, now: float) -> Dispatch | None:
        """A batch of the lane whose turn it is; where nothing but full ones may leave, of one that is full."""
        while self._lanes.rows and now >= self._crammed_until:
            held = now < self._held_until
            passed_by = held and self._passed >= PASSES
            lane = self._lanes.next_full() if held and not passed_by else self._lanes.next_ripe(now)
            if lane is None:
                return None
            full, cap = passed_by or lane.full(), lane.cap
            head = lane.head()
            hurry = EASE if head is None else head.hurry
            endpoint = self._place(lane.key, cap if full else lane.rows, cap, now, (), lane.book.kept(hurry))
            if endpoint is None:
                if not full:
                    self._held = lane
                continue
            limit = endpoint.limit
            reason = Release.FULL if lane.full() else Release.SLOT if limit.in_flight else Release.IDLE
            if limit.hurried or (reason is not Release.FULL and lane.hurried(now)):
                reason = Release.DEADLINE
            if limit.draining:
                reason, cap = Release.TIMED, limit.at_most(cap)
            alone = lane.key.target in self.unbatched  # since it was queued
            cost = endpoint.cost(lane.key)
            cap = min(cap, lane.bind(cost, hurry.patience))
            most = 0 if alone else rows_to_take(lane, cap, cost, 0 if limit.draining else limit.partial)
            rows = lane.book.policy.padded(min(lane.rows, most))
            lane.batch_s = lead = limit.lead(cost, rows)
            lane.row_s = cost.seconds(cap) / (cap * limit.ceiling * len(self.balancer.endpoints))
            taken, late = lane.take(now, most, lead)
            self._unanswered.late += late
            self._lanes.rank(lane)
            if taken:
                batch = Batch(taken, merged=True)
                batch.padded = not alone
                self._passed = self._passed + 1 if held and not passed_by and lane is not self._held else 0
                dispatch = self._send(batch, endpoint, now, reason, cap)
                self._lanes.charge(lane, batch.rows, cost.seconds(dispatch.units) if cost.known else None)
                return dispatch
        return None

    def _place(
        self, key: BatchKey, rows: int, cap: int, now: float, avoid: Sequence[Endpoint] = (), hurry: Hurry = EASE
    ) -> Endpoint | None:
        """The endpoint for a batch; where there is none, what may be tried again, and when, is noted."""
        endpoint, opens = self.balancer.choose(key, rows, cap, now, avoid, hurry)
        if endpoint is None:
            self._held_until = opens
            if rows >= cap:
                self._crammed_until = opens
        return endpoint

    def _send(self, batch: Batch, endpoint: Endpoint, now: float, reason: Release, cap: int) -> Dispatch:
        self.balancer.take(endpoint, batch.rows)
        reason = reason if batch.family is None else Release.BISECT
        dispatch = Dispatch(batch, endpoint, now, reason, cap, endpoint.limit.depart(now))
        policy = self.policies[batch.key.model]
        dispatch.units = dispatch.sent = rows_sent(batch, policy)
        dispatch.count(endpoint.cost(batch.key).units)
        if reason is not Release.HEDGE:  # whose members are under way already
            self._bind(dispatch)
            if policy.hedging:
                self.hedging.watch(dispatch)
        return dispatch

    def _bind(self, dispatch: Dispatch) -> Dispatch:
        batch, running = dispatch.batch, RUNNING
        for entry in batch.entries:
            entry.state = running
        self._running[batch] = dispatch
        return dispatch

    def _refresh(self, batch: Batch, now: float) -> bool:
        """Drop the members of a waiting batch that left or are late; whether any remain."""
        for entry in batch.entries:
            if entry.waiter.done():
                entry.state = DONE
            elif entry.state is not DONE and entry.expired(now):
                entry.state = DONE
                self._unanswered.late.append(entry)
        for entry in batch.entries:
            if entry.state is DONE:
                batch.adopt()
                break
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
            The members to be failed, each with its error, and everyone who waits where no endpoint is up. Texts of a
            merged call are in it only where R3 allows.
        """
        race, decides = dispatch.race, True
        if race is not None:
            decides = self.hedging.end(dispatch, race, outcome, now)
        elif self.hedging.watched:
            self.hedging.forget(dispatch)
        if decides:
            del self._running[dispatch.batch]
        self._release(dispatch, now, answered=outcome is Outcome.OK)
        self._now = now
        self._outliers.ended(dispatch, outcome, error, now)
        self.retries.ended(now)
        failures = self._ends.settle(dispatch, outcome, error, now) if decides else []
        if outcome is not Outcome.OK:  # what is to be sent again may have nowhere to go
            failures += self.health.strand()
        return failures

    def answered(self, dispatch: Dispatch, version: int) -> None:
        """Which version of the model answers a call that is about to be settled; 0 where it does not say."""
        endpoint, model = dispatch.endpoint, dispatch.batch.key.model
        if endpoint.answered(dispatch.batch.key, version):
            self._notice(
                f"endpoint {endpoint.name}: model {model!r} answers as version {version}: what its batches cost is "
                "learned anew"
            )

    def _release(self, dispatch: Dispatch, now: float, *, answered: bool) -> None:
        endpoint = dispatch.endpoint
        endpoint.rows -= dispatch.rows
        if dispatch.flight is None:
            endpoint.relayed -= 1
            return
        if answered and self._compiling.teaches(dispatch, now):
            cost, filler = endpoint.cost(dispatch.batch.key), dispatch.units - dispatch.rows
            endpoint.limit.arrive(dispatch.flight, cost, dispatch.rows, dispatch.cap, now, filler)
            if endpoint.limit.full_window is not None:
                self._lanes.judge_cap(dispatch.batch.key.model, dispatch.cap, *endpoint.limit.full_window)
        else:
            endpoint.limit.drop(now)
        self.balancer.freed(endpoint)
        self._look_again()

    def _look_again(self) -> None:
        """What could not be sent when it was last tried may be now."""
        self._held_until = -inf
        self._crammed_until = -inf
        self._front.opens = -inf

    # -- leaving early -----------------------------------------------------------------------------

    def discard(self, entry: Entry) -> Sequence[Dispatch]:
        """The caller is gone or was answered: forget the entry, wherever it is.

        Returns:
            The calls in flight that nobody waits for any more, if this was their last live member.
        """
        home, running = entry.home, entry.state is RUNNING
        if entry.state is DONE:
            return ()
        entry.state = DONE
        if isinstance(home, Lane):
            if self._lanes.remove(home, entry) and self._held_until < inf:
                self._held_until = -inf  # whoever is behind it may have less time
        elif isinstance(home, Batch):
            home.live -= 1
            if running and not home.live and (dispatch := self._running.get(home)) is not None:
                return (dispatch,) if dispatch.race is None else dispatch.race.under_way()
        return ()

    def overdue(self, now: float) -> list[Entry]:
        """Everyone whose time is up, queued or running; each must be answered and discarded."""
        return self._unanswered.overdue(now, self.call_timeout_s)

    def late(self) -> bool:
        """Whether ``poll`` came upon entries whose time is up, so that ``overdue`` should be asked now."""
        return bool(self._unanswered.late)

    def wants(self, version: int) -> bool:
        """Whether anyone not yet answered means this version of a model."""
        return self._unanswered.wants(version)

    def reconfigure(self) -> None:
        """The policies that this was made with say something else now."""
        self._lanes.reconfigure(self.policies)
        self.unbatched.difference_update(self.canary.forgiven())
        self._look_again()

    # -- being looked at ---------------------------------------------------------------------------

    def wake_at(self, now: float) -> float | None:
        """When ``poll`` could next say something without a ``settle`` before it; None: not by itself."""
        if self._relays:
            return now
        opens = self._crammed_until
        if opens < inf:
            due = self._lanes.next_due()
            lanes = inf if due is None else max(due, self._held_until)
            if self._again:
                lanes = min(lanes, self._front.opens)
            opens = lanes if lanes == inf else max(opens, lanes)
        if self.hedging.watched:
            opens = min(opens, self.hedging.wake_at())
        return None if opens == inf else max(now, opens)

    @property
    def busy(self) -> bool:
        """Whether anything is queued or running."""
        return bool(self._running or self._again or self._unanswered.late or self._lanes.rows)

    @property
    def queued_bytes(self) -> int:
        """Bytes of the requests that wait in lanes."""
        return self._lanes.nbytes

    def quarantined(self) -> Iterator[Lane]:
        """Lanes whose batches are smaller for a while, since some were refused."""
        return self._lanes.quarantined()

    def queued_rows(self) -> dict[str, int]:
        """Model name to rows that wait in its lanes."""
        return {name: book.rows for name, book in self._lanes.books.items()}

    def __repr__(self) -> str:
        return f"Scheduler(lanes={len(self._lanes)}, queued_rows={self._lanes.rows}, running={len(self._running)})"
