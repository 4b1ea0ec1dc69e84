"""A connection as a whole: usual calls, the short way, cancellation, draining, slow peers, floods."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from batchproxy.wire import frames
from batchproxy.wire.frames import END_STREAM, ErrorCode, frame
from batchproxy.wire.http2 import Http2Connection
from batchproxy.wire.http2_limits import Http2Limits
from tests.http2_peer import CALL, Peer, data, goaway_of, prefixed, resets_of, split

PATIENCE = Http2Limits().patience_s
ACKED = frame(frames.SETTINGS, frames.ACK, 0, b"")


def test_what_a_server_says_first() -> None:
    """SETTINGS with our limits, and a wider window for the connection."""
    settings, update = split(Http2Connection(Http2Limits(), 0.0).output())

    assert (frames.SETTINGS, 0, 0) == settings[:3]
    assert frames.settings((3, 1000), (4, 131072), (6, 65536))[9:] == settings.payload
    assert frames.window_update(0, (1 << 20) - 65535) == frame(*update)


def test_not_http2() -> None:
    """What does not begin with the preface is ended, at the first wrong byte."""
    peer = Peer(greet=False)
    peer.send(b"PRI * HTTP/2.1")

    assert (ErrorCode.PROTOCOL_ERROR, "this is not HTTP/2") == goaway_of(peer.read())


@pytest.mark.parametrize("fast", [True, False])
def test_a_unary_call(fast: bool) -> None:
    """The third of equal calls is taken the short way; all three are answered alike."""
    peer = Peer(fast=fast)
    for number in range(3):
        call = peer.ask(b"%d" % number, ("user", "me"))
        call.answer(0, "", b"reply")

        assert b"%d" % number == call.message
        assert "me" == call.metadata["user"]
        assert call.timeout_s is None
        assert (
            {":status": "200", "content-type": "application/grpc"},
            prefixed(b"reply"),
            {"grpc-status": "0"},
        ) == peer.answer()
    assert 0 == len(peer.server.requests.outlet.streams)


def test_the_short_way_is_taken() -> None:
    """A call seen before does not reach the general way; any other dress of it does."""
    peer = Peer()
    peer.ask()
    peer.ask()
    seen: list[int] = []
    general = peer.server.frame

    def spy(kind: int, flags: int, sid: int, payload: bytes) -> None:
        seen.append(kind)
        general(kind, flags, sid, payload)

    peer.server.frame = spy  # type: ignore[method-assign]
    peer.ask()
    taken_short = list(seen)
    stream = peer.take()
    message = prefixed(b"question")
    peer.send(peer.headers(CALL, stream), data(stream, message[:8]), data(stream, message[8:], END_STREAM))

    assert [] == taken_short
    assert [frames.DATA, frames.DATA] == seen


class TestGuardsOfTheShortWay:
    """What a call seen before must not get past."""

    def known(self, *more: tuple[str, str]) -> Peer:
        """A client whose calls take the short way."""
        peer = Peer()
        for _ in range(3):
            peer.ask(b"question", *more).answer(0, "", b"")
        peer.read()
        return peer

    def test_content_length(self) -> None:
        """8.1.1: it is compared there, too."""
        peer = self.known(("content-length", "13"))
        found = peer.send(peer.call(b"questions", ("content-length", "13")))

        assert [] == found
        assert [(7, ErrorCode.PROTOCOL_ERROR)] == resets_of(peer.read())

    def test_the_last_piece_of_a_message_that_looks_like_a_whole_one(self) -> None:
        """It is a piece all the same."""
        peer = self.known()
        inner = prefixed(b"inner")
        outer = prefixed(inner)
        (call,) = peer.send(peer.headers(CALL, 7), data(7, outer[:5]), data(7, inner, END_STREAM))

        assert inner == call.message

    def test_a_header_block_that_is_not_whole(self) -> None:
        """6.2: nothing comes between its frames."""
        peer = self.known()
        found = peer.send(peer.headers(CALL, 7, 0), peer.call(stream=7))

        assert [] == found
        assert ErrorCode.PROTOCOL_ERROR == goaway_of(peer.read())[0]

    def test_after_the_last_goaway(self) -> None:
        """6.8: what comes then was never served, and is overlooked."""
        peer = self.known()
        call = peer.ask()
        peer.server.drain(1.0)
        peer.server.tick(2.0)
        peer.read()
        found = peer.send(peer.call(), peer.call())

        assert [] == found
        assert [] == peer.read()
        assert 9 == call.id + 2


def test_interleaved_calls() -> None:
    """Heads first, then messages in another order."""
    peer = Peer()
    peer.ask()
    heads = [peer.headers(CALL, stream) for stream in (3, 5, 7)]
    bodies = [data(stream, prefixed(b"%d" % stream), END_STREAM) for stream in (7, 3, 5)]

    assert [(7, b"7"), (3, b"3"), (5, b"5")] == [(call.id, call.message) for call in peer.send(*heads, *bodies)]


@pytest.mark.parametrize("fast", [True, False])
def test_no_stream_beyond_the_limit(fast: bool) -> None:
    """5.1.2: the stream above is refused without being looked at; when one is answered there is room again."""
    peer = Peer(Http2Limits(streams=2), fast=fast)
    first = peer.ask()
    peer.ask()
    peer.send(peer.call())
    refused = resets_of(peer.read())
    first.answer(0, "", b"")

    assert [(5, ErrorCode.REFUSED_STREAM)] == refused
    assert 7 == peer.ask().id


def test_a_reset_reaches_the_call() -> None:
    """RST_STREAM: the owner is told once, and a late answer goes nowhere."""
    peer = Peer()
    gone: list[int] = []
    call = peer.ask()
    call.on_cancel = lambda: gone.append(1)
    peer.send(frames.rst_stream(1, ErrorCode.CANCEL))
    call.answer(0, "", b"late")
    call.answer(5, "later", b"")

    assert [1] == gone
    assert [] == peer.read()


def test_a_call_that_is_reset_at_once_is_never_seen() -> None:
    """Rapid resets cost nothing behind the wire."""
    peer = Peer()
    peer.ask()

    assert [5] == [call.id for call in peer.send(peer.call(), frames.rst_stream(3, ErrorCode.CANCEL), peer.call())]


@pytest.mark.parametrize("end", [lambda c: c.lost(), lambda c: c.eof(1.0)], ids=["lost", "eof"])
def test_a_lost_peer(end: Callable[[Http2Connection], None]) -> None:
    """Every open call is told; nothing happens afterwards."""
    peer = Peer()
    gone: list[int] = []
    for number in (1, 3):
        peer.ask().on_cancel = lambda number=number: gone.append(number)
    end(peer.server)
    peer.server.drain(1.0)
    peer.server.paused(True)
    peer.server.tick(1e9)

    assert [1, 3] == gone
    assert peer.server.closing
    assert peer.server.due() is None
    assert [] == peer.read()
    assert [] == peer.send(peer.call())
    assert not peer.server.full


class TestDraining:
    """6.8: two GOAWAYs, so that no call is lost on the way."""

    def test_with_a_peer_that_answers(self) -> None:
        """First the highest id, then, when the PING is back, the last one served; then the calls under way."""
        peer = Peer()
        call = peer.ask()
        peer.server.drain(1.0)
        peer.server.drain(1.0)
        goaway, ping = peer.read()
        late = peer.ask()
        peer.send(frame(frames.PING, frames.ACK, 0, ping.payload))
        final = peer.read()
        call.answer(0, "", b"")
        peer.read()
        closing = peer.server.closing
        late.answer(0, "", b"")
        peer.read()

        assert (1 << 31) - 1 == int.from_bytes(goaway.payload[:4], "big")
        assert frames.PING == ping.kind
        assert late.id == int.from_bytes(final[0].payload[:4], "big")
        assert (ErrorCode.NO_ERROR, "draining") == goaway_of(final)
        assert not closing
        assert peer.server.closing

    def test_with_a_silent_peer(self) -> None:
        """The second follows when time is up; later streams are overlooked, and their blocks still decoded."""
        peer = Peer()
        call = peer.ask()
        peer.server.drain(1.0)
        peer.read()
        due = peer.server.due()
        peer.server.tick(2.0)
        final = peer.read()
        found = peer.send(peer.call(b"q", ("new", "field")), peer.call(b"q", ("new", "field")))

        assert 2.0 == due
        assert 1 == int.from_bytes(final[0].payload[:4], "big")
        assert [] == found
        assert [] == peer.read()
        assert not peer.server.closing

        call.answer(0, "", b"")

        assert 3 == len(peer.read())
        assert peer.server.closing

    def test_without_calls(self) -> None:
        """It ends at once after the second."""
        peer = Peer()
        peer.server.drain(1.0)
        peer.read()
        peer.server.tick(2.0)
        peer.read()

        assert peer.server.closing


def test_repr() -> None:
    """It says what matters."""
    peer = Peer()
    peer.ask()

    assert "<Http2Connection <Requests 1 open, the last is 1>>" == repr(peer.server)
    peer.server.lost()
    assert "<Http2Connection <Requests 0 open, the last is 1>, closing>" == repr(peer.server)
