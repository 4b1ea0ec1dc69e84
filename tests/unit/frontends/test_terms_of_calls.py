"""Priorities that callers name: each way of a request into an engine, by either protocol, takes them along."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from batchproxy.codecs import tfs_grpc
from batchproxy.core.errors import Code
from batchproxy.core.raw import GRPC, REST, RawReply
from batchproxy.core.request import Entry, Request, Waiter
from batchproxy.engine import Engine
from batchproxy.frontends.directory import Directory
from batchproxy.frontends.grpc_routes import GrpcAnswer, GrpcRoutes
from batchproxy.frontends.heavy import LONG_BODY
from batchproxy.frontends.rest_answers import RestAnswer
from batchproxy.frontends.rest_routes import RestRoutes
from batchproxy.protos import tfs_pb2 as pb
from tests.remotes import FakeServer, a_remote_pool, in_front_of
from tests.serving import Recorder, a_directory
from tests.unit.frontends.test_known_more import message

HEADER = "x-priority"
PATH = "/v1/models/half_plus_two:predict"
CLASSIFY = "/v1/models/half_plus_two:classify"


class Caller:
    """Calls, and sees what priorities reach the engine."""

    def __init__(self, directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
        engine = directory.default.engine if directory.default is not None else directory.models()[0].engine
        self.seen: list[int | None] = []
        submit = engine.submit

        def seen(request: Request, waiter: Waiter, arrival: float) -> Entry:
            self.seen.append(request.priority)
            return submit(request, waiter, arrival)

        monkeypatch.setattr(engine, "submit", seen)
        self.grpc = GrpcRoutes(directory, Recorder(), engine.clock, priority_header=HEADER)
        self.rest = _rest(directory, engine)

    async def post(self, priority: str = "", path: str = PATH, padding: str = "") -> RestAnswer:
        """Over REST."""
        answered: asyncio.Future[RestAnswer] = asyncio.get_running_loop().create_future()
        headers = {HEADER: priority} if priority else {}
        body = b'{"examples": [{"x": 1.0}]}' if path == CLASSIFY else b'{"instances": [1.0]}'
        self.rest.handle("POST", path, headers, padding.encode() + body, answered.set_result)
        return await answered

    async def call(self, priority: str = "", method: str = tfs_grpc.PREDICT, body: bytes = b"") -> GrpcAnswer:
        """Over gRPC."""
        answered: asyncio.Future[GrpcAnswer] = asyncio.get_running_loop().create_future()
        metadata: Sequence[tuple[str, str]] = ((HEADER, priority),) if priority else ()
        self.grpc.handle(method, body or message(1.0), None, answered.set_result, metadata)
        return await answered


def _rest(directory: Directory, engine: Engine) -> RestRoutes:
    return RestRoutes(directory, Recorder(), engine.clock, timeout_s=30.0, deadline_header=None, priority_header=HEADER)


async def test_an_embedded_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first request, those that are like it, and one that is read in the thread."""
    async with a_directory(Recorder()) as directory:
        caller = Caller(directory, monkeypatch)
        for priority in ("high", "low", "", "2"):
            await caller.post(priority)
        await caller.post("low", padding=" " * LONG_BODY)
        for priority in ("high", "low", "", "2"):
            await caller.call(priority)

    assert [0, 2, None, 2, 2, 0, 2, None, 2] == caller.seen


async def test_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is merged with others, however it was read, and examples."""
    server = FakeServer()
    server.answer = RawReply(200, "OK", (), b"{}")
    async with a_remote_pool(server, Recorder(), (GRPC, REST)) as pool:
        caller = Caller(in_front_of(pool), monkeypatch)
        for priority in ("high", "low", ""):
            await caller.post(priority)
        await caller.post("low", padding=" " * LONG_BODY)
        await caller.post("low", path=CLASSIFY)
        server.answer = RawReply(0, "", (), b"")
        for priority in ("high", "low", ""):
            await caller.call(priority)
        examples = pb.ClassificationRequest()
        examples.model_spec.name = "half_plus_two"
        await caller.call("low", tfs_grpc.CLASSIFY, examples.SerializeToString())

    assert [0, 2, None, 2, 2, 0, 2, None, 2] == caller.seen


async def test_a_server_behind_its_grpc_door(monkeypatch: pytest.MonkeyPatch) -> None:
    """REST calls that are answered by way of gRPC."""
    async with a_remote_pool(FakeServer(), Recorder(), (GRPC,)) as pool:
        caller = Caller(in_front_of(pool), monkeypatch)
        for priority in ("high", "low", ""):
            await caller.post(priority)

    assert [0, 2, None] == caller.seen


@pytest.mark.parametrize("doors", [(), (GRPC, REST), (GRPC,)])
async def test_what_is_no_priority_is_refused(doors: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the request is known already or not, and before it reaches the engine."""
    if doors:
        async with a_remote_pool(FakeServer(), Recorder(), doors) as pool:
            caller = Caller(in_front_of(pool), monkeypatch)
            rest, grpc = await caller.post("urgent"), await caller.call("urgent")
    else:
        async with a_directory(Recorder()) as directory:
            caller = Caller(directory, monkeypatch)
            rest, grpc = await caller.post("urgent"), await caller.call("urgent")
            for _ in range(3):
                await caller.post()
                await caller.call()
            await caller.post("urgent")
            await caller.call("urgent")

    assert (400, Code.INVALID_ARGUMENT) == (rest.status, grpc.code)
    assert b"header x-priority: 'urgent' is not high, normal or low" in rest.body
    assert "header x-priority: 'urgent' is not high, normal or low" in grpc.message
    assert [None] * (0 if doors else 6) == caller.seen
