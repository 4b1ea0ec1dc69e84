"""The exchanges: what they say of a request, what they make of its body, and that they are answered once."""

from __future__ import annotations

import gzip
import zlib

import pytest

from batchproxy.wire import frames, grpc
from batchproxy.wire.frames import END_STREAM, ErrorCode
from batchproxy.wire.http2_limits import Http2Limits
from batchproxy.wire.http2_outlet import Outlet
from batchproxy.wire.http2_streams import GrpcCall, Stream
from batchproxy.wire.unpack import QUICK_TEXT_BYTES
from tests.http2_peer import CALL, PATH, Peer, data, prefixed

SMALL = Http2Limits(message_bytes=100, inflated_bytes=50)
GZIP = ("grpc-encoding", "gzip")


def refused(peer: Peer, body: bytes, *more: tuple[str, str]) -> tuple[str, str]:
    """The status and text of a call with this body."""
    assert [] == peer.send(peer.headers((*CALL, *more), peer.take()), data(peer.next - 2, body, END_STREAM))
    head, _, trailers = peer.answer()
    assert {} == trailers
    return head["grpc-status"], head["grpc-message"]


@pytest.mark.parametrize(
    ("body", "more", "expected"),
    [
        (b"", (), ("13", "a unary call has one message; none came")),
        (b"\0\0", (), ("13", "the message ends before its announced length")),
        (prefixed(b"abc")[:-1], (), ("13", "the message ends before its announced length")),
        (prefixed(b"abc") * 2, (), ("13", "a unary call has one message; more came")),
        (prefixed(bytes(101)), (), ("8", "Received message larger than max (101 vs. 100)")),
        (prefixed(b"abc", 1), (), ("13", "a message is marked as compressed, but no grpc-encoding was given")),
        (prefixed(gzip.compress(bytes(101)), 1), (GZIP,),
     ("8", "the message has more than 100 bytes once decompressed")),
        (prefixed(zlib.compress(b"x")[:-1], 1), (("grpc-encoding", "deflate"),),
     ("13", "the message is not one whole piece of deflate data")),
    ],
)  # fmt: skip
@pytest.mark.parametrize("fast", [True, False])
def test_calls_that_are_refused(
    body: bytes, more: tuple[tuple[str, str], ...], expected: tuple[str, str], *, fast: bool
) -> None:
    """At the second sight as at the first; the connection goes on."""
    peer = Peer(SMALL, fast=fast)
    for _ in range(3):
        assert expected == refused(peer, body, *more)
    assert b"x" == peer.ask(b"x").message


def test_a_message_of_exactly_the_limit() -> None:
    """Is taken, compressed or not."""
    peer = Peer(SMALL)

    assert bytes(100) == peer.ask(bytes(100)).message
    (call,) = peer.send(
        peer.headers((*CALL, GZIP), peer.take()), data(3, prefixed(gzip.compress(bytes(100)), 1), END_STREAM)
    )
    assert bytes(100) == call.message


def test_an_encoding_that_is_not_used() -> None:
    """The flag of the message tells."""
    assert b"plain" == Peer().ask(b"plain", GZIP).message


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_large_compressed_message_is_left_to_others(encoding: str) -> None:
    """Who may take their time over it; a small one is inflated at once, and neither counts for the answer."""
    peer = Peer()
    text = bytes(QUICK_TEXT_BYTES + 1)
    found = []
    for message in (text, text[:-1]):
        packed = grpc.compress(encoding.encode(), message)
        (call,) = peer.send(
            peer.headers((*CALL, ("grpc-encoding", encoding)), peer.take()),
            data(peer.next - 2, prefixed(packed, 1), END_STREAM),
        )
        found.append((call.extra.compressed, call.message))
        if call.extra.compressed:
            assert message == call.inflated(Http2Limits())
        call.answer(0, "", b"reply")

        assert prefixed(b"reply") == peer.answer()[1]
    assert [(1, grpc.compress(encoding.encode(), text)), (0, text[:-1])] == found


def test_a_call() -> None:
    """What can be asked of it."""
    call = Peer().ask(b"q", ("grpc-timeout", "2S"), ("a", "b"))

    assert (PATH, 2.0, "b", b"q") == (call.path, call.timeout_s, call.metadata["a"], call.message)
    assert f"<GrpcCall 1 {PATH}>" == repr(call)


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("accepted", ["gzip", "deflate", "identity"])
def test_compressed_answers(accepted: str, compress: bool) -> None:
    """Only where the server wants to and the caller can."""
    peer = Peer()
    peer.ask(b"q", ("grpc-accept-encoding", accepted)).answer(0, "", b"reply", compress=compress)
    head, body, trailers = peer.answer()
    encoding = head.get("grpc-encoding")

    assert (accepted if compress and accepted != "identity" else None) == encoding
    assert (1 if encoding else 0) == body[0]
    assert b"reply" == (grpc.decompress(encoding.encode(), body[5:], 99) if encoding else body[5:])
    assert {"grpc-status": "0"} == trailers


def test_trailers_of_a_good_answer() -> None:
    """Come after the message."""
    peer = Peer()
    peer.ask().answer(0, "", b"reply", [("a", "b")])

    assert ({"grpc-status": "0", "a": "b"}) == peer.answer()[2]


@pytest.mark.parametrize("code", [0, 5])
@pytest.mark.parametrize("compress", [False, True])
def test_headers_of_an_answer(code: int, compress: bool) -> None:
    """Come before the message, in a block of their own also where there is none: they are no trailers."""
    peer = Peer()
    call = peer.ask(b"question", ("grpc-accept-encoding", "gzip"))
    call.answer(code, "", b"reply", [("t", "2")], headers=[("i", "1")], compress=compress)
    head, body, trailers = peer.answer()

    assert {":status": "200", "content-type": "application/grpc", "i": "1"}.items() <= head.items()
    assert {"t", "grpc-status"}.isdisjoint(head)
    assert bool(body) == (code == 0)
    assert {"grpc-status": str(code), "t": "2"} == trailers


@pytest.mark.parametrize("code", [0, 5])
def test_no_second_answer(code: int) -> None:
    """It would be a bug, and says so; after a cancellation it is dropped in silence."""
    peer = Peer()
    call, cancelled = peer.ask(), peer.ask()
    peer.send(frames.rst_stream(3, ErrorCode.CANCEL))
    call.answer(code, "", b"")
    cancelled.answer(code, "", b"")
    assert not cancelled.answer_plain(b"x")

    with pytest.raises(RuntimeError, match=rf"<GrpcCall 1 {PATH}> was answered twice\. This is a bug\."):
        call.answer(code, "", b"")
    assert not call.answer_plain(b"x")


def test_wrong_metadata_leaves_the_call_to_be_answered() -> None:
    """So that whoever tried can say that it failed."""
    peer = Peer()
    call = peer.ask()
    with pytest.raises(ValueError, match="cannot be gRPC metadata"):
        call.answer(0, "", b"", [("Bad", "name")])
    with pytest.raises(ValueError, match="cannot be gRPC metadata"):
        call.answer(0, "", b"", headers=[("Bad", "name")])
    call.answer(13, "no", b"")

    assert "13" == peer.answer()[0]["grpc-status"]


@pytest.mark.parametrize("window", [65_535, 10])
def test_plain_answers(window: int) -> None:
    """The short cut and the general way say the same."""
    peer = Peer()
    peer.send(frames.settings((4, window)))
    call = peer.ask()
    said = call.answer_plain(b"<abcd>")
    if not said:
        call.answer(0, "", b"<abcd>")
    peer.send(frames.window_update(1, 100))

    assert (
        {":status": "200", "content-type": "application/grpc"},
        prefixed(b"<abcd>"),
        {"grpc-status": "0"},
    ) == peer.answer()
    assert said is (window == 65_535)


def test_the_bare_stream() -> None:
    """Is nothing by itself."""
    call = Peer().ask()
    outlet = Outlet(1, lambda _: None, lambda _: None)
    stream = Stream(outlet, 1, call.head)

    with pytest.raises(NotImplementedError):
        stream.take(b"", SMALL)
    with pytest.raises(NotImplementedError):
        stream.complete(SMALL)
    with pytest.raises(NotImplementedError):
        stream.inflated(SMALL)
    with pytest.raises(NotImplementedError):
        stream.refuse(NotImplemented)
    assert issubclass(GrpcCall, Stream)
