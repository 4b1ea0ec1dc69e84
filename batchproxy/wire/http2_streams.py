"""The exchanges of HTTP/2, each being its stream, and unary gRPC calls among them. No frames are read here.

Nearly all calls are one HEADERS and one DATA frame in, and three frames out. A stream has slots for just that; whatever
else it may need is in an ``Extra``, which most streams never get.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol

from batchproxy.wire import grpc
from batchproxy.wire.budget import Claim
from batchproxy.wire.headers import literal
from batchproxy.wire.http1_head import Headers
from batchproxy.wire.http2_head import Head, Refusal
from batchproxy.wire.http2_limits import Http2Limits
from batchproxy.wire.unpack import Packed

_INTERNAL, _RESOURCE_EXHAUSTED = 13, 8
_UNKNOWN = -1

NOTHING = memoryview(b"")


class Carrier(Protocol):
    """What a stream needs of its connection to send an answer; see ``http2_outlet.Outlet``."""

    out: list[bytes | memoryview]
    owner: Any
    streams: dict[int, Stream]
    window: int
    cap: int

    def respond(self, stream: Stream, block: bytes, body: bytes, trailers: bytes | None) -> None:
        """Answer in general, within the peer's windows."""

    def inform(self, stream: Stream, block: bytes) -> None:
        """Send a header block that something follows."""


class Extra:
    """What a stream needs that is not done in two frames.

    Attributes:
        parts: what came of the body.
        received: its length.
        wanted: how long it will be, a message's prefix included; ``_UNKNOWN`` until its prefix came.
        compressed: the flag in a message's prefix; once the message is whole: it is as it was sent, and ``inflated``
            wants to be called where nobody is kept waiting.
        credit: what the peer may send before the next window update.
        granted: by how much we opened its window.
        claim: what is charged for it, if that is more than its first window.
        held: what came of a streamed call's messages and was not taken yet, in bytes.
        delta: by how much the peer's window for our answer differs from its initial one.
        body: of the answer, while it waits for the peer's window; else empty.
        sent: how much of it is on its way.
        trailers: the block that follows it; None for none, empty where more of the body may follow.
        ready: whether it waits in the outlet's queue.
        mark: ``received`` or ``sent`` when time was last looked at.
    """

    __slots__ = (
        "body", "claim", "compressed", "credit", "delta", "granted", "held", "mark", "parts", "ready", "received",
        "sent", "trailers", "wanted",
    )  # fmt: skip

    def __init__(self, credit: int, wanted: int) -> None:
        self.parts: list[bytes] = []
        self.received = 0
        self.wanted = wanted
        self.compressed = 0
        self.credit = credit
        self.granted = 0
        self.claim: Claim | None = None
        self.held = 0
        self.delta = 0
        self.body = NOTHING
        self.sent = 0
        self.trailers: bytes | None = None
        self.ready = False
        self.mark = _UNKNOWN


GONE = Extra(0, 0)
"""Stands in for the extra of a stream whose caller went away, so that a late answer is told from a second one."""


class Stream:
    """One request and the place for its answer.

    Attributes:
        carrier: whose it is, until it is answered or given up.
        id: of the stream.
        head: what was asked for.
        message: the request's message or body; None until it is whole.
        extra: see there; mostly None.
        on_cancel: called when the caller is gone before its answer.
        streamed: whether this is a call with any number of messages, handed on when its head is complete.
    """

    __slots__ = ("carrier", "extra", "head", "id", "message", "on_cancel")

    streamed: ClassVar[bool] = False

    def __init__(self, carrier: Carrier, id: int, head: Head) -> None:  # noqa: A002  # the protocol's word
        self.carrier: Carrier | None = carrier
        self.id = id
        self.head = head
        self.message: bytes | None = None
        self.extra: Extra | None = None
        self.on_cancel: Callable[[], object] | None = None

    @property
    def claim(self) -> Claim | None:
        """What is charged for it, if it is large."""
        return None if self.extra is None else self.extra.claim

    def extended(self, credit: int) -> Extra:
        """The extra, made where there was none.

        Args:
            credit: the window that streams begin with.
        """
        if self.extra is None:
            self.extra = Extra(credit, _UNKNOWN if self.head.grpc else self.head.length)
        return self.extra

    def take(self, data: bytes, limits: Http2Limits) -> None:
        """A piece of the body came.

        Raises:
            Refusal: it is not going to be served.
        """
        raise NotImplementedError

    def complete(self, limits: Http2Limits) -> None:
        """The body is whole: set ``message``.

        Raises:
            Refusal: it is not going to be served.
        """
        raise NotImplementedError

    def inflated(self, limits: Http2Limits) -> bytes:
        """What the message is without its compression; changes nothing.

        Raises:
            Refusal: it is not going to be served.
        """
        raise NotImplementedError

    def refuse(self, refusal: Refusal) -> None:
        """Answer that."""
        raise NotImplementedError

    def next_piece(self) -> bytes:
        """What follows of a streamed answer's body, once all before it is on its way; empty for nothing yet."""
        raise NotImplementedError

    def wake(self) -> None:
        """The connection takes more of a streamed answer."""
        raise NotImplementedError

    def held(self) -> int:
        """Bytes of request and answer that are not charged."""
        message, extra = self.message or b"", self.extra
        if extra is None:
            return len(message)
        unsent = len(extra.body) - extra.sent if extra.body else 0
        return unsent + (len(message) if extra.claim is None else 0)

    def cancel(self) -> None:
        """The caller is gone."""
        if self.carrier is not None:
            self.carrier = None
            self.extra = GONE
            if self.on_cancel is not None:
                self.on_cancel()

    def release(self) -> Carrier | None:
        """The connection to answer on, once; None where the caller is gone.

        Raises:
            RuntimeError: the answer was given before. This is a bug.
        """
        carrier = self.carrier
        if carrier is None and self.extra is not GONE:
            raise RuntimeError(f"{self!r} was answered twice. This is a bug.")
        self.carrier = None
        return carrier

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.head.path}>"


class GrpcCall(Stream):
    """A unary gRPC call; see ``base.GrpcExchange``."""

    __slots__ = ()

    message: bytes

    @property
    def path(self) -> str:
        return self.head.path

    @property
    def metadata(self) -> Headers:
        return self.head.metadata

    @property
    def timeout_s(self) -> float | None:
        return self.head.timeout_s

    def answer(
        self,
        code: int,
        message: str,
        body: bytes,
        trailers: Sequence[grpc.Pair] = (),
        *,
        headers: Sequence[grpc.Pair] = (),
        compress: bool = False,
    ) -> None:
        """Say the outcome; nothing happens where the caller is gone.

        Args:
            code: gRPC's number.
            message: the status text.
            body: the reply; not sent where ``code`` is not 0.
            trailers: further metadata after the answer.
            headers: further metadata before it.
            compress: whether the reply may be compressed, which it is where the caller accepts that.

        Raises:
            RuntimeError: the answer was given before. This is a bug.
            ValueError: metadata that gRPC does not allow.
        """
        if not (code or trailers or message or headers or compress) and self.answer_plain(body):
            return
        last = grpc.trailers(code, message, trailers)
        first = grpc.RESPONSE + grpc.metadata_fields(headers) if headers else grpc.RESPONSE
        carrier = self.release()
        if carrier is None:
            return
        if code:
            if headers:
                carrier.inform(self, first)
                carrier.respond(self, last, b"", None)
            else:
                carrier.respond(self, first + last, b"", None)
        elif compress and self.head.accepts:
            packed = grpc.compress(self.head.accepts, body)
            block = first + literal(b"grpc-encoding", self.head.accepts)
            carrier.respond(self, block, grpc.PREFIX.pack(1, len(packed)) + packed, last)
        else:
            carrier.respond(self, first, grpc.PREFIX.pack(0, len(body)) + body, last)

    def answer_plain(self, body: bytes) -> bool:
        """A short cut: say that all went well, if that can be said now and in one piece; else nothing is said.

        Args:
            body: the reply; the answer is to have no metadata, and no compression.

        Returns:
            Whether it was said.
        """
        pack, size, head, middle, opening, closing, end = grpc.plain(len(body))
        carrier = self.carrier
        if carrier is None or size > carrier.cap or size > carrier.window or self.extra is not None:
            return False
        stream = self.id
        carrier.out.append(pack(head, stream, middle, stream, opening, body, closing, stream, end))
        carrier.window -= size
        del carrier.streams[stream]
        self.carrier = self.on_cancel = None
        return True

    def take(self, data: bytes, limits: Http2Limits) -> None:
        extra = self.extended(limits.window_bytes)
        extra.received += len(data)
        extra.parts.append(data)
        if extra.wanted == _UNKNOWN:
            if extra.received < grpc.PREFIX.size:
                return
            first = b"".join(extra.parts)
            extra.compressed, length = grpc.PREFIX.unpack_from(first)
            extra.wanted = grpc.PREFIX.size + length
            extra.parts = [first[grpc.PREFIX.size :]]
            if length > limits.message_bytes:
                text = f"Received message larger than max ({length} vs. {limits.message_bytes})"  # grpc's own words
                raise Refusal(_RESOURCE_EXHAUSTED, text)
            if extra.compressed and not self.head.encoding:
                raise Refusal(_INTERNAL, "a message is marked as compressed, but no grpc-encoding was given")
        if extra.received > extra.wanted:
            raise Refusal(_INTERNAL, "a unary call has one message; more came")

    def complete(self, limits: Http2Limits) -> None:
        extra = self.extra
        if extra is None or extra.received == 0:
            raise Refusal(_INTERNAL, "a unary call has one message; none came")
        if extra.received != extra.wanted:
            raise Refusal(_INTERNAL, "the message ends before its announced length")
        self.message = message = b"".join(extra.parts)
        extra.parts = []
        if extra.compressed:
            text = Packed(self.head.encoding, message, limits.message_bytes).quick()
            if text is not None:
                self.message, extra.compressed = text, 0

    def inflated(self, limits: Http2Limits) -> bytes:
        return Packed(self.head.encoding, self.message, limits.message_bytes).whole()

    def refuse(self, refusal: Refusal) -> None:
        self.answer(refusal.code, refusal.text, b"", tuple(refusal.fields.items()))
