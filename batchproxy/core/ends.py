"""What becomes of the members of a call that has ended: R3's table, with bisecting and retries. Sends nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

from batchproxy.core.balancer import Balancer, Endpoint
from batchproxy.core.batch import Batch, Bisection, Dispatch
from batchproxy.core.cap import power
from batchproxy.core.errors import BatchProxyError, Code, DeadlineExceeded
from batchproxy.core.lanes import Lanes
from batchproxy.core.outcome import Outcome
from batchproxy.core.policy import Policy
from batchproxy.core.request import DONE, QUEUED, RUNNING, BatchKey, Entry, Target
from batchproxy.core.retries import Retries, is_in_time

MAX_ATTEMPTS = 3
"""Endpoints a call that did not run may be tried on."""

Failure = tuple[Entry, BatchProxyError]


class Ends:
    """Settles calls for one scheduler.

    Args:
        policies: model name to policy.
        lanes: of the scheduler.
        balancer: of the scheduler.
        relay: binds an unmerged batch to an endpoint; False where none has room.
        retries: the pool's budget.
        notice: told of each change of state that an operator should know, in one line.

    Attributes:
        front: batches that go before everything that waits in lanes.
        unbatched: targets whose requests travel alone from now on.
    """

    def __init__(
        self,
        policies: Mapping[str, Policy],
        lanes: Lanes,
        balancer: Balancer,
        relay: Callable[[Batch], bool],
        retries: Retries,
        notice: Callable[[str], None],
    ) -> None:
        self.front: deque[Batch] = deque()
        self.unbatched: set[Target] = set()
        self._policies = policies
        self._lanes = lanes
        self._balancer = balancer
        self._relay = relay
        self._retries = retries
        self._notice = notice

    def settle(self, dispatch: Dispatch, outcome: Outcome, error: BatchProxyError | None, now: float) -> list[Failure]:
        """As the scheduler's, whose slot is free again by now."""
        batch = dispatch.batch
        failures = self._settled(dispatch, outcome, error, now)
        self.requeue_released(batch)
        return failures

    def _settled(
        self, dispatch: Dispatch, outcome: Outcome, error: BatchProxyError | None, now: float
    ) -> list[Failure]:
        batch = dispatch.batch
        shared, running = dispatch.shared, RUNNING
        batch.entries = [entry for entry in batch.entries if entry.state is running]
        if outcome is Outcome.OK:
            self._settle_ok(batch, dispatch.sent)
            return []
        assert error is not None, "a call that failed has no error. This is a bug."
        if outcome in {Outcome.NOT_RUN, Outcome.MAYBE_RUN} and batch.entries:
            if shared and outcome is Outcome.MAYBE_RUN:
                error = BatchProxyError("the connection was lost after the call was sent", code=Code.UNAVAILABLE)
            return self._try_elsewhere(dispatch, outcome, error, now)
        if outcome is Outcome.SAME_FOR_ALL and error.code is Code.NOT_FOUND and self._is_elsewhere(dispatch):
            return self._try_where_it_is(dispatch, error)
        batch.leave_family()
        if not batch.entries:
            return []
        if outcome is Outcome.SAME_FOR_ALL:
            return self._fail(batch.entries, error)
        if not shared and not self._padded_in_vain(dispatch, outcome):
            return self._fail(batch.entries, error)
        if outcome is Outcome.LATE:
            return self._fail(batch.entries, DeadlineExceeded("Deadline Exceeded"))
        if outcome is Outcome.TOO_BIG_OR_BUSY:
            batch.failed_at(dispatch.endpoint)
        return self._settle_rejected(batch, shared, outcome, error)

    def _padded_in_vain(self, dispatch: Dispatch, outcome: Outcome) -> bool:
        """Whether a lone request may do better as it came."""
        if outcome is Outcome.TOO_BIG_OR_BUSY:
            return dispatch.sent > dispatch.rows and self._policies[dispatch.batch.key.model].idempotent
        return outcome is Outcome.UNSPLITTABLE and dispatch.batch.padded

    def _settle_ok(self, batch: Batch, sent: int) -> None:
        batch.leave_family()
        done = DONE
        for entry in batch.entries:
            entry.state = done
        if batch.halved:
            quarantined = self._lanes.lane(batch.key)
            passed = power(sent) if quarantined.book.rounded else sent
            quarantined.book.cap.refused(passed)
            if quarantined.lower_cap(passed):
                self._lanes.rank(quarantined)  # it may be full now
                self._notice(f"model {batch.key.model!r}: the backend took {sent} rows at a time, but not more")
        elif batch.merged and batch.family is None and (lane := self._lanes.find(batch.key)) is not None:
            was_left = lane.clean_left
            lane.note(bad=False)
            if was_left and not lane.clean_left:
                model, version, signature = batch.key.target
                self._notice(
                    f"model {model!r}, version {version}, {signature!r}: 32 good batches have passed; "
                    f"up to {lane.cap} rows ride together again"
                )
            if not lane.live:
                self._lanes.rank(lane)  # it may be forgotten, now that it remembers nothing

    def _settle_rejected(self, batch: Batch, shared: bool, outcome: Outcome, error: BatchProxyError) -> list[Failure]:
        model, version, signature = batch.key.target
        if outcome is Outcome.UNSPLITTABLE:
            self.stop_batching(batch.key, error.message)
        if not self._policies[model].idempotent:
            self.stop_batching(batch.key, "a merged call was rejected and idempotent: false forbids to run it again")
            text = (
                f"a call that this request shared was rejected ({error.code.name}); model {model!r} is configured "
                "idempotent: false, so it was not run again by itself. Later requests travel alone"
            )
            return self._fail(batch.entries, BatchProxyError(text, code=Code.ABORTED))
        for entry in batch.entries:
            entry.state = QUEUED
        if outcome is Outcome.UNSPLITTABLE or not shared:
            batch.padded = False
            sizes = [1] * len(batch.entries)
            # a lone one was padded in vain: running it as it came is no part of any bisecting
            pieces = batch.family.cut(batch, sizes) if batch.family and shared else batch.cut(sizes)
            self.front.extendleft(reversed(pieces))
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

    def requeue_released(self, batch: Batch) -> None:
        """A batch has ended: what of its family may be sent now goes before everything that waits."""
        if batch.family is not None:
            self.front.extendleft(reversed(batch.family.release()))

    def _try_elsewhere(self, dispatch: Dispatch, outcome: Outcome, error: BatchProxyError, now: float) -> list[Failure]:
        batch = dispatch.batch
        if outcome is Outcome.MAYBE_RUN and not self._policies[batch.key.model].idempotent:
            batch.leave_family()
            text = "the connection was lost after the call was sent, and idempotent: false forbids to run it again"
            return self._fail(batch.entries, BatchProxyError(text, code=Code.UNAVAILABLE))
        failures: list[Failure] = []
        cost, again = dispatch.endpoint.cost(batch.key), self._balancer.any_up()
        hopeful: list[Entry] = []
        for entry in batch.entries:
            entry.attempts += 1
            in_time = again and is_in_time(cost, dispatch.sent, entry.request.deadline, now)
            if in_time and entry.attempts < MAX_ATTEMPTS:
                hopeful.append(entry)
            else:
                failures += self._fail([entry], error)
        if hopeful and not self._retries.allow(now):
            failures += self._fail(hopeful, error)
            hopeful = []
        for entry in hopeful:
            entry.state = QUEUED
        return failures + self._send_again(batch, dispatch.endpoint, error)

    def _is_elsewhere(self, dispatch: Dispatch) -> bool:
        """Whether another endpoint may have the model that this one lacks; not asked of names that may be made up."""
        key, balancer = dispatch.batch.key, self._balancer
        if not key.model or len(balancer.endpoints) == 1:
            return False
        return balancer.placement.lacks(dispatch.endpoint, key.model, key.version, balancer.endpoints, self._notice)

    def _try_where_it_is(self, dispatch: Dispatch, error: BatchProxyError) -> list[Failure]:
        """No retry in the sense of the budget: nothing failed, and each endpoint is asked once at most."""
        batch, most = dispatch.batch, max(MAX_ATTEMPTS, len(self._balancer.endpoints))
        placement = self._balancer.placement
        failures: list[Failure] = []
        for entry in batch.entries:
            entry.attempts += 1
            if entry.attempts < most:
                entry.state = QUEUED
            else:
                failures += self._fail([entry], error)
                placement.nobody(batch.key.model, batch.key.version)
        return failures + self._send_again(batch, dispatch.endpoint, error)

    def _send_again(self, batch: Batch, failed: Endpoint, error: BatchProxyError) -> list[Failure]:
        """What is left of a batch goes before everything that waits, to another endpoint if it can."""
        batch.failed_at(failed)
        batch.adopt()
        if not batch.live:
            batch.leave_family()
        elif batch.merged:
            self.front.appendleft(batch)
        elif not self._relay(batch):
            return self._fail(batch.entries, error)
        return []

    def _fail(self, entries: list[Entry], error: BatchProxyError) -> list[Failure]:
        for entry in entries:
            entry.state = DONE
        return [(entry, error) for entry in entries]

    def stop_batching(self, key: BatchKey, why: str) -> None:
        """Requests of this target travel alone from now on."""
        if key.target not in self.unbatched:
            self.unbatched.add(key.target)
            model, version, signature = key.target
            self._notice(f"model {model!r}, version {version}, {signature!r}: batching is off from now on: {why}")
