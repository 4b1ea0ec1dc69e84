"""Streamed gRPC calls, passed on to a server and back, or answered here: one task each, for none is of the hot path.

The caller's messages are taken as the server takes them, and the server's as the caller does; what either side says
of the call's end reaches the other.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from batchproxy.core.errors import BatchProxyError, Code, DeadlineExceeded
from batchproxy.core.raw import Header
from batchproxy.core.request import BatchKey
from batchproxy.engine import Engine
from batchproxy.frontends.call import internal_error
from batchproxy.frontends.grpc_answers import GrpcAnswer, error_answer
from batchproxy.frontends.v2_streams import InferStreams, Turns, plain
from batchproxy.tasks import Tasks
from batchproxy.wire.http2_calls import GrpcStreamCall
from batchproxy.wire.unpack import Message

logger = logging.getLogger("batchproxy.streams")

HEADERS_S = 0.005
"""A server that sends no initial metadata has either failed at once, which the caller is to see as gRPC's
"trailers-only" (its retries depend on it), or has not: it then learns so late that the call was accepted."""

GRACE_S = 1.0
"""How long after the deadline the server's own word on it is waited for."""


_COMPRESSION = frozenset({b"grpc-encoding", b"grpc-accept-encoding"})


class Connection(Protocol):
    """What a stream needs of the connection it is on.

    Attributes:
        dirty: whether a flush is to come anyhow.
    """

    dirty: bool

    def mark(self) -> None:
        """Ask for a flush at the end of this turn of the loop."""


class Streams:
    """The streamed calls under way on one listener."""

    def __init__(self) -> None:
        self._tasks = Tasks()

    def serve(self, connection: Connection, call: GrpcStreamCall, target: Engine | InferStreams) -> None:
        """Pass on a call to one of an engine's servers, or to what decides by its first message."""
        stream = _Stream(connection, call, target)
        stream.task = self._tasks.spawn(f"stream-{call.path}", stream.run())
        call.on_cancel = stream.task.cancel

    async def aclose(self) -> None:
        """End what is under way, without a word."""
        await self._tasks.aclose()

    def __len__(self) -> int:
        return len(self._tasks)


class _Stream:
    """One call; as an iterator: what its caller sends."""

    def __init__(self, connection: Connection, call: GrpcStreamCall, target: Engine | InferStreams) -> None:
        self.task: asyncio.Task[None] | None = None
        self._connection = connection
        self._call = call
        self._target = target
        self._first: Message | None = None  # taken to decide by, and not yet passed on
        self._timers: list[asyncio.TimerHandle] = []
        self._input = asyncio.Event()
        self._writable = asyncio.Event()
        call.on_input = self._input.set
        call.on_writable = self._writable.set

    async def run(self) -> None:
        """Pass on all there is, both ways, then the outcome."""
        timeout_s = self._call.timeout_s
        if timeout_s is not None:
            late = DeadlineExceeded("Deadline Exceeded")
            self._timers.append(asyncio.get_running_loop().call_later(timeout_s + GRACE_S, self._strand, late))
        try:
            target = self._target
            ending = await (self._relay(target) if isinstance(target, Engine) else self._decide(target))
        except BatchProxyError as error:
            ending = error_answer(error)
        except Exception as error:
            logger.exception("a streamed call failed in an unforeseen way. This is a bug.")
            ending = error_answer(internal_error(error))
        finally:
            for timer in self._timers:
                timer.cancel()
        self._finish(ending)

    async def _decide(self, target: InferStreams) -> GrpcAnswer:
        loop, call = asyncio.get_running_loop(), self._call
        accepted = loop.call_later(HEADERS_S, self._accept)
        try:
            self._first = first = await anext(self, None)
            home = None if first is None else target.home_of(await plain(first))
        finally:
            accepted.cancel()
        if home is not None:
            return await self._relay(*home)
        self._accept()
        turns = Turns(self._send_now)
        call.on_writable = turns.writable
        await target.answer(self, tuple(call.head.pairs()), call.timeout_s, turns)
        return GrpcAnswer(Code.OK)

    def _send_now(self, message: bytes) -> bool:
        may_go_on = self._call.send(message)
        self._mark()
        return may_go_on

    async def _relay(self, engine: Engine, key: BatchKey | None = None) -> GrpcAnswer:
        call = self._call
        with engine.borrow(self._strand, key) as server:
            async with server.relay_stream(call.path, _asked(call), self, call.timeout_s) as stream:
                headers = await stream.headers()
                if headers or stream.encoding:
                    call.send_headers(headers, stream.encoding)
                    self._mark()
                else:
                    self._timers.append(asyncio.get_running_loop().call_later(HEADERS_S, self._accept))
                async for message in stream.messages():
                    await self._send(message)
                code, text, trailers = await stream.status()
        return GrpcAnswer(Code(code), text, trailers=trailers)

    async def _send(self, message: Message) -> None:
        self._writable.clear()
        if isinstance(message, bytes):
            may_go_on = self._call.send(message)
        else:
            may_go_on = self._call.send(message.data, compressed=True)
        self._mark()
        if not may_go_on:
            await self._writable.wait()

    def _accept(self) -> None:
        self._call.send_headers()
        self._mark()

    def _finish(self, ending: GrpcAnswer) -> None:
        call = self._call
        try:
            call.finish(ending.code, ending.message, ending.trailers)
        except ValueError as error:  # metadata of a server's that gRPC has no room for
            logger.exception("a streamed call ended in an unforeseen way. This is a bug.")
            ending = error_answer(internal_error(error))
            call.finish(ending.code, ending.message, ending.trailers)
        call.on_cancel = call.on_input = call.on_writable = None  # no circle of references stays behind
        self._mark()

    def _strand(self, error: BatchProxyError) -> None:
        """It has to end now: the proxy stops, or it is late and one side does not take what the other sends."""
        self._finish(error_answer(error))
        if self.task is not None:
            self.task.cancel()

    def _mark(self) -> None:
        if not self._connection.dirty:
            self._connection.mark()

    def __aiter__(self) -> _Stream:
        return self

    async def __anext__(self) -> Message:
        call = self._call
        if self._first is not None:
            first, self._first = self._first, None
            return first
        while True:
            self._input.clear()
            message = call.receive()
            if message is not None:
                self._mark()  # the caller may send as much again
                return message
            if call.ended:
                raise StopAsyncIteration
            await self._input.wait()


def _asked(call: GrpcStreamCall) -> list[Header]:
    """The caller's own headers, and what it says of compressed messages: those are passed on as they are."""
    said = (field for field in call.head.fields if field[0] in _COMPRESSION)
    return [*call.head.pairs(), *((name.decode("ascii"), value.decode("latin-1")) for name, value in said)]
