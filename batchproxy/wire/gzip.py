"""Compressed bodies, bounded, and empty where they are broken: as TF Serving takes them. No connection here."""

from __future__ import annotations

import zlib

_WBITS = 16 + zlib.MAX_WBITS  # zlib's way to ask for gzip's header and trailer
_SHORTEST = 18
"""Bytes of a gzip file's header and trailer (RFC 1952, 2.3)."""


def inflated_size(body: bytes, limit: int | None = None) -> int:
    """What a gzip file's trailer says of its length: true, or the file is broken. 0 where there is no trailer.

    Args:
        body: the file.
        limit: of ``inflated``: 0 where it says more, since the text will be empty.
    """
    size = int.from_bytes(body[-4:], "little") if len(body) >= _SHORTEST else 0
    return size if limit is None or size <= limit else 0


def inflated(body: bytes, limit: int) -> bytes:
    """The text of a gzip file.

    Args:
        body: the file, of one member.
        limit: how long the text may be; TF Serving, too, asks the trailer.

    Returns:
        Empty where it is longer, or where the file is broken.
    """
    size = inflated_size(body)
    if size > limit:
        return b""
    inflater = zlib.decompressobj(_WBITS)
    try:
        text = inflater.decompress(body, size + 1)
    except zlib.error:
        return b""
    return text if inflater.eof and not inflater.unused_data else b""
