"""What a connection remembers of header blocks and heads: callers repeat themselves. What they say is not known here.

Two memories. A block means the same fields for as long as the decoder's table stays as it was (RFC 7541, 6.2.1 and
6.3 are all that changes it), so an equal block needs no look at all. And where blocks differ, by a trace id or a time
limit, most of their fields do not: then a head is made from the last one with equal ``TELLING`` fields.

A head with something wrong in it is never remembered: a remembered one is taken without another look.
"""

from __future__ import annotations

from collections.abc import Callable

from batchproxy.wire.headers import Decoder, Field
from batchproxy.wire.http2_head import TELLING, Head, read_head

MAX_KNOWN = 64
"""Heads in each memory; most callers alternate between a few."""

MAX_KNOWN_BYTES = 2048
"""A longer block is not worth remembering; both limits bound a connection's memory."""


none_is_streamed: Callable[[str], bool] = frozenset[str]().__contains__
"""Whether a call has any number of messages, where nobody says so."""


class Heads:
    """Reads the header blocks of one connection.

    Args:
        max_fields: of a block.
        max_bytes: of its fields.

    Attributes:
        unary: the heads of gRPC calls by block, for the short way.
        known: those of other requests.
        is_streamed: by a gRPC call's path, whether it has any number of messages.
    """

    __slots__ = ("_decoder", "_patterns", "is_streamed", "known", "unary")

    def __init__(self, max_fields: int, max_bytes: int) -> None:
        self._decoder = Decoder(max_fields, max_bytes)
        self._patterns: dict[tuple[Field, ...], tuple[Head, int]] = {}
        self.unary: dict[bytes, Head] = {}
        self.known: dict[bytes, Head] = {}
        self.is_streamed: Callable[[str], bool] = none_is_streamed

    def fields(self, block: bytes) -> list[Field]:
        """The fields of a block; blocks are forgotten where it changed the table.

        Raises:
            HeaderError: the connection cannot go on.
            HeadersTooLarge: over one of our limits.
        """
        version = self._decoder.version
        try:
            return self._decoder.decode(block)
        finally:
            if self._decoder.version != version:
                self.unary.clear()
                self.known.clear()

    def read(self, block: bytes) -> Head:
        """The head in a block.

        Raises:
            HeaderError: the connection cannot go on.
            HeadersTooLarge: over one of our limits.
            StreamFault: the request is malformed (RFC 9113, 8.1.1).
        """
        head = self.unary.get(block) or self.known.get(block)
        if head is not None:
            return head
        version = self._decoder.version
        fields = self.fields(block)
        if len(block) > MAX_KNOWN_BYTES:
            return self._new(fields)
        head = self._head(fields)
        # A block that changed the table would do so again: remembered, it could not.
        if self._decoder.version == version and head.refusal is None:
            room = self.unary if head.grpc and not head.streamed else self.known
            if len(room) >= MAX_KNOWN:
                del room[next(iter(room))]
            room[block] = head
        return head

    def _head(self, fields: list[Field]) -> Head:
        telling: list[Field] = []
        own: list[Field] = []
        for field in fields:
            (telling if field[0] in TELLING else own).append(field)
        pattern = tuple(telling)
        like, pseudo = self._patterns.get(pattern, (None, 0))
        # In the pattern the pseudo-header fields come first; they must do so here, too.
        if like is not None and fields[:pseudo] == telling[:pseudo]:
            return like.variant(fields, own)
        head = self._new(fields)
        if head.grpc and head.refusal is None:
            if len(self._patterns) >= MAX_KNOWN:
                del self._patterns[next(iter(self._patterns))]
            self._patterns[pattern] = head, sum(name[:1] == b":" for name, _ in telling)
        return head

    def _new(self, fields: list[Field]) -> Head:
        head = read_head(fields)
        head.streamed = head.grpc and self.is_streamed(head.path)
        return head

    def __repr__(self) -> str:
        return f"<Heads {len(self.unary)} calls, {len(self.known)} others, {len(self._patterns)} patterns>"
