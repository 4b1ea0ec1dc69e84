"""A window: batches that ended one after another while their endpoint was busy, summed up. Judges nothing."""

from __future__ import annotations

import math
from typing import ClassVar

from batchproxy.core.cost import Cost

GUARD = (0.13, 0.4)
"""How far S/N must fall below 1 for a ceiling to be seen: at least, in little noise, and at most."""

NEAR = 0.7
"""Least ratio of two sizes of which the one stands for the other."""

KEPT, SAME = 0.8, 0.9
"""How fast batches of known sizes must have been, over alone, for other sizes to be learned from those beside them; and
from where on the difference is taken for noise."""


class _Part:
    """One kind of batch within a window."""

    __slots__ = ("count", "rows", "sizes")

    def __init__(self) -> None:
        self.count = 0
        self.rows = 0.0
        self.sizes: dict[int, list[float]] = {}  # bit length of the rows: batches, rows, seconds


class Window:
    """Sums over batches.

    Attributes:
        count: batches.
        rows: rows of all.
        sent: the same with what they were padded with, in rows of mean length: what they cost.
        room: rows they could have had.
        share: fair shares of the endpoint's time, in seconds: together the time it was busy for them.
        seconds: time from sending to answer, of all.
    """

    LEAST: ClassVar[int] = 8
    """Batches a window has at least: their mean is good to 3 % where a single one is good to 8 %."""

    SOON: ClassVar[int] = 4
    """The same of the very first windows, when two batches at a time are far too few for most endpoints."""

    __slots__ = ("_parts", "_sizes", "count", "room", "rows", "seconds", "sent", "share")

    def __init__(self) -> None:
        self.count = 0
        self.rows = 0
        self.sent = 0.0
        self.room = 0
        self.share = 0.0
        self.seconds = 0.0
        self._parts: dict[Cost, _Part] = {}
        self._sizes: set[int] = set()

    def add(self, cost: Cost, rows: int, cap: int, share: float, seconds: float, filler: float = 0) -> None:
        """A batch of ``rows`` rows, of at most ``cap``, took ``seconds`` and had ``share`` of them to itself."""
        sent = rows + filler
        self.count += 1
        self.rows += rows
        self.sent += sent
        self.room += cap
        self.share += share
        self.seconds += seconds
        self._sizes.add(rows)
        part = self._parts.get(cost)
        if part is None:
            part = self._parts[cost] = _Part()
        part.count += 1
        part.rows += sent
        size = part.sizes.setdefault(int(sent).bit_length(), [0, 0, 0.0])
        size[0] += 1
        size[1] += sent
        size[2] += seconds

    def complete(self, places: int, *, first: bool) -> bool:
        """Whether it can be judged: a batch for each of the ``places``, and enough for a mean."""
        return self.count >= max(self.SOON if first else self.LEAST, places)

    @property
    def crowd(self) -> float:
        """N: batches in flight, over time."""
        return self.seconds / self.share

    @property
    def speed(self) -> float:
        """S: work done by busy time, as the costs are known now."""
        return sum(cost.alpha * part.count + cost.beta * part.rows for cost, part in self._parts.items()) / self.share

    @property
    def guard(self) -> float:
        """How far below 1 S/N must be for a ceiling to be seen.

        That is 2.5 standard errors, of this window and of the lone batches that it is held against.
        """
        return self._errors(1.0 / max(1, min(16, self.main.samples)) + 1.0 / self.count)

    @property
    def luck(self) -> float:
        """How far above 1 S/N must be for costs to be wrong: 2.5 standard errors of this window alone.

        What they are held against may be off by more while few lone batches were seen, which is to be mended.
        """
        return self._errors(1.0 / self.count)

    def _errors(self, variance: float) -> float:
        """2.5 standard errors of what varies so much, where a single batch varies by 1; within ``GUARD``."""
        return max(GUARD[0], min(GUARD[1], 2.5 * (self.main.sigma * math.sqrt(variance))))

    @property
    def mean_rows(self) -> float:
        """Rows of a batch, with what it was padded with."""
        return self.sent / self.count

    @property
    def typical(self) -> int:
        """A size near the mean, if possible one that was sent: an endpoint that compiles has met it."""
        mean = self.mean_rows
        near = min(self._sizes, key=lambda rows: abs(math.log(rows / mean)))
        return near if NEAR * mean <= near <= mean / NEAR else max(1, round(mean))

    @property
    def main(self) -> Cost:
        """The cost of the kind that most batches were of."""
        return max(self._parts, key=lambda cost: self._parts[cost].count)

    def teach_shapes(self, kept: float) -> None:
        """Tell each cost what its sizes took; ``kept`` is S/N, by which all of them were slower than alone."""
        for cost, part in self._parts.items():
            for count, rows, seconds in part.sizes.values():
                cost.shape(rows / count, seconds / count * kept, min(4.0, count / 4.0))

    def introduce(self, turn: int) -> None:
        """Tell each cost what sizes took that it does not know, if those that it does took hardly longer than alone.

        It is told so before the first judgement: a row that is dear, and not yet known to be, looks like an endpoint
        that does one batch at a time; to see it empty instead takes time in which everybody waits.
        """
        for cost, part in self._parts.items():
            known = [size for length, size in part.sizes.items() if cost.timed(length)]
            count, seconds = sum(size[0] for size in known), sum(size[2] for size in known)
            alone = sum(size[0] * cost.seconds(size[1] / size[0]) for size in known)
            if count < 2 or alone < KEPT * seconds:
                continue
            kept = 1.0 if alone >= SAME * seconds else alone / seconds
            for length, (count, rows, seconds) in part.sizes.items():
                if not cost.timed(length):
                    cost.introduce(rows / count, seconds / count * kept, count, turn)

    def rescale(self, factor: float) -> None:
        """All costs of this window were wrong by ``factor``."""
        for cost in self._parts:
            cost.scale(factor)

    def bend(self, factor: float) -> None:
        """All costs of this window may be wrong by ``factor``."""
        for cost in self._parts:
            cost.bend(factor)
