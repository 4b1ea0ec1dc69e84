"""Streamed calls: messages both ways, windows that open as messages are taken, ends of every kind."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.wire import frames, grpc
from batchproxy.wire.frames import DATA, END_STREAM, HEADERS, WINDOW_UPDATE, ErrorCode
from batchproxy.wire.http2_calls import HIGH_BYTES, GrpcStreamCall
from batchproxy.wire.http2_limits import Http2Limits
from batchproxy.wire.http2_streams import GrpcCall
from tests.http2_peer import CALL, Frame, Peer, data, goaway_of, prefixed, resets_of

CHAT = "/a.Stranger/Chat"
HEAD: Sequence[tuple[str, str]] = tuple((name, CHAT if name == ":path" else value) for name, value in CALL)
GZIPPED = (*HEAD, ("grpc-encoding", "gzip"))


def a_peer(limits: Http2Limits | None = None, **arguments: Any) -> Peer:
    """A client of a server that takes ``CHAT`` for a streamed method."""
    return Peer(limits, streamed=(CHAT,), **arguments)


def begun(peer: Peer, *payloads: bytes, fields: Sequence[tuple[str, str]] = HEAD, ends: bool = False) -> GrpcStreamCall:
    """A call that was handed on."""
    stream = peer.take()
    pieces = [data(stream, payload) for payload in payloads]
    pieces += [data(stream, b"", END_STREAM)] if ends else []
    (call,) = peer.send(peer.headers(fields, stream), *pieces)
    assert isinstance(call, GrpcStreamCall)
    return call


def taken(call: GrpcStreamCall) -> list[bytes]:
    """All messages that are there."""
    return list(iter(call.receive, None))


def granted(said: Sequence[Frame], stream: int) -> int:
    """By how much a stream's window was opened."""
    updates = [frame for frame in said if frame.kind == WINDOW_UPDATE and frame.stream == stream]
    return sum(int.from_bytes(frame.payload, "big") for frame in updates)


def body(said: Sequence[Frame], stream: int) -> bytes:
    """What was sent as DATA."""
    return b"".join(frame.payload for frame in said if (frame.kind, frame.stream) == (DATA, stream))


class Told:
    """Counts what its call tells it."""

    def __init__(self, call: GrpcStreamCall) -> None:
        self.inputs = self.writable = self.cancelled = 0
        call.on_input, call.on_writable, call.on_cancel = self._input, self._write, self._cancel

    def _input(self) -> None:
        self.inputs += 1

    def _write(self) -> None:
        self.writable += 1

    def _cancel(self) -> None:
        self.cancelled += 1


# -- what comes ------------------------------------------------------------------------------------


def test_a_call_is_handed_on_with_its_head() -> None:
    """Before any message; each message is there when it is whole, and the end is told."""
    peer = a_peer()
    call = begun(peer, fields=(*HEAD, ("grpc-timeout", "2S"), ("x-own", "1")))
    told = Told(call)
    found = [taken(call)]
    for payload, flags in ((prefixed(b"one")[:3], 0), (prefixed(b"one")[3:] + prefixed(b"two"), 0), (b"", END_STREAM)):
        assert [] == peer.send(data(call.id, payload, flags))
        found.append(taken(call))

    assert [[], [], [b"one", b"two"], []] == found
    assert (CHAT, 2.0, [("x-own", "1")]) == (call.path, call.timeout_s, call.head.pairs())
    assert call.ended
    assert (2, 0) == (told.inputs, told.cancelled)
    assert "GrpcStreamCall 1" in repr(call)


def test_nothing_comes() -> None:
    """The head is all."""
    peer = a_peer()
    (call,) = peer.send(peer.headers(HEAD, 1, frames.END_HEADERS | END_STREAM))

    assert call.ended
    assert call.receive() is None


def test_it_has_not_ended_while_there_are_messages_to_take() -> None:
    """Even though no more will come."""
    call = begun(a_peer(), prefixed(b"one"), ends=True)
    before = call.ended
    taken(call)

    assert (False, True) == (before, call.ended)


@given(messages=st.lists(st.binary(max_size=40), max_size=6), cuts=st.sets(st.integers(0, 400)), packed=st.booleans())
def test_cut_anywhere(messages: list[bytes], cuts: set[int], packed: bool) -> None:
    """However frames and reads are cut, the messages are the same."""
    peer = a_peer()
    written = [grpc.compress(b"gzip", message) if packed else message for message in messages]
    payload = b"".join(prefixed(message, compressed=packed) for message in written)
    edges = sorted({0, len(payload), *(cut for cut in cuts if cut < len(payload))})
    pieces = [payload[start:end] for start, end in itertools.pairwise(edges)]
    raw = peer.headers(GZIPPED, 1) + b"".join(data(1, piece) for piece in pieces) + data(1, b"", END_STREAM)
    reads = sorted({0, len(raw), *(cut * 3 for cut in cuts if cut * 3 < len(raw))})
    calls: list[GrpcStreamCall] = []
    found: list[bytes] = []
    for start, end in itertools.pairwise(reads):
        calls += peer.send(raw[start:end])
        found += taken(calls[0]) if calls else []

    assert messages == found
    assert [True] == [call.ended for call in calls]


def test_unary_calls_stay_what_they_are() -> None:
    """Who is streamed is asked once for each kind of head."""
    asked = []
    peer = a_peer()

    def is_streamed(path: str) -> bool:
        asked.append(path)
        return path == CHAT

    peer.server.requests.heads.is_streamed = is_streamed
    unary = [peer.ask() for _ in range(3)]
    streamed = [begun(peer, fields=(*HEAD, ("x-id", str(number % 2)))) for number in range(4)]
    long = begun(peer, fields=(*HEAD, ("x-long", "a" * 5000)))

    assert all(type(call) is GrpcCall for call in unary)
    assert all(type(call) is GrpcStreamCall for call in (*streamed, long))
    assert [CALL[2][1], CHAT, CHAT] == asked
    assert all(head.path != CHAT for head in peer.server.requests.heads.unary.values())


# -- windows for what comes ------------------------------------------------------------------------


def test_the_window_opens_as_messages_are_taken() -> None:
    """Nothing is granted for what nobody took; all of it is, once it is taken."""
    peer = a_peer(Http2Limits(window_bytes=1000))
    call = begun(peer, *[prefixed(bytes(95))] * 10)
    before = granted(peer.read(), call.id)
    first = call.receive()
    few = granted(peer.read(), call.id)
    rest = taken(call)
    said = peer.read()

    assert (0, 0) == (before, few)
    assert [bytes(95)] * 10 == [first, *rest]
    assert 500 <= granted(said, call.id) <= 1000


def test_more_than_the_window_is_a_fault_of_the_stream() -> None:
    """A caller that does not wait is reset, and the owner told."""
    peer = a_peer(Http2Limits(window_bytes=100))
    call = begun(peer, prefixed(bytes(95)))
    told = Told(call)
    peer.send(data(call.id, b"\0"))

    assert [(call.id, ErrorCode.FLOW_CONTROL_ERROR)] == resets_of(peer.read())
    assert 1 == told.cancelled
    assert (None, True) == (call.receive(), call.ended)


def test_a_long_message_gets_the_window_it_needs() -> None:
    """As soon as nothing before it waits to be taken."""
    peer = a_peer(Http2Limits(window_bytes=1000))
    call = begun(peer, prefixed(bytes(95)), prefixed(bytes(5000))[:100])
    before = granted(peer.read(), call.id)
    taken(call)
    after = granted(peer.read(), call.id)
    left = 5005 - 100
    promised = peer.server.requests.intake.promised
    peer.send(data(call.id, bytes(left)))
    whole = taken(call)
    later = granted(peer.read(), call.id)
    peer.send(data(call.id, b"", END_STREAM))

    assert 0 == before
    assert left <= 800 + after
    assert promised > 3000
    assert [bytes(5000)] == whole
    assert later >= 0
    assert (0, True) == (peer.server.requests.intake.promised, call.ended)


def test_long_messages_share_a_promise() -> None:
    """One is always favoured; the other waits until that was taken, or its call is over."""
    for over in (False, True):
        peer = a_peer(Http2Limits(window_bytes=1000, promised_bytes=2000))
        first = begun(peer, prefixed(bytes(5000))[:100])
        second = begun(peer, prefixed(bytes(5000))[:100])
        said = peer.read()
        assert granted(said, first.id) > 4000
        assert 0 == granted(said, second.id)

        peer.send(data(first.id, bytes(4905)))
        assert 0 == granted(peer.read(), second.id)
        if over:
            first.finish(0)
        else:
            taken(first)

        assert granted(peer.read(), second.id) > 4000


def test_a_slow_reader_gets_no_windows() -> None:
    """While it does not read what was written, it may not send more."""
    peer = a_peer(Http2Limits(window_bytes=1000))
    call = begun(peer, prefixed(bytes(900)))
    peer.server.paused(True)
    taken(call)
    meanwhile = granted(peer.read(), call.id)
    peer.server.paused(False)

    assert 0 == meanwhile
    assert granted(peer.read(), call.id) >= 500


def test_what_was_taken_after_the_end_is_not_granted_again() -> None:
    """The caller has no more to send."""
    peer = a_peer(Http2Limits(window_bytes=1000))
    call = begun(peer, prefixed(bytes(900)), ends=True)
    peer.read()
    taken(call)

    assert 0 == granted(peer.read(), call.id)


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
    unary = peer.ask()
    told = Told(call)
    peer.server.paused(True)
    answers = [call.send(b"one")]
    meanwhile = told.writable
    peer.server.paused(False)
    answers.append(call.send(b"two"))

    assert [False, True] == answers
    assert (0, 1) == (meanwhile, told.writable)
    assert unary.on_cancel is None


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


@pytest.mark.parametrize(
    ("message", "code", "text"),
    [(b"no gzip", "13", "not gzip data"), (grpc.compress(b"gzip", bytes(2000)), "8", "more than 1000 bytes")],
)
def test_what_is_refused_when_it_is_taken(message: bytes, code: str, text: str) -> None:
    """Compressed messages are looked into one at a time, so that many small ones are no bomb."""
    peer = a_peer(Http2Limits(message_bytes=1000))
    call = begun(peer, prefixed(grpc.compress(b"gzip", b"good"), 1) + prefixed(message, 1), fields=GZIPPED)
    told = Told(call)
    found = taken(call)
    (head,) = [peer.fields(frame) for frame in peer.read() if frame.kind == HEADERS]

    assert [b"good"] == found
    assert code == head["grpc-status"]
    assert text in head["grpc-message"]
    assert (1, True) == (told.cancelled, call.ended)


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


# -- what it may cost ------------------------------------------------------------------------------


def test_silence_is_no_fault_until_the_end_is_said() -> None:
    """A stream under way may be quiet for ever; an answer that is complete must be taken."""
    peer = a_peer()
    silent = begun(peer, prefixed(b"half")[:7])
    stuck = begun(peer, ends=True)
    stuck.send(bytes(100_000))
    for now in range(30, 300, 30):
        peer.send(frames.frame(frames.PING, 0, 0, bytes(8)))
        peer.now = now
        peer.server.tick(now)
    both = dict(peer.server.requests.outlet.streams)
    stuck.finish(0)
    for now in range(300, 400, 30):
        peer.send(frames.frame(frames.PING, 0, 0, bytes(8)))
        peer.now = now
        peer.server.tick(now)

    assert {silent.id: silent, stuck.id: stuck} == both
    assert {silent.id: silent} == peer.server.requests.outlet.streams


def test_small_messages_are_no_flood() -> None:
    """Ten thousand of one byte each, in frames of their own, prefix and message apart; and answers as small."""
    peer = a_peer()
    call = begun(peer)
    found = 0
    for number in range(10_000):
        peer.send(data(call.id, prefixed(b"x")[:5]), data(call.id, b"x"))
        found += len(taken(call))
        call.send(b"y")
        if number % 1000 == 0:
            peer.send(frames.window_update(0, 6000), frames.window_update(call.id, 6000))

    assert 10_000 == found
    assert not peer.server.closing


def test_frames_that_bring_no_message_are_a_flood() -> None:
    """A byte at a time of a long message."""
    peer = a_peer()
    call = begun(peer, prefixed(bytes(60_000))[:5])
    for _ in range(1100):
        peer.send(data(call.id, b"\0"))

    assert (ErrorCode.ENHANCE_YOUR_CALM, "too many DATA frames with next to nothing in them") == goaway_of(peer.read())


def test_calls_opened_and_reset_are_a_flood() -> None:
    """Opening one pays for less than its reset takes, message or not."""
    peer = a_peer()
    for _ in range(1100):
        stream = peer.take()
        peer.send(peer.headers(HEAD, stream), frames.rst_stream(stream, ErrorCode.CANCEL))
        if peer.server.closing:
            break

    assert (ErrorCode.ENHANCE_YOUR_CALM, "too many cancelled requests") == goaway_of(peer.read())
