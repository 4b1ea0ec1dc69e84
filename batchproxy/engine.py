"""The asyncio shell around one Scheduler: it acts, the scheduler decides. No protocol and no policy here.

After every input it drains what the scheduler wants sent and re-arms one timer. Requests that come in the same turn of
the loop are taken in together at its end and leave in the same batch; a lone one leaves at the end of its own turn.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, cast

from batchproxy.answering import answer, answer_all
from batchproxy.canary import Canaries
from batchproxy.core.assembly import merge, split
from batchproxy.core.balancer import MAX_RELAYED, Endpoint
from batchproxy.core.errors import BackendError, BackendUnavailable, BatchProxyError, Code, Draining
from batchproxy.core.lateness import why_late
from batchproxy.core.outcome import Outcome, outcome_of
from batchproxy.core.request import DONE, Entry, Reply, Request, Waiter
from batchproxy.core.scheduler import CALL_TIMEOUT_S, MAX_QUEUED_BYTES, Scheduler
from batchproxy.fleet import Fleet
from batchproxy.lending import CLOSED, Lending
from batchproxy.log import Notices
from batchproxy.observe import NullObserver
from batchproxy.relays import Cancellable, Relays, goes_as_it_came
from batchproxy.tasks import Tasks

if TYPE_CHECKING:
    from batchproxy.backends.base import Backend, Remote
    from batchproxy.core.batch import Dispatch
    from batchproxy.core.ends import Failure
    from batchproxy.core.policy import Policy
    from batchproxy.observe import Observer

logger = logging.getLogger("batchproxy.engine")

_CANCELLED = "the call was cancelled before its answer was there; try again"

SWEEP_S = 0.05
"""How late a caller may learn that its deadline has passed: one sweep a pool instead of a timer a request."""

CROWD = 8
"""Requests in one turn of the loop that others follow, mostly: these need no batch of their own, which takes 90 us."""


class Engine:
    """Drives one scheduler and the backends of its pool.

    Args:
        name: the pool's name, for logs.
        scheduler: decides.
        backends: endpoint name to the backend that carries its calls.
        observer: told of each call.
        endpoint: makes the book of an endpoint that is added later.
        clock: monotonic seconds.

    Attributes:
        fleet: its backends; endpoints are added and removed there.
    """

    def __init__(
        self,
        name: str,
        scheduler: Scheduler,
        backends: Mapping[str, Backend],
        *,
        observer: Observer,
        endpoint: Callable[[str], Endpoint] = Endpoint,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.scheduler = scheduler
        self.clock = clock
        self.policies: Mapping[str, Policy] = scheduler.policies
        self._observer = observer
        self.charge: Callable[[int], object] = abs  # told of bytes that are held, or no longer; nobody counts them
        self._tasks = Tasks()
        self.fleet = Fleet(scheduler, backends, endpoint, self._tasks, self._tell, self._pump_soon)
        self.backends: Mapping[str, Backend] = self.fleet.backends
        self.probe, self.keep_probing = self.fleet.probe, self.fleet.keep_probing
        charge = lambda nbytes: self.charge(nbytes)  # noqa: E731, PLW0108 - whose charge that is is told later
        self._canaries = Canaries(scheduler, self.fleet, self.policies, self._tasks, charge)
        self._calls: dict[Dispatch, Cancellable] = {}
        self._relays = Relays(self._calls, observer, self._end, self._failed)
        self._lending = Lending(name, scheduler.balancer, self.fleet, lambda: self._arm(self.clock()))
        self.borrow = self._lending.borrow
        self._arrivals: list[Entry] = []  # of this turn of the loop
        self._pumping = self._closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._idle = asyncio.Event()

    # -- the callers' side -------------------------------------------------------------------------

    def submit(self, request: Request, waiter: Waiter, arrival: float | None = None) -> Entry:
        """Take a request in; its waiter is told the outcome exactly once, never from inside this call.

        Those of one turn of the loop are taken in together at its end, and then told if they are refused.

        Args:
            request: what is asked.
            waiter: whom to tell.
            arrival: when it came, on the engine's clock, in seconds; None: now.

        Raises:
            Draining: shutting down: nothing was taken in, and the waiter is not told.
        """
        entry = Entry(request, waiter, self.clock() if arrival is None else arrival)
        self.submit_all((entry,))
        return entry

    def submit_all(self, entries: Sequence[Entry]) -> None:
        """``submit`` of several, of which there is one at least, and for which they are told likewise."""
        if self._closed:
            raise Draining(CLOSED)
        if not self._arrivals and not self._pumping:
            if self.scheduler.is_open(entries[0].arrival):
                self._pump_soon()
            else:  # most likely none of them can leave, and no task is needed
                asyncio.get_running_loop().call_soon(self._arrive)
        self._arrivals += entries

    def _arrive(self) -> None:
        """The end of a turn in which requests came that, most likely, have to wait."""
        if not self._arrivals:
            return
        now = self.clock()
        if self._take_in(now):
            self._pump()
        elif self._timer is None:  # one that is pending sweeps, too
            self._arm(now)

    def _take_in(self, now: float) -> bool:
        """Hand this turn's requests over, and tell who is refused; whether any may leave now."""
        arrivals, self._arrivals = self._arrivals, []
        try:
            news, failures = self.scheduler.submit_all(arrivals, now)
        except Exception as error:
            logger.exception("pool %r: requests could not be taken in. This is a bug.", self.name)
            lost = [entry for entry in arrivals if entry.home is None or entry.state is DONE]
            news, failures = True, [(entry, _unforeseen(error)) for entry in lost]
            for entry in lost:
                self.discard(entry)
        if failures:
            self._tell(failures)
        return news

    def discard(self, entry: Entry) -> None:
        """The caller is gone: its request leaves the queue, and a call nobody waits for is cancelled."""
        for abandoned in self.scheduler.discard(entry):
            if (call := self._calls.get(abandoned)) is not None:
                call.cancel()
        self._arm(self.clock())  # whoever is behind it may have less time

    # -- the rhythm --------------------------------------------------------------------------------

    def _pump_soon(self) -> None:
        if not self._pumping:
            self._pumping = True
            _ = self._tasks.spawn(f"call-{self.name}", self._pump_and_run())

    async def _pump_and_run(self) -> None:
        """Make the first call in the turn in which it may start: a model that answers without waiting answers in it.

        A turn later the next requests would be there already, and each batch have a part of the callers only.
        """
        if len(self._arrivals) >= CROWD:
            await asyncio.sleep(0)  # the rest of them has come, too, by then
        task, dispatch = asyncio.current_task(), self._pump(spare=1)
        if dispatch is not None and task is not None:
            self._calls[dispatch] = task
            await self._run(dispatch)

    def _pump(self, *, spare: int = 0) -> Dispatch | None:
        """Start every call that may start, tell the late ones, and look again when the scheduler says.

        Args:
            spare: 1: the first call is left to whoever asks, and returned.
        """
        self._pumping = False
        now = self.clock()
        if self._arrivals:
            self._take_in(now)
        first = None
        while (dispatch := self.scheduler.poll(now)) is not None:
            if self._relays.begin(dispatch, self.fleet.of(dispatch.endpoint), now):
                pass
            elif spare:
                first, spare = dispatch, 0
            else:
                task = self._calls[dispatch] = self._tasks.spawn(f"call-{self.name}", self._run(dispatch))
                task.add_done_callback(partial(self._never_began, dispatch))
        if self.scheduler.late():
            self._sweep(now)
        self._arm(now)
        return first

    def _arm(self, now: float) -> None:
        """Keep one timer pending while anybody waits: for the next ripe lane, or the next sweep of deadlines."""
        if not self.scheduler.busy:
            if self._lending.calls:
                self._idle.clear()
            else:
                self._idle.set()
            return
        self._idle.clear()
        wake = self.scheduler.wake_at(now)
        due = min(now + SWEEP_S, now + SWEEP_S if wake is None else wake)
        if self._timer is not None:
            if self._timer_at <= due:
                return
            self._timer.cancel()
        self._timer_at = due
        self._timer = asyncio.get_running_loop().call_later(due - now, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._sweep(self.clock())
        self._pump()

    def _sweep(self, now: float) -> None:
        for entry in self.scheduler.overdue(now):
            self.discard(entry)
            answer(entry, why_late(entry, now))

    # -- one call ----------------------------------------------------------------------------------

    async def _run(self, dispatch: Dispatch) -> None:
        members = tuple(dispatch.batch.entries)
        replies: Sequence[Reply] = ()
        outcome = Outcome.MAYBE_RUN
        error: BatchProxyError | None = None
        try:
            self._observer.call_started(dispatch, members)
            replies = await self._call(dispatch, members)
            outcome = Outcome.OK
        except BatchProxyError as failure:
            outcome, error = self._failed(dispatch, members, failure)
        except asyncio.CancelledError:
            pass  # nobody waits for it any more; if a backend cancelled itself, somebody does, and it is tried again
        except Exception as failure:
            logger.exception("model %r: a call failed in an unforeseen way. This is a bug.", dispatch.batch.key.model)
            outcome = Outcome.REJECTED
            error = _unforeseen(failure)
        finally:
            self._end(dispatch, members, replies, outcome, error)

    def _failed(
        self, dispatch: Dispatch, members: Sequence[Entry], failure: BatchProxyError
    ) -> tuple[Outcome, BatchProxyError]:
        if isinstance(failure, BackendUnavailable) and failure.raw is None:
            self.fleet.take_out(dispatch.endpoint, failure)  # it cannot be reached, it did not say so itself
        if isinstance(failure, BackendError) and not goes_as_it_came(members):
            failure.raw = None  # an answer to a call that we made is nobody's to be passed on
        return outcome_of(failure), failure

    def _never_began(self, dispatch: Dispatch, task: asyncio.Task[None]) -> None:
        """A task cancelled before its first step runs no line of its coroutine, not even ``finally``."""
        if dispatch in self._calls:
            self._end(dispatch, (), (), Outcome.MAYBE_RUN, None)

    async def _call(self, dispatch: Dispatch, members: Sequence[Entry]) -> Sequence[Reply]:
        batch, timeout_s = dispatch.batch, self._time_left(members)
        backend = self.fleet.of(dispatch.endpoint)
        raw = members[0].request.raw
        if raw is not None and goes_as_it_came(members):
            return [Reply({}, 0, raw=await cast("Remote", backend).relay(raw, timeout_s))]
        columns, sent = merge(members, self.policies[batch.key.model] if batch.padded else None)
        held = sum([column.nbytes for column in columns.values()]) if len(members) > 1 else 0  # a copy of theirs
        self.charge(held)
        try:
            reply = await backend.infer(batch.key, columns, timeout_s)
        finally:
            self.charge(-held)
        self.scheduler.answered(dispatch, reply.version)
        alone = len(members) == 1 and sent == (members[0].request.rows or 0)
        return [reply] if alone else split(members, reply, sent)

    def _time_left(self, members: Sequence[Entry]) -> float | None:
        """Until the last member has given up; None where one waits without a deadline (the scheduler gives up then)."""
        deadlines = [member.request.deadline for member in members]
        return None if None in deadlines else max(0.0, max(cast("list[float]", deadlines)) - self.clock())

    def _end(
        self,
        dispatch: Dispatch,
        members: Sequence[Entry],
        replies: Sequence[Reply],
        outcome: Outcome,
        error: BatchProxyError | None,
    ) -> None:
        """Settle a call and answer its members: on every path, cancellation included, which says no error."""
        del self._calls[dispatch]
        now = self.clock()
        if error is None and outcome is not Outcome.OK:
            error = BatchProxyError(_CANCELLED, code=Code.UNAVAILABLE)
        failures = self.scheduler.settle(dispatch, now, outcome, error)
        self._tell(failures)
        if dispatch.race is not None and dispatch.race.loser in self._calls:
            self._calls[dispatch.race.loser].cancel()
        if dispatch.endpoint.gone:
            self.fleet.released(dispatch.endpoint)
        self._pump()
        if len(replies) > 1 and self.scheduler.busy:  # the next call leaves before these are written
            asyncio.get_running_loop().call_soon(answer_all, members, replies)
        else:
            answer_all(members, replies)
        if len(replies) > 1:
            self._canaries.consider(dispatch, members, replies)
        self._observer.call_ended(dispatch, outcome, now - dispatch.started)

    # -- life --------------------------------------------------------------------------------------

    def _tell(self, failures: Sequence[Failure]) -> None:
        for entry, why in failures:
            answer(entry, why)

    async def drain(self) -> None:
        """Take nothing new and return once everybody is answered."""
        self._closed = self._lending.closed = True
        self._arrive()
        self._arm(self.clock())
        await self._idle.wait()

    def strand(self) -> int:
        """Tell everybody who still waits that no answer will come; returns how many they were."""
        self._closed = self._lending.closed = True
        stranded = self._waiting()
        why = Draining("the proxy shut down before the answer was there")
        for entry in stranded:
            self.discard(entry)
            answer(entry, why)
        streams = tuple(self._lending.calls)
        for end in streams:
            end(why)
        return len(stranded) + len(streams)

    def unanswered(self) -> int:
        """How many still wait."""
        return len(self._waiting()) + len(self._lending.calls)

    def wants(self, version: int) -> bool:
        """Whether anyone not yet answered means this version of a model."""
        return self.scheduler.wants(version) or any(entry.request.key.version == version for entry in self._arrivals)

    def _waiting(self) -> list[Entry]:
        return self.scheduler.stranded() + [entry for entry in self._arrivals if entry.state is not DONE]

    async def aclose(self) -> int:
        """End at once: whoever still waits is told so. Returns how many that were."""
        stranded = self.strand()
        await self._tasks.aclose()
        if self._timer is not None:
            self._timer.cancel()
        await self.fleet.aclose()
        return stranded


def _unforeseen(error: Exception) -> BatchProxyError:
    return BatchProxyError(f"internal error: {type(error).__name__}. This is a bug.", code=Code.INTERNAL)


def build_engine(
    name: str,
    backends: Mapping[str, Backend],
    policies: Mapping[str, Policy],
    *,
    max_inflight: int | None = None,
    max_relayed: int = MAX_RELAYED,
    max_queued_bytes: int = MAX_QUEUED_BYTES,
    call_timeout_s: float = CALL_TIMEOUT_S,
    observer: Observer | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Engine:
    """An engine over one pool: how the server and the library both make theirs.

    Args:
        name: the pool's name, for logs and metrics.
        backends: endpoint name to what carries its calls.
        policies: model name to policy.
        max_inflight: merged calls an endpoint may have at once; None: learned.
        max_relayed: unmerged calls an endpoint may have at once.
        max_queued_bytes: what may wait in the pool's lanes together.
        call_timeout_s: how long a member without a deadline waits for a call in flight; 0: for ever.
        observer: told of each call.
        clock: monotonic seconds.
    """
    endpoint = partial(Endpoint, max_inflight=max_inflight, max_relayed=max_relayed)
    scheduler = Scheduler(
        policies,
        [endpoint(address) for address in backends],
        max_queued_bytes=max_queued_bytes,
        call_timeout_s=call_timeout_s,
        notice=Notices(logger),
    )
    return Engine(name, scheduler, backends, observer=observer or NullObserver(), endpoint=endpoint, clock=clock)
