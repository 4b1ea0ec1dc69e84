"""``python -m benchmarks simulate``: the scheduler in virtual time beside its rivals and an oracle.

Quick look: ``python -m benchmarks simulate --only A4 B4 --seeds 2 --quick``.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor

from batchproxy.simulation import report
from batchproxy.simulation.log import Figures
from batchproxy.simulation.oracle import Setting, best, best_for_all, means
from batchproxy.simulation.report import Point
from batchproxy.simulation.scenario import Scenario, ours, theirs
from benchmarks import scenarios

QUICK_FACTOR = 0.5
"""Of the run lengths, for a look."""


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
    args = parser.parse_args(argv)
    with ProcessPoolExecutor(args.jobs) as pool:
        if args.oracle:
            make_oracle(pool, args.only)
            return 0
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
    chosen += [] if only else scenarios.other_arrivals()
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


def say(line: str) -> None:
    """Progress."""
    print(line, file=sys.stderr, flush=True)
