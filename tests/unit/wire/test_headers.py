"""Header blocks by the examples of RFC 7541; ``tests/property/test_headers.py`` has ``hpack`` as the judge."""

from __future__ import annotations

import pytest

from batchproxy.wire.headers import SHRINK, Decoder, HeaderError, HeadersTooLarge, literal

FREE = 1 << 20


def decoder() -> Decoder:
    """One without limits."""
    return Decoder(FREE, FREE)


def test_the_rfcs_requests() -> None:
    """C.4: three requests on one connection, Huffman-coded, the table growing."""
    found = decoder()
    first = found.decode(bytes.fromhex("828684418cf1e3c2e5f23a6ba0ab90f4ff"))
    second = found.decode(bytes.fromhex("828684be5886a8eb10649cbf"))
    third = found.decode(bytes.fromhex("828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf"))

    assert [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"www.example.com")] == first
    assert (b"cache-control", b"no-cache") == second[-1]
    assert (b"custom-key", b"custom-value") == third[-1]
    assert "<Decoder version 3, 3 fields in 164 of 4096 bytes>" == repr(found)


def test_the_rfcs_evictions() -> None:
    """C.5.2: in a table of 256 bytes, the oldest fields go."""
    found = decoder()
    found.decode(
        b"\x3f\xe1\x01"  # a table of 256 bytes
        + bytes.fromhex(
            "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d54"
            "6e1768747470733a2f2f7777772e6578616d706c652e636f6d"
        )
    )
    before = repr(found)
    fields = found.decode(bytes.fromhex("4803333037c1c0bf"))

    assert "<Decoder version 5, 4 fields in 222 of 256 bytes>" == before
    assert (b":status", b"307") == fields[0]
    assert (b"location", b"https://www.example.com") == fields[3]
    assert "<Decoder version 6, 4 fields in 222 of 256 bytes>" == repr(found)


@pytest.mark.parametrize(
    ("block", "moves"),
    [
        (b"\x82", 0),
        (literal(b"a", b"b"), 0),
        (b"\x10\x01a\x01b", 0),  # never indexed
        (b"\x40\x01a\x01b", 1),
        (b"\x40\x01a\x7f\x81\x1f" + bytes(4096), 1),  # does not fit: the table is emptied
        (b"\x3f\xe1\x1f", 1),  # the size it has already
        (SHRINK, 1),
    ],
)
def test_what_moves_the_version(block: bytes, moves: int) -> None:
    """Whatever may change the table does, even where it then looks as before."""
    found = decoder()
    found.decode(block)

    assert moves == found.version


@pytest.mark.parametrize(
    "block",
    [
        b"\x80",  # index 0
        b"\xbe",  # no such entry
        b"\x7f\x00\x01b",  # a name without an entry
        b"\xff",  # an integer without its rest
        b"\xff\xff\xff\xff\xff\xff\x00",  # an integer of more than five bytes
        b"\x00\x05ab",  # a name cut short
        b"\x00\x01a\x05b",  # a value cut short
        b"\x00\x01a\x85b",  # and Huffman-coded
        b"\x00\x01a",  # no value
        b"\x00\x01a\x81\x00",  # no Huffman code
        b"\x82\x20",  # the size changed too late
        b"\x3f\xe2\x1f",  # to more than was allowed
    ],
)
def test_faults(block: bytes) -> None:
    """Blocks that cannot be decoded are refused, whatever is wrong with them."""
    with pytest.raises(HeaderError):
        decoder().decode(block)


def test_limits() -> None:
    """Fields and their bytes, 32 more for each; exactly at a limit is not above it."""
    limited = Decoder(2, 70)  # (1 + 1 + 32) + (2 + 2 + 32)
    fits = literal(b"a", b"b") + literal(b"cd", b"ef")

    assert 2 == len(limited.decode(fits))
    with pytest.raises(HeadersTooLarge, match="3 header fields are more than 2"):
        limited.decode(fits + literal(b"", b""))
    with pytest.raises(HeadersTooLarge, match="71 bytes of header fields are more than 70"):
        limited.decode(literal(b"a", b"b") + literal(b"cd", b"efg"))


@pytest.mark.parametrize("size", [0, 1, 126, 127, 128, 254, 255, 16_000, 3_000_000])
def test_lengths(size: int) -> None:
    """A literal of any length comes back."""
    field = (b"n" * size, b"v" * size)

    assert [field] == Decoder(FREE, 1 << 30).decode(literal(*field))
