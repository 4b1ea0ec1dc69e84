"""Streamed calls: messages as they come, windows that open as messages are taken, and what it may cost."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from batchproxy.wire import frames, grpc
from batchproxy.wire.frames import END_STREAM, ErrorCode
from batchproxy.wire.http2_calls import GrpcStreamCall
from batchproxy.wire.http2_limits import Http2Limits
from batchproxy.wire.http2_streams import GrpcCall
from tests.http2_peer import CALL, data, goaway_of, prefixed, resets_of
from tests.streamed import CHAT, GZIPPED, HEAD, Told, a_peer, begun, granted, taken

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
