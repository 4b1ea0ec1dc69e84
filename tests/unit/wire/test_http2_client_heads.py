"""Header blocks of a gRPC client: what is read of an answer's, and how a request's is written."""

from __future__ import annotations

import hpack
import pytest

from batchproxy.wire.frames import StreamFault
from batchproxy.wire.headers import literal
from batchproxy.wire.http2_client_heads import MAX_KNOWN, MAX_KNOWN_BYTES, AnswerHead, AnswerHeads, RequestBlocks


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([(b":status", b"200"), (b"grpc-status", b"5"), (b"grpc-message", b"50 %25%0A")], (5, "50 %\n")),
        ([(b"grpc-status", b"0")], (0, "")),
        ([(b"grpc-status", b"16"), (b"grpc-message", b"\xff%")], (16, "\ufffd%")),
        ([(b"grpc-status", b"17"), (b"grpc-message", b"new")], (2, "new")),
        ([(b"grpc-status", b"-1")], (2, "")),
        ([(b":status", b"200")], (2, "the answer has no grpc-status")),
        ([(b":status", b"404")], (12, "HTTP status 404, and no grpc-status")),
        ([(b":status", b"503")], (14, "HTTP status 503, and no grpc-status")),
        ([(b":status", b"418")], (2, "HTTP status 418, and no grpc-status")),
    ],
)
def test_what_a_block_says_of_the_status(fields: list[tuple[bytes, bytes]], expected: tuple[int, str]) -> None:
    """gRPC's own status, else what HTTP's means, else UNKNOWN."""
    head = AnswerHead(fields)

    assert expected == head.verdict()


def test_metadata_is_all_that_is_not_ours() -> None:
    """In order, repeated names apart, binary values as bytes, blanks kept; gRPC's rich status is metadata."""
    head = AnswerHead(
        [
            (b":status", b"200"),
            (b"content-type", b"application/grpc"),
            (b"grpc-encoding", b"gzip"),
            (b"grpc-accept-encoding", b"gzip"),
            (b"a", b"1 "),
            (b"a", b"2"),
            (b"b-bin", b"AP8"),
            (b"grpc-status-details-bin", b"AAE"),
        ]
    )

    assert (("a", "1 "), ("a", "2"), ("b-bin", b"\0\xff"), ("grpc-status-details-bin", b"\0\x01")) == head.pairs
    assert (200, b"gzip", "<AnswerHead HTTP 200, status None>") == (head.http, head.encoding, repr(head))


@pytest.mark.parametrize(
    "fields",
    [
        [(b":status", b"20")],
        [(b":status", b"2x0")],
        [(b"a", b"1"), (b":status", b"200")],
        [(b":status", b"200"), (b"A", b"1")],
        [(b":status", b"200"), (b"a", b"1\n")],
        [(b":status", b"200"), (b"connection", b"close")],
    ],
)
def test_malformed_answers(fields: list[tuple[bytes, bytes]]) -> None:
    """RFC 9113, 8.1.1: what no server may send."""
    with pytest.raises(StreamFault):
        AnswerHead(fields)


def test_equal_blocks_are_read_once_until_the_table_changes() -> None:
    """Remembered as long as the same bytes mean the same."""
    encoder, heads = hpack.Encoder(), AnswerHeads(100, 1 << 16)
    first = encoder.encode([(":status", "200"), ("a", "1")])
    second = encoder.encode([(":status", "200"), ("a", "1")])
    heads.read(first)
    again = heads.read(second)

    assert again is heads.read(second)
    assert (("a", "1"),) == again.pairs
    heads.read(encoder.encode([(":status", "200"), ("a", "2")]))
    assert (("a", "1"),) == heads.read(encoder.encode([(":status", "200"), ("a", "1")])).pairs
    assert "<AnswerHeads 1 known>" == repr(heads)


def test_memory_of_blocks_is_bounded() -> None:
    """By their number and their length."""
    heads, blocks = AnswerHeads(100, 1 << 16), RequestBlocks("h", "http")
    for number in range(2 * MAX_KNOWN):
        heads.read(b"\x88" + literal(b"a", b"%d" % number))
        blocks.block(f"/{number}", None, ())
    heads.read(b"\x88" + literal(b"a", b"x" * MAX_KNOWN_BYTES))

    assert f"<AnswerHeads {MAX_KNOWN} known>" == repr(heads)
    assert f"<RequestBlocks {MAX_KNOWN} known>" == repr(blocks)


@pytest.mark.parametrize(("timeout_s", "text"), [(None, None), (1.5, "1500000u"), (300.0, "300000m"), (2e5, "200000S")])
def test_a_requests_block(timeout_s: float | None, text: str | None) -> None:
    """Pseudo-header fields first; the time limit; metadata last, binary values in base64 without padding."""
    block = RequestBlocks("h:1", "https").block("/s/m", timeout_s, (("a", "1"), ("b-bin", b"\0")))
    fields = [(str(name), str(value)) for name, value in hpack.Decoder().decode(block)]

    assert [(":method", "POST"), (":scheme", "https"), (":path", "/s/m"), (":authority", "h:1")] == fields[:4]
    assert text == dict(fields).get("grpc-timeout")
    assert [("a", "1"), ("b-bin", "AA")] == fields[-2:]


@pytest.mark.parametrize("path", ["", "s/m", "/é", "/a\n"])
def test_paths_that_cannot_be_sent(path: str) -> None:
    """They are refused here, not by the server for the whole connection."""
    with pytest.raises(ValueError, match="no gRPC method"):
        RequestBlocks("h:1", "http").block(path, None, ())
