"""Connections to a server, and the REST door's use of them: kept, broken, refused, too slow, cancelled."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest
from aiohttp import web

from batchproxy.backends.http import RestDoor
from batchproxy.backends.http_connections import IDLE_S, Connection, Connections, NotConnectedError
from batchproxy.core.errors import (
    BackendError,
    BackendLost,
    BackendProtocolError,
    BackendRejected,
    BackendUnavailable,
    Code,
)
from batchproxy.wire.http1_client import Answer
from tests.strangers import HANG_UP, OK, listening, recorder


async def refused(door: RestDoor, kind: type[BackendError]) -> BackendError:
    """What a simple call raises."""
    with pytest.raises(kind) as caught:
        await door.call("POST", "/v1/models/m:predict", (), b"{}", 5.0)
    assert type(caught.value) is kind
    return caught.value


async def test_connections_are_kept_and_are_as_many_as_needed() -> None:
    """As many as there are calls at once, beyond aiohttp's default of 100; later calls open no others."""
    arrived = asyncio.Semaphore(0)
    release = asyncio.Event()

    async def serve(request: web.BaseRequest) -> web.Response:
        arrived.release()
        await release.wait()
        return web.Response(text=str(id(request.transport)))

    runner = web.ServerRunner(web.Server(serve), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    door = RestDoor(site.name.replace(":0", f":{runner.addresses[0][1]}"))
    calls = [asyncio.create_task(door.call("GET", "/", (), b"", 10.0)) for _ in range(150)]
    for _ in calls:
        await arrived.acquire()
    release.set()
    at_once = {(await call).body for call in calls}
    after = {(await door.call("GET", "/", (), b"", None)).body for _ in range(5)}
    await door.aclose()
    await runner.cleanup()

    assert 150 == len(at_once)
    assert after <= at_once


async def test_nobody_there() -> None:
    """A refused connection ran nothing."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        door = RestDoor(f"http://127.0.0.1:{port}")
        error = await refused(door, BackendUnavailable)
        await door.aclose()

    assert f"http://127.0.0.1:{port}: " in error.message
    assert error.raw is None


async def test_no_such_host() -> None:
    """Nor did a name that nobody has."""
    door = RestDoor("no-such-host.invalid:1")
    error = await refused(door, BackendUnavailable)
    await door.aclose()

    assert "no-such-host.invalid" in error.message


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        pytest.param(HANG_UP, BackendLost, id="hangs up"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhalf", BackendLost, id="half a body"),
        pytest.param(b"220 ftp ready\r\n\r\n", BackendProtocolError, id="no HTTP"),
    ],
)
async def test_broken_answers(answer: bytes, kind: type[BackendError]) -> None:
    """The call was sent, so it may have run."""
    async with recorder(answer) as (stranger, door):
        await refused(door, kind)

    assert 1 == len(stranger.requests)


async def test_a_kept_connection_that_breaks() -> None:
    """Nobody knows whether the second call ran; only who knows the model may send it again. The third has a new one."""
    async with recorder(OK, HANG_UP, OK) as (stranger, door):
        await door.call("POST", "/", (), b"1", None)
        with pytest.raises(BackendLost):
            await door.call("POST", "/", (), b"2", None)
        reply = await door.call("POST", "/", (), b"3", None)

    assert b"hi" == reply.body
    assert (3, 2) == (len(stranger.requests), stranger.connections)


async def test_a_question_is_asked_again() -> None:
    """GET changes nothing, so a kept connection that broke is no reason to fail."""
    async with recorder(OK, HANG_UP, OK) as (stranger, door):
        await door.call("GET", "/", (), b"", None)
        await door.call("GET", "/", (), b"", None)

    assert 3 == len(stranger.requests)


async def test_the_time_runs_out() -> None:
    """No answer within the limit is DEADLINE_EXCEEDED, and the connection is closed."""
    async with recorder() as (stranger, door):
        stranger.answers = [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nslow"]
        with pytest.raises(BackendRejected, match="no answer in time") as caught:
            await door.call("POST", "/", (), b"", 0.1)
        await stranger.gone.wait()

    assert (Code.DEADLINE_EXCEEDED, None) == (caught.value.code, caught.value.raw)


async def test_cancelling_closes_the_connection() -> None:
    """HTTP/1.1 knows no other way to say so."""
    async with recorder() as (stranger, door):
        stranger.answers = [b"HTTP/1.1 200 OK\r\n"]
        task = asyncio.create_task(door.call("POST", "/", (), b"", None))
        await stranger.reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await stranger.gone.wait()


async def test_closing_the_door_loses_calls_and_refuses_new_ones() -> None:
    """A call that we broke off ourselves may have run; one after that did not."""
    async with recorder() as (stranger, door):
        stranger.answers = [b"HTTP/1.1 200 OK\r\n"]
        task = asyncio.create_task(door.call("POST", "/", (), b"", None))
        await stranger.reached.wait()
        await door.aclose()
        with pytest.raises(BackendLost):
            await task
        with pytest.raises(BackendUnavailable, match="closed on our side"):
            await door.call("GET", "/", (), b"", None)


async def test_a_door_that_was_never_used_closes() -> None:
    """There is nothing to close."""
    await RestDoor("127.0.0.1:1").aclose()


# ---------------------------------------------------------------- connections by themselves


async def asked(connections: Connections, until: float | None = None) -> Answer:
    """The answer to a simple call."""
    return await asked_of(connections.kept() or await connections.new(until))


def asked_of(connection: Connection, until: float | None = None) -> asyncio.Future[Answer]:
    """The answer to a simple call, to come."""
    waiter: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    connection.ask("GET", b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", b"", until, waiter)
    return waiter


async def test_idle_connections_are_closed_in_time() -> None:
    """Not before, and the younger ones not yet."""
    async with recorder() as (stranger, _):
        connections = Connections("127.0.0.1", stranger.port)
        await asked(connections)
        now = asyncio.get_running_loop().time()
        connections.expire(now + IDLE_S - 1.0)
        await asked(connections)
        opened = stranger.connections
        connections.expire(now + IDLE_S + 1.0)
        await stranger.gone.wait()
        await asked(connections)
        await connections.aclose()

    assert (1, 2) == (opened, stranger.connections)


@pytest.mark.parametrize("unasked", [b"", b"HTTP/1.1 408 Too late\r\n\r\n"])
async def test_idle_connections_that_speak_or_end_are_not_used(unasked: bytes) -> None:
    """What comes unasked is nobody's answer."""
    go_on, done = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await go_on.wait()
        writer.write(unasked) if unasked else writer.write_eof()
        await reader.read()
        done.set()
        writer.close()

    async with listening(serve) as port:
        connections = Connections("127.0.0.1", port)
        await asked(connections)
        go_on.set()
        await done.wait()  # it was closed by us

        assert connections.kept() is None
        await connections.aclose()


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\na", b"a", id="last"),
        pytest.param(OK + b"x", b"hi", id="more than an answer"),
    ],
)
async def test_connections_that_are_not_kept(answer: bytes, body: bytes) -> None:
    """The server said so, or cannot be understood any longer."""
    async with recorder(answer) as (stranger, door):
        bodies = [(await door.call("POST", "/", (), b"", None)).body for _ in range(2)]

    assert ([body, body], 2) == (bodies, stranger.connections)


async def test_a_connection_is_not_kept_behind_a_failure() -> None:
    """uvicorn closes it then, and says nothing."""
    async with recorder(OK.replace(b"200 OK", b"500 Oh")) as (stranger, door):
        for _ in range(2):
            with pytest.raises(BackendRejected):
                await door.call("POST", "/", (), b"", None)

    assert stranger.connections == 2


async def test_an_answer_may_end_with_its_connection() -> None:
    """HTTP/1.0's way."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nall of it")
        writer.close()

    async with listening(serve) as port:
        door = RestDoor(f"127.0.0.1:{port}")
        reply = await door.call("GET", "/", (), b"", 5.0)
        await door.aclose()

    assert b"all of it" == reply.body


async def test_an_answer_before_the_request_is_out() -> None:
    """It is the answer, and the connection ends: nobody reads the rest."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await gone.wait()
        writer.close()

    gone = asyncio.Event()
    async with listening(serve) as port:
        door = RestDoor(f"127.0.0.1:{port}")
        reply = await door.call("POST", "/", (), bytes(32 << 20), 10.0)
        gone.set()
        await door.aclose()

    assert b"hi" == reply.body


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections and never looks at them."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


async def test_time_that_is_over_before_there_is_a_connection(silent_port: int) -> None:
    """It is the call's time that was too short."""
    door = RestDoor(f"127.0.0.1:{silent_port}")
    with pytest.raises(BackendRejected, match="no answer in time"):
        await door.call("GET", "/", (), b"", -1.0)
    await door.aclose()


async def test_connecting_takes_too_long(silent_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The call did not run."""
    monkeypatch.setattr("batchproxy.backends.http_connections.CONNECT_S", 0.0)
    with pytest.raises(NotConnectedError, match="no connection within 0 s"):
        await Connections("127.0.0.1", silent_port).new(None)


async def test_a_connection_made_after_the_end(silent_port: int) -> None:
    """It is closed at once."""
    connections = Connections("127.0.0.1", silent_port)
    await connections.aclose()
    with pytest.raises(NotConnectedError):
        await connections.new(None)


async def test_times_that_are_over_after_the_answer() -> None:
    """The next call on the connection does not suffer."""
    async with recorder() as (stranger, _):
        connections = Connections("127.0.0.1", stranger.port)
        connection: Connection = await connections.new(None)
        until = asyncio.get_running_loop().time() + 60
        waiter = asked_of(connection, until)
        under_way = connection.look_after(until - 1)
        await waiter
        over = connection.look_after(until)
        connection.leave(waiter)

        assert (True, False) == (under_way, over)
        assert connections.kept() is connection
        await connections.aclose()


@pytest.mark.parametrize("base", ["ftp://h:1", "http://", "http://h:x"])
def test_addresses_that_are_none(base: str) -> None:
    """They are refused when the door is made."""
    with pytest.raises(ValueError, match="."):
        RestDoor(base)
