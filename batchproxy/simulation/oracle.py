"""The best static setting for a scenario, found by trying them all. A reference, not a lower bound: it never holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import log
from typing import NamedTuple

from batchproxy.simulation.arrivals import Arrivals
from batchproxy.simulation.rivals import INF, Fixed
from batchproxy.simulation.scenario import Scenario, theirs

NEAR = 1.25
"""Settings that are this much worse than the best on the first seed are not tried on the others."""


class Setting(NamedTuple):
    """A static setting.

    Attributes:
        limit: calls in flight.
        overflow: full batches above it.
    """

    limit: int
    overflow: float

    def rival(self, max_rows: int) -> Fixed:
        """A contender that keeps to it."""
        return Fixed(self.limit, self.overflow, max_rows)

    def __str__(self) -> str:
        return f"k={self.limit}, +{'inf' if self.overflow == INF else int(self.overflow)}"


def grid(lanes: int) -> list[Setting]:
    """What is tried: limits up to 12, or 24 above 8 lanes, with no, one or any number of full batches above them."""
    return [Setting(limit, overflow) for limit in range(1, 25 if lanes > 8 else 13) for overflow in (0, 1, INF)]


def means(
    scenario: Scenario, seeds: Sequence[int], requests: Mapping[int, Arrivals] | None = None
) -> dict[Setting, list[float]]:
    """Mean latency in ms of each setting, a value a seed; one value only for those that are no match for the best."""
    found: dict[Setting, list[float]] = defaultdict(list)
    candidates = grid(scenario.backend.lanes)
    for seed in seeds:
        coming = requests[seed] if requests is not None else scenario.requests(seed)
        for setting in candidates:
            run = theirs(setting.rival(scenario.max_rows), scenario, seed, requests=coming)
            found[setting].append(run.figures(scenario.objective_s).mean_ms)
        least = min(found[setting][0] for setting in candidates)
        candidates = [setting for setting in candidates if found[setting][0] <= NEAR * least]
    return dict(found)


def best(found: Mapping[Setting, Sequence[float]]) -> Setting:
    """The setting with the least mean, of those tried on every seed."""
    seeds = max(map(len, found.values()))
    return min((sum(values), setting) for setting, values in found.items() if len(values) == seeds)[1]


def best_for_all(scenarios: Sequence[Mapping[Setting, Sequence[float]]]) -> Setting:
    """The one setting that is nearest to the best of each scenario, by the geometric mean of the ratios."""
    ratios: dict[Setting, float] = defaultdict(float)
    for found in scenarios:
        least = min(values[0] for values in found.values())
        for setting, values in found.items():
            ratios[setting] += log(values[0] / least)
    return min(ratios, key=lambda setting: ratios[setting])
