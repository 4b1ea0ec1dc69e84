"""The server's end of HTTP/1.1, driven without a socket: what comes out for what goes in, however it is cut."""

from __future__ import annotations

import gzip
import random
import zlib
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchproxy.wire.base import Limits
from batchproxy.wire.http1 import MAX_BLANK_LINES, Http1Connection, Http1Exchange, inflated
from batchproxy.wire.http1_answers import Answers
from batchproxy.wire.http1_head import Heads

JSON = {"Content-Type": "application/json"}
SMALL = Limits(line_bytes=100, head_bytes=400, head_fields=6, body_bytes=64, inflated_bytes=100)


def connect(limits: Limits = SMALL, now: float = 0.0) -> Http1Connection:
    """A connection that nothing was sent on; its answers carry no date."""
    return Http1Connection(limits, Heads(limits), Answers(), now)


def request(body: bytes = b"", *fields: str, method: str = "POST", version: str = "1.1") -> bytes:
    """A request for /v1/x with a Host, and a length where there is a body."""
    lines = [f"{method} /v1/x HTTP/{version}", "Host: h", *fields]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def told(connection: Http1Connection) -> tuple[int, bytes]:
    """Status and body of the one answer that is in the output."""
    head, _, body = connection.output().partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), body


Event = tuple[object, ...]


def events(pieces: Sequence[bytes], limits: Limits = SMALL) -> list[Event]:
    """What a connection makes of these pieces: requests, each answered at once, and how it ends."""
    connection, found, answers = connect(limits), [], b""
    for piece in pieces:
        for exchange in connection.feed(piece, 0.0):
            found.append((exchange.method, exchange.path, dict(exchange.headers), exchange.body))
            exchange.answer(200, b"ok", JSON)
        answers += connection.output()
    return [*found, answers.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b""), connection.closing]


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


@pytest.mark.parametrize(
    "body",
    [
        b"plain text",
        gzip.compress(b"cut short")[:-1],
        zlib.compress(b"no gzip"),
        gzip.compress(b"x" * 101),
        gzip.compress(b"a") + b"?",
        b"",
    ],
)
def test_what_cannot_be_inflated_is_empty(body: bytes) -> None:
    """As in TF Serving, which then says that the document is empty."""
    assert b"" == inflated(body, 100)


def test_inflating_stops_at_the_limit() -> None:
    """The limit itself is allowed."""
    assert b"x" * 100 == inflated(gzip.compress(b"x" * 100), 100)


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


# ---------------------------------------------------------------- what is answered by the wire itself

BROKEN = {
    "both lengths": (400, request(b"abc", "Transfer-Encoding: chunked")),
    "two lengths": (400, request(b"abc", "Content-Length: 4")),
    "two equal lengths": (400, request(b"abc", "Content-Length: 3")),
    "a list of lengths": (400, request(b"", "Content-Length: 3, 3")),
    "a signed length": (400, request(b"", "Content-Length: +3")),
    "a negative length": (400, request(b"", "Content-Length: -1")),
    "a hexadecimal length": (400, request(b"", "Content-Length: 0x3")),
    "an empty length": (400, request(b"", "Content-Length:")),
    "an endless length": (400, request(b"", "Content-Length: " + "9" * 40)),
    "a length over the limit": (413, request(b"", "Content-Length: 65")),
    "chunked twice": (400, request(b"", "Transfer-Encoding: chunked, chunked")),
    "chunked and another": (400, request(b"", "Transfer-Encoding: chunked, identity")),
    "another and chunked": (501, request(b"", "Transfer-Encoding: gzip, chunked")),
    "two codings": (501, request(b"", "Transfer-Encoding: gzip", "Transfer-Encoding: chunked")),
    "a hidden coding": (400, request(b"", "Transfer-Encoding: xchunked")),
    "an obscured coding": (400, request(b"", "Transfer-Encoding: \x0bchunked")),
    "chunks in HTTP/1.0": (400, request(b"", "Transfer-Encoding: chunked", version="1.0")),
    "a bare line feed after the line": (400, b"GET / HTTP/1.1\nHost: h\r\n\r\n"),
    "a bare line feed after a field": (400, b"GET / HTTP/1.1\r\nHost: h\n\r\n"),
    "only bare line feeds": (400, b"GET / HTTP/1.1\nHost: h\n\n"),
    "a bare carriage return": (400, b"GET / HTTP/1.1\r\nHost: h\rX: y\r\n\r\n"),
    "a folded field": (400, b"GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n"),
    "a folded first field": (400, b"GET / HTTP/1.1\r\n X: a\r\nHost: h\r\n\r\n"),
    "white space before the colon": (400, request(b"", "Content-Length : 3")),
    "a field without a name": (400, request(b"", ": x")),
    "a field without a colon": (400, request(b"", "novalue")),
    "a name that is no token": (400, request(b"", "a(b): x")),
    "a NUL in a name": (400, request(b"", "a\0b: x")),
    "a NUL in a value": (400, request(b"", "X: a\0b")),
    "a NUL in the path": (400, b"GET /a\0b HTTP/1.1\r\nHost: h\r\n\r\n"),
    "a space in the path": (400, b"GET /a b HTTP/1.1\r\nHost: h\r\n\r\n"),
    "no version": (505, b"GET /\r\nHost: h\r\n\r\n"),
    "HTTP/0.9": (505, b"GET / HTTP/0.9\r\nHost: h\r\n\r\n"),
    "HTTP/1.2": (505, b"GET / HTTP/1.2\r\nHost: h\r\n\r\n"),
    "HTTP/2.0": (505, b"GET / HTTP/2.0\r\nHost: h\r\n\r\n"),
    "HTTP/3.7": (505, b"GET / HTTP/3.7\r\nHost: h\r\n\r\n"),
    "HTTP/11": (400, b"GET / HTTP/11\r\nHost: h\r\n\r\n"),
    "another protocol": (400, b"GET / ICE/1.0\r\nHost: h\r\n\r\n"),
    "no host": (400, b"GET / HTTP/1.1\r\n\r\n"),
    "two hosts": (400, request(b"", "Host: i")),
    "an unknown method": (501, b"BREW / HTTP/1.1\r\nHost: h\r\n\r\n"),
    "a method in lower case": (501, b"get / HTTP/1.1\r\nHost: h\r\n\r\n"),
    "CONNECT": (501, b"CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n"),
    "TLS": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    "an empty line with more in it": (400, b"\r\rGET / HTTP/1.1\r\n\r\n"),
    "another expectation": (417, request(b"abc", "Expect: 200-ok")),
    "a long line": (414, b"GET /" + b"a" * 100 + b" HTTP/1.1\r\nHost: h\r\n\r\n"),
    "a line without an end": (414, b"a" * 102),
    "a long head": (431, request(b"", "X: " + "a" * 400)),
    "many fields": (431, request(b"", *["X: y"] * 6)),
    "a chunk size that is none": (400, request(b"", "Transfer-Encoding: chunked") + b"0x5\r\nhello\r\n"),
    "a signed chunk size": (400, request(b"", "Transfer-Encoding: chunked") + b"+5\r\nhello\r\n"),
    "a chunk size with a space": (400, request(b"", "Transfer-Encoding: chunked") + b"5 \r\nhello\r\n"),
    "an empty chunk size": (400, request(b"", "Transfer-Encoding: chunked") + b"\r\nhello\r\n"),
    "a chunk line with a bare line feed": (400, request(b"", "Transfer-Encoding: chunked") + b"5\nhello"),
    "a chunk longer than it says": (400, request(b"", "Transfer-Encoding: chunked") + b"4\r\nhello\r\n"),
    "a chunk shorter than it says": (400, request(b"", "Transfer-Encoding: chunked") + b"6\r\nhello\r\n0\r\n\r\n"),
    "chunks over the limit": (413, request(b"", "Transfer-Encoding: chunked") + b"41\r\n"),
    "a huge chunk": (413, request(b"", "Transfer-Encoding: chunked") + b"f" * 16 + b"\r\n"),
    "a trailer that is none": (400, request(b"", "Transfer-Encoding: chunked") + b"0\r\nx\r\n\r\n"),
    "long trailers": (431, request(b"", "Transfer-Encoding: chunked") + b"0\r\nx: " + b"y" * 400),
}


@pytest.mark.parametrize(("status", "data"), BROKEN.values(), ids=list(BROKEN))
def test_a_broken_request_is_refused_with_a_page_and_the_connection_ends(status: int, data: bytes) -> None:
    """No request comes out, whatever follows; the page says why."""
    connection = connect()
    nothing = connection.feed(data + request(b"GET"), 0.0)
    answer = connection.output()
    later = connection.feed(request(), 0.0)

    assert [] == nothing + later
    assert connection.closing
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\nContent-Type: text/html\r\n" in answer
    assert b"\r\nConnection: close\r\n" in answer
    assert answer.endswith(b"</P>\n</BODY></HTML>\n")


@pytest.mark.parametrize(("status", "data"), BROKEN.values(), ids=list(BROKEN))
def test_a_broken_request_is_refused_alike_however_it_is_cut(status: int, data: bytes) -> None:
    """In one piece, byte by byte, and cut in two anywhere, with two good ones around it."""
    data = request(b"{}") + data + request(b"[]")
    expected = events([data])

    assert expected == events([bytes([byte]) for byte in data])
    for cut in range(1, len(data)):
        assert expected == events([data[:cut], data[cut:]])


@pytest.mark.parametrize(("status", "data"), BROKEN.values(), ids=list(BROKEN))
def test_what_was_refused_is_refused_again(status: int, data: bytes) -> None:
    """Refused heads are not remembered as good ones, by connections that share what is remembered."""
    heads, answers = Heads(SMALL), Answers()
    found = []
    for _ in range(2):
        connection = Http1Connection(SMALL, heads, answers, 0.0)
        nothing = connection.feed(data + request(b"next"), 0.0)
        found.append((nothing, told(connection)[0]))

    assert [([], status)] * 2 == found


def test_libevents_reason_phrases() -> None:
    """A caller that reads them sees those of TF Serving."""
    first_lines = set()
    for name in ("a length over the limit", "a long line", "HTTP/2.0", "another expectation", "an unknown method"):
        connection = connect()
        _ = connection.feed(BROKEN[name][1], 0.0)
        first_lines.add(connection.output().partition(b"\r\n")[0])

    assert {
        b"HTTP/1.1 413 Request Entity Too Large",
        b"HTTP/1.1 414 Request-URI Too Large",
        b"HTTP/1.1 505 HTTP Version not supported",
        b"HTTP/1.1 417 Expectation Failed",
        b"HTTP/1.1 501 Not Implemented",
    } == first_lines


def test_an_offered_upgrade_is_passed_over() -> None:
    """curl offers h2c; the answer is HTTP/1.1, and the body is still a body."""
    fields = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")
    exchanges = connect().feed(request(b"body", *fields) + request(b"next"), 0.0)

    assert [b"body", b"next"] == [exchange.body for exchange in exchanges]


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
        (request(b"", "Connection: Keep-Alive", version="1.0"), b"Connection: keep-alive\r\nContent-Length: 2\r\n", False),
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

    assert b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: 4\r\nConnection: close\r\n\r\npage" == (
        connection.output()
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


# ---------------------------------------------------------------- any bytes, cut anyhow

TEXTS = [
    b"GET", b"POST", b" ", b"/v1/x", b" HTTP/1.1", b" HTTP/1.0", b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"\0", b":",
    b"Host: h\r\n", b"Content-Length: 4\r\n", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding : chunked\r\n", b"Connection: close\r\n", b"Expect: 100-continue\r\n", b"X: y\r\n",
    b"Content-Encoding: gzip\r\n", b"4\r\n", b"abcd", b"0\r\n\r\n", b"4;x=y\r\nabcd\r\n", b"Upgrade: h2c\r\n", b" folded\r\n",
    b"a" * 90, gzip.compress(b"g"), request(b"1"), request(b"", "Transfer-Encoding: chunked") + b"1\r\nx\r\n0\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
]  # fmt: skip


def mutations(seed: int, count: int) -> Iterator[bytes]:
    """Streams of good requests, most of them with a few bytes changed, doubled, left out or put in."""
    dice = random.Random(seed)
    good = [data for _, data in BROKEN.values()]
    good += [
        request(b"{}"), request(b"", "Transfer-Encoding: chunked") + b"3;a=b\r\nabc\r\n0\r\nX: y\r\n\r\n",
        request(method="HEAD"), request(b"x" * 64, "Expect: 100-continue"), request(b"", version="1.0"),
        request(gzip.compress(b"z"), "Content-Encoding: gzip", "Connection: keep-alive", version="1.0"),
    ]  # fmt: skip
    for _ in range(count):
        data = bytearray(b"".join(dice.choices([*good, *good[-6:] * 8], k=dice.randint(1, 3))))
        for _ in range(dice.choice([0, 0, 1, 1, 2, 4])):
            at = dice.randrange(len(data) + 1)
            kind = dice.randrange(3)
            if kind == 0:
                del data[at : at + dice.randint(1, 3)]
            else:
                data[at : at + (kind == 1)] = dice.choice([*TEXTS[:12], bytes([dice.randrange(256)])])
        yield bytes(data)


def test_two_thousand_messages_give_the_same_events_cut_at_every_byte() -> None:
    """In one piece, byte by byte, and in random pieces; a sample of them in two pieces at each place."""
    dice = random.Random(4)
    good = 0
    for number, data in enumerate(mutations(1, 2000)):
        expected = events([data])
        cuts = sorted(dice.sample(range(len(data) + 1), min(4, len(data) + 1)))
        pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        good += len(expected) > 2

        assert expected == events([bytes([byte]) for byte in data])
        assert expected == events(pieces)
        for cut in range(len(data)) if number % 20 == 0 else ():
            assert expected == events([data[:cut], data[cut:]])
    assert 500 < good < 1900  # both kinds were met


@given(st.lists(st.sampled_from(TEXTS) | st.binary(max_size=8), max_size=12), st.randoms(use_true_random=False))
@settings(max_examples=300, deadline=None)
def test_any_bytes_cut_anyhow_give_the_same_events(texts: list[bytes], dice: random.Random) -> None:
    """Nothing is raised, whatever comes; memory is bounded by the limits."""
    data = b"".join(texts)
    cuts = sorted(dice.sample(range(len(data) + 1), min(3, len(data) + 1)))
    pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]

    assert events([data]) == events(pieces) == events([bytes([byte]) for byte in data])


def test_without_its_memory_the_wire_makes_the_same_of_everything() -> None:
    """Remembered heads save time and change nothing."""

    class Forgetful(Heads):
        def parse(self, raw: bytes) -> object:  # type: ignore[override]
            head = super().parse(raw)
            self.known.clear()
            return head

    remembering = Heads(SMALL)

    def made_by(heads: Heads, data: bytes) -> list[Event]:
        connection, found = Http1Connection(SMALL, heads, Answers(), 0.0), []
        for exchange in connection.feed(data, 0.0):
            found.append((exchange.method, exchange.path, dict(exchange.headers), exchange.body))
            exchange.answer(200, b"ok", JSON)
        return [*found, connection.output()]

    for data in mutations(2, 300):
        assert made_by(Forgetful(SMALL), data) == made_by(remembering, data)
    assert remembering.known
