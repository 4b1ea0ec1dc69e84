"""The gRPC door of a remote server, on our own HTTP/2: as ``backends.grpc``, at a fraction of its cost.

What is streamed goes over a connection of its own: its windows are smaller, as each stream may hold what they allow for
long, and calls that last take no unary call's place where a server takes so many at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from batchproxy.backends.base import Stream
from batchproxy.backends.grpc_terms import EXHAUSTED, metadata_of
from batchproxy.backends.grpc_wire_connections import CLOSED, Channel, NotConnectedError
from batchproxy.backends.grpc_wire_streams import GrpcWireStream, StreamHead
from batchproxy.backends.tls import ClientTls
from batchproxy.core.errors import BackendLost, BackendRejected, BackendUnavailable, Code
from batchproxy.core.raw import GRPC, Header, RawReply
from batchproxy.tasks import Tasks
from batchproxy.wire.budget import Budget
from batchproxy.wire.http2_client_call import Call, Fate
from batchproxy.wire.http2_head import Refusal
from batchproxy.wire.unpack import Message, Packed

_ACCEPTS = "grpc-accept-encoding"


class StreamDoor(Protocol):
    """What makes streamed calls; see ``GrpcDoor``."""

    def stream(
        self, method: str, headers: Sequence[Header], messages: AsyncIterable[Message], timeout_s: float | None = None
    ) -> AbstractAsyncContextManager[Stream]: ...
    async def aclose(self) -> None: ...


class GrpcCalls(StreamDoor, Protocol):
    """What makes gRPC calls; see ``GrpcDoor`` and ``GrpcWireDoor``."""

    name: str

    async def call(self, method: str, headers: Sequence[Header], body: bytes, timeout_s: float | None) -> RawReply: ...


class GrpcWireDoor:
    """One connection to ``target``, opened at the first call and opened again whenever it is lost.

    Args:
        target: ``HOST:PORT`` or ``unix:/PATH``.
        tls: None for plain text.
        budget: of the process, for large answers; left out, its own.

    Raises:
        ConfigError: a file of ``tls`` is not what it should be.
    """

    def __init__(self, target: str, tls: ClientTls | None = None, budget: Budget | None = None) -> None:
        self.name = f"{GRPC}{'' if tls is None else 's'}://{target}"
        context, server_name = (None, None) if tls is None else (tls.context(["h2"]), tls.server_name)
        self._channel = Channel(target, context, server_name, budget=budget)
        self._streams = Channel(target, context, server_name, budget=budget, streams=True)
        self._tasks = Tasks()
        self._closed = False

    async def call(self, method: str, headers: Sequence[Header], body: bytes, timeout_s: float | None) -> RawReply:
        """Make one unary call; cancelling it cancels the call at the server.

        Where the server takes no more calls on a connection, one that it did not look at is sent on another, once: as
        gRPC libraries do, so that nobody notices.

        Raises:
            BackendUnavailable: it did not run.
            BackendLost: it may have run.
            BackendRejected: any other status, DEADLINE_EXCEEDED after ``timeout_s`` included.
        """
        if self._closed:
            raise BackendUnavailable(f"{self.name}: {CLOSED}")
        metadata = metadata_of(headers) if headers else ()
        until = None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s
        call = await self._call(method, body, until, metadata)
        if call.fate is Fate.NOT_RUN and not call.code and not self._closed:
            call = await self._call(method, body, until, metadata)
        if call.packed is not None:
            await _inflate(call, call.packed)
        if call.fate is Fate.STATUS:
            return self._reply(call)
        lost = BackendUnavailable if call.fate is Fate.NOT_RUN else BackendLost
        raise lost(f"{self.name}: {call.text}")

    async def _call(self, method: str, body: bytes, until: float | None, metadata: Sequence[Header]) -> Call:
        channel = self._channel
        try:
            connection = channel.usable() or await channel.connected(until)
            call = connection.ask(method, body, until, metadata)
        except NotConnectedError as error:
            raise BackendUnavailable(f"{self.name}: {error}") from None
        except TimeoutError:
            raise BackendRejected(f"{self.name}: not connected in time", code=Code.DEADLINE_EXCEEDED) from None
        except ValueError as error:
            raise BackendRejected(f"{self.name}: the call cannot be sent: {error}") from None
        try:
            await call.waiter
        except asyncio.CancelledError:
            connection.leave(call)
            raise
        return call

    def _reply(self, call: Call) -> RawReply:
        """The answer, if it is a good one."""
        if not call.code and call.message is not None:
            return RawReply(0, "", call.headers, call.message, call.trailers, call.compressed)
        raw = RawReply(call.code, call.text, call.headers, b"", call.trailers)
        if call.code == Code.UNAVAILABLE or (call.code == Code.RESOURCE_EXHAUSTED and EXHAUSTED in call.text):
            raise BackendUnavailable(call.text, raw=raw)
        raise BackendRejected(call.text, code=Code(call.code), raw=raw)

    def stream(
        self, method: str, headers: Sequence[Header], messages: AsyncIterable[Message], timeout_s: float | None = None
    ) -> AbstractAsyncContextManager[Stream]:
        """Open a call of any kind; see ``GrpcDoor.stream``. Entering it raises what ``call`` does before it is sent.

        Raises:
            BackendUnavailable: the door is closed.
            BackendRejected: a header that gRPC cannot carry.
        """
        if self._closed:
            raise BackendUnavailable(f"{self.name}: {CLOSED}")
        until = None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s
        asked = StreamHead(method, metadata_of(headers), _said("grpc-encoding", headers), _said(_ACCEPTS, headers))
        return GrpcWireStream(self.name, self._streams, asked, messages, until, self._tasks)

    async def aclose(self) -> None:
        """Close the connections; calls under way are lost."""
        self._closed = True
        await self._tasks.aclose()
        await self._channel.aclose()
        await self._streams.aclose()


def _said(name: str, headers: Sequence[Header]) -> bytes:
    """The value of a header; empty where there is none."""
    found = next((value for key, value in headers if key == name), b"")
    return found.encode("latin-1") if isinstance(found, str) else found


async def _inflate(call: Call, packed: Packed) -> None:
    """Make the message of a compressed answer, in a thread: that may take long."""
    try:
        call.message = await asyncio.get_running_loop().run_in_executor(None, packed.whole)
    except Refusal as refusal:
        call.code, call.text = refusal.code, refusal.text
    except MemoryError:
        call.code, call.text = Code.RESOURCE_EXHAUSTED, "there is no memory to decompress the answer"
