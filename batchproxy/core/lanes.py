"""All the lanes of a scheduler: the bounds on what may wait, and which lane is served next. Sends nothing."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping

from batchproxy.core.errors import QueueFull
from batchproxy.core.lane import Book, Lane, Waiting
from batchproxy.core.policy import Policy
from batchproxy.core.request import BatchKey, Entry, Request

MAX_LANES = 10_000
"""Distinct batch keys that may be known at once (R7)."""


class Lanes:
    """The lanes by key, and a heap of them by the time their head is due: the one that is due longest goes first.

    Heap items that no longer speak for their lane (its ``ticket`` moved on) are skipped when met, never searched for.

    Args:
        policies: model name to policy.
        max_queued_bytes: what may wait in all lanes together.
    """

    def __init__(self, policies: Mapping[str, Policy], max_queued_bytes: int) -> None:
        self.waiting = Waiting()
        self.books = {name: Book(policy, self.waiting) for name, policy in policies.items()}
        self._policies = policies
        self._max_queued_bytes = max_queued_bytes
        self._lanes: dict[BatchKey, Lane] = {}
        self._ripe: list[tuple[float, int, Lane]] = []
        self._tickets = 0

    def push(self, entry: Entry) -> None:
        """Let an entry wait.

        Raises:
            QueueFull: a bound on rows, bytes or lanes is reached. A bound never refuses the only one that waits.
        """
        request = entry.request
        key = request.key
        lane = self._lanes.get(key)
        book = self._book(key.model) if lane is None else lane.book
        self._check_bounds(book, request)
        if lane is None:
            self._make_room(key)
            lane = self._lanes[key] = Lane(key, book)
        was_full = lane.rows >= lane.cap
        lane.push(entry)
        if lane.live == 1 or (not was_full and lane.rows >= lane.cap):
            self.rank(lane)

    def _check_bounds(self, book: Book, request: Request) -> None:
        model, rows, limit = request.key.model, request.rows or 0, book.policy.max_queued_rows
        if book.rows and book.rows + rows > limit:
            raise QueueFull(
                f"model {model!r}: {book.rows} rows are waiting and {rows} more would pass "
                f"max_queued_rows ({limit}); try again, or add capacity"
            )
        waiting, limit = self.waiting.nbytes, self._max_queued_bytes
        if waiting and waiting + request.nbytes > limit:
            raise QueueFull(
                f"model {model!r}: {waiting} bytes are waiting and {request.nbytes} more would pass "
                f"max_queued_bytes ({limit}); try again, or add capacity"
            )

    def _make_room(self, key: BatchKey) -> None:
        """For one more lane."""
        if len(self._lanes) >= MAX_LANES:
            self._lanes = {known: lane for known, lane in self._lanes.items() if lane.live}
            if len(self._lanes) >= MAX_LANES:
                raise QueueFull(f"model {key.model!r}: {MAX_LANES} different shapes of request are waiting already")

    def lane(self, key: BatchKey) -> Lane:
        """The lane of a key, made where there is none."""
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane(key, self._book(key.model))
        return lane

    def _book(self, model: str) -> Book:
        book = self.books.get(model)
        if book is None:
            book = self.books[model] = Book(self._policies[model], self.waiting)
        return book

    def find(self, key: BatchKey) -> Lane | None:
        """The lane of a key, if there is one."""
        return self._lanes.get(key)

    def rank(self, lane: Lane) -> None:
        """Put a lane in its place, or drop it where it is empty; to be called whenever its head or due time changed."""
        if lane.live:
            self._tickets += 1
            lane.ticket = self._tickets
            heapq.heappush(self._ripe, (lane.due(), self._tickets, lane))
            return
        lane.ticket = -1
        if lane.forgettable and self._lanes.get(lane.key) is lane:
            del self._lanes[lane.key]

    def next_ripe(self, now: float) -> Lane | None:
        """The lane whose head has been due longest, or None where none is due."""
        while (due := self.next_due()) is not None and due <= now:
            lane = self._ripe[0][2]
            if lane.due() <= now:
                return lane
            heapq.heappop(self._ripe)  # its head was cancelled, and the next one may still wait
            self.rank(lane)
        return None

    def next_due(self) -> float | None:
        """When the next lane may be due."""
        ripe = self._ripe
        while ripe and ripe[0][1] != ripe[0][2].ticket:
            heapq.heappop(ripe)
        return ripe[0][0] if ripe else None

    @property
    def rows(self) -> int:
        """Rows that wait."""
        return self.waiting.rows

    @property
    def nbytes(self) -> int:
        """Bytes that wait."""
        return self.waiting.nbytes

    def entries(self) -> Iterator[Entry]:
        """Everyone who waits."""
        for lane in self._lanes.values():
            yield from lane

    def __len__(self) -> int:
        return len(self._lanes)
