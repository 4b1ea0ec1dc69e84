"""Streams of our own gRPC client in harder cases: grpcio's servers."""

from __future__ import annotations

import asyncio
import gzip
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from batchproxy.backends.grpc_wire import GrpcWireDoor
from batchproxy.core.errors import BackendUnavailable, Code
from batchproxy.wire.budget import Budget
from batchproxy.wire.unpack import QUICK_TEXT_BYTES, Message, Packed
from tests.listening import until

MIB = 1 << 20
SENT = (("x-plain", "a b"), ("x-twice", "1"), ("x-twice", "2"), ("x-some-bin", b"\0\xff\x80"))
OK = b"\x88\x00\x0bgrpc-status\x010"
PREFIXED = b"\0\0\0\0\1"


class Talker(grpc.GenericRpcHandler):  # type: ignore[misc]
    """grpcio's asyncio server: methods by name."""

    def __init__(self) -> None:
        self.made = 0
        self.may = asyncio.Event()
        self.reached = asyncio.Event()
        self.cancelled = asyncio.Event()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        return grpc.stream_stream_rpc_method_handler(getattr(self, details.method.removeprefix("/s/")))

    async def echo(self, messages: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        own = tuple(pair for pair in context.invocation_metadata() if pair[0].startswith("x-"))
        await context.send_initial_metadata(own)
        async for message in messages:
            yield message
        context.set_trailing_metadata(own)

    async def endless(self, messages: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        while True:
            self.made += 1
            yield bytes(64 << 10)

    async def hang(self, messages: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        yield b"here"
        self.reached.set()
        try:
            await self.may.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        async for message in messages:
            yield message


@asynccontextmanager
async def talking(
    compression: grpc.Compression = grpc.Compression.NoCompression, budget: Budget | None = None
) -> AsyncIterator[tuple[grpc.aio.Server, Talker, GrpcWireDoor]]:
    """A server on a port of its own, and a door to it."""
    talker = Talker()
    options = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
    server = grpc.aio.server(handlers=(talker,), options=options, compression=compression)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    door = GrpcWireDoor(f"127.0.0.1:{port}", budget=budget)
    try:
        yield server, talker, door
    finally:
        await door.aclose()
        await server.stop(0)


async def of(*messages: Message) -> AsyncIterator[Message]:
    """What a caller streams."""
    for message in messages:
        yield message


async def talk(
    door: GrpcWireDoor, method: str, *messages: Message, timeout_s: float | None = 30.0, encoding: str = ""
) -> list[Any]:
    """All that a stream says: metadata, messages, status."""
    said = [("grpc-encoding", encoding), ("grpc-accept-encoding", encoding)] if encoding else []
    async with door.stream(method, (*SENT, *said), of(*messages), timeout_s) as stream:
        headers = await stream.headers()
        answers = [message async for message in stream.messages()]
        return [headers, answers, await stream.status()]


# -- grpcio's servers ------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
async def test_messages_of_all_sizes(compression: grpc.Compression) -> None:
    """In order, whole, compressed either way or not; metadata, binary too; nothing is held afterwards."""
    messages = [b"%d" % number * (number % 50) for number in range(2000)]
    messages += [bytes(20 * MIB), b"small", b"\1" * (QUICK_TEXT_BYTES + 1), b""]
    budget = Budget()
    async with talking(compression, budget) as (_, _, door):
        encoding, sent = b"", list[Message](messages)
        if compression is grpc.Compression.Gzip:
            encoding, sent = b"gzip", [Packed(b"gzip", gzip.compress(each), MIB) for each in messages]
        headers, answers, status = await talk(door, "/s/echo", *sent, encoding=encoding.decode())
        await until(lambda: budget.held == 0)
    packed = [answer for answer in answers if isinstance(answer, Packed)]

    assert messages == [answer.whole() if isinstance(answer, Packed) else answer for answer in answers]
    assert (bool(encoding), {encoding} - {b""}) == (len(packed) > 1000, {answer.encoding for answer in packed})
    assert [*SENT] == [pair for pair in headers if pair[0].startswith("x-")]
    assert (0, "", SENT) == status


async def test_many_streams_at_once() -> None:
    """Two hundred, each gets its own, over one connection."""
    async with talking() as (_, _, door):
        found = await asyncio.gather(
            *(talk(door, "/s/echo", *(b"%d-%d" % (name, number) for number in range(20))) for name in range(200))
        )
        connections = len(door._streams._all)

    assert [[b"%d-%d" % (name, number) for number in range(20)] for name in range(200)] == [each[1] for each in found]
    assert 1 == connections


async def test_a_slow_reader_holds_the_server_back() -> None:
    """What lies here is bounded by the stream's window; grpcio's end has some 8 MiB of its own."""
    budget = Budget()
    async with talking(budget=budget) as (_, talker, door), door.stream("/s/endless", (), of()) as stream:
        messages = stream.messages()
        await anext(messages)
        await until(lambda: budget.held > 400 << 10)
        made, held = talker.made, budget.held
        for _ in range(500):
            await anext(messages)

    assert (True, True) == (made < 400, held <= 513 << 10)
    assert talker.made > 500
    assert 0 == budget.held


async def test_a_server_that_does_not_read_holds_the_caller_back() -> None:
    """What was taken of the caller is bounded by the server's window and our mark; all of it comes at last."""
    taken = 0

    async def sent() -> AsyncIterator[bytes]:
        nonlocal taken
        for _ in range(1000):
            taken += 1
            yield bytes(64 << 10)

    async with talking() as (_, talker, door), door.stream("/s/hang", (), sent(), 60.0) as stream:
        messages = stream.messages()
        await anext(messages)
        before = -1
        while before != taken:
            before = taken
            for _ in range(1000):
                await asyncio.sleep(0)
        talker.may.set()
        size = sum([len(message) async for message in messages])

    assert before < 600
    assert 1000 * (64 << 10) == size


async def test_a_deadline() -> None:
    """What came before it counts; the server is told, and knows it itself."""
    async with talking() as (_, talker, door):
        _, answers, (code, _, _) = await talk(door, "/s/hang", timeout_s=0.5)
        await talker.cancelled.wait()

    assert ([b"here"], Code.DEADLINE_EXCEEDED) == (answers, code)


async def test_leaving_cancels() -> None:
    """The server is told at once."""
    async with talking() as (_, talker, door):
        async with door.stream("/s/hang", (), of(b"1")) as stream:
            await anext(stream.messages())
        await talker.cancelled.wait()


async def test_nothing_stays_of_streams_that_are_left_anywhere() -> None:
    """Four hundred, each cancelled after as many turns of the loop as its number says, messages of 40 KB under way."""
    budget = Budget()
    async with talking(budget=budget) as (_, _, door):

        async def leave(turns: int) -> None:
            task = asyncio.create_task(talk(door, "/s/echo", *[bytes(40_000)] * 20))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        await talk(door, "/s/echo", b"x")
        await asyncio.gather(*(leave(turns) for turns in range(400)))
        *_, (code, _, _) = await talk(door, "/s/echo", b"x")
        (connection,) = door._streams._all
        requests = connection.wire.requests
        left = len(requests.calls), len(requests.waiting), len(requests.outlet.streams), requests.intake.promised

    assert 0 == code
    assert (0, 0, 0, 0) == left
    assert (0, 0, 0) == (requests.held, budget.held, len(door._tasks))


async def test_a_server_that_stops_gently_lets_streams_end() -> None:
    """GOAWAY: they go on; new ones find another connection, or nobody."""
    async with talking() as (server, talker, door), door.stream("/s/hang", (), of(b"1", b"2"), 30.0) as stream:
        messages = stream.messages()
        first = await anext(messages)
        stopping = asyncio.create_task(server.stop(20))
        await until(lambda: door._streams.usable() is None)
        with pytest.raises(BackendUnavailable, match="failed to connect"):
            await talk(door, "/s/echo")
        talker.may.set()
        rest = [message async for message in messages]
        code, _, _ = await stream.status()
        await stopping

    assert (b"here", [b"1", b"2"], 0) == (first, rest, code)


VICTIM = """
import threading
from concurrent import futures
import grpc
class Hang(grpc.GenericRpcHandler):
    def service(self, details):
        return grpc.stream_stream_rpc_method_handler(self.hang)
    def hang(self, messages, context):
        yield b"here"
        halt.wait()
halt = threading.Event()
server = grpc.server(futures.ThreadPoolExecutor(1), handlers=(Hang(),))
print(server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
halt.wait()
"""


async def test_a_server_that_is_killed() -> None:
    """What came counts; the status says that it is lost."""
    victim = await asyncio.create_subprocess_exec(sys.executable, "-c", VICTIM, stdout=asyncio.subprocess.PIPE)
    assert victim.stdout is not None
    door = GrpcWireDoor(f"127.0.0.1:{int(await victim.stdout.readline())}")
    async with door.stream("/s/hang", (), of(b"1")) as stream:
        messages = stream.messages()
        first = await anext(messages)
        victim.kill()
        rest = [message async for message in messages]
        code, text, _ = await stream.status()
    await door.aclose()
    await victim.wait()

    assert (b"here", [], Code.UNAVAILABLE) == (first, rest, code)
    assert text.startswith(door.name)
