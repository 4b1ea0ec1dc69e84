"""One HTTP/1.1 request and the place for its answer. How they look in bytes is the connection's matter (``http1``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from batchproxy.wire.gzip import inflated
from batchproxy.wire.http1_head import Head, Headers

if TYPE_CHECKING:
    from batchproxy.wire.budget import Claim
    from batchproxy.wire.http1 import Http1Connection


class Http1Exchange:
    """One request and the place for its answer; see ``base.HttpExchange``.

    Attributes:
        claim: what is charged for its body, if that is large.
        compressed: the body is as it was sent, and large: call ``inflate`` where nobody is kept waiting.
        head: what it begins with; equal requests share one.
        connection: whose it is, until it is answered or given up. For the connection's use, as those below.
        held: bytes of its body that count as held.
        mode: flags of what the answer's head depends on.
        ready: the answer, head and body; empty once it is written.
    """

    __slots__ = (
        "body", "claim", "compressed", "connection", "head", "held", "mode", "on_cancel", "ready",
    )  # fmt: skip

    def __init__(self, connection: Http1Connection, head: Head, body: bytes, mode: int) -> None:
        self.head = head
        self.body = body
        self.on_cancel: Callable[[], object] | None = None
        self.connection: Http1Connection | None = connection
        self.mode = mode
        self.claim: Claim | None = None
        self.compressed = False
        self.held = 0
        self.ready: Sequence[bytes] | None = None

    @property
    def method(self) -> str:
        return self.head.method

    @property
    def path(self) -> str:
        return self.head.path

    @property
    def headers(self) -> Headers:
        return self.head.headers

    def answer(self, status: int, body: bytes, headers: Mapping[str, str], reason: str | None = None) -> None:
        """Say the answer; nothing happens where the caller is gone.

        Raises:
            RuntimeError: it was said before. This is a bug.
            ValueError: a header that would end its line. This is a bug.
        """
        connection = self.connection
        if connection is None:
            if self.ready is None:
                return
            raise RuntimeError(f"{self.method} {self.path} was answered twice. This is a bug.")
        connection.settle(self, status, body, headers, reason)

    def inflate(self, limit: int) -> None:
        """Replace the body by what it is without its compression."""
        self.body = inflated(self.body, limit)
        self.compressed = False

    def gone(self) -> bool:
        """Whether the caller left, or was answered."""
        return self.connection is None

    def __repr__(self) -> str:
        return f"<Http1Exchange {self.method} {self.path}, {len(self.body)} bytes>"
