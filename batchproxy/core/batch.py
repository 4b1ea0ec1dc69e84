"""Batch and Dispatch: entries that leave together, and the endpoint they went to; and how a rejected batch is bisected.

A family of bisected calls shares one budget. Each bad row needs a call of its own (for its own error
text), so with every row bad any call of two or more rows is one too many: "halve" and "n calls in all" cannot
both hold. The budget is ``n + ceil(log2 n)``: halving goes on while one call for each unresolved row remains
affordable, then the rest goes one by one. One bad row of n costs ``2 * ceil(log2 n)`` calls.
"""

from __future__ import annotations

from batchproxy.core.balancer import Endpoint
from batchproxy.core.request import BatchKey, Entry, State


class Bisection:
    """The budget of one rejected batch.

    Attributes:
        calls_left: calls that may still be made for it.
        unresolved: entries that may yet need a call of their own. Never more than ``calls_left``.
    """

    __slots__ = ("calls_left", "unresolved")

    def __init__(self, entries: int) -> None:
        self.calls_left = entries + (entries - 1).bit_length()
        self.unresolved = 0

    def pieces(self, count: int) -> list[int]:
        """How to cut ``count`` entries whose call failed: two halves, or one by one; pays for the calls."""
        self.unresolved += count
        halves = [size for size in (count - count // 2, count // 2) if size]
        affordable = self.calls_left - len(halves) >= self.unresolved - halves.count(1)
        sizes = halves if affordable else [1] * count
        self.calls_left -= len(sizes)
        self.unresolved -= sizes.count(1)
        return sizes


class Batch:
    """Entries that leave as one call.

    Attributes:
        live: members that still want their answer.
        merged: whether it takes a slot and may be split; False for a request that travels alone by right.
        claim: how many of its family's unresolved entries it stands for.
        family: the bisection it came from.
        halved: it is a half of a call that was too big.
        avoid: the endpoint that did not run it.
    """

    __slots__ = ("avoid", "claim", "entries", "family", "halved", "key", "live", "merged", "rows")

    def __init__(self, entries: list[Entry], *, merged: bool, family: Bisection | None = None) -> None:
        self.key: BatchKey = entries[0].request.key
        self.entries = entries
        self.merged = merged
        self.family = family
        self.halved = False
        self.avoid: Endpoint | None = None
        self.claim = len(entries) if family is not None and len(entries) > 1 else 0
        self.rows = 0
        self.live = 0
        self.adopt()

    def leave_family(self) -> None:
        """Its entries are resolved, or about to be cut again."""
        if self.family is not None:
            self.family.unresolved -= self.claim
            self.claim = 0

    def adopt(self) -> None:
        """Drop the members that are done and count the rest."""
        self.entries = [entry for entry in self.entries if entry.state is not State.DONE]
        for entry in self.entries:
            entry.home = self
        self.live = len(self.entries)
        self.rows = sum(entry.request.rows or 1 for entry in self.entries)

    def cut(self, sizes: list[int]) -> list[Batch]:
        """Merged batches of the given sizes, in order, of the same family."""
        pieces = []
        start = 0
        for size in sizes:
            pieces.append(Batch(self.entries[start : start + size], merged=True, family=self.family))
            start += size
        return pieces

    def __repr__(self) -> str:
        return f"Batch({self.key.model}, entries={len(self.entries)}, rows={self.rows})"


class Dispatch:
    """A Batch bound to an Endpoint, in flight since ``started`` (engine's clock, seconds).

    ``rows`` is what the endpoint was charged: members may leave the batch while it runs.
    """

    __slots__ = ("batch", "endpoint", "rows", "started")

    def __init__(self, batch: Batch, endpoint: Endpoint, started: float) -> None:
        self.batch = batch
        self.endpoint = endpoint
        self.rows = batch.rows
        self.started = started

    def __repr__(self) -> str:
        return f"Dispatch({self.batch!r} -> {self.endpoint.name})"
