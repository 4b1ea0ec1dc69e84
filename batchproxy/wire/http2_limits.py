"""What an HTTP/2 peer may cost us: the limits, and the allowance for frames that bring no work done. No frames here."""

from __future__ import annotations

from dataclasses import dataclass

from batchproxy.wire.frames import ConnectionFault, ErrorCode

PER_REQUEST = 8
"""What a complete request adds to the allowance: callers send window updates, pings and settings along with them."""

CANCELLED = PER_REQUEST + 1
"""What a reset of a complete request takes: more than the request had brought, or rapid resets would pay for each
other (CVE-2023-44487)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Http2Limits:
    """Limits of one connection.

    Attributes:
        streams: open at once (SETTINGS_MAX_CONCURRENT_STREAMS); the next is refused with REFUSED_STREAM.
        message_bytes: of a request's message or body, before and after decompression.
        inflated_bytes: of a compressed body that is no gRPC message; TF Serving's 100 MiB.
        fields: of a header block.
        list_bytes: of its fields, as RFC 9113, 6.5.2 counts them.
        block_bytes: of a block as sent; an honest one has less than ``list_bytes``.
        window_bytes: what each stream may send before we have seen the length of its message; small messages need
            no window update, and ``streams`` times this is what they may hold together.
        connection_window_bytes: what all streams may send before the next window update.
        promised_bytes: the windows opened for long messages together; the next long one waits. One message may always
            go on, so the bound is this and ``message_bytes``.
        patience_s: no progress of a frame, a header block, a body or an answer for so long: its end.
        body_rate: bytes a second that a slow body must keep up; mod_reqtimeout's ``MinRate=500``.
        idle_s: a connection without a request is kept this long; gRPC channels live for hours, so the hour is for us.
        ping_s: silence after which we ask whether the peer is there.
        drain_s: how long a first GOAWAY waits for its PING's answer before the second (6.8).
        allowance: frames without work done that may come in a burst. A thousand is what other servers allow.
        allowance_rate: how many of them a second are tolerated for ever.
    """

    streams: int = 1000
    message_bytes: int = 256 << 20
    inflated_bytes: int = 100 << 20
    fields: int = 100
    list_bytes: int = 64 << 10
    block_bytes: int = 64 << 10
    window_bytes: int = 128 << 10
    connection_window_bytes: int = 1 << 20
    promised_bytes: int = 64 << 20
    patience_s: float = 30.0
    body_rate: int = 500
    idle_s: float = 3600.0
    ping_s: float = 120.0
    drain_s: float = 1.0
    allowance: int = 1000
    allowance_rate: float = 500.0


class Allowance:
    """How many frames without work done a peer may still send: refilled by time and by complete requests.

    Args:
        size: at the most.
        rate: added a second.
        now: monotonic seconds.
    """

    __slots__ = ("_left", "_rate", "_since", "_size")

    def __init__(self, size: int, rate: float, now: float) -> None:
        self._size = size
        self._left = float(size)
        self._rate = rate
        self._since = now

    def earn(self, amount: int) -> None:
        """Work was done."""
        self._left = min(self._left + amount, self._size)

    def spend(self, cost: int, now: float, what: str) -> None:
        """A frame came that cost us something.

        Args:
            cost: 1 for a frame that is read and thrown away.
            now: monotonic seconds.
            what: such frames, in the plural, for the offender.

        Raises:
            ConnectionFault: too many.
        """
        self._left -= cost
        if self._left < 0:  # time is only looked at when it matters
            self._left = min(self._left + (now - self._since) * self._rate, self._size)
            self._since = now
            if self._left < 0:
                raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, f"too many {what}")

    def __repr__(self) -> str:
        return f"<Allowance {self._left:.0f} of {self._size}>"
