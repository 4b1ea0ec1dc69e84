"""Every error of RFC 9113 that a server must detect, as data: the case, what is sent, what must be said. No tests."""

from __future__ import annotations

from collections.abc import Callable

from batchproxy.wire import frames
from batchproxy.wire.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    GOAWAY,
    HAS_PRIORITY,
    HEADERS,
    PADDED,
    PING,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    ErrorCode,
    frame,
)
from tests.http2_peer import CALL, GET, POST, Peer, data

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


def reset(peer: Peer) -> bytes:
    """Stream 1 was opened, and reset by the client."""
    peer.send(opened(peer), frame(RST_STREAM, 0, 1, CANCEL))
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
    ("5.1: RST_STREAM on a stream of ours", bare, lambda _: frame(RST_STREAM, 0, 2, CANCEL), PROTOCOL),
    ("5.1: WINDOW_UPDATE on a stream of ours", bare, lambda _: frames.window_update(2, 1), PROTOCOL),
    ("5.1: DATA on a stream of ours", bare, lambda _: data(2, b"x"), PROTOCOL),
    ("5.1: CONTINUATION on an idle stream", bare, lambda _: frame(CONTINUATION, 4, 1, b""), PROTOCOL),
    ("5.1: HEADERS on a closed stream", answered, lambda p: p.headers(CALL, 1), CLOSED),
    ("5.1: HEADERS on a stream that the client reset",
     reset, lambda p: p.headers(CALL, 1), CLOSED),
    ("5.1.1: HEADERS on a stream of ours", bare, lambda p: p.headers(CALL, 2), PROTOCOL),
    ("5.1.1: HEADERS on a stream that was skipped", lambda p: p.call(stream=5), lambda p: p.headers(CALL, 3), PROTOCOL),
    ("5.1.1: DATA on a stream that was skipped", lambda p: p.call(stream=5), lambda _: data(3, b"x" * 64), PROTOCOL),
    ("6.1: DATA on stream 0", bare, lambda _: data(0, b"x"), PROTOCOL),
    ("6.1: padding longer than DATA", opened, lambda _: data(1, b"\x05abcd", PADDED), PROTOCOL),
    ("6.1: no room for the pad length", opened, lambda _: data(1, b"", PADDED), SIZE),
    ("6.2: HEADERS on stream 0", bare, lambda p: p.headers(CALL, 0), PROTOCOL),
    ("6.2: padding longer than HEADERS", bare, lambda _: frame(HEADERS, END_HEADERS | PADDED, 1, b"\x09ab"), PROTOCOL),
    ("6.2: HEADERS without room for the pad length",
     bare, lambda _: frame(HEADERS, END_HEADERS | PADDED, 1, b""), SIZE),
    ("6.2: padding that leaves no room for a priority",
     bare, lambda _: frame(HEADERS, END_HEADERS | PADDED | HAS_PRIORITY, 1, b"\x04" + bytes(8)), SIZE),
    ("6.2: DATA within a block", lambda p: p.headers(CALL, 1, 0), lambda _: data(1, b"x"), PROTOCOL),
    ("6.2: HEADERS too short for a priority",
     bare, lambda _: frame(HEADERS, END_HEADERS | HAS_PRIORITY, 1, bytes(4)), SIZE),
    ("6.2: HEADERS within a block", lambda p: p.headers(CALL, 1, 0), lambda p: p.headers(CALL, 3), PROTOCOL),
    ("6.2: an unknown frame within a block", lambda p: p.headers(CALL, 1, 0), lambda _: frame(77, 0, 1, b""), PROTOCOL),
    ("6.2: PING within a block", lambda p: p.headers(CALL, 1, 0), lambda _: frame(PING, 0, 0, bytes(8)), PROTOCOL),
    ("6.3: PRIORITY on stream 0", bare, lambda _: frame(PRIORITY, 0, 0, bytes(5)), PROTOCOL),
    ("6.3: PRIORITY of another length on an idle stream", bare, lambda _: frame(PRIORITY, 0, 1, bytes(4)), SIZE),
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
    ("6.9: WINDOW_UPDATE of another length on a stream", opened, lambda _: frame(WINDOW_UPDATE, 0, 1, bytes(5)), SIZE),
    ("6.9: WINDOW_UPDATE of another length", bare, lambda _: frame(WINDOW_UPDATE, 0, 0, bytes(3)), SIZE),
    ("6.9: a window update by 0", bare, lambda _: frames.window_update(0, 0), PROTOCOL),
    ("6.9.1: a window beyond 2^31-1", bare, lambda _: frames.window_update(0, (1 << 31) - 1), FLOW),
    (
        "6.9.2: a setting that takes a stream's window beyond 2^31-1",
        lambda p: ended(p) + frames.window_update(1, (1 << 31) - 1 - 65535),
        lambda _: setting(4, 65536),
        FLOW,
    ),
    ("6.10: CONTINUATION on stream 0",
     lambda p: p.headers(CALL, 1, 0), lambda _: frame(CONTINUATION, 4, 0, b""), PROTOCOL),
    ("6.10: CONTINUATION after DATA",
     lambda p: p.headers(CALL, 1) + data(1, b"x"), lambda _: frame(CONTINUATION, 4, 1, b""), PROTOCOL),
    ("6.10: CONTINUATION on another stream",
     lambda p: p.headers(CALL, 1, 0), lambda _: frame(CONTINUATION, 4, 3, b""), PROTOCOL),
    ("6.10: CONTINUATION after the block's end", opened, lambda _: frame(CONTINUATION, 4, 1, b""), PROTOCOL),
]  # fmt: skip

STREAM_ERRORS: list[tuple[str, Before, Then, ErrorCode]] = [
    ("5.1: DATA after the end of the stream", ended, lambda _: data(1, bytes(64)), CLOSED),
    ("5.1: DATA on a closed stream", answered, lambda _: data(1, bytes(64)), CLOSED),
    ("5.1: DATA on a stream that the client reset", reset, lambda _: data(1, bytes(64)), CLOSED),
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

ELSEWHERE: list[tuple[str, str, str]] = [
    ("3.4: another preface", "GOAWAY PROTOCOL_ERROR", "tests/unit/wire/test_http2.py::test_not_http2"),
    ("3.4: another frame before SETTINGS",
     "GOAWAY PROTOCOL_ERROR", "tests/unit/wire/test_http2_frames.py::test_settings_come_first"),
    ("4.1: a reserved bit, frames of unknown kinds", "overlooked",
     "tests/unit/wire/test_http2_frames.py::test_what_is_overlooked"),
    ("5.1: frames on a stream that we reset", "overlooked, up to a limit",
     "tests/unit/wire/test_http2_frames.py::test_after_our_reset_late_frames_are_no_fault"),
    ("5.1.2: more streams than we take",
     "RST_STREAM REFUSED_STREAM", "tests/unit/wire/test_http2.py::test_no_stream_beyond_the_limit"),
    ("6.5.3: SETTINGS that are not acknowledged",
     "GOAWAY SETTINGS_TIMEOUT", "tests/unit/wire/test_http2_slow_peers.py::TestSlowPeers::test_no_acknowledgement"),
    ("6.7: a PING that is not answered",
     "GOAWAY NO_ERROR", "tests/unit/wire/test_http2_slow_peers.py::TestSlowPeers::test_silence"),
    ("6.8: streams after our last GOAWAY",
     "overlooked", "tests/unit/wire/test_http2.py::TestDraining::test_with_a_silent_peer"),
    ("6.9: more DATA than the connection's window",
     "GOAWAY FLOW_CONTROL_ERROR", "tests/unit/wire/test_http2_intake.py::test_the_connections_window"),
    ("6.9: more DATA than the stream's window",
     "RST_STREAM FLOW_CONTROL_ERROR", "tests/unit/wire/test_http2_intake.py::test_a_streams_window"),
    ("6.9.2: windows that a setting makes negative", "waited for",
     "tests/unit/wire/test_http2_stranger.py::test_a_blocked_answer_and_a_changed_window"),
    ("10.5: frames that bring no work done",
     "GOAWAY ENHANCE_YOUR_CALM", "tests/unit/wire/test_http2_floods.py::test_floods"),
    ("10.5: DATA without data",
     "GOAWAY ENHANCE_YOUR_CALM", "tests/unit/wire/test_http2_floods.py::test_empty_data_flood"),
    ("10.5: CONTINUATION without end",
     "GOAWAY ENHANCE_YOUR_CALM", "tests/unit/wire/test_http2_floods.py::test_continuation_flood"),
    ("10.5.1: more header fields than we take",
     "431", "tests/unit/wire/test_http2_floods.py::test_a_header_bomb"),
]  # fmt: skip
"""Cases with a test of their own: what must be said, and the test."""
