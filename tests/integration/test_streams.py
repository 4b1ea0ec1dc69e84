"""Streamed calls of a service that the proxy knows nothing of: grpcio on both ends, the running proxy in between."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import grpc
import grpc.aio
import pytest

from tests.proxy import Proxy, running_in_front_of

MIB = 1 << 20
UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
SENT = (("x-plain", "a b"), ("x-twice", "1"), ("x-twice", "2"), ("x-some-bin", b"\0\xff\x80"))


class Unknown(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpcio carries no types
    """Methods by name, under ``/a.Stranger/``; every other one is unimplemented, which is an answer, too.

    Attributes:
        made: messages of ``Endless`` that the server could send.
        cancelled: set when ``Hang`` is cancelled.
    """

    def __init__(self) -> None:
        self.made = 0
        self.cancelled = threading.Event()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        method = getattr(self, details.method.removeprefix("/a.Stranger/"), None)
        return grpc.stream_stream_rpc_method_handler(method) if details.method.startswith("/a.Stranger/") else None

    async def Echo(self, messages: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:  # noqa: N802
        own = [(key, value) for key, value in context.invocation_metadata() if key.startswith("x-")]
        await context.send_initial_metadata((*own, ("i", "1")))
        async for message in messages:
            yield message
        context.set_trailing_metadata((*own, ("t", "2")))

    async def Count(self, messages: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:  # noqa: N802
        async for message in messages:
            for number in range(int(message)):
                yield b"%d" % number

    async def Sum(self, messages: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:  # noqa: N802
        count = size = 0
        async for message in messages:
            count, size = count + 1, size + len(message)
        yield b"%d %d" % (count, size)

    async def Fail(self, messages: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:  # noqa: N802
        async for message in messages:
            yield message
            break
        await context.abort(grpc.StatusCode.DATA_LOSS, "50 % lost: ü", (("t", "x"), ("t-bin", b"\xff\0")))

    async def Refuse(self, messages: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:  # noqa: N802
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, "not you", (("t", "y"),))
        yield b""

    async def Hang(self, messages: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:  # noqa: N802
        yield b"here"
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()

    async def Endless(self, messages: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:  # noqa: N802
        while True:
            self.made += 1
            yield bytes(64 << 10)

    async def Deaf(self, messages: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:  # noqa: N802
        yield b"here"
        await asyncio.Event().wait()


class Server:
    """A ``grpc.aio`` server in a thread of its own."""

    rest = ""

    def __init__(self) -> None:
        self.methods = Unknown()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.grpc = asyncio.run_coroutine_threadsafe(self._start(), self.loop).result(10)

    async def _start(self) -> str:
        self.server = grpc.aio.server(handlers=(self.methods,), options=[("grpc.so_reuseport", 0), *UNLIMITED])
        port = self.server.add_insecure_port("127.0.0.1:0")
        await self.server.start()
        return f"127.0.0.1:{port}"

    def stop(self) -> None:
        """At once."""
        asyncio.run_coroutine_threadsafe(self.server.stop(0), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """The server behind the proxy."""
    made = Server()
    yield made
    made.stop()


@pytest.fixture(scope="module", params=["wire", "aio"])
def proxy(server: Server, request: pytest.FixtureRequest) -> Iterator[Proxy]:
    """The proxy in front of it, which knows its gRPC door only; by either client."""
    with running_in_front_of([server], doors=("grpc",), pool={"grpc_client": request.param}) as made:
        yield made


@pytest.fixture
def methods(server: Server) -> Unknown:
    """What the server does, with nothing in its memory."""
    server.methods.made = 0
    server.methods.cancelled.clear()
    return server.methods


@pytest.fixture
def channel(proxy: Proxy) -> Iterator[grpc.Channel]:
    """grpcio's synchronous client."""
    with grpc.insecure_channel(proxy.grpc, UNLIMITED) as made:
        yield made


@pytest.fixture
async def aio(proxy: Proxy) -> AsyncIterator[grpc.aio.Channel]:
    """grpcio's client for asyncio."""
    async with grpc.aio.insecure_channel(proxy.grpc, UNLIMITED) as made:
        yield made


def pairs(metadata: Any) -> list[tuple[str, Any]]:
    """Metadata in a form that compares."""
    return [(key, value) for key, value in metadata]


# -- one message or many, either way ---------------------------------------------------------------


def test_many_for_one(channel: grpc.Channel) -> None:
    """Ten thousand small messages come, in order."""
    answers = list(channel.unary_stream("/a.Stranger/Count")(b"10000", timeout=60))

    assert [b"%d" % number for number in range(10_000)] == answers


def test_one_for_many(channel: grpc.Channel) -> None:
    """Ten thousand small messages go."""
    answer = channel.stream_unary("/a.Stranger/Sum")((b"%05d" % number for number in range(10_000)), timeout=60)

    assert b"10000 50000" == answer


def test_many_for_many(channel: grpc.Channel) -> None:
    """Ten thousand messages there and back, as fast as they go."""
    sent = [b"%d" % number * (number % 50) for number in range(10_000)]
    answers = list(channel.stream_stream("/a.Stranger/Echo")(iter(sent), timeout=60))

    assert sent == answers


async def test_a_conversation(aio: grpc.aio.Channel) -> None:
    """Each message is answered before the next is sent."""
    call = aio.stream_stream("/a.Stranger/Echo")(timeout=60)
    answers = []
    for number in range(200):
        await call.write(b"%d" % number)
        answers.append(await call.read())
    await call.done_writing()
    end = await call.read()

    assert [b"%d" % number for number in range(200)] == answers
    assert end is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK


async def test_no_message_at_all(aio: grpc.aio.Channel) -> None:
    """Nothing there, nothing back, and all is well."""
    call = aio.stream_stream("/a.Stranger/Echo")(iter(()), timeout=60)
    answers = [answer async for answer in call]

    assert ([], grpc.StatusCode.OK) == (answers, await call.code())


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_large_messages(channel: grpc.Channel, compression: grpc.Compression) -> None:
    """Messages of 20 MiB, and small ones between them."""
    sent = [bytes(20 * MIB), b"small", b"\1" * 20 * MIB, b"", b"\2" * MIB]
    answers = list(channel.stream_stream("/a.Stranger/Echo")(iter(sent), timeout=60, compression=compression))

    assert [len(message) for message in sent] == [len(answer) for answer in answers]
    assert sent == answers


async def test_many_streams_at_once(aio: grpc.aio.Channel) -> None:
    """Each gets its own."""

    async def talk(name: int) -> list[bytes]:
        messages = [b"%d-%d" % (name, number) for number in range(100)]
        call = aio.stream_stream("/a.Stranger/Echo")(iter(messages), timeout=60)
        return [answer async for answer in call]

    found = await asyncio.gather(*(talk(name) for name in range(50)))

    assert [[b"%d-%d" % (name, number) for number in range(100)] for name in range(50)] == found


# -- what else a call says -------------------------------------------------------------------------


def test_metadata_is_that_of_a_direct_call(channel: grpc.Channel, server: Server) -> None:
    """Initial and trailing, binary ones too."""
    with grpc.insecure_channel(server.grpc) as straight:
        found = []
        for way in (straight, channel):
            call = way.stream_stream("/a.Stranger/Echo")(iter((b"1",)), timeout=60, metadata=SENT)
            list(call)
            found.append((pairs(call.initial_metadata()), pairs(call.trailing_metadata()), call.code(), call.details()))

    direct, proxied = found
    assert direct == proxied
    assert set(SENT) <= set(proxied[0])
    assert set(SENT) <= set(proxied[1])


@pytest.mark.parametrize(("method", "answers"), [("Fail", [b"first"]), ("Refuse", [])])
def test_a_bad_end_is_that_of_a_direct_call(
    channel: grpc.Channel, server: Server, method: str, answers: Sequence[bytes]
) -> None:
    """Status, text and trailing metadata, after messages or without any."""
    with grpc.insecure_channel(server.grpc) as straight:
        found = []
        for way in (straight, channel):
            call = way.stream_stream(f"/a.Stranger/{method}")(iter((b"first", b"second")), timeout=60)
            came: list[bytes] = []
            with pytest.raises(grpc.RpcError):
                came.extend(iter(call.__next__, None))
            found.append((pairs(call.initial_metadata()), pairs(call.trailing_metadata()), call.code(), call.details()))

    direct, proxied = found
    assert direct == proxied
    assert answers == came


def test_an_early_end_leaves_what_came_before_it(channel: grpc.Channel) -> None:
    """A message, then the bad news."""
    call = channel.stream_stream("/a.Stranger/Fail")(iter((b"first",)), timeout=60)
    first = next(call)
    with pytest.raises(grpc.RpcError) as caught:
        next(call)

    assert b"first" == first
    assert grpc.StatusCode.DATA_LOSS is caught.value.code()


def test_methods_of_nobody(channel: grpc.Channel) -> None:
    """The server says that it has no such method."""
    with pytest.raises(grpc.RpcError) as caught:
        list(channel.stream_stream("/b.Other/Nothing")(iter((b"1",)), timeout=60))

    assert grpc.StatusCode.UNIMPLEMENTED is caught.value.code()


def test_a_deadline(channel: grpc.Channel, methods: Unknown) -> None:
    """Both ends learn of it."""
    call = channel.unary_stream("/a.Stranger/Hang")(b"", timeout=0.5)
    first = next(call)
    with pytest.raises(grpc.RpcError) as caught:
        next(call)

    assert b"here" == first
    assert grpc.StatusCode.DEADLINE_EXCEEDED is caught.value.code()
    assert methods.cancelled.wait(10)


# -- slow or gone ----------------------------------------------------------------------------------


def test_the_caller_goes(channel: grpc.Channel, methods: Unknown) -> None:
    """The server's call is cancelled."""
    call = channel.unary_stream("/a.Stranger/Hang")(b"", timeout=60)
    next(call)
    call.cancel()

    assert methods.cancelled.wait(10)


def test_the_callers_connection_goes(proxy: Proxy, methods: Unknown) -> None:
    """The server's call is cancelled."""
    with grpc.insecure_channel(proxy.grpc) as channel:
        next(channel.unary_stream("/a.Stranger/Hang")(b"", timeout=60))

    assert methods.cancelled.wait(10)


def test_a_slow_reader_holds_the_server_back(channel: grpc.Channel, methods: Unknown) -> None:
    """What lies between them is bounded: grpcio's ends grow their windows, to some 8 MiB each; 64 KiB a message."""
    call = channel.unary_stream("/a.Stranger/Endless")(b"", timeout=60)
    for _ in range(10):
        next(call)
    made = settled(lambda: methods.made)
    for _ in range(1500):
        next(call)
    call.cancel()

    assert made < 1000
    assert methods.made >= 1500


def test_a_server_that_does_not_read_holds_the_caller_back(channel: grpc.Channel, methods: Unknown) -> None:
    """As above, the other way."""
    sent = [0]

    def messages() -> Iterator[bytes]:
        while True:
            sent[0] += 1
            yield bytes(64 << 10)

    call = channel.stream_stream("/a.Stranger/Deaf")(messages(), timeout=60)
    next(call)
    found = settled(lambda: sent[0])
    call.cancel()

    assert found < 1000


def settled(count: Any) -> int:
    """A count, once it has stayed the same for a second."""
    before, since = -1, time.monotonic()
    while time.monotonic() - since < 1:
        now = int(count())
        if now != before:
            before, since = now, time.monotonic()
        threading.Event().wait(0.05)
    return before


def test_stopping_lets_streams_end(server: Server, methods: Unknown) -> None:
    """A stream under way goes on, and the proxy waits for it."""
    with running_in_front_of([server], doors=("grpc",)) as proxy, grpc.insecure_channel(proxy.grpc) as channel:
        sent = threading.Event()

        def messages() -> Iterator[bytes]:
            yield b"1"
            sent.wait(20)
            yield b"2"

        call = channel.stream_stream("/a.Stranger/Echo")(messages(), timeout=60)
        first = next(call)
        proxy.process.send_signal(signal.SIGTERM)
        until_unready(proxy)
        sent.set()
        rest = list(call)
        code = proxy.wait()

    assert (b"1", [b"2"], 0) == (first, rest, code)


def test_stopping_ends_streams_that_do_not(server: Server, methods: Unknown) -> None:
    """After the drain time they are told, and counted."""
    with (
        running_in_front_of([server], doors=("grpc",), drain_timeout_s=0.5) as proxy,
        grpc.insecure_channel(proxy.grpc) as channel,
    ):
        call = channel.unary_stream("/a.Stranger/Hang")(b"", timeout=60)
        next(call)
        proxy.process.send_signal(signal.SIGTERM)
        with pytest.raises(grpc.RpcError) as caught:
            next(call)
        code = proxy.wait()

    assert grpc.StatusCode.UNAVAILABLE is caught.value.code()
    assert "shut down" in caught.value.details()
    assert 1 == code
    assert "1 requests unanswered" in "\n".join(proxy.log)


def until_unready(proxy: Proxy) -> None:
    """Wait for the proxy to say that it stops."""
    while proxy.get(f"{proxy.admin}/readyz")[0] == 200:
        threading.Event().wait(0.01)
