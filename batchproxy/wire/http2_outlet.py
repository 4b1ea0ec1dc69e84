"""What an HTTP/2 connection sends: answers within the peer's windows, whole or in pieces. Nothing is read here.

A stream whose own window is open waits in ``_ready`` for the connection's; one whose own window is shut waits for
nobody, until the peer opens it. So a window update costs no more than what it lets through.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from batchproxy.wire import frames
from batchproxy.wire.frames import (
    DATA,
    DEFAULT_WINDOW,
    END_STREAM,
    FRAME_BYTES,
    HEADER,
    MAX_WINDOW,
    ConnectionFault,
    ErrorCode,
    StreamFault,
)
from batchproxy.wire.headers import SHRINK, TABLE_BYTES
from batchproxy.wire.http2_streams import NOTHING, Extra, Stream

MAX_FRAME_BYTES = 64 << 10
"""Our largest frame, where the peer takes such: others' answers are not to wait long behind one."""

WORTHWHILE = 64
"""A DATA frame of fewer bytes, because the peer's window allows no more, is a nuisance rather than work done."""

UPDATE_BYTES = 1 << 10
"""Go's client updates two windows for each 4 KiB; ours is a generous reading of what a peer may need."""


class Outlet:
    """The sending half of a connection.

    Args:
        stream_window: what our peer may send on a stream before the first window update.
        closed: told of each stream that was answered in full.
        earn: told for how many window updates there was reason.

    Attributes:
        out: what is to be written.
        owner: whose the connection is.
        streams: those open, by id.
        window: what the peer takes on the connection.
        cap: what it takes on a stream in one frame; -1 where answers must take the general way.
        initial: the window its streams begin with.
        slow: whether what was written waits for the peer to read: streamed answers pause.
    """

    __slots__ = (
        "_closed", "_earn", "_frame_bytes", "_ready", "_shrink", "_stream_window", "_table_bytes", "cap", "initial",
        "out", "owner", "slow", "streams", "window",
    )  # fmt: skip

    def __init__(self, stream_window: int, closed: Callable[[Stream], None], earn: Callable[[int], None]) -> None:
        self.out: list[bytes | memoryview] = []
        self.owner: Any = None
        self.streams: dict[int, Stream] = {}
        self.window = DEFAULT_WINDOW
        self.initial = DEFAULT_WINDOW
        self._frame_bytes = FRAME_BYTES
        self._table_bytes = TABLE_BYTES  # what the peer believes our encoder's table to be
        self._shrink = False
        self._stream_window = stream_window
        self._closed = closed
        self._earn = earn
        self._ready: deque[tuple[Stream, Extra]] = deque()
        self.slow = False
        self.cap = 0
        self._set_cap()

    def _set_cap(self) -> None:
        self.cap = -1 if self._shrink else min(self.initial, self._frame_bytes)

    def respond(self, stream: Stream, block: bytes, body: bytes, trailers: bytes | None) -> None:
        """Answer a stream.

        Args:
            stream: released by its exchange.
            block: the answer's header fields.
            body: of any length; empty: the block is all.
            trailers: the fields after the body; None for none.
        """
        self._headers(stream, block, 0 if body else END_STREAM)
        if not body:
            self._finish(stream)
            return
        extra = stream.extended(self._stream_window)
        extra.body, extra.sent, extra.trailers, extra.mark = memoryview(body), 0, trailers, -1
        if self.initial + extra.delta > 0:
            self._queue(stream, extra)
            self.pump()

    def inform(self, stream: Stream, block: bytes) -> None:
        """Send a header block that something follows: ``100 Continue``, or the head of a streamed answer."""
        self._headers(stream, block, 0)

    def _headers(self, stream: Stream, block: bytes, flags: int) -> None:
        if self._shrink:  # to be said in the first block after the peer's wish
            block = SHRINK + block
            self._shrink = False
            self._set_cap()
        self.out.append(frames.headers(stream.id, block, flags, self._frame_bytes))

    def go_on(self, stream: Stream, extra: Extra) -> None:
        """Send on a streamed answer, whose head is sent, with what the stream has by now."""
        if not extra.body and self._next(stream, extra):
            self.pump()

    def conclude(self, stream: Stream, extra: Extra, trailers: bytes) -> None:
        """Let ``trailers`` follow all that a streamed answer has."""
        extra.trailers = trailers
        if not extra.body:
            self._end(stream, extra)

    def half_close(self, stream: Stream, extra: Extra) -> None:
        """A client's streamed call has nothing to send but what is in hand: its last frame says so (8.1)."""
        if extra.body:
            extra.trailers = None
        else:
            self.out.append(frames.frame(DATA, END_STREAM, stream.id, b""))
            self._finish(stream)

    def _next(self, stream: Stream, extra: Extra) -> bool:
        """Begin with what follows; False: nothing does."""
        piece = stream.next_piece()
        if not piece:
            return False
        extra.body, extra.sent, extra.mark = memoryview(piece), 0, -1
        if self.initial + extra.delta > 0:
            self._queue(stream, extra)
        return True

    def pause(self, yes: bool) -> None:
        """Whether the peer is slow to read what was written."""
        self.slow = yes
        if not yes:
            for stream in list(self.streams.values()):
                if stream.streamed:
                    stream.wake()

    def worked(self) -> None:
        """A frame brought messages of a streamed call: it is paid back, and so is the one with their prefix."""
        self._earn(2)

    def pump(self) -> None:
        """Send what the windows allow, a frame of each waiting answer in turn."""
        earned = 0
        ready = self._ready
        while ready and self.window > 0:
            stream, extra = ready.popleft()
            extra.ready = False
            room = self.initial + extra.delta
            if room > 0:  # else it was shut meanwhile
                size = self._send(stream, extra, min(room, self.window, self._frame_bytes))
                if size >= WORTHWHILE or (stream.streamed and not extra.body):
                    earned += 2 + size // UPDATE_BYTES
        if earned:
            self._earn(earned)

    def _send(self, stream: Stream, extra: Extra, room: int) -> int:
        """Send a piece of an answer; returns how long it is."""
        start = extra.sent
        left = len(extra.body) - start
        size = min(left, room)
        last = size == left and extra.trailers is None
        self.out.append(HEADER.pack(size << 8 | DATA, END_STREAM if last else 0, stream.id))
        self.out.append(extra.body[start : start + size])
        extra.sent += size
        extra.delta -= size
        self.window -= size
        if size == left:
            self._end(stream, extra)
        elif self.initial + extra.delta > 0:
            self._queue(stream, extra)
        return size

    def forget(self, stream: Stream) -> None:
        """The stream is gone, with what was to be sent."""
        del self.streams[stream.id]
        extra = stream.extra
        if extra is not None:
            extra.body = NOTHING
            if extra.ready:
                self._ready.remove((stream, extra))

    def _queue(self, stream: Stream, extra: Extra) -> None:
        extra.ready = True
        self._ready.append((stream, extra))

    def _end(self, stream: Stream, extra: Extra) -> None:
        """The body is on its way."""
        extra.body = NOTHING
        if stream.streamed and (self._next(stream, extra) or extra.trailers == b""):
            return
        if extra.trailers is not None:
            self._headers(stream, extra.trailers, END_STREAM)
        self._finish(stream)

    def _finish(self, stream: Stream) -> None:
        del self.streams[stream.id]
        self._closed(stream)

    def widen(self, increment: int) -> None:
        """The peer opened the connection's window.

        Raises:
            ConnectionFault: too far (6.9.1).
        """
        self.window += increment
        if self.window > MAX_WINDOW:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window grows beyond 2^31-1")
        self.pump()

    def widen_stream(self, stream: Stream, increment: int) -> None:
        """The peer opened a stream's window.

        Raises:
            StreamFault: too far (6.9.1).
        """
        extra = stream.extended(self._stream_window)
        extra.delta += increment
        if self.initial + extra.delta > MAX_WINDOW:
            raise StreamFault(ErrorCode.FLOW_CONTROL_ERROR, "a stream's window grows beyond 2^31-1")
        self._wake(stream)
        self.pump()

    def _wake(self, stream: Stream) -> None:
        extra = stream.extra
        if extra is not None and extra.body and not extra.ready and self.initial + extra.delta > 0:
            self._queue(stream, extra)

    def set_initial(self, window: int) -> None:
        """The peer's streams begin with another window; those open move by the difference (6.9.2).

        Raises:
            ConnectionFault: a window beyond 2^31-1.
        """
        grows, self.initial = window > self.initial, window
        self._set_cap()
        if grows:
            for stream in self.streams.values():
                if stream.extra is not None and window + stream.extra.delta > MAX_WINDOW:
                    raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "a stream's window grows beyond 2^31-1")
                self._wake(stream)
            self.pump()

    def set_frame_bytes(self, size: int) -> None:
        """The peer takes frames of another size."""
        self._frame_bytes = min(size, MAX_FRAME_BYTES)
        self._set_cap()

    def set_table_bytes(self, size: int) -> None:
        """The peer's decoder has another table: below 4,096 bytes it waits to hear that ours shrank (RFC 7541, 4.2)."""
        if size < self._table_bytes:
            self._table_bytes = 0
            self._shrink = True
            self._set_cap()

    def __repr__(self) -> str:
        return f"<Outlet {len(self.streams)} streams, window {self.window}, {len(self._ready)} ready>"
