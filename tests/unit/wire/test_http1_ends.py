"""The server's end of HTTP/1.1, when time passes, callers leave, and we do."""

from __future__ import annotations

import pytest

from batchproxy.wire.base import Limits
from batchproxy.wire.http1_exchange import Http1Exchange
from tests.http1_messages import JSON, connect, request, told

# ---------------------------------------------------------------- time

TIMES = Limits(idle_s=75, head_s=20, body_s=20, body_rate=500)


def test_an_idle_connection_ends_without_a_word() -> None:
    """After ``idle_s`` without a request."""
    connection = connect(TIMES, now=100.0)
    due = connection.due()
    connection.tick(174.9)
    kept = connection.closing
    connection.tick(175.0)

    assert 175.0 == due
    assert (False, True) == (kept, connection.closing)
    assert b"" == connection.output()


def test_a_request_under_way_is_waited_for_without_end() -> None:
    """Its time limits are others' business; the idle time begins with its answer."""
    connection = connect(TIMES)
    (exchange,) = connection.feed(request(), 0.0)
    waiting = connection.due()
    exchange.answer(200, b"", JSON)
    answered = connection.due()
    connection.tick(500.0)

    assert waiting is None
    assert answered is not None
    assert answered <= 500.0
    assert 575.0 == connection.due()


def test_a_slow_head_is_told_so() -> None:
    """``head_s`` after its first byte, however busily it trickles."""
    connection = connect(TIMES)
    for second in range(20):
        _ = connection.feed(b"P" if second == 0 else b"O", 100.0 + second)
    due = connection.due()
    connection.tick(120.0)

    assert 120.0 == due
    assert 408 == told(connection)[0]
    assert connection.closing


def test_a_slow_body_is_told_so() -> None:
    """500 bytes buy a second."""
    connection = connect(TIMES)
    _ = connection.feed(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9999\r\n\r\n", 100.0)
    due = [connection.due()]
    _ = connection.feed(b"x" * 1000, 110.0)
    due.append(connection.due())
    connection.tick(122.0)

    assert [120.0, 122.0] == due
    assert 408 == told(connection)[0]


def test_no_clock_runs_for_what_we_do_not_read() -> None:
    """A beginning that waits behind a full connection is no slow sender."""
    connection = connect(Limits(pipelined=1))
    (exchange,) = connection.feed(request(b"1") + b"POST", 0.0)
    held = connection.due()
    exchange.answer(200, b"", JSON)
    connection.tick(1000.0)
    nothing = connection.feed(b"", 1000.0)

    assert held is None
    assert [] == nothing
    assert 1020.0 == connection.due()


# ---------------------------------------------------------------- ends


@pytest.mark.parametrize("end", ["eof", "lost"])
def test_whoever_leaves_is_not_worked_for(end: str) -> None:
    """All of its requests are cancelled; what was answered before an eof may still be written."""
    connection = connect()
    first, second = connection.feed(request(b"1") + request(b"2") + b"POST", 0.0)
    cancelled: list[Http1Exchange] = []
    second.on_cancel = lambda: cancelled.append(second)
    first.answer(200, b"one", JSON)
    if end == "eof":
        connection.eof(1.0)
    else:
        connection.lost()
    second.answer(200, b"two", JSON)

    assert [second] == cancelled
    assert connection.closing
    assert connection.due() is None
    assert (end == "eof") == connection.output().endswith(b"one")
    assert [] == connection.feed(request(), 2.0)


def test_draining_ends_with_the_answers_under_way() -> None:
    """The last one says so; nothing more is taken in."""
    connection = connect()
    first, second = connection.feed(request(b"1") + request(b"2"), 0.0)
    connection.drain(1.0)
    late = connection.feed(request(b"3"), 1.0)
    second.answer(200, b"two", JSON)
    first.answer(200, b"one", JSON)
    answers = connection.output().split(b"HTTP/1.1 200")[1:]

    assert [] == late
    assert [False, True] == [b"Connection: close" in answer for answer in answers]
    assert connection.closing


@pytest.mark.parametrize("before", [0, 10, len(request(b"1")) - 1])
def test_a_draining_connection_answers_one_more_request(before: int) -> None:
    """That may have been on its way, or half here."""
    connection = connect()
    _ = connection.feed(request(b"1")[:before], 0.0)
    connection.drain(1.0)
    (exchange,) = connection.feed(request(b"1")[before:] + request(b"2"), 1.0)
    exchange.answer(200, b"one", JSON)

    assert b"Connection: close" in connection.output()
    assert connection.closing
