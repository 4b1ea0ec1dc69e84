"""What gRPC adds to HTTP/2: prefixed messages, compression, deadlines, statuses, metadata; as bytes. No streams.

Source: grpc/doc/PROTOCOL-HTTP2.md, compression.md and statuscodes.md of github.com/grpc/grpc.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from batchproxy.wire.frames import DATA, END_HEADERS, END_STREAM, HEADERS
from batchproxy.wire.headers import literal

PREFIX: Final = struct.Struct(">BI")
"""Before each message: whether it is compressed, and its length."""

ACCEPTED: Final = b"identity, deflate, gzip"
"""The message encodings we read."""

MAX_MESSAGE_TEXT: Final = 4096
"""Bytes of an encoded ``grpc-message``: callers refuse trailers above 8 KiB (``grpc.max_metadata_size``)."""

RESPONSE: Final = b"\x88\x0f\x10\x10application/grpc"
"""``:status: 200`` (static index 8) and ``content-type`` (31, as a literal): a normal answer's header block."""

DONE: Final = literal(b"grpc-status", b"0")
"""The trailers of a call that went well."""

Pair = tuple[str, str | bytes]

_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNSAFE = re.compile(rb"[^\x20-\x24\x26-\x7e]")
_CUT_ESCAPE = re.compile(rb"%[0-9A-F]?\Z")
_NAME = re.compile(rb"[0-9a-z_.\-]+")
_TEXT = re.compile(rb"[\x20-\x7e]*")
_WINDOW_BITS = {b"gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}  # deflate is the zlib format


class MessageError(ValueError):
    """A message that cannot be decompressed."""


class MessageTooLarge(ValueError):
    """A message that is longer than we take once it is decompressed."""


def timeout_s(value: bytes) -> float | None:
    """A ``grpc-timeout`` in seconds; None where it is none.

    >>> timeout_s(b"250m"), timeout_s(b"2H"), timeout_s(b"123456789S")
    (0.25, 7200.0, None)
    """
    match = _TIMEOUT.fullmatch(value)
    return int(match[1]) * _UNITS[match[2]] if match else None


def timeout_value(seconds: float) -> bytes:
    """A ``grpc-timeout`` of at least so many seconds, as exact as its eight digits allow.

    >>> timeout_value(0.25), timeout_value(300.0), timeout_value(1e9)
    (b'250000u', b'300000m', b'99999999S')
    """
    for unit, scale in ((b"u", 1e6), (b"m", 1e3)):
        count = math.ceil(seconds * scale)
        if count < 100_000_000:
            return b"%d%s" % (max(count, 1), unit)
    return b"%dS" % min(math.ceil(seconds), 99_999_999)


def percent_encoded(message: str) -> bytes:
    r"""A status text as ``grpc-message`` has it: printable ASCII without the percent sign, the rest as ``%XX``.

    >>> percent_encoded("50 % off\n")
    b'50 %25 off%0A'
    """
    text = _UNSAFE.sub(lambda match: b"%%%02X" % match[0][0], message.encode("utf-8", "replace"))
    return _CUT_ESCAPE.sub(b"", text[:MAX_MESSAGE_TEXT]) if len(text) > MAX_MESSAGE_TEXT else text


def percent_decoded(value: bytes) -> str:
    r"""The status text in a ``grpc-message``; what is not encoded as it should be stays as it is.

    >>> percent_decoded(b"50 %25 off%0A%")
    '50 % off\n%'
    """
    return (unquote_to_bytes(value) if b"%" in value else value).decode("utf-8", "replace")


def metadata_fields(pairs: Iterable[Pair]) -> bytes:
    """Metadata as header fields; the values of ``-bin`` names in base64, others as ASCII.

    Raises:
        ValueError: a name or value that gRPC does not allow.
    """
    fields = []
    for name, value in pairs:
        raw = name.encode("ascii")
        if name.endswith("-bin") and isinstance(value, bytes):
            text = base64.b64encode(value).rstrip(b"=")  # "implementations MUST accept padded and un-padded"
        else:
            text = value.encode("ascii") if isinstance(value, str) else value
        if _NAME.fullmatch(raw) is None or _TEXT.fullmatch(text) is None or text != text.strip():
            raise ValueError(f"{name!r}: {value!r} cannot be gRPC metadata")
        fields.append(literal(raw, text))
    return b"".join(fields)


def metadata_pairs(fields: Iterable[tuple[bytes, bytes]]) -> Iterable[Pair]:
    """Header fields as metadata; the values of ``-bin`` names decoded, one pair for each value of a joined list.

    A binary value that is not base64 is passed on as the text it is.
    """
    for raw, value in fields:
        name = raw.decode("ascii")
        if not name.endswith("-bin"):
            yield name, value.decode("latin-1")
            continue
        for part in value.split(b","):
            try:
                yield name, base64.b64decode(part.strip().rstrip(b"=") + b"=" * (-len(part.strip().rstrip(b"=")) % 4))
            except binascii.Error:
                yield name, part.decode("latin-1")


def trailers(code: int, message: str, pairs: Sequence[Pair] = ()) -> bytes:
    """The fields that end a call: status, text and metadata."""
    block = literal(b"grpc-status", b"%d" % code)
    if message:
        block += literal(b"grpc-message", percent_encoded(message))
    return block + metadata_fields(pairs) if pairs else block


def compress(encoding: bytes, message: bytes) -> bytes:
    """A message in ``gzip`` or ``deflate``, at zlib's usual level."""
    packer = zlib.compressobj(wbits=_WINDOW_BITS[encoding])
    return packer.compress(message) + packer.flush()


def decompress(encoding: bytes, data: bytes, limit: int) -> bytes:
    """The message in ``gzip`` or ``deflate`` data; never makes more than ``limit`` bytes and one.

    Raises:
        MessageError: the data is broken, cut short or followed by something else.
        MessageTooLarge: the message has more than ``limit`` bytes.
    """
    unpacker = zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        message = unpacker.decompress(data, limit + 1)
    except zlib.error as error:
        raise MessageError(f"the message is not {encoding.decode()} data: {error}") from None
    if len(message) > limit:
        raise MessageTooLarge(f"the message has more than {limit} bytes once decompressed")
    if not unpacker.eof or unpacker.unused_data:
        raise MessageError(f"the message is not one whole piece of {encoding.decode()} data")
    return message


class Unary(NamedTuple):
    """All frames of one successful answer but for its message; one ``struct.pack`` makes them whole.

    Attributes:
        pack: ``pack(head, id, middle, id, opening, message, closing, id, end)``, with the stream's id.
        size: of the DATA frame's payload, in bytes: what flow control counts.
    """

    pack: Callable[..., bytes]
    size: int
    head: bytes
    middle: bytes
    opening: bytes
    closing: bytes
    end: bytes


@lru_cache(maxsize=1024)
def plain(message: int) -> Unary:
    """The frames of an answer whose message has so many bytes."""
    size = PREFIX.size + message
    head = struct.pack(">IB", len(RESPONSE) << 8 | HEADERS, END_HEADERS)
    # Too long for a frame's 24 bits: it is never packed, as no peer's window and frame size have room for it.
    middle = RESPONSE + struct.pack(">IB", size << 8 & 0xFFFFFFFF | DATA, 0)
    opening = PREFIX.pack(0, message)
    closing = struct.pack(">IB", len(DONE) << 8 | HEADERS, END_HEADERS | END_STREAM)
    form = f">{len(head)}sI{len(middle)}sI{len(opening)}s{message}s{len(closing)}sI{len(DONE)}s"
    return Unary(struct.Struct(form).pack, size, head, middle, opening, closing, DONE)
