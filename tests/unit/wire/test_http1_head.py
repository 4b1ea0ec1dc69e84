"""Request heads: what is read from one, what is remembered, what is found out before one is whole."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.wire.base import Limits
from batchproxy.wire.http1_head import (
    CHUNKED,
    MAX_KNOWN,
    MAX_KNOWN_BYTES,
    MAX_SEEN,
    Headers,
    Heads,
    Refused,
    body_length,
    check_start,
    parse_head,
)
from tests.http1_messages import SMALL, request

LIMITS = Limits()


def test_fields_are_found_by_name_in_any_case() -> None:
    """As in any mapping; several of one name are one."""
    headers = parse_head(request(b"", "X-One: 1", "x-TWO:  a ", "X-Two: b"), LIMITS).headers

    assert ("1", "a , b") == (headers["x-one"], headers.get("X-TWO"))
    assert (None, "-", "1") == (headers.get("x"), headers.get("x", "-"), headers.get("x-one", "-"))
    assert ["host", "x-one", "x-two"] == list(headers)
    assert [("host", "h"), ("x-one", "1"), ("x-two", "a , b")] == list(headers.items())
    assert 3 == len(headers)
    assert "Headers({'a': 'b'})" == repr(Headers({b"a": b"b"}))
    with pytest.raises(KeyError):
        headers["x-three"]


def test_cookies_are_joined_as_cookies_are() -> None:
    """A comma would be a part of a value (RFC 6265, 4.2.1; RFC 9113, 8.2.3 for HTTP/2)."""
    headers = parse_head(request(b"", "Cookie: a=1", "Cookie: b=2"), LIMITS).headers

    assert "a=1; b=2" == headers["cookie"]


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("http://h/v1/x?y", "/v1/x?y"),
        ("HTTPS://u@h:1", "/"),
        ("http://h?y", "/?y"),
        ("*", "*"),
        ("/http://h/x", "/http://h/x"),
    ],
)
def test_a_target_may_name_the_server(target: str, path: str) -> None:
    """As clients of proxies write it (RFC 9112, 3.2.2); the routes see the path."""
    method = "OPTIONS" if target == "*" else "GET"

    assert path == parse_head(f"{method} {target} HTTP/1.1\r\nHost: h\r\n\r\n".encode(), LIMITS).path


def test_values_are_latin_1() -> None:
    """Bytes above 127 are kept, one character each; a name that cannot be sent is not there."""
    headers = parse_head(request(b"", "X: gr\xfc\xdfe"), LIMITS).headers

    assert "gr\xfc\xdfe" == headers["x"]
    assert headers.get("x\u20ac") is None


@pytest.mark.parametrize(
    ("raw", "keep_alive", "old", "length", "awaits", "gzip"),
    [
        (request(), True, False, 0, False, False),
        (request(b"abc"), True, False, 3, False, False),
        (request(b"abc", "Connection: close"), False, False, 3, False, False),
        (request(b"", "Connection: x", "Connection: close"), False, False, 0, False, False),
        (request(b"", version="1.0"), False, True, 0, False, False),
        (request(b"", "Connection: keep-alive", version="1.0"), True, True, 0, False, False),
        (request(b"", "Transfer-Encoding: Chunked"), True, False, CHUNKED, False, False),
        (request(b"", "Expect: 100-CONTINUE"), True, False, 0, False, False),
        (request(b"abc", "Expect: 100-continue"), True, False, 3, True, False),
        (request(b"abc", "Expect: 100-continue", version="1.0"), False, True, 3, False, False),
        (request(b"abc", "Content-Encoding: gzip"), True, False, 3, False, True),
        (request(b"abc", "Content-Encoding: deflate"), True, False, 3, False, False),
    ],
)
def test_what_the_fields_mean(raw: bytes, keep_alive: bool, old: bool, length: int, awaits: bool, gzip: bool) -> None:
    """For the body, and for the connection."""
    head = parse_head(raw[: raw.index(b"\r\n\r\n") + 4], LIMITS)

    assert (keep_alive, old, length) == (head.keep_alive, head.old, head.length)
    assert (awaits, gzip) == (head.awaits, head.gzip)


def test_http_1_0_needs_no_host() -> None:
    """It came with 1.1."""
    assert "/" == parse_head(b"GET / HTTP/1.0\r\n\r\n", LIMITS).path


def test_any_byte_where_a_length_should_be_is_refused() -> None:
    """But digits, and white space around them."""
    allowed = set(b"0123456789")
    for byte in range(256):
        raw = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1%c1\r\n\r\n" % byte
        if byte in allowed:
            assert int(b"1%c1" % byte) == parse_head(raw, LIMITS).length
        else:
            with pytest.raises(Refused, match="400"):
                parse_head(raw, LIMITS)


@pytest.mark.parametrize(
    "fields",
    [
        {b"content-length": b"1", b"transfer-encoding": b"chunked"},
        {b"content-length": b"1, 1"},
        {b"content-length": b"\xb2"},
    ],
)
def test_what_the_parser_refuses_is_refused_without_it(fields: dict[bytes, bytes]) -> None:
    """Where a request ends is too important to rest on another's strictness alone."""
    with pytest.raises(Refused, match="400"):
        body_length(fields, old=False, limits=LIMITS)


def test_a_head_that_comes_again_is_remembered() -> None:
    """From then on it costs a look-up. One that came once is not, lest a number in each head floods us."""
    heads = Heads(LIMITS)
    raw = request()
    once = heads.parse(raw), dict(heads.known)
    twice = heads.parse(raw)

    assert {} == once[1]
    assert heads.known[raw] is twice


def test_what_is_remembered_is_bounded() -> None:
    """In number and in size; a refused head is never remembered."""
    heads = Heads(LIMITS)
    for _ in range(2):
        _ = heads.parse(request(b"", "X: " + "x" * MAX_KNOWN_BYTES))
        with pytest.raises(Refused):
            heads.parse(b"GET / HTTP/1.1\r\n\r\n")
    nothing = len(heads.known)
    for number in range(MAX_KNOWN + 1):
        for _ in range(2):
            _ = heads.parse(request(b"", f"X: {number}"))
    known = len(heads.known)
    for number in range(MAX_SEEN):
        _ = heads.parse(request(b"", f"Y: {number}"))

    assert (0, 1) == (nothing, known)
    assert len(heads._seen) <= MAX_SEEN


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b" ", 400),
        (b"\n", 400),
        (b"G\n", 400),
        (b"a" * 102, 414),
        (b"a\r\n" + b"a" * 397, 431),
        (b"a" * 101 + b"\n", 400),
    ],
)
def test_a_bad_beginning_is_refused_at_once(data: bytes, status: int) -> None:
    """And not before the byte that makes it bad."""
    if len(data) > 1:
        check_start(data[:-1], SMALL)

    with pytest.raises(Refused, match=str(status)):
        check_start(data, SMALL)


@given(st.text(st.sampled_from("abc \r\n:"), max_size=60))
def test_what_a_beginning_is_refused_for_does_not_depend_on_what_follows(text: str) -> None:
    """The shortest beginning that is refused decides for all longer ones."""
    limits = Limits(line_bytes=10, head_bytes=30)
    data = text.encode()
    verdicts = []
    for end in range(1, len(data) + 1):
        try:
            check_start(data[:end], limits)
        except Refused as refused:
            verdicts.append(refused.status)
        else:
            verdicts.append(0)
    refused_from = next((index for index, status in enumerate(verdicts) if status), len(verdicts))

    whole = data.find(b"\r\n\r\n", 0, limits.head_bytes)
    if whole < 0:
        assert len(set(verdicts[refused_from:])) <= 1
