"""Every error of RFC 9113 that a server must detect (``tests/http2_errors.py``), and what is no error."""

from __future__ import annotations

from itertools import pairwise

import pytest

from batchproxy.wire import frames
from batchproxy.wire.frames import (
    ACK,
    CONTINUATION,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HAS_PRIORITY,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    ErrorCode,
    frame,
)
from batchproxy.wire.headers import literal
from tests.http2_errors import CANCEL, CONNECTION_ERRORS, MALFORMED, STREAM_ERRORS, Before, Then, ended, opened, setting
from tests.http2_peer import CALL, GET, Peer, data, goaway_of, prefixed, resets_of


@pytest.mark.parametrize(("cut", "fast"), [(False, True), (True, True), (False, False)], ids=["whole", "cut", "slow"])
@pytest.mark.parametrize(
    ("case", "before", "then", "code"), CONNECTION_ERRORS, ids=[row[0] for row in CONNECTION_ERRORS]
)
def test_connection_errors(case: str, before: Before, then: Then, code: ErrorCode, *, cut: bool, fast: bool) -> None:
    """The connection ends with GOAWAY and this code, however the bytes come, and exchanges are told."""
    peer = Peer(fast=fast)
    gone: list[int] = []
    waiting = peer.send(before(peer))
    for exchange in waiting:
        exchange.on_cancel = lambda: gone.append(1)
    raw = then(peer)
    found = [peer.send(raw[at : at + 1]) for at in range(len(raw))] if cut else [peer.send(raw)]
    code_said, reason = goaway_of(peer.read())

    assert code == code_said
    assert reason
    assert peer.server.closing
    assert [] == [exchange for exchanges in found for exchange in exchanges]
    assert len(waiting) == len(gone)
    assert [] == peer.send(peer.call(stream=99))


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "slow"])
@pytest.mark.parametrize(("case", "before", "then", "code"), STREAM_ERRORS, ids=[row[0] for row in STREAM_ERRORS])
def test_stream_errors(case: str, before: Before, then: Then, code: ErrorCode, *, fast: bool) -> None:
    """The stream ends with RST_STREAM and this code, its exchange is told, and the connection goes on."""
    peer = Peer(fast=fast)
    gone: list[int] = []
    for exchange in peer.send(before(peer)):
        exchange.on_cancel = lambda: gone.append(1)
    found = peer.send(then(peer))
    said = peer.read()
    peer.next = 3

    assert [] == found
    assert [(1, code)] == resets_of(said)
    assert ([1] if before is ended else []) == gone
    assert not peer.server.closing
    assert b"question" == peer.ask().message


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "slow"])
@pytest.mark.parametrize(("case", "fields"), MALFORMED, ids=[row[0] for row in MALFORMED])
def test_malformed_requests(case: str, fields: list[tuple[str, str]], *, fast: bool) -> None:
    """A malformed request is reset, at the second sight as at the first; the next one is served."""
    peer = Peer(fast=fast)
    block = b"".join(literal(name.encode(), value.encode()) for name, value in fields)
    for stream in (1, 3):
        found = peer.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, block))

        assert [] == found
        assert [(stream, ErrorCode.PROTOCOL_ERROR)] == resets_of(peer.read())
    peer.next = 5

    assert b"question" == peer.ask().message


@pytest.mark.parametrize(("case", "fields"), MALFORMED[2:22], ids=[row[0] for row in MALFORMED[2:22]])
def test_malformed_calls(case: str, fields: list[tuple[str, str]]) -> None:
    """The same with a gRPC call, whose like was served before."""
    peer = Peer()
    peer.ask()
    wrong = [CALL[[name for name, _ in GET].index(field[0])] if field in GET else field for field in fields]
    block = b"".join(literal(name.encode(), value.encode()) for name, value in [*wrong, *CALL[4:]])
    for stream in (3, 5):
        found = peer.send(frame(HEADERS, END_HEADERS, stream, block), data(stream, prefixed(b"x"), END_STREAM))

        assert [] == found
        assert [(stream, ErrorCode.PROTOCOL_ERROR)] == resets_of(peer.read())


@pytest.mark.parametrize("first", [frame(PING, 0, 0, bytes(8)), frame(SETTINGS, ACK, 0, b""), frame(77, 0, 0, b"")])
def test_settings_come_first(first: bytes) -> None:
    """3.4: whatever follows the preface, if it is not SETTINGS, ends the connection."""
    peer = Peer(greet=False)
    peer.send(PREFACE, first)

    assert ErrorCode.PROTOCOL_ERROR == goaway_of(peer.read())[0]


def test_trailers_end_a_request() -> None:
    """8.1: fields after the body end it, and are overlooked."""
    peer = Peer()
    (call,) = peer.send(opened(peer), data(1, prefixed(b"x" * 80)), peer.headers((("a", "b"),), 1, 5))

    assert b"x" * 80 == call.message


@pytest.mark.parametrize("pieces", [1, 2, 5])
def test_a_block_in_pieces(pieces: int) -> None:
    """6.10: HEADERS and CONTINUATION, with priority and padding, make one block."""
    peer = Peer()
    block = peer.block(CALL)
    cuts = [len(block) * index // pieces for index in range(pieces + 1)]
    parts = [block[start:end] for start, end in pairwise(cuts)]
    raw = frame(
        HEADERS,
        PADDED | HAS_PRIORITY | (END_HEADERS if pieces == 1 else 0),
        1,
        b"\x03" + bytes(5) + parts[0] + bytes(3),
    )
    for index, part in enumerate(parts[1:], 2):
        raw += frame(CONTINUATION, END_HEADERS if index == pieces else 0, 1, part)
    (call,) = peer.send(raw, data(1, b"\x04" + prefixed(b"x") + bytes(4), END_STREAM | PADDED))

    assert b"x" == call.message
    assert [] == peer.read()


def test_pings_are_answered() -> None:
    """6.7: with the same eight bytes, in order."""
    peer = Peer()
    peer.send(frame(PING, 0, 0, b"abcdefgh"), frame(PING, 0, 0, b"12345678"))

    assert [(PING, ACK, 0, b"abcdefgh"), (PING, ACK, 0, b"12345678")] == peer.read()


def test_what_is_overlooked() -> None:
    """Unknown frames and settings, PRIORITY, GOAWAY, late resets and window updates of a closed stream."""
    peer = Peer()
    peer.ask().answer(0, "", b"")
    peer.read()
    peer.send(
        frame(77, 255, 3, b"what"),
        frame(PRIORITY, 0, 3, bytes(5)),
        frame(GOAWAY, 0, 0, bytes(8)),
        frame(RST_STREAM, 0, 1, CANCEL),
        frames.window_update(1, 5),
        setting(99, 1),
    )

    assert [(SETTINGS, ACK, 0, b"")] == peer.read()


def test_after_our_reset_late_frames_are_no_fault() -> None:
    """5.1: what was under way when the peer heard of our RST_STREAM is dropped, and keeps the table right."""
    peer = Peer()
    peer.send(peer.headers((*GET, ("X", "1")), peer.take()))
    peer.read()
    found = peer.send(data(1, bytes(100)), peer.headers((("late", "field"),), 1, 5))

    assert [] == found
    assert [] == peer.read()
    assert "field" == peer.ask(b"q", ("late", "field")).metadata["late"]


def test_the_reserved_bit_is_overlooked() -> None:
    """4.1: the highest bit of a stream's id means nothing."""
    peer = Peer()
    raw = bytearray(peer.call())
    raw[5] |= 0x80

    assert [b"question"] == [call.message for call in peer.send(bytes(raw))]
