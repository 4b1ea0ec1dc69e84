"""The messages of a streamed gRPC call, either way: what came and was not taken, what is to be sent. No frames here.

Both ends of such calls have one of each: ``http2_calls`` for a caller of ours, ``http2_client_stream`` for a server.
"""

from __future__ import annotations

from batchproxy.wire import grpc
from batchproxy.wire.http2_head import Refusal
from batchproxy.wire.http2_streams import Extra

HIGH_BYTES = 256 << 10
"""Unsent bytes above which who sends is asked to wait: twice the window that a peer of ours gets, so that one round
trip's worth is there when the window opens."""

LOW_BYTES = HIGH_BYTES // 2
"""Unsent bytes at which it may go on."""

_INTERNAL, _RESOURCE_EXHAUSTED = 13, 8
_UNKNOWN = -1


class Inbox:
    """What came of the messages of one stream, and was not taken.

    Args:
        limit: of a message, in bytes.

    Attributes:
        whole: messages to be taken.
    """

    __slots__ = ("_buffer", "_end", "_limit", "_next", "whole")

    def __init__(self, limit: int) -> None:
        self.whole = 0
        self._limit = limit
        self._buffer = bytearray()
        self._next = 0  # where the first message begins that is not whole, in bytes of all that came
        self._end = _UNKNOWN  # and where it ends, once its prefix came

    def take(self, extra: Extra, data: bytes, encoding: bytes) -> bool:
        """A piece of the body came.

        Args:
            extra: of the stream; ``received``, ``held`` and ``wanted`` are kept here.
            data: the piece.
            encoding: of compressed messages; empty where there may be none.

        Returns:
            Whether a message has become whole.

        Raises:
            Refusal: a message is too long, or compressed in nobody knows what.
        """
        extra.received += len(data)
        extra.held += len(data)
        self._buffer += data
        found, start = self.whole, extra.received - len(self._buffer)
        while True:
            if self._end == _UNKNOWN:
                if extra.received - self._next < grpc.PREFIX.size:
                    break
                compressed, length = grpc.PREFIX.unpack_from(self._buffer, self._next - start)
                if length > self._limit:
                    text = f"Received message larger than max ({length} vs. {self._limit})"  # grpc's own words
                    raise Refusal(_RESOURCE_EXHAUSTED, text)
                if compressed and not encoding:
                    raise Refusal(_INTERNAL, "a message is marked as compressed, but no grpc-encoding was given")
                self._end = self._next + grpc.PREFIX.size + length
            if extra.received < self._end:
                break
            self._next, self._end = self._end, _UNKNOWN
            self.whole += 1
        extra.wanted = _UNKNOWN if self.whole else self._end
        return self.whole > found

    def receive(self, extra: Extra) -> tuple[int, bytes] | None:
        """The next message: whether it is compressed, and its bytes; None: there is none now."""
        if not self.whole:
            return None
        compressed, length = grpc.PREFIX.unpack_from(self._buffer)
        end = grpc.PREFIX.size + length
        with memoryview(self._buffer) as view:
            message = bytes(view[grpc.PREFIX.size : end])
        del self._buffer[:end]
        self.whole -= 1
        extra.held -= end
        if not self.whole:
            extra.wanted = self._end
        return compressed, message

    def complete(self, extra: Extra) -> None:
        """Nothing more is to come.

        Raises:
            Refusal: a message is not whole.
        """
        if extra.received != self._next:
            raise Refusal(_INTERNAL, "the message ends before its announced length")

    def clear(self) -> None:
        """Nobody takes them any more."""
        self._buffer.clear()
        self.whole = 0

    def __repr__(self) -> str:
        return f"<Inbox {self.whole} whole, {len(self._buffer)} bytes>"


class Outbox:
    """What is to be sent on one stream, but for what the outlet has in hand.

    Attributes:
        waiting: whether who sends was asked to wait.
    """

    __slots__ = ("_pieces", "_unsent", "waiting")

    def __init__(self) -> None:
        self.waiting = False
        self._pieces: list[bytes] = []
        self._unsent = 0

    def add(self, message: bytes, compressed: int = 0) -> bytes:
        """Put a message in; returns it with its prefix."""
        piece = grpc.PREFIX.pack(compressed, len(message)) + message
        self._pieces.append(piece)
        self._unsent += len(piece)
        return piece

    def backlog(self, extra: Extra) -> int:
        """Bytes that are not on their way."""
        return self._unsent + (len(extra.body) - extra.sent if extra.body else 0)

    def take(self) -> bytes:
        """All that is in it."""
        piece = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self.clear()
        return piece

    def clear(self) -> None:
        """Nothing of it is sent any more."""
        self._pieces.clear()
        self._unsent = 0

    def relieved(self, backlog: int) -> bool:
        """Whether who waits may go on now, with so many bytes unsent; told once."""
        if not self.waiting or backlog >= LOW_BYTES:
            return False
        self.waiting = False
        return True

    def __len__(self) -> int:
        return len(self._pieces)

    def __repr__(self) -> str:
        return f"<Outbox {self._unsent} bytes{', waiting' if self.waiting else ''}>"
