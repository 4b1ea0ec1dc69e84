"""A Lane: the FIFO of entries that may ride together, and what a lane remembers of its bad batches.

Cancelled entries stay in the deque as tombstones (their state says so) and are skipped when reached;
when they outnumber the living, the deque is swept. Counts never include them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from batchproxy.core.policy import Policy
from batchproxy.core.request import BatchKey, Entry, State

MEMORY_BATCHES = 32
"""How many batches back a lane remembers bad ones, and how many clean ones restore it (R3)."""

_MASK = (1 << MEMORY_BATCHES) - 1
_SWEEP_SLACK = 64  # tombstones that are never worth a sweep


class Waiting:
    """What a pool has waiting, over all its models: kept as totals, since every request asks for them."""

    __slots__ = ("nbytes", "rows")

    def __init__(self) -> None:
        self.rows = 0
        self.nbytes = 0


class Book:
    """What one model has waiting, over all its lanes.

    Args:
        policy: the model's.
        waiting: the pool's totals; left out, its own.
    """

    __slots__ = ("policy", "rows", "waiting")

    def __init__(self, policy: Policy, waiting: Waiting | None = None) -> None:
        self.policy = policy
        self.rows = 0
        self.waiting = waiting or Waiting()

    def add(self, rows: int, nbytes: int) -> None:
        """More of this model waits, or less."""
        self.rows += rows
        self.waiting.rows += rows
        self.waiting.nbytes += nbytes


class Lane:
    """FIFO of the entries with one BatchKey.

    Attributes:
        rows: rows of the live entries.
        live: the live entries.
        cap: rows a merged call may have now; halved while the lane is in quarantine.
        ticket: the scheduler's: which heap item speaks for this lane.
    """

    __slots__ = ("_clean_left", "_entries", "_history", "book", "cap", "key", "live", "rows", "ticket")

    def __init__(self, key: BatchKey, book: Book) -> None:
        self.key = key
        self.book = book
        self.cap = book.policy.max_batch_rows
        self.rows = 0
        self.live = 0
        self.ticket = -1
        self._entries: deque[Entry] = deque()
        self._history = 0
        self._clean_left = 0

    def push(self, entry: Entry) -> None:
        """Append a live entry."""
        request = entry.request
        rows = request.rows or 0
        entry.home = self
        self._entries.append(entry)
        self.live += 1
        self.rows += rows
        self.book.add(rows, request.nbytes)

    def remove(self, entry: Entry) -> None:
        """Take an entry off the books; in the deque it stays as a tombstone."""
        entry.home = None
        self._write_off(1, entry.request.rows or 0, entry.request.nbytes)
        if len(self._entries) > 2 * self.live + _SWEEP_SLACK:
            self._entries = deque(self)

    def _write_off(self, entries: int, rows: int, nbytes: int) -> None:
        self.live -= entries
        self.rows -= rows
        self.book.add(-rows, -nbytes)

    def __iter__(self) -> Iterator[Entry]:
        """The live entries, oldest first."""
        return (entry for entry in self._entries if entry.home is self)

    def head(self) -> Entry | None:
        """The oldest live entry."""
        entries = self._entries
        while entries and entries[0].home is not self:
            entries.popleft()
        return entries[0] if entries else None

    def full(self) -> bool:
        """Whether waiting for more company is pointless."""
        return self.rows >= self.cap

    def due(self) -> float:
        """When the head has waited long enough for company; at once where the lane is full."""
        head = self.head()
        assert head is not None, "due() of an empty lane. This is a bug."
        return head.arrival if self.full() else head.arrival + self.book.policy.max_delay_s

    def take(self, now: float, *, alone: bool = False) -> tuple[list[Entry], list[Entry]]:
        """Remove the next batch: (entries to send, entries found too late). Both are owed an answer.

        Entries leave in order of arrival, as many as fit under the cap; one that is larger goes alone.

        Args:
            now: the engine's clock, in seconds.
            alone: one entry at most.
        """
        cap = 0 if alone else self.cap
        taken: list[Entry] = []
        late: list[Entry] = []
        entries = self._entries
        rows = left = left_rows = nbytes = 0
        while entries:
            entry = entries[0]
            if entry.home is not self:  # a tombstone
                entries.popleft()
                continue
            request = entry.request
            size = request.rows or 0
            if entry.waiter.done():
                entry.state = State.DONE
            elif request.deadline is not None and request.deadline <= now:
                entry.state = State.DONE
                late.append(entry)
            elif taken and rows + size > cap:
                break
            else:
                taken.append(entry)
                rows += size
            entries.popleft()
            entry.home = None
            left += 1
            left_rows += size
            nbytes += request.nbytes
        self._write_off(left, left_rows, nbytes)
        return taken, late

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
                self.cap = self.book.policy.max_batch_rows
        return False

    def lower_cap(self, rows: int) -> bool:
        """Send at most ``rows`` rows together until 32 clean calls have passed; returns whether that is fewer."""
        lowered = rows < self.cap
        self.cap = min(self.cap, rows)
        self._clean_left = MEMORY_BATCHES
        return lowered

    @property
    def forgettable(self) -> bool:
        """Empty, and nothing remembered that a new lane would not know."""
        return not self.live and not self._history and not self._clean_left

    def __repr__(self) -> str:
        return f"Lane({self.key.model}, live={self.live}, rows={self.rows}, cap={self.cap})"
