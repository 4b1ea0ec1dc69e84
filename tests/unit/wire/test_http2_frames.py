"""Every error of RFC 9113, sections 3 to 6 and 8, that a server must detect: the case, and what it must say."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

from batchproxy.wire import frames
from batchproxy.wire.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HAS_PRIORITY,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    ErrorCode,
    frame,
)
from batchproxy.wire.headers import literal
from tests.http2_peer import CALL, GET, POST, Peer, data, goaway_of, prefixed, resets_of

ABORTED = (HEADERS, END_HEADERS | END_STREAM)
CANCEL = (8).to_bytes(4, "big")


def setting(name: int, value: int) -> bytes:
    """SETTINGS with one of them."""
    return frames.settings((name, value))


def opened(peer: Peer) -> bytes:
    """A call whose message is still to come, on stream 1."""
    return peer.headers(CALL, 1)


def ended(peer: Peer) -> bytes:
    """A whole call on stream 1, which is not answered yet."""
    return peer.call(stream=1)


def answered(peer: Peer) -> bytes:
    """Stream 1 was opened, closed and answered."""
    peer.ask().answer(0, "", b"")
    peer.read()
    return b""


def bare(peer: Peer) -> bytes:
    """Nothing but the greeting."""
    return b""


Before = Callable[[Peer], bytes]
Then = Callable[[Peer], bytes]

PROTOCOL = ErrorCode.PROTOCOL_ERROR
SIZE = ErrorCode.FRAME_SIZE_ERROR
COMPRESSION = ErrorCode.COMPRESSION_ERROR
CLOSED = ErrorCode.STREAM_CLOSED
FLOW = ErrorCode.FLOW_CONTROL_ERROR

CONNECTION_ERRORS: list[tuple[str, Before, Then, ErrorCode]] = [
    ("4.2: a frame longer than we take", bare, lambda _: frame(DATA, 0, 1, bytes(16385))[:9], SIZE),
    ("4.3: a block that cannot be decoded",
     bare, lambda _: frame(HEADERS, 5, 1, b"\xff\xff\xff\xff\xff\xff"), COMPRESSION),
    ("4.3: a block that ends within a field", bare, lambda _: frame(HEADERS, 5, 1, b"\x40"), COMPRESSION),
    ("4.3: an index without an entry", bare, lambda _: frame(HEADERS, 5, 1, b"\xfe"), COMPRESSION),
    ("4.3: a table larger than allowed", bare, lambda _: frame(HEADERS, 5, 1, b"\x3f\xe2\x1f"), COMPRESSION),
    ("4.3: trailers that cannot be decoded", opened, lambda _: frame(HEADERS, 5, 1, b"\x80"), COMPRESSION),
    ("5.1: DATA on an idle stream", bare, lambda _: data(1, b"x"), PROTOCOL),
    ("5.1: RST_STREAM on an idle stream", bare, lambda _: frame(RST_STREAM, 0, 1, CANCEL), PROTOCOL),
    ("5.1: WINDOW_UPDATE on an idle stream", bare, lambda _: frames.window_update(1, 1), PROTOCOL),
    ("5.1: CONTINUATION on an idle stream", bare, lambda _: frame(CONTINUATION, 4, 1, b""), PROTOCOL),
    ("5.1: HEADERS on a closed stream", answered, lambda p: p.headers(CALL, 1), CLOSED),
    ("5.1.1: HEADERS on a stream of ours", bare, lambda p: p.headers(CALL, 2), PROTOCOL),
    ("5.1.1: HEADERS on a stream that was skipped", lambda p: p.call(stream=5), lambda p: p.headers(CALL, 3), PROTOCOL),
    ("5.1.1: DATA on a stream that was skipped", lambda p: p.call(stream=5), lambda _: data(3, b"x" * 64), PROTOCOL),
    ("6.1: DATA on stream 0", bare, lambda _: data(0, b"x"), PROTOCOL),
    ("6.1: padding longer than DATA", opened, lambda _: data(1, b"\x05abcd", PADDED), PROTOCOL),
    ("6.1: no room for the pad length", opened, lambda _: data(1, b"", PADDED), SIZE),
    ("6.2: HEADERS on stream 0", bare, lambda p: p.headers(CALL, 0), PROTOCOL),
    ("6.2: padding longer than HEADERS", bare, lambda _: frame(HEADERS, END_HEADERS | PADDED, 1, b"\x09ab"), PROTOCOL),
    ("6.2: HEADERS too short for a priority",
     bare, lambda _: frame(HEADERS, END_HEADERS | HAS_PRIORITY, 1, bytes(4)), SIZE),
    ("6.2: HEADERS within a block", lambda p: p.headers(CALL, 1, 0), lambda p: p.headers(CALL, 3), PROTOCOL),
    ("6.2: an unknown frame within a block", lambda p: p.headers(CALL, 1, 0), lambda _: frame(77, 0, 1, b""), PROTOCOL),
    ("6.2: PING within a block", lambda p: p.headers(CALL, 1, 0), lambda _: frame(PING, 0, 0, bytes(8)), PROTOCOL),
    ("6.3: PRIORITY on stream 0", bare, lambda _: frame(PRIORITY, 0, 0, bytes(5)), PROTOCOL),
    ("6.4: RST_STREAM on stream 0", bare, lambda _: frame(RST_STREAM, 0, 0, CANCEL), PROTOCOL),
    ("6.4: RST_STREAM of another length", opened, lambda _: frame(RST_STREAM, 0, 1, CANCEL[:3]), SIZE),
    ("6.5: SETTINGS on a stream", bare, lambda _: frame(SETTINGS, 0, 1, b""), PROTOCOL),
    ("6.5: SETTINGS that are not whole", bare, lambda _: frame(SETTINGS, 0, 0, bytes(5)), SIZE),
    ("6.5: an acknowledgement with a payload", bare, lambda _: frame(SETTINGS, ACK, 0, bytes(6)), SIZE),
    ("6.5.2: ENABLE_PUSH that is no switch", bare, lambda _: setting(2, 2), PROTOCOL),
    ("6.5.2: an initial window too large", bare, lambda _: setting(4, 1 << 31), FLOW),
    ("6.5.2: a frame size too small", bare, lambda _: setting(5, 16383), PROTOCOL),
    ("6.5.2: a frame size too large", bare, lambda _: setting(5, 1 << 24), PROTOCOL),
    ("6.6: PUSH_PROMISE from a client", opened, lambda _: frame(PUSH_PROMISE, 4, 1, bytes(4)), PROTOCOL),
    ("6.7: PING on a stream", bare, lambda _: frame(PING, 0, 1, bytes(8)), PROTOCOL),
    ("6.7: PING of another length", bare, lambda _: frame(PING, 0, 0, bytes(7)), SIZE),
    ("6.8: GOAWAY on a stream", bare, lambda _: frame(GOAWAY, 0, 1, bytes(8)), PROTOCOL),
    ("6.8: GOAWAY that is too short", bare, lambda _: frame(GOAWAY, 0, 0, bytes(7)), SIZE),
    ("6.9: WINDOW_UPDATE of another length", bare, lambda _: frame(WINDOW_UPDATE, 0, 0, bytes(3)), SIZE),
    ("6.9: a window update by 0", bare, lambda _: frames.window_update(0, 0), PROTOCOL),
    ("6.9.1: a window beyond 2^31-1", bare, lambda _: frames.window_update(0, (1 << 31) - 1), FLOW),
    (
        "6.9.2: a setting that takes a stream's window beyond 2^31-1",
        lambda p: ended(p) + frames.window_update(1, (1 << 31) - 1 - 65535),
        lambda _: setting(4, 65536),
        FLOW,
    ),
    ("6.10: CONTINUATION on another stream",
     lambda p: p.headers(CALL, 1, 0), lambda _: frame(CONTINUATION, 4, 3, b""), PROTOCOL),
    ("6.10: CONTINUATION after the block's end", opened, lambda _: frame(CONTINUATION, 4, 1, b""), PROTOCOL),
]  # fmt: skip

STREAM_ERRORS: list[tuple[str, Before, Then, ErrorCode]] = [
    ("5.1: DATA after the end of the stream", ended, lambda _: data(1, bytes(64)), CLOSED),
    ("5.1: DATA on a closed stream", answered, lambda _: data(1, bytes(64)), CLOSED),
    ("5.1: HEADERS after the end of the stream", ended, lambda p: p.headers(CALL, 1), CLOSED),
    ("6.3: PRIORITY of another length", opened, lambda _: frame(PRIORITY, 0, 1, bytes(4)), SIZE),
    ("6.9: a stream's window update by 0", opened, lambda _: frames.window_update(1, 0), PROTOCOL),
    (
        "6.9.1: a stream's window beyond 2^31-1",
        opened,
        lambda _: frames.window_update(1, (1 << 31) - 1),
        FLOW,
    ),
    ("8.1: HEADERS within a body", opened, lambda p: p.headers((("a", "b"),), 1), PROTOCOL),
    ("8.1: a pseudo-header field after the body", opened, lambda p: p.headers(GET, 1, 5), PROTOCOL),
    ("8.1.1: more than content-length",
     lambda p: p.headers((*POST, ("content-length", "1")), 1), lambda _: data(1, b"ab", 1), PROTOCOL),
    ("8.1.1: less than content-length",
     lambda p: p.headers((*POST, ("content-length", "3")), 1), lambda _: data(1, b"ab", 1), PROTOCOL),
    ("8.1.1: trailers before content-length is reached",
     lambda p: p.headers((*POST, ("content-length", "3")), 1), lambda p: p.headers((("a", "b"),), 1, 5), PROTOCOL),
    ("8.1.1: content-length without a body",
     bare, lambda p: p.headers((*POST, ("content-length", "3")), 1, 5), PROTOCOL),
]  # fmt: skip

MALFORMED: list[tuple[str, list[tuple[str, str]]]] = [
    ("8.1.1: content-length that is no number", [*GET, ("content-length", "x")]),
    ("8.1.1: two content-lengths", [*GET, ("content-length", "1"), ("content-length", "2")]),
    ("8.2.1: an upper-case name", [*GET, ("X-Upper", "1")]),
    ("8.2.1: a name with a space", [*GET, ("a b", "1")]),
    ("8.2.1: a name with a line end", [*GET, ("a\nb", "1")]),
    ("8.2.1: an empty name", [*GET, ("", "1")]),
    ("8.2.1: an empty name after another", [*GET, ("a", "1"), ("", "1")]),
    ("8.2.1: a value with NUL", [*GET, ("a", "x\0y")]),
    ("8.2.1: a value with CR", [*GET, ("a", "x\ry")]),
    ("8.2.1: a value with LF", [*GET, ("a", "x\ny")]),
    ("8.2.1: a value that begins with a space", [*GET, ("a", " x")]),
    ("8.2.1: a value that ends with a tab", [*GET, ("a", "x\t")]),
    ("8.2.2: connection", [*GET, ("connection", "close")]),
    ("8.2.2: transfer-encoding", [*GET, ("transfer-encoding", "chunked")]),
    ("8.2.2: upgrade", [*GET, ("upgrade", "h2c")]),
    ("8.2.2: keep-alive", [*GET, ("keep-alive", "1")]),
    ("8.2.2: te that is not trailers", [*GET, ("te", "gzip")]),
    ("8.3: a pseudo-header field after others", [*GET[:3], ("a", "b"), GET[3]]),
    ("8.3: a pseudo-header field twice", [*GET, (":path", "/")]),
    ("8.3: an unknown pseudo-header field", [*GET, (":protocol", "websocket")]),
    ("8.3: a pseudo-header field of answers", [*GET, (":status", "200")]),
    ("8.3.1: no method", list(GET[1:])),
    ("8.3.1: no scheme", [GET[0], *GET[2:]]),
    ("8.3.1: no path", [*GET[:2], GET[3]]),
    ("8.3.1: an empty path", [*GET[:2], (":path", "")]),
    ("8.3.1: a path without a slash", [*GET[:2], (":path", "v1")]),
    ("8.3.1: a path with a space", [*GET[:2], (":path", "/a b")]),
    ("8.3.1: an authority with a space", [*GET[:3], (":authority", "a b")]),
    ("8.3.1: a star for something else than OPTIONS", [*GET[:2], (":path", "*")]),
    ("8.3.1: host differs from the authority", [*GET, ("host", "elsewhere")]),
    ("8.5: CONNECT with a path", [(":method", "CONNECT"), (":path", "/"), (":authority", "a:1")]),
    ("9110, 9.1: a method that is no token", [(":method", "G ET"), *GET[1:]]),
]


@pytest.mark.parametrize("cut", [False, True], ids=["whole", "cut"])
@pytest.mark.parametrize(
    ("case", "before", "then", "code"), CONNECTION_ERRORS, ids=[row[0] for row in CONNECTION_ERRORS]
)
def test_connection_errors(case: str, before: Before, then: Then, code: ErrorCode, *, cut: bool) -> None:
    """The connection ends with GOAWAY and this code, however the bytes come, and exchanges are told."""
    peer = Peer()
    gone: list[int] = []
    waiting = peer.send(before(peer))
    for exchange in waiting:
        exchange.on_cancel = lambda: gone.append(1)
    raw = then(peer)
    found = [peer.send(raw[at : at + 1]) for at in range(len(raw))] if cut else [peer.send(raw)]
    code_said, reason = goaway_of(peer.read())

    assert code == code_said
    assert reason
    assert peer.server.closing
    assert [] == [exchange for exchanges in found for exchange in exchanges]
    assert len(waiting) == len(gone)
    assert [] == peer.send(peer.call(stream=99))


@pytest.mark.parametrize(("case", "before", "then", "code"), STREAM_ERRORS, ids=[row[0] for row in STREAM_ERRORS])
def test_stream_errors(case: str, before: Before, then: Then, code: ErrorCode) -> None:
    """The stream ends with RST_STREAM and this code, its exchange is told, and the connection goes on."""
    peer = Peer()
    gone: list[int] = []
    for exchange in peer.send(before(peer)):
        exchange.on_cancel = lambda: gone.append(1)
    found = peer.send(then(peer))
    said = peer.read()
    peer.next = 3

    assert [] == found
    assert [(1, code)] == resets_of(said)
    assert ([1] if before is ended else []) == gone
    assert not peer.server.closing
    assert b"question" == peer.ask().message


@pytest.mark.parametrize(("case", "fields"), MALFORMED, ids=[row[0] for row in MALFORMED])
def test_malformed_requests(case: str, fields: list[tuple[str, str]]) -> None:
    """A malformed request is reset, at the second sight as at the first; the next one is served."""
    peer = Peer()
    block = b"".join(literal(name.encode(), value.encode()) for name, value in fields)
    for stream in (1, 3):
        found = peer.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, block))

        assert [] == found
        assert [(stream, ErrorCode.PROTOCOL_ERROR)] == resets_of(peer.read())
    peer.next = 5

    assert b"question" == peer.ask().message


@pytest.mark.parametrize(("case", "fields"), MALFORMED[2:22], ids=[row[0] for row in MALFORMED[2:22]])
def test_malformed_calls(case: str, fields: list[tuple[str, str]]) -> None:
    """The same with a gRPC call, whose like was served before."""
    peer = Peer()
    peer.ask()
    wrong = [CALL[[name for name, _ in GET].index(field[0])] if field in GET else field for field in fields]
    block = b"".join(literal(name.encode(), value.encode()) for name, value in [*wrong, *CALL[4:]])
    for stream in (3, 5):
        found = peer.send(frame(HEADERS, END_HEADERS, stream, block), data(stream, prefixed(b"x"), END_STREAM))

        assert [] == found
        assert [(stream, ErrorCode.PROTOCOL_ERROR)] == resets_of(peer.read())


@pytest.mark.parametrize("first", [frame(PING, 0, 0, bytes(8)), frame(SETTINGS, ACK, 0, b""), frame(77, 0, 0, b"")])
def test_settings_come_first(first: bytes) -> None:
    """3.4: whatever follows the preface, if it is not SETTINGS, ends the connection."""
    peer = Peer(greet=False)
    peer.send(PREFACE, first)

    assert ErrorCode.PROTOCOL_ERROR == goaway_of(peer.read())[0]


def test_trailers_end_a_request() -> None:
    """8.1: fields after the body end it, and are overlooked."""
    peer = Peer()
    (call,) = peer.send(opened(peer), data(1, prefixed(b"x" * 80)), peer.headers((("a", "b"),), 1, 5))

    assert b"x" * 80 == call.message


@pytest.mark.parametrize("pieces", [1, 2, 5])
def test_a_block_in_pieces(pieces: int) -> None:
    """6.10: HEADERS and CONTINUATION, with priority and padding, make one block."""
    peer = Peer()
    block = peer.block(CALL)
    cuts = [len(block) * index // pieces for index in range(pieces + 1)]
    parts = [block[start:end] for start, end in pairwise(cuts)]
    raw = frame(
        HEADERS,
        PADDED | HAS_PRIORITY | (END_HEADERS if pieces == 1 else 0),
        1,
        b"\x03" + bytes(5) + parts[0] + bytes(3),
    )
    for index, part in enumerate(parts[1:], 2):
        raw += frame(CONTINUATION, END_HEADERS if index == pieces else 0, 1, part)
    (call,) = peer.send(raw, data(1, b"\x04" + prefixed(b"x") + bytes(4), END_STREAM | PADDED))

    assert b"x" == call.message
    assert [] == peer.read()


def test_pings_are_answered() -> None:
    """6.7: with the same eight bytes, in order."""
    peer = Peer()
    peer.send(frame(PING, 0, 0, b"abcdefgh"), frame(PING, 0, 0, b"12345678"))

    assert [(PING, ACK, 0, b"abcdefgh"), (PING, ACK, 0, b"12345678")] == peer.read()


def test_what_is_overlooked() -> None:
    """Unknown frames and settings, PRIORITY, GOAWAY, late resets and window updates of a closed stream."""
    peer = Peer()
    peer.ask().answer(0, "", b"")
    peer.read()
    peer.send(
        frame(77, 255, 3, b"what"),
        frame(PRIORITY, 0, 3, bytes(5)),
        frame(GOAWAY, 0, 0, bytes(8)),
        frame(RST_STREAM, 0, 1, CANCEL),
        frames.window_update(1, 5),
        setting(99, 1),
    )

    assert [(SETTINGS, ACK, 0, b"")] == peer.read()


def test_after_our_reset_late_frames_are_no_fault() -> None:
    """5.1: what was under way when the peer heard of our RST_STREAM is dropped, and keeps the table right."""
    peer = Peer()
    peer.send(peer.headers((*GET, ("X", "1")), peer.take()))
    peer.read()
    found = peer.send(data(1, bytes(100)), peer.headers((("late", "field"),), 1, 5))

    assert [] == found
    assert [] == peer.read()
    assert "field" == peer.ask(b"q", ("late", "field")).metadata["late"]


def test_the_reserved_bit_is_overlooked() -> None:
    """4.1: the highest bit of a stream's id means nothing."""
    peer = Peer()
    raw = bytearray(peer.call())
    raw[5] |= 0x80

    assert [b"question"] == [call.message for call in peer.send(bytes(raw))]
