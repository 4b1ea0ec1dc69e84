"""Streamed calls to a gRPC server on our own HTTP/2: messages passed on, both ways, no faster than they are taken.

As ``backends.grpc`` has them on ``grpc.aio``. What a server did not look at is sent once more, on another connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from types import TracebackType
from typing import NamedTuple, Self

from batchproxy.backends.grpc_wire_connections import CLOSED, Channel, Connection, NotConnectedError
from batchproxy.core.errors import BackendRejected, BackendUnavailable, Code
from batchproxy.core.raw import Header
from batchproxy.tasks import Tasks
from batchproxy.wire.http2_client_call import Fate
from batchproxy.wire.http2_client_stream import StreamCall
from batchproxy.wire.unpack import Message

_Status = tuple[int, str, Sequence[Header]]


class StreamHead(NamedTuple):
    """What a streamed call asks for.

    Attributes:
        method: full path.
        metadata: of the caller.
        encoding: of its compressed messages; empty where there will be none.
        accepts: the encodings that it takes; empty for none.
    """

    method: str
    metadata: Sequence[Header]
    encoding: bytes
    accepts: bytes


class GrpcWireStream:
    """The server's side of a relayed call: metadata, then messages, then the status. It always has a status.

    As a context it is begun, and what is left of it is cancelled.

    Args:
        name: of the server.
        channel: to it.
        head: what is asked for.
        messages: what the caller sends; where it raises, the call is cancelled.
        until: its deadline, in the loop's seconds; None: it has none.
        tasks: for the task that takes ``messages``.
    """

    _call: StreamCall
    _connection: Connection

    def __init__(
        self,
        name: str,
        channel: Channel,
        head: StreamHead,
        messages: AsyncIterable[Message],
        until: float | None,
        tasks: Tasks,
    ) -> None:
        self._name = name
        self._channel = channel
        self._head = head
        self._from_caller = messages
        self._until = until
        self._tasks = tasks
        self._input = asyncio.Event()
        self._writable = asyncio.Event()
        self._sending: asyncio.Task[None] | None = None
        self._may_repeat = True
        self._own: _Status | None = None  # the status where it is not the server's

    async def __aenter__(self) -> Self:
        await self._open()
        self._sending = self._tasks.spawn(f"stream-{self._head.method}", self._send(self._from_caller))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._sending is not None:
            self._sending.cancel()
        self._drop()

    async def _open(self) -> None:
        """Begin the call.

        Raises:
            BackendUnavailable: there is no connection.
            BackendRejected: its time is over, or it cannot be sent.
        """
        try:
            self._connection = self._channel.usable() or await self._channel.connected(self._until)
            method, metadata, encoding, accepts = self._head
            self._call = self._connection.stream(method, self._until, metadata, encoding, accepts)
        except NotConnectedError as error:
            raise BackendUnavailable(f"{self._name}: {error}") from None
        except TimeoutError:
            raise BackendRejected(f"{self._name}: not connected in time", code=Code.DEADLINE_EXCEEDED) from None
        except ValueError as error:
            raise BackendRejected(f"{self._name}: the call cannot be sent: {error}") from None
        self._call.on_input = self._input.set
        self._call.on_writable = self._writable.set

    async def _begun(self) -> None:
        """Wait until the server says something, or never will."""
        while self._call.first is None:
            if self._call.fate is None:
                self._input.clear()
                await self._input.wait()
            elif not await self._repeated():
                return

    async def _repeated(self) -> bool:
        """Begin again on another connection where the server did not look at the call; whether that was done."""
        call = self._call
        may_repeat = call.fate is Fate.NOT_RUN and not call.code and self._may_repeat and self._own is None
        sent = call.sent() if may_repeat and not self._channel.closed else None
        if sent is None:
            return False
        self._may_repeat = False
        try:
            await self._open()
        except (BackendUnavailable, BackendRejected) as error:
            self._own = error.code, error.message, ()
            return False
        pieces, finished = call.sent() or sent  # more may have been sent meanwhile
        call.drop()
        self._call.repeat(pieces, finished=finished)
        self._connection.push()
        self._writable.set()
        return True

    async def _send(self, messages: AsyncIterable[Message]) -> None:
        """Pass on what the caller sends, until either side has ended."""
        try:
            async for message in messages:
                self._writable.clear()
                if isinstance(message, bytes):
                    may_go_on = self._call.send(message)
                else:
                    may_go_on = self._call.send(message.data, compressed=True)
                self._connection.push()
                if not may_go_on:
                    await self._writable.wait()
                if self._own is not None or self._call.deaf:
                    return
            self._call.finish()
            self._connection.push()
        except Exception as error:  # noqa: BLE001 - whatever the caller's side raises: nothing more will come from there
            self._cancel(Code.CANCELLED, f"the caller's messages cannot be read: {error}")

    def _cancel(self, code: int, text: str) -> None:
        if self._own is None:
            self._own = code, text, ()
        self._drop()
        self._input.set()

    def _drop(self) -> None:
        self._call.drop()
        self._connection.took()

    async def headers(self) -> Sequence[Header]:
        """Initial metadata; empty where the call failed before any."""
        await self._begun()
        return self._call.headers

    @property
    def encoding(self) -> bytes:
        """Of compressed messages: one that the caller takes, where the server does as it should."""
        first = self._call.first
        return b"" if first is None else first.encoding

    async def messages(self) -> AsyncIterator[Message]:
        """What the server sends, as it sends it, to the end, whether good or bad."""
        await self._begun()
        while self._own is None:
            self._input.clear()
            message = self._call.receive()
            if message is not None:
                self._connection.took()
                yield message
            elif self._call.over:
                return
            else:
                await self._input.wait()

    async def status(self) -> _Status:
        """Status code, text and trailing metadata; waits for the end."""
        await self._begun()
        call = self._call
        while call.fate is None:
            self._input.clear()
            await self._input.wait()
        if self._own is not None:
            return self._own
        if call.fate is Fate.STATUS:
            return call.code, call.text, call.trailers
        if self._channel.closed:
            return Code.CANCELLED, f"{self._name}: {CLOSED} during the call", ()
        return Code.UNAVAILABLE, f"{self._name}: {call.text}", ()
