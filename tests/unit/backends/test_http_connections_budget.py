"""Large answers of REST servers and the process's budget: refused above it, and whatever they hold is given back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from batchproxy.backends.http import RestDoor
from batchproxy.backends.tfserving import TfServingBackend
from batchproxy.core.errors import BackendLost, BackendRejected, BackendTooBig, BatchProxyError, Code
from batchproxy.core.raw import REST, RawCall
from batchproxy.wire.budget import Budget
from tests.listening import until
from tests.strangers import listening

MIB = 1 << 20


class Slow:
    """A server of one connection after another: half of an answer of 8 MiB at once, the rest when it may."""

    def __init__(self) -> None:
        self.may = asyncio.Event()
        self.hung_up = asyncio.Event()
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (8 * MIB) + bytes(4 * MIB))
            await writer.drain()
            await self.may.wait()
            writer.write(bytes(4 * MIB))
            await writer.drain()
            await reader.read()
        except ConnectionError:
            pass
        finally:
            self.hung_up.set()
            writer.close()


@asynccontextmanager
async def slow() -> AsyncIterator[Slow]:
    """On a port of its own."""
    server = Slow()
    async with listening(server.serve) as server.port:
        yield server
        server.may.set()


async def test_what_came_of_an_answer_is_charged_until_it_is_handed_over() -> None:
    """Half of it while the server thinks; nothing afterwards."""
    budget = Budget(64 * MIB)
    async with slow() as server:
        door = RestDoor(f"127.0.0.1:{server.port}", budget=budget)
        call = asyncio.create_task(door.call("GET", "/", (), b"", 30.0))
        await until(lambda: budget.held == 4 * MIB)
        server.may.set()
        reply = await call
        held = budget.held
        await door.aclose()

    assert (8 * MIB, 0) == (len(reply.body), held)


async def test_above_the_limit_the_caller_is_refused_and_the_connection_closed() -> None:
    """UNAVAILABLE, which is 503: the server has run the call, but the proxy has no room for its answer."""
    budget = Budget(3 * MIB)
    async with slow() as server:
        backend = TfServingBackend(rest=f"127.0.0.1:{server.port}", budget=budget)
        with pytest.raises(BackendTooBig) as caught:
            await backend.relay(RawCall(REST, "GET", "/v1/models/m", (), b""), 30.0)
        server.may.set()
        await server.hung_up.wait()
        held = budget.held
        await backend.aclose()

    assert "the proxy holds as many bytes as it may" in caught.value.message
    assert (Code.UNAVAILABLE, 503, 0) == (caught.value.code, caught.value.http_status, held)


@pytest.mark.parametrize("how", ["cancelled", "late", "closed"])
async def test_an_answer_that_nobody_gets_holds_nothing(how: str) -> None:
    """Its caller went, its time was over, or the door closed."""
    budget = Budget(64 * MIB)
    async with slow() as server:
        door = RestDoor(f"127.0.0.1:{server.port}", budget=budget)
        call = asyncio.create_task(door.call("POST", "/", (), b"", 0.5 if how == "late" else 30.0))
        await until(lambda: budget.held == 4 * MIB or call.done())
        if how == "cancelled":
            call.cancel()
        elif how == "closed":
            await door.aclose()
        with pytest.raises((BackendLost, BackendRejected, asyncio.CancelledError)) as caught:
            await call
        held = budget.held
        await door.aclose()

    assert 0 == held
    assert (how == "cancelled") is not isinstance(caught.value, BatchProxyError)
