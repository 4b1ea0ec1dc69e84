"""The client's end of HTTP/1.1: heads byte for byte, answers however they are cut, and nothing but the one fault."""

from __future__ import annotations

import contextlib
import gc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.wire.http1_client import (
    MAX_ANSWER_BYTES,
    MAX_HEAD_BYTES,
    MAX_KNOWN,
    MAX_KNOWN_BYTES,
    Answer,
    AnswerHeads,
    BadAnswer,
    request_head,
)

TWO = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
OPEN_END = b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n"

WHOLE = {
    "plain": TWO,
    "exact": b"HTTP/1.1 207 Sm\xc3\xb6rg\xe5s \r\nX-A: 1\r\nx-a:  2 \t\r\nE:\r\nContent-Length: 3\r\n\r\nabc",
    "no reason": b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
    "chunked": CHUNKED + b'1;x="y"\r\na\r\n2\r\nbc\r\n0\r\n\r\n',
    "trailers": CHUNKED + b"1\r\na\r\n0\r\nT: u\r\nV: w\r\n\r\n",
    "interim": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 P\r\nA: b\r\nContent-Length: 3\r\n\r\n" + TWO,
    "old": b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na",
    "last": b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\na",
    "no content": b"HTTP/1.1 204 No\r\n\r\n",
    "not modified": b"HTTP/1.1 304 No\r\nContent-Length: 5\r\n\r\n",
    "refusal": b"HTTP/1.1 599 Why\r\nContent-Length: 1\r\n\r\na",
}
BROKEN = {
    "no HTTP": b"220 ftp ready\r\n\r\n",
    "bare line feeds": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na",
    "length and coding": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\na",
    "no number": b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
    "huge number": b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n",
    "over the limit": b"HTTP/1.1 200 OK\r\nContent-Length: 2147483648\r\n\r\n",
    "coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "open coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\na",
    "chunk size": CHUNKED + b"x\r\n",
    "chunk end": CHUNKED + b"1\r\nabc",
    "header name": b"HTTP/1.1 200 OK\r\nA b: c\r\n\r\n",
    "folded": b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
    "another protocol": b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nabc",
    "101 of nothing": b"HTTP/1.1 101 S\r\n\r\n",
    "status": b"HTTP/1.1 099 OK\r\n\r\n",
}


def read(pieces: list[bytes], method: str = "GET", ended: bool = False, **limits: int) -> Answer | str:
    """What comes of an answer in pieces: itself, or its fault's text."""
    answer = Answer(method, limits.get("head_bytes", MAX_HEAD_BYTES), limits.get("answer_bytes", MAX_ANSWER_BYTES))
    try:
        for piece in pieces:
            answer.feed(piece)
    except BadAnswer as fault:
        return f"fault: {fault}"
    if ended:
        answer.eof()
    return answer


def seen(answer: Answer | str) -> object:
    """All that a caller sees."""
    if isinstance(answer, str):
        return answer
    if not answer.done:
        return "not whole"
    return (answer.status, answer.reason, answer.fields, answer.body, answer.keep)


def is_whole(raw: bytes, method: str = "GET", ended: bool = False) -> Answer:
    """The answer, which must be whole."""
    answer = read([raw], method, ended)
    assert isinstance(answer, Answer), answer
    assert answer.done
    return answer


# ---------------------------------------------------------------- out


def test_a_head_is_what_was_given() -> None:
    """Order, duplicates, letters and bytes; Host first, the length last."""
    head = request_head("POST", "/a b?\xc3\xa9", "h:1", [("x-a", "1"), ("x-a", ""), ("Y", "\xe9\t|")], 7)

    assert (
        b"POST /a b?\xc3\xa9 HTTP/1.1\r\nHost: h:1\r\nx-a: 1\r\nx-a: \r\nY: \xe9\t|\r\nContent-Length: 7\r\n\r\n"
        == head
    )


@pytest.mark.parametrize(
    ("method", "size", "length"),
    [
        ("GET", 0, b""), ("HEAD", 0, b""), ("OPTIONS", 0, b""), ("TRACE", 0, b""), ("GET", 3, b"Content-Length: 3\r\n"),
        ("POST", 0, b"Content-Length: 0\r\n"), ("DELETE", 0, b"Content-Length: 0\r\n"),
    ],
)  # fmt: skip
def test_a_length_is_said_where_it_is_expected(method: str, size: int, length: bytes) -> None:
    """A body always has one."""
    expected = method.encode() + b" / HTTP/1.1\r\nHost: h\r\n" + length + b"\r\n"

    assert expected == request_head(method, "/", "h", [], size)


@given(
    st.sampled_from(["GET", "", "A B", "A\r\nB"]) | st.text(max_size=3),
    st.text(max_size=5).map("/".__add__) | st.text(max_size=5),
    st.lists(st.tuples(st.text(max_size=3), st.text(max_size=5) | st.sampled_from(["a\r\nb: c", "a\nb", "a\0"]))),
)
def test_a_head_has_the_lines_that_were_asked_for(method: str, path: str, headers: list[tuple[str, str]]) -> None:
    """Whatever the texts are: each is one line, or the request cannot be sent."""
    with contextlib.suppress(ValueError):
        lines = request_head(method, path, "h", headers, 1).split(b"\r\n")
        texts = [f"{method} {path} HTTP/1.1", "Host: h", *(f"{name}: {value}" for name, value in headers)]
        expected = [*texts, "Content-Length: 1", "", ""]

        assert [text.encode("latin-1") for text in expected] == lines
        assert b"\n" not in b"".join(lines)


@pytest.mark.parametrize(
    ("method", "path", "header"),
    [
        ("G T", "/", ("x", "y")), ("", "/", ("x", "y")), ("GET", "a", ("x", "y")), ("GET", "/\r\n", ("x", "y")),
        ("GET", "/", ("", "y")), ("GET", "/", ("x y", "z")), ("GET", "/", (" x", "y")), ("GET", "/", ("x:", "y")),
        ("GET", "/", ("x", "y\r\nz: a")), ("GET", "/", ("x", "y\nz")), ("GET", "/", ("x", "y\rz")),
        ("GET", "/", ("x", "y\0")), ("GET", "/", ("x", "\u20ac")), ("GET", "/\u20ac", ("x", "y")),
    ],
)  # fmt: skip
def test_what_http_cannot_carry(method: str, path: str, header: tuple[str, str]) -> None:
    """It is not sent in part either."""
    with pytest.raises(ValueError, match="."):
        request_head(method, path, "h", [header], 0)


# ---------------------------------------------------------------- in


def test_an_answer_is_what_was_sent() -> None:
    """Status, phrase and fields as they are, white space around values apart."""
    answer = is_whole(WHOLE["exact"])
    fields = ((b"X-A", b"1"), (b"x-a", b"2"), (b"E", b""), (b"Content-Length", b"3"))

    assert (207, b"Sm\xc3\xb6rg\xe5s ", fields, b"abc", True) == seen(answer)


@pytest.mark.parametrize(
    ("name", "status", "body", "keep"),
    [
        ("plain", 200, b"hi", True),
        ("no reason", 200, b"", True),
        ("chunked", 200, b"abc", True),
        ("trailers", 200, b"a", True),
        ("interim", 200, b"hi", True),
        ("old", 200, b"a", False),
        ("last", 200, b"a", False),
        ("no content", 204, b"", False),
        ("not modified", 304, b"", False),
    ],
)
def test_bodies_end_where_their_framing_says(name: str, status: int, body: bytes, keep: bool) -> None:
    """Length, chunks, or none; and whether another call may follow."""
    answer = is_whole(WHOLE[name])

    assert (status, body, keep) == (answer.status, answer.body, answer.keep)
    assert (b"T", b"u") not in answer.fields


def test_an_answer_to_head_ends_with_its_head() -> None:
    """Whatever it says of a body, and if one comes nevertheless."""
    assert (200, b"", False) == ((answer := is_whole(TWO[:-2], "HEAD")).status, answer.body, answer.keep)
    assert b"" == is_whole(TWO, "HEAD").body
    assert b"" == is_whole(CHUNKED + b"1\r\na\r\n0\r\n\r\n", "HEAD").body


def test_a_body_without_framing_ends_with_the_connection() -> None:
    """And with nothing else."""
    assert (200, b"OK", ((b"A", b"b"),), b"abc", False) == seen(read([OPEN_END + b"a", b"bc"], ended=True))
    assert b"" == is_whole(OPEN_END, ended=True).body
    assert "not whole" == seen(read([OPEN_END + b"abc"]))


@pytest.mark.parametrize("raw", [b"", TWO[:9], TWO[:-1], CHUNKED + b"1\r\na\r\n"])
def test_an_end_too_early_is_no_end(raw: bytes) -> None:
    """Half an answer is none."""
    assert "not whole" == seen(read([raw], ended=True))


def test_the_first_byte_counts() -> None:
    """Whether any came decides whether a call may be sent again."""
    answer = Answer("GET")
    answer.feed(b"")
    before = answer.started
    answer.feed(b"H")

    assert (False, True) == (before, answer.started)


@pytest.mark.parametrize("more", [b"x", TWO, b"\r\n"])
def test_bytes_after_the_end_end_the_connection(more: bytes) -> None:
    """They are nobody's answer, and change nothing of this one."""
    at_once, later, closed = read([TWO + more]), read([TWO, more]), read([WHOLE["last"] + more])

    assert b"hi" == getattr(at_once, "body", None)
    assert more == b"\r\n" or (200, b"OK", ((b"Content-Length", b"2"),), b"hi", False) == seen(at_once)
    assert (200, b"OK", ((b"Content-Length", b"2"),), b"hi", False) == seen(later)
    assert b"a" == getattr(closed, "body", None)


@pytest.mark.parametrize("name", WHOLE)
def test_an_equal_head_is_not_parsed_again(name: str) -> None:
    """What comes of it, in one piece or in two, is the same; and only of one that says its length is it remembered."""
    raw = WHOLE[name]
    heads = AnswerHeads()
    found = []
    for pieces in ([raw], [raw], [raw[:-1], raw[-1:]], [raw + TWO]):
        answer, other = Answer("GET", heads=heads), Answer("GET")
        for piece in pieces:
            answer.feed(piece)
            other.feed(piece)
        found.append(seen(answer) == seen(other))

    assert [True] * 4 == found
    assert (name in {"plain", "exact", "no reason", "refusal"}) == bool(heads.known)


def test_what_is_remembered_of_heads_is_bounded() -> None:
    """In number and in length; and an answer to HEAD, which has no body, is looked at by itself."""
    heads = AnswerHeads()
    for number in range(MAX_KNOWN + 1):
        Answer("GET", heads=heads).feed(b"HTTP/1.1 200 OK\r\nX: %d\r\nContent-Length: 1\r\n\r\na" % number)
    kept = len(heads.known)
    Answer("GET", heads=heads).feed(
        b"HTTP/1.1 200 OK\r\nX: %s\r\nContent-Length: 1\r\n\r\na" % (b"x" * MAX_KNOWN_BYTES)
    )
    Answer("GET", heads=heads).feed(TWO)
    bodyless = Answer("HEAD", heads=heads)
    bodyless.feed(TWO[:-2])

    assert (1, 2) == (kept, len(heads.known))
    assert (True, b"") == (bodyless.done, bodyless.body)


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_answer(name: str) -> None:
    """It has one fault, however it is cut, and is not read on."""
    raw = BROKEN[name]
    fault = read([raw])
    answer = Answer("GET")
    with pytest.raises(BadAnswer):
        answer.feed(raw)

    assert str(fault).startswith("fault: ")
    assert [fault] * (len(raw) - 1) == [read([raw[:at], raw[at:]]) for at in range(1, len(raw))]
    with pytest.raises(BadAnswer):
        answer.feed(b"x")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("name", WHOLE)
def test_cuts_make_no_difference(name: str, method: str) -> None:
    """In two pieces at any place, and byte by byte."""
    raw = WHOLE[name] if method == "GET" else WHOLE[name].partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    if name == "interim" and method == "HEAD":
        raw = WHOLE[name][:-2]
    expected = seen(read([raw], method))

    assert isinstance(expected, tuple)
    assert [expected] * (len(raw) - 1) == [seen(read([raw[:at], raw[at:]], method)) for at in range(1, len(raw))]
    assert expected == seen(read([raw[at : at + 1] for at in range(len(raw))], method))


TEXTS = st.sampled_from([*WHOLE.values(), *BROKEN.values(), OPEN_END])


@given(
    TEXTS | st.binary(max_size=40) | st.tuples(TEXTS, st.binary(max_size=20)).map(b"".join),
    st.lists(st.tuples(st.integers(0, 200), st.binary(max_size=3)), max_size=3),
    st.lists(st.integers(0, 200), max_size=4),
    st.booleans(),
)
def test_nothing_but_the_fault_escapes(
    raw: bytes, changes: list[tuple[int, bytes]], cuts: list[int], ended: bool
) -> None:
    """Mutated answers, cut anywhere: an answer, half of one, or the fault, and the same one whole."""
    for at, text in changes:
        raw = raw[:at] + text + raw[at + len(text) :]
    places = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
    pieces = [raw[start:end] for start, end in pairwise(places)]
    whole, cut = seen(read([raw], ended=ended)), seen(read(pieces, ended=ended))
    if isinstance(whole, tuple):  # bytes after the end may be met later, or not be any
        whole, cut = whole[:-1], cut[:-1] if isinstance(cut, tuple) else cut

    assert (whole if isinstance(whole, tuple) else str(whole)[:6]) == (cut if isinstance(cut, tuple) else str(cut)[:6])


# ---------------------------------------------------------------- limits


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_limits_are_exact(step: int) -> None:
    """Of the head with what precedes it, and of the whole; however it is cut."""
    raw = WHOLE["interim"]
    head = len(raw) - 2
    pieces = [raw[at : at + step] for at in range(0, len(raw), step)]

    assert isinstance(seen(read(pieces, head_bytes=head + 1, answer_bytes=len(raw) + 1)), tuple)
    assert f"fault: the answer's head is longer than {head - 1} bytes" == read(pieces, head_bytes=head - 1)
    long = CHUNKED + b"1\r\na\r\n" * 50
    pieces = [long[at : at + step] for at in range(0, len(long), step)]
    assert "fault: the answer is longer than 200 bytes" == read(pieces, head_bytes=100, answer_bytes=200)
    trailers = CHUNKED + b"0\r\nA: " + b"x" * 500
    pieces = [trailers[at : at + step] for at in range(0, len(trailers), step)]
    assert "fault: the answer is longer than 200 bytes" == read(pieces, head_bytes=100, answer_bytes=200)


def test_a_length_over_the_limit_is_not_waited_for() -> None:
    """The head says enough."""
    assert "fault: the answer is longer than 1 bytes" == read([TWO[:-2]], answer_bytes=1)


@pytest.mark.parametrize("raw", [TWO, BROKEN["no HTTP"]])
def test_nothing_is_left_to_the_collector(raw: bytes) -> None:
    """Parser and answer refer to each other only while bytes come."""
    answer = Answer("GET")
    with contextlib.suppress(BadAnswer):
        answer.feed(raw)
    parts = [part for part in gc.get_referents(answer) if type(part).__name__ == "HttpResponseParser"]

    assert [] == parts
