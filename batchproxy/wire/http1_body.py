"""The body of one HTTP/1.1 request on its way in: counted off or unchunked, timed, and charged. No requests here."""

from __future__ import annotations

from collections.abc import Callable

from batchproxy.wire.base import Limits
from batchproxy.wire.budget import LARGE_BYTES, Budget, Claim
from batchproxy.wire.http1_chunks import Chunks
from batchproxy.wire.http1_head import CHUNKED, Head

NO_ROOM = "the proxy holds as many bytes as it may; try again"


class Body:
    """Collects one body.

    Args:
        head: of its request.
        limits: of the connection.
        budget: of the process.
        now: monotonic seconds.

    Attributes:
        head: of its request.
        since: when it began to come, but for what it waited.
        claim: what is charged for it; None for a small one.
        whole: whether all of it came.
        waits: whether it may not be read on.
    """

    __slots__ = (
        "_budget", "_chunks", "_got", "_left", "_limits", "_parts", "_waits_since", "claim", "head", "since", "waits",
        "whole",
    )  # fmt: skip

    def __init__(self, head: Head, limits: Limits, budget: Budget, now: float) -> None:
        self.head = head
        self.claim: Claim | None = None
        self.whole = False
        self.waits = False
        self._limits = limits
        self._budget = budget
        self._chunks = Chunks(limits) if head.length == CHUNKED else None
        self._left = head.length
        self._parts: list[bytes] = []
        self._got = 0
        self.since = now
        self._waits_since = now

    def feed(self, data: bytes, position: int) -> int:
        """Take what belongs to the body from ``data[position:]``; returns where it stopped.

        Raises:
            Refused: as ``Chunks.feed``.
        """
        if self._chunks is not None:
            end = self._chunks.feed(data, position)
            self.whole = self._chunks.done
        else:
            end = min(len(data), position + self._left)
            self._parts.append(data[position:end])
            self._left -= end - position
            self.whole = self._left == 0
        self._got += end - position
        return end

    def text(self) -> bytes:
        """The body, once it is whole."""
        text = b"".join(self._parts) if self._chunks is None else self._chunks.body()
        if self.claim is not None:
            self.claim.whole(len(text))
        return text

    def may_go_on(self, wake: Callable[[], object], now: float) -> bool:
        """Charge what came; whether to read on. If not, ``wake`` is called once it may: then call ``go_on``."""
        if self._got <= LARGE_BYTES and (self._chunks is not None or self._got + self._left <= LARGE_BYTES):
            return True
        if self.claim is None:
            self.claim = Claim(self._budget)
        left = self._left if self._chunks is None else -1
        if not self.claim.may_read(self._got, left, wake):
            self.waits, self._waits_since = True, now
        return not self.waits

    def go_on(self, now: float) -> None:
        """There is room: what it waited is not held against the peer."""
        if self.waits:
            self.waits = False
            self.since += now - self._waits_since

    def due(self) -> float:
        """When it should have come; or, while it waits for room, when it has waited as long as a body may take."""
        limits = self._limits
        if self.waits:
            return self._waits_since + limits.body_s
        return self.since + limits.body_s + self._got / limits.body_rate

    def drop(self) -> None:
        """It is not wanted any more."""
        if self.claim is not None:
            self.claim.end()

    def __repr__(self) -> str:
        return f"<Body of {self.head.path}, {self._got} bytes>"
