"""Frames that cost us something and bring no work done: tolerated from honest callers, ended in a flood."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from batchproxy.wire import frames
from batchproxy.wire.frames import ErrorCode, frame
from batchproxy.wire.headers import literal
from tests.http2_floods import FLOODS
from tests.http2_peer import CALL, GET, Peer, data, goaway_of, resets_of


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


@pytest.mark.parametrize("fast", [True, False])
def test_honest_callers_never_run_out(fast: bool) -> None:
    """A request brings more than what usually comes with it takes: after each, all is as before, so a million go well.

    Beside each request: two window updates, a PING, the answer to one of ours, a frame of an unknown kind and a
    PRIORITY take 6 of the 8 that it brings; every hundredth is cancelled, which takes 9.
    """
    peer = Peer(fast=fast)
    beside = (
        frames.window_update(0, 100) + frame(frames.PING, 0, 0, bytes(8)) + frame(frames.PING, frames.ACK, 0, bytes(8))
        + frame(99, 0, 0, b"") + frame(frames.PRIORITY, 0, 99, bytes(5))
    )  # fmt: skip
    allowance = peer.server.requests.allowance
    left = []
    for number in range(10_000):
        (call,) = peer.send(peer.call(), frames.window_update(peer.next - 2, 100), beside)
        if number % 100 == 99:
            peer.send(frames.rst_stream(call.id, ErrorCode.CANCEL))
        call.answer(0, "", b"reply")
        peer.send(peer.call())[0].answer(0, "", b"reply")
        left.append(allowance._left)
        if number % 64 == 0:
            peer.server.output()

    assert not peer.server.closing
    assert 1000 == left[0] == left[-2]
    assert 1000 - 6 - 9 < min(left)


def test_time_refills_the_allowance() -> None:
    """A peer that pings for ever, but slowly, is served for ever."""
    peer = Peer()
    for _ in range(5000):
        peer.now += 0.01
        peer.send(frame(frames.PING, 0, 0, bytes(8)))

    assert not peer.server.closing
