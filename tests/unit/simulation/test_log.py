"""Figures read from a run."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from batchproxy.simulation.log import Log


def a_log(latency_s: float | Callable[[float], float] = 0.01, horizon_s: float = 9.0, step_s: float = 0.01) -> Log:
    """A request every ``step_s`` from 0 to the horizon, in calls of one; ``latency_s``: seconds, or of an arrival."""
    log = Log(horizon_s)
    for index in range(round(horizon_s / step_s)):
        arrived = index * step_s
        latency = latency_s(arrived) if callable(latency_s) else latency_s
        log.requests += 1
        log.arrived.append(arrived)
        log.latency.append(latency)
        log.sent.append(arrived)
        log.done.append(arrived + latency)
        log.rows.append(1)
    return log


def test_figures() -> None:
    """Mean, median and 99th percentile in ms; of calls, the mean of their rows."""
    log = a_log(lambda arrived: 0.1 if arrived < 0.295 else 0.01)
    log.rows[0] = 901
    found = log.figures(objective_s=0.05)

    assert (13.0, 10.0, 100.0, 2.0) == pytest.approx((found.mean_ms, found.p50_ms, found.p99_ms, found.mean_rows))
    assert (1.0, 870 / 900, False) == (found.served, found.goodput, found.unstable)


def test_queue_is_who_is_not_answered_at_the_horizon() -> None:
    """Those of the last 100 ms; who was refused is not among them."""
    log = a_log(0.1001)
    before = log.queue()
    log.refused = 4

    assert (10, 6) == (before, log.queue())


def test_figures_of_a_stretch() -> None:
    """Only requests that came in it, and calls that left in it."""
    log = a_log(lambda arrived: 0.1 if arrived < 3 else 0.01)

    assert 10.0 == pytest.approx(log.figures(start=3.0).mean_ms)
    assert 100.0 == pytest.approx(log.figures(stop=3.0).mean_ms)


def test_figures_of_nothing() -> None:
    """No answer is an endless latency."""
    found = Log(1.0).figures()

    assert (math.inf, 0.0, 0.0, 0) == (found.mean_ms, found.served, found.mean_rows, found.queue)


def test_latencies_of_a_kind() -> None:
    """Where there are several."""
    log = a_log(horizon_s=0.03)
    log.kinds.extend([0, 1, 0])
    log.latency[1] = 5.0

    assert [5.0] == list(log.latencies(kind=1))


@pytest.mark.parametrize(
    ("latency_s", "expected"),
    [
        (0.01, False),
        (lambda arrived: 0.5, False),
        (lambda arrived: 0.3 * arrived, True),
        (lambda arrived: 0.002 * arrived, False),
        (lambda arrived: 2.0 if arrived < 3 else 0.01, False),
    ],
)
def test_unstable_is_what_grows(latency_s: float | Callable[[float], float], expected: bool) -> None:
    """Long waits that stay, short ones, and a bad start that is over are not."""
    assert expected is a_log(latency_s).unstable()


def test_unanswered_requests_are_a_queue_that_grows() -> None:
    """Even where those that were answered waited equally long; refused ones are none."""
    log = a_log()
    log.requests += 200
    unanswered = log.unstable()
    log.refused = 100
    log.late = log.failed = 50

    assert unanswered
    assert not log.unstable()
    assert "Log(requests=1100, answered=900, calls=900)" == repr(log)
