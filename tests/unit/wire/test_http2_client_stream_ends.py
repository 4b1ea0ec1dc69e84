"""Streamed calls of our client: ends of every kind; by a scripted server."""

from __future__ import annotations

import dataclasses

import pytest

from batchproxy.wire import frames
from batchproxy.wire.frames import DATA, END_STREAM, HEADERS, RST_STREAM, ErrorCode
from batchproxy.wire.http2_client_call import Fate
from batchproxy.wire.http2_client_stream import AGAIN_BYTES
from batchproxy.wire.http2_messages import HIGH_BYTES
from tests.http2_host import DONE, GOOD, rst
from tests.http2_peer import prefixed
from tests.http2_talks import SMALL, Talks, Told, end_of, taken

# -- ends ------------------------------------------------------------------------------------------


def test_a_refusal_is_trailers_only() -> None:
    """Told with its metadata; our side is broken off."""
    host = Talks()
    call = host.begin(b"1")
    host.hear()
    over = host.say(host.headers((*GOOD, ("grpc-status", "7"), ("grpc-message", "50%25"), ("t", "1")), ends=True))

    assert [call] == over
    assert (Fate.STATUS, 7, "50%") == end_of(call)
    assert ((), (("t", "1"),), True) == (call.headers, call.trailers, call.deaf)
    assert [(RST_STREAM, 1)] == [(frame.kind, frame.stream) for frame in host.hear()]


def test_the_server_may_end_before_we_do() -> None:
    """What is still to be sent is not, and the server is told; its own reset that follows is no fault."""
    host = Talks(greet=[(frames.INITIAL_WINDOW_SIZE, 0)])
    call = host.begin(bytes(HIGH_BYTES))
    told = Told(call)
    waiting = call.send(b"more")
    host.hear()
    host.say(host.headers(GOOD), host.data(b"enough"), host.headers((("grpc-status", "15"),), ends=True), rst(0))
    writable = told.writable
    call.send(b"later")
    host.say(frames.window_update(1, 1 << 20))

    found = taken(call)
    host.client.account()

    assert (False, 1, True) == (waiting, writable, call.deaf)
    assert ([b"enough"], 15) == (found, call.code)
    assert [RST_STREAM] == [frame.kind for frame in host.hear() if frame.stream]
    assert not host.client.closing
    assert 0 == host.budget.held


@pytest.mark.parametrize(
    ("said", "fate", "code"),
    [
        pytest.param(rst(2), Fate.LOST, 2, id="INTERNAL_ERROR"),
        pytest.param(rst(8), Fate.LOST, 8, id="CANCEL"),
        pytest.param(frames.frame(DATA, 0, 1, b"x"), Fate.STATUS, 13, id="DATA before the head"),
        pytest.param(frames.frame(DATA, END_STREAM, 1, b""), Fate.STATUS, 13, id="an end without a head"),
    ],
)
def test_bad_ends(said: bytes, fate: Fate, code: int) -> None:
    """As of unary calls."""
    host = Talks()
    call = host.begin(b"1")

    assert [call] == host.say(said)
    assert (fate, code) == (call.fate, call.code)


@pytest.mark.parametrize(
    ("payload", "ends", "code"),
    [
        (prefixed(b"abc")[:-1], True, 13),
        (prefixed(b"x", 1), False, 13),
        ((0).to_bytes(1, "big") + (1 << 20).to_bytes(4, "big"), False, 8),
    ],
    ids=["an end within a message", "compressed in nobody knows what", "too long"],
)
def test_answers_that_are_none(payload: bytes, ends: bool, code: int) -> None:
    """The call ends with a status of our own."""
    host = Talks(dataclasses.replace(SMALL, message_bytes=1000))
    call = host.begin()
    script = [host.headers(GOOD), frames.frame(DATA, 0, 1, payload)]
    over = host.say(*script, *([host.headers(DONE, ends=True)] if ends else []))

    assert [call] == over
    assert (Fate.STATUS, code) == (call.fate, call.code)


def test_an_answer_of_a_gateway() -> None:
    """HTTP's status is all there is; its text is no message."""
    host = Talks()
    call = host.begin(finished=True)
    host.say(host.headers(((":status", "503"),)), frames.frame(DATA, END_STREAM, 1, b"<html>sorry</html>"))

    assert (Fate.STATUS, 14, []) == (call.fate, call.code, taken(call))


def test_a_deadline() -> None:
    """Told to the server; when it is over, what came may still be taken."""
    host = Talks()
    call = host.begin(timeout_s=2.0)
    (head,) = host.hear()
    host.say(host.headers(GOOD), host.data(b"1"))
    over = host.client.tick(host.client.due())

    assert ("grpc-timeout", "2000000u") in host.fields(head.payload)
    assert ([call], Fate.STATUS, 4, [b"1"]) == (over, call.fate, call.code, taken(call))
    assert [RST_STREAM] == [frame.kind for frame in host.hear()]


def test_a_lost_connection() -> None:
    """What was sent may have run, what waits did not."""
    host = Talks(greet=[(frames.MAX_CONCURRENT_STREAMS, 1)])
    sent, waiting = host.begin(b"1"), host.begin(b"2")
    over = host.client.lost("broken")

    assert {sent, waiting} == set(over)
    assert [(Fate.LOST, 0, "broken"), (Fate.NOT_RUN, 0, "broken")] == [end_of(sent), end_of(waiting)]


# -- what the server did not look at ----------------------------------------------------------------


def test_a_call_that_did_not_run_remembers_what_was_sent() -> None:
    """And what is sent meanwhile, for another connection."""
    host = Talks()
    call = host.begin(b"1")
    call.send(b"2", compressed=True)
    host.say(frames.goaway(0, ErrorCode.NO_ERROR, ""))
    call.send(b"3")
    call.finish()
    remembered = call.sent()
    assert remembered is not None
    other = Talks()
    again = other.begin()
    again.repeat(*remembered[:1], finished=remembered[1])

    assert (Fate.NOT_RUN, False) == (call.fate, call.deaf)
    assert prefixed(b"1") + prefixed(b"2", 1) + prefixed(b"3") == b"".join(data for _, data in other.bodies())
    assert {} == other.client.requests.outlet.streams


@pytest.mark.parametrize("why", ["too much", "a head came"])
def test_what_is_remembered_is_bounded(why: str) -> None:
    """By length, and by the server's first word."""
    host = Talks()
    call = host.begin(b"1")
    if why == "too much":
        call.send(bytes(AGAIN_BYTES))
    else:
        host.say(host.headers(GOOD))
    before = call.sent()
    host.say(frames.goaway(0, ErrorCode.NO_ERROR, ""))

    assert (None, Fate.NOT_RUN, True) == (before, call.fate, call.deaf)


@pytest.mark.parametrize("remembers", [True, False])
def test_a_refused_stream_is_offered_again(remembers: bool) -> None:
    """Where the server said how many it takes, and all that was sent is still there."""
    host = Talks(greet=[(frames.MAX_CONCURRENT_STREAMS, 2)])
    call = host.begin(b"1", finished=True) if remembers else host.begin(bytes(AGAIN_BYTES))
    host.hear()
    over = host.say(rst(ErrorCode.REFUSED_STREAM))
    said = [(frame.kind, frame.stream) for frame in host.hear() if frame.kind in {HEADERS, DATA}]
    over += host.say(host.headers(GOOD, 3), host.headers(DONE, 3, ends=True)) if remembers else []

    assert [call] == over
    assert (Fate.STATUS if remembers else Fate.NOT_RUN) is call.fate
    assert (remembers, 3 if remembers else 1) == ((HEADERS, 3) in said, call.id)
