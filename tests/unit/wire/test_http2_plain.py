"""Plain requests over HTTP/2: what they say, what is made of their bodies, and their answers."""

from __future__ import annotations

import gzip

import pytest

from batchproxy.wire import frames
from batchproxy.wire.frames import END_STREAM, ErrorCode
from batchproxy.wire.http2_limits import Http2Limits
from batchproxy.wire.unpack import QUICK_TEXT_BYTES
from tests.http2_peer import GET, POST, Peer, data, resets_of

SMALL = Http2Limits(message_bytes=100, inflated_bytes=50)
GZIP = ("content-encoding", "gzip")


def test_a_plain_request() -> None:
    """What can be asked of it."""
    exchange = Peer().request(POST, b"body")

    assert ("POST", "/v1/models/m", "localhost:8501", b"body") == (
        exchange.method, exchange.path, exchange.headers["Host"], exchange.body,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("status", "method", "sent", "length"),
    [(200, "GET", b"body", "4"), (404, "GET", b"body", "4"), (429, "GET", b"body", "4"), (200, "HEAD", b"", "4"),
     (204, "GET", b"", None), (304, "GET", b"", None)],
)  # fmt: skip
def test_plain_answers(status: int, method: str, sent: bytes, length: str | None) -> None:
    """With the length, and the body where there may be one; without what belongs to a connection."""
    peer = Peer()
    headers = {"Content-Type": "text/plain", "Connection": "close", "Transfer-Encoding": "chunked", "X": " padded "}
    peer.request(((":method", method), *GET[1:])).answer(status, b"body", headers, "Reason")
    head, body, _ = peer.answer()

    assert {":status": str(status), "content-type": "text/plain", "x": "padded"} | (
        {"content-length": length} if length else {}
    ) == head
    assert sent == body


@pytest.mark.parametrize(("name", "value"), [("a b", "c"), ("a", "b\r\nc: d"), ("a", "\0"), ("ä", "b"), ("a", "€")])
def test_wrong_headers(name: str, value: str) -> None:
    """Nothing is sent, and another answer may be given."""
    peer = Peer()
    exchange = peer.request()
    with pytest.raises(ValueError, match="is no header field"):
        exchange.answer(200, b"", {name: value})
    exchange.answer(500, b"", {})

    assert "500" == peer.answer()[0][":status"]


def test_a_plain_answer_to_nobody() -> None:
    """Is dropped."""
    peer = Peer()
    exchange = peer.request()
    peer.send(frames.rst_stream(1, ErrorCode.CANCEL))
    exchange.answer(200, b"", {})

    assert [] == peer.read()


@pytest.mark.parametrize(
    ("body", "expected"), [(gzip.compress(b"text"), b"text"), (b"junk", b""), (gzip.compress(bytes(51)), b"")]
)
def test_compressed_bodies(body: bytes, expected: bytes) -> None:
    """Are unpacked; empty where they are broken or too long, as in TF Serving."""
    assert expected == Peer(SMALL).request((*POST, ("content-encoding", "gzip")), body).body


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_beyond_the_limit(announced: bool) -> None:
    """413 as soon as it is known; what still comes is thrown away."""
    peer = Peer(SMALL)
    more = (("content-length", "200"),) if announced else ()
    peer.send(peer.headers((*POST, *more), 1), data(1, bytes(1 if announced else 101)))
    said = peer.read()

    assert "413" == peer.fields(said[0])[":status"]
    assert [(1, ErrorCode.NO_ERROR)] == resets_of(said)
    assert [] == peer.send(data(1, bytes(99), END_STREAM))


@pytest.mark.parametrize("ends", [True, False])
def test_a_refusal_that_does_not_fit_the_window(ends: bool) -> None:
    """The rest of the body is overlooked meanwhile; a stream that has ended needs no reset."""
    peer = Peer(SMALL)
    peer.send(frames.settings((4, 3)))
    peer.send(peer.headers(POST, 1), data(1, bytes(101)))
    peer.read()
    found = peer.send(data(1, bytes(70), END_STREAM if ends else 0))
    peer.send(frames.window_update(1, 1000))
    said = peer.read()

    assert [] == found
    assert frames.DATA == said[0].kind
    assert ([] if ends else [(1, ErrorCode.NO_ERROR)]) == resets_of(said)
    assert 0 == len(peer.server.requests.outlet.streams)


def test_a_large_compressed_body_is_left_to_others() -> None:
    """Who may take their time over it; what it is can be asked at any time."""
    peer = Peer()
    text = b"x" * (QUICK_TEXT_BYTES + 1)
    exchange = peer.request((*POST, GZIP), gzip.compress(text))
    at_once = peer.request((*POST, GZIP), gzip.compress(text[:-1]))

    assert exchange.extra is not None
    assert at_once.extra is not None
    assert (1, gzip.compress(text)) == (exchange.extra.compressed, exchange.body)
    assert text == exchange.inflated(Http2Limits())
    assert (0, text[:-1]) == (at_once.extra.compressed, at_once.body)
    assert b"" == peer.request((*POST, GZIP)).body
