"""What an HTTP/2 peer may send: the windows we open, so that memory stays bounded and nobody waits for ever.

Each stream begins with a window that small messages fit into. The first frame of a longer one tells its length, and
all it needs is granted at once, while what was granted to all together stays below a bound; else it waits its turn.
One stream may always be granted what it needs beyond the bound, so that waiting ends. What is granted is charged to the
process' budget, which may make it wait, too.
"""

from __future__ import annotations

from collections.abc import Callable

from batchproxy.wire.budget import Budget, Claim
from batchproxy.wire.frames import MAX_WINDOW, ConnectionFault, ErrorCode, StreamFault, window_update
from batchproxy.wire.http2_limits import Http2Limits
from batchproxy.wire.http2_streams import Extra, Stream

PADDING = 256
"""The most that a frame's padding takes from a window (6.1): a peer that pads needs more than what it has to say."""


class Intake:
    """The receiving windows of a connection.

    Args:
        limits: ``window_bytes``, ``connection_window_bytes`` and ``promised_bytes`` are read.
        out: where window updates go.
        budget: of the process; None where nothing ever waits for room.

    Attributes:
        on_room: called when it has let something go on.
        credit: what the peer may still send on the connection.
        paused: whether windows stay as they are for now.
        promised: what was granted to open streams beyond their first window.
    """

    __slots__ = ("_budget", "_favoured", "_limits", "_out", "_waiting", "credit", "on_room", "paused", "promised")

    def __init__(self, limits: Http2Limits, out: list[bytes | memoryview], budget: Budget | None) -> None:
        self._budget = budget
        self.on_room: Callable[[], object] | None = None
        self._limits = limits
        self._out = out
        self.credit = limits.connection_window_bytes
        self.paused = False
        self.promised = 0
        self._waiting: dict[int, tuple[Stream, Extra]] = {}
        self._favoured: Stream | None = None

    def consume(self, length: int) -> None:
        """A DATA frame came, on whatever stream; its padding counts (6.9).

        Raises:
            ConnectionFault: the peer may not send so much.
        """
        if length > self.credit:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "more data than the connection's window allows")
        self.credit -= length
        self.replenish()

    def replenish(self) -> None:
        """Open the connection's window again once half of it is used."""
        full = self._limits.connection_window_bytes
        if self.credit <= full // 2 and not self.paused:
            self._out.append(window_update(0, full - self.credit))
            self.credit = full

    def consume_stream(self, extra: Extra, length: int) -> None:
        """As ``consume``, for the stream's own window.

        Raises:
            StreamFault: the peer may not send so much.
        """
        if length > extra.credit:
            raise StreamFault(ErrorCode.FLOW_CONTROL_ERROR, "more data than the stream's window allows")
        extra.credit -= length

    def continue_stream(self, stream: Stream, extra: Extra) -> None:
        """More of its body is to come: see that the peer may send it."""
        if self._need(extra) <= 0 or stream.id in self._waiting:
            return
        if self._may_grant(stream, extra):
            self._grant(stream, extra)
        else:
            self._waiting[stream.id] = stream, extra

    def _need(self, extra: Extra) -> int:
        """By how much its window is too small."""
        if extra.wanted >= 0:
            left = extra.wanted - extra.received
            return min(left + 2 * PADDING, MAX_WINDOW) - extra.credit if left + PADDING > extra.credit else 0
        full = self._limits.window_bytes
        room = full - extra.held - extra.credit
        return room if room >= full - full // 2 else 0

    def _charge(self, stream: Stream, extra: Extra, need: int) -> int:
        """What of it counts as promised: of a streamed call only what goes beyond the first window."""
        if not stream.streamed:
            return need
        return max(0, extra.credit + need + extra.held - self._limits.window_bytes - extra.granted)

    def _may_grant(self, stream: Stream, extra: Extra) -> bool:
        if self.paused:
            return False
        charge = self._charge(stream, extra, self._need(extra))
        if charge == 0:
            return True
        if self.promised + charge > self._limits.promised_bytes:
            if self._favoured is None:
                self._favoured = stream
            if self._favoured is not stream:
                return False
        return self._charged(stream, extra, charge)

    def _charged(self, stream: Stream, extra: Extra, charge: int) -> bool:
        """Whether the process has room for that, too."""
        if self._budget is None:
            return True
        before = extra.granted if stream.streamed else extra.received + extra.credit  # of a long message all counts
        if extra.claim is None:
            extra.claim = Claim(self._budget, at_once=True)
        missing = before + charge - extra.claim.size
        return missing <= 0 or extra.claim.may_take(missing, self._room)

    def _room(self) -> None:
        """What waited for room is charged now."""
        self._serve()
        if self.on_room is not None:
            self.on_room()

    def _grant(self, stream: Stream, extra: Extra) -> None:
        need = self._need(extra)
        if need <= 0:
            return  # it learnt meanwhile that it needs less
        charge = self._charge(stream, extra, need)
        extra.credit += need
        extra.granted += charge
        self.promised += charge
        self._out.append(window_update(stream.id, need))

    def taken(self, stream: Stream, extra: Extra) -> None:
        """Messages of a streamed call were taken: as much may follow."""
        beyond = max(0, extra.credit + extra.held - self._limits.window_bytes)
        freed = extra.granted - beyond
        if freed > 0:
            extra.granted = beyond
            self.promised -= freed
            if extra.claim is not None:
                extra.claim.resize(beyond)
            if not beyond and self._favoured is stream:
                self._favoured = None
        if stream.message is None:
            self.continue_stream(stream, extra)
        if freed > 0:
            self._serve()

    def is_waiting(self, stream: Stream) -> bool:
        """Whether it cannot go on because of us."""
        return self.paused or stream.id in self._waiting

    def release(self, stream: Stream, extra: Extra) -> None:
        """A stream's body is handed on, or dropped: others may have what it had."""
        self._waiting.pop(stream.id, None)
        if self._favoured is stream:
            self._favoured = None
        self.promised -= extra.granted
        extra.granted = 0
        if self._budget is not None and extra.claim is not None:
            self._budget.leave(extra.claim)
        self._serve()

    def pause(self, yes: bool) -> None:
        """Stop opening windows, or go on."""
        self.paused = yes
        self.replenish()
        self._serve()

    def _serve(self) -> None:
        while self._waiting:
            stream, extra = next(iter(self._waiting.values()))
            if not self._may_grant(stream, extra):
                return
            self._grant(stream, extra)
            del self._waiting[stream.id]

    def __repr__(self) -> str:
        return f"<Intake credit {self.credit}, promised {self.promised}, {len(self._waiting)} waiting>"
