"""A load at a given pace, in a process of its own: ``python -m benchmarks.wire.paced JSON`` prints a Result as JSON."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from benchmarks.wire import callers

WARM = 3
"""Calls of each caller before the pace begins."""


@dataclass(frozen=True)
class Pace:
    """What to send.

    Attributes:
        protocol: ``rest`` or ``grpc``.
        port: of the server.
        model: asked for, in a REST path.
        body: file with the body, without gRPC's prefix.
        callers: connections.
        per_second: calls a second, of all callers together.
        seconds: for how long.
    """

    protocol: str
    port: int
    model: str
    body: str
    callers: int
    per_second: float
    seconds: float


@dataclass(frozen=True)
class Result:
    """What was seen: a call that had to wait for its caller's last one is counted from when it was due."""

    answered: int
    failed: int
    fault: str
    p50_ms: float
    p99_ms: float


def start(pace: Pace) -> subprocess.Popen[str]:
    """Run a load beside others; returns when its callers are warm and the pace begins."""
    command = [sys.executable, "-m", "benchmarks.wire.paced", json.dumps(asdict(pace))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    _ = process.stdout.readline()
    return process


def finish(process: subprocess.Popen[str]) -> Result:
    """Wait for a load's result."""
    told, _ = process.communicate()
    if process.returncode:
        return Result(0, 1, f"the load process ended with status {process.returncode}", 0.0, 0.0)
    return Result(**json.loads(told))


class _Load:
    """Callers, a thread each, and what they saw."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._body = Path(pace.body).read_bytes()
        self._times: list[float] = []
        self._faults: list[str] = []
        self._ready = threading.Barrier(pace.callers, partial(print, "warm", flush=True))

    def run(self) -> Result:
        threads = [threading.Thread(target=self._caller, args=(number,)) for number in range(self._pace.callers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        times = sorted(self._times)
        return Result(
            len(times),
            len(self._faults),
            self._faults[0] if self._faults else "",
            1000 * times[len(times) // 2] if times else 0.0,
            1000 * times[len(times) * 99 // 100] if times else 0.0,
        )

    def _caller(self, number: int) -> None:
        pace = self._pace
        with closing(callers.connect(pace.protocol, pace.port, pace.model, self._body)) as caller:
            for _ in range(WARM):
                self._call(caller)
            self._ready.wait()
            interval = pace.callers / pace.per_second
            start = time.perf_counter() + interval * number / pace.callers
            for turn in range(round(pace.seconds / interval)):
                due = start + interval * turn
                wait_s = due - time.perf_counter()
                if wait_s > 0:
                    time.sleep(wait_s)
                sent_at = time.perf_counter() if wait_s > 0 else due
                if self._call(caller):
                    self._times.append(time.perf_counter() - sent_at)

    def _call(self, caller: callers.Caller) -> bool:
        try:
            _ = caller.call(self._body)
        except (callers.CallError, OSError) as error:
            self._faults.append(str(error))
            return False
        return True


if __name__ == "__main__":
    print(json.dumps(asdict(_Load(Pace(**json.loads(sys.argv[1]))).run())))
