"""How many bytes of requests and answers the process holds, and who may read on. No sockets, no clock, no bodies here.

A large body is charged as it is read, and stays charged until nothing of its request is left (R7). So that a few peers
who say much and send little keep nobody out, it is not charged before. But above three quarters of the limit only
bodies that were begun are read on, and each of them only once all of its rest fits below the limit: then that is
charged at once. Where it is the beginnings of such bodies that hold so much, one of them is favoured, so that waiting
ends: the bound is the limit and one body. Windows of HTTP/2 are promises that cannot be taken back: a message that
needs one is charged when it is given.

What is small is not charged piece by piece, which would cost more than it is worth: connections are asked now and then
what they hold of that kind (``sample``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import islice

MAX_BUFFERED_BYTES = 512 << 20
"""The limit, unless configured (R7)."""

LARGE_BYTES = 64 << 10
"""Bodies above this wait where three quarters of the limit are held (R7)."""

READ_BYTES = 256 << 10
"""What one read of a socket may bring: uvloop's buffer."""

LOOKED_AT = 64
"""Of those that wait, so many are looked at for one that fits."""


class Budget:
    """What the process may hold, and holds.

    Args:
        limit: in bytes.

    Attributes:
        held: in bytes.
        tight: whether more than three quarters of the limit are held: large bodies wait.
        spent: whether the limit is reached: what has not been read is refused.
    """

    __slots__ = ("_favoured", "_freed", "_high", "_idle", "_waiting", "held", "limit", "spent", "tight")

    def __init__(self, limit: int = MAX_BUFFERED_BYTES) -> None:
        self.limit = limit
        self.held = 0
        self.tight = False
        self.spent = False
        self._high = most_at_once(limit)
        self._waiting: dict[Claim, Callable[[], object]] = {}  # the first has waited longest
        self._idle = 0  # bytes of those that wait
        self._favoured: Claim | None = None
        self._freed: deque[int] = deque()

    def charge(self, size: int, claim: Claim | None = None) -> None:
        """So many bytes more are held, or fewer; by a claim, or by whatever has none."""
        if claim is not None and claim in self._waiting:
            self._idle += size
        self.held = held = self.held + size
        self.tight = held > self._high
        self.spent = held >= self.limit
        if size < 0 and self._waiting:
            self._serve()

    def sample(self, before: int, now: int) -> int:
        """What a connection holds of small things has changed; returns ``now``."""
        if before != now:
            self.charge(now - before)
        return now

    def free_later(self, size: int) -> None:
        """So many bytes are held no longer; for any thread. They count until ``collect``."""
        self._freed.append(size)

    def collect(self) -> None:
        """Count what was freed later, if anything."""
        while self._freed:
            self.charge(-self._freed.popleft())

    def wait(self, claim: Claim, wake: Callable[[], object]) -> bool:
        """Whether the claim has to wait; if so, ``wake`` is called once when it may go on. In order, or as it fits."""
        if claim not in self._waiting:
            self._waiting[claim] = wake
            self._idle += claim.size
        self._serve(claim)
        return claim in self._waiting

    def leave(self, claim: Claim) -> None:
        """The claim does not wait any longer, and needs no favour."""
        if claim in self._waiting:
            self._forget(claim)
        if self._favoured is claim:
            self._favoured = None

    def favours(self, claim: Claim) -> bool:
        """Whether the claim may go on whatever is held."""
        return self._favoured is claim

    @property
    def contested(self) -> bool:
        """Whether somebody waits."""
        return bool(self._waiting)

    def _serve(self, asking: Claim | None = None) -> None:
        """Let go on whoever may, and wake them all but ``asking``."""
        room, wakes = READ_BYTES, []
        for claim in list(islice(self._waiting, LOOKED_AT)):
            if self.tight or claim.at_once:
                if not (self._may_finish(claim) or self._may_be_favoured(claim)):
                    continue
                wake = self._forget(claim)
                claim.take()
            elif self.held + room > self._high:
                break
            else:
                wake = self._forget(claim)
                claim.begun = True
                room += READ_BYTES
            if claim is not asking:
                wakes.append(wake)
        for wake in wakes:
            wake()

    def _may_finish(self, claim: Claim) -> bool:
        """Whether what is still to come is known and fits, of a body that was begun or while it is not tight."""
        return (claim.begun or not self.tight) and claim.left >= 0 and self.held + claim.left <= self.limit

    def _may_be_favoured(self, claim: Claim) -> bool:
        """Whether the claim is to go on all the same: those who hold so much wait themselves, but for a quarter."""
        if self._favoured is not None or self.held - self._idle > self.limit - self._high:
            return False
        self._favoured = claim
        return True

    def _forget(self, claim: Claim) -> Callable[[], object]:
        self._idle -= claim.size
        return self._waiting.pop(claim)

    def __repr__(self) -> str:
        return f"<Budget {self.held} of {self.limit}, {len(self._waiting)} waiting>"


class Claim:
    """What one request holds; given back by ``end``, or when nobody has the claim any more.

    Args:
        budget: of the process.
        at_once: whether all of it is taken before any of it comes.

    Attributes:
        size: bytes charged.
        left: what is still to come, in bytes; -1: nobody knows.
        begun: whether more than its beginning was read.
    """

    __slots__ = ("_budget", "at_once", "begun", "left", "size")

    def __init__(self, budget: Budget, *, at_once: bool = False) -> None:
        self._budget = budget
        self.begun = False
        self.at_once = at_once
        self.size = 0
        self.left = -1

    def resize(self, size: int) -> None:
        """It holds so many bytes now."""
        more = size - self.size
        if more:
            self.size = size
            self._budget.charge(more, self)

    def may_read(self, got: int, left: int, wake: Callable[[], object]) -> bool:
        """Account for what was read of a body; returns whether to read on. If not, ``wake`` is called once it may.

        Args:
            got: of the body so far, in bytes.
            left: bytes still to come; -1: nobody knows.
            wake: what to call.
        """
        budget = self._budget
        self.left = left
        self.resize(max(got, self.size))
        if 0 <= left <= self.size - got or budget.favours(self):
            return True  # all of it is charged, or it may go on in any case
        if not budget.tight and not budget.contested:
            self.begun = True
            return True
        return not budget.wait(self, wake)

    def may_take(self, left: int, wake: Callable[[], object]) -> bool:
        """Charge ``left`` bytes more, if there is room; if not, ``wake`` is called once they are charged."""
        self.left = left
        return not self._budget.wait(self, wake)

    def take(self) -> None:
        """Charge what is still to come, where that is known."""
        self.resize(self.size + max(self.left, 0))

    def whole(self, size: int) -> None:
        """Nothing more is to come: it holds so many bytes until its ``end``."""
        self._budget.leave(self)
        self.resize(size)

    def end(self) -> None:
        """Nothing is held any longer."""
        self._budget.leave(self)
        self.resize(0)

    def __del__(self) -> None:
        if self.size:
            self._budget.free_later(self.size)

    def __repr__(self) -> str:
        return f"<Claim {self.size}>"


def most_at_once(limit: int) -> int:
    """What one body may have at the most, and all of them before large ones wait: three quarters of the limit.

    >>> most_at_once(512 << 20) >> 20
    384
    """
    return limit // 4 * 3
