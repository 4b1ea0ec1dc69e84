"""``python -m benchmarks simulate``: the scheduler in virtual time beside its rivals and an oracle.

Quick look: ``python -m benchmarks simulate --only A4 B4 --seeds 2 --quick``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from batchproxy.simulation import report
from batchproxy.simulation.log import Figures
from batchproxy.simulation.report import Point
from batchproxy.simulation.rivals import INF
from batchproxy.simulation.scenario import Scenario, ours, theirs
from benchmarks import scenarios

QUICK_FACTOR = 0.5
"""Of the run lengths, for a look."""

Key = tuple[str, float, str, float]


def main(argv: Sequence[str]) -> int:
    """Run and print; 1 where a point is unstable that the oracle keeps stable."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks simulate", description=__doc__)
    parser.add_argument("--only", nargs="+", default=[], choices=list(scenarios.BACKENDS), metavar="BACKEND")
    parser.add_argument("--load", nargs="+", type=float, default=[], metavar="PERCENT", help="only these loads")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="runs a point (default 5)")
    parser.add_argument("--tuning", action="store_true", help="on the seeds for design, not on the held-out ones")
    parser.add_argument("--quick", action="store_true", help="half as long, on the seeds for design: a look")
    parser.add_argument("--oracle", action="store_true", help="make benchmarks/oracle.json again: half an hour")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count(), metavar="N", help="processes (default: a core each)"
    )
    args = parser.parse_args(argv)
    with ProcessPoolExecutor(args.jobs) as pool:
        if args.oracle:
            return _make_oracle(pool, args.only)
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
    choices = scenarios.oracle_choices()
    start = time.monotonic()
    picks = [choices[scenario.backend.name][scenario.name] for scenario in chosen]
    jobs = [(_key(scenario), seed, pick) for scenario, pick in zip(chosen, picks, strict=True) for seed in seeds]
    results = pool.map(_pair, jobs)
    for scenario, pick in zip(chosen, picks, strict=True):
        ran, best, warm, best_warm = zip(*(next(results) for _ in seeds), strict=True)
        backend = scenario.backend
        point = Point(
            backend.name,
            scenario.name,
            scenario.load,
            backend.lanes,
            ran,
            best,
            warm,
            best_warm,
            scenarios.spoken(pick),
        )
        _say(f"{point.backend} {point.scenario}: {100 * point.excess:+.1f} % ({time.monotonic() - start:.0f} s)")
        yield point


def _pair(job: tuple[Key, int, tuple[int, float]]) -> tuple[Figures, Figures, Figures, Figures]:
    key, seed, choice = job
    scenario = _scenario(key)
    requests = scenario.requests(seed)
    warm_s = scenario.horizon_s / 3
    ran = ours(scenario, seed, requests=requests), theirs(scenarios.static(choice), scenario, seed, requests=requests)
    return ran[0].figures(), ran[1].figures(), ran[0].figures(start=warm_s), ran[1].figures(start=warm_s)


# -- the oracle ------------------------------------------------------------------------------------


def _make_oracle(pool: ProcessPoolExecutor, only: Sequence[str]) -> int:
    chosen = list(scenarios.points(only))
    found: dict[str, dict[str, Any]] = json.loads(scenarios.ORACLE.read_text()) if scenarios.ORACLE.exists() else {}
    start = time.monotonic()
    for scenario, (limit, overflow) in zip(chosen, pool.map(_best, map(_key, chosen)), strict=True):
        found.setdefault(scenario.backend.name, {})[scenario.name] = [limit, None if overflow == INF else overflow]
        _say(f"{scenario.backend.name} {scenario.name}: k={limit} +{overflow} ({time.monotonic() - start:.0f} s)")
        lines = ",\n".join(f' "{name}": {json.dumps(row)}' for name, row in found.items())
        scenarios.ORACLE.write_text(f"{{\n{lines}\n}}\n")
    return 0


def _best(key: Key) -> tuple[int, float]:
    """The setting with the least mean latency; the second seed decides among those near the best of the first."""
    scenario = _scenario(key)
    means: dict[tuple[int, float], list[float]] = defaultdict(list)
    candidates = scenarios.grid(scenario.backend.lanes)
    for seed in scenarios.ORACLE_SEEDS:
        requests = scenario.requests(seed)
        for choice in candidates:
            means[choice].append(theirs(scenarios.static(choice), scenario, seed, requests=requests).figures().mean_ms)
        best = min(means[choice][0] for choice in candidates)
        candidates = [choice for choice in candidates if means[choice][0] <= 1.25 * best]
    return min(candidates, key=lambda choice: sum(means[choice]))


# -- processes -------------------------------------------------------------------------------------


def _key(scenario: Scenario) -> Key:
    """A scenario as what can be sent to another process."""
    return scenario.backend.name, scenario.load, scenario.arrivals, scenario.factor


def _scenario(key: Key) -> Scenario:
    name, load, arrivals, factor = key
    return Scenario(scenarios.BACKENDS[name], load, arrivals, factor)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
