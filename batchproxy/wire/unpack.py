"""Which compressed bodies and messages are inflated at once, and which are left to a thread. No connection here.

What is short, and short once inflated, takes some 2 ms at the most; anything else would keep every other connection
waiting for as long as it takes.
"""

from __future__ import annotations

from typing import NamedTuple

from batchproxy.wire import grpc
from batchproxy.wire.gzip import inflated_size
from batchproxy.wire.http2_head import Refusal

QUICK_BYTES = 64 << 10
"""Compressed data above this is left to a thread: empty blocks cost time, too, and make no text."""

QUICK_TEXT_BYTES = 1 << 20
"""And so is what makes a longer text."""

_INTERNAL, _RESOURCE_EXHAUSTED = 13, 8


def is_quick(body: bytes) -> bool:
    """Whether a gzip file is inflated at once."""
    return len(body) <= QUICK_BYTES and inflated_size(body) <= QUICK_TEXT_BYTES


class Packed(NamedTuple):
    """A compressed gRPC message.

    Attributes:
        encoding: ``gzip`` or ``deflate``.
        data: as sent.
        limit: how long the message may be.
    """

    encoding: bytes
    data: bytes
    limit: int

    def quick(self) -> bytes | None:
        """The message; None where it takes long: call ``whole`` in a thread.

        Raises:
            Refusal: there is none in it, or too long a one.
        """
        if len(self.data) > QUICK_BYTES:
            return None
        limit = min(self.limit, QUICK_TEXT_BYTES)
        try:
            return self._replace(limit=limit).whole()
        except Refusal as refusal:
            if refusal.code == _RESOURCE_EXHAUSTED and limit < self.limit:
                return None
            raise

    def whole(self) -> bytes:
        """The message, however long it takes.

        Raises:
            Refusal: as ``quick``.
        """
        try:
            return grpc.decompress(self.encoding, self.data, self.limit)
        except grpc.MessageTooLarge as error:
            raise Refusal(_RESOURCE_EXHAUSTED, str(error)) from None
        except grpc.MessageError as error:
            raise Refusal(_INTERNAL, str(error)) from None


Message = bytes | Packed
"""A message of a streamed call, as it came."""
