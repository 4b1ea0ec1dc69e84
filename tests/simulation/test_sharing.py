"""Worlds in which models share an endpoint: one that asks too much takes nothing from one that asks little."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from batchproxy.simulation.arrivals import Arrivals, poisson
from batchproxy.simulation.draws import stream
from batchproxy.simulation.servers import Habits, Lanes, linear
from batchproxy.simulation.world import Kind, World, build_scheduler, policy

CAP = 32


@pytest.mark.parametrize(("lanes", "load"), [(4, 1.2), (1, 1.05)])
def test_a_model_that_is_seldom_asked_is_not_passed_by_for_ever(lanes: int, load: float) -> None:
    """The other one's batches are all full, and full ones may go beyond the limit: but only two before it."""
    cost, horizon_s, draw = linear(0.010, 0.0005), 8.0, Random(1)
    kinds = (Kind("busy"), Kind("quiet"))
    scheduler = build_scheduler({kind.model: policy(CAP) for kind in kinds}, ["one"])
    busy = [(at, 0) for at in poisson(load * lanes * CAP / cost(CAP), horizon_s, draw)]
    quiet = [(at, 1) for at in poisson(4.0, horizon_s, draw)]
    times, whose = zip(*sorted(busy + quiet), strict=True)
    server = Lanes(lanes, Habits({"": cost}), stream(1, "noise"))
    log = World(scheduler, {"one": server}, Arrivals(list(times), [], list(whose)), kinds=kinds).run(horizon_s)
    waits = np.array(log.latency)[np.array(log.kinds) == 1]

    assert len(quiet) == len(waits)
    assert waits.max() < 0.5  # the busy one's callers wait for seconds by then
    assert np.array(log.latency).max() > waits.max()
