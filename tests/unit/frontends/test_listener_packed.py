"""Large compressed bodies and messages over HTTP/2: inflated in a thread, while others are answered."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from batchproxy.core.errors import Code
from batchproxy.frontends.grpc_routes import GrpcAnswer, GrpcRoutes
from batchproxy.frontends.listener import Listener
from batchproxy.frontends.rest_routes import RestRoutes
from batchproxy.wire import frames, grpc
from batchproxy.wire.frames import END_STREAM, HEADERS, ErrorCode
from batchproxy.wire.unpack import QUICK_TEXT_BYTES
from tests.http2_peer import CALL, POST, Frame, Peer, data, prefixed, split
from tests.listening import Held, open_to, until

ECHO = ((":path", "/echo"), ("content-encoding", "gzip"))
GZIP = ("grpc-encoding", "gzip")
LARGE = bytes(2 * QUICK_TEXT_BYTES)


class Lengths:
    """gRPC routes that answer with the length of what came."""

    def handle(
        self, method: str, message: bytes, timeout_s: float | None, respond: Callable[[GrpcAnswer], None], *_: object
    ) -> None:
        respond(GrpcAnswer(Code.OK, "", b"%d" % len(message)))


class Threads:
    """The running loop, with an executor that does what it is told when it is told."""

    def __init__(self) -> None:
        self.work: list[tuple[Callable[..., bytes], tuple[Any, ...], asyncio.Future[bytes]]] = []

    def run_in_executor(self, executor: None, work: Callable[..., bytes], *arguments: object) -> asyncio.Future[bytes]:
        self.work.append((work, arguments, asyncio.get_running_loop().create_future()))
        return self.work[-1][2]

    def finish(self, number: int) -> None:
        work, arguments, outcome = self.work[number]
        try:
            outcome.set_result(work(*arguments))
        except Exception as error:
            outcome.set_exception(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio.get_running_loop(), name)


class Client:
    """A scripted client with a socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.peer = Peer()  # its encoder and decoder are used
        self._reader, self._writer = reader, writer
        self._said: list[Frame] = []
        writer.write(frames.PREFACE + frames.settings() + frames.frame(frames.SETTINGS, frames.ACK, 0, b""))

    def send(self, *parts: bytes) -> None:
        self._writer.write(b"".join(parts))

    def call(self, message: bytes, compressed: int = 0) -> None:
        stream = self.peer.take()
        self.send(self.peer.headers((*CALL, GZIP), stream), data_of(stream, prefixed(message, compressed)))

    def echo(self, body: bytes) -> None:
        stream = self.peer.take()
        fields = (POST[0], POST[1], ECHO[0], POST[3], ECHO[1])
        self.send(self.peer.headers(fields, stream), data_of(stream, body))

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """The next stream to end: its id, its last fields and its body."""
        bodies: dict[int, bytes] = {}
        heads: dict[int, dict[str, str]] = {}
        while True:
            while not self._said:
                head = await self._reader.readexactly(9)
                payload = await self._reader.readexactly(int.from_bytes(head[:3], "big"))
                self._said += split(head + payload)
            said = self._said.pop(0)
            if said.kind == HEADERS:
                heads[said.stream] = self.peer.fields(said)
            elif said.kind == frames.DATA:
                bodies[said.stream] = bodies.get(said.stream, b"") + said.payload
            if said.kind in {HEADERS, frames.DATA} and said.flags & END_STREAM:
                return said.stream, heads[said.stream], bodies.get(said.stream, b"")

    def close(self) -> None:
        self._writer.close()


def data_of(stream: int, body: bytes) -> bytes:
    """A body that fits the first window, in frames."""
    pieces = [body[at : at + 16384] for at in range(0, len(body), 16384)]
    return b"".join(data(stream, piece) for piece in pieces) + data(stream, b"", END_STREAM)


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[Listener, Client]]:
    """Routes that echo, and a client."""
    listener = Listener(cast("RestRoutes", Held()), cast("GrpcRoutes", Lengths()), "127.0.0.1", 0)
    await listener.start()
    client = Client(*await open_to(listener))
    try:
        yield listener, client
    finally:
        client.close()
        await listener.aclose()


async def test_large_messages_and_bodies_are_inflated() -> None:
    """By real threads."""
    async with serving() as (_, client):
        client.call(grpc.compress(b"gzip", LARGE), 1)
        call = await client.answer()
        client.echo(gzip.compress(LARGE[:1] + LARGE))
        client.send(frames.window_update(0, 4 << 20), frames.window_update(3, 4 << 20))
        request = await client.answer()

    assert (1, "0", b"%d" % len(LARGE)) == (call[0], call[1]["grpc-status"], call[2][5:])
    assert (3, "200", len(LARGE) + 1) == (request[0], request[1][":status"], len(request[2]))


async def test_others_are_answered_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the same connection, even; what is broken is refused when that is found out."""
    broken = bytearray(grpc.compress(b"gzip", LARGE))
    broken[-6] ^= 1
    threads = Threads()
    async with serving() as (listener, client):
        monkeypatch.setattr(listener, "loop", threads)
        client.call(grpc.compress(b"gzip", LARGE), 1)
        client.call(bytes(broken), 1)
        await until(lambda: len(threads.work) == 2)
        client.call(b"small")
        first = await client.answer()
        threads.finish(1)
        second = await client.answer()
        threads.finish(0)
        third = await client.answer()

    assert (5, b"5") == (first[0], first[2][5:])
    assert (3, "13") == (second[0], second[1]["grpc-status"])
    assert "not gzip data" in second[1]["grpc-message"]
    assert (1, b"%d" % len(LARGE)) == (third[0], third[2][5:])


async def test_a_caller_that_leaves_is_not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is inflated for it is dropped."""
    threads = Threads()
    async with serving() as (listener, client):
        monkeypatch.setattr(listener, "loop", threads)
        client.call(grpc.compress(b"gzip", LARGE), 1)
        await until(lambda: threads.work)
        client.send(frames.rst_stream(1, ErrorCode.CANCEL))
        client.call(b"later")
        later = await client.answer()
        threads.finish(0)
        client.call(b"last")
        last = await client.answer()

    assert ((3, b"5"), (5, b"4")) == ((later[0], later[2][5:]), (last[0], last[2][5:]))


async def test_without_memory_callers_are_told_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """UNAVAILABLE, or 503."""
    threads = Threads()
    async with serving() as (listener, client):
        monkeypatch.setattr(listener, "loop", threads)
        client.call(grpc.compress(b"gzip", LARGE), 1)
        client.echo(gzip.compress(LARGE))
        await until(lambda: len(threads.work) == 2)
        threads.work[0][2].set_exception(MemoryError())
        threads.work[1][2].cancel()
        found = [await client.answer(), await client.answer()]

    assert [(1, "14"), (3, None)] == [(stream, head.get("grpc-status")) for stream, head, _ in found]
    assert "no memory" in found[0][1]["grpc-message"]
    assert "503" == found[1][1][":status"]
