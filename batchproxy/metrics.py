"""The Prometheus observer and every metric's name (ruling R8). Nothing else imports the Prometheus client.

Counting is not done by the client library's locked objects: it happens for every request. Values are noted, and put
into their buckets many at a time; the library renders what was counted when it is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from batchproxy.core.batch import Dispatch, Release
from batchproxy.core.counts import Counted
from batchproxy.core.errors import Code
from batchproxy.core.learned import learned
from batchproxy.core.outcome import Outcome
from batchproxy.core.request import Entry
from batchproxy.engine import Engine
from batchproxy.histograms import SECONDS, Answered, Histogram

ROWS = tuple(float(2**n) for n in range(11))
"""Bucket bounds of batch sizes: powers of two up to 1,024, where growth stops (R7)."""


OUTRUN = "OUTRUN"
"""The outcome of a call that was cancelled since another one of the same batch had answered."""


class Tally(NamedTuple):
    """What somebody else has counted.

    Attributes:
        name: the metric's, without ``_total``.
        text: its help.
        labels: label to value.
        value: the count.
    """

    name: str
    text: str
    labels: Mapping[str, str]
    value: int


class Metrics(Collector):
    """Counts what it observes, and reads the rest off the engines when asked.

    Args:
        engines: returns the engines that gauges are read from.
        buffered: returns the bytes of requests and answers that are held.
        tallies: returns what others have counted.

    Attributes:
        counted: see ``Observer``.
    """

    def __init__(
        self,
        engines: Callable[[], Iterable[Engine]],
        buffered: Callable[[], int] = lambda: 0,
        tallies: Callable[[], Iterable[Tally]] = lambda: (),
    ) -> None:
        self._engines = engines
        self._tallies = tallies
        self._buffered = buffered
        self._requests: dict[tuple[str, str, str], Answered] = {}
        self._queue_seconds: dict[str, Histogram] = {}
        self._backend_seconds: dict[tuple[str, str], Histogram] = {}
        self._batch_rows: dict[str, Histogram] = {}
        self._calls: dict[tuple[str, str, str], int] = {}
        self._released: dict[tuple[str, Release], int] = {}
        self.counted = Counted()
        self._registry = CollectorRegistry()
        self._registry.register(self)

    # -- Observer ----------------------------------------------------------------------------------

    def call_started(self, dispatch: Dispatch, members: Sequence[Entry]) -> None:
        """Count the rows of a call, why it leaves now, and what its members waited."""
        model = dispatch.batch.key.model
        why = (model, dispatch.reason)
        self._released[why] = self._released.get(why, 0) + 1
        rows = self._batch_rows.get(model)
        if rows is None:
            rows = self._batch_rows[model] = Histogram(ROWS)
            self._queue_seconds[model] = Histogram(SECONDS)
        rows.add(dispatch.rows)
        if dispatch.reason is Release.HEDGE:
            return  # its members have waited already
        self._queue_seconds[model].add_since([member.arrival for member in members], dispatch.started)

    def call_ended(self, dispatch: Dispatch, outcome: Outcome, seconds: float) -> None:
        """Count a call by how it ended; one whose hedge was faster, or the other way round, by that."""
        model, endpoint, race = dispatch.batch.key.model, dispatch.endpoint.name, dispatch.race
        lost = race is not None and race.loser is dispatch
        key = (model, endpoint, OUTRUN if lost else outcome.name)
        self._calls[key] = self._calls.get(key, 0) + 1
        times = self._backend_seconds.get((model, endpoint))
        if times is None:
            times = self._backend_seconds[model, endpoint] = Histogram(SECONDS)
        times.add(seconds)
        self.counted.ended(dispatch, outcome, seconds)

    def request_ended(self, model: str, method: str, protocol: str, code: Code, seconds: float) -> None:
        """Count an answered request."""
        self.counter(model, method, protocol).count(code, seconds)

    def counter(self, model: str, method: str, protocol: str) -> Answered:
        """Counts answered requests of one kind."""
        answered = self._requests.get((model, method, protocol))
        if answered is None:
            answered = self._requests[model, method, protocol] = Answered()
        return answered

    # -- being read --------------------------------------------------------------------------------

    def render(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """What the Prometheus client asks of a collector."""
        requests = CounterMetricFamily(
            "batchproxy_requests", "Requests answered, by status code.", labels=["model", "method", "protocol", "code"]
        )
        for labels, answered in self._requests.items():
            for code, count in answered.codes.items():
                requests.add_metric([*labels, code.name], count)
        yield requests
        yield _histograms(
            "batchproxy_request_seconds",
            "From a request's arrival to its answer.",
            ["model", "method", "protocol"],
            ((labels, answered.seconds) for labels, answered in self._requests.items()),
        )
        yield _histograms(
            "batchproxy_queue_seconds",
            "From a request's arrival to the start of its call.",
            ["model"],
            (((model,), times) for model, times in self._queue_seconds.items()),
        )
        yield _histograms(
            "batchproxy_backend_seconds", "Calls to a backend.", ["model", "endpoint"], self._backend_seconds.items()
        )
        yield _histograms(
            "batchproxy_batch_rows",
            "Rows of each call to a backend.",
            ["model"],
            (((model,), rows) for model, rows in self._batch_rows.items()),
        )
        calls = CounterMetricFamily(
            "batchproxy_backend_calls", "Calls to backends, by how they ended.", labels=["model", "endpoint", "outcome"]
        )
        for (model, endpoint, outcome), count in self._calls.items():
            calls.add_metric([model, endpoint, outcome], count)
        yield calls
        batches = CounterMetricFamily(
            "batchproxy_batches", "Calls to backends, by why they left when they did.", labels=["model", "reason"]
        )
        for (model, reason), count in self._released.items():
            batches.add_metric([model, reason.value], count)
        verdicts = CounterMetricFamily(
            "batchproxy_canaries", "Checks whether rows influence each other, by what they said.",
            labels=["model", "verdict"],
        )  # fmt: skip
        for engine in self._engines():
            canary = engine.scheduler.canary
            for model, count in canary.calls.items():
                batches.add_metric([model, Release.CANARY.value], count)
            for (model, verdict), count in canary.verdicts.items():
                verdicts.add_metric([model, verdict.value], count)
        yield from (batches, verdicts)
        yield from self._counted_by_others()
        yield from self._gauges()
        yield from self._limits()
        yield from self._costs()

    def _gauges(self) -> Iterator[Metric]:
        queued = GaugeMetricFamily("batchproxy_queued_rows", "Rows that wait.", labels=["model"])
        nbytes = GaugeMetricFamily("batchproxy_queued_bytes", "Bytes of requests that wait.", labels=["pool"])
        buffered = GaugeMetricFamily(
            "batchproxy_buffered_bytes", "Bytes of requests and answers that are held.", value=self._buffered()
        )
        in_flight = GaugeMetricFamily("batchproxy_in_flight", "Calls under way.", labels=["pool", "endpoint"])
        up = GaugeMetricFamily("batchproxy_endpoint_up", "1: answered its last probe.", labels=["pool", "endpoint"])
        ejected = GaugeMetricFamily(
            "batchproxy_endpoint_ejected", "1: left out for how its calls ended.", labels=["pool", "endpoint"]
        )
        for engine in self._engines():
            nbytes.add_metric([engine.name], engine.scheduler.queued_bytes)
            for model, rows in engine.scheduler.queued_rows().items():
                queued.add_metric([model], rows)
            for endpoint in engine.scheduler.balancer.endpoints:
                in_flight.add_metric([engine.name, endpoint.name], endpoint.in_flight + endpoint.relayed)
                up.add_metric([engine.name, endpoint.name], int(endpoint.up))
                ejected.add_metric([engine.name, endpoint.name], int(endpoint.out))
        yield from (queued, nbytes, buffered, in_flight, up, ejected)
        yield from self._troubles()
        yield from self._retries()
        yield self._quarantined()

    def _counted_by_others(self) -> Iterator[Metric]:
        families: dict[str, CounterMetricFamily] = {}
        for name, text, labels, value in self._tallies():
            family = families.get(name)
            if family is None:
                family = families[name] = CounterMetricFamily(name, text, labels=list(labels))
            family.add_metric(list(labels.values()), value)
        yield from families.values()

    def _troubles(self) -> Iterator[Metric]:
        panic = GaugeMetricFamily(
            "batchproxy_pool_panic", "1: so few endpoints are healthy that the others are used, too.", labels=["pool"]
        )
        shedding = GaugeMetricFamily(
            "batchproxy_shedding", "1: the queue is kept short, since requests are refused on end.", labels=["model"]
        )
        for engine in self._engines():
            scheduler = engine.scheduler
            panic.add_metric([engine.name], int(scheduler.health.outliers.panic))
            for model in scheduler.queued_rows():
                shedding.add_metric([model], int(scheduler.overload.shedding(model)))
        yield from (panic, shedding)

    def _retries(self) -> Iterator[Metric]:
        retries = CounterMetricFamily(
            "batchproxy_retries", "Calls made again elsewhere, or not, for want of budget.", labels=["pool", "result"]
        )
        hedges = CounterMetricFamily(
            "batchproxy_hedges", "Batches that took long, by what became of a second call.", labels=["model", "outcome"]
        )
        for engine in self._engines():
            budget = engine.scheduler.retries
            retries.add_metric([engine.name, "made"], budget.made)
            retries.add_metric([engine.name, "refused"], budget.refused)
            for (model, result), count in engine.scheduler.hedging.results.items():
                hedges.add_metric([model, result], count)
        yield from (retries, hedges)

    def _quarantined(self) -> Metric:
        lanes: dict[str, int] = {}
        for engine in self._engines():
            for lane in engine.scheduler.quarantined():
                lanes[lane.key.model] = lanes.get(lane.key.model, 0) + 1
        family = GaugeMetricFamily(
            "batchproxy_quarantined_lanes", "Lanes whose batches are smaller since some were refused.", labels=["model"]
        )
        for model, count in lanes.items():
            family.add_metric([model], count)
        return family

    def _limits(self) -> Iterator[Metric]:
        labels = ["pool", "endpoint"]
        ceiling = GaugeMetricFamily(
            "batchproxy_endpoint_ceiling", "Work done at once at most, as learned.", labels=labels
        )
        partial = GaugeMetricFamily(
            "batchproxy_endpoint_partial_limit", "Batches in flight at most, as learned.", labels=labels
        )
        full = GaugeMetricFamily("batchproxy_endpoint_full_limit", "The same where batches are full.", labels=labels)
        draining = GaugeMetricFamily(
            "batchproxy_endpoint_draining", "1: gets nothing until it is empty, to time a batch alone.", labels=labels
        )
        for engine in self._engines():
            for endpoint in engine.scheduler.balancer.endpoints:
                limit, place = endpoint.limit, [engine.name, endpoint.name]
                ceiling.add_metric(place, limit.ceiling)
                partial.add_metric(place, limit.partial)
                full.add_metric(place, limit.full)
                draining.add_metric(place, int(limit.draining))
        yield from (ceiling, partial, full, draining)

    def _costs(self) -> Iterator[Metric]:
        labels = ["model", "endpoint"]
        alpha = GaugeMetricFamily("batchproxy_cost_alpha_seconds", "A batch's time without its rows.", labels=labels)
        beta = GaugeMetricFamily("batchproxy_cost_beta_seconds", "What a row adds to a batch's time.", labels=labels)
        noise = GaugeMetricFamily("batchproxy_cost_noise", "Mean deviation from that; 0.08 is 8 %.", labels=labels)
        gain = GaugeMetricFamily(
            "batchproxy_batching_gain", "Rows a second in batches of mean size, over those one by one.", labels=labels
        )
        for engine in self._engines():
            for endpoint in engine.scheduler.balancer.endpoints:
                for known in learned(endpoint):
                    place = [known.model, endpoint.name]
                    alpha.add_metric(place, known.alpha)
                    beta.add_metric(place, known.beta)
                    noise.add_metric(place, known.noise)
                    gain.add_metric(place, known.gain)
        yield from (alpha, beta, noise, gain)

    def released(self, model: str) -> dict[str, int]:
        """Why its calls left when they did, and how many did so."""
        found = {reason.value: count for (name, reason), count in self._released.items() if name == model}
        canaries = sum(engine.scheduler.canary.calls[model] for engine in self._engines())
        return {**found, Release.CANARY.value: canaries} if canaries else found

    def summary(self, model: str) -> dict[str, float]:
        """The few numbers of a model that the live page shows; rows and calls count every call, whatever its end."""
        rows = self._batch_rows.get(model)
        calls, total = (rows.count, rows.total) if rows is not None else (0, 0.0)
        waits = self._queue_seconds.get(model)
        codes = [answered.codes for (name, _, _), answered in self._requests.items() if name == model]
        requests = sum(sum(counts.values()) for counts in codes)
        return {
            "requests": requests,
            "failed": requests - sum(counts.get(Code.OK, 0) for counts in codes),
            "backend_calls": calls,
            "rows": total,
            "mean_batch": total / calls if calls else 0.0,
            "mean_wait_ms": 1000 * waits.total / waits.count if waits is not None and waits.count else 0.0,
        }


def _histograms(
    name: str, text: str, labels: list[str], series: Iterable[tuple[tuple[str, ...], Histogram]]
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, text, labels=labels)
    for values, histogram in series:
        family.add_metric(list(values), list(histogram.buckets()), histogram.total)
    return family
