"""The REST door's connections: kept, broken, refused, too slow, cancelled."""

from __future__ import annotations

import asyncio
import socket

import pytest
from aiohttp import web

from batchproxy.backends.http import RestDoor
from batchproxy.core.errors import (
    BackendError,
    BackendLost,
    BackendProtocolError,
    BackendRejected,
    BackendUnavailable,
    Code,
)
from tests.strangers import HANG_UP, OK, recorder


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
