"""Worlds of unequal endpoints: each gets its share by its speed, without being told what that is."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from statistics import median
from typing import Any

import pytest

from batchproxy.simulation.arrivals import Arrivals, poisson
from batchproxy.simulation.draws import stream
from batchproxy.simulation.servers import Habits, Lanes, linear
from batchproxy.simulation.world import World, build_scheduler, policy

CAP = 32
ALPHA_S, BETA_S = 0.010, 0.001


class Counting(Lanes):
    """A server that counts the rows it gets once everything is learned."""

    begin_s = 0.0
    rows = 0

    def send(self, now: float, rows: int, model: str, tag: Any) -> None:
        if now > self.begin_s:
            self.rows += rows
        super().send(now, rows, model, tag)


def shares(speeds: Sequence[int], lanes: int, load: float, seed: int, end_s: float) -> list[float]:
    """What each endpoint gets, over what its speed would have it get; seen in the last two thirds of the time."""
    names = [f"e{number}" for number in range(len(speeds))]
    servers = {
        name: Counting(lanes, Habits({"": linear(ALPHA_S / speed, BETA_S / speed)}), stream(seed, name))
        for name, speed in zip(names, speeds, strict=True)
    }
    for server in servers.values():
        server.begin_s = end_s / 3
    rate = load * lanes * sum(CAP * speed / (ALPHA_S + BETA_S * CAP) for speed in speeds)
    arrivals = Arrivals(poisson(rate, end_s, Random(seed)), [], [])
    World(build_scheduler({"m": policy(CAP)}, names), servers, arrivals).run(end_s)
    total = sum(server.rows for server in servers.values())
    return [servers[name].rows / total / (speed / sum(speeds)) for name, speed in zip(names, speeds, strict=True)]


@pytest.mark.parametrize("load", [0.9, 1.1])
@pytest.mark.parametrize("speeds", [(1, 2, 4), (1, 1, 8)])
@pytest.mark.parametrize(("lanes", "end_s"), [(1, 24.0), (4, 9.0)])
def test_shares_are_in_proportion_to_speed(lanes: int, end_s: float, speeds: Sequence[int], load: float) -> None:
    """Where capacity is short: the fastest takes 10.5 or 5.25 ms for a full batch, the slowest 42 ms.

    Within 10 %, in the middle one of three runs: what each costs is learned from few batches, and they are noisy.
    """
    runs = [shares(speeds, lanes, load, seed, end_s) for seed in (1, 2, 3)]
    found = [median(run[place] for run in runs) for place in range(len(speeds))]

    assert [1.0] * len(speeds) == pytest.approx(found, rel=0.1)


@pytest.mark.parametrize("load", [0.5, 0.7])
def test_shares_of_lone_lanes_are_in_proportion_at_any_load(load: float) -> None:
    """Each is busy for most of the time, so whoever is free takes what waits."""
    found = shares((1, 2, 4), 1, load, 1, 20.0)

    assert [1.0] * 3 == pytest.approx(found, rel=0.1)


def test_where_there_is_little_to_do_the_fastest_does_more_of_it() -> None:
    """It has places free for nearly everything, and answers in an eighth of the time."""
    slow, other, fast = shares((1, 1, 8), 4, 0.3, 1, 9.0)

    assert fast > 1.05
    assert max(slow, other) < 0.8
