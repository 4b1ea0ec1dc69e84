"""Streamed calls: what the owner says, how fast it may, and ends of every kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from batchproxy.wire import frames
from batchproxy.wire.frames import DATA, END_STREAM, HEADERS, ErrorCode
from batchproxy.wire.http2_calls import GrpcStreamCall
from batchproxy.wire.http2_limits import Http2Limits
from batchproxy.wire.http2_messages import HIGH_BYTES
from batchproxy.wire.unpack import Packed
from tests.http2_peer import data, prefixed, resets_of
from tests.streamed import GZIPPED, HEAD, Told, a_peer, begun, body, taken

# -- what goes -------------------------------------------------------------------------------------


def test_an_answer_in_full() -> None:
    """Initial metadata, messages, status, text and trailing metadata."""
    peer = a_peer()
    call = begun(peer, ends=True)
    call.send_headers((("i", "1"), ("i-bin", b"\0\xff")))
    call.send_headers((("i", "too late"),))
    sent = [call.send(message) for message in (b"one", b"", b"three")]
    call.finish(9, "50 %", (("t", "2"), ("t-bin", b"\1")))
    said = peer.read()
    head, tail = (frame for frame in said if frame.kind == HEADERS)

    assert [True, True, True] == sent
    assert {":status": "200", "content-type": "application/grpc", "i": "1", "i-bin": "AP8"} == peer.fields(head)
    assert b"".join(map(prefixed, (b"one", b"", b"three"))) == body(said, call.id)
    assert {"grpc-status": "9", "grpc-message": "50 %25", "t": "2", "t-bin": "AQ"} == peer.fields(tail)
    assert [0, 0, 0, 0, END_STREAM] == [frame.flags & END_STREAM for frame in said]
    assert not peer.server.requests.outlet.streams


@pytest.mark.parametrize(("code", "heads"), [(0, [0, END_STREAM]), (5, [END_STREAM])])
def test_an_answer_without_messages(code: int, heads: list[int]) -> None:
    """A bad end with nothing before it is one block, gRPC's "trailers-only"; a good one has a head."""
    peer = a_peer()
    call = begun(peer, ends=True)
    call.finish(code)
    said = peer.read()

    assert heads == [frame.flags & END_STREAM for frame in said if frame.kind == HEADERS]
    assert str(code) == [peer.fields(frame) for frame in said][-1]["grpc-status"]


def test_a_bad_end_after_the_head_is_in_trailers() -> None:
    """The head was sent."""
    peer = a_peer()
    call = begun(peer, ends=True)
    call.send_headers()
    head = peer.fields(peer.read()[0])
    call.finish(5, "no")

    assert "grpc-status" not in head
    assert {"grpc-status": "5", "grpc-message": "no"} == peer.fields(peer.read()[0])


def test_an_end_before_the_callers_resets_the_rest() -> None:
    """What the caller still sends is not wanted (8.1), and is no fault."""
    peer = a_peer()
    call = begun(peer)
    call.finish(0)
    said = peer.read()
    peer.send(data(call.id, prefixed(b"late")))

    assert [(call.id, ErrorCode.NO_ERROR)] == resets_of(said)
    assert not peer.server.closing
    assert call.ended


def test_the_end_is_said_once() -> None:
    """Twice is a bug, unless the caller is gone."""
    peer = a_peer()
    call = begun(peer)
    call.finish(0)
    with pytest.raises(RuntimeError, match="answered twice"):
        call.finish(0)
    gone = begun(peer)
    peer.send(frames.rst_stream(gone.id, ErrorCode.CANCEL))
    gone.finish(0)

    assert gone.send(b"to nobody")


@pytest.mark.parametrize(
    "say", [lambda call: call.send_headers((("A", "b"),)), lambda call: call.finish(0, "", (("a", "\n"),))]
)
def test_metadata_that_grpc_does_not_allow(say: Callable[[GrpcStreamCall], None]) -> None:
    """Is refused, and nothing was said by then."""
    peer = a_peer()
    call = begun(peer, ends=True)
    with pytest.raises(ValueError, match="cannot be gRPC metadata"):
        say(call)
    call.finish(0)

    assert 2 == len(peer.read())


def test_the_owner_is_told_to_wait_and_to_go_on() -> None:
    """Above the mark it waits; when the caller's windows have taken enough, it is called."""
    peer = a_peer()
    call = begun(peer, ends=True)
    told = Told(call)
    message = bytes(HIGH_BYTES // 4)
    answers = [call.send(message) for _ in range(6)]
    call.finish(0)
    pieces = [peer.read()]
    while peer.server.requests.outlet.streams:
        pieces.append(peer.read())
        peer.send(frames.window_update(0, 60_000), frames.window_update(call.id, 60_000))
    pieces.append(peer.read())
    said = [frame for piece in pieces for frame in piece]

    assert [True] * 4 == answers[:4]
    assert [False] * 2 == answers[-2:]
    assert 1 == told.writable
    assert prefixed(message) * 6 == body(said, call.id)
    assert "0" == peer.fields(said[0]).get("grpc-status", peer.fields(said[-1])["grpc-status"])


def test_a_connection_that_is_not_read_holds_the_owner() -> None:
    """Though the caller's windows are open; it goes on when what was written has left."""
    peer = a_peer()
    call = begun(peer)
    unary, idle = peer.ask(), Told(begun(peer))
    told = Told(call)
    peer.server.paused(True)
    answers = [call.send(b"one")]
    meanwhile = told.writable
    peer.server.paused(False)
    answers.append(call.send(b"two"))

    assert [False, True] == answers
    assert (0, 1, 0) == (meanwhile, told.writable, idle.writable)
    for only_streamed in (unary.next_piece, unary.wake):
        with pytest.raises(NotImplementedError):
            only_streamed()


def test_small_messages_leave_together() -> None:
    """What waited for the window goes as one frame."""
    peer = a_peer()
    peer.send(frames.settings((4, 0)))
    call = begun(peer, ends=True)
    peer.read()
    for number in range(10):
        call.send(b"%d" % number)
    peer.send(frames.window_update(call.id, 1000))
    call.finish(0)
    said = [frame for frame in peer.read() if frame.kind == DATA]

    assert 2 == len(said)  # the first had begun
    assert b"".join(prefixed(b"%d" % number) for number in range(10)) == body(said, call.id)


def test_streams_and_unary_answers_take_turns() -> None:
    """A long answer of each kind, through a narrow window."""
    peer = a_peer()
    unary = peer.ask()
    call = begun(peer, ends=True)
    call.send(bytes(100_000))
    call.finish(0)
    unary.answer(0, "", bytes(100_000))
    said = peer.read()
    while peer.server.requests.outlet.streams:
        peer.send(frames.window_update(0, 30_000), *(frames.window_update(sid, 20_000) for sid in (1, 3)))
        said += peer.read()

    assert prefixed(bytes(100_000)) == body(said, unary.id) == body(said, call.id)


def test_trailers_tell_of_a_table_that_shrank() -> None:
    """The peer's wish came after our head: the next block answers it (RFC 7541, 4.2)."""
    peer = a_peer()
    call = begun(peer, ends=True)
    call.send(b"one")
    peer.decoder.decode(peer.read()[0].payload)
    peer.send(frames.settings((1, 100)))
    peer.decoder.max_allowed_table_size = 100
    call.finish(0)

    assert "0" == peer.fields(peer.read()[-1])["grpc-status"]


# -- ends ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "ends", "code", "text"),
    [
        (prefixed(bytes(2000)), False, "8", "Received message larger than max (2000 vs. 1000)"),
        (prefixed(b"a", compressed=1), False, "13", "no grpc-encoding"),
        (prefixed(b"abc")[:6], True, "13", "before its announced length"),
        (b"\0", True, "13", "before its announced length"),
    ],
)
def test_what_is_refused_when_it_comes(payload: bytes, ends: bool, code: str, text: str) -> None:
    """The caller is told why, and the owner that it is over; what the owner says then is not heard."""
    peer = a_peer(Http2Limits(message_bytes=1000))
    call = begun(peer)
    told = Told(call)
    peer.read()
    peer.send(data(call.id, payload, END_STREAM if ends else 0))
    said = peer.fields(peer.read()[0])
    call.send(b"unheard")
    call.finish(0)

    assert code == said["grpc-status"]
    assert text in said["grpc-message"]
    assert (1, b"") == (told.cancelled, peer.server.output())
    assert call.ended


def test_compressed_messages_are_left_to_their_owner() -> None:
    """As they came, whatever is in them: who takes them may pass them on."""
    call = begun(a_peer(), prefixed(b"no gzip", 1) + prefixed(b"plain"), fields=GZIPPED)

    assert [Packed(b"gzip", b"no gzip", 256 << 20), b"plain"] == [call.receive(), call.receive()]


def test_compressed_messages_are_sent_as_they_are() -> None:
    """In the encoding that the head says."""
    peer = a_peer()
    call = begun(peer)
    call.send_headers((("a", "b"),), b"gzip")
    call.send(b"packed", compressed=True)
    call.send(b"plain")
    said = peer.read()
    head = peer.fields(said[0])

    assert ("gzip", "b") == (head["grpc-encoding"], head["a"])
    assert prefixed(b"packed", 1) + prefixed(b"plain") == body(said, call.id)


@pytest.mark.parametrize("fields", [(*HEAD, ("grpc-timeout", "soon")), (*HEAD, ("grpc-encoding", "snappy"))])
def test_heads_that_are_refused(fields: Sequence[tuple[str, str]]) -> None:
    """Nobody is told of such a call."""
    peer = a_peer()

    assert [] == peer.send(peer.headers(fields, 1))
    assert "grpc-status" in peer.fields(next(frame for frame in peer.read() if frame.kind == HEADERS))


def test_a_call_that_is_over_in_the_same_read_is_not_handed_on() -> None:
    """Refused, or reset."""
    peer = a_peer(Http2Limits(message_bytes=10))
    refused = peer.send(peer.headers(HEAD, 1), data(1, prefixed(bytes(20))))
    reset = peer.send(peer.headers(HEAD, 3), frames.rst_stream(3, ErrorCode.CANCEL))

    assert ([], []) == (refused, reset)


@pytest.mark.parametrize("how", ["reset", "lost", "eof"])
def test_the_caller_goes(how: str) -> None:
    """The owner is told once; nothing is kept, and nothing more is said."""
    peer = a_peer()
    call = begun(peer, prefixed(b"one"))
    told = Told(call)
    call.send(bytes(100_000))
    call.send(bytes(100_000))
    peer.read()
    if how == "reset":
        peer.send(frames.rst_stream(call.id, ErrorCode.CANCEL))
    elif how == "lost":
        peer.server.lost()
    else:
        peer.server.eof(0.0)
    call.send_headers()
    call.finish(0)

    assert 1 == told.cancelled
    assert (None, True, True) == (call.receive(), call.ended, call.send(b"x"))
    assert b"" == peer.server.output()
    assert not peer.server.requests.outlet.streams


def test_the_caller_goes_after_the_end_was_said() -> None:
    """The rest of the answer is dropped; the owner was done with it."""
    peer = a_peer()
    call = begun(peer)
    told = Told(call)
    call.send(bytes(100_000))
    call.finish(0)
    peer.send(frames.rst_stream(call.id, ErrorCode.CANCEL))

    assert 0 == told.cancelled
    assert not peer.server.requests.outlet.streams


def test_drained_connections_wait_for_their_streams() -> None:
    """Either side may go on talking; the connection closes after the last."""
    peer = a_peer()
    call = begun(peer)
    peer.server.drain(0.0)
    peer.send(frames.frame(frames.PING, frames.ACK, 0, b"draining"))
    peer.send(data(call.id, prefixed(b"on"), END_STREAM))
    call.send(b"and on")
    peer.read()
    open_ = not peer.server.closing
    found = taken(call)
    call.finish(0)
    peer.read()

    assert (True, [b"on"], True) == (open_, found, peer.server.closing)
