"""Worlds in which callers ask for three times what can be done: what is left of it when they stop."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from batchproxy.core.policy import Policy
from batchproxy.simulation.arrivals import Arrivals, steps
from batchproxy.simulation.draws import stream
from batchproxy.simulation.servers import Habits, Lanes, linear
from batchproxy.simulation.world import World, build_scheduler

CAP = 64
CALM_S, AFTER_S = 6.0, 6.0


@pytest.mark.parametrize(("full_s", "overload_s"), [(0.010, 12.0), (0.060, 25.0), (0.257, 60.0)])
def test_latency_is_back_to_normal_two_seconds_after_an_overload(full_s: float, overload_s: float) -> None:
    """Of three times the capacity, however long a full batch takes; long enough for the default queue to be full.

    That is 1.3, 8 and 33 s of work: it is answered before anything else is.
    """
    cost, seed = linear(0.2 * full_s, 0.8 * full_s / CAP), 1
    rate = CAP / full_s
    fall = CALM_S + overload_s
    times = steps([(0.0, 0.5 * rate), (CALM_S, 3.0 * rate), (fall, 0.5 * rate)], fall + AFTER_S, Random(seed))
    server = Lanes(1, Habits({"": cost}), stream(seed, "noise"))
    scheduler = build_scheduler({"m": Policy(max_batch_rows=CAP)}, ["one"])
    log = World(scheduler, {"one": server}, Arrivals(times, [], [])).run(fall + AFTER_S)
    calm = np.percentile(log.latencies(CALM_S / 2, CALM_S), 99)
    worst = log.latencies(CALM_S, fall).max()
    after = np.percentile(log.latencies(fall + 2.0, fall + AFTER_S), 99)

    assert worst > 1.0
    assert after < 1.5 * calm
    assert len(log.latency) > 0.9 * rate * overload_s  # it worked all the time
    assert not scheduler.overload.shedding("m")
