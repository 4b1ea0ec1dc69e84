"""All the lanes of a scheduler: the bounds on what may wait, and which lane is served next. Sends nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from math import inf

from batchproxy.core.book import Book, Share, Waiting
from batchproxy.core.cost import Cost
from batchproxy.core.errors import QueueFull
from batchproxy.core.lane import Lane
from batchproxy.core.padding import Rounded
from batchproxy.core.policy import Policy
from batchproxy.core.ranking import Ranking
from batchproxy.core.request import BatchKey, Entry, Request
from batchproxy.core.turns import Turns

GENEROUS = 8
"""Times what is free of a queue that one tenant may hold of it: alone 8/9, of two 8/17 each, and whoever comes next
always finds a place (dynamic thresholds, as shared-memory switches have them). Without tenants it is anybody's."""

MAX_LANES = 10_000
"""Distinct batch keys that may be known at once (R7)."""


class Lanes:
    """The lanes by key; those that still wait for company by the time when they are due, the ripe
    and the full ones in `turns`.

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
        self._shares: dict[tuple[str, tuple[tuple[str, str], ...]], Share] = {}
        self._unripe: Ranking[float, Lane] = Ranking()
        self._turns = Turns()
        self._full = Turns()
        self._filled: dict[Lane, None] = {}  # to be added to those once somebody asks
        self._tickets = 0

    def push(self, entry: Entry) -> Lane:
        """Let an entry wait; returns where.

        Raises:
            QueueFull: a bound on rows, bytes or lanes is reached. A bound never refuses the only one that waits.
        """
        request = entry.request
        key = request.key
        lane = self._lanes.get(key)
        book = self.book(key.model) if lane is None else lane.book
        if (
            book.rows + (request.rows or 0) > (book.max_rows >> 1 if key[5] else book.max_rows)
            or self.waiting.nbytes + request.nbytes > self._max_queued_bytes
        ):
            self._check_bounds(book, request)
        if lane is None:
            self._make_room(key)
            lane = self._add(key, book)
        if lane.push(entry):
            self.rank(lane)
        return lane

    def push_all(self, first: Entry, others: Iterator[Entry], now: float) -> tuple[Lane | None, int, Entry | None]:
        """``push`` of these in turn, up to the first that may be late, be refused, or has to wait in another lane.

        Args:
            first: of them.
            others: those after it; left behind the one that is returned.
            now: the engine's clock, in seconds.

        Returns:
            Where they wait, how many of them, and who was not pushed any more; None: there is none.
        """
        key = first.request.key
        lane = known = self._lanes.get(key)
        if lane is None:
            if len(self._lanes) >= MAX_LANES:
                return None, 0, first
            lane = self._add(key, self.book(key.model))
        book, before = lane.book, lane.live
        room = (book.max_rows >> 1 if key[5] else book.max_rows) - book.rows
        left, news = lane.push_all(chain((first,), others), now, lane.rows + room, self._max_queued_bytes)
        if news:
            self.rank(lane)
        elif known is None:
            self._drop(lane)
        return lane, lane.live - before, left

    def _check_bounds(self, book: Book, request: Request) -> None:
        """Of what would pass a bound, refuse all but the only one that waits."""
        model, rows, limit = request.key.model, request.rows or 0, book.max_rows
        share = self._shares.get((model, request.key.partition)) if request.key.partition else None
        if share is not None and share.rows and share.rows + rows > GENEROUS * (limit - book.rows):
            raise QueueFull(
                f"model {model!r}: {share.rows} rows of callers with the same headers are waiting, beside "
                f"{book.rows - share.rows} of others; {rows} more would pass their share of max_queued_rows ({limit}); "
                "try again, or add capacity"
            )
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
            for lane in [lane for lane in self._lanes.values() if not lane.live]:
                self._drop(lane)
            if len(self._lanes) >= MAX_LANES:
                raise QueueFull(f"model {key.model!r}: {MAX_LANES} different shapes of request are waiting already")

    def _add(self, key: BatchKey, book: Book) -> Lane:
        lane = self._lanes[key] = Lane(key, book)
        if key[5]:
            lane.share = self._shares.setdefault((key[0], key[5]), Share())
            lane.share.lanes += 1
        return lane

    def _drop(self, lane: Lane) -> None:
        del self._lanes[lane.key]
        if lane.share is not None:
            lane.share.lanes -= 1
            if not lane.share.lanes:
                del self._shares[lane.key[0], lane.key[5]]

    def lane(self, key: BatchKey) -> Lane:
        """The lane of a key, made where there is none."""
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._add(key, self.book(key.model))
        return lane

    def book(self, model: str) -> Book:
        """That of a model, made where there is none."""
        book = self.books.get(model)
        if book is None:
            book = self.books[model] = Book(self._policies[model], self.waiting)
        return book

    def judge_cap(self, model: str, cap: int, cost: Cost, rate: float) -> None:
        """Full batches of ``cap`` rows were worked off at ``rate`` rows a second: the model may have others now."""
        book = self.books[model]
        if book.tried and cap >= book.cap.rows and book.cap.judge(cost, rate):
            self._fit(book)

    def declare(self, model: str, most: int | None) -> None:
        """The server of a model says how many rows it takes at most; None: any number."""
        book = self.books.get(model) if most is None else self.book(model)
        if book is not None and book.declare(most):
            self._fit(book)

    def _fit(self, book: Book, change: Callable[[Lane], bool] = Lane.fit) -> None:
        """The model's batches are others now: rank the lanes that may have fewer rows by it."""
        for lane in list(self._lanes.values()):  # an empty one is dropped where it is ranked
            if lane.book is book and change(lane):
                self.rank(lane)

    def reconfigure(self, policies: Rounded) -> None:
        """Take other policies over: those that wait go by them from now on, in the order in which they were."""
        for model in policies:
            self.book(model)
        changed = [model for model, book in self.books.items() if book.configured != policies.configured(model)]
        for model in changed:
            policies.forget(model)
            self.books[model].begin(policies[model])
        for lane in list(self._lanes.values()):
            if lane.key.model in changed:
                lane.begin()
                self.rank(lane)

    def round(self, model: str) -> None:
        """The batches of a model are rounded up to powers of two from now on: its policy says so already."""
        book = self.book(model)
        book.policy = self._policies[model]
        book.rounded = True
        book.cap.round()
        self._fit(book, Lane.round)

    def find(self, key: BatchKey) -> Lane | None:
        """The lane of a key, if there is one."""
        return self._lanes.get(key)

    def rank(self, lane: Lane) -> None:
        """Put a lane in its place, or drop it where it is empty; to be called whenever its head or due time changed."""
        if lane.live:
            self._tickets += 1
            lane.ticket = self._tickets
            full = lane.full()
            if full:
                self._filled[lane] = None
            if full or not lane.book.policy.max_delay_s:
                self._turns.add(lane)
            else:
                self._unripe.push(lane.due(), lane)
            return
        lane.ticket = -1
        self._filled.pop(lane, None)
        if lane.forgettable and self._lanes.get(lane.key) is lane:
            self._drop(lane)

    def remove(self, lane: Lane, entry: Entry) -> bool:
        """Take an entry out of its lane; returns whether it was the most urgent there, and somebody is behind it.

        Whoever is behind it may have less time, for a lane is due when its most urgent entry has to leave. One that is
        full, or waits for no company, is due at once in any case, and is put in order when its turn comes.
        """
        lane.remove(entry)
        first = lane.live > 0 and entry.order <= lane.order
        if not lane.live:
            self.rank(lane)
        elif first and lane.book.policy.max_delay_s and not lane.full():
            _ = lane.in_order()
            self.rank(lane)
        return first

    def next_ripe(self, now: float) -> Lane | None:
        """The lane whose turn it is, or None where none is due; asked again, the same until something changes."""
        while True:
            self._ripen(now)
            lane = self._turns.first()
            if lane is None or (lane.in_order() and lane.ripe(now)):
                return lane
            self.rank(lane)  # its most urgent entry was cancelled, and what is left may have to wait

    def next_full(self) -> Lane | None:
        """Of the lanes that are full, the one whose turn it is among them."""
        while True:
            for lane in self._filled:
                if lane.full():
                    self._full.add(lane)
            self._filled.clear()
            first = self._full.first()
            if first is None or (first.in_order() and first.full()):
                return first
            self.rank(first)

    def _ripen(self, now: float) -> None:
        """Give a turn to the lanes that are due."""
        while (item := self._unripe.first()) is not None and item[0] <= now:
            self._unripe.pop()
            lane = item[2]
            if lane.due() <= now:
                self._turns.add(lane)
            else:  # its oldest entry was cancelled
                self.rank(lane)

    def charge(self, lane: Lane, rows: int, seconds: float | None = None) -> None:
        """A batch of this lane leaves: its model and tenant pay for it with later turns.

        Args:
            lane: which ``next_ripe`` or ``next_full`` gave.
            rows: of the batch.
            seconds: what it is predicted to cost; None: unknown.
        """
        self._turns.charge(lane, rows, seconds)
        self._full.charge(lane, rows, seconds)

    def next_due(self) -> float | None:
        """When the next lane may be due; ``-inf``: one is."""
        if self._turns.first() is not None:
            return -inf
        item = self._unripe.first()
        return None if item is None else item[0]

    def quarantined(self) -> Iterator[Lane]:
        """Those whose cap is lowered until clean calls have passed."""
        return (lane for lane in self._lanes.values() if lane.clean_left)

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
