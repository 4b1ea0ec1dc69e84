"""Batch and Dispatch: entries that leave together, and the endpoint they went to; and how a rejected batch is bisected.

A family of bisected calls shares one budget. Each bad row needs a call of its own (for its own error
text), so with every row bad any call of two or more rows is one too many: "halve" and "n calls in all" cannot
both hold. The budget is ``n + ceil(log2 n)``: halving goes on while one call for each unresolved row remains
affordable. Where it is not, the failed piece waits for the family's other pieces, since each that passes
frees calls; once none is left that could, the rest goes one by one.

With ``c = ceil(log2 n)``, the rejected call included, k bad rows of n cost at most ``1 + n + c`` calls, and at most
``k * (2c + 1)`` up to ``k = max(1, c // 2)``. Beyond that no rule keeps both: when c pieces in a row have failed, the
calls that remain are one for each row.
"""

from __future__ import annotations

import enum

from batchproxy.core.balancer import Endpoint
from batchproxy.core.limit import Flight
from batchproxy.core.request import DONE, BatchKey, Entry
from batchproxy.core.units import Units, Weight


class Bisection:
    """The budget of one rejected batch.

    Attributes:
        calls_left: calls that may still be made for it.
        unresolved: entries that may yet need a call of their own. Never more than ``calls_left``.
        open: pieces of several entries that are queued or in flight.
        parked: pieces whose call failed, to be cut.
    """

    __slots__ = ("calls_left", "open", "parked", "unresolved")

    def __init__(self, entries: int) -> None:
        self.calls_left = entries + (entries - 1).bit_length()
        self.unresolved = 0
        self.open = 0
        self.parked: list[Batch] = []

    def park(self, batch: Batch) -> None:
        """Take in a batch of this family whose call failed; ``release`` cuts it."""
        self._claim(batch, len(batch.entries))
        self.parked.append(batch)

    def release(self) -> list[Batch]:
        """Cut what can be cut now: in halves, or one by one once no open piece could free calls; pays for the calls."""
        pieces: list[Batch] = []
        while self.parked:
            batch = self.parked[0]
            batch.adopt()  # members may have left while it waited
            count = len(batch.entries)
            self._claim(batch, count)
            sizes = [size for size in (count - count // 2, count // 2) if size]
            if self.calls_left - len(sizes) < self.unresolved - sizes.count(1):
                if self.open:
                    break
                sizes = [1] * count
            del self.parked[0]
            pieces += self.cut(batch, sizes)
        return pieces

    def cut(self, batch: Batch, sizes: list[int]) -> list[Batch]:
        """Pieces of the given sizes, each paid for; single ones are thereby resolved."""
        self._claim(batch, 0)
        self.calls_left -= len(sizes)
        pieces = batch.cut(sizes)
        for piece in pieces:
            if len(piece.entries) > 1:
                self._claim(piece, len(piece.entries))
                self.open += 1
        return pieces

    def leave(self, piece: Batch) -> None:
        """A piece is resolved, or about to be parked."""
        if piece.claim:
            self._claim(piece, 0)
            self.open -= 1

    def _claim(self, batch: Batch, entries: int) -> None:
        self.unresolved += entries - batch.claim
        batch.claim = entries


class Batch:
    """Entries that leave as one call.

    Attributes:
        live: members that still want their answer.
        merged: whether it takes a slot and may be split; False for a request that travels alone by right.
        claim: how many of its family's unresolved entries it stands for.
        family: the bisection it came from.
        padded: whether it may be padded to an allowed size: not where the padding could not be undone.
        halved: its call was too big, or that of the batch it is a piece of.
        avoid: the endpoints that did not run it, in the order of their last tries.
    """

    __slots__ = ("avoid", "claim", "entries", "family", "halved", "key", "live", "merged", "padded", "rows")

    def __init__(self, entries: list[Entry], *, merged: bool) -> None:
        self.key: BatchKey = entries[0].request.key
        self.entries = entries
        self.merged = merged
        self.padded = merged
        self.family: Bisection | None = None
        self.halved = False
        self.avoid: tuple[Endpoint, ...] = ()
        self.claim = 0
        self.rows = 0
        self.live = 0
        self.adopt()

    def leave_family(self) -> None:
        """Its entries are resolved, or about to be cut again."""
        if self.family is not None:
            self.family.leave(self)

    def failed_at(self, endpoint: Endpoint) -> None:
        """It is better sent to any other endpoint."""
        self.avoid = (*(other for other in self.avoid if other is not endpoint), endpoint)

    def adopt(self) -> None:
        """Drop the members that are done and count the rest."""
        done, rows = DONE, 0
        self.entries = entries = [entry for entry in self.entries if entry.state is not done]
        for entry in entries:
            entry.home = self
            rows += entry.request.rows or 1
        self.live, self.rows = len(entries), rows

    def cut(self, sizes: list[int]) -> list[Batch]:
        """Merged batches of the given sizes, in order; they inherit what is known of this one."""
        pieces = []
        start = 0
        for size in sizes:
            piece = Batch(self.entries[start : start + size], merged=True)
            piece.padded, piece.halved = self.padded, self.halved
            piece.family, piece.avoid = self.family, self.avoid
            pieces.append(piece)
            start += size
        return pieces

    def __repr__(self) -> str:
        return f"Batch({self.key.model}, entries={len(self.entries)}, rows={self.rows})"


class Release(enum.Enum):
    """Why a batch left when it did."""

    __hash__ = object.__hash__  # as that of ``Outcome``

    ALONE = "alone"
    """It may not be merged, so it waits for nothing."""
    IDLE = "idle"
    """The endpoint had nothing to do."""
    FULL = "full"
    """As many rows as a batch may have."""
    SLOT = "slot"
    """The endpoint had room for one more, and it was time for it."""
    TIMED = "timed"
    """The endpoint was emptied to see what a batch takes that has it to itself."""
    DEADLINE = "deadline"
    """Sooner than it would have, since the time of one of its callers is nearly up."""
    SHAPE = "shape"
    """It, or its model, has no axis that rows could be merged along, so it waits for nothing."""
    AGAIN = "again"
    """A batch that did not run elsewhere."""
    HEDGE = "hedge"
    """A batch that takes long elsewhere, sent a second time; the first answer counts."""
    BISECT = "bisect"
    """A part of a batch that was rejected, or was too large."""
    CANARY = "canary"
    """It checks an earlier batch, and has no caller."""


class Dispatch:
    """A Batch bound to an Endpoint, in flight since ``started`` (engine's clock, seconds).

    Attributes:
        rows: what the endpoint was charged: members may leave the batch while it runs.
        sent: rows of the call: those, and what it was padded with.
        units: the same in rows of mean length, where theirs differ and that matters.
        cap: rows it could have had.
        reason: why it left when it did.
        flight: the limit's own; None for a batch that takes no slot.
        shared: whether it carries several members, of whom none may read what is said of all.
        race: the other call of the same batch, and which of them answered; None: there is no other.
    """

    __slots__ = (
        "batch", "cap", "endpoint", "flight", "race", "reason", "rows", "sent", "shared", "started", "units"
    )  # fmt: skip

    def __init__(
        self, batch: Batch, endpoint: Endpoint, started: float, reason: Release, cap: int, flight: Flight | None
    ) -> None:
        self.batch = batch
        self.endpoint = endpoint
        self.rows = self.sent = batch.rows
        self.units: float = batch.rows
        self.started = started
        self.reason = reason
        self.cap = cap
        self.flight = flight
        self.shared = len(batch.entries) > 1
        self.race: Race | None = None

    def count(self, units: Units) -> None:
        """Weigh it, if need be; to be called when it leaves."""
        flight = self.flight
        if flight is not None and units.wanted(alone=not flight.others):
            flight.weight = Weight.of(self.batch.entries, self.sent)
            self.units = units.rows(flight.weight)

    def __repr__(self) -> str:
        return f"Dispatch({self.batch!r} -> {self.endpoint.name}, {self.reason.value})"


class Race:
    """Two calls of one batch at two endpoints: the first good answer is that of both, and a failure of both is one.

    Attributes:
        first: took long.
        second: its hedge.
        winner: the one that answered; None: none has.
    """

    __slots__ = ("_failed", "first", "second", "winner")

    def __init__(self, first: Dispatch, second: Dispatch) -> None:
        self.first = first
        self.second = second
        self.winner: Dispatch | None = None
        self._failed: Dispatch | None = None
        first.race = second.race = self

    def end(self, dispatch: Dispatch, answered: bool) -> bool:
        """One of the two has ended; whether what it said is what becomes of the batch."""
        if self.winner is not None:
            return False
        if answered:
            self.winner = dispatch
        elif self._failed is None:
            self._failed = dispatch
            return False
        return True

    def under_way(self) -> tuple[Dispatch, ...]:
        """The calls that have not ended, as long as none has answered."""
        return tuple(call for call in (self.first, self.second) if call is not self._failed)

    @property
    def loser(self) -> Dispatch | None:
        """The call that is not needed since the other one has answered; it may have ended."""
        if self.winner is None:
            return None
        return self.second if self.winner is self.first else self.first
