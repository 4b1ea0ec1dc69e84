"""Streams opened, ended and forgotten, beyond the table of errors in ``test_http2_frames.py``."""

from __future__ import annotations

from batchproxy.wire import frames
from batchproxy.wire.frames import END_HEADERS, END_STREAM, ErrorCode, frame
from batchproxy.wire.headers import literal
from batchproxy.wire.http2_limits import Http2Limits
from batchproxy.wire.http2_requests import MAX_GAPS, MAX_RESETS
from tests.http2_peer import CALL, GET, Peer, data, goaway_of, resets_of

CALM = Http2Limits(allowance=1 << 30)


def test_skipped_streams() -> None:
    """5.1.1: ids may be skipped, and the short way knows the next."""
    peer = Peer()
    found = [call.id for stream in (1, 3, 9, 11, 101) for call in peer.send(peer.call(stream=stream))]

    assert [1, 3, 9, 11, 101] == found


def test_old_gaps_are_forgotten() -> None:
    """Then a skipped stream counts as closed, which it is."""
    peer = Peer()
    for stream in range(3, 3 + 4 * (MAX_GAPS + 1), 4):
        peer.send(peer.call(stream=stream))
    peer.send(data(1, bytes(64)))

    assert [(1, ErrorCode.STREAM_CLOSED)] == resets_of(peer.read())
    peer.send(data(5, bytes(64)))
    assert ErrorCode.PROTOCOL_ERROR == goaway_of(peer.read())[0]


def test_old_resets_are_forgotten() -> None:
    """The newest are remembered, so that late frames are overlooked."""
    peer = Peer(CALM)
    bad = literal(b"x", b"y")
    for stream in range(1, 2 * MAX_RESETS + 3, 2):
        peer.send(frame(frames.HEADERS, END_HEADERS, stream, bad))
    peer.read()
    peer.send(data(3, bytes(64)), data(1, bytes(64)))

    assert [(1, ErrorCode.STREAM_CLOSED)] == resets_of(peer.read())


def test_headers_of_a_closed_stream_that_are_too_many() -> None:
    """Late, and nobody reads them."""
    peer = Peer()
    peer.send(frame(frames.HEADERS, END_HEADERS, 1, literal(b"x", b"y")))
    peer.read()
    peer.send(frame(frames.HEADERS, END_HEADERS | END_STREAM, 1, literal(b"a", b"b") * 101))

    assert [] == peer.read()
    assert not peer.server.closing


def test_every_way_to_end_a_request() -> None:
    """END_STREAM on HEADERS, on DATA with and without a body, and on trailers."""
    peer = Peer()
    found = peer.send(
        peer.headers(GET, 1, END_HEADERS | END_STREAM),
        peer.headers(GET, 3),
        data(3, b"", END_STREAM),
        peer.headers(GET, 5),
        data(5, bytes(70)),
        data(5, b"", END_STREAM),
        peer.headers(GET, 7),
        peer.headers((("a", "b"),), 7, END_HEADERS | END_STREAM),
    )

    assert [(1, 0), (3, 0), (5, 70), (7, 0)] == [(exchange.id, len(exchange.body)) for exchange in found]


def test_a_call_without_a_message_in_its_head() -> None:
    """END_STREAM on HEADERS is no unary call."""
    peer = Peer()
    peer.send(peer.headers(CALL, 1, END_HEADERS | END_STREAM))
    head = peer.answer()[0]

    assert ("13", "a unary call has one message; none came") == (head["grpc-status"], head["grpc-message"])


def test_requests_that_were_answered_are_reset_in_silence() -> None:
    """A reset that crosses the answer is paid for, and that is all."""
    peer = Peer()
    gone: list[int] = []
    call = peer.ask()
    call.on_cancel = lambda: gone.append(1)
    call.answer(0, "", b"")
    peer.read()
    peer.send(frames.rst_stream(1, ErrorCode.CANCEL))

    assert [] == gone
    assert [] == peer.read()
    assert "<Requests 0 open, the last is 1>" == repr(peer.server.requests)
