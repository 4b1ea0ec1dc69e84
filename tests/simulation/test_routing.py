"""Worlds of unequal endpoints: each gets its share by its speed, without being told what that is."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from batchproxy.simulation.arrivals import Arrivals, poisson
from batchproxy.simulation.draws import stream
from batchproxy.simulation.servers import Habits, Lanes, linear
from batchproxy.simulation.world import World, build_scheduler, policy

CAP = 32
ALPHA_S, BETA_S = 0.010, 0.001
SPEEDS = (1, 2, 4)
BEGIN_S, END_S = 5.0, 20.0


class Counting(Lanes):
    """A server of one lane that counts the rows it gets once everything is learned."""

    rows = 0

    def send(self, now: float, rows: int, model: str, tag: Any) -> None:
        if now > BEGIN_S:
            self.rows += rows
        super().send(now, rows, model, tag)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("load", [0.5, 0.7, 1.1])
def test_shares_are_in_proportion_to_speed(load: float, seed: int) -> None:
    """Within 10 %, of machines that take 42, 21 and 10.5 ms for a full batch."""
    names = [f"x{speed}" for speed in SPEEDS]
    servers = {
        name: Counting(1, Habits({"": linear(ALPHA_S / speed, BETA_S / speed)}), stream(seed, name))
        for name, speed in zip(names, SPEEDS, strict=True)
    }
    rate = load * sum(CAP * speed / (ALPHA_S + BETA_S * CAP) for speed in SPEEDS)
    arrivals = Arrivals(poisson(rate, END_S, Random(seed)), [], [])
    World(build_scheduler({"m": policy(CAP)}, names), servers, arrivals).run(END_S)
    total = sum(server.rows for server in servers.values())
    shares = [servers[name].rows / total / (speed / sum(SPEEDS)) for name, speed in zip(names, SPEEDS, strict=True)]

    assert [1.0] * len(SPEEDS) == pytest.approx(shares, rel=0.1)
