"""Streamed gRPC calls over HTTP/2: any number of messages either way, with back-pressure. No frames are read here.

Such a call is handed on when its head is complete. What comes of its messages is kept as bytes until the owner takes
them, and the caller may send more only as they are taken; what the owner sends is kept until the caller's windows
take it, and the owner is told when it is too much. Unary calls do without all this: ``http2_streams.GrpcCall``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

from batchproxy.wire import grpc
from batchproxy.wire.headers import literal
from batchproxy.wire.http2_head import Head, Refusal
from batchproxy.wire.http2_limits import Http2Limits
from batchproxy.wire.http2_messages import HIGH_BYTES, Inbox, Outbox
from batchproxy.wire.http2_streams import GONE, Extra, Stream
from batchproxy.wire.unpack import Message, Packed

if TYPE_CHECKING:
    from batchproxy.wire.http2_intake import Intake
    from batchproxy.wire.http2_outlet import Outlet

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
        "_begun", "_in", "_intake", "_limits", "_out", "_outlet", "_refused", "on_input", "on_writable",
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
        self._in = Inbox(limits.message_bytes)
        self._out = Outbox()
        self._begun = False  # our head is sent
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
        return self.carrier is None or (self.message is not None and not self._in.whole)

    # -- the owner's side --------------------------------------------------------------------------

    def receive(self) -> Message | None:
        """The next message, compressed if it came so; None: there is none now."""
        extra = self.extra
        if self.carrier is None or extra is None:
            return None
        found = self._in.receive(extra)
        if found is None:
            return None
        compressed, message = found
        self._intake.taken(self, extra)
        return Packed(self.head.encoding, message, self._limits.message_bytes) if compressed else message

    def send_headers(self, metadata: Sequence[grpc.Pair] = (), encoding: bytes = b"") -> None:
        """Begin to answer; left out, ``send`` does so.

        Args:
            metadata: before the first message.
            encoding: of compressed messages; empty where there will be none.

        Raises:
            ValueError: metadata that gRPC does not allow.
        """
        block = grpc.RESPONSE + (literal(b"grpc-encoding", encoding) if encoding else b"")
        block += grpc.metadata_fields(metadata)
        if self.carrier is not None and not self._begun:
            self._begun = True
            self._outlet.inform(self, block)

    def send(self, message: bytes, *, compressed: bool = False) -> bool:
        """Send a message.

        Args:
            message: as it is.
            compressed: whether it is, in the encoding that ``send_headers`` said.

        Returns:
            Whether another may follow at once; else ``on_writable`` will tell.
        """
        extra = self.extra
        if self.carrier is None or extra is None:
            return True
        self.send_headers()
        self._out.add(message, compressed)
        self._outlet.go_on(self, extra)
        if self._out.backlog(extra) < HIGH_BYTES and not self._outlet.slow:
            return True
        self._out.waiting = True
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

    # -- the connection's side ---------------------------------------------------------------------

    def take(self, data: bytes, limits: Http2Limits) -> None:
        extra = self.extended(limits.window_bytes)
        if self._in.take(extra, data, self.head.encoding):
            self._outlet.worked()
            if self.on_input is not None:
                self.on_input()

    def complete(self, limits: Http2Limits) -> None:
        self._in.complete(self.extended(limits.window_bytes))
        self.message = b""
        if self.on_input is not None:
            self.on_input()

    def next_piece(self) -> bytes:
        piece = self._out.take()
        if not self._outlet.slow:
            self._relieve(len(piece))
        return piece

    def wake(self) -> None:
        if self.extra is not None:
            self._relieve(self._out.backlog(self.extra))

    def _relieve(self, backlog: int) -> None:
        if self._out.relieved(backlog) and self.on_writable is not None:
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
            self._in.clear()
            self._out.clear()
