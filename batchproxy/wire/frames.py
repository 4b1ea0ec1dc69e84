"""HTTP/2 frames: their numbers, their bytes, and what is wrong with them as exceptions. No state of a connection here.

Sections are those of RFC 9113.
"""

from __future__ import annotations

import enum
import struct
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client says first (3.4)."""

HEADER_BYTES: Final = 9
HEADER: Final = struct.Struct(">IBI")
"""A frame's first nine bytes: length (24 bits) and kind (8) as one number, flags, stream with a reserved bit (4.1)."""

DATA: Final = 0
HEADERS: Final = 1
PRIORITY: Final = 2
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
HAS_PRIORITY: Final = 0x20

HEADER_TABLE_SIZE: Final = 1
ENABLE_PUSH: Final = 2
MAX_CONCURRENT_STREAMS: Final = 3
INITIAL_WINDOW_SIZE: Final = 4
MAX_FRAME_SIZE: Final = 5
MAX_HEADER_LIST_SIZE: Final = 6

STREAM_MASK: Final = 0x7FFFFFFF
MAX_WINDOW: Final = 0x7FFFFFFF
"""No window grows beyond this (6.9.1)."""

DEFAULT_WINDOW: Final = 65_535
"""Every window until somebody says otherwise (6.9.2)."""

FRAME_BYTES: Final = 16_384
"""The largest frame everybody must take, and the largest we take (4.2): larger ones gained nothing when measured."""


class ErrorCode(enum.IntEnum):
    """Section 7."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


class ConnectionFault(Exception):
    """The peer did what ends the connection (5.4.1).

    Args:
        code: for the GOAWAY frame.
        reason: for its debug data.
    """

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class StreamFault(Exception):
    """The peer did what ends one stream (5.4.2).

    Args:
        code: for the RST_STREAM frame.
        reason: for whoever debugs.
    """

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A whole frame.

    >>> frame(PING, ACK, 0, bytes(8)).hex()
    '0000080601000000000000000000000000'
    """
    return HEADER.pack(len(payload) << 8 | kind, flags, stream) + payload


def headers(stream: int, block: bytes, flags: int, frame_bytes: int) -> bytes:
    """A header block as HEADERS and as many CONTINUATION frames as it takes (6.10).

    Args:
        stream: whose.
        block: HPACK's bytes.
        flags: END_STREAM or 0.
        frame_bytes: the peer's largest frame.
    """
    if len(block) <= frame_bytes:
        return HEADER.pack(len(block) << 8 | HEADERS, flags | END_HEADERS, stream) + block
    parts = [frame(HEADERS, flags, stream, block[:frame_bytes])]
    for start in range(frame_bytes, len(block), frame_bytes):
        piece = block[start : start + frame_bytes]
        parts.append(frame(CONTINUATION, END_HEADERS if start + frame_bytes >= len(block) else 0, stream, piece))
    return b"".join(parts)


def settings(*pairs: tuple[int, int]) -> bytes:
    """A SETTINGS frame (6.5)."""
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", name, value) for name, value in pairs))


def window_update(stream: int, increment: int) -> bytes:
    """A WINDOW_UPDATE frame (6.9)."""
    return frame(WINDOW_UPDATE, 0, stream, increment.to_bytes(4, "big"))


def rst_stream(stream: int, code: ErrorCode) -> bytes:
    """A RST_STREAM frame (6.4)."""
    return frame(RST_STREAM, 0, stream, code.to_bytes(4, "big"))


def goaway(last: int, code: ErrorCode, reason: str = "") -> bytes:
    """A GOAWAY frame (6.8) with the reason as debug data."""
    return frame(GOAWAY, 0, 0, struct.pack(">II", last, code) + reason.encode("utf-8"))


def unpadded(flags: int, payload: bytes) -> bytes:
    """The payload without its padding (6.1).

    Raises:
        ConnectionFault: padding as long as the payload, or longer.
    """
    if not flags & PADDED:
        return payload
    if not payload:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a padded frame has no room for its pad length")
    padding = payload[0]
    if padding >= len(payload):
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "padding is longer than the frame")
    return payload[1 : len(payload) - padding]
