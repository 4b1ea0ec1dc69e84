"""Connections of the wire's own gRPC door: backoff, slow readers, timers, and the end; sockets that misbehave."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from batchproxy.backends import grpc_wire_connections
from batchproxy.backends.grpc_wire_connections import CLOSED, Channel, NotConnectedError, _words
from batchproxy.wire import frames
from batchproxy.wire.http2_client_call import Fate
from tests.listening import until
from tests.strangers import Writer, listening

GREETING = frames.settings()


class Host:
    """Takes connections, greets, and keeps what it reads."""

    def __init__(self, greeting: bytes = GREETING) -> None:
        self.greeting = greeting
        self.writers: list[Writer] = []
        self.heard = b""
        self.reading = asyncio.Event()
        self.reading.set()
        self.gone = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: Writer) -> None:
        self.writers.append(writer)
        writer.write(self.greeting)
        while True:
            await self.reading.wait()
            try:
                data = await reader.read(1 << 20)
            except ConnectionError:
                data = b""
            if not data:
                break
            self.heard += data
        self.gone.set()
        writer.close()


@asynccontextmanager
async def channel(host: Host) -> AsyncIterator[Channel]:
    """A way to a host."""
    async with listening(host.serve) as port:
        opened = Channel(f"127.0.0.1:{port}")
        try:
            yield opened
        finally:
            host.reading.set()
            await opened.aclose()


async def test_callers_at_the_same_time_share_one_connection() -> None:
    """It is opened once, and found by whoever comes later."""
    host = Host()
    async with channel(host) as way:
        found = await asyncio.gather(*(way.connected(None) for _ in range(5)))
        kept = way.usable()

    assert {kept} == set(found)
    assert 1 == len(host.writers)


async def test_after_a_failure_nobody_tries_for_a_while() -> None:
    """The backoff grows; the last failure is told meanwhile, and a success forgets it all."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        way = Channel(f"127.0.0.1:{taken.getsockname()[1]}")
        waits = []
        loop = asyncio.get_running_loop()
        for _ in range(8):
            way._not_before = 0.0
            with pytest.raises(NotConnectedError, match="Connection refused"):
                await way.connected(None)
            waits.append(round(way._not_before - loop.time(), 1))
            with pytest.raises(NotConnectedError, match="Connection refused"):
                await way.connected(None)
        await way.aclose()

    assert [0.1, 0.2, 0.3, 0.4, 0.7, 1.0, 1.0, 1.0] == waits


@pytest.mark.parametrize(
    ("greeting", "why"),
    [
        (b"HTTP/1.0 200 OK\r\n\r\n", "the server speaks HTTP/1"),
        (frames.goaway(0, frames.ErrorCode.ENHANCE_YOUR_CALM), "the first frame is not SETTINGS"),
        (GREETING + frames.goaway(0, frames.ErrorCode.NO_ERROR, "no"), "lost at once"),
    ],
)
async def test_servers_that_do_not_want_us(greeting: bytes, why: str) -> None:
    """What they say instead of a greeting, or right after it, is the reason."""
    async with channel(Host(greeting)) as way:
        with pytest.raises(NotConnectedError, match=why):
            await way.connected(None)


async def test_a_server_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connecting has a limit of its own, where the call has none."""
    monkeypatch.setattr(grpc_wire_connections, "CONNECT_S", 0.05)
    async with channel(Host(b"")) as way:
        with pytest.raises(NotConnectedError, match="no connection within 0.05 s"):
            await way.connected(None)


async def test_closing_while_connecting() -> None:
    """Whoever waits is told; so is whoever comes later."""
    async with channel(Host(b"")) as way:
        waiting = asyncio.create_task(way.connected(None))
        await until(lambda: way._all)
        await way.aclose()
        with pytest.raises(NotConnectedError, match=CLOSED):
            await waiting


async def test_requests_wait_for_a_slow_reader_and_are_read_in_the_end() -> None:
    """What the socket does not take stays here; 8 MiB are more than its buffers hold."""
    host = Host(frames.settings((frames.INITIAL_WINDOW_SIZE, frames.MAX_WINDOW)) + frames.window_update(0, 1 << 30))
    async with channel(host) as way:
        connection = await way.connected(None)
        host.reading.clear()
        calls = [connection.ask("/s/m", bytes(1 << 20), None, ()) for _ in range(8)]
        await asyncio.sleep(0)
        slow = connection._slow
        host.reading.set()
        await until(lambda: len(host.heard) > 8 << 20)
        for call in calls:
            connection.leave(call)

    assert slow


async def test_calls_of_one_turn_leave_together() -> None:
    """The first at once, for its latency's sake; the others in one write."""
    host = Host()
    async with channel(host) as way:
        connection = await way.connected(None)
        writes: list[int] = []
        transport, connection._transport = connection._transport, Spy(writes)  # type: ignore[assignment]
        calls = [connection.ask("/s/m", b"x", None, ()) for _ in range(5)]
        await asyncio.sleep(0)
        connection._transport = transport
        for call in calls:
            connection.leave(call)

    assert 2 == len(writes)
    assert writes[1] == 4 * writes[0]


class Spy:
    """A transport that counts."""

    def __init__(self, writes: list[int]) -> None:
        self.writes = writes

    def write(self, data: bytes) -> None:
        self.writes.append(len(data))


async def test_timers_follow_the_nearest_deadline() -> None:
    """A nearer one moves the timer; when it fires, the call is late and the server knows."""
    host = Host()
    async with channel(host) as way:
        connection = await way.connected(None)
        now = asyncio.get_running_loop().time()
        late = connection.ask("/s/m", b"", now + 30.0, ())
        soon = connection.ask("/s/m", b"", now + 0.02, ())
        await soon.waiter
        timer = connection._timer
        open_still = late.fate
        connection.leave(late)

    assert (Fate.STATUS, 4) == (soon.fate, soon.code)
    assert open_still is None
    assert timer is not None
    assert timer.when() == pytest.approx(now + 30.0)


async def test_a_hang_up_without_calls_is_noticed() -> None:
    """The next caller opens another connection at once: the server was there a moment ago."""
    host = Host()
    async with channel(host) as way:
        first = await way.connected(None)
        host.writers[0].close()
        await until(lambda: way.usable() is None)
        second = await way.connected(None)

    assert first is not second
    assert 2 == len(host.writers)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ECONNREFUSED, "Connect call failed"), "Connection refused"),
        (socket.gaierror(-2, "Name or service not known"), "[Errno -2] Name or service not known"),
        (OSError("Multiple exceptions: a, b"), "Multiple exceptions: a, b"),
        (OSError(), "OSError"),
    ],
)
def test_errors_in_words(error: OSError, words: str) -> None:
    """The system's, where there are such."""
    assert words == _words(error)
