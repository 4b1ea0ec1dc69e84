"""Answers within the peer's windows: at 0, at 1, exact, one more; and in turn."""

from __future__ import annotations

import pytest

from batchproxy.wire import frames
from batchproxy.wire.frames import DATA, END_STREAM, HEADERS
from tests.http2_peer import CALL, Frame, Peer, prefixed

BODY = bytes(95)  # a message of 100 bytes


def sizes(said: list[Frame]) -> list[int]:
    """Of the DATA frames."""
    return [len(frame.payload) for frame in said if frame.kind == DATA]


@pytest.mark.parametrize("which", ["stream", "connection"])
@pytest.mark.parametrize(("window", "first"), [(0, []), (1, [1]), (99, [99]), (100, [100]), (101, [100])])
def test_windows(which: str, window: int, first: list[int]) -> None:
    """What fits goes at once, the rest when the window opens; trailers when all is gone."""
    peer = Peer()
    if which == "stream":
        peer.send(frames.settings((4, window)))
        call = peer.ask()
    else:
        peer.ask().answer(0, "", bytes(65535 - 5 - window))
        call = peer.ask()
    peer.server.output()
    call.answer(0, "", BODY)
    at_once = peer.read()
    stream = call.id if which == "stream" else 0
    peer.send(frames.window_update(stream, 1))
    peer.send(frames.window_update(stream, 100))
    later = peer.read()

    assert first == sizes(at_once)
    assert 100 == sum(sizes(at_once)) + sum(sizes(later))
    assert (HEADERS, END_STREAM) == ((at_once + later)[-1].kind, (at_once + later)[-1].flags & END_STREAM)
    assert prefixed(BODY) == b"".join(frame.payload for frame in at_once + later if frame.kind == DATA)
    assert 0 == len(peer.server.requests.outlet.streams)


@pytest.mark.parametrize("size", [16379, 16380, 65530])
def test_no_frame_is_longer_than_the_peer_takes(size: int) -> None:
    """16,384 bytes, or more where it says so, but never more than we think fair."""
    peer = Peer()
    peer.ask().answer(0, "", bytes(size))
    usual = sizes(peer.read())
    peer.send(frames.settings((5, 1 << 20)), frames.window_update(0, 1 << 20))
    peer.read()
    peer.ask().answer(0, "", bytes(size))
    large = sizes(peer.read())

    assert 16384 == max(usual)
    assert size + 5 == sum(usual)
    assert [size + 5] == large


def test_answers_take_turns() -> None:
    """A frame of each, so that a short answer does not wait for the end of a long one."""
    peer = Peer()
    long, short = peer.ask(), peer.ask()
    peer.ask().answer(0, "", bytes(65530))
    peer.read()
    long.answer(0, "", bytes(60_000))
    short.answer(0, "", bytes(20_000))
    peer.read()
    peer.send(frames.window_update(0, 100_000))

    assert [1, 3, 1, 3, 1, 1] == [frame.stream for frame in peer.read() if frame.kind == DATA]


def test_an_answer_whose_own_window_is_shut_does_not_hold_up_others() -> None:
    """Each stream has its own; small answers go past it."""
    peer = Peer()
    blocked, other, third = peer.ask(), peer.ask(), peer.ask()
    blocked.answer(0, "", bytes(65530 - 10))
    peer.send(frames.settings((4, 100)), frames.window_update(0, 1000))
    peer.read()
    other.answer(0, "", BODY)
    third.answer(0, "", bytes(200))

    assert [(3, 100), (5, 100)] == [(frame.stream, len(frame.payload)) for frame in peer.read() if frame.kind == DATA]
    peer.send(frames.window_update(5, 10))
    assert [10] == sizes(peer.read())


def test_an_empty_message_needs_a_window_for_its_prefix_only() -> None:
    """A failed call and an empty body need none."""
    peer = Peer()
    peer.send(frames.settings((4, 0)))
    call, failed = peer.ask(), peer.ask()
    get = peer.request()
    peer.read()
    call.answer(0, "", b"")
    failed.answer(5, "no", b"")
    get.answer(200, b"", {})

    assert [(1, 0), (3, 1), (5, 1)] == [(frame.stream, frame.flags & END_STREAM) for frame in peer.read()]
    peer.send(frames.window_update(1, 5))
    assert [5] == sizes(peer.read())


def test_a_reset_forgets_what_was_to_be_sent() -> None:
    """Whether the answer waits for the connection's window or for its own."""
    peer = Peer()
    peer.ask().answer(0, "", bytes(65530))
    waiting = peer.ask()
    waiting.answer(0, "", BODY)
    peer.send(frames.settings((4, 0)))
    shut = peer.ask()
    shut.answer(0, "", BODY)
    peer.read()
    peer.send(frames.rst_stream(3, frames.ErrorCode.CANCEL), frames.rst_stream(5, frames.ErrorCode.CANCEL))
    peer.send(frames.settings((4, 1000)), frames.window_update(0, 1000))

    assert [] == sizes(peer.read())
    assert "<Outlet 0 streams, window 1000, 0 ready>" == repr(peer.server.requests.outlet)


def test_a_window_that_shrinks_while_an_answer_waits() -> None:
    """It was ready, and is not any more; nothing is lost."""
    peer = Peer()
    peer.ask().answer(0, "", bytes(65530))
    call = peer.ask()
    call.answer(0, "", BODY)
    peer.read()
    peer.send(frames.settings((4, 0)), frames.window_update(0, 1000))
    shut = sizes(peer.read())
    peer.send(frames.settings((4, 60)))
    opened = sizes(peer.read())
    peer.send(frames.settings((4, 10)), frames.settings((4, 100)))

    assert [] == shut
    assert [60] == opened
    assert [40] == sizes(peer.read())


def test_a_smaller_header_table_is_acknowledged_once() -> None:
    """RFC 7541, 4.2: also before an interim answer; a table as large as before needs no word."""
    peer = Peer()
    peer.send(frames.settings((1, 4096)))
    peer.ask().answer(0, "", b"")
    usual = peer.read()[1].payload
    peer.send(frames.settings((1, 4095)), frames.settings((1, 9)))
    peer.send(peer.headers((*CALL[:5], ("expect", "100-continue")), peer.take()))
    peer.send(frames.settings((1, 8)))
    peer.ask().answer(0, "", b"")
    said = [frame.payload for frame in peer.read() if frame.kind == HEADERS]

    assert b"\x20\x08\x03100" == said[0]
    assert usual == said[1]


def test_long_trailers_are_cut_into_frames() -> None:
    """6.10: metadata beyond a frame follows in CONTINUATION."""
    peer = Peer()
    peer.ask().answer(0, "", b"", [("long", "x" * 20_000)])
    *_, first, second = peer.read()

    assert (HEADERS, frames.CONTINUATION) == (first.kind, second.kind)
    assert (END_STREAM, frames.END_HEADERS) == (first.flags, second.flags)
