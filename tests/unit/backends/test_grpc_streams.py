"""The gRPC doors, on ``grpc.aio`` and our own: calls of any kind, as streams both ways."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Iterator

import pytest

from batchproxy.backends.grpc_wire import GrpcWireDoor
from batchproxy.core.errors import BackendUnavailable, Code
from batchproxy.wire.unpack import Message, Packed
from tests.strangers import DOORS, Kind, Running, a_door, misbehaving


@pytest.fixture
def running() -> Iterator[Running]:
    """A server of one's own."""
    server = Running()
    yield server
    server.stop()


@pytest.fixture(params=DOORS, ids=["aio", "wire"])
def client(request: pytest.FixtureRequest) -> Kind:
    """Which door."""
    kind: Kind = request.param
    return kind


async def of(*messages: Message) -> AsyncIterator[Message]:
    """An iterator as a listener has one."""
    for message in messages:
        yield message


async def test_a_stream_passes_both_ways(running: Running, client: Kind) -> None:
    """Initial metadata, messages, status and trailing metadata."""
    async with a_door(running.port, client) as door, door.stream("/s/chat", (("a", "b"),), of(b"1", b"2")) as stream:
        headers = await stream.headers()
        messages = [message async for message in stream.messages()]
        status = await stream.status()

    assert (("i", "1"),) == headers
    assert [b"1!", b"2!"] == messages
    assert (0, "", (("t-bin", b"\1"),)) == status


async def test_messages_are_passed_on_as_they_come(running: Running, client: Kind) -> None:
    """Each answer is there before the next message is sent."""
    queue: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def sent() -> AsyncIterator[bytes]:
        while (message := await queue.get()) is not None:
            yield message

    async with a_door(running.port, client) as door, door.stream("/s/chat", (), sent()) as stream:
        messages = stream.messages()
        queue.put_nowait(b"1")
        first = await anext(messages)
        queue.put_nowait(b"2")
        second = await anext(messages)
        queue.put_nowait(None)
        rest = [message async for message in messages]

    assert (b"1!", b"2!", []) == (first, second, rest)


async def test_compressed_messages_reach_the_server_as_what_they_are(running: Running, client: Kind) -> None:
    """Passed on by our own client, inflated for grpcio's; what is broken cancels the call there."""
    messages: list[Message] = [Packed(b"gzip", gzip.compress(b"1"), 9), b"2"]
    async with a_door(running.port, client) as door:
        async with door.stream("/s/chat", (("grpc-encoding", "gzip"),), of(*messages)) as stream:
            answers = [message async for message in stream.messages()]
        async with door.stream("/s/chat", (("grpc-encoding", "gzip"),), of(Packed(b"gzip", b"x", 9))) as stream:
            code, _, _ = await stream.status()

    assert [b"1!", b"2!"] == answers
    assert code in {Code.CANCELLED, Code.INTERNAL}


async def test_a_streams_bad_end_is_its_status(running: Running, client: Kind) -> None:
    """No exception: what came before it counts."""
    async with a_door(running.port, client) as door, door.stream("/s/moody", (), of(b"1")) as stream:
        messages = [message async for message in stream.messages()]
        status = await stream.status()

    assert [b"1"] == messages
    assert (15, "enough", (("t", "x"),)) == status


async def test_a_stream_refused_while_we_write_ends_with_the_servers_status(running: Running, client: Kind) -> None:
    """grpcio makes one up when a write fails (INTERNAL, "Internal error from Core"), and forgets the server's."""
    endings = set()
    async with a_door(running.port, client) as door:
        for _ in range(100):
            async with door.stream("/s/deaf", (), of(b"1", b"2", b"3")) as stream:
                assert [] == [message async for message in stream.messages()]
                endings.add(await stream.status())

    assert {(12, "unread", (("t", "x"),))} == endings


async def test_a_stream_whose_caller_breaks_is_cancelled(running: Running, client: Kind) -> None:
    """What the caller sends cannot be read: so the server must not wait for it."""

    async def broken() -> AsyncIterator[bytes]:
        yield b"1"
        raise RuntimeError("the caller's connection broke")

    async with a_door(running.port, client) as door, door.stream("/s/chat", (), broken()) as stream:
        async for _ in stream.messages():
            pass
        code, _, _ = await stream.status()

    assert Code.CANCELLED == code


async def test_a_unary_method_through_a_stream(running: Running, client: Kind) -> None:
    """On the wire they are the same, so an unknown method needs no knowledge of its kind."""
    async with a_door(running.port, client) as door, door.stream("/s/echo", (), of(b"1"), 5.0) as stream:
        messages = [message async for message in stream.messages()]
        status = await stream.status()

    assert [b"1"] == messages
    assert (0, "", (("t", "3"), ("t-bin", b"\0\x01"))) == status


async def test_a_stream_to_nobody() -> None:
    """grpcio: the status says so, after no metadata and no messages."""
    async with misbehaving() as port:
        pass
    async with a_door(port) as door, door.stream("/s/chat", (), of(b"1")) as stream:
        headers = await stream.headers()
        messages = [message async for message in stream.messages()]
        code, text, trailers = await stream.status()

    assert ((), [], 14, ()) == (headers, messages, code, trailers)
    assert "refused" in text


async def test_a_stream_to_nobody_by_our_own_client() -> None:
    """It is not begun, so that the server is known to be gone."""
    async with misbehaving() as port:
        pass
    async with a_door(port, GrpcWireDoor) as door:
        with pytest.raises(BackendUnavailable, match="refused"):
            async with door.stream("/s/chat", (), of(b"1")):
                pass


async def test_leaving_a_stream_cancels_it(running: Running, client: Kind) -> None:
    """The server learns that nobody reads on."""
    async with a_door(running.port, client) as door:
        async with door.stream("/s/hang", (), of(b"1")):
            await asyncio.to_thread(running.stranger.reached.wait, 5)

        assert await asyncio.to_thread(running.stranger.cancelled.wait, 5)


async def test_cancelling_who_reads_a_stream(running: Running, client: Kind) -> None:
    """A cancelled task is cancelled; it does not read an early end."""
    async with a_door(running.port, client) as door, door.stream("/s/hang", (), of(b"1")) as stream:

        async def read() -> None:
            async for _ in stream.messages():
                pass

        task = asyncio.create_task(read())
        await asyncio.to_thread(running.stranger.reached.wait, 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_closing_the_door_ends_its_streams(running: Running, client: Kind) -> None:
    """Who reads one sees its end, and a status."""
    async with a_door(running.port, client) as door, door.stream("/s/hang", (), of(b"1")) as stream:

        async def read() -> list[Message]:
            return [message async for message in stream.messages()]

        task = asyncio.create_task(read())
        await asyncio.to_thread(running.stranger.reached.wait, 5)
        await door.aclose()
        messages = await task
        code, _, _ = await stream.status()

    assert [] == messages
    assert Code.CANCELLED == code
