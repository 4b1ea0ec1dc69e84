"""Servers that are not ours, for the tests of our doors to servers: grpcio's, and sockets that misbehave on purpose."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent import futures
from contextlib import asynccontextmanager
from typing import Any

import grpc

from batchproxy.backends.grpc import GrpcDoor
from batchproxy.backends.grpc_wire import GrpcWireDoor
from batchproxy.backends.http import RestDoor

Door = GrpcDoor | GrpcWireDoor
Kind = type[GrpcDoor] | type[GrpcWireDoor]
DOORS: tuple[Kind, ...] = (GrpcDoor, GrpcWireDoor)
"""Both ways to a gRPC server."""


class Stranger(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Methods by name; ``/s/abort/CODE/TEXT`` says what it is told to say."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.cancelled = threading.Event()
        self.deadlines: list[float | None] = []
        self.metadata: list[tuple[str, Any]] = []

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        name, _, argument = details.method.removeprefix("/s/").partition("/")
        if name in {"chat", "moody", "deaf"}:
            return grpc.stream_stream_rpc_method_handler(getattr(self, name))
        return grpc.unary_unary_rpc_method_handler(lambda body, context: getattr(self, name)(body, context, argument))

    def echo(self, body: bytes, context: Any, argument: str) -> bytes:
        self.metadata = list(context.invocation_metadata())
        self.deadlines.append(context.time_remaining())
        context.send_initial_metadata((("i", "1"), ("i", "2"), ("i-bin", b"\xff\0")))
        context.set_trailing_metadata((("t", "3"), ("t-bin", b"\0\x01")))
        return body

    def abort(self, body: bytes, context: Any, argument: str) -> None:
        code, _, text = argument.partition("/")
        if body:
            context.set_trailing_metadata((("t", body.decode()),))
        context.abort(grpc.StatusCode[code], text)

    def hang(self, body: bytes, context: Any, argument: str) -> bytes:
        context.add_callback(self.cancelled.set)
        self.reached.set()
        self.cancelled.wait(10)
        return body

    def chat(self, messages: Iterator[bytes], context: Any) -> Iterator[bytes]:
        context.send_initial_metadata((("i", "1"),))
        for message in messages:
            yield message + b"!"
        context.set_trailing_metadata((("t-bin", b"\1"),))

    def moody(self, messages: Iterator[bytes], context: Any) -> Iterator[bytes]:
        context.set_trailing_metadata((("t", "x"),))
        yield next(messages)
        context.abort(grpc.StatusCode.DATA_LOSS, "enough")

    def deaf(self, messages: Iterator[bytes], context: Any) -> None:
        context.set_trailing_metadata((("t", "x"),))
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "unread")


class Running:
    """A server on a port of its own."""

    def __init__(self, port: int = 0, limit_bytes: int = -1) -> None:
        self.stranger = Stranger()
        self.server = grpc.server(
            futures.ThreadPoolExecutor(4),
            handlers=(self.stranger,),
            options=(("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", limit_bytes)),
        )
        self.port = self.server.add_insecure_port(f"127.0.0.1:{port}")
        self.server.start()

    def stop(self) -> None:
        """At once; calls under way are dropped."""
        self.stranger.cancelled.set()
        self.server.stop(0).wait()


@asynccontextmanager
async def a_door(port: int, kind: Kind = GrpcDoor) -> AsyncIterator[Door]:
    """A door to a local port, closed at the end."""
    door = kind(f"127.0.0.1:{port}")
    try:
        yield door
    finally:
        await door.aclose()


Writer = asyncio.StreamWriter
SETTINGS, RST_STREAM, GOAWAY, HEADERS = 4, 3, 7, 1


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """An HTTP/2 frame."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


@asynccontextmanager
async def misbehaving(*answer: bytes) -> AsyncIterator[int]:
    """A server that takes a connection, waits for a request, says ``answer`` to it and hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: Writer) -> None:
        writer.write(frame(SETTINGS, 0, 0))
        await reader.readexactly(24)
        while True:
            head = await reader.readexactly(9)
            await reader.readexactly(int.from_bytes(head[:3], "big"))
            if head[3] == SETTINGS and not head[4]:
                writer.write(frame(SETTINGS, 1, 0))
            if head[3] == HEADERS:
                break
        writer.write(b"".join(answer))
        await writer.drain()
        writer.close()

    async with listening(serve) as port:
        yield port


@asynccontextmanager
async def listening(serve: Callable[[asyncio.StreamReader, Writer], Awaitable[None]]) -> AsyncIterator[int]:
    """A socket on which ``serve`` answers."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


def reset(error_code: int) -> bytes:
    """RST_STREAM of the first request."""
    return frame(RST_STREAM, 0, 1, error_code.to_bytes(4, "big"))


def goaway(last: int) -> bytes:
    """GOAWAY without an error."""
    return frame(GOAWAY, 0, 0, last.to_bytes(4, "big") + bytes(4))


def status_only(status: bytes) -> bytes:
    """An HTTP answer without any gRPC in it: ``:status`` by its index in HPACK's table, value literal."""
    return frame(HEADERS, 5, 1, bytes([0x08, len(status)]) + status)


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
HANG_UP = b""
"""In a script: end the connection without a word."""


class Recorder:
    """Takes requests, remembers their bytes, and gives the answers of its script in turn, the last for ever."""

    def __init__(self, answers: Sequence[bytes]) -> None:
        self.answers = list(answers)
        self.requests: list[bytes] = []
        self.connections = 0
        self.reached = asyncio.Event()
        self.gone = asyncio.Event()
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = 0
                for line in head.split(b"\r\n"):
                    if line.lower().startswith(b"content-length:"):
                        length = int(line[15:])
                self.requests.append(head + await reader.readexactly(length))
                self.reached.set()
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                if answer == HANG_UP:
                    break
                writer.write(answer)
                if b"Content-Length: 99" in answer:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            self.gone.set()
        finally:
            writer.close()


@asynccontextmanager
async def recorder(*answers: bytes) -> AsyncIterator[tuple[Recorder, RestDoor]]:
    """A server and a door to it."""
    stranger = Recorder(answers or (OK,))
    server = await asyncio.start_server(stranger.serve, "127.0.0.1", 0)
    stranger.port = server.sockets[0].getsockname()[1]
    door = RestDoor(f"127.0.0.1:{stranger.port}")
    try:
        yield stranger, door
    finally:
        await door.aclose()
        server.close()
        await server.wait_closed()
