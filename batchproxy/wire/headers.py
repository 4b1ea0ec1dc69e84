"""Header fields of HTTP/2 (HPACK, RFC 7541): blocks to fields and back. What the fields mean is not known here.

The decoder is ours because the usual one costs ten times the rest of a request; the static table and the Huffman table
are ``hpack``'s, and its decoder is the judge in the tests. What we send is never Huffman-coded and never indexed
dynamically: a few bytes more, and no state that a peer could disturb.
"""

from __future__ import annotations

from hpack.table import HeaderTable

from batchproxy.wire import huffman

Field = tuple[bytes, bytes]

STATIC: tuple[Field, ...] = ((b"", b""), *HeaderTable.STATIC_TABLE)
"""The static table by index; index 0 means nothing (RFC 7541, 6.1)."""

DYNAMIC = len(STATIC)
"""The first index of the dynamic table: 62."""

TABLE_BYTES = 4096
"""The dynamic table's limit until an endpoint announces another (RFC 9113, 6.5.2), which we never do."""

ENTRY_BYTES = 32
"""What a field counts beyond its name and value (RFC 7541, 4.1; RFC 9113, 6.5.2)."""

MAX_SHIFT = 28
"""Integers of more than five bytes are refused (RFC 7541, 5.1 asks for some limit)."""

SHRINK = b"\x20"
"""A table size update to 0: said before the first block after a peer lowered its table below 4,096 (4.2)."""


class HeaderError(ValueError):
    """A block that cannot be decoded; the connection's table is lost with it (RFC 9113, 4.3)."""


class HeadersTooLarge(ValueError):
    """More fields, or more bytes of them, than we take. The table is intact: the connection may go on."""


class Decoder:
    """Decodes the blocks of one direction of one connection, in order.

    Args:
        max_fields: of a block.
        max_bytes: of a block's fields, counted as RFC 9113, 6.5.2 counts them.

    Attributes:
        version: raised by whatever may change the dynamic table, even where it then looks as before. While it stays
            the same, the same block means the same fields.
    """

    __slots__ = ("_bytes", "_limit", "_max_bytes", "_max_fields", "_table", "version")

    def __init__(self, max_fields: int, max_bytes: int) -> None:
        self.version = 0
        self._max_fields = max_fields
        self._max_bytes = max_bytes
        self._table: list[Field] = []  # the newest at the end
        self._bytes = 0
        self._limit = TABLE_BYTES

    def decode(self, block: bytes) -> list[Field]:
        """The fields of a whole block.

        Raises:
            HeaderError: the connection cannot go on.
            HeadersTooLarge: over one of our limits.
        """
        try:
            fields = self._decode(block)
        except IndexError:
            raise HeaderError("a header block ends within a field") from None
        except huffman.HuffmanError as error:
            raise HeaderError(str(error)) from None
        if len(fields) > self._max_fields:
            raise HeadersTooLarge(f"{len(fields)} header fields are more than {self._max_fields}")
        # A Huffman code has at least five bits, and an entry of the table at most 4,096 bytes: mostly no need to count.
        if len(fields) * (TABLE_BYTES + ENTRY_BYTES) + 2 * len(block) > self._max_bytes:
            size = sum(len(name) + len(value) + ENTRY_BYTES for name, value in fields)
            if size > self._max_bytes:
                raise HeadersTooLarge(f"{size} bytes of header fields are more than {self._max_bytes}")
        return fields

    def _decode(self, block: bytes) -> list[Field]:
        table = self._table
        fields: list[Field] = []
        at, end = 0, len(block)
        while at < end:
            byte = block[at]
            at += 1
            if byte & 0x80:  # an indexed field (6.1)
                index = byte & 0x7F
                if index == 0x7F:
                    index, at = _integer(block, at, 0x7F)
                if index < DYNAMIC:
                    if not index:
                        raise HeaderError("a header field has index 0")
                    fields.append(STATIC[index])
                elif index - DYNAMIC < len(table):
                    fields.append(table[DYNAMIC - 1 - index])
                else:
                    raise HeaderError(f"there is no header field with index {index}")
                continue
            if byte & 0x40:  # a literal that enters the table (6.2.1)
                index, mask = byte & 0x3F, 0x3F
            elif byte & 0x20:  # a new size of the table (6.3)
                size, at = _integer(block, at, 0x1F) if byte & 0x1F == 0x1F else (byte & 0x1F, at)
                if fields or size > TABLE_BYTES:
                    raise HeaderError("a header table's size is changed too late, or to more than was allowed")
                self.version += 1
                self._limit = size
                self._evict(0)
                continue
            else:  # a literal that does not (6.2.2, 6.2.3)
                index, mask = byte & 0x0F, 0x0F
            if index == mask:
                index, at = _integer(block, at, mask)
            if index == 0:
                name, at = _string(block, at, end)
            elif index < DYNAMIC:
                name = STATIC[index][0]
            elif index - DYNAMIC < len(table):
                name = table[DYNAMIC - 1 - index][0]
            else:
                raise HeaderError(f"there is no header field with index {index}")
            length = block[at]  # the value, as _string reads it: here without the call
            if length < 0x7F:
                at += 1
                stop = at + length
                value = block[at:stop]
                at = stop
                if stop > end:
                    raise HeaderError("a header field's value is cut short")
            else:
                value, at = _string(block, at, end)
            field = (name, value)
            fields.append(field)
            if byte & 0x40:
                self._insert(field)
        return fields

    def _insert(self, field: Field) -> None:
        """Add to the dynamic table; what does not fit empties it (4.4)."""
        self.version += 1
        size = len(field[0]) + len(field[1]) + ENTRY_BYTES
        self._evict(size)
        if size <= self._limit:
            self._table.append(field)
            self._bytes += size

    def _evict(self, room: int) -> None:
        """Drop the oldest fields until ``room`` bytes more would fit."""
        table = self._table
        dropped = 0
        while self._bytes + room > self._limit and dropped < len(table):
            name, value = table[dropped]
            self._bytes -= len(name) + len(value) + ENTRY_BYTES
            dropped += 1
        del table[:dropped]

    def __repr__(self) -> str:
        return f"<Decoder version {self.version}, {len(self._table)} fields in {self._bytes} of {self._limit} bytes>"


def _integer(block: bytes, at: int, prefix: int) -> tuple[int, int]:
    """The rest of an integer whose first byte's bits are all ones (5.1), and where it ends."""
    value, shift = prefix, 0
    while True:
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > MAX_SHIFT:
            raise HeaderError("an integer in a header block is too long")


def _string(block: bytes, at: int, end: int) -> tuple[bytes, int]:
    """A string (5.2), and where it ends."""
    length = block[at]
    coded = length & 0x80
    length &= 0x7F
    at += 1
    if length == 0x7F:
        length, at = _integer(block, at, 0x7F)
    stop = at + length
    if stop > end:
        raise HeaderError("a string in a header block is cut short")
    text = block[at:stop]
    return (huffman.decode(text) if coded else text), stop


def literal(name: bytes, value: bytes) -> bytes:
    r"""One field as a literal without indexing and with its name spelt out; every peer reads it, in any state.

    >>> literal(b"grpc-status", b"0")
    b'\x00\x0bgrpc-status\x010'
    """
    return b"\0" + _length(len(name)) + name + _length(len(value)) + value


def _length(value: int) -> bytes:
    """An integer with a prefix of seven bits, the eighth being 0 (5.1)."""
    if value < 0x7F:
        return bytes((value,))
    rest = value - 0x7F
    octets = [0x7F]
    while rest >= 0x80:
        octets.append(rest & 0x7F | 0x80)
        rest >>= 7
    octets.append(rest)
    return bytes(octets)
