"""Worlds in which callers ask for three times what can be done: what is left of it when they stop."""

from __future__ import annotations

from random import Random

import numpy as np

from batchproxy.core.policy import Policy
from batchproxy.simulation.arrivals import Arrivals, steps
from batchproxy.simulation.draws import stream
from batchproxy.simulation.servers import Habits, Lanes, linear
from batchproxy.simulation.world import World, build_scheduler

CAP = 64
CALM_S, OVERLOAD_S, AFTER_S = 10.0, 60.0, 6.0


def test_latency_is_back_to_normal_two_seconds_after_an_overload() -> None:
    """Of 60 s at three times the capacity, with the default bound, which is three seconds of work."""
    cost, seed = linear(0.008, 0.00025), 1
    rate = CAP / cost(CAP)
    fall = CALM_S + OVERLOAD_S
    times = steps([(0.0, 0.5 * rate), (CALM_S, 3.0 * rate), (fall, 0.5 * rate)], fall + AFTER_S, Random(seed))
    server = Lanes(1, Habits({"": cost}), stream(seed, "noise"))
    scheduler = build_scheduler({"m": Policy(max_batch_rows=CAP)}, ["one"])
    log = World(scheduler, {"one": server}, Arrivals(times, [], [])).run(fall + AFTER_S)
    calm = np.percentile(log.latencies(CALM_S / 2, CALM_S), 99)
    worst = log.latencies(CALM_S, fall).max()
    after = np.percentile(log.latencies(fall + 2.0, fall + AFTER_S), 99)

    assert worst > 3.0
    assert after < 1.5 * calm
    assert len(log.latency) > 0.9 * rate * OVERLOAD_S  # it worked all the time
    assert not scheduler.overload.shedding("m")
