"""Simulated worlds beside the points of ``benchmarks.scenarios``: servers that change, objectives, several endpoints,
tenants that share one, and what the scheduler costs. Each function is a table of the page.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import Any, NamedTuple, cast

from batchproxy.core.scheduler import Scheduler
from batchproxy.simulation.arrivals import Arrivals, mixed, poisson, steps
from batchproxy.simulation.draws import stream
from batchproxy.simulation.log import Log
from batchproxy.simulation.oracle import Setting
from batchproxy.simulation.report import above, mean, short, table
from batchproxy.simulation.rivals import INF, Aimd, Cork, Fixed, drive
from batchproxy.simulation.scenario import MAX_ROWS, Backend, Scenario, ours, theirs
from batchproxy.simulation.servers import Change, Pool
from batchproxy.simulation.world import Kind, Timed, World, build_scheduler, policy
from benchmarks.scenarios import BACKENDS

Map = Callable[[Callable[[Any], Any], Sequence[Any]], Iterator[Any]]
"""``map``, over processes."""

CHANGE_S, END_S = 10.0, 20.0
SLICES = ((5.0, 10.0), (10.0, 10.5), (10.5, 11.0), (11.0, 13.0), (13.0, 20.0))
FOLLOWED_CALLS = 100
"""Calls after a change within which it is to be followed."""

LEFT_S = 2.0
"""What is compared with the static settings, at least: the last seconds of a run."""


class Shift(NamedTuple):
    """A change at ``CHANGE_S``.

    Attributes:
        name: what happens.
        backend: to whom.
        load: of the backend as it was.
        change: of the server; None: the load changes.
        load_after: of the backend as it was.
    """

    name: str
    backend: str
    load: float
    change: Change | None = None
    load_after: float | None = None


SHIFTS = (
    Shift("twice as slow", "A4", 0.45, Change(CHANGE_S, slower=2.0)),
    Shift("4 lanes to 2", "A4", 0.45, Change(CHANGE_S, lanes=2)),
    Shift("1 lane to 4", "A1", 0.9, Change(CHANGE_S, lanes=4)),
    Shift("1 lane to 4", "A1", 0.7, Change(CHANGE_S, lanes=4)),
    Shift("twice as slow", "A1", 0.45, Change(CHANGE_S, slower=2.0)),
    Shift("twice as fast", "A4", 0.9, Change(CHANGE_S, slower=0.5)),
    Shift("1.3 times as slow", "A4", 0.7, Change(CHANGE_S, slower=1.3)),
    Shift("load to 80 %", "A4", 0.1, None, 0.8),
    Shift("load to 80 %", "A8", 0.1, None, 0.8),
    Shift("twice as slow", "A8", 0.45, Change(CHANGE_S, slower=2.0)),
    Shift("twice as slow", "B4", 0.45, Change(CHANGE_S, slower=2.0)),
)


def _shifted(shift: Shift) -> Scenario:
    changes = () if shift.change is None else (shift.change,)
    return Scenario(replace(BACKENDS[shift.backend], changes=changes, horizon_s=END_S), shift.load)


def _shift_requests(shift: Shift, scenario: Scenario, seed: int) -> Arrivals:
    after = scenario.rate * (shift.load_after or shift.load) / shift.load
    return Arrivals(steps(((0.0, scenario.rate), (CHANGE_S, after)), END_S, stream(seed, "arrivals")))


def _shift_runs(job: tuple[Shift, int]) -> tuple[list[float], float, dict[Setting, float], float]:
    """Our mean of each slice; from ``FOLLOWED_CALLS`` calls after the change on; the static ones there; that time."""
    shift, seed = job
    scenario = _shifted(shift)
    requests = _shift_requests(shift, scenario, seed)
    log = ours(scenario, seed, requests=requests)
    followed_s = _followed(log)
    static = {}
    for limit in (1, 2, 3, 4, 6, 8, 9, 10, 12):
        for overflow in (0, 1, INF):
            setting = Setting(limit, overflow)
            run = theirs(setting.rival(MAX_ROWS), scenario, seed, requests=requests)
            static[setting] = run.figures(start=followed_s).mean_ms
    parts = [log.figures(start=start, stop=stop).mean_ms for start, stop in SLICES]
    return parts, log.figures(start=followed_s).mean_ms, static, followed_s


def _followed(log: Log) -> float:
    """When the call was back that is ``FOLLOWED_CALLS`` calls after the change."""
    done = [time for time in log.done if time > CHANGE_S]
    return min(done[FOLLOWED_CALLS], END_S - LEFT_S) if len(done) > FOLLOWED_CALLS else END_S - LEFT_S


CHANGES_TEXT = f"""\
What changes 10 s into a run of 20, and the mean latency before and after it. From {FOLLOWED_CALLS} calls after the
change on, we are compared with the static setting that is best for that very stretch."""


def changes_table(map_: Map, seeds: Sequence[int]) -> str:
    """A line a change: mean latency before and after it, and the distance to the static setting that suits the end."""
    jobs = [(shift, seed) for shift in SHIFTS for seed in seeds]
    results = map_(_shift_runs, jobs)
    rows = []
    for shift in SHIFTS:
        runs = [next(results) for _ in seeds]
        parts = [short(mean(run[0][index] for run in runs)) for index in range(len(SLICES))]
        best = min((mean(run[2][setting] for run in runs), setting) for setting in runs[0][2])
        excess = mean(run[1] for run in runs) / best[0] - 1
        after_ms = f"{1000 * mean(run[3] - CHANGE_S for run in runs):.0f}"
        name = f"{shift.backend} at {100 * shift.load:.0f} %: {shift.name}"
        rows.append([name, *parts, after_ms, above(excess), short(best[0]), str(best[1])])
    head = ["ms", *(f"{start - CHANGE_S:g} to {stop - CHANGE_S:g} s" for start, stop in SLICES)]
    head += [f"{FOLLOWED_CALLS} calls take", "then above static, %", "static", "it sends"]
    return table(head, rows)


# -- objectives ------------------------------------------------------------------------------------

OBJECTIVES = (("A1", 0.06), ("A4", 0.04), ("A8", 0.04), ("B1", 0.2), ("D1", 0.006))
OBJECTIVE_LOADS = ((0.7, "poisson"), (0.95, "poisson"), (1.2, "poisson"), (1.5, "poisson"), (0.5, "bursty"))


OBJECTIVES_TEXT = """\
Callers that wait no longer than the objective, with their deadline on each request; part of all requests that were
answered within it. *Bound*: what could be served at all in full batches without a round trip. Rivals but BentoML-like
know of no deadline. *Fixed, k=lanes* has any number of full batches above it."""


def _goodput(job: tuple[Scenario, int]) -> list[float]:
    scenario, seed = job
    requests = scenario.requests(seed)
    limit, objective_s = scenario.backend.lanes, scenario.objective_s
    rivals = (Fixed(limit, INF), Aimd(objective_s), Cork(deadline_s=objective_s))
    logs = [ours(scenario, seed, requests=requests)]
    logs += [theirs(rival, scenario, seed, requests=requests) for rival in rivals]
    return [log.figures(objective_s).goodput for log in logs]


def goodput_table(map_: Map, seeds: Sequence[int], factor: float) -> str:
    """A line a load: part of the requests answered in time."""
    chosen = [
        Scenario(BACKENDS[name], load, arrivals, factor, objective_s=objective_s)
        for name, objective_s in OBJECTIVES
        for load, arrivals in OBJECTIVE_LOADS
    ]
    results = map_(_goodput, [(scenario, seed) for scenario in chosen for seed in seeds])
    rows = []
    for scenario in chosen:
        runs = [next(results) for _ in seeds]
        bound = f"{100 * min(1.0, 1 / scenario.load):.1f}" if scenario.arrivals == "poisson" else ""
        found = [f"{100 * mean(run[index] for run in runs):.1f}" for index in range(len(runs[0]))]
        rows.append([
            f"{scenario.backend.name}, {1000 * scenario.objective_s:.0f} ms, {scenario.name}", bound, *found,
        ])  # fmt: skip
    return table(["In time, %", "bound", "batchproxy", "fixed, k=lanes", "AIMD", "BentoML-like"], rows)


# -- several endpoints -----------------------------------------------------------------------------

SLOW = Backend("slow", 1, 0.024, 0.00075)
POOLS: tuple[tuple[str, tuple[Backend, ...]], ...] = (
    ("two equal (A1)", (BACKENDS["A1"], BACKENDS["A1"])),
    ("A1 and one of a third of its speed", (BACKENDS["A1"], SLOW)),
    ("A4 and A1", (BACKENDS["A4"], BACKENDS["A1"])),
    ("two A1, one 3 times as slow from 5 s on",
     (BACKENDS["A1"], replace(BACKENDS["A1"], changes=(Change(5.0, slower=3.0),)))),
    ("two A1 and two of a third of their speed", (BACKENDS["A1"], BACKENDS["A1"], SLOW, SLOW)),
)  # fmt: skip
POOL_LOADS = (0.3, 0.7, 0.9)
POOL_S = 15.0


POOLS_TEXT = """\
One scheduler before several servers, and the best of static settings whose balancer takes the server with the least
in flight, divided by its true speed or not, each held to its lanes or not. Loads are of what the pool can do."""


def _speed(backend: Backend) -> float:
    """Rows a second at the end of a run."""
    slower = backend.changes[-1].slower if backend.changes else None
    return backend.capacity() / (slower or 1.0)


def _pool_runs(job: tuple[tuple[Backend, ...], float, int]) -> tuple[float, float]:
    """Our mean latency, and that of the best static setting: limit, overflow, caps, speeds known or not."""
    backends, load, seed = job
    speeds = [_speed(backend) for backend in backends]
    requests = Arrivals(poisson(load * sum(speeds), POOL_S, stream(seed, "arrivals")))
    servers = {str(index): backend.server(seed + 1000 * index) for index, backend in enumerate(backends)}
    policies = {"m": policy(MAX_ROWS)}
    log = World(build_scheduler(policies, list(servers)), servers, requests).run(POOL_S)
    lanes = [float(backend.lanes) for backend in backends]
    means = []
    for known, caps in product((speeds, [1.0] * len(speeds)), (lanes, [INF] * len(lanes))):
        for limit, overflow in product(range(1, int(sum(lanes)) + 4), (0, 1, INF)):
            made = [backend.server(seed + 1000 * index) for index, backend in enumerate(backends)]
            run = drive(Fixed(limit, overflow), Pool(made, known, caps), requests, POOL_S)
            means.append(run.figures().mean_ms)
    return log.figures().mean_ms, min(means)


def pools_table(map_: Map, seeds: Sequence[int]) -> str:
    """A line a pool and load: mean latency."""
    cases = [(name, backends, load) for name, backends in POOLS for load in POOL_LOADS]
    results = map_(_pool_runs, [(backends, load, seed) for _, backends, load in cases for seed in seeds])
    rows = []
    for name, _, load in cases:
        runs = [next(results) for _ in seeds]
        our, best = (mean(run[index] for run in runs) for index in range(2))
        rows.append([f"{name}, {100 * load:.0f} %", short(our), short(best), above(our / best - 1)])
    return table(["ms", "batchproxy", "best static", "excess %"], rows)


# -- sharing ---------------------------------------------------------------------------------------

LIGHT_LOAD = 0.05


SHARING_TEXT = """\
Two models on an A4, one of them with little to do: what its callers see beside the other, and without it."""


def _shared(job: tuple[float, int]) -> tuple[float, float, float, float]:
    """The light one's mean and p99 beside a heavy one, and alone."""
    heavy, seed = job
    backend = replace(BACKENDS["A4"], horizon_s=10.0)
    found: list[float] = []
    for load in (heavy, 0.0):
        light = Arrivals(poisson(LIGHT_LOAD * backend.capacity(), 10.0, stream(seed, "light")))
        parts = [light]
        if load:
            parts.append(Arrivals(poisson(load * backend.capacity(), 10.0, stream(seed, "heavy"))))
        kinds = (Kind("light"), Kind("heavy"))
        policies = {kind.model: policy(MAX_ROWS) for kind in kinds}
        scheduler = build_scheduler(policies, ["one"])
        world = World(scheduler, {"one": backend.server(seed)}, mixed(parts), kinds=kinds)
        log = world.run(10.0)
        waits = 1000 * log.latencies(kind=0)
        found += [float(waits.mean()), float(sorted(waits)[int(0.99 * len(waits))])]
    return found[0], found[1], found[2], found[3]


def sharing_table(map_: Map, seeds: Sequence[int]) -> str:
    """Two models on one endpoint: what a light one's callers see beside a heavy one."""
    loads = (0.5, 0.9, 1.2, 2.0)
    results = map_(_shared, [(load, seed) for load in loads for seed in seeds])
    rows = []
    for load in loads:
        runs = [next(results) for _ in seeds]
        rows.append([f"heavy at {100 * load:.0f} %", *(short(mean(run[index] for run in runs)) for index in range(4))])
    return table([f"light at {100 * LIGHT_LOAD:.0f} %, ms", "mean", "p99", "mean alone", "p99 alone"], rows)


# -- cost ------------------------------------------------------------------------------------------

ENDPOINTS = (1, 10, 100, 1000)
REQUESTS = 30_000
RATE = 1000.0
"""Rows a second for each endpoint: 1,000 endpoints take a million."""


COST_TEXT = """\
Microseconds for everything that the scheduler is asked, with 1,000 rows/s for each endpoint (A1): figures of one
machine and hour, so that only how they grow means something."""


def cost_table() -> str:
    """What the scheduler costs: processor time a request and a call, by the number of endpoints. In this process."""
    rows = []
    for count in ENDPOINTS:
        names = [str(index) for index in range(count)]
        horizon_s = REQUESTS / RATE / count
        requests = Arrivals(poisson(RATE * count, horizon_s, stream(1, "arrivals")))
        policies = {"m": policy(MAX_ROWS)}
        scheduler = Timed(build_scheduler(policies, names), time.perf_counter)
        servers = {name: BACKENDS["A1"].server(int(name)) for name in names}
        log = World(cast("Scheduler", scheduler), servers, requests).run(horizon_s)
        rows.append([
            f"{count:,}", f"{RATE * count:,.0f}", f"{1e6 * scheduler.seconds / log.requests:.1f}",
            f"{1e6 * scheduler.seconds / len(log.rows):.1f}", f"{log.figures().mean_rows:.1f}",
            short(log.figures().mean_ms),
        ])  # fmt: skip
    return table(["Endpoints", "rows/s", "us a request", "us a call", "rows a call", "mean ms"], rows)
