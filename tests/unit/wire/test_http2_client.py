"""The client's end of a connection: bytes, frames, time and faults, with a scripted server at the other end."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.wire import frames
from batchproxy.wire.frames import ErrorCode
from batchproxy.wire.http2_client import CLIENT_LIMITS, MAX_FRAME_BYTES, Http2Client
from batchproxy.wire.http2_client_call import Call, Fate
from batchproxy.wire.http2_client_calls import MAX_ID
from tests.http2_host import DONE, GOOD, METHOD, Host, codes, cuts, rst
from tests.http2_peer import Frame, split

ACK = frames.frame(frames.SETTINGS, frames.ACK, 0, b"")


def ended(calls: list[Call]) -> list[tuple[Fate | None, int, bytes | None]]:
    """What became of calls."""
    return [(call.fate, call.code, call.message) for call in calls]


def test_a_client_says_first_what_it_is() -> None:
    """The preface, settings that refuse pushes and open windows widely, and the connection's window."""
    host = Host(greet=None)
    settings, window = split(host.preface.removeprefix(frames.PREFACE))

    assert host.preface.startswith(frames.PREFACE)
    assert frames.settings(
        (frames.ENABLE_PUSH, 0),
        (frames.INITIAL_WINDOW_SIZE, 16 << 20),
        (frames.MAX_FRAME_SIZE, MAX_FRAME_BYTES),
        (frames.MAX_HEADER_LIST_SIZE, 1 << 20),
    ) == frames.frame(*settings)
    assert frames.window_update(0, (16 << 20) - 65_535) == frames.frame(*window)


def test_no_call_before_the_server_has_greeted() -> None:
    """Until then it is not known whether anybody is there; to call all the same is a bug."""
    host = Host(greet=None)
    with pytest.raises(RuntimeError, match="This is a bug"):
        host.start()
    before = host.client.usable
    host.say(frames.settings())

    assert (False, True) == (before, host.client.usable)
    assert [Frame(frames.SETTINGS, frames.ACK, 0, b"")] == host.hear()


def test_a_call_is_two_frames_and_its_answer_three() -> None:
    """The usual case; the next call is on the next stream."""
    host = Host()
    call = host.start(b"question", 0.25)
    head, data = host.hear()
    over = host.say(host.answer())
    host.start()

    assert (frames.HEADERS, frames.END_HEADERS, 1) == head[:3]
    assert [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", METHOD),
        (":authority", "host:1"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("user-agent", "batchproxy"),
        ("grpc-accept-encoding", "identity, deflate, gzip"),
        ("grpc-timeout", "250000u"),
    ] == host.fields(head.payload)
    assert Frame(frames.DATA, frames.END_STREAM, 1, b"\0\0\0\0\x08question") == data
    assert [call] == over
    assert [(Fate.STATUS, 0, b"answer")] == ended(over)
    assert [3, 3] == [frame.stream for frame in host.hear()]


def test_over_tls_the_scheme_says_so() -> None:
    """The other scheme."""
    host = Host(scheme="https")
    host.start()
    head, _ = host.hear()

    assert (":scheme", "https") in host.fields(head.payload)


@given(size=st.integers(1, 40))
def test_answers_cut_anywhere_are_the_same(size: int) -> None:
    """Frames do not come as they were sent; padding, CONTINUATION and what is to be overlooked among them."""
    host = Host(greet=None)
    block = host.encoder.encode([*GOOD, ("a", "1")])
    script = b"".join(
        (
            frames.settings((frames.MAX_CONCURRENT_STREAMS, 10)),
            frames.frame(0xEE, 0, 0, b"of the future"),
            frames.frame(frames.HEADERS, 0, 1, block[:2]),
            frames.frame(frames.CONTINUATION, frames.END_HEADERS, 1, block[2:]),
            frames.frame(frames.PING, 0, 0, b"12345678"),
            frames.frame(frames.DATA, frames.PADDED, 1, b"\x02\0\0\0\0\x03on\0\0"),
            frames.frame(frames.PRIORITY, 0, 1, bytes(5)),
            frames.frame(frames.DATA, 0, 1, b"e"),
            host.headers(DONE, ends=True),
        )
    )
    greeting, rest = script[:15], script[15:]
    for piece in cuts(greeting, size):
        host.say(piece)
    call = host.start()
    over = [done for piece in cuts(rest, size) for done in host.say(piece)]
    heard = {frame.kind for frame in host.hear()}

    assert [call] == over
    assert [(Fate.STATUS, 0, b"one")] == ended(over)
    assert (("a", "1"),) == call.headers
    assert {frames.SETTINGS, frames.PING, frames.HEADERS, frames.DATA} == heard


# ---------------------------------------------------------------- the server's settings


def test_calls_beyond_what_the_server_takes_wait_their_turn() -> None:
    """MAX_CONCURRENT_STREAMS, and a change of it."""
    host = Host(greet=[(frames.MAX_CONCURRENT_STREAMS, 1)])
    calls = [host.start() for _ in range(4)]
    first = {frame.stream for frame in host.hear()}
    over = host.say(host.answer())
    second = {frame.stream for frame in host.hear()}
    host.say(frames.settings((frames.MAX_CONCURRENT_STREAMS, 5)))
    rest = {frame.stream for frame in host.hear()} - {0}

    assert ({1}, {3}, {5, 7}) == (first, second, rest)
    assert calls[:1] == over
    assert "<Http2Client <Calls 3 sent, 0 waiting, the next is 9>>" == repr(host.client)


def test_a_long_request_goes_as_the_servers_windows_allow() -> None:
    """Its stream's window, the connection's, a change in between, and its frame size."""
    host = Host(greet=[(frames.INITIAL_WINDOW_SIZE, 10)])
    call = host.start(bytes(100_000))
    pieces = [frame for frame in host.hear() if frame.kind == frames.DATA]
    host.say(frames.settings((frames.INITIAL_WINDOW_SIZE, 20), (frames.MAX_FRAME_SIZE, 20_000)))
    pieces += [frame for frame in host.hear() if frame.kind == frames.DATA]
    host.say(frames.window_update(1, 200_000))
    pieces += host.hear()
    before = sum(len(frame.payload) for frame in pieces)
    host.say(frames.window_update(0, 200_000))
    pieces += host.hear()

    assert [10, 10, 20_000, 20_000, 20_000, 5_515, 20_000, 14_470] == [len(frame.payload) for frame in pieces]
    assert 65_535 == before
    assert [0] * 7 + [frames.END_STREAM] == [frame.flags for frame in pieces]
    assert [call] == host.say(host.answer())


def test_a_server_whose_table_is_smaller_is_told_that_ours_is() -> None:
    """RFC 7541, 4.2: a size update begins the next block, and no other."""
    host = Host(greet=[(frames.HEADER_TABLE_SIZE, 0)])
    host.start()
    host.start()
    first, second = (frame for frame in host.hear() if frame.kind == frames.HEADERS)

    assert b"\x20" == first.payload[:1]
    assert first.payload[1:] == second.payload


# ---------------------------------------------------------------- time


def test_a_call_whose_time_is_over_ends_and_is_cancelled() -> None:
    """Whether it was sent or waits; others go on."""
    host = Host(greet=[(frames.MAX_CONCURRENT_STREAMS, 2)])
    calls = [host.start(timeout_s=timeout_s) for timeout_s in (1.0, None, 0.5)]
    host.hear()
    due = host.client.due()
    over = host.client.tick(0.5)
    later = host.client.due()
    over += host.client.tick(0.9)
    over += host.client.tick(1.0)

    assert (0.5, 1.0) == (due, later)
    assert [calls[2], calls[0]] == over
    assert [(Fate.STATUS, 4, "Deadline Exceeded")] * 2 == [(call.fate, call.code, call.text) for call in over]
    assert [(frames.RST_STREAM, 1)] == [(frame.kind, frame.stream) for frame in host.hear()]
    assert 330.0 == host.client.due()


def test_a_silent_server_is_asked_and_an_answer_is_enough() -> None:
    """Keep-alive, while calls are under way."""
    host = Host()
    call = host.start()
    host.hear()
    host.client.tick(330.0)
    (ping,) = host.hear()
    host.now = 340.0
    host.say(frames.frame(frames.PING, frames.ACK, 0, ping.payload))
    host.client.tick(350.0)

    assert frames.PING == ping.kind
    assert [] == host.hear()
    assert 670.0 == host.client.due()
    assert [call] == host.say(host.answer())


def test_a_server_that_does_not_answer_a_ping_is_gone() -> None:
    """Its calls may have run; the connection is of no further use."""
    host = Host()
    call = host.start()
    host.client.tick(330.0)
    over = host.client.tick(350.0)

    assert [call] == over
    assert (Fate.LOST, True, False) == (call.fate, host.client.closing, host.client.usable)
    assert "keepalive" in call.text
    assert [] == host.client.tick(1000.0)


def test_nobody_asks_an_idle_server() -> None:
    """Pings without calls count as abuse; silence counts from the next call."""
    host = Host()
    host.start()
    host.say(host.answer())
    host.hear()
    host.client.tick(330.0)
    idle = host.client.due()
    host.now = 1000.0
    host.start()

    assert (float("inf"), 1330.0) == (idle, host.client.due())


# ---------------------------------------------------------------- ends


@pytest.mark.parametrize("last", [0, 1, 3, frames.STREAM_MASK])
def test_goaway_tells_which_calls_did_not_run(last: int) -> None:
    """Those above the last stream, and those not sent; the others go on to their end, and so does the connection."""
    host = Host(greet=[(frames.MAX_CONCURRENT_STREAMS, 2)])
    calls = [host.start() for _ in range(3)]
    host.hear()
    over = host.say(frames.goaway(last, ErrorCode.NO_ERROR, "see you"))
    usable, closing = host.client.usable, host.client.closing
    for call in calls[:2]:
        if call.fate is None:
            over += host.say(host.answer(stream=call.id))
    host.hear()

    assert set(calls) == set(over)
    assert [Fate.NOT_RUN if call.id > last or not call.id else Fate.STATUS for call in calls] == [
        call.fate for call in calls
    ]
    assert "GOAWAY received: error 0, see you" == calls[2].text == host.client.reason
    assert (False, False, True) == (usable, closing, host.client.closing)


def test_a_connection_without_streams_left_ends_with_its_calls() -> None:
    """The highest id is taken; what waits goes on another connection."""
    host = Host(greet=[(frames.MAX_CONCURRENT_STREAMS, 1)])
    host.client.requests.next = MAX_ID - 2
    calls = [host.start() for _ in range(3)]
    over = host.say(host.answer(stream=MAX_ID - 2))
    host.hear()
    usable, closing = host.client.usable, host.client.closing
    over += host.say(host.answer(stream=MAX_ID))
    host.hear()

    assert (False, False, True) == (usable, closing, host.client.closing)
    assert [(Fate.STATUS, ""), (Fate.STATUS, ""), (Fate.NOT_RUN, "the connection has no stream left")] == [
        (call.fate, call.text) for call in calls
    ]
    assert set(calls) == set(over)


def test_a_lost_connection_loses_what_was_sent() -> None:
    """What was not sent did not run."""
    host = Host(greet=[(frames.MAX_CONCURRENT_STREAMS, 1)])
    sent, waiting = host.start(), host.start()
    over = host.client.lost("broken")

    assert [waiting, sent] == over
    assert [Fate.NOT_RUN, Fate.LOST] == [call.fate for call in over]
    assert ["broken", "broken"] == [call.text for call in over]
    assert ([], []) == (host.hear(), host.say(b"whatever"))
    assert "<Http2Client <Calls 0 sent, 0 waiting, the next is 3>, closing>" == repr(host.client)


SETTINGS = frames.settings()


@pytest.mark.parametrize(
    ("said", "code"),
    [
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", 1, id="another protocol"),
        pytest.param(frames.frame(frames.PING, 0, 0, bytes(8)), 1, id="not SETTINGS first"),
        pytest.param(SETTINGS + bytes([255, 255, 255, 0, 0, 0, 0, 0, 1]), 6, id="a frame too long"),
        pytest.param(SETTINGS + frames.frame(frames.PUSH_PROMISE, 4, 1, bytes(5)), 1, id="a push"),
        pytest.param(frames.settings((frames.ENABLE_PUSH, 1)), 1, id="a server that takes pushes"),
        pytest.param(frames.settings((frames.INITIAL_WINDOW_SIZE, 1 << 31)), 3, id="a window too wide"),
        pytest.param(SETTINGS + frames.frame(frames.HEADERS, 4, 2, b"\x88"), 1, id="HEADERS on a pushed stream"),
        pytest.param(SETTINGS + frames.frame(frames.HEADERS, 4, 7, b"\x88"), 1, id="HEADERS on an idle stream"),
        pytest.param(SETTINGS + frames.frame(frames.DATA, 0, 7, b"x"), 1, id="DATA on an idle stream"),
        pytest.param(SETTINGS + rst(0, 7), 1, id="RST_STREAM on an idle stream"),
        pytest.param(SETTINGS + frames.frame(frames.HEADERS, 4, 1, b"\xff"), 9, id="a broken header block"),
        pytest.param(SETTINGS + frames.window_update(0, 0), 1, id="a window update by 0"),
        pytest.param(SETTINGS + frames.frame(frames.PING, 0, 0, bytes(8)) * 2000, 11, id="a flood of PINGs"),
        pytest.param(SETTINGS + frames.frame(frames.DATA, 0, 1, b"") * 2000, 11, id="a flood of empty DATA"),
        pytest.param(SETTINGS + frames.frame(frames.GOAWAY, 0, 0, b""), 6, id="GOAWAY too short"),
    ],
)
def test_faults_of_the_connection(said: bytes, code: int) -> None:
    """The server is told why, calls are lost, and nothing more is read."""
    host = Host(greet=None)
    greeted = said.startswith(SETTINGS)
    calls = []
    if greeted:
        host.say(SETTINGS)
        calls = [host.start()]
        host.say(host.headers(GOOD))
    over = host.say(said.removeprefix(SETTINGS))

    assert calls == over
    assert all(call.fate is Fate.LOST and call.text == host.client.reason for call in calls)
    assert [ErrorCode(code)] == codes(host.hear())
    assert (True, False) == (host.client.closing, host.client.usable)
    assert host.client.reason


def test_a_million_frames_of_honest_work_are_no_flood() -> None:
    """What answers earn pays for the pings and updates that come with them."""
    host = Host()
    for number in range(2000):
        host.start()
        stream = 2 * number + 1
        over = host.say(
            frames.frame(frames.PING, 0, 0, bytes(8)), frames.window_update(0, 8), host.answer(stream=stream)
        )
        assert [(Fate.STATUS, 0, b"answer")] == ended(over)
    host.hear()

    assert not host.client.closing


def test_windows_open_again_as_answers_come() -> None:
    """The connection's at its half; a stream's by what its message needs, which its first frame tells."""
    limits = dataclasses.replace(CLIENT_LIMITS, window_bytes=100, connection_window_bytes=70_000)
    host = Host(limits)
    call = host.start()
    host.hear()
    host.say(host.headers(GOOD), frames.frame(frames.DATA, 0, 1, (0).to_bytes(1, "big") + (50_000).to_bytes(4, "big")))
    (update,) = host.hear()
    host.say(frames.frame(frames.DATA, 0, 1, bytes(40_000)))
    (whole,) = host.hear()
    over = host.say(frames.frame(frames.DATA, 0, 1, bytes(10_000)), host.headers(DONE, ends=True))

    assert (frames.WINDOW_UPDATE, 1) == (update.kind, update.stream)
    assert int.from_bytes(update.payload, "big") >= 50_000 - 95
    assert (frames.WINDOW_UPDATE, 0) == (whole.kind, whole.stream)
    assert [call] == over
    assert bytes(50_000) == call.message


def test_a_client_without_a_server_has_nothing_due() -> None:
    """Nobody waits for it."""
    assert float("inf") == Http2Client("h", 0.0).due()
