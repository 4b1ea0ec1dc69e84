"""What all callers of one load process share: the clock, the numbers of requests, and what came back."""

from __future__ import annotations

import asyncio
import itertools
import time
from array import array
from pathlib import Path

from benchmarks.load.job import Job, Result
from benchmarks.load.payloads import Payload

TICKS = 100
"""Steps of /proc's times in a second: ``USER_HZ``, which Linux fixes at 100."""


class Recorder:
    """Counts right answers in the measured time, and faults at any time.

    Args:
        job: says how long.
        payload: says what is right.
    """

    def __init__(self, job: Job, payload: Payload) -> None:
        self.requests = payload.requests
        self._payload = payload
        self._job = job
        self._numbers = itertools.cycle(range(len(payload.requests)))
        self._times = array("d")
        self._measuring = False
        self.going = True
        self.result = Result()

    def next_number(self) -> int:
        """Which request to send next."""
        return next(self._numbers)

    def answered(self, number: int, sent_at: float, answer: bytes) -> None:
        """A caller got its answer."""
        if not self._payload.right(number, answer):
            self.result.wrong += 1
            self.result.fault = self.result.fault or f"wrong answer to request {number}: {answer[:200]!r}"
        elif self._measuring:
            self._times.append(time.perf_counter() - sent_at)

    def lost(self, why: str) -> None:
        """A caller got none."""
        self.result.lost += 1
        self.result.fault = self.result.fault or why

    async def run(self) -> None:
        """Let the load warm up, then measure; afterwards nobody sends any more."""
        await asyncio.sleep(self._job.warm_s)
        server, behind = server_cpu_s(self._job.pid), server_cpu_s(self._job.behind_pid)
        load, start = time.process_time(), time.perf_counter()
        self._measuring = True
        await asyncio.sleep(self._job.seconds)
        self._measuring = self.going = False
        result = self.result
        result.seconds = time.perf_counter() - start
        result.load_cpu_s = time.process_time() - load
        result.server_cpu_s = server_cpu_s(self._job.pid) - server
        result.behind_cpu_s = server_cpu_s(self._job.behind_pid) - behind
        times = sorted(self._times)
        result.answered = len(times)
        if times:
            result.p50_ms = 1000 * times[len(times) // 2]
            result.p99_ms = 1000 * times[len(times) * 99 // 100]


def server_cpu_s(pid: int) -> float:
    """User and system time of a process, all its threads, in seconds (Linux); 0 for process 0, which is none."""
    if not pid:
        return 0.0
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="latin-1")
    fields = stat.rpartition(")")[2].split()  # the name before may hold blanks
    return (int(fields[11]) + int(fields[12])) / TICKS  # utime and stime, fields 14 and 15 of proc(5)
