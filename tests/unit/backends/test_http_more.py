"""The REST door: calls that are begun over a connection that is free, without a task."""

from __future__ import annotations

import asyncio

import pytest

from batchproxy.backends.http import Begun, RestDoor
from batchproxy.core.errors import BackendError, BackendLost, BackendProtocolError, BackendRejected, BackendUnavailable
from batchproxy.core.raw import RawReply
from tests.strangers import HANG_UP, OK, recorder

PATH = "/v1/models/m:predict"
Told = asyncio.Future[RawReply | BackendError]


async def begun(door: RestDoor, timeout_s: float | None = None) -> tuple[Begun, Told]:
    """A call over the connection of an earlier one, and what is told of it."""
    await door.call("POST", "/first", (), b"", None)
    told: Told = asyncio.get_running_loop().create_future()
    call = door.begin("POST", PATH, (("x-a", "1"),), b"{}", timeout_s, told.set_result)
    assert call is not None
    return call, told


async def test_the_server_sees_the_same_call() -> None:
    """And the caller the same answer, in the same turn of the loop as its last byte."""
    async with recorder() as (stranger, door):
        call, told = await begun(door)
        before = call.done()
        answer = await told
        again = await door.call("POST", PATH, (("x-a", "1"),), b"{}", None)

    assert stranger.requests[1] == stranger.requests[2]
    assert isinstance(answer, RawReply)
    assert (answer.status, answer.headers, answer.body) == (again.status, again.headers, again.body)
    assert (False, True) == (before, call.done())
    assert 1 == stranger.connections


async def test_without_a_free_connection_nothing_is_sent() -> None:
    """Whoever asks takes the way that may wait."""
    async with recorder() as (stranger, door):
        nobody: list[object] = []

        assert door.begin("POST", PATH, (), b"", None, nobody.append) is None
        await door.call("POST", PATH, (), b"", None)
        assert door.begin("GET", PATH, (), b"", None, nobody.append) is None
        assert door.begin("POST", PATH, (("x", "a\nb"),), b"", None, nobody.append) is None
        await door.call("POST", PATH, (), b"", None)

    assert door.begin("POST", PATH, (), b"", None, nobody.append) is None
    assert (1, 2, []) == (stranger.connections, len(stranger.requests), nobody)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n", BackendRejected),
        (b"HTTP/1.1 502 Bad\r\nContent-Length: 0\r\n\r\n", BackendLost),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", BackendUnavailable),
        (b"no HTTP at all\r\n\r\n", BackendProtocolError),
        (HANG_UP, BackendLost),
    ],
)
async def test_failures_are_those_of_any_call(answer: bytes, kind: type[BackendError]) -> None:
    """With the same texts, and the server's own answer where there is one."""
    async with recorder(OK, answer, OK, answer) as (_, door):
        _, told = await begun(door)
        found = await told
        await door.call("POST", "/first", (), b"", None)
        with pytest.raises(kind) as caught:
            await door.call("POST", PATH, (("x-a", "1"),), b"{}", None)

    assert isinstance(found, BackendError)
    assert (type(caught.value), str(caught.value)) == (type(found), str(found))
    assert (caught.value.raw is None) == (found.raw is None)


async def test_the_time_runs_out() -> None:
    """The connection is closed: HTTP/1.1 has no other way to say so."""
    async with recorder(OK, b"") as (stranger, door):
        stranger.answers[1] = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"  # and no body
        _, told = await begun(door, timeout_s=0.02)
        found = await told
        await stranger.gone.wait()

    assert isinstance(found, BackendRejected)
    assert "no answer in time" in str(found)


async def test_cancelling_closes_the_connection() -> None:
    """Nothing is told then, and a second time does nothing."""
    async with recorder(OK, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n") as (stranger, door):
        call, told = await begun(door)
        call.cancel()
        call.cancel()
        await stranger.gone.wait()

        assert (True, False) == (call.done(), told.done())
