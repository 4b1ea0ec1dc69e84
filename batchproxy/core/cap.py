"""How many rows a batch of one model may have: tried out while batches are full, and kept where it pays. Pure."""

from __future__ import annotations

from batchproxy.core.cost import Cost

WORTH = 1.03
"""Rows a second, over those at half the rows, from which more rows a batch are worth having (peers.md, D1)."""

CEILING = 1024
"""Rows at which growth stops, unless configured (R7)."""

FLOOR = 4
"""Rows below which a cap is not lowered: there is next to nothing to be had from smaller batches."""

WINDOWS = 2
"""Full windows that a size is judged by."""

PAUSE = 8
"""Full windows after a try that did not pay before the next one; doubled each time, up to 128."""


class Cap:
    """The rows of a batch at most.

    Args:
        rows: to start with.
        most: where growth stops.

    Attributes:
        rows: now.
    """

    __slots__ = ("_declared", "_down", "_gained", "_left", "_pause", "_rate", "_seen", "_settled", "most", "rows")

    def __init__(self, rows: int, most: int) -> None:
        self.rows = self._settled = self._declared = rows
        self.most = most
        self._seen = 0
        self._rate = 0.0
        self._gained = 0.0
        self._left = 0
        self._pause = PAUSE
        self._down = False

    def judge(self, cost: Cost, rate: float) -> bool:
        """A window of full batches ended, on an endpoint that had no time to spare; returns whether the cap changed.

        Args:
            cost: of its batches: what it predicts to be a loss is not tried.
            rate: rows that the endpoint worked off in a second.
        """
        if self._left:
            self._left -= 1
            return False
        self._seen += 1
        self._gained += rate
        if self._seen < WINDOWS:
            return False
        rate, self._seen, self._gained = self._gained / self._seen, 0, 0.0
        if self.rows == self._settled:
            self._rate = rate
            return self._try(cost)
        larger, smaller = (rate, self._rate) if self.rows > self._settled else (self._rate, rate)
        if (larger >= WORTH * smaller) == (self.rows > self._settled):
            self._settled = self.rows
            self._rate = rate
            self._pause = PAUSE
            return False
        self.rows = self._settled
        self._left = self._pause
        self._pause = min(128, 2 * self._pause)
        return True

    def _try(self, cost: Cost) -> bool:
        """Twice the rows, or half: in turn, where it may pay."""
        self._down = not self._down
        for rows in (self.rows // 2, self.rows * 2) if self._down else (self.rows * 2, self.rows // 2):
            if not FLOOR <= rows <= self.most:
                continue
            larger, smaller = max(rows, self.rows), min(rows, self.rows)
            gain = larger * cost.seconds(smaller) / (smaller * cost.seconds(larger)) if cost.known else 1.0
            if (gain >= WORTH - 0.015) if rows > self.rows else (gain < WORTH + 0.03):
                self.rows = rows
                return True
        self._left = self._pause
        return False

    def refused(self, passed: int) -> bool:
        """A backend said that a batch was too large, and took ``passed`` rows; returns whether the cap changed.

        Only what was tried on top of the declared rows is taken back, and not tried again.
        """
        if self.rows <= self._declared:
            return False
        self.most = self.rows = self._settled = max(self._declared, passed)
        return True

    def state(self) -> dict[str, int]:
        """What is to outlive a restart, as plain numbers."""
        return {"rows": self._settled, "most": self.most}

    def restore(self, rows: int, most: int) -> None:
        """Go on where another one was, as far as what is configured allows."""
        self.most = max(min(most, self.most), self._declared)
        self.rows = self._settled = max(1, min(rows, self.most))

    @property
    def learned(self) -> bool:
        """Whether it is not as it was declared."""
        return self._settled != self._declared

    def round(self) -> None:
        """Begin again, with powers of two: what was tried while sizes were compiled says nothing."""
        self.most = power(self.most)
        self.rows = self._settled = self._declared = power(self._declared)
        self._seen = self._left = 0
        self._gained = 0.0
        self._pause = PAUSE

    def __repr__(self) -> str:
        return f"Cap({self.rows} rows of {self.most})"


def power(rows: int) -> int:
    """The largest power of two that is no larger.

    >>> power(48)
    32
    """
    return 1 << rows.bit_length() - 1
