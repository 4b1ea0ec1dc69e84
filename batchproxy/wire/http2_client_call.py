"""One call of an HTTP/2 client, and what may become of it. Nothing is sent or read here; see ``http2_client_calls``."""

from __future__ import annotations

import enum
from typing import Any

from batchproxy.wire import grpc
from batchproxy.wire.http2_client_heads import AnswerHead
from batchproxy.wire.http2_head import Head
from batchproxy.wire.http2_outlet import Outlet
from batchproxy.wire.http2_streams import Extra, Stream
from batchproxy.wire.unpack import Packed

_UNKNOWN = -1
_HEAD = Head("POST", "/", [])
"""Streams have one for the server's sake; what a call asks for is in its block."""


class Fate(enum.Enum):
    """What became of a call."""

    STATUS = "has a status"
    """The server's, or ours on what it sent; DEADLINE_EXCEEDED included."""
    NOT_RUN = "not run"
    """It was not sent, or the server says that it did not look at it."""
    LOST = "lost"
    """It was sent, and there will be no status."""


class Call(Stream):
    """A unary call, and its answer once ``fate`` is set.

    Args:
        outlet: of the connection.
        path: of the method.
        block: its header block.
        request: the message.
        deadline: monotonic seconds; infinite for none.

    Attributes:
        fate: None while it is under way.
        code: gRPC's number; where there is no status, what RST_STREAM said, or 0.
        text: the status text, or what happened instead.
        message: the answer's; None unless ``code`` is 0.
        packed: the same where to inflate it takes long: call its ``whole`` where nobody is kept waiting.
        compressed: whether the server sent it compressed.
        refusals: how often the server refused it.
        first: the head of the answer; None where there was none, or where it was the end, too.
        trailers: metadata at the end.
        waiter: for the owner's use.
    """

    __slots__ = (
        "block", "code", "compressed", "deadline", "fate", "first", "packed", "path", "refusals", "request", "text",
        "trailers", "waiter",
    )  # fmt: skip

    def __init__(self, outlet: Outlet, path: str, block: bytes, request: bytes, deadline: float) -> None:
        super().__init__(outlet, 0, _HEAD)
        self.path = path
        self.block = block
        self.request = request
        self.deadline = deadline
        self.fate: Fate | None = None
        self.code = 0
        self.packed: Packed | None = None
        self.compressed = False
        self.text = ""
        self.refusals = 0
        self.first: AnswerHead | None = None
        self.trailers: tuple[grpc.Pair, ...] = ()
        self.waiter: Any = None

    @property
    def headers(self) -> tuple[grpc.Pair, ...]:
        """Metadata at the beginning of the answer."""
        return () if self.first is None else self.first.pairs

    def extended(self, credit: int) -> Extra:
        if self.extra is None:
            self.extra = Extra(credit, _UNKNOWN)
        return self.extra

    def __repr__(self) -> str:
        return f"<Call {self.id} {self.path}{'' if self.fate is None else f', {self.fate.value}'}>"
