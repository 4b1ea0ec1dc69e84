"""What is too long for one turn of the loop: bodies to be read, answers to be written, in one thread. No formats here.

A C function that reads two megabytes keeps the interpreter for milliseconds, and everybody else's answer waits. In a
thread it is interrupted between its steps, every ``SWITCH_S`` where the loop asks for that. More than one thread
would only make the loop wait more often: there is one, and what came first is done first.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

from batchproxy.core.errors import BatchProxyError, DeadlineExceeded, Draining, QueueFull
from batchproxy.frontends.call import internal_error

T = TypeVar("T")

logger = logging.getLogger("batchproxy.heavy")

LONG_BODY = 256 << 10
"""Bytes of a body up to which it is read at once (R7): some 2 ms of numbers."""

LONG_ANSWER = 64 << 10
"""Bytes of an answer's arrays up to which it is written at once: as text they are three times as long."""

MAX_WAITING_BYTES = 256 << 20
"""What may wait and be under way: as much as an engine's queue may hold (``core.scheduler.MAX_QUEUED_BYTES``)."""

SWITCH_S = 0.0005
"""For ``sys.setswitchinterval``: how long the thread may go on after the loop wants to; Python's own is 5 ms."""


class Waiting(Protocol):
    """Whoever wants to know what came of it."""

    def done(self) -> bool:
        """Whether it does no longer."""

    def set_exception(self, exception: BatchProxyError, /) -> None:
        """Why nothing came of it."""


@dataclass(slots=True, eq=False)
class _Job:
    caller: Waiting
    work: Callable[[], Any]
    then: Callable[[Any], None]
    nbytes: int
    timer: asyncio.TimerHandle | None = None
    key: Hashable = None


class Heavy:
    """The thread and what waits for it.

    Args:
        clock: monotonic seconds, the engines' own.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, "heavy")  # started by the first job
        self._waiting: deque[_Job] = deque()
        self._running: _Job | None = None
        self._following: dict[Hashable, list[_Job]] = {}
        self._nbytes = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def read(
        self, caller: Waiting, work: Callable[[], T], then: Callable[[T], None], nbytes: int, deadline: float | None
    ) -> None:
        """Read a body of ``nbytes``: here and now, or, a long one, as ``run`` does."""
        if nbytes > LONG_BODY:
            self.run(caller, work, then, nbytes, deadline)
            return
        try:
            result = work()
        except BatchProxyError as error:
            caller.set_exception(error)
        else:
            then(result)

    def run(
        self,
        caller: Waiting,
        work: Callable[[], T],
        then: Callable[[T], None],
        nbytes: int,
        deadline: float | None,
        key: Hashable = None,
    ) -> None:
        """Do something in the thread, after all that was asked for before, and go on with the result on the loop.

        Args:
            caller: told of whatever ``work`` raises, of its deadline, and that there is no room; once it is done
                nothing more happens for its sake.
            work: what to do; raises ``BatchProxyError``.
            then: gets the result.
            nbytes: what is held in memory for it, and counts.
            deadline: on ``clock``; None for none.
            key: see ``write``.
        """
        if self._nbytes and self._nbytes + nbytes > MAX_WAITING_BYTES:
            self._following.pop(key, None)
            caller.set_exception(QueueFull(f"{self._nbytes} bytes of long bodies wait to be read; try again"))
            return
        job = _Job(caller, work, then, nbytes, self._timer(caller, deadline), key)
        self._nbytes += nbytes
        self._waiting.append(job)
        self._idle.clear()
        self._begin()

    def write(
        self,
        key: Hashable,
        caller: Waiting,
        work: Callable[[], T],
        then: Callable[[T], None],
        again: Callable[[], None],
        deadline: float | None,
    ) -> None:
        """As ``run``, for one of those who want parts of the same: of whom one has the work, and others little then.

        Args:
            key: whatever is equal for all of them.
            caller: likewise.
            work: likewise.
            then: likewise.
            again: called instead, where somebody else's work of that key came first: when that has ended.
            deadline: likewise.
        """
        following = self._following.get(key)
        if following is not None:
            following.append(_Job(caller, again, then, 0, self._timer(caller, deadline)))
            return
        self._following[key] = []
        self.run(caller, work, then, 0, deadline, key)

    def unanswered(self) -> int:
        """How many callers wait for something here."""
        return sum(not job.caller.done() for job in self._jobs())

    def strand(self) -> int:
        """Tell everybody who waits here that nothing will come of it; returns how many they were."""
        waiting = self.unanswered()
        for job in self._jobs():
            _tell(job.caller, Draining("the proxy shut down before the answer was there"))
        return waiting

    async def idle(self) -> None:
        """Return once nothing waits and nothing is under way."""
        await self._idle.wait()

    def close(self) -> None:
        """Begin nothing more; what is under way ends by itself, and nobody hears of it."""
        self.strand()
        self._thread.shutdown(wait=False)

    # -- inside ------------------------------------------------------------------------------------

    def _jobs(self) -> list[_Job]:
        following = [job for jobs in self._following.values() for job in jobs]
        return [*self._waiting, *((self._running,) if self._running is not None else ()), *following]

    def _timer(self, caller: Waiting, deadline: float | None) -> asyncio.TimerHandle | None:
        if deadline is None:
            return None
        left_s = max(0.0, deadline - self._clock())
        return asyncio.get_running_loop().call_later(left_s, _tell, caller, DeadlineExceeded("Deadline Exceeded"))

    def _begin(self) -> None:
        """Begin the next job that somebody still wants, if none is under way."""
        while self._running is None:
            if not self._waiting:
                self._idle.set()
                return
            job = self._waiting.popleft()
            if job.caller.done():
                self._forget(job)
                self._follow(job)
                continue
            self._running = job
            doing = asyncio.get_running_loop().run_in_executor(self._thread, job.work)
            doing.add_done_callback(partial(self._ended, job))

    def _ended(self, job: _Job, doing: asyncio.Future[Any]) -> None:
        self._running = None
        self._forget(job)
        error = asyncio.CancelledError() if doing.cancelled() else doing.exception()
        try:
            if job.caller.done():
                return
            if error is None:
                job.then(doing.result())
            elif isinstance(error, BatchProxyError):
                job.caller.set_exception(error)
            else:
                raise error
        except Exception as failure:
            logger.exception("a long body or answer failed in an unforeseen way. This is a bug.")
            _tell(job.caller, internal_error(failure))
        finally:
            self._follow(job)
            self._begin()

    def _forget(self, job: _Job) -> None:
        self._nbytes -= job.nbytes
        if job.timer is not None:
            job.timer.cancel()

    def _follow(self, job: _Job) -> None:
        """Tell those who wait for what ``job`` had to do."""
        for other in self._following.pop(job.key, ()):
            self._forget(other)
            if not other.caller.done():
                other.work()


def _tell(caller: Waiting, error: BatchProxyError) -> None:
    if not caller.done():
        caller.set_exception(error)
