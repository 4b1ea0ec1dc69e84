"""Frames that cost us something and bring no work done, as data: what is sent again and again. No tests here."""

from __future__ import annotations

from collections.abc import Callable

from batchproxy.wire import frames
from batchproxy.wire.frames import ErrorCode, frame
from tests.http2_peer import CALL, Peer, data

ACKED = frame(frames.SETTINGS, frames.ACK, 0, b"")


def reset(peer: Peer) -> bytes:
    """RST_STREAM for the newest stream."""
    return frames.rst_stream(peer.next - 2, ErrorCode.CANCEL)


FLOODS: list[tuple[str, Callable[[Peer], bytes]]] = [
    ("pings", lambda _: frame(frames.PING, 0, 0, bytes(8))),
    ("answers to pings nobody asked for", lambda _: frame(frames.PING, frames.ACK, 0, bytes(8))),
    ("settings", lambda _: frames.settings((4, 100))),
    ("acknowledgements", lambda _: ACKED),
    ("priorities", lambda _: frame(frames.PRIORITY, 0, 1, bytes(5))),
    ("unknown frames", lambda _: frame(99, 0, 0, b"")),
    ("goaways", lambda _: frame(frames.GOAWAY, 0, 0, bytes(8))),
    ("window updates", lambda _: frames.window_update(0, 1)),
    ("rapid resets", lambda p: p.call() + reset(p)),
    ("rapid resets of half calls", lambda p: p.headers(CALL, p.take()) + reset(p)),
    ("malformed requests", lambda p: p.headers((("a", "b"),), p.take())),
    ("unserved requests", lambda p: p.headers((*CALL, ("grpc-encoding", "snappy")), p.take())),
    ("late resets", lambda _: frames.rst_stream(1, ErrorCode.CANCEL)),
]  # fmt: skip

BEGUN: list[tuple[str, Callable[[Peer], bytes], bytes]] = [
    ("empty DATA", lambda p: p.headers(CALL, 3), data(3, b"")),
    ("padded DATA without data", lambda p: p.headers(CALL, 3), data(3, b"\0", frames.PADDED)),
    ("empty CONTINUATION", lambda p: p.headers(CALL, 3, 0), frame(frames.CONTINUATION, 0, 3, b"")),
    ("long CONTINUATION", lambda p: p.headers(CALL, 3, 0), frame(frames.CONTINUATION, 0, 3, bytes(16000))),
]  # fmt: skip
"""Floods on a stream that is begun before: its name, how, and the frame."""
