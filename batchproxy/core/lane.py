"""A Lane: the queue of entries that may ride together.

Entries leave by urgency: ``min(deadline, arrival + AGING_S) + AGING_S * priority``, the lowest first, then who came
first. So within a priority the earliest deadline goes first, a level of priority is worth ``AGING_S`` of waiting, and
whoever comes more than ``AGING_S * (priority + 1)`` after an entry never overtakes it: nobody starves. The number
never changes, so entries that come in its order, as nearly all do, need no sorting; others are sorted at the next take.

Cancelled entries stay in the deque as tombstones (their state says so) and are skipped when reached;
when they outnumber the living, the deque is swept. Counts never include them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from math import inf
from operator import attrgetter

from batchproxy.core.allowance import Allowance
from batchproxy.core.book import Book, Share
from batchproxy.core.pace import EARLY
from batchproxy.core.raw import REST
from batchproxy.core.request import DONE, BatchKey, Entry

AGING_S = 5.0
"""Waiting that makes up for one level of priority, and how far off a deadline is that presses on nobody.

Three levels are 15 s, half the time that TF Serving gives a REST call (``--rest_api_timeout_in_ms``, 30 s): a request
of low priority is answered, too. Most deadlines of gRPC callers are nearer than 5 s, so they are told apart.
"""

PATIENCE = 0.9
"""Part of its time that an entry must have left for it to be sent in spite of a prediction that it comes too late."""

MAX_TEXT_BYTES = 8 << 20
"""Bytes of a merged call that is JSON (R7): larger ones would keep the loop for too long."""

HALF = 0.5
"""Part of a caller's time after which its lane is due where the time of a batch is not known."""

_SWEEP_SLACK = 64  # tombstones that are never worth a sweep


class Lane(Allowance):
    """Queue of the entries with one BatchKey.

    Attributes:
        rows: rows of the live entries.
        nbytes: their bytes.
        live: the live entries.
        max_bytes: bytes it may have.
        row_s: seconds that a row which waits here keeps the pool busy; 0 while that is not known.
        batch_s: seconds that a batch takes from leaving to its answer, likewise.
        share: of its tenant; None: its callers name none.
        order: how urgent the lane is: that of its most urgent entry, or less if that one was cancelled.
        ticket: the scheduler's: which heap item speaks for this lane.
    """

    __slots__ = (
        *("_entries", "_fifo", "_handicap", "_last", "_sorted", "key"),
        *("batch_s", "live", "max_bytes", "nbytes", "order", "row_s", "rows", "share", "ticket"),
    )

    def __init__(self, key: BatchKey, book: Book) -> None:
        super().__init__(book)
        self.key = key
        policy = book.policy
        self.max_bytes = policy.max_batch_bytes
        self.rows = 0
        self.nbytes = 0
        self.live = 0
        self.row_s = self.batch_s = 0.0
        self.order = inf
        self.ticket = -1
        self.share: Share | None = None
        self._entries: deque[Entry] = deque()
        self._handicap = AGING_S * policy.priority
        self._last = -inf  # the least urgent entry's order
        self._sorted = True  # the entries are in order of leaving
        self._fifo = True  # and that is the order of arrival, too

    def push(self, entry: Entry) -> bool:
        """Add a live entry; returns whether the lane became full or more urgent by it."""
        request = entry.request
        deadline = request.deadline
        order = entry.arrival + AGING_S
        if deadline is not None and deadline < order:
            order = deadline
        order += self._handicap if request.priority is None else AGING_S * request.priority
        entry.order = order
        entry.home = self
        self._entries.append(entry)
        if order >= self._last:
            self._last = order
        else:
            self._sorted = self._fifo = False
        rows = request.rows or 0
        nbytes = request.nbytes
        self.live += 1
        self.rows = all_rows = self.rows + rows
        self.nbytes = all_bytes = self.nbytes + nbytes
        book = self.book  # as its add(): this is done for every request
        book.rows += rows
        waiting = book.waiting
        waiting.rows += rows
        waiting.nbytes += nbytes
        if self.share is not None:
            self.share.rows += rows
        if order < self.order:
            self.order = order
            if request.raw is not None and request.raw.protocol == REST:
                self.max_bytes = min(book.policy.max_batch_bytes, MAX_TEXT_BYTES)
            return True
        if all_rows < self.cap and all_bytes < self.max_bytes:
            return False
        return all_rows - rows < self.cap and all_bytes - nbytes < self.max_bytes

    def push_all(
        self, entries: Iterable[Entry], now: float, most_rows: int, most_bytes: int
    ) -> tuple[Entry | None, bool]:
        """``push`` of each in turn, as long as there is nothing to think over; the sums are made once for all of them.

        Args:
            entries: the earliest first. Who has left already is passed over.
            now: the engine's clock, in seconds.
            most_rows: that may wait here then.
            most_bytes: likewise, and what waits in other lanes.

        Returns:
            The first that was not pushed: its key is another one, it is late or may be, it has to travel alone, or
            would pass a bound; None: there is none. And whether the lane became full or more urgent.
        """
        key, handicap, urgent, last = self.key, self._handicap, self.order, self._last
        row_s, batch_s, few_rows = self.row_s, self.batch_s, min(self.cap, most_rows)
        queue, was_full, texts = self._entries, self.full(), False
        append, done, aging, before = queue.append, DONE, AGING_S, len(queue)
        all_rows, all_bytes = self.rows, self.book.waiting.nbytes
        known, arrival, order, more_rows, more_bytes = None, 0.0, 0.0, 0, 0  # of the one before
        entry: Entry | None = None
        for entry in entries:
            request = entry.request
            if request is known and entry.arrival == arrival:  # of which it differs in its inputs only
                with_it, weight = all_rows + more_rows, all_bytes + more_bytes
                if with_it <= few_rows and weight <= most_bytes and entry.state is not done:
                    all_rows, all_bytes = with_it, weight
                    entry.order = order
                    entry.home = self
                    append(entry)
                    continue
            if request.key is not key and request.key != key:
                break
            if entry.state is done:
                continue
            rows, deadline = request.rows, request.deadline
            nbytes = all_bytes + request.nbytes
            if rows is None or nbytes > most_bytes:
                break
            rows += all_rows
            order = entry.arrival + aging
            if deadline is not None:
                if deadline <= now or (rows > few_rows and now + (row_s * rows + batch_s) > deadline):
                    break
                if deadline < order:  # noqa: PLR1730 - min() is a call
                    order = deadline
            if rows > most_rows:
                break
            order += handicap if request.priority is None else aging * request.priority
            known, arrival, more_rows, more_bytes = request, entry.arrival, rows - all_rows, nbytes - all_bytes
            all_rows, all_bytes = rows, nbytes
            entry.order = order
            entry.home = self
            append(entry)
            if order >= last:
                last = order
            else:
                self._sorted = self._fifo = False
            if order < urgent:
                urgent = order
                texts = texts or (request.raw is not None and request.raw.protocol == REST)
        else:
            entry = None
        count = len(queue) - before
        if not count:
            return entry, False
        self._last = last
        rows, nbytes = all_rows - self.rows, all_bytes - self.book.waiting.nbytes
        self.live += count
        self.rows = all_rows
        self.nbytes += nbytes
        self.book.add(rows, nbytes)
        if self.share is not None:
            self.share.rows += rows
        if urgent < self.order:
            self.order = urgent
            if texts:
                self.max_bytes = min(self.book.policy.max_batch_bytes, MAX_TEXT_BYTES)
            return entry, True
        return entry, self.full() and not was_full

    def remove(self, entry: Entry) -> None:
        """Take an entry off the books; in the deque it stays as a tombstone."""
        entry.home = None
        self._write_off(1, entry.request.rows or 0, entry.request.nbytes)
        if len(self._entries) > 2 * self.live + _SWEEP_SLACK:
            self._entries = deque(self)

    def _write_off(self, entries: int, rows: int, nbytes: int) -> None:
        self.live -= entries
        self.rows -= rows
        self.nbytes -= nbytes
        self.book.add(-rows, -nbytes)
        if self.share is not None:
            self.share.rows -= rows
        if not self.live:
            self._entries.clear()
            self.order, self._last = inf, -inf
            self._sorted = self._fifo = True

    def __iter__(self) -> Iterator[Entry]:
        """The live entries: in order of leaving, but for those that came out of order since the last ``head``."""
        return (entry for entry in self._entries if entry.home is self)

    def head(self) -> Entry | None:
        """The most urgent live entry."""
        if not self._sorted:
            self._entries = deque(sorted(self, key=attrgetter("order")))
            self._last = self._entries[-1].order
            self._sorted = True
        entries = self._entries
        while entries and entries[0].home is not self:
            entries.popleft()
        return entries[0] if entries else None

    def in_order(self) -> bool:
        """Whether ``order`` is that of its most urgent entry; if not, it is from now on."""
        head = self.head()
        assert head is not None, "in_order() of an empty lane. This is a bug."
        before, self.order = self.order, head.order
        return before == head.order

    def full(self) -> bool:
        """Whether waiting for more company is pointless."""
        return self.rows >= self.cap or self.nbytes >= self.max_bytes

    def ripe(self, now: float) -> bool:
        """Whether it has waited long enough."""
        return not self.book.policy.max_delay_s or self.full() or self.due() <= now

    def due(self) -> float:
        """When the oldest entry has waited long enough for company; at once where the lane is full."""
        head = self.head()
        assert head is not None, "due() of an empty lane. This is a bug."
        oldest = self._oldest(head)
        return oldest if self.full() else min(oldest + self.book.policy.max_delay_s, self.latest(head))

    def _oldest(self, head: Entry) -> float:
        return head.arrival if self._fifo else min(entry.arrival for entry in self)

    def latest(self, entry: Entry) -> float:
        """When a batch must leave for this member of it to be answered in time."""
        deadline = entry.request.deadline
        if deadline is None:
            return inf
        return deadline - (EARLY * self.batch_s or HALF * (deadline - entry.arrival))

    def hurried(self, now: float) -> bool:
        """Whether it would still wait for company, if the time of its most urgent member were not nearly up."""
        delay = self.book.policy.max_delay_s
        head = self.head() if delay and not self.full() else None
        return head is not None and self._oldest(head) + delay > now

    def take(self, now: float, cap: int, lead: float = 0.0) -> tuple[list[Entry], list[Entry]]:
        """Remove the next batch: (entries to send, entries found too late). Both are owed an answer.

        Entries leave in order of urgency, as many as fit under the caps; one that is larger goes alone.

        Args:
            now: the engine's clock, in seconds.
            cap: rows to take at most; 0: one entry.
            lead: seconds until those taken would be answered: whose deadline is sooner is found late, but for who
                has just come: a batch that takes longer than anybody allows is tried all the same.
        """
        max_bytes = self.max_bytes
        taken: list[Entry] = []
        late: list[Entry] = []
        self.head()  # puts them in order
        self.order = inf
        rows = nbytes = seen = dead = dead_rows = dead_bytes = 0
        for entry in self._entries:
            if entry.home is not self:  # a tombstone
                seen += 1
                continue
            request = entry.request
            size = request.rows or 0
            gone = entry.waiter.done()
            deadline = request.deadline
            if gone or (
                deadline is not None
                and deadline - now <= lead
                and deadline - now <= PATIENCE * (deadline - entry.arrival)
            ):
                entry.state = DONE
                if not gone:
                    late.append(entry)
                dead += 1
                dead_rows += size
                dead_bytes += request.nbytes
            elif taken and (rows + size > cap or nbytes + request.nbytes > max_bytes):
                self.order = entry.order
                break
            else:
                taken.append(entry)
                rows += size
                nbytes += request.nbytes
            entry.home = None
            seen += 1
        self._drop(seen)
        self._write_off(len(taken) + dead, rows + dead_rows, nbytes + dead_bytes)
        return taken, late

    def fitting(self, cap: int) -> tuple[int, int]:
        """Rows and bytes of what ``take`` would find at most, if nobody were late."""
        self.head()  # puts them in order
        rows = nbytes = 0
        for entry in self:
            request = entry.request
            size = request.rows or 0
            if rows and (rows + size > cap or nbytes + request.nbytes > self.max_bytes):
                break
            rows += size
            nbytes += request.nbytes
        return rows, nbytes

    def _drop(self, count: int) -> None:
        """Forget the first ``count`` items of the deque."""
        entries = self._entries
        if count == len(entries):
            entries.clear()
        else:
            for _ in range(count):
                entries.popleft()

    def begin(self) -> None:
        """The model's policy is another one: those who wait keep their order."""
        policy = self.book.policy
        texts = any(entry.request.raw is not None and entry.request.raw.protocol == REST for entry in self)
        self._allow(self.book.cap.rows)
        self.max_bytes = min(policy.max_batch_bytes, MAX_TEXT_BYTES) if texts else policy.max_batch_bytes
        self._handicap = AGING_S * policy.priority
        self._clean_left = 0

    @property
    def forgettable(self) -> bool:
        """Empty, and nothing remembered that a new lane would not know."""
        return not self.live and not self._history and not self._clean_left

    def __repr__(self) -> str:
        return f"Lane({self.key.model}, live={self.live}, rows={self.rows}, cap={self.cap})"
