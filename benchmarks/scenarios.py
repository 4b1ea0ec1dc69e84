"""The backends and loads of ``benchmarks.simulate``, and the oracle's choices for them. Nothing is run here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from batchproxy.simulation.arrivals import Callers
from batchproxy.simulation.oracle import Setting
from batchproxy.simulation.rivals import INF
from batchproxy.simulation.scenario import MAX_ROWS as MAX_ROWS
from batchproxy.simulation.scenario import Backend, Scenario
from batchproxy.simulation.servers import kneed, padded

ORACLE = Path(__file__).with_name("oracle.json")

ORACLE_SEEDS = (11, 12)
"""What the oracle's choices were made on."""

HELD_OUT = (301, 302, 303, 304, 305)
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


def _others() -> Iterator[Backend]:
    """What the policy was not made on: cores that are shared, and thrash; noise; steps; a knee; compiling."""
    for cores, horizon_s in ((1, 40.0), (2, 30.0), (4, 20.0)):
        yield replace(accelerator(cores, horizon_s), name=f"PS{cores}", shared=True)
    for cores, horizon_s in ((1, 60.0), (4, 30.0)):
        yield replace(processor(cores, horizon_s), name=f"PSB{cores}", shared=True)
    for cores, horizon_s in ((1, 40.0), (4, 20.0)):
        yield replace(accelerator(cores, horizon_s), name=f"PST{cores}", shared=True, thrash=0.1)
    for backend in (accelerator(1, 40.0), accelerator(4, 20.0), accelerator(8, 12.0), processor(1, 60.0)):
        yield replace(backend, name=f"{backend.name}N", noise=0.25)
    for lanes, horizon_s in ((1, 40.0), (4, 20.0)):
        yield replace(accelerator(lanes, horizon_s), name=f"P{lanes}", shape=padded)
    yield replace(accelerator(4, 20.0), name="A4K", shape=partial(kneed, knee_rows=16, extra_s=0.001))
    yield replace(accelerator(4, 20.0), name="A4C", compile_s=0.2)


OTHERS = {backend.name: backend for backend in _others()}
OTHERS_TEXT = """\
PS: 1, 2, 4 cores that share their calls, A's times; PSB: B's times. PST: each call more than cores makes all slower by
10 %. N: noise of 25 %. P: padded to powers of two. K: 1 ms more for each row above 16. C: the first call of each row
count takes 200 ms more. Then days (the load swings between 0.1 and 1.9 of its mean) and closed loops."""

OTHER_LOADS = (0.30, 0.70, 0.95)

CALLERS = (Callers(1), Callers(8), Callers(32), Callers(128), Callers(64, 0.05), Callers(256, 0.05))
"""Closed loops, with and without time to think."""


def points(names: Iterable[str] = (), factor: float = 1.0) -> Iterator[Scenario]:
    """Every load of the named backends; of the usual ones without names."""
    for name in names or BACKENDS:
        if name in OTHERS:
            yield from (Scenario(OTHERS[name], load, "poisson", factor) for load in OTHER_LOADS)
            continue
        yield from (Scenario(BACKENDS[name], load, "poisson", factor) for load in LOADS)
        yield from (Scenario(BACKENDS[name], load, "bursty", factor) for load in BURSTY_LOADS)


def other_arrivals(factor: float = 1.0) -> Iterator[Scenario]:
    """Days and closed loops."""
    for name in ("A1", "A4", "B4", "D4"):
        yield Scenario(replace(BACKENDS[name], horizon_s=20.0), 0.45, "diurnal", factor)
    for name in ("A1", "A4", "B1", "D1"):
        for callers in CALLERS:
            yield Scenario(replace(BACKENDS[name], horizon_s=10.0), 0.0, "closed", factor, callers)


def backend(name: str) -> Backend:
    """One of the usual ones or of the others."""
    return BACKENDS.get(name) or OTHERS[name]


def choices() -> dict[str, dict[str, Setting]]:
    """Backend and scenario to the oracle's setting; under ``static`` the best one for all of the backend's scenarios.

    Made by ``python -m benchmarks simulate --oracle``.
    """
    found: dict[str, dict[str, tuple[int, int | None]]] = json.loads(ORACLE.read_text())
    return {
        name: {column: Setting(limit, INF if over is None else over) for column, (limit, over) in row.items()}
        for name, row in found.items()
    }


def write_choices(found: Mapping[str, Mapping[str, Setting]]) -> None:
    """A line a backend."""
    lines = []
    for name, row in found.items():
        plain = {column: [one.limit, None if one.overflow == INF else one.overflow] for column, one in row.items()}
        lines.append(f' "{name}": {json.dumps(plain)}')
    ORACLE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
