"""Answer heads: what they say, what is remembered of them, what may not be written."""

from __future__ import annotations

from http import HTTPStatus

import pytest

from batchproxy.wire.http1_answers import CLOSE, MAX_KNOWN, NO_BODY, OLD, REASONS, Answers, has_body, page

JSON = {"Content-Type": "application/json"}
DATE = "Mon, 01 Jan 2024 00:00:00 GMT"


def test_a_head_carries_the_date() -> None:
    """Once somebody said what it is."""
    answers = Answers()
    answers.set_date(DATE)

    expected = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: {DATE}\r\nContent-Length: 7\r\n\r\n"
    assert expected.encode() == answers.head(200, 7, JSON, None, 0)


def test_a_servers_own_date_is_passed_on() -> None:
    """And ours is not put beside it (RFC 9110, 6.6.1)."""
    answers = Answers()
    answers.set_date(DATE)

    assert b"HTTP/1.1 200 OK\r\ndate: then\r\nContent-Length: 0\r\n\r\n" == answers.head(
        200, 0, {"date": "then"}, None, 0
    )


def test_plain_heads_are_remembered_until_the_date_changes() -> None:
    """By their fields' identity; those of other modes, or that have no body, are not."""
    answers = Answers()
    plain = answers.head(200, 7, JSON, None, 0)
    for status, mode in ((200, CLOSE), (204, 0)):
        _ = answers.head(status, 8, JSON, None, mode)
    known = dict(answers.known)
    answers.set_date("")
    unchanged = dict(answers.known)
    answers.set_date(DATE)

    assert {(id(JSON), 200, 7): (JSON, None, plain)} == known == unchanged
    assert {} == answers.known


def test_what_is_remembered_is_bounded() -> None:
    """Lengths vary without end."""
    answers = Answers()
    for size in range(MAX_KNOWN + 1):
        _ = answers.head(200, size, JSON, None, 0)

    assert 1 == len(answers.known)


@pytest.mark.parametrize(
    ("status", "mode", "lines"),
    [
        (200, 0, [b"Content-Length: 3"]),
        (204, 0, []),
        (304, CLOSE, [b"Connection: close"]),
        (200, NO_BODY, []),
        (200, OLD, [b"Connection: keep-alive", b"Content-Length: 3"]),
        (200, OLD | CLOSE, []),
        (200, OLD | NO_BODY, [b"Connection: keep-alive"]),
    ],
)
def test_framing(status: int, mode: int, lines: list[bytes]) -> None:
    """How long it is and whether the connection stays, by status, version and method."""
    head = Answers().head(status, 3, {}, None, mode)

    assert lines == head.split(b"\r\n")[1:-2]
    assert has_body(status, mode) == (status == 200 and not mode & NO_BODY)


def test_fields_that_are_ours_are_left_out() -> None:
    """Whoever answers cannot contradict the framing."""
    ours = {"Connection": "close", "content-length": "9", "Transfer-Encoding": "chunked"}

    assert b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n" == Answers().head(200, 3, ours, None, 0)


@pytest.mark.parametrize(
    "headers", [{"a b": "x"}, {"": "x"}, {"a": "x\r\ny: z"}, {"a": "x\0"}, {"a\n": "x"}, {"a": "\u20ac"}]
)
def test_a_field_cannot_end_its_line(headers: dict[str, str]) -> None:
    """Response splitting is a bug of ours."""
    with pytest.raises(ValueError, match="This is a bug"):
        Answers().head(200, 3, headers, None, 0)


def test_nor_can_a_reason() -> None:
    """An unknown status has one, too."""
    with pytest.raises(ValueError, match="This is a bug"):
        Answers().head(200, 3, {}, "a\r\nb", 0)

    assert Answers().head(599, 0, {}, None, 0).startswith(b"HTTP/1.1 599 Unknown\r\n")


def test_reasons_are_known_for_all_statuses() -> None:
    """Python's, but for those that libevent names otherwise, and two that neither names."""
    named = {413: "Request Entity Too Large", 414: "Request-URI Too Large", 431: "Request Header Fields Too Large"}

    assert set(HTTPStatus) < set(REASONS)
    assert named.items() <= REASONS.items()
    assert ("Client Error", "Client Error", "Gateway Time-out") == (REASONS[429], REASONS[499], REASONS[504])


def test_a_page_is_libevents_with_the_reason_why() -> None:
    """Nothing in it is markup."""
    expected = (
        b"<HTML><HEAD>\n<TITLE>400 Bad Request</TITLE>\n</HEAD><BODY>\n<H1>Bad Request</H1>\n"
        b"<P>a &lt;b> &amp; c</P>\n</BODY></HTML>\n"
    )

    assert expected == page(400, "a <b> & c")
    assert expected.replace(b"<P>a &lt;b> &amp; c</P>\n", b"") == page(400, "")


def test_heads_that_differ_in_their_length_only_are_written_once() -> None:
    """Whatever their fields, until the date changes."""
    answers = Answers()
    answers.set_date("then")
    headers = {"Content-Type": "a/b", "X-More": "1"}
    found = [answers.head(200, size, headers, None, mode) for size, mode in ((1, 0), (22, 0), (3, CLOSE), (4, OLD))]
    answers.set_date("now")
    later = answers.head(200, 1, headers, None, 0)
    lines = b"200 OK\r\nContent-Type: a/b\r\nX-More: 1\r\nDate: then\r\n"

    assert [
        b"HTTP/1.1 " + lines + b"Content-Length: 1\r\n\r\n",
        b"HTTP/1.1 " + lines + b"Content-Length: 22\r\n\r\n",
        b"HTTP/1.1 " + lines + b"Content-Length: 3\r\nConnection: close\r\n\r\n",
        b"HTTP/1.0 " + lines + b"Connection: keep-alive\r\nContent-Length: 4\r\n\r\n",
    ] == found
    assert found[0].replace(b"then", b"now") == later


def test_remembered_heads_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server may say something else each time."""
    monkeypatch.setattr("batchproxy.wire.http1_answers.MAX_KNOWN", 3)
    answers = Answers()
    found = {answers.head(200, 1, {"X-Number": str(number)}, None, 0) for number in range(9)}

    assert 9 == len(found)
    assert len(answers._begun) <= 3
