"""Whoever makes no progress between two looks is told so."""

from __future__ import annotations

import pytest

from batchproxy.wire import frames
from batchproxy.wire.frames import END_STREAM, ErrorCode, frame
from batchproxy.wire.http2_limits import Http2Limits
from tests.http2_peer import CALL, POST, Peer, data, goaway_of, prefixed, resets_of

PATIENCE = Http2Limits().patience_s


class TestSlowPeers:
    """Whoever makes no progress between two looks is told so."""

    def sweep(self, peer: Peer, times: int = 1) -> None:
        for _ in range(times):
            due = peer.server.due()
            assert due is not None
            peer.now = due
            peer.server.tick(due)

    def test_no_settings(self) -> None:
        """A peer that connects and says nothing, or half a preface, is gone after one look."""
        peer = Peer(greet=False)
        peer.send(b"PRI *")
        self.sweep(peer)

        assert (ErrorCode.SETTINGS_TIMEOUT, "no SETTINGS came") == goaway_of(peer.read())

    def test_no_acknowledgement(self) -> None:
        """6.5.3: our SETTINGS must be acknowledged."""
        peer = Peer(greet=False)
        peer.send(frames.PREFACE, frames.settings())
        self.sweep(peer)
        first = peer.server.closing
        self.sweep(peer)

        assert not first
        assert ErrorCode.SETTINGS_TIMEOUT == goaway_of(peer.read())[0]

    @pytest.mark.parametrize("half", ["frame", "block"])
    def test_half_a_frame(self, half: str) -> None:
        """A frame, or a header block, that does not come to its end."""
        peer = Peer()
        peer.send(peer.call()[:-3] if half == "frame" else peer.headers(CALL, 1, 0))
        self.sweep(peer)
        first = peer.server.closing
        self.sweep(peer)

        assert not first
        assert ErrorCode.ENHANCE_YOUR_CALM == goaway_of(peer.read())[0]

    def test_a_body_that_does_not_come(self) -> None:
        """The call is answered DEADLINE_EXCEEDED, a request 408; others, and calls waiting for us, stay."""
        peer = Peer()
        waiting = peer.ask()
        peer.send(
            peer.headers(CALL, 3), peer.headers(POST, 5), peer.headers(CALL, 7), data(7, prefixed(b"x" * 99)[:70])
        )
        peer.next = 9
        self.sweep(peer)
        first = peer.read()
        self.sweep(peer)
        said = peer.read()

        assert [] == first
        assert ["200", "408", "200"] == [peer.fields(f)[":status"] for f in said if f.kind == frames.HEADERS]
        assert [(3, ErrorCode.NO_ERROR), (5, ErrorCode.NO_ERROR), (7, ErrorCode.NO_ERROR)] == resets_of(said)
        waiting.answer(0, "", b"")
        assert 3 == len(peer.read())

    def test_a_body_that_comes_steadily(self) -> None:
        """What keeps up the rate goes on for as long as it likes."""
        peer = Peer()
        rate = int(Http2Limits().body_rate * PATIENCE) + 1
        peer.send(peer.headers(CALL, 1), data(1, prefixed(bytes(7 * rate))[: -7 * rate]))
        for _ in range(6):
            peer.send(data(1, bytes(rate)))
            self.sweep(peer)
        (call,) = peer.send(data(1, bytes(rate), END_STREAM))

        assert bytes(7 * rate) == call.message

    def test_a_body_that_waits_for_us(self) -> None:
        """While we keep windows shut, nobody is blamed for sending nothing."""
        peer = Peer()
        peer.send(peer.headers(CALL, 1), data(1, prefixed(bytes(1 << 20))[:16000]))
        peer.server.paused(True)
        self.sweep(peer, 3)

        assert peer.server.full
        assert 1 == len(peer.server.requests.outlet.streams)

    def test_a_window_that_does_not_open(self) -> None:
        """An answer whose peer never opens its window is given up; one that goes on is not."""
        peer = Peer()
        call = peer.ask()
        call.answer(0, "", bytes(100_000))
        self.sweep(peer)
        peer.send(frames.window_update(1, 1000), frames.window_update(0, 1000))
        self.sweep(peer)
        moved = resets_of(peer.read())
        self.sweep(peer)

        assert [] == moved
        assert [(1, ErrorCode.CANCEL)] == resets_of(peer.read())

    def test_silence(self) -> None:
        """A quiet peer is asked whether it lives; it need only answer, but that it must."""
        peer = Peer(Http2Limits(ping_s=60.0))
        self.sweep(peer, 2)
        (ping,) = peer.read()
        peer.send(frame(frames.PING, frames.ACK, 0, ping.payload))
        self.sweep(peer)
        alive = peer.server.closing
        self.sweep(peer, 2)
        said = peer.read()

        assert frames.PING == ping.kind
        assert not alive
        assert (ErrorCode.NO_ERROR, "a PING was not answered") == goaway_of(said)

    def test_idleness(self) -> None:
        """A connection without calls ends after its time; each call starts it anew."""
        peer = Peer(Http2Limits(idle_s=100.0, ping_s=1e9))
        self.sweep(peer, 3)
        peer.ask().answer(0, "", b"")
        peer.read()
        self.sweep(peer, 4)
        first = peer.read()
        self.sweep(peer)

        assert [] == first
        assert (ErrorCode.NO_ERROR, "idle") == goaway_of(peer.read())
        assert peer.server.closing

    def test_between_two_looks(self) -> None:
        """A tick before its time does nothing."""
        peer = Peer()
        peer.server.tick(PATIENCE - 1)

        assert PATIENCE == peer.server.due()
