"""Frames as bytes, by hand."""

from __future__ import annotations

import pytest

from batchproxy.wire import frames
from batchproxy.wire.frames import ConnectionFault, ErrorCode, StreamFault
from tests.http2_peer import split


@pytest.mark.parametrize(
    ("built", "expected"),
    [
        (frames.frame(frames.DATA, 1, 3, b"ab"), "000002 00 01 00000003 6162"),
        (frames.settings((3, 1000), (4, 65535)), "00000c 04 00 00000000 0003000003e8 00040000ffff"),
        (frames.window_update(5, 258), "000004 08 00 00000005 00000102"),
        (frames.rst_stream(7, ErrorCode.CANCEL), "000004 03 00 00000007 00000008"),
        (frames.goaway(9, ErrorCode.ENHANCE_YOUR_CALM, "no"), "00000a 07 00 00000000 00000009 0000000b 6e6f"),
        (frames.headers(1, b"ab", frames.END_STREAM, 16384), "000002 01 05 00000001 6162"),
    ],
)  # fmt: skip
def test_bytes(built: bytes, expected: str) -> None:
    """Length, kind, flags, stream, payload."""
    assert bytes.fromhex(expected) == built


@pytest.mark.parametrize(("size", "sizes"), [(10, [10]), (11, [10, 1]), (20, [10, 10]), (21, [10, 10, 1])])
def test_long_header_blocks(size: int, sizes: list[int]) -> None:
    """6.10: cut into frames the peer takes; END_STREAM is on the first and END_HEADERS on the last."""
    block = bytes(range(size))
    found = split(frames.headers(3, block, frames.END_STREAM, 10))

    assert sizes == [len(frame.payload) for frame in found]
    assert block == b"".join(frame.payload for frame in found)
    assert [frames.HEADERS] + [frames.CONTINUATION] * (len(sizes) - 1) == [frame.kind for frame in found]
    assert frames.END_STREAM == found[0].flags & frames.END_STREAM
    assert [0] * (len(sizes) - 1) + [4] == [frame.flags & frames.END_HEADERS for frame in found]


@pytest.mark.parametrize(
    ("flags", "payload", "expected"),
    [
        (0, b"\x02abc", b"\x02abc"),
        (8, b"\x02abcde", b"abc"),
        (8, b"\0abc", b"abc"),
        (8, b"\0", b""),
        (8, b"\x01x", b""),
    ],
)
def test_padding(flags: int, payload: bytes, expected: bytes) -> None:
    """It is taken off where the flag says that there is some."""
    assert expected == frames.unpadded(flags, payload)


@pytest.mark.parametrize(
    ("payload", "code"),
    [(b"", ErrorCode.FRAME_SIZE_ERROR), (b"\x01", ErrorCode.PROTOCOL_ERROR), (b"\x02a", ErrorCode.PROTOCOL_ERROR)],
)
def test_wrong_padding(payload: bytes, code: ErrorCode) -> None:
    """6.1: there must be as much as was said."""
    with pytest.raises(ConnectionFault) as caught:
        frames.unpadded(frames.PADDED, payload)

    assert code == caught.value.code


@pytest.mark.parametrize("kind", [ConnectionFault, StreamFault])
def test_faults(kind: type[ConnectionFault | StreamFault]) -> None:
    """They carry their code and reason."""
    fault = kind(ErrorCode.CANCEL, "why")

    assert (ErrorCode.CANCEL, "why") == (fault.code, fault.reason)
