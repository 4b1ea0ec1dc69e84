"""The backends and loads of ``benchmarks.simulate``, and the oracle's choices for them. Nothing is run here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from batchproxy.simulation.rivals import INF, Fixed
from batchproxy.simulation.scenario import Backend, Scenario

ORACLE = Path(__file__).with_name("oracle.json")

ORACLE_SEEDS = (11, 12)
"""What the oracle's choices were made on."""

HELD_OUT = (201, 202, 203, 204, 205)
"""What the figures are of. Nothing may be designed on them."""

TUNING = (1, 2, 3, 4, 5)
"""What a policy may be designed on."""

LOADS = (0.03, 0.10, 0.30, 0.50, 0.70, 0.95)
BURSTY_LOADS = (0.10, 0.30, 0.50)


def accelerator(lanes: int, horizon_s: float) -> Backend:
    """8 ms a call and 0.25 ms a row: rows are nearly free."""
    return Backend(f"A{lanes}", lanes, 0.008, 0.00025, horizon_s)


def processor(lanes: int, horizon_s: float) -> Backend:
    """1 ms a call and 4 ms a row: rows are nearly all of it."""
    return Backend(f"B{lanes}", lanes, 0.001, 0.004, horizon_s)


def distant(lanes: int, horizon_s: float) -> Backend:
    """0.4 ms a call and 0.02 ms a row: less than the round trip."""
    return Backend(f"D{lanes}", lanes, 0.0004, 0.00002, horizon_s)


BACKENDS = {
    backend.name: backend
    for backend in (
        accelerator(1, 40.0), accelerator(2, 30.0), accelerator(4, 20.0), accelerator(8, 12.0), accelerator(16, 10.0),
        processor(1, 60.0), processor(4, 30.0), distant(1, 6.0), distant(4, 4.0),
    )
}  # fmt: skip
"""Those of the study behind policy.md, with its run lengths (read from how its unstable figures grow)."""


def points(names: Iterable[str] = (), factor: float = 1.0) -> Iterator[Scenario]:
    """Every load of the named backends; of all without names."""
    for name in names or BACKENDS:
        for load in LOADS:
            yield Scenario(BACKENDS[name], load, "poisson", factor)
        for load in BURSTY_LOADS:
            yield Scenario(BACKENDS[name], load, "bursty", factor)


def grid(lanes: int) -> list[tuple[int, float]]:
    """The static settings that the oracle chooses from: calls in flight, and full batches above them."""
    return [(limit, overflow) for limit in range(1, 25 if lanes > 8 else 13) for overflow in (0, 1, INF)]


def oracle_choices() -> dict[str, dict[str, tuple[int, float]]]:
    """Backend and scenario to the setting with the least mean latency: ``python -m benchmarks simulate --oracle``."""
    found: dict[str, dict[str, list[int | None]]] = json.loads(ORACLE.read_text())
    return {
        backend: {name: (limit or 0, INF if over is None else over) for name, (limit, over) in row.items()}
        for backend, row in found.items()
    }


def spoken(choice: tuple[int, float]) -> str:
    """A setting in words."""
    limit, overflow = choice
    return f"k={limit}, +{'inf' if overflow == INF else int(overflow)}"


def static(choice: tuple[int, float]) -> Fixed:
    """A contender that keeps to a setting."""
    return Fixed(*choice)
