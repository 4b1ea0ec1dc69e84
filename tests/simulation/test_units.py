"""Worlds whose requests are of different lengths: what a batch costs is counted in what it depends on there."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from batchproxy.core.batch import Dispatch
from batchproxy.core.cost import Cost
from batchproxy.core.units import Unit, Units
from batchproxy.simulation.arrivals import Arrivals, poisson
from batchproxy.simulation.draws import stream
from batchproxy.simulation.log import Log
from batchproxy.simulation.servers import Habits, Lanes, linear
from batchproxy.simulation.world import World, build_scheduler, policy

MEAN_BYTES = 400
SPREAD = 0.8
"""Sigma of the logarithm of a request's bytes: one in ten is 2.8 times as long as the one in the middle."""

RATE, HORIZON_S = 500.0, 8.0
ALPHA_S, BETA_S = 0.004, 0.0008


def _rows(dispatch: Dispatch) -> int:
    return MEAN_BYTES * dispatch.sent


def _bytes(dispatch: Dispatch) -> int:
    return sum(entry.request.nbytes for entry in dispatch.batch.entries)


def _padded(dispatch: Dispatch) -> int:
    return dispatch.sent * max(entry.request.nbytes for entry in dispatch.batch.entries)


WORK: dict[Unit, Callable[[Dispatch], int]] = {Unit.ROWS: _rows, Unit.BYTES: _bytes, Unit.PADDED: _padded}


def lived(unit: Unit, seed: int, spread: float = SPREAD) -> tuple[Log, Cost]:
    """A world whose server takes as long as it has of a unit, and what was learned of it."""
    draw = stream(seed, "sizes")
    times = poisson(RATE / (2.0 if unit is Unit.PADDED else 1.0), HORIZON_S, stream(seed, "arrivals"))
    sizes = [max(1, round(MEAN_BYTES * draw.lognormvariate(-spread * spread / 2, spread))) for _ in times]
    scheduler = build_scheduler({"m": policy(32)}, ["one"])
    server = Lanes(1, Habits({"": linear(ALPHA_S, BETA_S / MEAN_BYTES)}), stream(seed, "noise"))
    world = World(scheduler, {"one": server}, Arrivals(times, nbytes=sizes), work=WORK[unit])
    log = world.run(HORIZON_S)
    [endpoint] = scheduler.balancer.endpoints
    [cost] = endpoint.costs().values()
    return log, cost


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("unit", Unit)
def test_batches_are_counted_in_what_they_cost(unit: Unit, seed: int) -> None:
    """And predicted to a fifth, then."""
    log, cost = lived(unit, seed)

    assert log.requests == len(log.latency)
    assert unit is cost.units.unit
    assert cost.noise < 0.15


def test_rows_of_one_length_are_counted() -> None:
    """There is nothing to tell units apart by."""
    _, cost = lived(Unit.BYTES, 1, spread=0.0)

    assert Unit.ROWS is cost.units.unit


@pytest.mark.parametrize("unit", [Unit.BYTES, Unit.PADDED])
def test_rows_would_explain_less(unit: Unit, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the tests above show anything: with rows as the only unit, predictions are off by far more."""
    right = lived(unit, 1)[1].noise
    monkeypatch.setattr(Units, "learn", lambda self, weight, seconds: None)

    assert lived(unit, 1)[1].noise > 1.3 * right
