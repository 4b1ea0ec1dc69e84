"""The client's end of an HTTP/2 connection, for gRPC calls: calls to bytes, bytes to answers. No socket here.

::

    start --> Http2Client --> Calls --> Outlet.out --> bytes
    bytes --> Http2Client (cuts frames) --> Frames --> Calls --> calls that have ended

There is no short way as in ``http2``: one call a batch goes out, not one a request. Where the shell of a server has
``feed``, ``output`` and ``tick``, this has the same; each call that is started comes back exactly once, from ``feed``,
``tick`` or ``lost``, with its ``fate``; unless it was given up. Times are monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from batchproxy.wire import frames, grpc
from batchproxy.wire.budget import Budget
from batchproxy.wire.frames import HEADER, PREFACE, ConnectionFault, ErrorCode
from batchproxy.wire.http2_client_call import Call
from batchproxy.wire.http2_client_calls import MAX_ID, Calls
from batchproxy.wire.http2_client_heads import RequestBlocks
from batchproxy.wire.http2_client_stream import StreamCall
from batchproxy.wire.http2_frames import Frames
from batchproxy.wire.http2_limits import Http2Limits

MAX_FRAME_BYTES: Final = 64 << 10
"""The largest frame we take of a server. With answers of 200 and 600 KB, 16 KiB cost up to a quarter more processor
time, and 1 MiB up to twice as much: what came of a frame is copied once more when the rest comes."""

CLIENT_LIMITS: Final = Http2Limits(
    message_bytes=(1 << 31) - 1,  # protobuf takes no more; the limits are the server's and the listener's
    fields=1 << 15,
    list_bytes=1 << 20,  # of an answer; gRPC's 8 KiB would refuse what a direct caller may accept
    block_bytes=1 << 20,
    window_bytes=16 << 20,  # no answer of usual size ever waits for a window update
    connection_window_bytes=16 << 20,
    promised_bytes=1 << 30,
    ping_s=330.0,  # servers take pings within 5 minutes for abuse (gRPC proposal A8)
    patience_s=20.0,  # for the answer to one; as gRPC's keepalive_timeout
)
"""What a server may cost us: it is one that we chose."""

STREAM_LIMITS: Final = replace(CLIENT_LIMITS, window_bytes=512 << 10, promised_bytes=64 << 20)
"""On a connection for streamed calls, of which each may lie for long with a full window: nobody takes what came."""

_ALIVE = b"a living"  # the payload of the PING that asks whether the peer is there
_NEVER = float("inf")


class Http2Client(Frames):
    """A connection to a server.

    Args:
        authority: whom calls are for, ``HOST:PORT``.
        now: monotonic seconds.
        scheme: ``http``, or ``https`` over TLS.
        budget: of the process; left out, its own.
        limits: left out, ``CLIENT_LIMITS`` or ``STREAM_LIMITS``.
        streams: whether it is for streamed calls: their long messages wait where the budget has no room for them.

    Attributes:
        closing: the connection is of no further use; close it once the output is written.
        leaving: no further calls may be started; those under way go on.
        reason: why, in words; empty while neither is true.
    """

    requests: Calls

    def __init__(
        self,
        authority: str,
        now: float,
        *,
        scheme: str = "http",
        budget: Budget | None = None,
        limits: Http2Limits | None = None,
        streams: bool = False,
    ) -> None:
        limits = limits or (STREAM_LIMITS if streams else CLIENT_LIMITS)
        budget = budget or Budget()
        super().__init__(limits, Calls(limits, now, budget, streams=streams))
        self._budget = budget
        self._sample = 0  # bytes of streamed calls that we held when we last looked
        self.closing = False
        self.leaving = False
        self.reason = ""
        self._blocks = RequestBlocks(authority, scheme)
        self._rest: list[bytes] = []  # of a frame that is not whole
        self._missing = 0  # bytes until it may be
        self._heard = now
        self._asked: float | None = None  # when we asked whether the peer is alive
        self._due = _NEVER
        self.requests.outlet.out += (
            PREFACE,
            frames.settings(
                (frames.ENABLE_PUSH, 0),
                (frames.INITIAL_WINDOW_SIZE, limits.window_bytes),
                (frames.MAX_FRAME_SIZE, MAX_FRAME_BYTES),
                (frames.MAX_HEADER_LIST_SIZE, limits.list_bytes),
            ),
            frames.window_update(0, limits.connection_window_bytes - frames.DEFAULT_WINDOW),
        )

    @property
    def usable(self) -> bool:
        """Whether a call may be started: the server has greeted us, and takes more."""
        return self.greeted and not self.leaving and self.requests.next <= MAX_ID

    @property
    def busy(self) -> bool:
        """Whether calls are under way."""
        return bool(self.requests.calls or self.requests.waiting)

    # -- calls -------------------------------------------------------------------------------------

    def start(
        self, path: str, message: bytes, now: float, timeout_s: float | None = None, metadata: Sequence[grpc.Pair] = ()
    ) -> Call:
        """Begin a call; beyond what the server takes at once it waits its turn.

        Args:
            path: ``/package.Service/Method``.
            message: the request.
            now: monotonic seconds.
            timeout_s: the server is told, and the call ends then; None: no deadline.
            metadata: of the call.

        Raises:
            ValueError: a path or metadata that gRPC does not allow.
            RuntimeError: the connection is not ``usable``. This is a bug.
        """
        if not self.usable:
            raise RuntimeError(f"a call on {self!r}. This is a bug.")
        block = self._blocks.block(path, timeout_s, tuple(metadata))
        requests = self.requests
        call = Call(requests.outlet, path, block, message, self._deadline(now, timeout_s))
        requests.start(call)
        return call

    def start_stream(
        self,
        path: str,
        now: float,
        timeout_s: float | None = None,
        metadata: Sequence[grpc.Pair] = (),
        encoding: bytes = b"",
        accepts: bytes = b"",
    ) -> StreamCall:
        """Begin a call with any number of messages either way; see ``start``, and ``RequestBlocks.stream_block``."""
        if not self.usable:
            raise RuntimeError(f"a call on {self!r}. This is a bug.")
        block = self._blocks.stream_block(path, timeout_s, tuple(metadata), encoding, accepts)
        requests = self.requests
        call = StreamCall(requests, path, block, self._deadline(now, timeout_s), self._budget)
        requests.start(call)
        return call

    def _deadline(self, now: float, timeout_s: float | None) -> float:
        """A call begins: when its time is over."""
        if not self.busy:  # silence counts from here: nobody asks whether an idle peer is there
            self._heard = now
            self._due = now + self.limits.ping_s
        deadline = _NEVER if timeout_s is None else now + timeout_s
        self._due = min(self._due, deadline)
        return deadline

    def give_up(self, call: Call) -> None:
        """Cancel a call: the server is told, and it is not returned any more."""
        self.requests.give_up(call)

    # -- bytes -------------------------------------------------------------------------------------

    def feed(self, data: bytes, now: float) -> list[Call]:
        """Take in what was read; returns the calls that have ended."""
        if self.closing:
            return []
        self._heard = self.requests.now = now
        if len(data) < self._missing:
            self._rest.append(data)
            self._missing -= len(data)
            return []
        if self._rest:
            self._rest.append(data)
            data = b"".join(self._rest)
            self._rest.clear()
        try:
            read = self._read(data)
        except ConnectionFault as fault:
            self._fail(fault)
            return self._ended()
        if read < len(data):
            self._rest.append(data[read:])
        return self._ended()

    def _read(self, data: bytes) -> int:
        """Take in every frame that is whole; returns how many bytes that were."""
        if not self.greeted and data[:5] == b"HTTP/":
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the server speaks HTTP/1, not HTTP/2")
        unpack, frame = HEADER.unpack_from, self.frame
        end, at = len(data), 0
        while True:
            start = at + frames.HEADER_BYTES
            if start > end:
                self._missing = start - end
                return at
            size_kind, flags, sid = unpack(data, at)
            size = size_kind >> 8
            if size > MAX_FRAME_BYTES:  # known before it has come (4.2)
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"a frame has more than {MAX_FRAME_BYTES} bytes")
            at = start + size
            if at > end:
                self._missing = at - end
                return start - frames.HEADER_BYTES
            frame(size_kind & 0xFF, flags, sid & frames.STREAM_MASK, data[start:at])

    def output(self) -> list[bytes | memoryview]:
        """What is to be written now, in pieces."""
        outlet = self.requests.outlet
        if self.requests.next > MAX_ID and not self.leaving:
            self.leaving, self.reason = True, "the connection has no stream left"
        if self.leaving and not self.busy:
            self.closing = True
        pieces = outlet.out[:]
        outlet.out.clear()
        return pieces

    def account(self) -> None:
        """Charge what is held of streamed calls by now; called whenever some of it was taken."""
        self._sample = self._budget.sample(self._sample, self.requests.held)

    def pause(self, yes: bool) -> None:
        """Whether the server is slow to read what was written: streamed calls pause."""
        self.requests.outlet.pause(yes)

    @property
    def on_room(self) -> Callable[[], object] | None:
        """Called when what waited for room in the budget goes on: there is output."""
        return self.requests.intake.on_room

    @on_room.setter
    def on_room(self, tell: Callable[[], object] | None) -> None:
        self.requests.intake.on_room = tell

    def lost(self, reason: str) -> list[Call]:
        """The connection is gone; returns the calls that were under way."""
        self.closing = self.leaving = True
        self.reason = self.reason or reason
        self.requests.drop_all(self.reason)
        self.requests.outlet.out.clear()
        return self._ended()

    def _fail(self, fault: ConnectionFault) -> None:
        """End the connection, and say why (5.4.1)."""
        self.closing = self.leaving = True
        self.reason = fault.reason
        self.requests.drop_all(fault.reason)
        self.requests.outlet.out.append(frames.goaway(0, fault.code, fault.reason))

    def _ended(self) -> list[Call]:
        ended, self.requests.ended = self.requests.ended, []
        if self._sample != self.requests.held:
            self.account()
        return ended

    # -- time --------------------------------------------------------------------------------------

    def due(self) -> float:
        """When ``tick`` wants to be called; infinite for never."""
        return self._due

    def tick(self, now: float) -> list[Call]:
        """Time has passed: calls whose time is over end, and a silent peer is asked whether it is there."""
        if self.closing or now < self._due:
            return []
        requests = self.requests
        requests.now = now
        requests.expire(now)
        if not self.busy:
            self._asked, self._due = None, _NEVER
            return self._ended()
        if self._asked is not None and self._heard >= self._asked:
            self._asked = None
        if self._asked is None and now >= self._heard + self.limits.ping_s:
            self._asked = now
            requests.outlet.out.append(frames.frame(frames.PING, 0, 0, _ALIVE))
        elif self._asked is not None and now >= self._asked + self.limits.patience_s:
            self._fail(ConnectionFault(ErrorCode.NO_ERROR, "keepalive: the server did not answer a PING"))
            return self._ended()
        alive = self._heard + self.limits.ping_s if self._asked is None else self._asked + self.limits.patience_s
        self._due = min(alive, requests.first_deadline())
        return self._ended()

    # -- what Frames leaves open ---------------------------------------------------------------------

    def on_setting(self, name: int, value: int) -> None:
        if name == frames.MAX_CONCURRENT_STREAMS and not self.leaving:
            self.requests.max_calls = value
            self.requests.open_waiting()
        elif name == frames.ENABLE_PUSH and value:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a server cannot take pushes")

    def on_reset(self, sid: int, code: int) -> None:
        self.requests.was_reset(sid, code)

    def on_goaway(self, last: int, code: int, reason: bytes) -> None:
        self.leaving = True
        text = f"GOAWAY received: error {code}"
        if reason:
            text += f", {reason.decode('utf-8', 'replace')}"
        self.reason = text
        self.requests.drop_above(last, text)

    def __repr__(self) -> str:
        return f"<Http2Client {self.requests!r}{', closing' if self.closing else ', leaving' if self.leaving else ''}>"
