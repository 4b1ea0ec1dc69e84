"""The pure scheduler with a fake clock: submit, poll and settle, as the engine calls them. No loop, no models."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import count

import numpy as np

from batchproxy.core.balancer import Endpoint
from batchproxy.core.columns import ArrayColumn
from batchproxy.core.outcome import Outcome
from batchproxy.core.policy import Policy
from batchproxy.core.request import Entry, Reply, Request, build_request
from batchproxy.core.scheduler import Scheduler
from batchproxy.core.shapes import Signature, TensorSpec
from benchmarks.micro.timing import Case, Round

BATCH = 64
FAR = 1e9
"""A deadline that never comes, on a clock that begins at 0."""

_SIGNATURE = Signature({"x": TensorSpec("float32", (None, 8))}, {"y": TensorSpec("float32", (None, 8))})


class Patient:
    """A waiter that takes what it is given."""

    __slots__ = ()

    def done(self) -> bool:
        return False

    def set_result(self, result: Reply, /) -> None: ...

    def set_exception(self, exception: Exception, /) -> None: ...


PATIENT = Patient()


def requests(lanes: int, each: int, deadline: float | None = None, width: int = 8) -> list[Request]:
    """``each`` requests of one row for each of ``lanes`` models, interleaved; models are ``m0``, ``m1``, ..."""
    row = np.arange(width, dtype=np.float32)[np.newaxis]
    return [
        build_request((f"m{lane}", 1, "serving_default"), _SIGNATURE, {"x": ArrayColumn(row + number)}, None, deadline)
        for number in range(each)
        for lane in range(lanes)
    ]


def cases() -> Sequence[Case]:
    """One lane and eight, with and without deadlines; then what else is paid per request around them."""
    return [
        Case("scheduler, 1 lane", partial(_rhythm, 1, None)),
        Case("scheduler, 1 lane, deadlines", partial(_rhythm, 1, FAR), "scheduler, 1 lane"),
        Case("scheduler, 8 lanes", partial(_rhythm, 8, None), "scheduler, 1 lane"),
        Case("scheduler, 8 lanes, deadlines", partial(_rhythm, 8, FAR), "scheduler, 1 lane"),
        Case("sweep of 512 waiting, with deadlines", _sweep),
        Case("build_request, one input", _build),
    ]


def _scheduler(lanes: int) -> Scheduler:
    endpoint = Endpoint("null")
    endpoint.up = True
    return Scheduler({f"m{lane}": Policy(max_batch_rows=BATCH) for lane in range(lanes)}, [endpoint])


def _rhythm(lanes: int, deadline: float | None) -> Round:
    """Submit a full batch for each lane, then poll and settle until nothing waits."""
    scheduler = _scheduler(lanes)
    arriving = requests(lanes, BATCH, deadline)
    clock = count(1.0, 0.001)

    def work() -> int:
        now = next(clock)
        for request in arriving:
            scheduler.submit(Entry(request, PATIENT, now), now)
        running = []
        while scheduler.busy:
            while (dispatch := scheduler.poll(now)) is not None:
                running.append(dispatch)
            for dispatch in running:
                scheduler.settle(dispatch, now, Outcome.OK)
            running.clear()
        return len(arriving)

    return work


def _sweep() -> Round:
    scheduler = _scheduler(8)
    arriving = requests(8, BATCH, FAR)
    for request in arriving:
        scheduler.submit(Entry(request, PATIENT, 0.0), 0.0)

    def work() -> int:
        scheduler.overdue(1.0)
        return len(arriving)

    return work


def _build() -> Round:
    columns = {"x": ArrayColumn(np.zeros((1, 8), np.float32))}
    target = ("m0", 1, "serving_default")

    def work() -> int:
        for _ in range(BATCH):
            build_request(target, _SIGNATURE, columns)
        return BATCH

    return work
