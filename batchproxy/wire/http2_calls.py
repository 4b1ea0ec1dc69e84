"""Streamed gRPC calls over HTTP/2: any number of messages either way, with back-pressure. No frames are read here.

Such a call is handed on when its head is complete. What comes of its messages is kept as bytes until the owner takes
them, and the caller may send more only as they are taken; what the owner sends is kept until the caller's windows
take it, and the owner is told when it is too much. Unary calls do without all this: ``http2_streams.GrpcCall``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

from batchproxy.wire import grpc
from batchproxy.wire.http2_head import Head, Refusal
from batchproxy.wire.http2_limits import Http2Limits
from batchproxy.wire.http2_streams import GONE, Extra, Stream
from batchproxy.wire.unpack import Packed

if TYPE_CHECKING:
    from batchproxy.wire.http2_intake import Intake
    from batchproxy.wire.http2_outlet import Outlet

HIGH_BYTES = 256 << 10
"""Unsent bytes of an answer above which its owner is asked to wait: twice the window that a peer of ours gets, so that
one round trip's worth is there when the caller opens its window."""

LOW_BYTES = HIGH_BYTES // 2
"""Unsent bytes at which the owner may go on."""

_INTERNAL, _RESOURCE_EXHAUSTED = 13, 8
_UNKNOWN = -1


class GrpcStreamCall(Stream):
    """A gRPC call with any number of messages either way.

    Its owner takes messages by ``receive`` and is done with them once ``ended``; it answers by ``send_headers``,
    ``send`` and, exactly once, ``finish``. After ``on_cancel`` all of these do nothing.

    Args:
        outlet: of the connection.
        id: of the stream.
        head: what was asked for.
        intake: of the connection.
        limits: ``window_bytes`` and ``message_bytes`` are read.

    Attributes:
        on_input: called when there is a message to take, or no more will come.
        on_writable: called when ``send`` has said False, and may go on now.
        on_cancel: called when the call is over without ``finish``: the caller is gone, or what it sent is refused.
    """

    __slots__ = (
        "_begun", "_buffer", "_end", "_intake", "_limits", "_next", "_outlet", "_pieces", "_refused", "_unsent",
        "_waiting", "_whole", "on_input", "on_writable",
    )  # fmt: skip

    streamed: ClassVar[bool] = True

    def __init__(
        self,
        outlet: Outlet,
        id: int,  # noqa: A002  # the protocol's word
        head: Head,
        intake: Intake,
        limits: Http2Limits,
    ) -> None:
        super().__init__(outlet, id, head)
        self._outlet = outlet
        self._intake = intake
        self._limits = limits
        self.extra = Extra(limits.window_bytes, _UNKNOWN)
        self.extra.trailers = b""
        self.on_input: Callable[[], object] | None = None
        self.on_writable: Callable[[], object] | None = None
        self._buffer = bytearray()  # what came and was not taken
        self._next = 0  # where the first message begins that is not whole, in bytes of all that came
        self._end = _UNKNOWN  # and where it ends, once its prefix came
        self._whole = 0  # messages to be taken
        self._begun = False  # our head is sent
        self._pieces: list[bytes] = []  # what is to be sent, but for what the outlet has in hand
        self._unsent = 0  # bytes of these
        self._waiting = False  # the owner was asked to wait
        self._refused = False

    @property
    def path(self) -> str:
        return self.head.path

    @property
    def timeout_s(self) -> float | None:
        return self.head.timeout_s

    @property
    def ended(self) -> bool:
        """Whether every message was taken and no more will come."""
        return self.carrier is None or (self.message is not None and not self._whole)

    # -- the owner's side --------------------------------------------------------------------------

    def receive(self) -> bytes | Packed | None:
        """The next message; compressed only where to inflate it takes long; None: there is none now."""
        extra = self.extra
        if self.carrier is None or extra is None or not self._whole:
            return None
        compressed, length = grpc.PREFIX.unpack_from(self._buffer)
        end = grpc.PREFIX.size + length
        with memoryview(self._buffer) as view:
            message = bytes(view[grpc.PREFIX.size : end])
        del self._buffer[:end]
        self._whole -= 1
        extra.held -= end
        if not self._whole:
            extra.wanted = self._end
        self._intake.taken(self, extra)
        if not compressed:
            return message
        packed = Packed(self.head.encoding, message, self._limits.message_bytes)
        try:
            text = packed.quick()
        except Refusal as refusal:
            self.refuse(refusal)
            return None
        return packed if text is None else text

    def send_headers(self, metadata: Sequence[grpc.Pair] = ()) -> None:
        """Begin to answer; left out, ``send`` does so.

        Raises:
            ValueError: metadata that gRPC does not allow.
        """
        block = grpc.RESPONSE + grpc.metadata_fields(metadata)
        if self.carrier is not None and not self._begun:
            self._begun = True
            self._outlet.inform(self, block)

    def send(self, message: bytes) -> bool:
        """Send a message.

        Returns:
            Whether another may follow at once; else ``on_writable`` will tell.
        """
        extra = self.extra
        if self.carrier is None or extra is None:
            return True
        self.send_headers()
        self._pieces.append(grpc.PREFIX.pack(0, len(message)) + message)
        self._unsent += len(self._pieces[-1])
        self._outlet.go_on(self, extra)
        if self._backlog() < HIGH_BYTES and not self._outlet.slow:
            return True
        self._waiting = True
        return False

    def finish(self, code: int, text: str = "", trailers: Sequence[grpc.Pair] = ()) -> None:
        """Say the outcome, after all that was sent.

        Args:
            code: gRPC's number.
            text: the status text.
            trailers: further metadata.

        Raises:
            RuntimeError: it was said before. This is a bug.
            ValueError: metadata that gRPC does not allow.
        """
        block = grpc.trailers(code, text, trailers)
        if self._refused or self.release() is None:
            return
        extra = self.extra
        if self._begun and extra is not None:
            self._outlet.conclude(self, extra, block)
        elif code:
            self._outlet.respond(self, grpc.RESPONSE + block, b"", None)
        else:
            self._outlet.inform(self, grpc.RESPONSE)
            self._outlet.respond(self, block, b"", None)

    def _backlog(self) -> int:
        extra = self.extra
        return self._unsent + (len(extra.body) - extra.sent if extra is not None and extra.body else 0)

    # -- the connection's side ---------------------------------------------------------------------

    def take(self, data: bytes, limits: Http2Limits) -> None:
        extra = self.extended(limits.window_bytes)
        extra.received += len(data)
        extra.held += len(data)
        self._buffer += data
        found, start = self._whole, extra.received - len(self._buffer)
        while True:
            if self._end == _UNKNOWN:
                if extra.received - self._next < grpc.PREFIX.size:
                    break
                compressed, length = grpc.PREFIX.unpack_from(self._buffer, self._next - start)
                if length > limits.message_bytes:
                    text = f"Received message larger than max ({length} vs. {limits.message_bytes})"  # grpc's own words
                    raise Refusal(_RESOURCE_EXHAUSTED, text)
                if compressed and not self.head.encoding:
                    raise Refusal(_INTERNAL, "a message is marked as compressed, but no grpc-encoding was given")
                self._end = self._next + grpc.PREFIX.size + length
            if extra.received < self._end:
                break
            self._next, self._end = self._end, _UNKNOWN
            self._whole += 1
        extra.wanted = _UNKNOWN if self._whole else self._end
        if self._whole > found:
            self._outlet.worked()
            if self.on_input is not None:
                self.on_input()

    def complete(self, limits: Http2Limits) -> None:
        if self.extended(limits.window_bytes).received != self._next:
            raise Refusal(_INTERNAL, "the message ends before its announced length")
        self.message = b""
        if self.on_input is not None:
            self.on_input()

    def next_piece(self) -> bytes:
        piece = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._unsent = 0
        if self._waiting and len(piece) < LOW_BYTES and not self._outlet.slow:
            self._go_on()
        return piece

    def wake(self) -> None:
        if self._waiting and self._backlog() < LOW_BYTES:
            self._go_on()

    def _go_on(self) -> None:
        self._waiting = False
        if self.on_writable is not None:
            self.on_writable()

    def refuse(self, refusal: Refusal) -> None:
        """End the call, and tell its owner."""
        self.finish(refusal.code, refusal.text, tuple(refusal.fields.items()))
        self._refused = True
        if self.on_cancel is not None:
            self.on_cancel()

    def cancel(self) -> None:
        super().cancel()
        if self.extra is GONE:
            self._buffer.clear()
            self._pieces.clear()
