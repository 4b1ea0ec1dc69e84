"""Histograms, and what one kind of answered requests came to. No names of metrics, and no Prometheus, here.

Values are noted, and put into their buckets many at a time.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

import numpy as np

from batchproxy.core.errors import Code

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Bucket bounds of times: half a millisecond (a lone small request) to TF Serving's REST time limit."""

NOTED = 1024
"""Values that are noted before they are counted: numpy takes 20 ns for each of so many, and 10 us for a single one."""


class Histogram:
    """Counts per bucket; the last one takes what is above every bound.

    Attributes:
        noted: values that are not counted yet. Whoever adds to it calls ``count_noted`` now and then.
    """

    __slots__ = ("_bounds", "_counts", "_total", "noted")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = np.zeros(len(bounds) + 1, np.int64)
        self._total = 0.0
        self.noted: list[float] = []

    def add(self, value: float) -> None:
        """Count one value."""
        self.noted.append(value)
        if len(self.noted) >= NOTED:
            self.count_noted()

    def add_since(self, times: Sequence[float], now: float) -> None:
        """Count how long ago these times are ``now``: one time mostly, since callers come in one turn of the loop."""
        first, count = times[0], len(times)
        if times.count(first) == count:
            value = now - first
            self._counts[bisect_left(self._bounds, value)] += count
            self._total += value * count
            return
        self.noted += [now - then for then in times]
        if len(self.noted) >= NOTED:
            self.count_noted()

    def count_noted(self) -> None:
        """Put what was noted into its buckets."""
        noted = np.array(self.noted)
        self.noted.clear()
        self._counts += np.bincount(np.searchsorted(self._bounds, noted), minlength=len(self._counts))
        self._total += float(noted.sum())

    @property
    def total(self) -> float:
        """The sum of all values."""
        return self._total + sum(self.noted)

    @property
    def count(self) -> int:
        """How many values were counted."""
        return int(self._counts.sum()) + len(self.noted)

    def buckets(self) -> Iterator[tuple[str, float]]:
        """(bound, count of values up to it), as Prometheus wants them: cumulative, the last one ``+Inf``."""
        self.count_noted()
        below = 0
        for bound, count in zip((*map(str, self._bounds), "+Inf"), self._counts.tolist(), strict=True):
            below += count
            yield bound, below


class Answered:
    """The requests of one model, method and protocol: how many by status code, and how long they took."""

    __slots__ = ("codes", "seconds")

    def __init__(self) -> None:
        self.codes: dict[Code, int] = {}
        self.seconds = Histogram(SECONDS)

    def count(self, code: Code, seconds: float) -> None:
        """One more."""
        codes = self.codes
        codes[code] = codes.get(code, 0) + 1
        noted = self.seconds.noted  # as its ``add``: this is done for every request
        noted.append(seconds)
        if len(noted) >= NOTED:
            self.seconds.count_noted()

    def count_all(self, code: Code, started: Sequence[float], now: float) -> None:
        """Some more, of one outcome: ``now`` they are answered, and then each of them came."""
        self.codes[code] = self.codes.get(code, 0) + len(started)
        self.seconds.add_since(started, now)
