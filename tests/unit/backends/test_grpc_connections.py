"""Both gRPC doors where connections fail: nobody there, broken on the way, restarted."""

from __future__ import annotations

import asyncio
import socket
from concurrent import futures
from typing import Any, cast

import grpc
import pytest

from batchproxy.core.errors import BackendLost, BackendRejected, BackendUnavailable
from tests.strangers import (
    DOORS,
    Kind,
    Running,
    Stranger,
    Writer,
    a_door,
    goaway,
    listening,
    misbehaving,
    reset,
    status_only,
)


@pytest.fixture(params=DOORS)
def client(request: pytest.FixtureRequest) -> Kind:
    """One door, then the other."""
    return cast("Kind", request.param)


async def test_nobody_there(client: Kind) -> None:
    """A refused connection is known at once, and named."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        async with a_door(port, client) as door:
            with pytest.raises(BackendUnavailable, match=f"grpc://127.0.0.1:{port}: .*refused") as caught:
                await door.call("/s/echo", (), b"", None)

    assert caught.value.raw is None


@pytest.mark.parametrize("target", ["unix:/nowhere/at/all", "no-such-host.invalid:1"])
async def test_no_such_place(target: str, client: Kind) -> None:
    """A socket file or a name that is not there: nothing ran."""
    door = client(target)
    with pytest.raises(BackendUnavailable, match=f"grpc://{target}"):
        await door.call("/s/echo", (), b"", 5.0)
    await door.aclose()


async def test_a_restarted_server_is_met_again(client: Kind) -> None:
    """The same door goes on working within the reconnect backoff."""
    first = Running()
    async with a_door(first.port, client) as door:
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


async def test_a_unix_socket(tmp_path: Any, client: Kind) -> None:
    """``unix:/PATH`` is a target like any other."""
    stranger = Stranger()
    server = grpc.server(futures.ThreadPoolExecutor(1), handlers=(stranger,))
    server.add_insecure_port(f"unix:{tmp_path}/s")
    server.start()
    door = client(f"unix:{tmp_path}/s")
    reply = await door.call("/s/echo", (), b"x", 5.0)
    await door.aclose()
    server.stop(0).wait()

    assert b"x" == reply.body


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
async def test_broken_streams(answer: tuple[bytes, ...], kind: type[Exception], client: Kind) -> None:
    """After the request was sent a broken connection is a lost call, unless the server says that it did not look."""
    async with misbehaving(*answer) as port, a_door(port, client) as door:
        with pytest.raises(kind):
            await door.call("/s/echo", (), b"x", 5.0)


@pytest.mark.parametrize("answer", [reset(7), goaway(0)], ids=["REFUSED_STREAM", "GOAWAY before the call"])
async def test_streams_that_the_server_did_not_look_at(answer: bytes, client: Kind) -> None:
    """A library may send them once more by itself; after that another server may have them."""
    async with misbehaving(answer) as port, a_door(port, client) as door:
        with pytest.raises(BackendUnavailable):
            await door.call("/s/echo", (), b"x", 5.0)


async def test_a_server_that_speaks_another_protocol(client: Kind) -> None:
    """Nothing ran: it never got as far as a request."""

    async def http1(reader: asyncio.StreamReader, writer: Writer) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with listening(http1) as port, a_door(port, client) as door:
        with pytest.raises(BackendUnavailable, match="HTTP"):
            await door.call("/s/echo", (), b"x", 5.0)
