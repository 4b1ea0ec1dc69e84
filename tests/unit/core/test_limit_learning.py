"""Tests of batchproxy.core.limit: what is learned of simulated servers, and how soon, under the real scheduler."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import pytest

from batchproxy.core.cost import Cost
from batchproxy.core.limit import Limit
from batchproxy.core.scheduler import Scheduler
from batchproxy.simulation.scenario import Backend, Scenario, ours
from batchproxy.simulation.servers import Change

SEEDS = range(5)
ALPHA_S, BETA_S, RTT_S = 0.010, 0.0005, 0.001
LARGEST_S = ALPHA_S + 32 * BETA_S
"""A batch of 32 rows, without the way there and back."""


def _backend(lanes: int, *changes: Change, horizon_s: float = 6.0) -> Backend:
    return Backend("one", lanes, ALPHA_S, BETA_S, horizon_s, RTT_S, changes=changes)


def _ceiling(scheduler: Scheduler) -> float:
    return scheduler.balancer.endpoints[0].limit.ceiling


def _sixteen(scheduler: Scheduler) -> float:
    """What 16 rows are said to take."""
    costs = scheduler.balancer.endpoints[0].costs()
    return next(iter(costs.values())).seconds(16)


def _after(
    scenario: Scenario, seed: int, batches: int, told: Callable[[Scheduler], float] = _ceiling, *, since_s: float = 0.0
) -> float:
    """What is told ``batches`` batches after ``since_s``."""
    log = ours(scenario, seed, watch=lambda scheduler: lambda: told(scheduler))
    first = sum(done < since_s for done in log.done)
    return log.watched[first + batches]


@pytest.mark.parametrize("load", [0.7, 0.9])
@pytest.mark.parametrize("lanes", [1, 2, 4, 8])
def test_lanes_are_counted_from_a_cold_start(lanes: int, load: float) -> None:
    """Within 100 batches, to a quarter, in the middle one of five runs; a batch on its way is work in progress, too."""
    scenario = Scenario(_backend(lanes, horizon_s=3.0), load)
    at_work = lanes * (LARGEST_S + RTT_S) / LARGEST_S
    found = statistics.median(_after(scenario, seed, 100) for seed in SEEDS)

    assert at_work == pytest.approx(found, rel=0.25)


def test_many_lanes_are_used() -> None:
    """More than full batches are sent before anything is known: a start is never the end."""
    scenario = Scenario(Backend("many", 40, 2 * ALPHA_S, BETA_S, 1.5, RTT_S), 0.9)
    log = ours(scenario, 1, watch=lambda scheduler: lambda: _ceiling(scheduler))

    assert 40 == pytest.approx(log.watched[400], rel=0.25)
    assert sum(log.latency) / len(log.latency) < 3 * (2 * ALPHA_S + 32 * BETA_S)


def test_lanes_that_go_are_missed() -> None:
    """Within 150 batches."""
    scenario = Scenario(_backend(4, Change(3.0, lanes=2)), 0.45)
    found = statistics.median(_after(scenario, seed, 150, since_s=3.0) for seed in SEEDS)

    assert 2 == pytest.approx(found, rel=0.25)


@pytest.mark.parametrize("lanes", [1, 2])
def test_a_server_that_slows_down_is_seen_to_be_slow(lanes: int) -> None:
    """Within 100 batches: its times are learned anew, its lanes are the same."""
    scenario = Scenario(_backend(lanes, Change(3.0, slower=2.0), horizon_s=9.0), 0.4)
    cost = statistics.median(_after(scenario, seed, 100, _sixteen, since_s=3.0) for seed in SEEDS)
    ceiling = statistics.median(_after(scenario, seed, 100, since_s=3.0) for seed in SEEDS)

    assert 2 * (ALPHA_S + 16 * BETA_S) + RTT_S == pytest.approx(cost, rel=0.2)
    assert lanes == pytest.approx(ceiling, rel=0.25)


def test_little_work_teaches_no_wrong_number() -> None:
    """Where one request is under way at a time there is nothing to count; a batch takes what it takes."""
    scenario = Scenario(_backend(4), 0.0005)
    log = ours(scenario, 1, watch=lambda scheduler: lambda: _sixteen(scheduler))

    assert max(log.watched) < 16 * (ALPHA_S + BETA_S + RTT_S)
    assert max(log.latency) < 2 * (ALPHA_S + BETA_S + RTT_S)


def test_a_size_that_is_timed_for_the_first_time_says_nothing_of_others() -> None:
    """A batch of four rows that takes four times as long as one row is no endpoint that became slower."""
    limit, cost = Limit(), Cost()
    for turn in range(40):
        flight = limit.depart(float(turn))
        limit.arrive(flight, cost, 1, 32, turn + 0.005)
    limit.draining = limit._was_covered = True
    flight = limit.depart(40.0)
    limit.arrive(flight, cost, 4, 32, 40.020)

    assert (0.005, 0.020) == pytest.approx((cost.seconds(1), cost.seconds(4)), rel=0.15)


def test_dear_rows_are_no_lanes_that_are_missing() -> None:
    """Where a row is most of a batch's time, lanes are counted within 100 batches, and callers do not wait for that."""
    scenario = Scenario(Backend("dear", 4, 0.001, 0.004, 3.0, RTT_S), 0.7)
    logs = [ours(scenario, seed, watch=lambda scheduler: lambda: _ceiling(scheduler)) for seed in SEEDS]

    assert 4.2 == pytest.approx(statistics.median(log.watched[100] for log in logs), rel=0.25)
    assert statistics.median(max(log.latency) for log in logs) < 0.1
