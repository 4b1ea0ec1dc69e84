"""How many rows the batches of a lane may have: what it remembers of bad ones, and what its callers have time for.

What waits in it is not kept here.
"""

from __future__ import annotations

from batchproxy.core.book import Book
from batchproxy.core.cap import power
from batchproxy.core.cost import Cost

MEMORY_BATCHES = 32
"""How many batches back a lane remembers bad ones, and how many clean ones restore it (R3)."""

_MASK = (1 << MEMORY_BATCHES) - 1


class Allowance:
    """That of one lane.

    Attributes:
        book: of the model.
        cap: rows a merged call may have now; halved while in quarantine, fewer where answers would come too late.
    """

    __slots__ = ("_bound", "_clean_left", "_free", "_history", "book", "cap")

    def __init__(self, book: Book) -> None:
        self.book = book
        self.cap = self._free = self._bound = book.cap.rows
        self._history = 0
        self._clean_left = 0

    def note(self, bad: bool) -> bool:
        """Remember how a merged call of this lane ended; returns whether that lowered the cap.

        After two bad ones within 32 the cap is halved, until 32 clean ones have passed (R3).
        """
        self._history = (self._history << 1 | bad) & _MASK
        if bad and self._history.bit_count() > 1:
            return self.lower_cap(max(1, self.cap // 2))
        if not bad and self._clean_left:
            self._clean_left -= 1
            if not self._clean_left:
                self._allow(self.book.cap.rows)
        return False

    def _allow(self, rows: int) -> None:
        """A batch may have so many rows, if its answers come in time."""
        if self._bound >= self._free:  # nothing was bounded
            self._bound = max(rows, self._bound)
        self._free = rows
        self.cap = min(rows, self._bound)

    def bind(self, cost: Cost, patience: float) -> int:
        """Rows that a batch may have which leaves now: no more than can be answered in time.

        Args:
            cost: of the batch.
            patience: how long its most urgent caller waits in all, in seconds.
        """
        objective = self.book.objective
        objective.seen(patience)
        rows = objective.rows(cost, self._free)
        if rows >= self._free:
            self._bound = self._free
        else:
            self._bound = max(
                (size for size in self.book.policy.allowed_batch_sizes if size <= rows), default=int(rows)
            )
        self.cap = min(self._free, self._bound)
        return self.cap

    def fit(self) -> bool:
        """The model's cap changed: take it over, unless in quarantine; returns whether that is fewer rows."""
        if self._clean_left:
            return False
        before = self.cap
        self._allow(self.book.cap.rows)
        return self.cap < before

    def round(self) -> bool:
        """The model's batches are rounded from now on; returns whether it may have fewer rows."""
        before = self.cap
        self._allow(power(self._free) if self._clean_left else self.book.cap.rows)
        return self.cap < before

    def lower_cap(self, rows: int) -> bool:
        """Send at most ``rows`` rows together until 32 clean calls have passed; returns whether that is fewer."""
        lowered = rows < self.cap
        self._allow(min(self._free, rows))
        self._clean_left = MEMORY_BATCHES
        return lowered

    @property
    def clean_left(self) -> int:
        """Clean calls that are to pass before its cap is whole again; 0: it is in no quarantine."""
        return self._clean_left
