"""Tests of batchproxy.backends.unhurried, and of who gets such a door: grpcio's server says what it hears."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent import futures
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np
import pytest

from batchproxy.backends import unhurried
from batchproxy.backends.grpc_wire import GrpcWireDoor
from batchproxy.backends.unhurried import UnhurriedDoor
from batchproxy.backends.v2_server import V2Backend, is_frail
from batchproxy.codecs import v2_grpc
from batchproxy.core.columns import ArrayColumn
from batchproxy.core.errors import BackendRejected, BackendUnavailable, Code
from batchproxy.core.request import BatchKey
from batchproxy.core.shapes import DEFAULT_SIGNATURE

FRAIL, STEADY = ("triton", "2.51.0"), ("triton", "2.57.0")
KEY = BatchKey("m", None, DEFAULT_SIGNATURE, (), None)
X = {"x": ArrayColumn(np.array([[1, 2]]))}


class Server:
    """Holds each ModelInfer until it is released.

    Attributes:
        said: its name and version.
        came: set by a call, as ``given_up`` is once it was told that nobody waits.
        deadlines: of the calls, in seconds; None: it was told none.
    """

    def __init__(self, said: tuple[str, str]) -> None:
        self.said = said
        self.came, self.released, self.given_up = threading.Event(), threading.Event(), threading.Event()
        self.deadlines: list[float | None] = []
        self.target = ""

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        def serve(body: bytes, context: grpc.ServicerContext) -> bytes:
            if details.method == v2_grpc.SERVER_METADATA:
                return v2_grpc.encode_server_metadata(*self.said)
            if details.method != v2_grpc.MODEL_INFER:
                return v2_grpc.encode_flag(True)
            remaining = context.time_remaining()
            self.deadlines.append(None if remaining is None or remaining > 1e6 else remaining)
            context.add_callback(lambda: None if self.released.is_set() else self.given_up.set())
            self.came.set()
            self.released.wait()
            if body == b"refused":
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no")
            return body

        return grpc.unary_unary_rpc_method_handler(serve)


@asynccontextmanager
async def serving(said: tuple[str, str] = FRAIL) -> AsyncIterator[Server]:
    """On a free port."""
    found = Server(said)
    handler = type("Handler", (grpc.GenericRpcHandler,), {"service": lambda _, details: found.service(details)})()
    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=(handler,))
    found.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield found
    finally:
        found.released.set()
        server.stop(0).wait()


@asynccontextmanager
async def door(server: Server) -> AsyncIterator[UnhurriedDoor]:
    """Before it."""
    found = UnhurriedDoor(GrpcWireDoor(server.target))
    try:
        yield found
    finally:
        await found.aclose()


async def told(event: threading.Event) -> None:
    """Wait for what happens in the server's threads."""
    assert await asyncio.to_thread(event.wait, 60)


@pytest.mark.parametrize("said", [FRAIL, STEADY])
async def test_a_server_that_dies_of_it_is_not_told_that_a_call_is_given_up(said: tuple[str, str]) -> None:
    """Nor of a deadline. Its slot is taken until it has ended. A later version is told both."""
    async with serving(said) as server:
        backend = V2Backend(grpc=server.target)
        await backend.probe()
        call = asyncio.ensure_future(backend.infer(KEY, X, 50.0))
        await told(server.came)
        call.cancel()
        if said is STEADY:
            await told(server.given_up)
        else:
            assert not (await asyncio.wait([call], timeout=0))[0]
        server.released.set()
        with pytest.raises(asyncio.CancelledError):
            await call
        await backend.aclose()

        assert (said is STEADY) is server.given_up.is_set() is (server.deadlines != [None])


async def test_a_call_whose_time_is_over_goes_on_at_the_server() -> None:
    """The caller is told; what the server says at last, nobody hears."""
    async with serving() as server, door(server) as calls:
        with pytest.raises(BackendRejected, match="no answer in time") as caught:
            await calls.call(v2_grpc.MODEL_INFER, (), b"late", 0.01)
        await told(server.came)
        server.released.set()
        again = await calls.call(v2_grpc.MODEL_INFER, (), b"again", 60.0)

        assert Code.DEADLINE_EXCEEDED == caught.value.code
        assert b"again" == again.body
        assert not server.given_up.is_set()


@pytest.mark.parametrize("cancelled", [True, False])
async def test_a_call_that_hangs_is_given_up_at_last(cancelled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else what a hanging server was sent would pile up."""
    monkeypatch.setattr(unhurried, "LINGER_S", 0.01)
    async with serving() as server, door(server) as calls:
        call = asyncio.ensure_future(calls.call(v2_grpc.MODEL_INFER, (), b"", 60.0 if cancelled else 0.01))
        if cancelled:
            await told(server.came)
            call.cancel()
        await asyncio.wait([call])
        if server.came.is_set():
            await told(server.given_up)

        assert call.cancelled() is cancelled


async def test_errors_are_the_servers_own() -> None:
    """Whoever waits is told them, and nothing is logged for those that nobody waits for."""
    async with serving() as server, door(server) as calls:
        server.released.set()
        with pytest.raises(BackendRejected, match="no") as caught:
            await calls.call(v2_grpc.MODEL_INFER, (), b"refused", None)

        assert Code.INVALID_ARGUMENT == caught.value.code


async def test_closing_ends_what_is_left() -> None:
    """And later calls are refused as by the other door."""
    async with serving() as server:
        calls = UnhurriedDoor(GrpcWireDoor(server.target))
        call = asyncio.ensure_future(calls.call(v2_grpc.MODEL_INFER, (), b"", None))
        await told(server.came)
        await calls.aclose()
        await asyncio.wait([call])
        with pytest.raises(BackendUnavailable):
            await calls.call(v2_grpc.MODEL_INFER, (), b"", None)

        assert call.cancelled()


async def test_a_server_that_was_replaced_is_told_again() -> None:
    """Each probe asks who it is."""
    async with serving() as server:
        backend = V2Backend(grpc=server.target)
        kinds = []
        for said in (FRAIL, FRAIL, STEADY, FRAIL):
            server.said = said
            await backend.probe()
            kinds.append(type(backend._grpc))
        await backend.aclose()

    assert [UnhurriedDoor, UnhurriedDoor, GrpcWireDoor, UnhurriedDoor] == kinds


@pytest.mark.parametrize(
    ("name", "version", "frail"),
    [
        ("triton", "2.51.0", True),
        ("triton", "2.56.1", True),
        ("triton", "2.57.0", False),
        ("triton", "3.0.0", False),
        ("triton", "nightly", False),
        ("mlserver", "1.7.1", False),
        ("", "", False),
    ],
)
def test_who_does_not_survive_it(name: str, version: str, frail: bool) -> None:
    """Triton before 2.57; who does not say is trusted."""
    assert frail is is_frail(name, version)
