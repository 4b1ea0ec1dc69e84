"""A restart starts warm: with what an earlier run learned, the first second is as good as any later one."""

from __future__ import annotations

import json
from random import Random

import pytest

from batchproxy.core.scheduler import Scheduler
from batchproxy.simulation.arrivals import Arrivals, poisson
from batchproxy.simulation.scenario import Backend
from batchproxy.simulation.world import World, build_scheduler, policy
from batchproxy.state import recall, remember

SEEDS = range(1, 6)
LEARNING_S, FIRST_S = 5.0, 1.0

A1 = Backend("A1", 1, 0.008, 0.00025, LEARNING_S)
B4 = Backend("B4", 4, 0.001, 0.004, LEARNING_S)
A8 = Backend("A8", 8, 0.008, 0.00025, LEARNING_S)


def a_scheduler() -> Scheduler:
    """A process that has just started."""
    return build_scheduler({"m": policy(32)}, ["one"])


def latencies(scheduler: Scheduler, backend: Backend, times: list[float], seed: int) -> list[tuple[float, float]]:
    """(arrival, latency) of each request, all of them answered."""
    log = World(scheduler, {"one": backend.server(seed)}, Arrivals(times)).run(times[-1])
    assert len(times) == len(log.latency)
    return sorted(zip(log.arrived, log.latency, strict=True))


async def after_a_restart(old: Scheduler) -> Scheduler:
    """A process that has just started, and has read what another one wrote."""
    [endpoint] = old.balancer.endpoints
    text = json.dumps(await remember(endpoint))
    scheduler = a_scheduler()
    assert [] == recall(scheduler.balancer.endpoints[0], json.loads(text))
    return scheduler


def mean_of_first(pairs: list[tuple[float, float]], start: float) -> float:
    """Mean latency of those who came within ``FIRST_S`` of ``start``."""
    found = [latency for arrival, latency in pairs if start <= arrival < start + FIRST_S]
    return sum(found) / len(found)


@pytest.mark.parametrize(
    ("backend", "load"), [(A1, 0.5), (B4, 0.5), (A8, 0.8)], ids=lambda value: getattr(value, "name", None)
)
async def test_what_was_restored_need_not_be_learned(backend: Backend, load: float) -> None:
    """The same second of requests, to a process that runs on and to one that has just started: within 10 %."""
    warm = restored = 0.0
    for seed in SEEDS:
        times = poisson(load * backend.capacity(), LEARNING_S + FIRST_S, Random(seed))
        before = [time for time in times if time < LEARNING_S]
        last = [time - LEARNING_S for time in times if time >= LEARNING_S]
        ran_on = latencies(a_scheduler(), backend, times, seed)
        old = a_scheduler()
        latencies(old, backend, before, seed)
        again = latencies(await after_a_restart(old), backend, last, seed)
        warm += mean_of_first(ran_on, LEARNING_S) / len(SEEDS)
        restored += mean_of_first(again, 0.0) / len(SEEDS)

    assert restored <= 1.1 * warm


async def test_without_it_there_is_much_to_learn() -> None:
    """The first second of a cold start on eight workers is worse than that of a warm one, in each of five worlds."""
    better = 0
    for seed in SEEDS:
        times = poisson(0.8 * A8.capacity(), LEARNING_S, Random(seed))
        old = a_scheduler()
        cold = mean_of_first(latencies(old, A8, times, seed), 0.0)
        first = [time for time in times if time < FIRST_S]
        better += mean_of_first(latencies(await after_a_restart(old), A8, first, seed), 0.0) < cold

    assert len(SEEDS) == better
