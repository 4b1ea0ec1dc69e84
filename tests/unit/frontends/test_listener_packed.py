"""Large compressed bodies and messages over HTTP/2: inflated in a thread, while others are answered."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from batchproxy.core.errors import Code
from batchproxy.frontends.grpc_routes import METHODS, GrpcAnswer, GrpcRoutes
from batchproxy.frontends.listener import Listener
from batchproxy.frontends.rest_routes import RestRoutes
from batchproxy.wire import frames, grpc
from batchproxy.wire.frames import ErrorCode
from batchproxy.wire.unpack import QUICK_TEXT_BYTES
from tests.http2_client import Client
from tests.http2_peer import POST
from tests.listening import Held, until

ECHO = (*POST[:2], (":path", "/echo"), POST[3], ("content-encoding", "gzip"))
GZIP = ("grpc-encoding", "gzip")
LARGE = bytes(2 * QUICK_TEXT_BYTES)


class Lengths:
    """gRPC routes that answer with the length of what came."""

    methods = METHODS

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


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[Listener, Client]]:
    """Routes that echo, and a client."""
    listener = Listener(cast("RestRoutes", Held()), cast("GrpcRoutes", Lengths()), "127.0.0.1", 0)
    await listener.start()
    client = await Client.connected(listener)
    try:
        yield listener, client
    finally:
        client.close()
        await listener.aclose()


@pytest.mark.parametrize(("accepted", "compressed"), [("gzip", 1), ("identity,deflate", 1), ("identity", 0)])
async def test_an_answer_is_compressed_where_the_server_did_and_the_caller_may_read_it(
    accepted: str, compressed: int
) -> None:
    """In what the caller accepts."""

    class Zeros(Lengths):
        def handle(self, method: str, message: bytes, timeout_s: Any, respond: Any, *_: object) -> None:
            respond(GrpcAnswer(Code.OK, "", bytes(1000), compress=True))

    listener = Listener(None, cast("GrpcRoutes", Zeros()), "127.0.0.1", 0)
    await listener.start()
    client = await Client.connected(listener)
    client.call(b"?", ("grpc-accept-encoding", accepted))
    _, fields, body = await client.answer()
    client.close()
    await listener.aclose()
    flag, length = grpc.PREFIX.unpack_from(body)
    message = body[grpc.PREFIX.size :]
    encoding = accepted.rpartition(",")[2].encode()

    assert "0" == fields["grpc-status"]
    assert (compressed, len(message)) == (flag, length)
    assert bytes(1000) == (grpc.decompress(encoding, message, 2000) if compressed else message)


async def test_large_messages_and_bodies_are_inflated() -> None:
    """By real threads."""
    async with serving() as (_, client):
        client.call(grpc.compress(b"gzip", LARGE), GZIP, compressed=1)
        call = await client.answer()
        client.request(ECHO, gzip.compress(LARGE[:1] + LARGE))
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
        client.call(grpc.compress(b"gzip", LARGE), GZIP, compressed=1)
        client.call(bytes(broken), GZIP, compressed=1)
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
        client.call(grpc.compress(b"gzip", LARGE), GZIP, compressed=1)
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
        client.call(grpc.compress(b"gzip", LARGE), GZIP, compressed=1)
        client.request(ECHO, gzip.compress(LARGE))
        await until(lambda: len(threads.work) == 2)
        threads.work[0][2].set_exception(MemoryError())
        threads.work[1][2].cancel()
        found = [await client.answer(), await client.answer()]

    assert [(1, "14"), (3, None)] == [(stream, head.get("grpc-status")) for stream, head, _ in found]
    assert "no memory" in found[0][1]["grpc-message"]
    assert "503" == found[1][1][":status"]
