"""Endpoints that answer their probes but not their calls, or much later than others: left out for a while.

Passive health, after Envoy's outlier detection, whose defaults the numbers are (peers.md, "Load balancing and
reliability anchors"). Three things give an endpoint away: calls that fail one after another, a rate of success far
below the others', and batches that take several times as long as the same kind takes elsewhere. It comes back by
itself, is out for twice as long the next time, and gets its share back step by step.

Nothing is probed or sent here. An endpoint that cannot be reached at all is `health`'s business.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from statistics import fmean, median, pstdev

from batchproxy.core.balancer import SLOW_START_S, TRIALS, Balancer, Endpoint
from batchproxy.core.batch import Dispatch
from batchproxy.core.errors import BatchProxyError, Code
from batchproxy.core.outcome import Outcome

CONSECUTIVE = 5
"""Failures in a row after which an endpoint is left out. Envoy: ``consecutive_5xx``."""

SWEEP_S = 10.0
"""Seconds between comparisons of the endpoints with each other. Envoy: ``interval``."""

BASE_S = 30.0
"""Seconds that an endpoint is left out at first, doubled each time. Envoy: ``base_ejection_time``."""

LONGEST_S = 300.0
"""Seconds that it is left out at most. Envoy: ``max_ejection_time``."""

SHARE = 0.1
"""Part of a pool that may be left out, but always one endpoint of several. Envoy: ``max_ejection_percent``."""

PANIC = 0.5
"""Part of a pool that must be healthy for anybody to be left out. Envoy: ``healthy_panic_threshold``."""

VOLUME = 100
"""Calls in a sweep from which a rate of success says something. Envoy: ``success_rate_request_volume``."""

HOSTS = 5
"""Endpoints with so many calls that a rate is compared with. Envoy: ``success_rate_minimum_hosts``."""

STDEVS = 1.9
"""Standard deviations below the mean rate. Envoy: ``success_rate_stdev_factor``, in thousandths there."""

SLOW = 5.0
"""Times the pool's median for the same kind of batch. Envoy has no such rule. Slower hardware gets the smaller share
that it deserves by routing; at a fifth of the speed of others it adds next to nothing but a tail."""

COMPARED = 3
"""Endpoints that must know a kind of batch for a median of it."""

SAMPLES = 3
"""Batches alone, or as good as alone, from which a cost is compared."""

KINDS = 16
"""Kinds of batch that are compared in a sweep, the latest: there may be a thousand, on a thousand endpoints."""

HUNG = 5.0
"""Times the predicted time after which a call that was given up counts as a failure."""

HUNG_S = 5.0
"""Seconds after which it does where nothing is predicted: callers may have reasons of their own to leave."""

_FAULTS = frozenset({Code.INTERNAL, Code.UNKNOWN, Code.DATA_LOSS})
"""What a server says where the fault is its own; others blame the caller (R3's REJECTED has both)."""


class Outliers:
    """Watches the endpoints of one scheduler.

    Args:
        balancer: of the scheduler.
        look_again: to be called where more can be sent than before.
        notice: told of each change of state that an operator should know, in one line.

    Attributes:
        due: when ``look`` has something to do, on the engine's clock.
        sweep_at: when the endpoints are next compared.
        panic: whether so few are healthy that nobody is left out.
    """

    def __init__(self, balancer: Balancer, look_again: Callable[[], None], notice: Callable[[str], None]) -> None:
        self.due = math.inf
        self.sweep_at = -math.inf
        self.panic = False
        self._balancer = balancer
        self._look_again = look_again
        self._notice = notice
        self._ejected: dict[Endpoint, None] = {}

    def ended(self, dispatch: Dispatch, outcome: Outcome, error: BatchProxyError | None, now: float) -> None:
        """A call has ended.

        Args:
            dispatch: the call.
            outcome: how it ended.
            error: what it said, if not OK.
            now: the engine's clock, in seconds.
        """
        endpoint = dispatch.endpoint
        if now >= self.sweep_at:
            self._sweep(now)
        if outcome is Outcome.OK:
            endpoint.answers += 1
            endpoint.failures = 0
            return
        failed = _is_failure(dispatch, outcome, error, now)
        if failed is None:
            return
        if not failed:
            endpoint.answers += 1
            endpoint.failures = 0
            return
        endpoint.faults += 1
        endpoint.failures += 1
        if endpoint.failures >= CONSECUTIVE:
            said = "gave up" if error is None else error.code.name
            self._eject(endpoint, now, f"{endpoint.failures} calls in a row failed, the last with {said}")

    def look(self, now: float) -> None:
        """Take back whose time is over."""
        for endpoint in [each for each in self._ejected if each.ejected_until <= now]:
            self.forget(endpoint)
            endpoint.trials = TRIALS
            endpoint.warm_at = now + SLOW_START_S
            endpoint.failures = 0
            endpoint.last_error = ""
            endpoint.doubt()
            self._notice(f"endpoint {endpoint.name}: used again, a little at first")
            self._balancer.freed(endpoint)
            self._look_again()
        self.weigh()

    def forget(self, endpoint: Endpoint) -> None:
        """It is gone, or left out for another reason, or back."""
        if endpoint in self._ejected:
            del self._ejected[endpoint]
            endpoint.out, endpoint.ejected_until = False, -math.inf
            self._set_due()

    def weigh(self) -> None:
        """Endpoints came, went, or are well again: whether so few are healthy that nobody may be left out."""
        if not self._ejected and not self.panic:
            return
        endpoints = self._balancer.endpoints
        healthy = sum(endpoint.up and endpoint not in self._ejected for endpoint in endpoints)
        panic = bool(self._ejected) and healthy < PANIC * len(endpoints)
        if panic != self.panic:
            self.panic = panic
            if panic:
                self._notice(
                    "fewer than half of the pool's endpoints are healthy: those that failed, and were left out, "
                    "are used all the same"
                )
            else:
                self._notice("half of the pool's endpoints are healthy again: only those are used")
        for endpoint in self._ejected:
            if endpoint.out and panic:
                endpoint.out = False
                self._balancer.freed(endpoint)
                self._look_again()
            endpoint.out = not panic

    def _set_due(self) -> None:
        self.due = min((each.ejected_until for each in self._ejected), default=math.inf)

    def _eject(self, endpoint: Endpoint, now: float, why: str) -> None:
        count = len(self._balancer.endpoints)
        most = min(count - 1, max(1, int(SHARE * count)))
        if endpoint in self._ejected or endpoint.gone or len(self._ejected) >= most:
            return
        seconds = min(LONGEST_S, BASE_S * 2.0**endpoint.times)
        endpoint.times += 1
        endpoint.ejected_until = now + seconds
        self._ejected[endpoint] = None
        endpoint.out = not self.panic
        self._set_due()
        endpoint.last_error = why
        self._notice(f"endpoint {endpoint.name}: left out for {seconds:.0f} s: {why}")
        self.weigh()

    # -- compared with each other ------------------------------------------------------------------

    def _sweep(self, now: float) -> None:
        endpoints = self._balancer.endpoints
        if self.sweep_at > -math.inf and len(endpoints) > 1:
            for endpoint in endpoints:
                if endpoint not in self._ejected:
                    endpoint.times = max(0, endpoint.times - 1)
            self._compare_rates(endpoints, now)
            for kind in self._balancer.kinds(KINDS):
                self._compare_times(endpoints, kind, now)
        for endpoint in endpoints:
            endpoint.answers = endpoint.faults = 0
        self.sweep_at = now + SWEEP_S

    def _compare_rates(self, endpoints: Iterable[Endpoint], now: float) -> None:
        rates = {
            endpoint: endpoint.answers / (endpoint.answers + endpoint.faults)
            for endpoint in endpoints
            if endpoint.answers + endpoint.faults >= VOLUME
        }
        if len(rates) < HOSTS:
            return
        mean = fmean(rates.values())
        least = mean - STDEVS * pstdev(rates.values())
        for endpoint, rate in rates.items():
            if rate < least:
                self._eject(endpoint, now, f"{rate:.1%} of its calls succeeded, {mean:.1%} of those in the pool")

    def _compare_times(self, endpoints: Iterable[Endpoint], kind: tuple[object, ...], now: float) -> None:
        costs = {
            endpoint: cost
            for endpoint in endpoints
            if (cost := endpoint.known_cost(kind)) is not None and cost.samples >= SAMPLES
        }
        if len(costs) < COMPARED:
            return
        rows = median(cost.rows for cost in costs.values())
        usual = median(cost.seconds(rows) for cost in costs.values())
        for endpoint, cost in costs.items():
            if endpoint.answers and cost.seconds(rows) > SLOW * usual:
                what = f"a batch of {rows:.0f} rows of model {kind[0]!r} takes {cost.seconds(rows):.3g} s"
                self._eject(endpoint, now, f"{what}, {usual:.3g} s elsewhere")


def _is_failure(dispatch: Dispatch, outcome: Outcome, error: BatchProxyError | None, now: float) -> bool | None:
    """Whether the endpoint is to blame for how a call ended; None: it says nothing of the endpoint."""
    abandoned = outcome is Outcome.LATE or not dispatch.batch.live
    if abandoned and outcome in {Outcome.LATE, Outcome.MAYBE_RUN}:
        cost = dispatch.endpoint.cost(dispatch.batch.key)
        patience = HUNG * cost.seconds(dispatch.sent) if cost.known and dispatch.flight is not None else HUNG_S
        return True if now - dispatch.started > patience else None
    if outcome in {Outcome.NOT_RUN, Outcome.MAYBE_RUN}:
        return True
    if outcome is Outcome.TOO_BIG_OR_BUSY or dispatch.batch.family is not None:
        return None  # pieces of a rejected batch: who is to blame there is just being found out
    return outcome in {Outcome.REJECTED, Outcome.UNSPLITTABLE} and error is not None and error.code in _FAULTS
