"""The windows we open: how much a peer may send, exactly; what waits, and for whom."""

from __future__ import annotations

import pytest

from batchproxy.wire import frames
from batchproxy.wire.budget import Budget
from batchproxy.wire.frames import END_STREAM, PADDED, WINDOW_UPDATE, ErrorCode
from batchproxy.wire.http2_limits import Http2Limits
from tests.http2_peer import CALL, POST, Frame, Peer, data, goaway_of, prefixed, resets_of

TIGHT = Http2Limits(window_bytes=100, connection_window_bytes=65_535, promised_bytes=2000)


def updates(said: list[Frame]) -> list[tuple[int, int]]:
    """Stream and increment."""
    return [(frame.stream, int.from_bytes(frame.payload, "big")) for frame in said if frame.kind == WINDOW_UPDATE]


@pytest.mark.parametrize("sent", [99, 100, 101])
@pytest.mark.parametrize("padding", [0, 10])
def test_a_streams_window(sent: int, padding: int) -> None:
    """Exactly what was allowed is taken; padding counts. The length being unknown, half a window is granted anew."""
    peer = Peer(TIGHT)
    body = bytes((padding,)) + bytes(sent - 1) if padding else bytes(sent)
    peer.send(peer.headers(POST, 1), data(1, body, PADDED if padding else 0))
    said = peer.read()

    assert ([(1, ErrorCode.FLOW_CONTROL_ERROR)] if sent > 100 else []) == resets_of(said)
    assert ([(1, sent)] if sent <= 100 else []) == updates(said)


@pytest.mark.parametrize("extra", [0, 1])
def test_the_connections_window(extra: int) -> None:
    """Exactly what was allowed is taken, on a closed stream, too; it opens again at half, but not while paused."""
    peer = Peer(Http2Limits(connection_window_bytes=65_535))
    peer.send(peer.headers((("bad", "request"),), 1))
    peer.server.paused(True)
    peer.read()
    peer.send(data(1, bytes(16_384)) * 3, data(1, bytes(16_383 + extra)))
    said = peer.read()
    if extra:
        assert ErrorCode.FLOW_CONTROL_ERROR == goaway_of(said)[0]
        return
    peer.server.paused(False)

    assert [] == said
    assert [(0, 65_535)] == updates(peer.read())


def test_half_of_the_connections_window() -> None:
    """One update for many frames."""
    peer = Peer()
    for _ in range(31):
        peer.ask(bytes(16_379)).answer(0, "", b"")
    before = updates(peer.read())
    peer.ask(bytes(16_379))

    assert [] == before
    assert [(0, 32 * 16_384)] == updates(peer.read())


def test_a_long_message_is_granted_at_once() -> None:
    """As soon as its prefix tells how long it is, with room for padding."""
    peer = Peer(TIGHT)
    raw = prefixed(bytes(1000))
    peer.send(peer.headers(CALL, 1), data(1, raw[:4]))
    unknown = updates(peer.read())
    peer.send(data(1, raw[4:6]))
    known = updates(peer.read())
    (call,) = peer.send(data(1, raw[6:], END_STREAM))

    assert [] == unknown
    assert [(1, 999 + 512 - 94)] == known
    assert bytes(1000) == call.message
    assert [] == updates(peer.read())


def test_long_messages_wait_for_each_other() -> None:
    """Beyond the promise, in order; one is favoured, so that waiting ends; a reset lets the next one go."""
    peer = Peer(TIGHT)
    for stream in (1, 3, 5, 7):
        peer.send(peer.headers(CALL, stream), data(stream, prefixed(bytes(5000))[:80]))
    first = updates(peer.read())
    peer.send(data(1, bytes(4925), END_STREAM))
    second = updates(peer.read())
    peer.send(frames.rst_stream(5, ErrorCode.CANCEL))
    third = updates(peer.read())
    peer.send(frames.rst_stream(3, ErrorCode.CANCEL))

    assert [[1], [3], []] == [[stream for stream, _ in granted] for granted in (first, second, third)]
    assert [7] == [stream for stream, _ in updates(peer.read())]
    assert "waiting" in repr(peer.server.requests.intake)


def test_short_messages_pass_the_waiting_ones() -> None:
    """They need no grant."""
    peer = Peer(TIGHT)
    for stream in (1, 3):
        peer.send(peer.headers(CALL, stream), data(stream, prefixed(bytes(5000))[:80]))
    peer.next = 5

    assert bytes(60) == peer.ask(bytes(60)).message


def test_pausing() -> None:
    """Nothing is granted meanwhile, and all of it afterwards."""
    peer = Peer(TIGHT)
    peer.server.paused(True)
    peer.send(peer.headers(CALL, 1), data(1, prefixed(bytes(1000))[:80]), data(1, bytes(20)))
    paused = updates(peer.read())
    full = peer.server.full
    peer.server.paused(False)

    assert [] == paused
    assert full
    assert not peer.server.full
    assert [(1, 905 + 512)] == updates(peer.read())


def test_who_waits_with_an_unknown_length_and_learns_it() -> None:
    """A grant that is not needed any more is not made."""
    peer = Peer(Http2Limits(window_bytes=2000))
    prefix = prefixed(b"abc")
    peer.server.paused(True)
    peer.send(peer.headers(CALL, 1))
    for byte in prefix[:4]:
        peer.send(data(1, bytes((255, byte)) + bytes(255), PADDED))
    waiting = repr(peer.server.requests.intake)
    peer.send(data(1, prefix[4:5]))
    peer.server.paused(False)
    (call,) = peer.send(data(1, b"abc", END_STREAM))

    assert "<Intake credit 1047548, promised 0, 1 waiting>" == waiting
    assert [] == updates(peer.read())
    assert b"abc" == call.message


def test_windows_follow_the_budget() -> None:
    """A long message is charged before its window is opened, and until it is answered; without room it waits."""
    budget = Budget(4000)
    peer, told = Peer(TIGHT, budget=budget), [0]
    peer.server.on_room = lambda: told.append(len(told))
    budget.charge(3001)
    raw = prefixed(bytes(1000))
    peer.send(peer.headers(CALL, 1), data(1, raw[:50]))
    before = updates(peer.read())
    budget.charge(-2001)
    granted = updates(peer.read())
    (call,) = peer.send(data(1, raw[50:], END_STREAM))
    held = budget.held
    call.answer(0, "", b"")

    assert ([], [(1, 955 + 512 - 50)]) == (before, granted)
    assert [0, 1] == told
    assert (1000 + len(raw) + 512, 1000) == (held, budget.held)


def test_a_message_that_waits_for_room_and_goes() -> None:
    """Reset, it waits no longer and nothing is charged; so others have its place."""
    budget = Budget(4000)
    peer = Peer(TIGHT, budget=budget)
    budget.charge(3001)
    for stream in (1, 3):
        peer.send(peer.headers(CALL, stream), data(stream, prefixed(bytes(500))[:50]))
    peer.send(frames.rst_stream(1, ErrorCode.CANCEL))
    peer.read()
    contested = budget.contested
    budget.charge(-3001)

    assert contested
    assert [3] == [stream for stream, _ in updates(peer.read())]
    assert 505 + 512 == budget.held


def test_nothing_new_is_begun_where_the_limit_is_reached() -> None:
    """Not the short way, either; a request without a body costs nothing."""
    budget = Budget(1000)
    peer = Peer(budget=budget)
    peer.ask().answer(0, "", b"")
    peer.read()
    budget.charge(1000)
    refused = peer.send(peer.call())
    fields, _, _ = peer.answer()
    bodiless = peer.request()
    budget.charge(-1000)

    assert [] == refused
    assert ("14", "1000") == (fields["grpc-status"], fields["grpc-retry-pushback-ms"])
    assert "GET" == bodiless.method
    assert peer.ask().message


def test_what_is_small_is_told_when_asked() -> None:
    """Messages, and answers that wait for the peer's window; not what is charged, nor what is sent."""
    peer = Peer()
    first, second = peer.ask(bytes(100)), peer.ask(bytes(10))
    before = peer.server.held()
    second.answer(0, "", bytes(100_000))
    peer.read()
    after = peer.server.held()

    assert (110, 100 + 10 + 100_005 - 65_535) == (before, after)
    assert first.message == bytes(100)
