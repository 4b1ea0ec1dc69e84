"""The server's end of one HTTP/2 connection: bytes in, requests out; answers in, bytes out. No socket, no models here.

::

    bytes --> Http2Connection (cuts frames; the short way) --> Frames --> Requests --> exchanges
                                                                 |            |
    bytes <------------------------ Outlet.out <------- Intake, Outlet <---- answers

A unary call is nearly always two frames: HEADERS with a block that was seen before, and one DATA frame that ends the
stream. These two are taken in right where the frames are cut; everything else, and those two in any other dress, goes
through ``Frames.frame``. Without the short way (``FAST = False``) the same bytes give the same answers: a test holds
the two against each other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from batchproxy.wire import frames
from batchproxy.wire.budget import Budget
from batchproxy.wire.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME_BYTES,
    HEADER,
    HEADERS,
    PREFACE,
    ConnectionFault,
    ErrorCode,
)
from batchproxy.wire.grpc import PREFIX
from batchproxy.wire.http2_frames import Frames, Partial
from batchproxy.wire.http2_head import Refusal
from batchproxy.wire.http2_heads import none_is_streamed
from batchproxy.wire.http2_limits import PER_REQUEST, Http2Limits
from batchproxy.wire.http2_plain import Http2Exchange
from batchproxy.wire.http2_requests import Requests, no_room
from batchproxy.wire.http2_streams import GrpcCall, Stream

TOO_LONG = (FRAME_BYTES + 1) << 8
"""The first number of a frame's header (``frames.HEADER``) that means more than ``FRAME_BYTES``."""

_DRAIN = b"draining"  # the payload of the PING between the two GOAWAYs
_ALIVE = b"a living"  # and of the one that asks whether the peer is there
_DEADLINE_EXCEEDED = 4


class Http2Connection(Frames):
    """A connection to a client; see ``base.Connection``.

    Args:
        limits: what the peer may cost.
        now: monotonic seconds.
        is_streamed: by a gRPC call's path, whether it has any number of messages; asked once for each kind of head.
        budget: of the process; left out, its own.
        call: what its unary gRPC calls are.
        exchange: what plain requests are.

    Attributes:
        FAST: whether usual calls take the short way.
        closing: nothing more will be taken in; close once the output is written.
    """

    FAST = True
    requests: Requests

    def __init__(
        self,
        limits: Http2Limits,
        now: float,
        is_streamed: Callable[[str], bool] = none_is_streamed,
        budget: Budget | None = None,
        call: type[GrpcCall] = GrpcCall,
        exchange: type[Http2Exchange] = Http2Exchange,
    ) -> None:
        super().__init__(limits, Requests(limits, now, budget or Budget(), call, exchange))
        self.requests.heads.is_streamed = is_streamed
        self.closing = False
        self._opened = False  # the preface came
        self._parts: list[bytes] = []  # of a frame that is not whole
        self._missing = 0  # bytes until it may be
        self._heard = now
        self._progress = 0  # inputs that made a frame whole
        self._due = now + limits.patience_s
        self._drain_due: float | None = None
        self._swept = (-1, 0, cast("Partial | None", None))  # progress, last stream, partial block at the last sweep
        self._busy = now
        self._asked: float | None = None  # when we asked whether the peer is alive
        self.requests.outlet.out += (
            frames.settings(
                (frames.MAX_CONCURRENT_STREAMS, limits.streams),
                (frames.INITIAL_WINDOW_SIZE, limits.window_bytes),
                (frames.MAX_HEADER_LIST_SIZE, limits.list_bytes),
            ),
            frames.window_update(0, limits.connection_window_bytes - frames.DEFAULT_WINDOW),
        )

    @property
    def full(self) -> bool:
        """Whether the peer is not to be read from."""
        return self.requests.intake.paused

    def feed(self, data: bytes, now: float) -> list[Stream]:
        """Take in what was read.

        Args:
            data: any number of bytes.
            now: monotonic seconds.

        Returns:
            The requests that became complete, to be answered now or later: ``GrpcCall`` and ``Http2Exchange``; and
            each ``GrpcStreamCall`` that began.
        """
        if self.closing:
            return []
        requests = self.requests
        self._heard = requests.now = now
        if len(data) < self._missing:
            self._parts.append(data)
            self._missing -= len(data)
            return []
        if self._parts:
            self._parts.append(data)
            data = b"".join(self._parts)
            self._parts.clear()
        done: list[Stream] = []
        requests.done = done
        try:
            read = self._read(data)
        except ConnectionFault as fault:
            self._fail(fault)
            return []
        if read:
            self._progress += 1
        if read < len(data):
            self._parts.append(data[read:])
        if requests.withdrawn:
            requests.withdrawn = False
            return [stream for stream in done if stream.carrier is not None]
        return done

    def _read(self, data: bytes) -> int:
        """Take in every frame that is whole; returns how many bytes that were.

        The names below are the attributes they are copied from; only what the short way changes is written back.
        """
        end = len(data)
        at = 0
        if not self._opened:
            if not data.startswith(PREFACE):
                if PREFACE.startswith(data):
                    self._missing = 1
                    return 0
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "this is not HTTP/2")
            self._opened = True
            at = len(PREFACE)
        requests = self.requests
        outlet, intake, done = requests.outlet, requests.intake, requests.done
        streams, unary, grpc_call = outlet.streams, requests.heads.unary, requests.call
        unpack, prefix = HEADER.unpack_from, PREFIX.unpack_from
        max_streams = self.limits.streams
        max_payload = min(FRAME_BYTES, self.limits.message_bytes + PREFIX.size, self.limits.window_bytes)
        half = self.limits.connection_window_bytes // 2
        earned = 0
        expected, credit, fast = self._state()
        while True:
            start = at + 9
            if start > end:
                self._missing = start - end
                break
            size_kind, flags, sid = unpack(data, at)
            if size_kind >= TOO_LONG:  # known before it has come (4.2)
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"a frame has more than {FRAME_BYTES} bytes")
            stop = start + (size_kind >> 8)
            if stop > end:
                self._missing = stop - end
                break
            kind = size_kind & 0xFF
            if fast:
                if kind == HEADERS:
                    if flags == END_HEADERS and sid == expected and len(streams) < max_streams:
                        head = unary.get(data[start:stop])
                        if head is not None:
                            streams[sid] = grpc_call(outlet, sid, head)
                            requests.last = sid
                            expected = sid + 2
                            at = stop
                            continue
                elif kind == DATA and flags == END_STREAM:
                    stream = streams.get(sid)
                    size = stop - start
                    if (
                        stream is not None
                        and stream.message is None
                        and stream.extra is None
                        and 5 <= size <= max_payload
                        and credit - size > half
                        and ((length := stream.head.short) == -1 or length == size)
                    ):
                        compressed, length = prefix(data, start)
                        if not compressed and length == size - 5:
                            stream.message = data[start + 5 : stop]
                            credit -= size
                            done.append(stream)
                            at = stop
                            continue
            if len(done) > earned:
                requests.allowance.earn(PER_REQUEST * (len(done) - earned))
                earned = len(done)
            intake.credit = credit
            self.frame(kind, flags, sid & frames.STREAM_MASK, data[start:stop])
            expected, credit, fast = self._state()
            at = stop
        if len(done) > earned:
            requests.allowance.earn(PER_REQUEST * (len(done) - earned))
        intake.credit = credit
        return at

    def _state(self) -> tuple[int, int, bool]:
        """What the short way needs to know: the next stream's id, the window left, and whether it may be taken."""
        requests = self.requests
        fast = self.FAST and self.greeted and self.partial is None and requests.last_served is None
        fast = fast and not requests.budget.spent
        return requests.last + 2 if requests.last else 1, requests.intake.credit, fast

    def output(self) -> bytes:
        """What is to be written now."""
        outlet = self.requests.outlet
        if self.requests.last_served is not None and not outlet.streams:
            self.closing = True
        if not outlet.out:
            return b""
        data = b"".join(outlet.out)
        outlet.out.clear()
        return data

    def _fail(self, fault: ConnectionFault) -> None:
        """End the connection, and say why (5.4.1)."""
        self.closing = True
        self.requests.drop_all()
        self.requests.outlet.out.append(frames.goaway(self.requests.last, fault.code, fault.reason))

    def eof(self, now: float) -> None:
        """The peer sends nothing more: in HTTP/2 that is its end, since it cannot even acknowledge."""
        self.closing = True
        self.requests.drop_all()

    def lost(self) -> None:
        """The peer is gone."""
        self.closing = True
        self.requests.drop_all()
        self.requests.outlet.out.clear()

    def paused(self, yes: bool) -> None:
        """Whether the peer is slow to read: its windows stay shut meanwhile."""
        if not self.closing:
            self.requests.intake.pause(yes)
            self.requests.outlet.pause(yes)

    @property
    def owner(self) -> Any:
        """See ``base.Connection``."""
        return self.requests.outlet.owner

    @owner.setter
    def owner(self, owner: Any) -> None:
        self.requests.outlet.owner = owner

    @property
    def on_room(self) -> Callable[[], object] | None:
        """See ``base.Connection``."""
        return self.requests.intake.on_room

    @on_room.setter
    def on_room(self, tell: Callable[[], object] | None) -> None:
        self.requests.intake.on_room = tell

    def held(self) -> int:
        """See ``base.Connection``."""
        return sum(stream.held() for stream in self.requests.outlet.streams.values())

    def drain(self, now: float) -> None:
        """End with the requests under way, in two steps (6.8): first a GOAWAY that names no stream, and a PING."""
        if self._drain_due is None and not self.closing and self.requests.last_served is None:
            self._drain_due = now + self.limits.drain_s
            self.requests.outlet.out += (
                frames.goaway(frames.STREAM_MASK, ErrorCode.NO_ERROR, "draining"),
                frames.frame(frames.PING, 0, 0, _DRAIN),
            )

    def on_pong(self, payload: bytes) -> None:
        """The peer has read our first GOAWAY, or is alive."""
        if payload == _DRAIN and self._drain_due is not None:
            self._end_drain()

    def _end_drain(self, reason: str = "draining") -> None:
        """The second step: what comes from now on is not served."""
        self._drain_due = None
        self.requests.last_served = self.requests.last
        self.requests.outlet.out.append(frames.goaway(self.requests.last, ErrorCode.NO_ERROR, reason))

    def due(self) -> float | None:
        """When ``tick`` wants to be called."""
        if self.closing:
            return None
        return self._due if self._drain_due is None else min(self._due, self._drain_due)

    def tick(self, now: float) -> None:
        """Time has passed: whoever made no progress since the last look is told so."""
        if self.closing:
            return
        self.requests.now = now
        if self._drain_due is not None and now >= self._drain_due:
            self._end_drain()
        if now >= self._due:
            self._due = now + self.limits.patience_s
            try:
                self._sweep(now)
            except ConnectionFault as fault:
                self._fail(fault)

    def _sweep(self, now: float) -> None:
        requests = self.requests
        progress, last, partial = self._swept
        if not self.greeted:
            raise ConnectionFault(ErrorCode.SETTINGS_TIMEOUT, "no SETTINGS came")
        if progress >= 0 and not self.acknowledged:
            raise ConnectionFault(ErrorCode.SETTINGS_TIMEOUT, "our SETTINGS were not acknowledged")
        if self._asked is not None and self._heard < self._asked:
            raise ConnectionFault(ErrorCode.NO_ERROR, "a PING was not answered")
        if (self._parts and progress == self._progress) or (partial is not None and partial is self.partial):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "a frame or header block does not come to its end")
        for stream in list(requests.outlet.streams.values()):
            self._sweep_stream(stream, is_old=stream.id <= last)
        if requests.outlet.streams or requests.last != last:
            self._busy = now
        self._asked = now if now - self._heard >= self.limits.ping_s else None
        if self._asked is not None:
            requests.outlet.out.append(frames.frame(frames.PING, 0, 0, _ALIVE))
        if now - self._busy >= self.limits.idle_s:
            self._end_drain("idle")
        self._swept = (self._progress, requests.last, self.partial)

    def _sweep_stream(self, stream: Stream, *, is_old: bool) -> None:
        """See that a body comes, and that an answer goes."""
        if stream.streamed and stream.carrier is not None:
            return  # either side may be silent for as long as it likes
        requests, extra = self.requests, stream.extra
        if extra is not None and extra.body:
            if extra.sent == extra.mark:
                requests.reset(stream.id, ErrorCode.CANCEL)
            extra.mark = extra.sent
        elif stream.message is None and requests.intake.is_waiting(stream):
            if extra is not None and extra.claim is not None:  # it waits for room, not just for others of its own
                if extra.received == extra.mark and not requests.intake.paused:
                    requests.refuse(stream, no_room(stream.head), ends=False)
                extra.mark = extra.received
        elif stream.message is None:
            enough = self.limits.body_rate * self.limits.patience_s
            if extra is not None and (extra.mark < 0 or extra.received - extra.mark >= enough):
                extra.mark = extra.received
            elif is_old:
                code = _DEADLINE_EXCEEDED if stream.head.grpc else 408
                requests.refuse(stream, Refusal(code, "the request came too slowly"), ends=False)

    def __repr__(self) -> str:
        return f"<Http2Connection {self.requests!r}{', closing' if self.closing else ''}>"
