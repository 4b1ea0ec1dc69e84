"""The header decoder against ``hpack``'s, with and without the memory of blocks, over many changes of the table."""

from __future__ import annotations

import random

import hpack
import pytest
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hpack.huffman_table import decode_huffman
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.wire import huffman
from batchproxy.wire.frames import StreamFault
from batchproxy.wire.headers import Decoder, Field, HeaderError, HeadersTooLarge, literal
from batchproxy.wire.http2_head import Head, read_head
from batchproxy.wire.http2_heads import Heads
from tests.http2_peer import CALL, GET

NO_LIMIT = 1 << 30


def judged(decoder: hpack.Decoder, block: bytes) -> list[Field] | None:
    """What ``hpack`` makes of a block; None where it refuses."""
    try:
        return [(bytes(name), bytes(value)) for name, value in decoder.decode(block, raw=True)]
    except hpack.HPACKError:
        return None


def decoded(decoder: Decoder, block: bytes) -> list[Field] | None:
    """The same of ours."""
    try:
        return decoder.decode(block)
    except HeaderError:
        return None


def told(head: Head | None) -> tuple[object, ...] | None:
    """What can be seen of a head."""
    if head is None:
        return None
    refusal = head.refusal.code if head.refusal is not None else None
    return (
        head.method, head.path, dict(head.headers), dict(head.metadata), head.length, head.short, head.grpc,
        head.timeout_s, head.encoding, head.accepts, head.awaits, refusal, head.pairs(), head.fields,
    )  # fmt: skip


def requests(seed: int, count: int) -> list[bytes]:
    """Header blocks of one connection: most of them seen before, some changing the table, its size, or malformed."""
    draw = random.Random(seed)
    encoder = hpack.Encoder()
    tracker = Decoder(NO_LIMIT, NO_LIMIT)
    plain = [list(CALL), list(GET), [*CALL, ("grpc-accept-encoding", "gzip")], [*CALL, ("content-length", "9")]]
    blocks: list[bytes] = []
    repeatable: list[bytes] = []
    for _ in range(count):
        kind = draw.random()
        if kind < 0.85 and repeatable:
            blocks.append(draw.choice(repeatable))
            continue
        if kind < 0.853:
            encoder.header_table_size = draw.choice([0, 200, 4000, 4096])
        fields: list[tuple[str, str]] = list(draw.choice(plain))
        if draw.random() < 0.3:
            fields.append(("grpc-timeout", draw.choice(["1S", "250m", "x", "17u"])))
        extra = b""
        if draw.random() < 0.4:  # never indexed: the next block may be the same one
            extra = literal(draw.choice([b"x-id", b"X-Bad", b"id-bin", b"te"]), b"%d" % draw.randrange(9))
        if draw.random() < 0.1:
            fields.insert(draw.randrange(len(fields) + 1), ("x-trace", str(draw.randrange(1 << 30))))
        version = tracker.version
        block = encoder.encode(fields, huffman=draw.random() < 0.5) + extra
        blocks.append(block)
        tracker.decode(block)
        if tracker.version == version:
            repeatable.append(block)
        else:  # said once more, it would change the decoder's table and not the encoder's
            repeatable.clear()
    return blocks


@pytest.mark.parametrize("seed", range(5))
def test_blocks_as_hpack_has_them(seed: int) -> None:
    """20,000 blocks in all: the same fields as ``hpack``, the same table, and the memory changes nothing."""
    theirs = hpack.Decoder(max_header_list_size=NO_LIMIT)
    ours = Decoder(NO_LIMIT, NO_LIMIT)
    remembering = Heads(NO_LIMIT, NO_LIMIT)
    hits = 0
    for block in requests(seed, 4000):
        expected = judged(theirs, block)
        fields = ours.decode(block)

        assert expected == fields
        assert list(theirs.header_table.dynamic_entries) == ours._table[::-1]

        hits += block in remembering.unary or block in remembering.known
        try:
            fresh: Head | None = read_head(fields)
        except StreamFault:
            fresh = None
        try:
            known: Head | None = remembering.read(block)
        except StreamFault:
            known = None

        assert told(fresh) == told(known)
        assert ours._table == remembering._decoder._table
        assert all(head.refusal is None for head in (*remembering.unary.values(), *remembering.known.values()))
    assert hits > 1000


@given(st.lists(st.binary(max_size=24), max_size=6))
def test_any_bytes_as_hpack_has_them(blocks: list[bytes]) -> None:
    """Whatever comes, both accept the same, up to the first refusal; ours refuses longer integers, too."""
    theirs = hpack.Decoder(max_header_list_size=NO_LIMIT)
    ours = Decoder(NO_LIMIT, NO_LIMIT)
    for block in blocks:
        expected, found = judged(theirs, block), decoded(ours, block)

        assert expected == found
        if found is None:
            return


@given(st.binary(max_size=40))
def test_huffman_as_hpack_has_it(text: bytes) -> None:
    """Any text, coded by ``hpack``, comes back; any bytes are text to both or to neither."""
    coded = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH).encode(text)
    expected: bytes | None
    found: bytes | None
    try:
        expected = decode_huffman(text)
    except hpack.HPACKError:
        expected = None
    try:
        found = huffman.decode(text)
    except huffman.HuffmanError:
        found = None

    assert text == huffman.decode(coded)
    assert expected == found


@given(st.lists(st.tuples(st.binary(max_size=300), st.binary(max_size=300))))
def test_literals_are_read_by_hpack(fields: list[Field]) -> None:
    """What we write is what ``hpack`` reads."""
    block = b"".join(literal(name, value) for name, value in fields)

    assert fields == judged(hpack.Decoder(max_header_list_size=NO_LIMIT), block)
    assert fields == Decoder(NO_LIMIT, NO_LIMIT).decode(block)


@given(st.lists(st.binary(max_size=60), max_size=8), st.integers(0, 20), st.integers(0, 500))
def test_limits_keep_the_table(blocks: list[bytes], max_fields: int, max_bytes: int) -> None:
    """Too many fields, or bytes of them, are refused exactly; what was refused counts in the table as any other."""
    free, limited = Decoder(NO_LIMIT, NO_LIMIT), Decoder(max_fields, max_bytes)
    for block in blocks:
        fields = decoded(free, block)
        if fields is None:
            return
        size = sum(len(name) + len(value) + 32 for name, value in fields)
        if len(fields) > max_fields or size > max_bytes:
            with pytest.raises(HeadersTooLarge):
                limited.decode(block)
        else:
            assert fields == limited.decode(block)
        assert free._table == limited._table
