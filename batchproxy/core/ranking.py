"""A Ranking: a heap whose members are ranked anew, or leave, without being searched for. It does not say what of."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Generic, Protocol, TypeVar

_SWEEP_SLACK = 64  # stale items that are never worth a sweep


class Ticketed(Protocol):
    """What may be ranked.

    Attributes:
        ticket: the number of the one item that speaks for it; others are stale.
    """

    ticket: int


Rank = TypeVar("Rank", float, tuple[int, float])
Member = TypeVar("Member", bound=Ticketed)


class Ranking(Generic[Rank, Member]):
    """Members by rank, the lowest first, then the lowest ticket. Whoever moves a member gives it a new ticket."""

    __slots__ = ("_items", "_sweep_at")

    def __init__(self) -> None:
        self._items: list[tuple[Rank, int, Member]] = []
        self._sweep_at = _SWEEP_SLACK

    def push(self, rank: Rank, member: Member) -> None:
        """Rank a member under its present ticket."""
        items = self._items
        heappush(items, (rank, member.ticket, member))
        if len(items) > self._sweep_at:
            self._items = items = [item for item in items if item[1] == item[2].ticket]
            heapify(items)
            self._sweep_at = 2 * len(items) + _SWEEP_SLACK

    def first(self) -> tuple[Rank, int, Member] | None:
        """The first member with its rank and ticket."""
        items = self._items
        while items:
            item = items[0]
            if item[1] == item[2].ticket:
                return item
            heappop(items)
        return None

    def pop(self) -> None:
        """Take out what ``first`` gave."""
        heappop(self._items)

    def __len__(self) -> int:
        """How many items there are, stale ones included."""
        return len(self._items)
