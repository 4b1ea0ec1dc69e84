"""A reload reaches every server of a pool, and what each said becomes one answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from batchproxy.catalogue import Catalogue
from batchproxy.codecs import tfs_grpc
from batchproxy.core.errors import BackendRejected, BackendUnavailable, BatchProxyError, Code
from batchproxy.core.policy import Policies, Policy
from batchproxy.core.raw import GRPC, RawCall, RawReply
from batchproxy.engine import Engine, build_engine
from batchproxy.frontends.grpc_routes import GrpcAnswer, GrpcRoutes
from batchproxy.frontends.reload import RELOAD_S, reload_everywhere
from batchproxy.frontends.remote import RemotePool
from tests.remotes import FakeServer, a_remote_pool, in_front_of
from tests.serving import Recorder

CALL = RawCall(GRPC, tfs_grpc.RELOAD_CONFIG, "", [("a", "b")], b"config")
FINE = RawReply(0, "", [("a", "1")], b"fine", [("b", "2")])
NO = BackendRejected("no", code=Code.FAILED_PRECONDITION, raw=RawReply(9, "no", (), b"", [("c", "3")]))
GONE = BackendUnavailable("connection refused")


class Timed(FakeServer):
    """Remembers how long it was given; may be made to wait."""

    def __init__(self, answer: RawReply | BatchProxyError) -> None:
        super().__init__()
        self.answer = answer
        self.limits: list[float | None] = []
        self.asked: asyncio.Queue[None] = asyncio.Queue()
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()

    async def relay(self, call: RawCall, timeout_s: float | None) -> RawReply:
        self.limits.append(timeout_s)
        self.asked.put_nowait(None)
        await self.may_go_on.wait()
        return await super().relay(call, timeout_s)


@asynccontextmanager
async def an_engine(servers: Sequence[Timed]) -> AsyncIterator[Engine]:
    """In front of servers called ``s0``, ``s1`` and so on."""
    backends = {f"s{number}": server for number, server in enumerate(servers)}
    engine = build_engine("servers", backends, Policies({}, Policy()))
    await engine.probe()
    try:
        yield engine
    finally:
        await engine.aclose()


async def test_all_well() -> None:
    """Every server gets the caller's own message and the same limit; the first one's answer is the answer."""
    servers = [Timed(FINE), Timed(RawReply(0, "", (), b"other"))]
    async with an_engine(servers) as engine:
        answer = await reload_everywhere(engine, CALL, None)
        await reload_everywhere(engine, CALL, 7.0)

    assert FINE is answer
    assert [[CALL, CALL]] * 2 == [server.relayed for server in servers]
    assert [[RELOAD_S, 7.0]] * 2 == [server.limits for server in servers]


@pytest.mark.parametrize(
    ("answers", "code", "text"),
    [
        ([FINE, NO], Code.FAILED_PRECONDITION, "1 of the pool's 2 servers did not reload: s0: OK; s1: {no}"),
        ([GONE, FINE, NO], Code.UNAVAILABLE, "2 of the pool's 3 servers did not reload: s0: {gone}; s1: OK; s2: {no}"),
    ],
)
async def test_what_each_said(answers: list[RawReply | BatchProxyError], code: Code, text: str) -> None:
    """The code is that of the first failure."""
    async with an_engine([Timed(answer) for answer in answers]) as engine:
        with pytest.raises(BatchProxyError) as caught:
            await reload_everywhere(engine, CALL, None)

    expected = text.format(no="FAILED_PRECONDITION: no", gone="UNAVAILABLE: connection refused")
    assert (code, expected) == (caught.value.code, caught.value.message)


async def test_a_lone_servers_error_is_passed_on_as_it_came() -> None:
    """With its metadata."""
    async with an_engine([Timed(NO)]) as engine:
        with pytest.raises(BatchProxyError) as caught:
            await reload_everywhere(engine, CALL, None)

    assert NO is caught.value


def pool_of(engine: Engine) -> RemotePool:
    """That has every model's name."""

    async def nothing(*_: object) -> object:
        raise GONE

    return RemotePool(engine, Catalogue(nothing, engine.clock), frozenset({GRPC}))  # type: ignore[arg-type]


async def test_the_route() -> None:
    """Passed on with the caller's limit, answered as it came, and recorded."""
    servers, recorder = [Timed(FINE), Timed(FINE)], Recorder()
    async with an_engine(servers) as engine:
        routes = GrpcRoutes(in_front_of(pool_of(engine)), recorder, lambda: 0.0)
        answered: asyncio.Future[GrpcAnswer] = asyncio.get_running_loop().create_future()
        routes.handle(tfs_grpc.RELOAD_CONFIG, b"config", 5.0, answered.set_result, [("a", "b")])
        answer = await answered
        await routes.aclose()

    assert GrpcAnswer(Code.OK, "", b"fine", [("a", "1")], [("b", "2")]) == answer
    assert [b"config"] * 2 == [server.relayed[0].body for server in servers]
    assert [[5.0]] * 2 == [server.limits for server in servers]
    assert [("", "HandleReloadConfigRequest", GRPC, Code.OK)] == recorder.requests


async def test_a_shutdown_waits_for_it_and_then_says_so() -> None:
    """Whoever waits is told, once; who has left is not."""
    server, recorder = Timed(FINE), Recorder()
    server.may_go_on.clear()
    answers: list[GrpcAnswer] = []
    async with an_engine([server]) as engine:
        routes = GrpcRoutes(in_front_of(pool_of(engine)), recorder, engine.clock)
        routes.handle(tfs_grpc.RELOAD_CONFIG, b"config", None, answers.append)
        left = routes.handle(tfs_grpc.RELOAD_CONFIG, b"config", None, answers.append)
        assert left is not None
        left.cancel()
        for _ in range(2):
            await server.asked.get()
        waiting = engine.unanswered()
        engine.strand()
        server.may_go_on.set()
        await routes.aclose()

    assert 2 == waiting
    assert [Code.UNAVAILABLE] == [answer.code for answer in answers]


async def test_a_pool_without_a_grpc_door_says_so() -> None:
    """As for any other method."""
    async with a_remote_pool(FakeServer(), recorder := Recorder(), doors=["rest"]) as pool:
        routes = GrpcRoutes(in_front_of(pool), recorder, pool.engine.clock)
        answered: asyncio.Future[GrpcAnswer] = asyncio.get_running_loop().create_future()
        routes.handle(tfs_grpc.RELOAD_CONFIG, b"", None, answered.set_result)
        answer = await answered

    assert Code.UNIMPLEMENTED is answer.code
