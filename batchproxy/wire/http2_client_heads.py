"""Header blocks of a gRPC client: those it sends, and what those that come say. No streams, no bodies.

Sections are those of RFC 9113; what gRPC adds is in its doc/PROTOCOL-HTTP2.md.
"""

from __future__ import annotations

from typing import Final

from batchproxy.wire import grpc
from batchproxy.wire.frames import ErrorCode, StreamFault
from batchproxy.wire.headers import Decoder, Field, literal
from batchproxy.wire.http2_head import check_trailers

USER_AGENT: Final = b"batchproxy"

MAX_KNOWN: Final = 64
"""Blocks remembered, either way; a server repeats a few."""

MAX_KNOWN_BYTES: Final = 2048
"""A longer block is not worth remembering."""

_OURS = frozenset({b"content-type", b"content-length", b"grpc-status", b"grpc-message", b"grpc-encoding", b"te",
                   b"grpc-accept-encoding"})  # fmt: skip
"""What the wire reads itself; the rest is metadata."""

UNKNOWN: Final = 2
UNAVAILABLE: Final = 14

_BY_HTTP = {400: 13, 401: 16, 403: 7, 404: 12, 429: UNAVAILABLE, 502: UNAVAILABLE, 503: UNAVAILABLE, 504: UNAVAILABLE}
"""HTTP's statuses as gRPC's, where there is no other (grpc/doc/http-grpc-status-mapping.md)."""


class AnswerHead:
    """What one header block of an answer says: its first, or its last, or both in one.

    Attributes:
        http: HTTP's status; 0 in trailers.
        status: gRPC's; None where the block does not say.
        text: of the status.
        encoding: of compressed messages; empty for none.
        alien: its content-type, where that is none of gRPC's.
        pairs: metadata.
    """

    __slots__ = ("alien", "encoding", "http", "pairs", "status", "text")

    def __init__(self, fields: list[Field]) -> None:
        self.http = 0
        self.status: int | None = None
        self.text = ""
        self.encoding = self.alien = b""
        own = fields
        if fields and fields[0][0] == b":status":
            value = fields[0][1]
            if len(value) != 3 or not value.isdigit():
                raise StreamFault(ErrorCode.PROTOCOL_ERROR, "the status is no number of three digits")
            self.http = int(value)
            own = fields[1:]
        check_trailers(own, stripped=False)
        for name, value in own:
            if name == b"grpc-status":
                self.status = int(value) if value.isdigit() and len(value) <= 2 and int(value) <= 16 else UNKNOWN
            elif name == b"grpc-message":
                self.text = grpc.percent_decoded(value)
            elif name == b"grpc-encoding" and value != b"identity":
                self.encoding = value
            elif name == b"content-type" and not value.startswith(b"application/grpc"):
                self.alien = value
        self.pairs: tuple[grpc.Pair, ...] = tuple(grpc.metadata_pairs(field for field in own if field[0] not in _OURS))

    def verdict(self) -> tuple[int, str]:
        """The status and its text, where nothing but this block says what became of a call."""
        if self.status is not None:
            return self.status, self.text
        if self.http in {0, 200}:
            return UNKNOWN, "the answer has no grpc-status"
        return _BY_HTTP.get(self.http, UNKNOWN), f"HTTP status {self.http}, and no grpc-status"

    def __repr__(self) -> str:
        return f"<AnswerHead HTTP {self.http}, status {self.status}>"


class AnswerHeads:
    """Reads the header blocks of one connection; those that are as before are not looked at again.

    Args:
        max_fields: of a block.
        max_bytes: of its fields.
    """

    __slots__ = ("_decoder", "_known")

    def __init__(self, max_fields: int, max_bytes: int) -> None:
        self._decoder = Decoder(max_fields, max_bytes)
        self._known: dict[bytes, AnswerHead] = {}

    def read(self, block: bytes) -> AnswerHead:
        """What a block says.

        Raises:
            HeaderError: the connection cannot go on.
            HeadersTooLarge: over one of our limits.
            StreamFault: the answer is malformed (8.1.1).
        """
        head = self._known.get(block)
        if head is not None:
            return head
        decoder = self._decoder
        version = decoder.version
        try:
            fields = decoder.decode(block)
        finally:
            if decoder.version != version:
                self._known.clear()
        head = AnswerHead(fields)
        # A block that changed the table would do so again: remembered, it could not.
        if decoder.version == version and len(block) <= MAX_KNOWN_BYTES:
            if len(self._known) >= MAX_KNOWN:
                del self._known[next(iter(self._known))]
            self._known[block] = head
        return head

    def __repr__(self) -> str:
        return f"<AnswerHeads {len(self._known)} known>"


class RequestBlocks:
    """Header blocks for calls on one connection.

    Args:
        authority: whom the calls are for, ``HOST:PORT``.
        scheme: ``http`` or ``https``.
    """

    __slots__ = ("_begin", "_end", "_known", "_ours")

    def __init__(self, authority: str, scheme: str) -> None:
        # ":method: POST" is index 3 of the static table, ":scheme: http" 6, ":scheme: https" 7 (RFC 7541, appendix A).
        self._begin = b"\x83" + (b"\x86" if scheme == "http" else b"\x87")
        self._end = b"".join(
            literal(name, value)
            for name, value in (
                (b":authority", authority.encode("ascii")),
                (b"content-type", b"application/grpc"),
                (b"te", b"trailers"),
                (b"user-agent", USER_AGENT),
            )
        )
        self._ours = literal(b"grpc-accept-encoding", grpc.ACCEPTED)
        self._known: dict[str, bytes] = {}

    def block(self, path: str, timeout_s: float | None, metadata: tuple[grpc.Pair, ...]) -> bytes:
        """The header block of a call.

        Args:
            path: ``/package.Service/Method``, of printable ASCII characters; grpcio, too, takes blanks.
            timeout_s: how long it may take; None: no deadline.
            metadata: the call's own.

        Raises:
            ValueError: a path, name or value that gRPC does not allow.
        """
        block = self._known.get(path)
        if block is None:
            block = self._path(path) + self._end + self._ours
            if len(self._known) >= MAX_KNOWN:
                del self._known[next(iter(self._known))]
            self._known[path] = block
        if timeout_s is not None:
            block += literal(b"grpc-timeout", grpc.timeout_value(timeout_s))
        return block + grpc.metadata_fields(metadata) if metadata else block

    def stream_block(
        self, path: str, timeout_s: float | None, metadata: tuple[grpc.Pair, ...], encoding: bytes, accepts: bytes
    ) -> bytes:
        """As ``block``, for a call whose messages may be compressed.

        Args:
            path: see there, and so are the next two.
            timeout_s: see there.
            metadata: see there.
            encoding: of such messages; empty where there will be none.
            accepts: the encodings that an answer may have; empty for none.
        """
        block = self._path(path) + self._end
        if encoding:
            block += literal(b"grpc-encoding", encoding)
        if accepts:
            block += literal(b"grpc-accept-encoding", accepts)
        if timeout_s is not None:
            block += literal(b"grpc-timeout", grpc.timeout_value(timeout_s))
        return block + grpc.metadata_fields(metadata)

    def _path(self, path: str) -> bytes:
        if not (path[:1] == "/" and path.isascii() and path.isprintable()):
            raise ValueError(f"{path!r} is no gRPC method")
        return self._begin + literal(b":path", path.encode("ascii"))

    def __repr__(self) -> str:
        return f"<RequestBlocks {len(self._known)} known>"
