"""Counting, and what Prometheus reads."""

from __future__ import annotations

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from batchproxy.core.balancer import Endpoint
from batchproxy.core.batch import Batch, Dispatch, Release
from batchproxy.core.columns import ArrayColumn
from batchproxy.core.errors import Code
from batchproxy.core.outcome import Outcome
from batchproxy.core.request import BatchKey, Entry, build_request
from batchproxy.core.shapes import UNDECLARED
from batchproxy.histograms import NOTED
from batchproxy.metrics import Metrics
from tests.serving import Recorder, a_directory


def a_dispatch(rows: int, arrivals: list[float], started: float) -> Dispatch:
    """A call of model ``m`` to endpoint ``e``."""
    entries = []
    for arrival in arrivals:
        request = build_request(("m", 1, "s"), UNDECLARED, {"x": ArrayColumn(np.zeros(rows))})
        entries.append(Entry(request, waiter=None, arrival=arrival))  # type: ignore[arg-type]
    batch, endpoint = Batch(entries, merged=True), Endpoint("e")
    return Dispatch(batch, endpoint, started, Release.IDLE, batch.rows, endpoint.limit.depart(started))


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample, read by the Prometheus client's own parser."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
    }


def test_calls_and_requests_are_counted_under_their_labels() -> None:
    """The names are ruling R8's."""
    metrics = Metrics(list)
    dispatch = a_dispatch(3, [1.0, 2.0], 4.0)
    metrics.call_started(dispatch, dispatch.batch.entries)
    metrics.call_ended(dispatch, Outcome.OK, 0.2)
    metrics.request_ended("m", "predict", "rest", Code.OK, 0.3)
    metrics.request_ended("m", "predict", "rest", Code.OK, 0.3)
    found = samples(metrics)

    m = ("model", "m")
    requests = (("code", "OK"), ("method", "predict"), m, ("protocol", "rest"))
    assert 2 == found["batchproxy_requests_total", requests]
    assert 2 == found["batchproxy_request_seconds_count", (("method", "predict"), m, ("protocol", "rest"))]
    assert 5.0 == found["batchproxy_queue_seconds_sum", (m,)]
    assert 6.0 == found["batchproxy_batch_rows_sum", (m,)]
    assert 1 == found["batchproxy_batch_rows_bucket", (("le", "8.0"), m)]
    assert 0.2 == found["batchproxy_backend_seconds_sum", (("endpoint", "e"), m)]
    assert 1 == found["batchproxy_backend_calls_total", (("endpoint", "e"), m, ("outcome", "OK"))]


def test_a_counter_counts_under_its_labels_beside_what_is_told_with_them() -> None:
    """However many: some are in their buckets already, some are only noted."""
    metrics = Metrics(list)
    counter = metrics.counter("m", "predict", "rest")
    for _ in range(NOTED + 1):
        counter.count(Code.OK, 0.25)
    metrics.request_ended("m", "predict", "rest", Code.OK, 0.25)
    found = samples(metrics)

    labels = (("method", "predict"), ("model", "m"), ("protocol", "rest"))
    assert NOTED + 2 == found["batchproxy_requests_total", (("code", "OK"), *labels)]
    assert NOTED + 2 == found["batchproxy_request_seconds_count", labels]
    assert 0.25 * (NOTED + 2) == found["batchproxy_request_seconds_sum", labels]


async def test_gauges_are_read_off_the_engines_and_all_their_names_are_there() -> None:
    """Every metric of ruling R8 appears, and what is held, with the pool's endpoint up and idle."""
    async with a_directory(Recorder()) as directory:
        metrics = Metrics(lambda: [served.engine for served in directory.models()], lambda: 7)
        text = metrics.render().decode()
        found = samples(metrics)

    endpoint = (("endpoint", "half_plus_two"), ("pool", "half_plus_two"))
    assert 1 == found["batchproxy_endpoint_up", endpoint]
    assert 0 == found["batchproxy_in_flight", endpoint]
    assert 0 == found["batchproxy_queued_rows", (("model", "half_plus_two"),)]
    assert 0 == found["batchproxy_queued_bytes", (("pool", "half_plus_two"),)]
    assert 7 == found["batchproxy_buffered_bytes", ()]
    for name in (
        "requests_total",
        "request_seconds",
        "queue_seconds",
        "backend_seconds",
        "batch_rows",
        "queued_rows",
        "queued_bytes",
        "buffered_bytes",
        "in_flight",
        "endpoint_up",
        "endpoint_ejected",
        "retries_total",
        "quarantined_lanes",
        "backend_calls_total",
        "hedges_total",
        "pool_panic",
        "shedding",
    ):
        assert f"# TYPE batchproxy_{name} " in text


def test_the_summary_of_a_model_is_zero_before_its_first_call() -> None:
    """No division by nothing."""
    expected = {"requests": 0, "failed": 0, "backend_calls": 0, "rows": 0.0, "mean_batch": 0.0, "mean_wait_ms": 0.0}

    assert expected == Metrics(list).summary("m")


def test_the_summary_of_a_model_tells_mean_batch_and_wait() -> None:
    """Two calls of 4 and 2 rows, waits of 1 s and 3 s."""
    metrics = Metrics(list)
    for rows, arrival in ((4, 3.0), (2, 1.0)):
        dispatch = a_dispatch(rows, [arrival], 4.0)
        metrics.call_started(dispatch, dispatch.batch.entries)
    metrics.request_ended("m", "predict", "rest", Code.OK, 0.1)
    metrics.request_ended("m", "predict", "rest", Code.INTERNAL, 0.1)
    summary = metrics.summary("m")

    assert (2, 1, 2, 3.0, 2000.0) == (
        summary["requests"],
        summary["failed"],
        summary["backend_calls"],
        summary["mean_batch"],
        summary["mean_wait_ms"],
    )


async def test_what_was_learned_is_read_off_the_endpoints() -> None:
    """Limits of each endpoint, and costs of each model that was answered there; no others."""
    async with a_directory(Recorder()) as directory:
        [served] = directory.models()
        metrics = Metrics(lambda: [served.engine])
        [endpoint] = served.engine.scheduler.balancer.endpoints
        before = samples(metrics)
        cost = endpoint.cost(BatchKey("half_plus_two", 1, "s"))
        for rows in (1, 16):
            cost.seen(rows)
            cost.learn(rows, 0.01 + 0.001 * rows, 1)
        endpoint.limit.draining = True
        found = samples(metrics)

    place = (("endpoint", "half_plus_two"), ("pool", "half_plus_two"))
    kind = (("endpoint", "half_plus_two"), ("model", "half_plus_two"))
    assert ("batchproxy_batching_gain", kind) not in before
    assert 0 == before["batchproxy_endpoint_draining", place]
    assert 1 == found["batchproxy_endpoint_draining", place]
    assert endpoint.limit.ceiling == found["batchproxy_endpoint_ceiling", place]
    assert endpoint.limit.partial == found["batchproxy_endpoint_partial_limit", place]
    assert endpoint.limit.full == found["batchproxy_endpoint_full_limit", place]
    assert cost.alpha == found["batchproxy_cost_alpha_seconds", kind]
    assert cost.beta == found["batchproxy_cost_beta_seconds", kind]
    assert cost.noise == found["batchproxy_cost_noise", kind]
    assert cost.gain(cost.rows) == pytest.approx(found["batchproxy_batching_gain", kind])


def test_batches_are_counted_by_why_they_left() -> None:
    """For Prometheus, and for the page."""
    metrics = Metrics(list)
    for reason in (Release.IDLE, Release.FULL, Release.IDLE):
        dispatch = a_dispatch(1, [1.0], 4.0)
        dispatch.reason = reason
        metrics.call_started(dispatch, dispatch.batch.entries)
    found = samples(metrics)

    assert 2 == found["batchproxy_batches_total", (("model", "m"), ("reason", "idle"))]
    assert {"idle": 2, "full": 1} == metrics.released("m")
    assert {} == metrics.released("n")


async def test_panic_and_shedding_are_seen_while_they_last() -> None:
    """Each is 1 as long as its state holds."""
    async with a_directory(Recorder()) as directory:
        (engine,) = (served.engine for served in directory.models())
        metrics = Metrics(lambda: [engine])
        found = [samples(metrics)]
        scheduler, model = engine.scheduler, next(iter(engine.scheduler.queued_rows()))
        scheduler.health.outliers.panic = True
        scheduler.overload.refused(model, None, 0.0)
        scheduler.overload._troubles[model].shed = True
        found.append(samples(metrics))

    panic, shedding = (("pool", engine.name),), (("model", model),)
    assert [0, 1] == [each["batchproxy_pool_panic", panic] for each in found]
    assert [0, 1] == [each["batchproxy_shedding", shedding] for each in found]
