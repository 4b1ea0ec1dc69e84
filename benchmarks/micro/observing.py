"""What counting costs: the Prometheus observer, per request of a full batch."""

from __future__ import annotations

from collections.abc import Sequence

from batchproxy.core.balancer import Endpoint
from batchproxy.core.batch import Batch, Dispatch, Release
from batchproxy.core.errors import Code
from batchproxy.core.outcome import Outcome
from batchproxy.core.request import Entry
from batchproxy.metrics import Metrics
from benchmarks.micro import scheduling
from benchmarks.micro.timing import Case, Round


def cases() -> Sequence[Case]:
    """One case: a call's start and end, and the end of each of its 64 requests."""
    return [Case("metrics observer", _observe)]


def _observe() -> Round:
    metrics = Metrics(lambda: ())
    members = [Entry(request, scheduling.PATIENT, 0.0) for request in scheduling.requests(1, scheduling.BATCH)]
    batch, endpoint = Batch(members, merged=True), Endpoint("null")
    dispatch = Dispatch(batch, endpoint, 0.003, Release.FULL, batch.rows, endpoint.limit.depart(0.003))

    def work() -> int:
        metrics.call_started(dispatch, members)
        metrics.call_ended(dispatch, Outcome.OK, 0.002)
        for _ in members:
            metrics.request_ended("m0", "Predict", "grpc", Code.OK, 0.005)
        return len(members)

    return work
