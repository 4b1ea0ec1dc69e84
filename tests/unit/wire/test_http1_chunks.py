"""Chunked bodies: framing off, in whatever pieces; floods of framing and of nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.wire.base import Limits
from batchproxy.wire.http1_chunks import MAX_EXCESS_BYTES, MAX_LINE_BYTES, Chunks
from batchproxy.wire.http1_head import Refused

LIMITS = Limits(body_bytes=1000, head_bytes=100)


def chunked(parts: list[bytes], extension: bytes = b"", trailers: bytes = b"") -> bytes:
    """A body in these chunks."""
    framed = b"".join(b"%x%b\r\n%b\r\n" % (len(part), extension, part) for part in parts)
    return framed + b"0\r\n" + trailers + b"\r\n"


@given(
    st.lists(st.binary(min_size=1, max_size=40), max_size=6),
    st.sampled_from([b"", b";a", b';a="b c";d=e']),
    st.sampled_from([b"", b"X: y\r\n", b"X:\r\nY: z\r\n"]),
    st.binary(max_size=5),
    st.integers(1, 30),
)
def test_a_body_comes_out_as_it_was_and_what_follows_stays(
    parts: list[bytes], extension: bytes, trailers: bytes, after: bytes, step: int
) -> None:
    """In pieces of any size."""
    data = chunked(parts, extension, trailers) + after
    chunks, position = Chunks(LIMITS), 0
    while not chunks.done:
        piece = data[: position + step]
        position = chunks.feed(piece, position)

    assert b"".join(parts) == chunks.body()
    assert after == data[position:]


def test_a_body_may_be_as_long_as_the_limit() -> None:
    """And not a byte longer, by its own word, before that byte is there."""
    chunks = Chunks(LIMITS)
    _ = chunks.feed(b"3e7\r\n" + b"x" * 999 + b"\r\n", 0)
    _ = chunks.feed(b"1\r\nx\r\n", 0)

    with pytest.raises(Refused, match="413"):
        chunks.feed(b"1\r\n", 0)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b" 5",
        b"5 ",
        b"0x5",
        b"-5",
        b"+5",
        b"5_0",
        b"5,5",
        b"\xb2",
        b"g",
        b"1" * 17,
        b"5;\x00",
        b"5 ;a",
        b"5\t",
        b"5;a\x7f",
    ],
)
def test_a_size_is_hexadecimal_digits_and_nothing_else(line: bytes) -> None:
    """What some parser somewhere reads otherwise is refused."""
    with pytest.raises(Refused, match="400"):
        Chunks(LIMITS).feed(line + b"\r\nhello\r\n", 0)


def test_a_line_without_an_end_is_refused() -> None:
    """At the limit, not before."""
    chunks = Chunks(LIMITS)
    _ = chunks.feed(b"5;" + b"a" * (MAX_LINE_BYTES - 3), 0)

    with pytest.raises(Refused, match="400"):
        chunks.feed(b"a", 0)


def test_more_framing_than_data_is_refused() -> None:
    """Single bytes in plain chunks are not: they cost the sender more than us."""
    plain = Chunks(Limits(body_bytes=10_000))
    _ = plain.feed(b"1\r\nx\r\n" * 10_000, 0)
    chatty = Chunks(LIMITS)
    chunk = b"1;" + b"a" * 100 + b"\r\nx\r\n"

    assert 10_000 == len(plain.body())
    with pytest.raises(Refused, match="more framing than data"):
        chatty.feed(chunk * (MAX_EXCESS_BYTES // 80), 0)


@pytest.mark.parametrize(
    ("trailers", "status"),
    [
        (b"x\r\n\r\n", 400), (b" x: y\r\n\r\n", 400), (b"x : y\r\n\r\n", 400), (b"x: y\n\r\n\r\n", 400),
        (b"x: \0\r\n\r\n", 400),
        (b"x: y\r\n z\r\n\r\n", 400), (b"x: " + b"y" * 100, 431), (b"x: y\r\n" * 17 + b"\r\n", 431),
    ],
)  # fmt: skip
def test_trailers_are_checked_though_they_are_dropped(trailers: bytes, status: int) -> None:
    """They are as good a place as any to hide a request in."""
    with pytest.raises(Refused, match=str(status)):
        Chunks(LIMITS).feed(b"0\r\n" + trailers, 0)
