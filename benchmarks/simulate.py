"""``python -m benchmarks simulate``: the scheduler in virtual time beside its rivals and an oracle.

Quick look: ``python -m benchmarks simulate --only A4 B4 --seeds 2 --quick``.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor

from batchproxy.simulation import report
from batchproxy.simulation.log import Figures
from batchproxy.simulation.oracle import Setting, best, best_for_all, means
from batchproxy.simulation.report import Point
from batchproxy.simulation.scenario import Scenario, ours, rivals, theirs
from benchmarks import scenarios, simulation_page, worlds
from benchmarks.simulation_page import Found

QUICK_FACTOR = 0.5
"""Of the run lengths, for a look."""

SHOWN = ("A1", "A4", "A8", "B4", "D4")
"""Backends whose rivals the page shows."""

FEW = 3
"""Seeds of all but the points."""


def main(argv: Sequence[str]) -> int:
    """Run and print; 1 where a point is unstable that the oracle keeps stable."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks simulate", description=__doc__)
    parser.add_argument(
        "--only", nargs="+", default=[], choices=[*scenarios.BACKENDS, *scenarios.OTHERS], metavar="BACKEND"
    )
    parser.add_argument("--load", nargs="+", type=float, default=[], metavar="PERCENT", help="only these loads")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="runs a point (default 5)")
    parser.add_argument("--tuning", action="store_true", help="on the seeds for design, not on the held-out ones")
    parser.add_argument("--quick", action="store_true", help="half as long, on the seeds for design: a look")
    parser.add_argument("--oracle", action="store_true", help="make benchmarks/oracle.json again: twenty minutes")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count(), metavar="N", help="processes (default: a core each)"
    )
    parser.add_argument("--write", action="store_true", help="write docs/simulation.md and .png: half an hour")
    args = parser.parse_args(argv)
    with ProcessPoolExecutor(args.jobs) as pool:
        if args.oracle:
            make_oracle(pool, args.only)
            return 0
        if args.write:
            return int(any(point.unstable for point in write(pool, scenarios.HELD_OUT[: args.seeds])))
        factor = QUICK_FACTOR if args.quick else 1.0
        seeds = (scenarios.TUNING if args.quick or args.tuning else scenarios.HELD_OUT)[: args.seeds]
        chosen = [p for p in scenarios.points(args.only, factor) if not args.load or round(100 * p.load) in args.load]
        points = list(compare(pool, chosen, seeds))
    print(report.distance_table(points), end="\n\n")
    print(report.misses_table(points), end="\n\n")
    print(report.verdict(points))
    return int(any(point.unstable for point in points))


def compare(pool: ProcessPoolExecutor, chosen: Sequence[Scenario], seeds: Sequence[int]) -> Iterator[Point]:
    """Each scenario on each seed, by us and by the oracle's choice for it."""
    known = scenarios.choices()
    start = time.monotonic()
    picks = [known[scenario.backend.name][scenario.name] for scenario in chosen]
    jobs = [(scenario, seed, pick) for scenario, pick in zip(chosen, picks, strict=True) for seed in seeds]
    results = pool.map(_pair, jobs)
    for scenario, pick in zip(chosen, picks, strict=True):
        ran, best, warm, best_warm = zip(*(next(results) for _ in seeds), strict=True)
        name, lanes = scenario.backend.name, scenario.backend.lanes
        point = Point(name, scenario.name, scenario.load, lanes, ran, best, warm, best_warm, str(pick))
        say(f"{point.backend} {point.scenario}: {100 * point.excess:+.1f} % ({time.monotonic() - start:.0f} s)")
        yield point


def _pair(job: tuple[Scenario, int, Setting]) -> tuple[Figures, Figures, Figures, Figures]:
    scenario, seed, setting = job
    requests = scenario.requests(seed)
    warm_s = scenario.horizon_s / 3
    our = ours(scenario, seed, requests=requests)
    best = theirs(setting.rival(scenario.max_rows), scenario, seed, requests=requests)
    return our.figures(), best.figures(), our.figures(start=warm_s), best.figures(start=warm_s)


def make_oracle(pool: ProcessPoolExecutor, only: Sequence[str]) -> None:
    """Try every static setting on every scenario, and write down which is best."""
    chosen = list(scenarios.points(only or [*scenarios.BACKENDS, *scenarios.OTHERS]))
    chosen += [one for one in scenarios.other_arrivals() if not only or one.backend.name in only]
    found = {name: dict(row) for name, row in scenarios.choices().items()}
    tried: dict[str, list[dict[Setting, list[float]]]] = defaultdict(list)
    start = time.monotonic()
    for scenario, one in zip(chosen, pool.map(_means, chosen), strict=True):
        name = scenario.backend.name
        row = found.setdefault(name, {})
        row[scenario.name] = best(one)
        if scenario.callers is None and scenario.arrivals != "diurnal":
            tried[name].append(one)
            row["static"] = best_for_all(tried[name])
        say(f"{name} {scenario.name}: {row[scenario.name]} ({time.monotonic() - start:.0f} s)")
        scenarios.write_choices(found)


def _means(scenario: Scenario) -> dict[Setting, list[float]]:
    return means(scenario, scenarios.ORACLE_SEEDS)


def write(pool: ProcessPoolExecutor, seeds: Sequence[int]) -> Sequence[Point]:
    """Run everything, and write the page."""
    points = list(compare(pool, list(scenarios.points()), seeds))
    others = [*scenarios.points(scenarios.OTHERS), *scenarios.other_arrivals()]
    few = seeds[:FEW]
    found = Found(
        points,
        list(compare(pool, others, few)),
        rivals_beside(pool, points, few),
        static_rows(pool, points, seeds),
        tables(pool, few),
        seeds,
    )
    simulation_page.write(found)
    return points


def rivals_beside(
    pool: ProcessPoolExecutor, points: Sequence[Point], seeds: Sequence[int]
) -> dict[str, dict[str, dict[str, Sequence[Figures]]]]:
    """Backend, contender, scenario: runs. Ours and the oracle's are those of the points."""
    found: dict[str, dict[str, dict[str, Sequence[Figures]]]] = {}
    for name in SHOWN:
        own = [point for point in points if point.backend == name]
        rows: dict[str, dict[str, Sequence[Figures]]] = {
            "batchproxy": {point.scenario: point.ours for point in own},
            "oracle": {point.scenario: point.oracle for point in own},
        }
        chosen = list(scenarios.points([name]))
        jobs = [(rival, scenario, seed) for rival in rivals() for scenario in chosen for seed in seeds]
        results = pool.map(_rival, jobs)
        for rival in rivals():
            rows[rival] = {scenario.name: [next(results) for _ in seeds] for scenario in chosen}
        found[name] = rows
        say(f"rivals on {name}")
    return found


def _rival(job: tuple[str, Scenario, int]) -> Figures:
    name, scenario, seed = job
    return theirs(rivals()[name](seed), scenario, seed).figures()


def static_rows(pool: ProcessPoolExecutor, points: Sequence[Point], seeds: Sequence[int]) -> list[list[str]]:
    """A line a backend: its best static setting, how far we are above it, and it above the oracle."""
    known = scenarios.choices()
    chosen = list(scenarios.points())
    jobs = [(scenario, seed, known[scenario.backend.name]["static"]) for scenario in chosen for seed in seeds]
    results = pool.map(_static, jobs)
    worst: dict[str, tuple[float, str]] = {}
    behind: dict[str, float] = {}
    for point in points:
        mean_ms = report.mean(next(results) for _ in seeds)
        above = report.mean(run.mean_ms for run in point.ours) / mean_ms - 1
        worst[point.backend] = max(worst.get(point.backend, (-1.0, "")), (above, point.scenario))
        its = mean_ms / report.mean(run.mean_ms for run in point.oracle) - 1
        behind[point.backend] = max(behind.get(point.backend, 0.0), its)
    return [
        [name, str(known[name]["static"]), report.above(above), where, report.above(behind[name])]
        for name, (above, where) in worst.items()
    ]


def _static(job: tuple[Scenario, int, Setting]) -> float:
    scenario, seed, setting = job
    return theirs(setting.rival(scenario.max_rows), scenario, seed).figures().mean_ms


def tables(pool: ProcessPoolExecutor, seeds: Sequence[int]) -> dict[str, tuple[str, str]]:
    """Heading to text and table, of the worlds that are no points."""
    makers: dict[str, tuple[str, Callable[[], str]]] = {
        "Changes": (worlds.CHANGES_TEXT, lambda: worlds.changes_table(pool.map, seeds)),
        "Objectives": (worlds.OBJECTIVES_TEXT, lambda: worlds.goodput_table(pool.map, seeds, QUICK_FACTOR)),
        "Several endpoints": (worlds.POOLS_TEXT, lambda: worlds.pools_table(pool.map, seeds)),
        "Two models on one endpoint": (worlds.SHARING_TEXT, lambda: worlds.sharing_table(pool.map, seeds)),
        "What the scheduler costs": (worlds.COST_TEXT, worlds.cost_table),
    }
    found = {}
    for heading, (text, make) in makers.items():
        found[heading] = (text, make())
        say(heading)
    return found


def say(line: str) -> None:
    """Progress."""
    print(line, file=sys.stderr, flush=True)
