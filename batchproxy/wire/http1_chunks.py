"""A chunked HTTP/1.1 body: its framing taken off, trailers checked and dropped. Knows nothing of the request around it.

Strict where intermediaries have been fooled: sizes are hexadecimal digits and nothing else, every line ends with
CR LF, no white space before an extension, none of the lenient readings of RFC 9112, 7.1.
"""

from __future__ import annotations

import re

from batchproxy.wire.base import Limits
from batchproxy.wire.http1_head import Refused

MAX_LINE_BYTES = 1 << 10
"""Of a chunk's line, extensions and line end included."""

MAX_EXCESS_BYTES = 16 << 10
"""Framing beyond 16 bytes a chunk and twice its data may sum up to this; else a peer makes us read far more than it
sends. The law of Go's ``net/http`` since CVE-2023-39326."""

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:;[\t\x20-\x7e\x80-\xff]*)?")
_TRAILER = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*")


class Chunks:
    """Collects one body.

    Args:
        limits: of body and trailers.

    Attributes:
        done: whether the body and its trailers are whole.
    """

    __slots__ = ("_body", "_excess", "_left", "_limits", "_rest", "_trailers", "done")

    def __init__(self, limits: Limits) -> None:
        self.done = False
        self._limits = limits
        self._body = bytearray()
        self._left = 0  # bytes of the chunk that are still to come, and 2 for its line end
        self._rest = b""  # the beginning of a line
        self._trailers = -1  # bytes of trailers so far; -1: none yet
        self._excess = 0

    def body(self) -> bytes:
        """What was collected."""
        return bytes(self._body)

    def feed(self, data: bytes, start: int) -> int:
        """Take what belongs to the body from ``data[start:]``; returns where it stopped: after the end, if ``done``.

        Raises:
            Refused: 400 for wrong framing, 413 and 431 for too much of it.
        """
        position, shift = start, 0
        if self._rest:
            data = self._rest + data[start:]
            position, shift = 0, start - len(self._rest)
            self._rest = b""
        size = len(data)
        while position < size and not self.done:
            if self._left > 2:
                end = min(size, position + self._left - 2)
                self._body += memoryview(data)[position:end]
                self._left -= end - position
                position = end
            elif self._left:
                position = self._line_end(data, position)
            else:
                position = self._line(data, position)
        return position + shift

    def _line_end(self, data: bytes, position: int) -> int:
        if data[position] != b"\n\r"[self._left - 1]:
            raise Refused(400, "a chunk is longer than its size says")
        self._left -= 1
        return position + 1

    def _line(self, data: bytes, position: int) -> int:
        """A chunk's size, or a trailer."""
        limit = MAX_LINE_BYTES if self._trailers < 0 else max(self._limits.head_bytes - self._trailers, 2)
        end = data.find(b"\r\n", position, position + limit)
        if end < 0:
            _refuse_bare_line_feed(data[position : position + limit])
            if len(data) - position >= limit:
                self._refuse_long()
            self._rest = data[position:]
            return len(data)
        line = data[position:end]
        if self._trailers < 0:
            self._chunk(line)
        elif not line:
            self.done = True
        elif _TRAILER.fullmatch(line) is None:
            _refuse_bare_line_feed(line)
            raise Refused(400, "a trailer is malformed")
        else:
            self._trailers += len(line) + 2
        return end + 2

    def _chunk(self, line: bytes) -> None:
        found = _SIZE.fullmatch(line)
        if found is None:
            _refuse_bare_line_feed(line)
            raise Refused(400, "a chunk's size is malformed")
        size = int(found[1], 16)
        if size == 0:
            self._trailers = 0
            return
        if len(self._body) + size > self._limits.body_bytes:
            raise Refused(413, f"the request's body is longer than {self._limits.body_bytes} bytes")
        self._excess = max(0, self._excess + len(line) + 4 - 16 - 2 * size)
        if self._excess > MAX_EXCESS_BYTES:
            raise Refused(400, "the body has more framing than data")
        self._left = size + 2

    def _refuse_long(self) -> None:
        if self._trailers < 0:
            raise Refused(400, f"a chunk's line is longer than {MAX_LINE_BYTES} bytes")
        raise Refused(431, f"the request's trailers are longer than {self._limits.head_bytes} bytes")


def _refuse_bare_line_feed(text: bytes) -> None:
    if b"\n" in text:
        raise Refused(400, "a line of a chunked body ends with a bare line feed")
