"""What is inflated at once, what is left to a thread, and what is refused."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.wire import grpc
from batchproxy.wire.http2_head import Refusal
from batchproxy.wire.unpack import QUICK_BYTES, QUICK_TEXT_BYTES, Packed, is_quick

PACK = {encoding: partial(grpc.compress, encoding) for encoding in (b"gzip", b"deflate")}
EMPTY_BLOCK = b"\0\0\0\xff\xff"
"""A piece of DEFLATE without text (RFC 1951, 3.2.4)."""


def test_files_by_their_size_and_their_texts() -> None:
    """Both bounds count: a file of empty blocks costs time and makes nothing."""
    hollow = gzip.compress(b"")[:10] + EMPTY_BLOCK * (QUICK_BYTES // 5) + gzip.compress(b"")[10:]

    assert is_quick(gzip.compress(bytes(QUICK_TEXT_BYTES)))
    assert not is_quick(gzip.compress(bytes(QUICK_TEXT_BYTES + 1)))
    assert not is_quick(gzip.compress(os.urandom(QUICK_BYTES)))
    assert not is_quick(hollow)
    assert b"" == gzip.decompress(hollow)


@pytest.mark.parametrize("encoding", PACK)
@pytest.mark.parametrize(
    ("text", "quick"),
    [
        (b"", True),
        (bytes(QUICK_TEXT_BYTES), True),
        (bytes(QUICK_TEXT_BYTES + 1), False),
        (os.urandom(QUICK_BYTES), False),
    ],
    ids=["empty", "at the bound", "above the bound", "long as sent"],
)
def test_messages_by_their_size_and_their_texts(encoding: bytes, text: bytes, quick: bool) -> None:
    """What takes long is inflated only where somebody asks for the whole."""
    packed = Packed(encoding, PACK[encoding](text), 8 << 20)

    assert (text if quick else None) == packed.quick()
    assert text == packed.whole()


@pytest.mark.parametrize("encoding", PACK)
@pytest.mark.parametrize("limit", [100, QUICK_TEXT_BYTES])
def test_too_long_is_too_long_at_once(encoding: bytes, limit: int) -> None:
    """Nobody needs a thread to learn that."""
    packed = Packed(encoding, PACK[encoding](bytes(limit + 1)), limit)
    for inflate in (packed.quick, packed.whole):
        with pytest.raises(Refusal) as caught:
            inflate()

        assert (8, f"the message has more than {limit} bytes once decompressed") == (
            caught.value.code,
            caught.value.text,
        )


def test_what_is_too_long_is_learnt_in_the_thread() -> None:
    """Where the limit is beyond what is inflated at once."""
    packed = Packed(b"gzip", gzip.compress(bytes(3 << 20)), 2 << 20)

    assert packed.quick() is None
    with pytest.raises(Refusal, match="more than 2097152 bytes"):
        packed.whole()


@given(st.sampled_from(sorted(PACK)), st.binary(max_size=80))
def test_junk_is_refused_both_ways(encoding: bytes, junk: bytes) -> None:
    """With the same words, unless it happens to be a message."""
    packed = Packed(encoding, junk, 1 << 20)

    def outcome(inflate: Callable[[], bytes | None]) -> object:
        try:
            return inflate()
        except Refusal as refusal:
            return refusal.code, refusal.text

    assert outcome(packed.quick) == outcome(packed.whole)
