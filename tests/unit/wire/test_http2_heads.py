"""What is remembered, and what must not be."""

from __future__ import annotations

import hpack
import pytest

from batchproxy.wire.frames import StreamFault
from batchproxy.wire.headers import literal
from batchproxy.wire.http2_head import Head
from batchproxy.wire.http2_heads import MAX_KNOWN, Heads
from tests.http2_peer import CALL, GET


def heads() -> Heads:
    """With room for everything."""
    return Heads(1000, 1 << 20)


def plain(*more: tuple[str, str], fields: tuple[tuple[str, str], ...] = tuple(CALL)) -> bytes:
    """A block that does not change the table."""
    return b"".join(literal(name.encode(), value.encode()) for name, value in (*fields, *more))


def test_an_equal_block_is_an_equal_head() -> None:
    """Calls and others, each in its memory."""
    found = heads()

    assert found.read(plain()) is found.read(plain())
    assert found.read(plain(fields=tuple(GET))) is found.read(plain(fields=tuple(GET)))
    assert "<Heads 1 calls, 1 others, 1 patterns>" == repr(found)


def test_a_changed_table_forgets_the_blocks() -> None:
    """And a block that changes it is not remembered: its change must happen each time."""
    found = heads()
    first = found.read(plain())
    encoder = hpack.Encoder()
    changing = encoder.encode(CALL)
    found.read(changing)

    assert "<Heads 0 calls, 0 others, 1 patterns>" == repr(found)
    assert first is not found.read(plain())
    found.fields(literal(b"a", b"b"))
    assert 1 == len(found.unary)
    found.fields(b"\x40\x01a\x01b")
    assert 0 == len(found.unary)


@pytest.mark.parametrize("more", [("grpc-timeout", "x"), ("grpc-encoding", "snappy")])
def test_a_refused_head_is_not_remembered(more: tuple[str, str]) -> None:
    """The short way takes what is remembered."""
    found = heads()
    found.read(plain())
    for _ in range(2):
        assert found.read(plain(more)).refusal is not None
    assert 1 == len(found.unary)


def test_a_malformed_head_is_not_remembered() -> None:
    """Nor made from a good one."""
    found = heads()
    found.read(plain())
    for more in [("X", "1"), ("a", " b"), (":status", "200"), ("a", "b\r")]:
        for _ in range(2):
            with pytest.raises(StreamFault):
                found.read(plain(more))
    assert 1 == len(found.unary)


def test_a_head_made_from_another() -> None:
    """Differs in metadata and time limit only."""
    found = heads()
    first = found.read(plain(("grpc-accept-encoding", "gzip"), ("id", "1"), ("grpc-timeout", "1S")))
    second = found.read(plain(("grpc-accept-encoding", "gzip"), ("id", "2")))
    third = found.read(plain(("grpc-accept-encoding", "gzip"), ("id", "3"), ("grpc-timeout", "3S")))

    assert "<Heads 3 calls, 0 others, 1 patterns>" == repr(found)
    assert [1.0, None, 3.0] == [head.timeout_s for head in (first, second, third)]
    assert ["1", "2", "3"] == [head.metadata["id"] for head in (first, second, third)]
    assert {b"gzip"} == {head.accepts for head in (first, second, third)}
    assert first.path == third.path


def test_the_order_of_pseudo_header_fields() -> None:
    """Is looked at even where the fields are known."""
    found = heads()
    found.read(plain())
    with pytest.raises(StreamFault):
        found.read(plain(("id", "1"), fields=()) + plain())


def test_memory_is_bounded() -> None:
    """The oldest go, and long blocks are not kept."""
    found = heads()
    made: list[Head] = [found.read(plain(("user-agent", str(number)))) for number in range(2 * MAX_KNOWN)]
    for number in range(2 * MAX_KNOWN):
        found.read(plain(("a", str(number)), fields=tuple(GET)))
    found.read(plain(("long", "x" * 2048)))

    assert f"<Heads {MAX_KNOWN} calls, {MAX_KNOWN} others, {MAX_KNOWN} patterns>" == repr(found)
    assert made[-1] is found.read(plain(("user-agent", str(2 * MAX_KNOWN - 1))))
