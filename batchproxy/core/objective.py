"""How many rows a batch may have for its callers to be answered in time. What they ask for is not known here.

A row that just misses a batch waits for that one and then for its own: so a batch may take half of the objective, with
95 % confidence. Where that would cost more than a tenth of the rows a second, it is too little that is worked off
which makes answers late, not the size: then a batch may take nine tenths of it. Where not even one row can be
answered within that, nothing is bounded.
"""

from __future__ import annotations

from math import inf

from batchproxy.core.cost import Cost

HALF, MOST = 0.5, 0.9
"""Parts of the objective that a batch may take: where larger ones would work off few rows more, and at most."""

KEPT = 0.9
"""Part of the rows a second of larger batches that those within half of the objective must work off to be preferred."""

FALL, RISE = 0.25, 1 / 64
"""How fast the patience that is expected of callers follows those with less of it, and those with more."""

LONGEST = 3600.0
"""Seconds beyond which nobody's patience bounds anything."""


class Objective:
    """The time that answers of one model may take.

    Args:
        slo_s: as configured, in seconds; 0: it was not.
    """

    __slots__ = ("_patience", "_slo_s")

    def __init__(self, slo_s: float = 0.0) -> None:
        self._slo_s = slo_s or inf
        self._patience = inf

    def seen(self, patience: float) -> None:
        """A batch leaves, whose most urgent caller waits for so many seconds in all."""
        if patience >= self._patience == inf:
            return
        if self._patience == inf:
            self._patience = patience
        step = FALL if patience < self._patience else RISE
        self._patience += (min(patience, 2.0 * self._patience) - self._patience) * step
        if self._patience > LONGEST:
            self._patience = inf

    @property
    def seconds(self) -> float:
        """What was configured, or the patience of nearly all callers where that is less; ``inf``: neither is known."""
        return min(self._slo_s, self._patience)

    def rows(self, cost: Cost, cap: int) -> float:
        """Rows that a batch may have: at least 1; ``cap`` or more: as many as there are.

        Args:
            cost: of its kind.
            cap: rows of a batch at most, as far as time allows.
        """
        seconds = self.seconds
        if seconds == inf or not cost.known:
            return inf
        most = min(rows_within(cost, MOST * seconds), cap)
        if most < 1:
            return inf
        half = max(1.0, min(rows_within(cost, HALF * seconds), cap))
        return half if half * cost.seconds(most) >= KEPT * most * cost.seconds(half) else most


def rows_within(cost: Cost, seconds: float) -> float:
    """Rows of the largest batch of which 95 in 100 take no longer; ``inf`` where rows cost nothing, below 1: none."""
    left = seconds / cost.p95 - cost.alpha
    if cost.beta > 0.0:
        return left / cost.beta
    return inf if left >= 0.0 else 0.0
