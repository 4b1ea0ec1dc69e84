"""Every frame that an HTTP/2 peer may send, and what it means: the general way. No bytes are cut here.

With ``http2_requests.Requests``, ``Frames`` alone is a complete server; ``http2.Http2Connection`` cuts the input into
frames and has a shorter way for the two frames of a usual call. With ``http2_client_calls.Calls`` it is a client.
Faults of a stream end it with RST_STREAM, faults of the connection are raised. Frames that bring no work done are paid
for out of an allowance. Sections are those of RFC 9113.
"""

from __future__ import annotations

import struct
from typing import Protocol

from batchproxy.wire import frames
from batchproxy.wire.frames import END_HEADERS, END_STREAM, ConnectionFault, ErrorCode, StreamFault
from batchproxy.wire.http2_limits import Http2Limits
from batchproxy.wire.http2_outlet import Outlet

SETTINGS_COST = 4
"""A change of windows looks at every stream."""


class Partial:
    """A header block of which not every frame has come (6.10).

    Attributes:
        stream: whose.
        flags: of its HEADERS frame.
        parts: what came.
        size: of them.
    """

    __slots__ = ("flags", "parts", "size", "stream")

    def __init__(self, stream: int, flags: int, part: bytes) -> None:
        self.stream = stream
        self.flags = flags
        self.parts = [part]
        self.size = len(part)


class Streams(Protocol):
    """The streams of a connection; see ``http2_requests.Requests``."""

    outlet: Outlet

    def spend(self, cost: int, what: str) -> None: ...
    def headers(self, sid: int, block: bytes, *, ends: bool) -> None: ...
    def data(self, sid: int, data: bytes, length: int, *, ends: bool) -> None: ...
    def is_idle(self, sid: int) -> bool: ...
    def reset(self, sid: int, code: ErrorCode) -> None: ...
    def was_reset(self, sid: int) -> None: ...


class Frames:
    """An end of a connection, fed with frames.

    Args:
        limits: what the peer may cost.
        requests: the streams.

    Attributes:
        requests: the streams.
        partial: the header block that is being collected.
        greeted: whether the peer's SETTINGS came.
        acknowledged: whether it has read ours.
    """

    def __init__(self, limits: Http2Limits, requests: Streams) -> None:
        self.limits = limits
        self.requests = requests
        self.partial: Partial | None = None
        self.greeted = False
        self.acknowledged = False

    def frame(self, kind: int, flags: int, sid: int, payload: bytes) -> None:
        """Take in one frame.

        Raises:
            ConnectionFault: the connection ends.
        """
        if self.partial is not None and (kind != frames.CONTINUATION or sid != self.partial.stream):
            raise _protocol("a header block is interrupted by another frame")
        if not self.greeted and (kind != frames.SETTINGS or flags & frames.ACK):
            raise _protocol("the first frame is not SETTINGS")
        if kind >= len(self._HANDLERS):
            self.requests.spend(1, "frames of unknown kinds")  # to be overlooked (4.1)
            return
        try:
            self._HANDLERS[kind](self, flags, sid, payload)
        except StreamFault as fault:
            self.requests.reset(sid, fault.code)

    def _data(self, flags: int, sid: int, payload: bytes) -> None:
        data = frames.unpadded(flags, payload)
        self.requests.data(sid, data, len(payload), ends=bool(flags & END_STREAM))

    def _headers(self, flags: int, sid: int, payload: bytes) -> None:
        if not sid & 1:
            raise _protocol("HEADERS on a stream that a client cannot open")
        fragment = frames.unpadded(flags, payload)
        if flags & frames.HAS_PRIORITY:  # deprecated (5.3.2)
            if len(fragment) < 5:
                raise _wrong_size("HEADERS too short for a priority")
            fragment = fragment[5:]
        if flags & END_HEADERS:
            self.requests.headers(sid, fragment, ends=bool(flags & END_STREAM))
        else:
            self.partial = Partial(sid, flags, fragment)

    def _continuation(self, flags: int, sid: int, payload: bytes) -> None:
        partial = self.partial
        if partial is None:
            raise _protocol("CONTINUATION without HEADERS before it")
        partial.parts.append(payload)
        partial.size += len(payload)
        if partial.size > self.limits.block_bytes:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "a header block is too long")
        self.requests.spend(1, "CONTINUATION frames")
        if flags & END_HEADERS:
            self.partial = None
            self.requests.headers(sid, b"".join(partial.parts), ends=bool(partial.flags & END_STREAM))

    def _rst_stream(self, flags: int, sid: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise _wrong_size("RST_STREAM has not 4 bytes")
        if self.requests.is_idle(sid):
            raise _protocol("RST_STREAM on a stream that was never opened")
        self.on_reset(sid, int.from_bytes(payload, "big"))

    def on_reset(self, sid: int, code: int) -> None:
        """The peer ended a stream."""
        self.requests.was_reset(sid)

    def _settings(self, flags: int, sid: int, payload: bytes) -> None:
        if sid:
            raise _protocol("SETTINGS on a stream")
        if flags & frames.ACK:
            if payload:
                raise _wrong_size("an acknowledgement of SETTINGS has no payload")
            self.acknowledged = True
            self.requests.spend(1, "acknowledgements")
            return
        if len(payload) % 6:
            raise _wrong_size("SETTINGS are not whole")
        self.requests.spend(SETTINGS_COST + len(payload) // 64, "SETTINGS frames")
        outlet = self.requests.outlet
        window = outlet.initial  # only the last of several counts: each looks at every stream
        for name, value in struct.iter_unpack(">HI", payload):
            if name == frames.INITIAL_WINDOW_SIZE:
                if value > frames.MAX_WINDOW:
                    raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "an initial window beyond 2^31-1")
                window = value
            elif name == frames.MAX_FRAME_SIZE:
                if not frames.FRAME_BYTES <= value < 1 << 24:
                    raise _protocol("a maximum frame size that is not allowed")
                outlet.set_frame_bytes(value)
            elif name == frames.HEADER_TABLE_SIZE:
                outlet.set_table_bytes(value)
            else:
                self.on_setting(name, value)
        self.greeted = True
        outlet.out.append(frames.frame(frames.SETTINGS, frames.ACK, 0, b""))
        if window != outlet.initial:
            outlet.set_initial(window)

    def on_setting(self, name: int, value: int) -> None:
        """The peer says something of itself that does not concern the sending half."""
        if name == frames.ENABLE_PUSH and value > 1:
            raise _protocol("ENABLE_PUSH is neither 0 nor 1")

    def _ping(self, flags: int, sid: int, payload: bytes) -> None:
        if sid:
            raise _protocol("PING on a stream")
        if len(payload) != 8:
            raise _wrong_size("PING has not 8 bytes")
        self.requests.spend(1, "PING frames")
        if flags & frames.ACK:
            self.on_pong(payload)
        else:
            self.requests.outlet.out.append(frames.frame(frames.PING, frames.ACK, 0, payload))

    def on_pong(self, payload: bytes) -> None:
        """A PING of ours came back."""

    def _goaway(self, flags: int, sid: int, payload: bytes) -> None:
        if sid:
            raise _protocol("GOAWAY on a stream")
        if len(payload) < 8:
            raise _wrong_size("GOAWAY has fewer than 8 bytes")
        self.requests.spend(1, "GOAWAY frames")
        last, code = struct.unpack_from(">II", payload)
        self.on_goaway(last & frames.STREAM_MASK, code, payload[8:])

    def on_goaway(self, last: int, code: int, reason: bytes) -> None:
        """The peer takes no more streams of ours: a server has none."""

    def _window_update(self, flags: int, sid: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise _wrong_size("WINDOW_UPDATE has not 4 bytes")
        increment = int.from_bytes(payload, "big") & frames.MAX_WINDOW
        requests = self.requests
        requests.spend(1, "window updates")
        if sid == 0:
            if increment == 0:
                raise _protocol("a window update by 0")
            requests.outlet.widen(increment)
            return
        if requests.is_idle(sid):
            raise _protocol("WINDOW_UPDATE on a stream that was never opened")
        stream = requests.outlet.streams.get(sid)
        if stream is None:
            return  # it was on its way when the stream closed (5.1)
        if increment == 0:
            raise StreamFault(ErrorCode.PROTOCOL_ERROR, "a window update by 0")
        requests.outlet.widen_stream(stream, increment)

    def _priority(self, flags: int, sid: int, payload: bytes) -> None:
        if sid == 0:
            raise _protocol("PRIORITY on stream 0")
        self.requests.spend(1, "PRIORITY frames")  # deprecated (5.3.2): overlooked
        if len(payload) != 5:
            reason = "PRIORITY has not 5 bytes"
            if self.requests.is_idle(sid):  # it cannot be reset (6.4)
                raise _wrong_size(reason)
            raise StreamFault(ErrorCode.FRAME_SIZE_ERROR, reason)

    def _push_promise(self, flags: int, sid: int, payload: bytes) -> None:
        raise _protocol("nothing may be pushed")

    _HANDLERS = (
        _data,
        _headers,
        _priority,
        _rst_stream,
        _settings,
        _push_promise,
        _ping,
        _goaway,
        _window_update,
        _continuation,
    )  # by number (6)


def _protocol(reason: str) -> ConnectionFault:
    return ConnectionFault(ErrorCode.PROTOCOL_ERROR, reason)


def _wrong_size(reason: str) -> ConnectionFault:
    return ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, reason)
