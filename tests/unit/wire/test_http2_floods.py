"""Frames that cost us something and bring no work done: tolerated from honest callers, ended in a flood."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from batchproxy.wire import frames
from batchproxy.wire.frames import ErrorCode, frame
from batchproxy.wire.headers import literal
from tests.http2_peer import CALL, GET, Peer, data, goaway_of, resets_of

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


@pytest.mark.parametrize(("name", "bad"), FLOODS, ids=[name for name, _ in FLOODS])
def test_floods(name: str, bad: Callable[[Peer], bytes]) -> None:
    """Frames that bring no work done: tolerated for a while, then the peer is told to calm down."""
    peer = Peer()
    peer.ask().answer(0, "", b"")
    sent = 0
    while not peer.server.closing and sent < 5000:
        peer.send(bad(peer))
        sent += 1

    assert 100 < sent <= 1001
    assert ErrorCode.ENHANCE_YOUR_CALM == goaway_of(peer.read())[0]


@pytest.mark.parametrize("flags", [0, frames.PADDED])
def test_empty_data_flood(flags: int) -> None:
    """DATA with nothing in it is a flood, too, and so is CONTINUATION."""
    peer = Peer()
    peer.send(peer.headers(CALL, 1), data(1, b"\0" if flags else b"", flags) * 1100)

    assert (ErrorCode.ENHANCE_YOUR_CALM, "too many DATA frames with next to nothing in them") == goaway_of(peer.read())


@pytest.mark.parametrize(
    ("size", "reason"), [(0, "too many CONTINUATION frames"), (16000, "a header block is too long")]
)
def test_continuation_flood(size: int, reason: str) -> None:
    """CVE-2024-27316: many without end, or long ones."""
    peer = Peer()
    peer.send(peer.headers(CALL, 1, 0), frame(frames.CONTINUATION, 0, 1, bytes(size)) * 1100)

    assert (ErrorCode.ENHANCE_YOUR_CALM, reason) == goaway_of(peer.read())


def test_a_header_bomb() -> None:
    """A small block that means many bytes is answered 431, and the connection is none the worse for it."""
    peer = Peer()
    get = b"\x82\x86\x84"  # from the static table
    bomb = literal(b"bomb", b"x" * 3900)
    (exchange,) = peer.send(frame(frames.HEADERS, 5, 1, get + b"\x40" + bomb[1:]))
    peer.send(frame(frames.HEADERS, 5, 3, get + b"\xbe" * 60))
    head, body, _ = peer.answer()
    (again,) = peer.send(frame(frames.HEADERS, 5, 5, get + b"\xbe" * 2))

    assert "x" * 3900 == exchange.headers["bomb"]
    assert "431" == head[":status"]
    assert b"bytes of header fields are more than 65536" in body
    assert "x" * 3900 + "," + "x" * 3900 == again.headers["bomb"]


def test_a_hundred_fields_at_most() -> None:
    """Many fields are answered 431; in trailers they end the stream."""
    peer = Peer()
    many = [(f"x-{number}", "1") for number in range(101)]
    peer.send(peer.headers((*GET, *many), 1), peer.headers(CALL, 3), peer.headers(many, 3, 5), peer.headers(many, 3, 5))
    said = peer.read()

    assert "431" == peer.fields(said[0])[":status"]
    assert [(1, ErrorCode.NO_ERROR), (3, ErrorCode.ENHANCE_YOUR_CALM)] == resets_of(said)


def test_honest_callers_never_run_out() -> None:
    """Each request refills the allowance: with pings, updates and settings beside them, 20,000 calls go well."""
    peer = Peer()
    beside = frames.window_update(0, 100) + frame(frames.PING, 0, 0, bytes(8)) + frame(99, 0, 0, b"")
    for number in range(20_000):
        (call,) = peer.send(peer.call(), beside)
        call.answer(0, "", b"reply")
        if number % 64 == 0:
            peer.server.output()

    assert not peer.server.closing


def test_time_refills_the_allowance() -> None:
    """A peer that pings for ever, but slowly, is served for ever."""
    peer = Peer()
    for _ in range(5000):
        peer.now += 0.01
        peer.send(frame(frames.PING, 0, 0, bytes(8)))

    assert not peer.server.closing
