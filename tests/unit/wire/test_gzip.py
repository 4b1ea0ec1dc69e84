"""Compressed bodies: inflated within limits, or empty."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.wire.gzip import inflated, inflated_size


@given(st.binary(max_size=2000))
def test_what_was_compressed_comes_back(text: bytes) -> None:
    """And its length is known before."""
    body = gzip.compress(text)

    assert len(text) == inflated_size(body)
    assert text == inflated(body, 2000)


def test_the_limit_itself_is_allowed() -> None:
    """Not a byte more."""
    assert b"x" * 100 == inflated(gzip.compress(b"x" * 100), 100)
    assert b"" == inflated(gzip.compress(b"x" * 101), 100)
    assert (100, 0) == tuple(inflated_size(gzip.compress(b"x" * size), 100) for size in (100, 101))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"plain text",
        b"plain text that is longer than a trailer",
        zlib.compress(b"no gzip, but long enough for its trailer"),
        gzip.compress(b"cut short")[:-1],
        gzip.compress(b"a") + b"?",
        gzip.compress(b"two") + gzip.compress(b"files"),
    ],
)
def test_what_cannot_be_inflated_is_empty(body: bytes) -> None:
    """TF Serving then says that the document is empty."""
    assert b"" == inflated(body, 1 << 32)


@given(st.binary(max_size=40), st.integers(0, 60), st.integers(0, 255))
def test_a_file_with_a_wrong_byte_is_empty_or_right(text: bytes, at: int, byte: int) -> None:
    """Its checksum covers the text, its length bounds it: no bomb hides behind a small length."""
    body = bytearray(gzip.compress(text))
    body[at % len(body)] = byte

    assert inflated(bytes(body), 40) in {b"", text}


def test_a_bomb_with_a_false_length_is_empty() -> None:
    """Nothing beyond the length it claims is ever inflated."""
    bomb = gzip.compress(b"\0" * (8 << 20))[:-4] + (1000).to_bytes(4, "little")

    assert b"" == inflated(bomb, 1 << 30)
