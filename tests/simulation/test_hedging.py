"""Worlds of servers that stall now and then: what hedging does to the tail, what it costs, and what is learned."""

from __future__ import annotations

import dataclasses
import math
from heapq import heappop, heappush
from random import Random
from typing import Any

import numpy as np
import pytest

from batchproxy.core.batch import Dispatch
from batchproxy.core.errors import BackendUnavailable
from batchproxy.core.outcome import Outcome
from batchproxy.core.retries import HEDGED, HEDGED_PER_S, WINDOW_S
from batchproxy.simulation.arrivals import Arrivals, poisson
from batchproxy.simulation.log import Log
from batchproxy.simulation.world import Kind, World, build_scheduler, policy

ALPHA_S, BETA_S = 0.010, 0.0005
STALL_S = 0.3
STALLS = 0.02
"""Of the calls, so that the 99th percentile of callers is a stall unless something is done."""

LAST_S = 60.0
RATE = 100.0
FIRSTS = ("e0", "e1", "e2")


class Stalling:
    """A server that works on all its calls at once, each of which takes a little more or less than the last.

    Args:
        draw: of chance.
        stalls: the part of its calls that take ``STALL_S`` longer.
        pace: times what it takes others.
    """

    def __init__(self, draw: Random, stalls: float, pace: float = 1.0) -> None:
        self.due = math.inf
        self.calls = 0
        self._draw = draw
        self._stalls = stalls
        self._pace = pace
        self._back: list[tuple[float, int, Any]] = []

    def send(self, now: float, rows: int, model: str, tag: Any) -> None:
        self.calls += 1
        seconds = self._pace * (ALPHA_S + BETA_S * rows) * math.exp(self._draw.gauss(0.0, 0.08))
        seconds += STALL_S if self._draw.random() < self._stalls else 0.0
        heappush(self._back, (now + seconds, self.calls, tag))
        self.due = self._back[0][0]

    def answers(self, now: float) -> list[tuple[Any, bool]]:
        found = []
        while self._back and self._back[0][0] <= now:
            found.append((heappop(self._back)[2], True))
        self.due = self._back[0][0] if self._back else math.inf
        return found


class Hedged(World):
    """As the engine does: the call that is not needed ends at once for us, and goes on for its server."""

    cancelled: set[Dispatch]

    def _settle(self, dispatch: Dispatch, now: float, taken: bool) -> None:
        if dispatch in self.cancelled:
            return
        super()._settle(dispatch, now, taken)
        race = dispatch.race
        if race is not None and race.winner is dispatch and race.loser is not None:
            self.cancelled.add(race.loser)
            self.scheduler.settle(race.loser, now, Outcome.MAYBE_RUN, BackendUnavailable("cancelled"))


def world(seed: int, servers: dict[str, Stalling], *, hedging: bool) -> Hedged:
    """Poisson arrivals for a minute."""
    hedged = dataclasses.replace(policy(32), hedging=hedging)
    made = Hedged(
        build_scheduler({"m": hedged}, list(servers)), servers, Arrivals(poisson(RATE, LAST_S, Random(seed)), [], [])
    )
    made.cancelled = set()
    return made


def run(seed: int, *, hedging: bool) -> tuple[Log, Hedged]:
    """Three servers that stall."""
    servers = {name: Stalling(Random(f"{seed} {name}"), STALLS) for name in FIRSTS}
    made = world(seed, servers, hedging=hedging)
    return made.run(LAST_S), made


def p99(log: Log) -> float:
    """Of callers' latencies, in seconds."""
    return float(np.quantile(log.latency, 0.99))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_tail_is_cut(seed: int) -> None:
    """The 99th percentile falls from a stall to twice a call's time; for no more calls than the budget has."""
    plain, _ = run(seed, hedging=False)
    hedged, made = run(seed, hedging=True)
    results = made.scheduler.hedging.results
    made_of = sum(count for (_, result), count in results.items() if result != "refused")

    assert p99(plain) > STALL_S
    assert p99(hedged) < 3 * (ALPHA_S + BETA_S)
    assert len(plain.latency) == len(hedged.latency)
    assert made_of <= HEDGED * len(hedged.sent) + HEDGED_PER_S * (LAST_S + WINDOW_S)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_losers_teach_what_waiting_would_have_taught(seed: int) -> None:
    """An endpoint that became four times as slow is known to be slow, though it answers next to nothing in time."""
    servers = {name: Stalling(Random(f"{seed} {name}"), 0.0, 4.0 if name == "e0" else 1.0) for name in FIRSTS}
    made = world(seed, servers, hedging=True)
    endpoints = made.scheduler.balancer.endpoints
    key = Kind().key()
    for endpoint in endpoints:  # from before it was slow
        cost = endpoint.cost(key)
        for turn in range(32):
            cost.learn(1, ALPHA_S + BETA_S, turn)
        cost.first[1] = ALPHA_S
    made.run(LAST_S)
    slow, *others = (endpoint.cost(key).seconds(1) for endpoint in endpoints)

    assert slow > 2 * max(others)
    assert servers["e0"].calls < sum(server.calls for server in servers.values()) / 10
