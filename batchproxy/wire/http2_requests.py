"""The streams of an HTTP/2 server: opened, filled, ended, refused, reset. How frames spell that is not known here.

Faults of a stream are raised as ``StreamFault``, to be told by ``reset``; faults of the connection as
``ConnectionFault``. Sections are those of RFC 9113.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress

from batchproxy.wire import frames
from batchproxy.wire.budget import Budget
from batchproxy.wire.frames import ConnectionFault, ErrorCode, StreamFault
from batchproxy.wire.headers import HeaderError, HeadersTooLarge
from batchproxy.wire.http1_body import NO_ROOM
from batchproxy.wire.http2_calls import GrpcStreamCall
from batchproxy.wire.http2_head import Head, Refusal, check_trailers
from batchproxy.wire.http2_heads import Heads
from batchproxy.wire.http2_intake import Intake
from batchproxy.wire.http2_limits import CANCELLED, Allowance, Http2Limits
from batchproxy.wire.http2_outlet import Outlet
from batchproxy.wire.http2_plain import Http2Exchange
from batchproxy.wire.http2_streams import GrpcCall, Stream

MAX_RESETS = 1000
"""Streams that we reset and remember: what the peer had sent before it heard of that is no fault (5.1)."""

MAX_GAPS = 16
"""Ranges of ids that the peer skipped and that we remember, to tell "never used" from "closed" (5.1.1)."""

SMALL = 64
"""DATA frames of fewer bytes that do not end their stream are paid for."""

_UNAVAILABLE = 14

CONTINUE = b"\x08\x03100"
"""``:status: 100``."""


class Requests:
    """The streams of one connection.

    Args:
        limits: what the peer may cost.
        now: monotonic seconds.
        budget: of the process.
        call: what unary gRPC calls are.
        exchange: what plain requests are.

    Attributes:
        budget: of the process.
        call: as given.
        now: when the bytes came that are being read.
        last: the highest id of a stream that was opened.
        last_served: in the final GOAWAY; later streams are overlooked. None: there was no such GOAWAY.
        done: the requests that became complete; emptied by whoever hands them on.
        withdrawn: whether one of these was given up again.
        outlet: the sending half.
        intake: the receiving windows.
        heads: reads header blocks.
    """

    __slots__ = (
        "_exchange", "_gaps", "_resets", "allowance", "budget", "call", "done", "heads", "intake", "last",
        "last_served", "limits", "now", "outlet", "withdrawn",
    )  # fmt: skip

    def __init__(
        self,
        limits: Http2Limits,
        now: float,
        budget: Budget,
        call: type[GrpcCall] = GrpcCall,
        exchange: type[Http2Exchange] = Http2Exchange,
    ) -> None:
        self.limits = limits
        self.budget = budget
        self.call = call
        self._exchange = exchange
        self.now = now
        self.last = 0
        self.last_served: int | None = None
        self.done: list[Stream] = []
        self.withdrawn = False
        self.allowance = Allowance(limits.allowance, limits.allowance_rate, now)
        self.outlet = Outlet(limits.window_bytes, self._answered, self.allowance.earn)
        self.intake = Intake(limits, self.outlet.out, budget)
        self.heads = Heads(limits.fields, limits.list_bytes)
        self._gaps: deque[tuple[int, int]] = deque(maxlen=MAX_GAPS)
        self._resets: dict[int, None] = {}

    def spend(self, cost: int, what: str) -> None:
        """A frame brought no work done; see ``Allowance.spend``."""
        self.allowance.spend(cost, self.now, what)

    def headers(self, sid: int, block: bytes, *, ends: bool) -> None:
        """A whole header block came; it is decoded whatever becomes of it, for the table's sake (4.3)."""
        stream = self.outlet.streams.get(sid)
        try:
            if stream is not None:
                self._trailers(stream, block, ends=ends)
            elif sid > self.last:
                self._open(sid, block, ends=ends)
            else:
                self._late_headers(sid, block)
        except HeaderError as error:
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, str(error)) from None

    def _open(self, sid: int, block: bytes, *, ends: bool) -> None:
        expected = self.last + 2 if self.last else 1
        if sid > expected:
            self._gaps.append((expected, sid - 1))
        self.last = sid
        try:
            head = self.heads.read(block)
        except HeadersTooLarge as error:
            head = Head("GET", "*", [])  # it cannot be known what it was
            head.refusal = Refusal(431, str(error))
        if self.last_served is not None:
            self._remember(sid)  # our GOAWAY said that it will not be served
            self.spend(1, "streams after GOAWAY")
            return
        if len(self.outlet.streams) >= self.limits.streams:
            raise StreamFault(ErrorCode.REFUSED_STREAM, "too many streams")
        stream: Stream
        if head.streamed:
            stream = GrpcStreamCall(self.outlet, sid, head, self.intake, self.limits)
        else:
            stream = (self.call if head.grpc else self._exchange)(self.outlet, sid, head)
        self.outlet.streams[sid] = stream
        if head.refusal is not None:
            self.refuse(stream, head.refusal, ends=ends)
            return
        if self.budget.spent and not ends:
            self.refuse(stream, no_room(head), ends=False)
            return
        if head.streamed:
            self.done.append(stream)
        if ends:
            if head.length > 0:
                raise _malformed("content-length without a body")
            self._complete(stream)
        elif head.awaits:
            self.outlet.inform(stream, CONTINUE)

    def _trailers(self, stream: Stream, block: bytes, *, ends: bool) -> None:
        try:
            fields = self.heads.fields(block)
        except HeadersTooLarge as error:
            raise StreamFault(ErrorCode.ENHANCE_YOUR_CALM, str(error)) from None
        if stream.message is not None:
            raise StreamFault(ErrorCode.STREAM_CLOSED, "HEADERS after the end of the stream")
        if not ends:
            raise _malformed("HEADERS within a body")
        check_trailers(fields)
        received = stream.extra.received if stream.extra is not None else 0
        if stream.head.length not in {-1, received}:
            raise _malformed("content-length is not the length of the body")
        self._complete(stream)

    def _late_headers(self, sid: int, block: bytes) -> None:
        with suppress(HeadersTooLarge):  # nobody is going to read them
            self.heads.fields(block)
        if self._is_late(sid, "HEADERS on a stream that was skipped"):
            raise ConnectionFault(ErrorCode.STREAM_CLOSED, "HEADERS on a closed stream")

    def data(self, sid: int, data: bytes, length: int, *, ends: bool) -> None:
        """A piece of a body came.

        Args:
            sid: the stream.
            data: without padding.
            length: with padding: what flow control counts.
            ends: whether it is the last.
        """
        self.intake.consume(length)
        if len(data) < SMALL and not ends:
            self.spend(1, "DATA frames with next to nothing in them")
        stream = self.outlet.streams.get(sid)
        if stream is None:
            if self._is_late(sid, "DATA on a stream that was never opened"):
                raise StreamFault(ErrorCode.STREAM_CLOSED, "DATA on a closed stream")
            return
        if stream.message is not None:
            raise StreamFault(ErrorCode.STREAM_CLOSED, "DATA after the end of the stream")
        extra = stream.extended(self.limits.window_bytes)
        self.intake.consume_stream(extra, length)
        received, expected = extra.received + len(data), stream.head.length
        if expected >= 0 and (received > expected or (ends and received < expected)):
            raise _malformed("content-length is not the length of the body")
        if stream.carrier is None:  # refused, and the peer's window is too small for the whole answer
            extra.received = received
        else:
            try:
                stream.take(data, self.limits)
            except Refusal as refusal:
                self.refuse(stream, refusal, ends=ends)
                return
        if ends:
            self._complete(stream)
        elif stream.carrier is not None:
            self.intake.continue_stream(stream, extra)

    def _complete(self, stream: Stream) -> None:
        """The request ends here."""
        if stream.extra is not None and not stream.streamed:  # what that holds counts until it is taken
            self.intake.release(stream, stream.extra)
        if stream.carrier is None:
            stream.message = b""
            return
        try:
            stream.complete(self.limits)
        except Refusal as refusal:
            self.refuse(stream, refusal, ends=True)
        else:
            if not stream.streamed:
                self.done.append(stream)

    def refuse(self, stream: Stream, refusal: Refusal, *, ends: bool) -> None:
        """Answer a request ourselves.

        Args:
            stream: whose.
            refusal: the answer.
            ends: whether the request has come in full.
        """
        if ends:
            stream.message = b""
        stream.refuse(refusal)
        self.withdrawn |= stream.streamed  # it may wait to be handed on
        self.spend(1, "requests that are not served")

    def _answered(self, stream: Stream) -> None:
        """An answer is sent in full. The rest of a request that has not come in full is not wanted any more (8.1)."""
        if stream.message is None:
            self.outlet.out.append(frames.rst_stream(stream.id, ErrorCode.NO_ERROR))
            self._remember(stream.id)
        if stream.extra is not None:
            self.intake.release(stream, stream.extra)
            if stream.extra.claim is not None:
                stream.extra.claim.end()

    def _is_late(self, sid: int, fault: str) -> bool:
        """Whether a frame comes on a stream that was closed, and whose peer must have known.

        Raises:
            ConnectionFault: the stream never was open, which is that ``fault``.
        """
        if self.is_idle(sid) or any(low <= sid <= high for low, high in self._gaps):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, fault)
        if sid not in self._resets:
            return True
        self.spend(1, "frames on streams that were reset")
        return False

    def is_idle(self, sid: int) -> bool:
        """Whether no client's stream with this id has been opened yet."""
        return sid > self.last or not sid & 1

    def reset(self, sid: int, code: ErrorCode) -> None:
        """End a stream by RST_STREAM (5.4.2).

        Raises:
            ConnectionFault: too many of them.
        """
        self.outlet.out.append(frames.rst_stream(sid, code))
        self._remember(sid)
        stream = self.outlet.streams.get(sid)
        if stream is not None:
            self._drop(stream)
        self.spend(2, "streams with faults")

    def was_reset(self, sid: int) -> None:
        """The peer ended a stream.

        Raises:
            ConnectionFault: too many of them.
        """
        stream = self.outlet.streams.get(sid)
        if stream is None:
            self.spend(1, "resets of closed streams")
            return
        whole = stream.message is not None or stream.streamed
        self._drop(stream)
        self.spend(CANCELLED if whole else 2, "cancelled requests")

    def drop_all(self) -> None:
        """The connection is gone."""
        for stream in list(self.outlet.streams.values()):
            self._drop(stream)

    def _drop(self, stream: Stream) -> None:
        """The stream is gone, whoever ended it; its exchange is told."""
        self.outlet.forget(stream)
        if stream.extra is not None:
            self.intake.release(stream, stream.extra)
        self.withdrawn = True
        stream.cancel()

    def _remember(self, sid: int) -> None:
        self._resets[sid] = None
        if len(self._resets) > MAX_RESETS:
            del self._resets[next(iter(self._resets))]

    def __repr__(self) -> str:
        return f"<Requests {len(self.outlet.streams)} open, the last is {self.last}>"


def no_room(head: Head) -> Refusal:
    """What is said to a request that the process has no room for."""
    if head.grpc:
        return Refusal(_UNAVAILABLE, NO_ROOM, {"grpc-retry-pushback-ms": "1000"})
    return Refusal(503, NO_ROOM, {"Retry-After": "1"})


def _malformed(reason: str) -> StreamFault:
    return StreamFault(ErrorCode.PROTOCOL_ERROR, reason)
