"""The gRPC door against strangers: grpcio's threaded server, and sockets that speak just enough HTTP/2 to misbehave."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent import futures
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from batchproxy.backends.grpc import GrpcDoor, metadata_of
from batchproxy.core.errors import BackendLost, BackendRejected, BackendUnavailable, Code
from batchproxy.core.raw import RawReply


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


@pytest.fixture
def running() -> Iterator[Running]:
    """A server of one's own."""
    server = Running()
    yield server
    server.stop()


@asynccontextmanager
async def a_door(port: int) -> AsyncIterator[GrpcDoor]:
    """A door to a local port, closed at the end."""
    door = GrpcDoor(f"127.0.0.1:{port}")
    try:
        yield door
    finally:
        await door.aclose()


def raw_of(reply: RawReply | None) -> tuple[object, ...]:
    """A reply's fields, to compare."""
    assert reply is not None
    return reply.status, reply.message, tuple(reply.headers), reply.body, tuple(reply.trailers)


# ---------------------------------------------------------------- unary calls


async def test_a_good_call_and_its_metadata_pass_unchanged(running: Running) -> None:
    """Message, metadata of both kinds and both ends, duplicates, bytes."""
    sent = (("a", "1"), ("a", "2"), ("k-bin", b"\0\xff"), ("te", "trailers"), ("user-agent", "me"), ("grpc-x", "1"))
    async with a_door(running.port) as door:
        reply = await door.call("/s/echo", sent, b"\0body", None)
    seen = [pair for pair in running.stranger.metadata if pair[0] != "user-agent"]

    assert [("a", "1"), ("a", "2"), ("k-bin", b"\0\xff")] == [tuple(pair) for pair in seen]
    assert (
        0,
        "",
        (("i", "1"), ("i", "2"), ("i-bin", b"\xff\0")),
        b"\0body",
        (("t", "3"), ("t-bin", b"\0\x01")),
    ) == raw_of(reply)


async def test_messages_of_any_size_pass(running: Running) -> None:
    """gRPC's own limit of 4 MiB is lifted both ways; an empty message is one."""
    big = bytes(5 << 20)
    async with a_door(running.port) as door:
        replies = [(await door.call("/s/echo", (), body, 10.0)).body for body in (big, b"")]

    assert [big, b""] == replies


async def test_the_deadline_is_passed_on(running: Running) -> None:
    """The server learns how long is left, or that nobody waits for a given time."""
    async with a_door(running.port) as door:
        await door.call("/s/echo", (), b"", 7.0)
        await door.call("/s/echo", (), b"", None)
    limited, unlimited = running.stranger.deadlines

    assert limited is not None
    assert 1.0 < limited < 8.0  # gRPC rounds up
    assert unlimited is None or unlimited > 1e6


@pytest.mark.parametrize(
    ("code", "kind", "ours"),
    [
        ("INVALID_ARGUMENT", BackendRejected, Code.INVALID_ARGUMENT),
        ("NOT_FOUND", BackendRejected, Code.NOT_FOUND),
        ("RESOURCE_EXHAUSTED", BackendRejected, Code.RESOURCE_EXHAUSTED),
        ("CANCELLED", BackendRejected, Code.CANCELLED),
        ("DEADLINE_EXCEEDED", BackendRejected, Code.DEADLINE_EXCEEDED),
        ("UNKNOWN", BackendRejected, Code.UNKNOWN),
        ("UNAUTHENTICATED", BackendRejected, Code.UNAUTHENTICATED),
        ("UNAVAILABLE", BackendUnavailable, Code.UNAVAILABLE),
    ],
)
@pytest.mark.parametrize("trailer", ["", "x"])
async def test_what_the_server_says_is_kept_word_for_word(
    running: Running, code: str, kind: type[BackendRejected], ours: Code, trailer: str
) -> None:
    """Any status but OK is an error of ours with the server's own answer in it."""
    async with a_door(running.port) as door:
        with pytest.raises(kind) as caught:
            await door.call(f"/s/abort/{code}/so there", (), trailer.encode(), None)
    number = grpc.StatusCode[code].value[0]

    assert (ours, "so there") == (caught.value.code, caught.value.message)
    assert (number, "so there", (), b"", (("t", "x"),) if trailer else ()) == raw_of(caught.value.raw)


async def test_words_of_the_transport_said_by_the_server_are_the_servers(running: Running) -> None:
    """Trailing metadata tells: no broken connection brings any."""
    async with a_door(running.port) as door:
        with pytest.raises(BackendUnavailable) as caught:
            await door.call("/s/abort/UNAVAILABLE/Socket closed", (), b"x", None)

    assert "Socket closed" == caught.value.message
    assert caught.value.raw is not None


async def test_an_exhausted_thread_pool_ran_nothing(running: Running) -> None:
    """R3: the one RESOURCE_EXHAUSTED that is not about size; a lone caller still sees it as it is."""
    async with a_door(running.port) as door:
        with pytest.raises(BackendUnavailable) as caught:
            await door.call("/s/abort/RESOURCE_EXHAUSTED/Server Threadpool Exhausted", (), b"", None)

    assert Code.UNAVAILABLE == caught.value.code
    assert (8, "Server Threadpool Exhausted", (), b"", ()) == raw_of(caught.value.raw)


async def test_a_message_too_large_for_the_server_is_rejected() -> None:
    """So that it is halved (R3), not sent to another server."""
    server = Running(limit_bytes=100)
    async with a_door(server.port) as door:
        with pytest.raises(BackendRejected) as caught:
            await door.call("/s/echo", (), bytes(200), None)
    server.stop()

    assert Code.RESOURCE_EXHAUSTED == caught.value.code


async def test_the_time_runs_out(running: Running) -> None:
    """Our own clock's DEADLINE_EXCEEDED looks like the server's."""
    async with a_door(running.port) as door:
        with pytest.raises(BackendRejected) as caught:
            await door.call("/s/hang", (), b"", 0.1)

    assert Code.DEADLINE_EXCEEDED == caught.value.code
    assert await asyncio.to_thread(running.stranger.cancelled.wait, 5)


async def test_cancelling_cancels_at_the_server(running: Running) -> None:
    """Nobody waits any more, and the server is told."""
    async with a_door(running.port) as door:
        task = asyncio.create_task(door.call("/s/hang", (), b"", None))
        await asyncio.to_thread(running.stranger.reached.wait, 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert await asyncio.to_thread(running.stranger.cancelled.wait, 5)


async def test_closing_the_door_loses_calls_and_refuses_new_ones(running: Running) -> None:
    """A call that we broke off ourselves may have run; one after that did not."""
    async with a_door(running.port) as door:
        task = asyncio.create_task(door.call("/s/hang", (), b"", None))
        await asyncio.to_thread(running.stranger.reached.wait, 5)
        await door.aclose()
        with pytest.raises(BackendLost, match="closed on our side"):
            await task
        with pytest.raises(BackendUnavailable, match="closed on our side"):
            await door.call("/s/echo", (), b"", None)


# ---------------------------------------------------------------- connections


async def test_nobody_there() -> None:
    """A refused connection is known at once, and named."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        async with a_door(port) as door:
            with pytest.raises(BackendUnavailable, match=f"grpc://127.0.0.1:{port}: .*refused") as caught:
                await door.call("/s/echo", (), b"", None)

    assert caught.value.raw is None


@pytest.mark.parametrize("target", ["unix:/nowhere/at/all", "no-such-host.invalid:1"])
async def test_no_such_place(target: str) -> None:
    """A socket file or a name that is not there: nothing ran."""
    door = GrpcDoor(target)
    with pytest.raises(BackendUnavailable, match=f"grpc://{target}"):
        await door.call("/s/echo", (), b"", 5.0)
    await door.aclose()


async def test_a_restarted_server_is_met_again() -> None:
    """The same door goes on working within the reconnect backoff."""
    first = Running()
    async with a_door(first.port) as door:
        await door.call("/s/echo", (), b"1", None)
        first.stop()
        with pytest.raises((BackendUnavailable, BackendLost)):
            await door.call("/s/echo", (), b"2", None)
        second = Running(first.port)
        reply = None
        async with asyncio.timeout(5):
            while reply is None:
                try:
                    reply = await door.call("/s/echo", (), b"3", None)
                except (BackendUnavailable, BackendLost):
                    await asyncio.sleep(0)
    second.stop()

    assert b"3" == reply.body


async def test_a_unix_socket(tmp_path: Any) -> None:
    """``unix:/PATH`` is a target like any other."""
    stranger = Stranger()
    server = grpc.server(futures.ThreadPoolExecutor(1), handlers=(stranger,))
    server.add_insecure_port(f"unix:{tmp_path}/s")
    server.start()
    door = GrpcDoor(f"unix:{tmp_path}/s")
    reply = await door.call("/s/echo", (), b"x", 5.0)
    await door.aclose()
    server.stop(0).wait()

    assert b"x" == reply.body


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


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        pytest.param((), BackendLost, id="hangs up"),
        pytest.param((reset(2),), BackendLost, id="INTERNAL_ERROR"),
        pytest.param((reset(8),), BackendLost, id="CANCEL"),
        pytest.param((reset(11),), BackendLost, id="ENHANCE_YOUR_CALM"),
        pytest.param((goaway(1),), BackendLost, id="GOAWAY that includes the call"),
        pytest.param((status_only(b"502"),), BackendLost, id="bad gateway"),
        pytest.param((status_only(b"503"),), BackendUnavailable, id="HTTP 503"),
        pytest.param((status_only(b"404"),), BackendRejected, id="HTTP 404"),
    ],
)
async def test_broken_streams(answer: tuple[bytes, ...], kind: type[Exception]) -> None:
    """After the request was sent a broken connection is a lost call, unless the server says that it did not look."""
    async with misbehaving(*answer) as port, a_door(port) as door:
        with pytest.raises(kind):
            await door.call("/s/echo", (), b"x", 5.0)


@pytest.mark.parametrize("answer", [reset(7), goaway(0)], ids=["REFUSED_STREAM", "GOAWAY before the call"])
async def test_streams_that_the_server_did_not_look_at(answer: bytes) -> None:
    """gRPC sends them once more by itself; after that another server may have them."""
    async with misbehaving(answer) as port, a_door(port) as door:
        with pytest.raises(BackendUnavailable):
            await door.call("/s/echo", (), b"x", 5.0)


async def test_a_server_that_speaks_another_protocol() -> None:
    """Nothing ran: it never got as far as a request."""

    async def http1(reader: asyncio.StreamReader, writer: Writer) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with listening(http1) as port, a_door(port) as door:
        with pytest.raises(BackendUnavailable, match="HTTP"):
            await door.call("/s/echo", (), b"x", 5.0)


# ---------------------------------------------------------------- metadata


@pytest.mark.parametrize(("name", "value"), [("x y", "1"), ("X", "1"), ("x", "é"), ("x", "a\nb"), ("", "1")])
def test_headers_that_grpc_cannot_carry(name: str, value: str) -> None:
    """They are refused by name, before grpcio writes of them to stderr."""
    with pytest.raises(BackendRejected, match="cannot be sent as gRPC metadata") as caught:
        metadata_of([(name, value)])

    assert Code.INVALID_ARGUMENT == caught.value.code


def test_headers_of_one_hop_stay_behind() -> None:
    """What is the callers' own is passed on, in order."""
    mine = (("authorization", "x"), ("b-bin", b"\0"), ("a", ""))
    others = ((":authority", "x"), ("connection", "a"), ("proxy-authorization", "x"), ("grpc-timeout", "1S"))

    assert mine == metadata_of([*others, *mine])


# ---------------------------------------------------------------- streams


async def of(*messages: bytes) -> AsyncIterator[bytes]:
    """An iterator as a listener has one."""
    for message in messages:
        yield message


async def test_a_stream_passes_both_ways(running: Running) -> None:
    """Initial metadata, messages, status and trailing metadata."""
    async with a_door(running.port) as door, door.stream("/s/chat", (("a", "b"),), of(b"1", b"2")) as stream:
        headers = await stream.headers()
        messages = [message async for message in stream.messages()]
        status = await stream.status()

    assert (("i", "1"),) == headers
    assert [b"1!", b"2!"] == messages
    assert (0, "", (("t-bin", b"\1"),)) == status


async def test_messages_are_passed_on_as_they_come(running: Running) -> None:
    """Each answer is there before the next message is sent."""
    queue: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def sent() -> AsyncIterator[bytes]:
        while (message := await queue.get()) is not None:
            yield message

    async with a_door(running.port) as door, door.stream("/s/chat", (), sent()) as stream:
        messages = stream.messages()
        queue.put_nowait(b"1")
        first = await anext(messages)
        queue.put_nowait(b"2")
        second = await anext(messages)
        queue.put_nowait(None)
        rest = [message async for message in messages]

    assert (b"1!", b"2!", []) == (first, second, rest)


async def test_a_streams_bad_end_is_its_status(running: Running) -> None:
    """No exception: what came before it counts."""
    async with a_door(running.port) as door, door.stream("/s/moody", (), of(b"1")) as stream:
        messages = [message async for message in stream.messages()]
        status = await stream.status()

    assert [b"1"] == messages
    assert (15, "enough", (("t", "x"),)) == status


async def test_a_stream_refused_while_we_write_ends_with_the_servers_status(running: Running) -> None:
    """grpcio makes one up when a write fails (INTERNAL, "Internal error from Core"), and forgets the server's."""
    endings = set()
    async with a_door(running.port) as door:
        for _ in range(100):
            async with door.stream("/s/deaf", (), of(b"1", b"2", b"3")) as stream:
                assert [] == [message async for message in stream.messages()]
                endings.add(await stream.status())

    assert {(12, "unread", (("t", "x"),))} == endings


async def test_a_stream_whose_caller_breaks_is_cancelled(running: Running) -> None:
    """What the caller sends cannot be read: so the server must not wait for it."""

    async def broken() -> AsyncIterator[bytes]:
        yield b"1"
        raise RuntimeError("the caller's connection broke")

    async with a_door(running.port) as door, door.stream("/s/chat", (), broken()) as stream:
        async for _ in stream.messages():
            pass
        code, _, _ = await stream.status()

    assert Code.CANCELLED == code


async def test_a_unary_method_through_a_stream(running: Running) -> None:
    """On the wire they are the same, so an unknown method needs no knowledge of its kind."""
    async with a_door(running.port) as door, door.stream("/s/echo", (), of(b"1"), 5.0) as stream:
        messages = [message async for message in stream.messages()]
        status = await stream.status()

    assert [b"1"] == messages
    assert (0, "", (("t", "3"), ("t-bin", b"\0\x01"))) == status


async def test_a_stream_to_nobody() -> None:
    """The status says so, after no metadata and no messages."""
    async with misbehaving() as port:
        pass
    async with a_door(port) as door, door.stream("/s/chat", (), of(b"1")) as stream:
        headers = await stream.headers()
        messages = [message async for message in stream.messages()]
        code, text, trailers = await stream.status()

    assert ((), [], 14, ()) == (headers, messages, code, trailers)
    assert "refused" in text


async def test_leaving_a_stream_cancels_it(running: Running) -> None:
    """The server learns that nobody reads on."""
    async with a_door(running.port) as door:
        async with door.stream("/s/hang", (), of(b"1")):
            await asyncio.to_thread(running.stranger.reached.wait, 5)

        assert await asyncio.to_thread(running.stranger.cancelled.wait, 5)


async def test_cancelling_who_reads_a_stream(running: Running) -> None:
    """A cancelled task is cancelled; it does not read an early end."""
    async with a_door(running.port) as door, door.stream("/s/hang", (), of(b"1")) as stream:

        async def read() -> None:
            async for _ in stream.messages():
                pass

        task = asyncio.create_task(read())
        await asyncio.to_thread(running.stranger.reached.wait, 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_closing_the_door_ends_its_streams(running: Running) -> None:
    """Who reads one sees its end, and a status."""
    async with a_door(running.port) as door, door.stream("/s/hang", (), of(b"1")) as stream:

        async def read() -> list[bytes]:
            return [message async for message in stream.messages()]

        task = asyncio.create_task(read())
        await asyncio.to_thread(running.stranger.reached.wait, 5)
        await door.aclose()
        messages = await task
        code, _, _ = await stream.status()

    assert [] == messages
    assert Code.CANCELLED == code


async def test_a_door_that_was_never_used_closes() -> None:
    """There is nothing to close."""
    await GrpcDoor("127.0.0.1:1").aclose()
