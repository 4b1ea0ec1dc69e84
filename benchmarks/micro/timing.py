"""How a micro case is timed. No case is here.

Samples are of the thread's processor time, not of the clock on the wall, and are taken in turns over all cases: other
work on the machine then hits a case and its yardstick alike. The garbage collector stays on, since it is part of
the price; what was imported before is frozen out of its sight.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Round = Callable[[], int]
"""Does some work and returns how many requests that was."""

SAMPLE_S = 0.02
"""A sample lasts about so long: 20,000 times the resolution of the clock, and short beside a neighbour's burst."""


@dataclass(frozen=True)
class Case:
    """One thing to be timed.

    Attributes:
        name: unique, for people.
        make: sets up, and returns the work.
        yardstick: name of the case that this one's time is divided by; empty for none.
    """

    name: str
    make: Callable[[], Round]
    yardstick: str = ""


@dataclass(frozen=True)
class Figure:
    """Microseconds of processor time per request.

    Attributes:
        best: of all samples; the one to compare.
        median: of all samples; far from the best on a machine that others use, too.
        ratio: to the yardstick's best; None where there is no yardstick.
    """

    name: str
    best: float
    median: float
    yardstick: str = ""
    ratio: float | None = None


def measure(cases: Sequence[Case], samples: int, progress: Callable[[str], None] = lambda line: None) -> list[Figure]:
    """Time each case ``samples`` times, in turns; with 0 each is run once, to see that it works.

    Raises:
        KeyError: a yardstick is not among the cases.
    """
    rounds = {case.name: case.make() for case in cases}
    gc.collect()
    gc.freeze()
    repeats = {name: _calibrate(work) if samples else 1 for name, work in rounds.items()}
    times: dict[str, list[float]] = {name: [] for name in rounds}
    for number in range(max(1, samples)):
        for name, work in rounds.items():
            times[name].append(_sample(work, repeats[name]))
        progress(f"sample {number + 1} of {max(1, samples)}")
    gc.unfreeze()
    best = {name: min(values) for name, values in times.items()}
    return [
        Figure(
            case.name,
            best[case.name],
            statistics.median(times[case.name]),
            case.yardstick,
            best[case.name] / best[case.yardstick] if case.yardstick else None,
        )
        for case in cases
    ]


def _sample(work: Round, repeats: int) -> float:
    requests = 0
    start = time.thread_time()
    for _ in range(repeats):
        requests += work()
    return 1e6 * (time.thread_time() - start) / requests


def _calibrate(work: Round) -> int:
    """How many rounds make a sample; warms up on the way."""
    repeats = 1
    while True:
        start = time.thread_time()
        for _ in range(repeats):
            work()
        spent = time.thread_time() - start
        if spent >= SAMPLE_S / 4:
            return max(1, round(repeats * SAMPLE_S / spent))
        repeats *= 2
