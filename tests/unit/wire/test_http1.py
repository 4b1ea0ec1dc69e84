"""The server's end of HTTP/1.1, driven without a socket: what comes out for what goes in, however it is cut."""

from __future__ import annotations

import gzip

import pytest

from batchproxy.wire.base import Limits
from batchproxy.wire.http1 import MAX_BLANK_LINES
from batchproxy.wire.unpack import QUICK_TEXT_BYTES
from tests.http1_messages import JSON, connect, request, told

# ---------------------------------------------------------------- requests


def test_a_whole_request_is_taken_in_one_read() -> None:
    """Method, path, fields and body, as sent."""
    connection = connect()
    (exchange,) = connection.feed(request(b"{}", "X-Y: a", "x-y: b", method="PUT"), 0.0)

    assert ("PUT", "/v1/x", b"{}") == (exchange.method, exchange.path, exchange.body)
    assert "a, b" == exchange.headers.get("X-y")
    assert "<Http1Exchange PUT /v1/x, 2 bytes>" == repr(exchange)


def test_the_answer_is_head_and_body() -> None:
    """Once it is in the output it is gone from the connection, which stays open."""
    connection = connect()
    (exchange,) = connection.feed(request(b"{}"), 0.0)
    exchange.answer(200, b"[1]", JSON)

    assert b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 3\r\n\r\n[1]" == connection.output()
    assert b"" == connection.output()
    assert not connection.closing


def test_path_and_query_stay_as_they_were_sent() -> None:
    """Nothing is decoded."""
    (exchange,) = connect().feed(b"GET /v1/a%2Fb?x=%00#f HTTP/1.1\r\nHost: h\r\n\r\n", 0.0)

    assert "/v1/a%2Fb?x=%00#f" == exchange.path


@pytest.mark.parametrize(
    ("text", "body"),
    [
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"5;name=value\r\nhello\r\n006\r\n world\r\n0;last\r\nTrailer: dropped\r\n\r\n", b"hello world"),
        (b"0\r\n\r\n", b""),
    ],
)
def test_chunked_bodies_are_joined(text: bytes, body: bytes) -> None:
    """Extensions and trailers are dropped; the next request is found after them."""
    head = request(b"", "Transfer-Encoding: chunked")
    exchanges = connect().feed(head + text + request(b"next"), 0.0)

    assert [body, b"next"] == [exchange.body for exchange in exchanges]


def test_gzip_bodies_are_inflated() -> None:
    """Whatever else the coding's name says; libevent's server looks for the word, too."""
    exchanges = [
        exchange
        for coding in ("gzip", "x-gzip")
        for exchange in connect().feed(request(gzip.compress(b"text"), f"Content-Encoding: {coding}"), 0.0)
    ]

    assert [b"text", b"text"] == [exchange.body for exchange in exchanges]


def test_a_large_compressed_body_is_left_to_others() -> None:
    """Who may take their time over it; a bomb is none of them."""
    text = b"x" * (QUICK_TEXT_BYTES + 1)
    limits = Limits(inflated_bytes=len(text))
    file, bomb = gzip.compress(text), gzip.compress(text + b"x")
    fields = "Content-Encoding: gzip"
    large, empty = connect(limits).feed(request(file, fields) + request(bomb, fields), 0.0)
    compressed = large.compressed, empty.compressed
    for exchange in (large, empty):
        exchange.inflate(limits.inflated_bytes)

    assert (True, True) == compressed
    assert (text, b"") == (large.body, empty.body)
    assert not large.compressed


def test_empty_lines_before_a_request_are_passed_over() -> None:
    """But not without end."""
    few = b"\r\n" * MAX_BLANK_LINES
    connection = connect()
    exchanges = connection.feed(few + request(b"a") + few + request(b"b"), 0.0)
    refused = connect()
    none = refused.feed(few + b"\r\n" + request(b"a"), 0.0)

    assert [b"a", b"b"] == [exchange.body for exchange in exchanges]
    assert not none
    assert 400 == told(refused)[0]


# ---------------------------------------------------------------- 100-continue


def test_the_body_is_asked_for_where_it_is_awaited() -> None:
    """Once, and not where it is there already or empty."""
    connection = connect()
    awaited = request(b"body", "Expect: 100-Continue")
    head, body = awaited[:-4], awaited[-4:]
    nothing = connection.feed(head, 0.0)
    asked = connection.output()
    (exchange,) = connection.feed(body, 0.0)
    unasked = connect()
    both = unasked.feed(awaited + request(b"", "Expect: 100-continue"), 0.0)

    assert [] == nothing
    assert b"HTTP/1.1 100 Continue\r\n\r\n" == asked
    assert b"body" == exchange.body
    assert 2 == len(both)
    assert b"" == connection.output() + unasked.output()


def test_it_is_asked_for_after_the_answers_before() -> None:
    """Else the caller would take it for the answer to its first request."""
    connection = connect()
    awaited = request(b"body", "Expect: 100-continue")
    (first,) = connection.feed(request(b"1") + awaited[:-4], 0.0)
    silence = connection.output()
    first.answer(200, b"one", JSON)
    answer = connection.output()

    assert b"" == silence
    assert answer.endswith(b"\r\n\r\noneHTTP/1.1 100 Continue\r\n\r\n")


def test_a_body_that_came_unasked_is_not_asked_for_later() -> None:
    """The caller did not wait while an earlier request was under way."""
    connection = connect()
    awaited = request(b"body", "Expect: 100-continue")
    (first,) = connection.feed(request(b"1") + awaited[:-4], 0.0)
    (_,) = connection.feed(awaited[-4:], 0.0)
    first.answer(200, b"one", JSON)

    assert b"100 Continue" not in connection.output()


def test_http_1_0_knows_no_expectations() -> None:
    """So they are passed over."""
    connection = connect()
    (exchange,) = connection.feed(request(b"body", "Expect: anything", version="1.0"), 0.0)

    assert b"body" == exchange.body
    assert b"" == connection.output()


# ---------------------------------------------------------------- answers


def test_answers_leave_in_the_order_of_the_requests() -> None:
    """However late the first one is."""
    connection = connect()
    first, second, third = connection.feed(request(b"1") + request(b"2") + request(b"3"), 0.0)
    third.answer(200, b"three", JSON)
    second.answer(200, b"two", JSON)
    early = connection.output()
    first.answer(200, b"one", JSON)
    late = connection.output()

    assert b"" == early
    assert [b"one", b"two", b"three"] == [part[-5:].strip() for part in late.split(b"HTTP/1.1 200")[1:]]


@pytest.mark.parametrize(
    ("data", "framing", "closing"),
    [
        (request(), b"Content-Length: 2\r\n", False),
        (request(b"", "Connection: close"), b"Content-Length: 2\r\nConnection: close\r\n", True),
        (request(b"", "Connection: TE, Close"), b"Content-Length: 2\r\nConnection: close\r\n", True),
        (request(version="1.0"), b"", True),
        (
            request(b"", "Connection: Keep-Alive", version="1.0"),
            b"Connection: keep-alive\r\nContent-Length: 2\r\n",
            False,
        ),
        (request(b"", "Connection: keep-alive, close", version="1.0"), b"", True),
        (request(method="HEAD"), b"", False),
        (request(b"", "Connection: close", method="HEAD"), b"Connection: close\r\n", True),
    ],
)
def test_the_end_of_an_answer_is_marked_as_tf_serving_marks_it(data: bytes, framing: bytes, closing: bool) -> None:
    """Recorded: lengths and ``Connection`` by version and method."""
    connection = connect()
    (exchange,) = connection.feed(data, 0.0)
    exchange.answer(200, b"{}", JSON)
    version = b"0" if b"HTTP/1.0" in data else b"1"
    body = b"" if data.startswith(b"HEAD") else b"{}"

    head = b"HTTP/1.%b 200 OK\r\nContent-Type: application/json\r\n" % version
    assert head + framing + b"\r\n" + body == connection.output()
    assert closing == connection.closing


def test_nothing_is_read_after_the_last_request() -> None:
    """A request after ``Connection: close`` is none."""
    connection = connect()
    exchanges = connection.feed(request(b"a", "Connection: close") + request(b"b"), 0.0)
    late = connection.feed(request(b"c"), 0.0)

    assert [b"a"] == [exchange.body for exchange in exchanges + late]


def test_an_answer_that_closes_ends_the_connection() -> None:
    """libevent's pages do; whoever was asked after that need not answer."""
    connection = connect()
    first, second = connection.feed(request(b"1") + request(b"2"), 0.0)
    cancelled: list[int] = []
    second.on_cancel = lambda: cancelled.append(2)
    first.answer(404, b"page", {"Content-Type": "text/html", "Connection": "close"})
    second.answer(200, b"late", JSON)

    assert (
        b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: 4\r\nConnection: close\r\n\r\npage"
        == (connection.output())
    )
    assert connection.closing
    assert [2] == cancelled


def test_an_answer_given_twice_is_a_bug() -> None:
    """And said so."""
    (exchange,) = connect().feed(request(), 0.0)
    exchange.answer(200, b"", JSON)

    with pytest.raises(RuntimeError, match="POST /v1/x was answered twice. This is a bug."):
        exchange.answer(200, b"", JSON)


def test_an_answer_that_cannot_be_written_leaves_the_exchange_open() -> None:
    """Whoever tried may say that it failed."""
    connection = connect()
    (exchange,) = connection.feed(request(), 0.0)
    with pytest.raises(ValueError, match="This is a bug"):
        exchange.answer(200, b"", {"X": "a\r\nb"})
    exchange.answer(500, b"", JSON)

    assert 500 == told(connection)[0]


def test_a_refusal_waits_for_the_answers_before_it() -> None:
    """The good request before a broken one is answered."""
    connection = connect()
    (exchange,) = connection.feed(request(b"1") + b"\x00", 0.0)
    silence, open_ = connection.output(), not connection.closing
    exchange.answer(200, b"one", JSON)
    answer = connection.output()

    assert (b"", True) == (silence, open_)
    assert b"oneHTTP/1.1 400 Bad Request" in answer
    assert connection.closing


# ---------------------------------------------------------------- holding back


def test_no_more_than_a_few_requests_are_taken_at_once() -> None:
    """The rest is kept until an answer is given, and the shell is told to stop reading."""
    connection = connect(Limits(pipelined=2))
    exchanges = connection.feed(request(b"1") + request(b"2") + request(b"3"), 0.0)
    full = [connection.full]
    exchanges[0].answer(200, b"", JSON)
    full.append(connection.full)
    more = connection.feed(b"", 0.0)

    assert [b"1", b"2"] == [exchange.body for exchange in exchanges]
    assert [True, False] == full
    assert [b"3"] == [exchange.body for exchange in more]


def test_nor_many_bytes() -> None:
    """A large body is not accompanied by others; but reading goes on, so that the caller's leaving is seen."""
    connection = connect(Limits(pipelined_bytes=10))
    (large,) = connection.feed(request(b"x" * 20), 0.0)
    alone = connection.full
    held = connection.feed(request(b"2"), 0.0)
    full = connection.full
    large.answer(200, b"", JSON)
    (small,) = connection.feed(b"", 0.0)

    assert (False, [], True) == (alone, held, full)
    assert b"2" == small.body
    assert not connection.full


def test_a_slow_reader_is_not_read_from() -> None:
    """Until it has read."""
    connection = connect()
    connection.paused(True)
    held = connection.feed(request(b"1"), 0.0)
    full = [connection.full]
    connection.paused(False)
    full.append(connection.full)
    exchanges = connection.feed(b"", 0.0)

    assert [] == held
    assert [True, False] == full
    assert [b"1"] == [exchange.body for exchange in exchanges]
