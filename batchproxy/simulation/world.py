"""The loop in virtual time that drives a real ``core.scheduler.Scheduler``, as ``engine.py`` does in real time.

Arrivals of the same instant are submitted together and polled once, as those of one turn of the event loop are; an
answer is settled and polled at once. There is no policy here: what leaves when, and to whom, is the scheduler's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from random import Random

from batchproxy.core.balancer import Endpoint
from batchproxy.core.batch import Dispatch
from batchproxy.core.errors import BackendRejected, BatchProxyError
from batchproxy.core.outcome import Outcome, outcome_of
from batchproxy.core.policy import Policy
from batchproxy.core.request import BatchKey, Entry, Reply, Request, State
from batchproxy.core.scheduler import Scheduler
from batchproxy.simulation.arrivals import Arrivals
from batchproxy.simulation.log import DRAIN_S, Log
from batchproxy.simulation.servers import Server

INF = math.inf

SWEEP_S = 0.05
"""How often those whose time is up are looked for: ``engine.SWEEP_S``."""

TIMER_S = 1e-5
"""The least time to a timer: an event loop's are no finer, and a scheduler that asks for now cannot stop the world."""

UNBOUNDED = 1 << 60
"""Rows that may wait: rivals refuse nobody either, so that the latencies of overloaded points can be compared."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Requests that are alike.

    Args:
        model: its name.
        tenant: callers that share calls only among themselves; "": everybody.
        deadline_s: how long its callers wait; None: for ever.
    """

    model: str = "m"
    tenant: str = ""
    deadline_s: float | None = None

    def key(self) -> BatchKey:
        """What it may ride with."""
        partition = (("x-tenant", self.tenant),) if self.tenant else ()
        return BatchKey(self.model, 1, "serving_default", partition=partition)


def build_scheduler(policies: Mapping[str, Policy], endpoints: Sequence[str]) -> Scheduler:
    """A scheduler with its endpoints up."""
    books = [Endpoint(name) for name in endpoints]
    scheduler = Scheduler(policies, books)
    for endpoint in books:
        scheduler.bring_back(endpoint)
    return scheduler


def policy(max_batch_rows: int) -> Policy:
    """What a user gets who sets nothing but the largest batch, without a bound on the queue."""
    return Policy(max_batch_rows=max_batch_rows, max_queued_rows=UNBOUNDED)


class _Caller:
    """Waits for nothing: the world reads its answers off the dispatches."""

    def done(self) -> bool:
        return False

    def set_result(self, result: Reply, /) -> None:
        """Never called."""

    def set_exception(self, exception: BatchProxyError, /) -> None:
        """Never called."""


class World:
    """A scheduler, its servers and what comes.

    Args:
        scheduler: as ``build_scheduler`` makes it.
        servers: endpoint name to server.
        arrivals: what comes.
        kinds: what ``arrivals.kinds`` index.
        watch: asked after each call, for ``Log.watched``.
        think: of chance, for callers that think.
        work: what a server counts as the rows of a call; None: its rows.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        servers: Mapping[str, Server],
        arrivals: Arrivals,
        *,
        kinds: Sequence[Kind] = (Kind(),),
        watch: Callable[[], float] | None = None,
        think: Random | None = None,
        work: Callable[[Dispatch], int] | None = None,
    ) -> None:
        self._work = work
        self.scheduler = scheduler
        self._servers = servers
        self._arrivals = arrivals
        self._kinds = kinds
        self._watch = watch
        self._think = think
        self._keys = [kind.key() for kind in kinds]
        self._hurried = any(kind.deadline_s is not None for kind in kinds)
        self._several = len(kinds) > 1
        self._kind_of = {key: index for index, key in enumerate(self._keys)}
        self._requests: dict[Hashable, Request] = {}
        self._heap: list[tuple[float, int, Server]] = []
        self._returning: list[float] = []
        self._looks = 0
        self._log = Log(0.0)

    def run(self, horizon_s: float, drain_s: float = DRAIN_S) -> Log:
        """Let everything come, and go on until all is answered or ``drain_s`` more have passed."""
        log = self._log = Log(horizon_s)
        arrivals, scheduler, heap, returning = self._arrivals, self.scheduler, self._heap, self._returning
        submit, late, hurried = scheduler.submit, scheduler.late, self._hurried
        times, kinds, rows, nbytes = arrivals.times, arrivals.kinds, arrivals.rows, arrivals.nbytes
        count, index = len(times), 0
        caller, plain = _Caller(), None if self._hurried or kinds or rows or nbytes else self._request(0, 1, 0.0)
        end = horizon_s + drain_s
        if arrivals.callers is not None:
            returning += [0.0] * arrivals.callers.count
        comes = times[0] if count else INF
        wake = sweep = INF
        while True:
            due = heap[0][0] if heap else INF
            now = min(comes, due, wake, sweep)
            if returning and returning[0] < now:
                now = returning[0]
            if now > end:
                break
            if due <= now:
                self._look(now)
                asked = True
            else:
                asked = wake <= now
            while comes <= now:
                request = plain or self._request(
                    kinds[index] if kinds else 0, rows[index] if rows else 1, now, nbytes[index] if nbytes else 0
                )
                index += 1
                comes = times[index] if index < count else INF
                try:
                    if submit(Entry(request, caller, now), now):
                        asked = True
                except BatchProxyError:
                    log.refused += 1
            if now >= horizon_s:
                returning.clear()
            while returning and returning[0] <= now:
                heappop(returning)
                log.requests += 1
                asked |= submit(Entry(self._request(0, 1, now), caller, now), now)
            if hurried:
                if sweep <= now or late():
                    self._sweep(now)
                    asked, sweep = True, INF
                if sweep == INF and scheduler.busy:
                    sweep = now + SWEEP_S
            if asked:
                wake = self._drain(now)
        log.requests += index
        return log

    def _drain(self, now: float) -> float:
        """Send all that the scheduler wants sent; returns when to ask it again."""
        scheduler, heap = self.scheduler, self._heap
        poll = scheduler.poll
        while (dispatch := poll(now)) is not None:
            server = self._servers[dispatch.endpoint.name]
            due = server.due
            work = dispatch.sent if self._work is None else self._work(dispatch)
            server.send(now, work, dispatch.batch.key.model, dispatch)
            if server.due != due:
                self._looks += 1
                heappush(heap, (server.due, self._looks, server))
        wake = scheduler.wake_at(now)
        return INF if wake is None else max(wake, now + TIMER_S)

    def _look(self, now: float) -> None:
        """Settle what is back."""
        heap = self._heap
        while heap and heap[0][0] <= now:
            at, _, server = heappop(heap)
            if server.due != at:
                continue  # since then it said another time, and stands in the heap with that one, too
            for dispatch, taken in server.answers(now):
                self._settle(dispatch, now, taken)
            if server.due < INF:
                self._looks += 1
                heappush(heap, (server.due, self._looks, server))

    def _settle(self, dispatch: Dispatch, now: float, taken: bool) -> None:
        log = self._log
        log.sent.append(dispatch.started)
        log.done.append(now)
        log.rows.append(dispatch.rows)
        if self._watch is not None:
            log.watched.append(self._watch())
        running = State.RUNNING
        arrived = [entry.arrival for entry in dispatch.batch.entries if entry.state is running]
        if not taken:
            error = BackendRejected(f"a batch of {dispatch.rows} rows is larger than the maximum batch size")
            log.failed += len(self.scheduler.settle(dispatch, now, outcome_of(error), error))
            return
        self.scheduler.settle(dispatch, now, Outcome.OK)
        log.arrived.extend(arrived)
        log.latency.extend([now - time for time in arrived])
        if self._several:
            log.kinds.extend([self._kind_of[dispatch.batch.key]] * len(arrived))
        callers = self._arrivals.callers
        if callers is not None:
            for _ in arrived:
                pause = self._think.expovariate(1 / callers.think_s) if self._think and callers.think_s else 0.0
                heappush(self._returning, now + pause)

    def _sweep(self, now: float) -> None:
        for entry in self.scheduler.overdue(now):
            self.scheduler.discard(entry)
            self._log.late += 1

    def _request(self, kind: int, rows: int, now: float, nbytes: int = 0) -> Request:
        """One for all that are alike: nothing changes a request. One each where it carries a deadline."""
        deadline_s = self._kinds[kind].deadline_s
        if deadline_s is not None:
            return Request(self._keys[kind], {}, rows, nbytes, now + deadline_s)
        request = self._requests.get((kind, rows, nbytes))
        if request is None:
            request = self._requests[kind, rows, nbytes] = Request(self._keys[kind], {}, rows, nbytes)
        return request


class Timed:
    """A scheduler whose calls are timed: stands where the scheduler stands.

    Args:
        scheduler: the real one.
        clock: seconds of processor time.

    Attributes:
        seconds: spent in it so far.
        calls: of its methods.
    """

    def __init__(self, scheduler: Scheduler, clock: Callable[[], float]) -> None:
        self._scheduler = scheduler
        self._clock = clock
        self.seconds = 0.0
        self.calls = 0

    def __getattr__(self, name: str) -> object:
        """A method of the real one, timed from then on."""
        method, clock = getattr(self._scheduler, name), self._clock
        if not callable(method):
            return method

        def timed(*args: object, **options: object) -> object:
            start = clock()
            try:
                return method(*args, **options)
            finally:
                self.seconds += clock() - start
                self.calls += 1

        setattr(self, name, timed)
        return timed
