"""In what a kind of batch is counted: rows, bytes, or padded bytes, whichever explains its times best.

Rows of one shape class cost the same, with one exception: texts, bytes and JSON may be of any length. A model may
take as long as they are long (a tokenizer, a decoder of pictures), or as long as the longest is, times the rows (a
server that pads). So each unit has a line of its own, through the batches that had the endpoint to themselves, and
the one whose line leaves the least variance is taken; another one only if it leaves much less. Where rows are equally
long nothing of this is done.

Whatever the unit is, sizes are told in rows of mean length, so that nobody else need know.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from batchproxy.core.saved import number

if TYPE_CHECKING:
    from batchproxy.core.request import Entry

VARIES = 0.05
"""Mean deviation of the bytes of a row, over their mean, from which they may matter."""

SELDOM = 16
"""Batches of which one is weighed, while those that were had rows of equal length."""

SAMPLES = 24
"""Batches that had the endpoint to themselves before units are compared."""

MUCH = 0.6
"""Another unit is taken where the variance that it leaves is less than this part of what the present one leaves."""

MEMORY = 1 / 48
"""Weight of the next batch in what a line is drawn through, and in the variances."""


class Unit(enum.Enum):
    """What a batch is counted in."""

    ROWS = "rows"
    BYTES = "bytes"
    PADDED = "padded"
    """Rows, each as long as the longest."""


class Weight(NamedTuple):
    """How much a batch has.

    Attributes:
        rows: with what it was padded with.
        nbytes: of them all.
        padded: rows times the bytes of the longest; of a request of several, their mean counts.
    """

    rows: float
    nbytes: float
    padded: float

    @classmethod
    def of(cls, entries: Sequence[Entry], sent: int) -> Weight:
        """That of a batch that is sent as ``sent`` rows."""
        nbytes = rows = 0
        longest = 0.0
        for entry in entries:
            request = entry.request
            count = request.rows or 1
            rows += count
            nbytes += request.nbytes
            longest = max(longest, request.nbytes / count)
        return cls(sent, nbytes * sent / rows, longest * sent)

    def in_unit(self, unit: Unit) -> float:
        """Of ROWS rows, else bytes."""
        return self.rows if unit is Unit.ROWS else self.nbytes if unit is Unit.BYTES else self.padded


class Line:
    """Seconds over size, by least relative squares, the latest batches counting most; and the variance it leaves."""

    __slots__ = ("_sums", "variance")

    def __init__(self) -> None:
        self._sums = [0.0] * 5
        self.variance = 0.0

    def learn(self, size: float, seconds: float, samples: int) -> None:
        """A batch of this size had the endpoint to itself; ``samples`` were told before."""
        if samples > 1:
            surprise = math.log(seconds / self.seconds(size))
            self.variance += (surprise * surprise - self.variance) * max(MEMORY, 1.0 / samples)
        weight = 1.0 / (seconds * seconds)
        new = (1.0, size, size * size, seconds, size * seconds)
        self._sums = [old * (1.0 - MEMORY) + weight * value for old, value in zip(self._sums, new, strict=True)]

    @property
    def size(self) -> float:
        """Mean of the sizes, small ones counting more."""
        return self._sums[1] / self._sums[0]

    def seconds(self, size: float) -> float:
        """What a batch of this size should take: more than 0, and no less for a larger one."""
        weight, x, xx, y, xy = self._sums
        spread = xx - x * x / weight
        slope = max(0.0, (xy - x * y / weight) / spread) if spread > 1e-9 * xx else 0.0
        level = y / weight - slope * x / weight
        return level + slope * size if level > 0.0 else y / x * size


class Units:
    """The unit of one kind of batch on one endpoint.

    Attributes:
        unit: see there.
        scale: bytes of a row of mean length; of the longest in a batch, where the unit is PADDED.
    """

    __slots__ = ("_countdown", "_deviation", "_lines", "_mean", "_samples", "scale", "unit")

    def __init__(self) -> None:
        self.unit = Unit.ROWS
        self.scale = 1.0
        self._countdown = 0
        self.forget()

    def forget(self) -> None:
        """What was learned of times was wrong."""
        self._lines: dict[Unit, Line] = {}
        self._mean = self._deviation = 0.0
        self._samples = 0

    def wanted(self, alone: bool) -> bool:
        """Whether a batch that leaves, ``alone`` or not, has to be weighed."""
        if self.unit is not Unit.ROWS:
            return True
        if not alone:
            return False
        self._countdown -= 1
        if self._countdown > 0 and self._deviation <= VARIES * self._mean:
            return False
        self._countdown = SELDOM if self._samples >= SAMPLES else 0
        return True

    def rows(self, weight: Weight) -> float:
        """A batch in rows of mean length."""
        return weight.rows if self.unit is Unit.ROWS else max(1e-3, weight.in_unit(self.unit) / self.scale)

    def learn(self, weight: Weight, seconds: float) -> Line | None:
        """A batch had the endpoint to itself; where another unit is taken from now on, its line, over rows."""
        a_row = weight.nbytes / weight.rows
        self._samples += 1
        step = max(MEMORY, 1.0 / self._samples)
        self._mean += (a_row - self._mean) * step
        self._deviation += (abs(a_row - self._mean) - self._deviation) * step
        if self._deviation <= VARIES * self._mean:
            self._lines.clear()
            return None
        if not self._lines:
            self._lines = {unit: Line() for unit in Unit}
            self._samples = 1
        for unit, line in self._lines.items():
            line.learn(weight.in_unit(unit), seconds, self._samples)
        return self._best() if self._samples >= SAMPLES else None

    def _best(self) -> Line | None:
        lines = self._lines
        best = min(Unit, key=lambda unit: lines[unit].variance)
        if lines[best].variance >= MUCH * lines[self.unit].variance:
            return None
        self.unit = best
        self.scale = lines[best].size / lines[Unit.ROWS].size
        return lines[best]

    def state(self) -> dict[str, Any]:
        """What is to outlive a restart, as plain values."""
        return {"unit": self.unit.value, "scale": self.scale}

    def restore(self, state: object) -> None:
        """Go on with another one's ``state()``.

        Raises:
            ValueError: it is not what ``state`` gives; nothing has changed then.
        """
        scale = number(state, "scale", 1e-3, 2**53)
        name = state.get("unit") if isinstance(state, dict) else None
        unit = next((unit for unit in Unit if unit.value == name), None)
        if unit is None:
            raise ValueError(f"unit is none of {', '.join(unit.value for unit in Unit)}: {name!r}")
        self.unit, self.scale = unit, scale
