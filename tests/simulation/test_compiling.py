"""Worlds whose servers compile each batch size when they first meet it; and faults in our answer to that, each found.

A model is asked a few times before everybody comes, so that something is known; one world begins with everybody.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import pytest

from batchproxy.core.balancer import Endpoint
from batchproxy.core.cap import Cap
from batchproxy.core.compiling import COMPILES, Compiling
from batchproxy.core.padding import Rounded
from batchproxy.core.policy import Policy
from batchproxy.core.scheduler import Scheduler
from batchproxy.simulation.arrivals import Arrivals, poisson
from batchproxy.simulation.draws import stream
from batchproxy.simulation.log import Log
from batchproxy.simulation.scenario import Backend
from batchproxy.simulation.servers import Server
from batchproxy.simulation.world import UNBOUNDED, Kind, World

COMPILE_S = 2.0
HORIZON_S = 20.0

SOON = (0.2, 0.5)
"""Loads at which the fit has not got over a compile after half of that."""

POWERS = [1, 2, 4, 8, 16, 32, 64]


class Listed:
    """A server that lists the row counts of its calls, in ``sizes``."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.due = server.due
        self.sizes: list[int] = []

    def send(self, now: float, rows: int, model: str, tag: Any) -> None:
        """As the server's."""
        self.sizes.append(rows)
        self._server.send(now, rows, model, tag)
        self.due = self._server.due

    def answers(self, now: float) -> Sequence[tuple[Any, bool]]:
        """As the server's."""
        found = self._server.answers(now)
        self.due = self._server.due
        return found


class Found:
    """What a run came to.

    Attributes:
        log: of the world.
        sizes: row counts of the calls, in order.
        notices: what the operator was told.
        endpoint: with what was learned.
        backend: what there was to learn.
    """

    def __init__(
        self, lanes: int, load: float, seed: int, *, rows: int = 64, calm: int = 5, horizon_s: float = HORIZON_S
    ) -> None:
        self.backend = Backend("compiling", lanes, 0.008, 0.00025, compile_s=COMPILE_S)
        self.endpoint = Endpoint("one")
        self.notices: list[str] = []
        policies = {"m": Policy(max_batch_rows=rows, max_queued_rows=UNBOUNDED)}
        scheduler = Scheduler(policies, [self.endpoint], notice=self.notices.append)
        scheduler.bring_back(self.endpoint)
        server = Listed(self.backend.server(seed))
        times = [2 * COMPILE_S * place for place in range(calm)]
        start = times[-1] + 1.0 if times else 0.0
        rate = load * self.backend.capacity(rows)
        times += [start + time for time in poisson(rate, horizon_s, stream(seed, "arrivals"))]
        self.log: Log = World(scheduler, {"one": server}, Arrivals(times)).run(start + horizon_s)
        self.sizes = server.sizes

    def off(self, rows: int) -> float:
        """By what part the prediction for so many rows is wrong."""
        truth = self.backend.cost()(rows) + self.backend.rtt_s
        return abs(self.endpoint.cost(Kind().key()).seconds(rows) / truth - 1.0)


def check(found: Found, most: int = 64, *, soon: bool = False) -> None:
    """Nobody is lost, few sizes are compiled, all are powers of two in the end, and predictions are good.

    So is that for one row, which was known before anything else was compiled; it is no more asked for where many come.
    """
    common = max(set(found.sizes[-200:]), key=found.sizes[-200:].count)

    assert found.log.requests == len(found.log.latency) == sum(found.log.rows)
    # on each other lane one more may be compiled before the second is over
    assert len(set(found.sizes)) <= COMPILES + len(POWERS) + found.backend.lanes - 1
    assert set(found.sizes[-200:]) <= set(POWERS)
    assert max(found.sizes[-200:]) <= most
    assert 1 == len(found.notices)
    assert found.off(common) <= 0.1
    assert soon or found.off(1) <= 0.3


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(("lanes", "load"), [(1, 0.1), (1, 0.5), (1, 0.8), (4, 0.1), (4, 0.5)])
def test_at_most_two_sizes_and_the_powers_of_two_are_compiled(lanes: int, load: float, seed: int) -> None:
    """Where 1 to 64 rows would otherwise be sent, two dozen of them and more."""
    check(Found(lanes, load, seed))


@pytest.mark.parametrize("load", SOON)
def test_predictions_are_good_soon(load: float) -> None:
    """After half the time, too."""
    check(Found(1, load, 1, calm=4, horizon_s=HORIZON_S / 2), soon=True)


def test_without_the_rule_far_more_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the test above shows anything at all."""
    monkeypatch.setattr(Compiling, "teaches", lambda self, dispatch, now: True)
    found = Found(1, 0.1, 1)

    assert len(set(found.sizes)) > 1.5 * len(POWERS)


def test_the_largest_batch_need_be_no_power_of_two() -> None:
    """Batches have a smaller power of two of rows then, at most."""
    found = Found(1, 0.5, 1, rows=48)
    check(found, most=32)

    assert 32 in found.sizes


@pytest.mark.parametrize(("lanes", "load"), [(1, 0.1), (1, 0.5), (4, 0.3)])
def test_a_cold_start_is_got_over(lanes: int, load: float) -> None:
    """Compiles are learned from while nothing else is known, and sizes that no power of two are sent meanwhile."""
    found = Found(lanes, load, 1, calm=0, horizon_s=40.0)
    common = max(set(found.sizes[-200:]), key=found.sizes[-200:].count)

    assert found.log.requests == len(found.log.latency)
    assert 1 == len(found.notices)
    assert set(found.sizes[-200:]) <= set(POWERS)
    assert found.off(common) <= 0.1


Plant = Callable[[pytest.MonkeyPatch], None]


def _a_compile_enters_the_fit(patch: pytest.MonkeyPatch) -> None:
    real = Compiling.teaches

    def teaches(self: Compiling, *arguments: Any) -> bool:
        return real(self, *arguments) or True

    patch.setattr(Compiling, "teaches", teaches)


def _rounding_exceeds_the_largest_batch(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Cap, "round", lambda self: None)
    patch.setattr(Policy, "padded", lambda self, rows: 1 << (rows - 1).bit_length())


def _the_cap_stays(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Cap, "round", lambda self: None)


def _nothing_is_rounded(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Rounded, "round", lambda self, model: False)


FAULTS: list[tuple[Plant, int]] = [
    (_a_compile_enters_the_fit, 64),
    (_rounding_exceeds_the_largest_batch, 48),
    (_the_cap_stays, 48),
    (_nothing_is_rounded, 64),
]


@pytest.mark.parametrize(("plant", "rows"), FAULTS, ids=lambda value: getattr(value, "__name__", str(value)).strip("_"))
def test_planted_fault_is_found(plant: Plant, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what holds in the worlds above."""
    plant(monkeypatch)

    with pytest.raises(AssertionError):
        for load, seed in product((0.1, 0.5), (1, 2, 3)):
            check(Found(1, load, seed, rows=rows), most=32 if rows == 48 else 64)
        for load in SOON:
            found = Found(1, load, 1, rows=rows, calm=4, horizon_s=HORIZON_S / 2)
            check(found, most=32 if rows == 48 else 64, soon=True)
