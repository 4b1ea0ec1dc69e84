"""What the wire's own gRPC door has beyond ``test_grpc.py``, which holds both: real servers in harder cases."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import grpc
import grpc.aio
import pytest

from batchproxy.backends import grpc_wire_connections
from batchproxy.backends.grpc_wire import GrpcWireDoor
from batchproxy.core.errors import BackendLost, BackendRejected, BackendUnavailable, Code
from batchproxy.wire.http2_client import CLIENT_LIMITS, Http2Client
from batchproxy.wire.http2_client_calls import MAX_ID
from batchproxy.wire.http2_head import Refusal
from batchproxy.wire.unpack import QUICK_TEXT_BYTES, Packed
from tests.listening import until
from tests.proxy import ROOT
from tests.strangers import DOORS, Kind, Running, a_door, frame, listening, misbehaving
from tests.strangers import HEADERS as HEADERS_FRAME

WIRE: Kind = GrpcWireDoor
TLS = ROOT / "tests" / "tls"


class Slow(grpc.GenericRpcHandler):  # type: ignore[misc]
    """grpcio's asyncio server: echoes once it may, and counts how many wait at once."""

    def __init__(self) -> None:
        self.may = asyncio.Event()
        self.running = self.most = 0
        self.reached = asyncio.Event()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        return grpc.unary_unary_rpc_method_handler(self.echo)

    async def echo(self, body: bytes, context: Any) -> bytes:
        self.running += 1
        self.most = max(self.most, self.running)
        self.reached.set()
        await self.may.wait()
        self.running -= 1
        return body


@asynccontextmanager
async def aio(**options: Any) -> AsyncIterator[tuple[grpc.aio.Server, Slow, int]]:
    """A server on a port of its own."""
    slow = Slow()
    pairs = tuple((f"grpc.{name}", value) for name, value in options.items())
    unlimited = ("grpc.max_receive_message_length", -1)
    server = grpc.aio.server(options=(unlimited, *pairs), compression=grpc.Compression.Gzip)
    server.add_generic_rpc_handlers((slow,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield server, slow, port
    finally:
        slow.may.set()
        await server.stop(0)


async def test_many_calls_at_once_each_get_their_own_answer() -> None:
    """Five hundred, some of them long, from grpcio's asyncio server, compressed."""
    bodies = [b"%d" % number * (20_000 if number % 50 == 0 else 3) for number in range(500)]
    async with aio() as (_, slow, port), a_door(port, WIRE) as door:
        slow.may.set()
        replies = await asyncio.gather(*(door.call("/s/echo", (), body, 30.0) for body in bodies))

    assert bodies == [reply.body for reply in replies]
    assert {True} == {reply.compressed for reply in replies if len(reply.body) > 20_000}


async def test_a_message_of_64_mib_passes_both_ways() -> None:
    """Through the windows of either side."""
    body = bytes(range(256)) * (1 << 18)
    async with aio(max_send_message_length=-1) as (_, slow, port), a_door(port, WIRE) as door:
        slow.may.set()
        reply = await door.call("/s/echo", (), body, 30.0)

    assert body == reply.body


@pytest.mark.parametrize("wrong", [None, Refusal(8, "too long"), MemoryError()])
async def test_large_compressed_answers_are_inflated_in_a_thread(
    monkeypatch: pytest.MonkeyPatch, wrong: Exception | None
) -> None:
    """Nobody else waits for that; where it cannot be done, the call is refused."""
    threads: list[threading.Thread] = []
    whole = Packed.whole

    def noted(packed: Packed) -> bytes:
        if packed.limit > QUICK_TEXT_BYTES:
            threads.append(threading.current_thread())
            if wrong is not None:
                raise wrong
        return whole(packed)

    monkeypatch.setattr(Packed, "whole", noted)
    body = bytes(8 << 20)
    async with aio(max_send_message_length=-1) as (_, slow, port), a_door(port, WIRE) as door:
        slow.may.set()
        if wrong is None:
            reply = await door.call("/s/echo", (), body, 30.0)
            assert (body, True) == (reply.body, reply.compressed)
        else:
            with pytest.raises(BackendRejected) as caught:
                await door.call("/s/echo", (), body, 30.0)
            assert Code.RESOURCE_EXHAUSTED is caught.value.code

    assert 1 == len(threads)
    assert threading.main_thread() not in threads


async def test_streams_run_out() -> None:
    """After the last id that HTTP/2 has, another connection carries the calls; those under way end on the first."""
    async with aio() as (_, slow, port), a_door(port, WIRE) as door:
        assert isinstance(door, GrpcWireDoor)
        first = await door._channel.connected(None)
        first.wire.requests.next = MAX_ID - 2
        calls = [asyncio.create_task(door.call("/s/echo", (), b"%d" % number, 30.0)) for number in range(5)]
        await slow.reached.wait()
        await until(lambda: door._channel.usable() not in {None, first})
        under_way = len(first.wire.requests.calls)
        slow.may.set()
        replies = await asyncio.gather(*calls)
        await until(lambda: first not in door._channel._all)

    assert 2 == under_way
    assert [b"%d" % number for number in range(5)] == [reply.body for reply in replies]


PINGED = replace(CLIENT_LIMITS, ping_s=0.05, patience_s=5.0)


async def test_a_server_that_is_busy_answers_pings(monkeypatch: pytest.MonkeyPatch) -> None:
    """grpcio's does while a call is under way: it is alive, and the call goes on."""
    monkeypatch.setattr(grpc_wire_connections, "Http2Client", partial(Http2Client, limits=PINGED))
    async with aio() as (_, slow, port), a_door(port, WIRE) as door:
        assert isinstance(door, GrpcWireDoor)
        call = asyncio.create_task(door.call("/s/echo", (), b"x", 30.0))
        await slow.reached.wait()
        connection = door._channel.usable()
        assert connection is not None
        await until(lambda: connection.wire._asked is not None)
        asked = connection.wire._asked
        await until(lambda: connection.wire._heard >= (asked or 0.0))
        slow.may.set()
        reply = await call

    assert b"x" == reply.body


async def test_a_server_that_stands_still_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process is stopped, its kernel still acknowledges: no PING comes back, and the call may have run."""
    monkeypatch.setattr(
        grpc_wire_connections, "Http2Client", partial(Http2Client, limits=replace(PINGED, patience_s=0.2))
    )
    victim = await asyncio.create_subprocess_exec(sys.executable, "-c", VICTIM, stdout=asyncio.subprocess.PIPE)
    assert victim.stdout is not None
    async with a_door(int(await victim.stdout.readline()), WIRE) as door:
        call = asyncio.create_task(door.call("/s/hang", (), b"1", 30.0))
        said = await victim.stdout.readline()
        victim.send_signal(signal.SIGSTOP)
        with pytest.raises(BackendLost, match="keepalive: the server did not answer a PING"):
            await call
        victim.kill()
    await victim.wait()

    assert b"reached\n" == said


async def test_no_more_calls_at_once_than_the_server_takes() -> None:
    """The others wait, without an error."""
    async with aio(max_concurrent_streams=3) as (_, slow, port), a_door(port, WIRE) as door:
        calls = [asyncio.create_task(door.call("/s/echo", (), b"%d" % number, 30.0)) for number in range(10)]
        await slow.reached.wait()
        slow.may.set()
        replies = await asyncio.gather(*calls)

    assert [b"%d" % number for number in range(10)] == [reply.body for reply in replies]
    assert 1 <= slow.most <= 3


async def test_a_server_that_stops_gently_answers_what_it_has() -> None:
    """GOAWAY: calls under way come to their end, and a call that comes now finds another connection, or nobody."""
    async with aio() as (server, slow, port), a_door(port, WIRE) as door:
        call = asyncio.create_task(door.call("/s/echo", (), b"1", 30.0))
        await slow.reached.wait()
        stopping = asyncio.create_task(server.stop(10))
        assert isinstance(door, GrpcWireDoor)
        await until(lambda: door._channel.usable() is None)  # it has heard of it
        with pytest.raises(BackendUnavailable) as caught:
            await door.call("/s/echo", (), b"2", 30.0)
        slow.may.set()
        reply = await call
        await stopping

    assert b"1" == reply.body
    assert "failed to connect" in caught.value.message


VICTIM = """
import threading
from concurrent import futures
import grpc
class Hang(grpc.GenericRpcHandler):
    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(lambda body, context: print("reached", flush=True) or halt.wait())
halt = threading.Event()
server = grpc.server(futures.ThreadPoolExecutor(1), handlers=(Hang(),))
print(server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
halt.wait()
"""


@pytest.mark.parametrize("client", DOORS)
async def test_a_server_killed_during_a_call_may_have_run_it(client: Kind) -> None:
    """Its process ends without a word; there is nobody for the next call."""
    victim = await asyncio.create_subprocess_exec(sys.executable, "-c", VICTIM, stdout=asyncio.subprocess.PIPE)
    assert victim.stdout is not None
    async with a_door(int(await victim.stdout.readline()), client) as door:
        call = asyncio.create_task(door.call("/s/hang", (), b"1", 30.0))
        said = await victim.stdout.readline()
        victim.kill()
        with pytest.raises(BackendLost):
            await call
        with pytest.raises((BackendUnavailable, BackendLost)):  # grpc.aio may try the dead connection once more
            await door.call("/s/hang", (), b"2", 30.0)
    await victim.wait()

    assert b"reached\n" == said


async def test_a_connection_that_takes_no_more_calls_is_replaced_unnoticed() -> None:
    """GOAWAY that leaves the call out, once: the second connection carries it."""
    connections = 0
    settings = frame(4, 0, 0)
    trailers = b"\x88\x00\x0bgrpc-status\x012"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.write(settings)
        await reader.readexactly(24)
        while (head := await reader.readexactly(9))[3] != HEADERS_FRAME:
            await reader.readexactly(int.from_bytes(head[:3], "big"))
        answer = frame(7, 0, 0, bytes(8)) if connections == 1 else frame(HEADERS_FRAME, 5, 1, trailers)
        writer.write(answer)
        await reader.read()
        writer.close()

    async with listening(serve) as port, a_door(port, WIRE) as door:
        with pytest.raises(BackendRejected) as caught:
            await door.call("/s/echo", (), b"x", 5.0)

    assert (2, Code.UNKNOWN) == (connections, caught.value.code)


async def test_the_time_runs_out_while_connecting() -> None:
    """A server that takes connections and says nothing."""
    silent = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await silent.wait()
        writer.close()

    async with listening(serve) as port, a_door(port, WIRE) as door:
        with pytest.raises(BackendRejected, match="not connected in time") as caught:
            await door.call("/s/echo", (), b"x", 0.05)
        silent.set()

    assert Code.DEADLINE_EXCEEDED == caught.value.code


async def test_what_cannot_be_sent_is_refused_here() -> None:
    """A path, and a value with blanks around it; the connection goes on."""
    server = Running()
    async with a_door(server.port, WIRE) as door:
        for path, headers in (("s", ()), ("/s/echo", (("a", " 1"),))):
            with pytest.raises(BackendRejected, match="cannot be sent"):
                await door.call(path, headers, b"", None)
        reply = await door.call("/s/echo", (), b"x", None)
    server.stop()

    assert b"x" == reply.body


async def a_message() -> AsyncIterator[bytes]:
    """What a caller streams."""
    yield b"1"


async def test_streams_have_a_connection_of_their_own() -> None:
    """Beside that of unary calls."""
    server = Running()
    async with a_door(server.port, WIRE) as door:
        assert isinstance(door, GrpcWireDoor)
        reply = await door.call("/s/echo", (), b"x", None)
        before = len(door._streams._all)
        async with door.stream("/s/chat", (), a_message()) as stream:
            messages = [message async for message in stream.messages()]
        after = len(door._streams._all), len(door._channel._all)
    server.stop()

    assert (b"x", [b"1!"]) == (reply.body, messages)
    assert (0, (1, 1)) == (before, after)


async def test_a_closed_door_opens_no_stream() -> None:
    """Before anything is awaited."""
    door = GrpcWireDoor("127.0.0.1:1")
    await door.aclose()

    with pytest.raises(BackendUnavailable, match="closed on our side"):
        door.stream("/s/echo", (), a_message())


async def test_a_call_that_is_refused_is_not_forced_upon_the_server() -> None:
    """RST_STREAM with REFUSED_STREAM: sent once; who wants it to run looks for another server."""
    async with misbehaving(frame(3, 0, 1, (7).to_bytes(4, "big"))) as port, a_door(port, WIRE) as door:
        with pytest.raises(BackendUnavailable, match="REFUSED_STREAM"):
            await door.call("/s/echo", (), b"x", 5.0)
