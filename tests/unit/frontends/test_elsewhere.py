"""Questions about a model reach a server that has it, wherever the balancer sent them first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from batchproxy.catalogue import Catalogue
from batchproxy.codecs import tfs_grpc
from batchproxy.codecs.tfs_calls import encode_metadata_request
from batchproxy.core.errors import BackendRejected, BackendUnavailable, BatchProxyError, Code, NoEndpoint
from batchproxy.core.policy import Policies, Policy
from batchproxy.core.raw import GRPC, REST, RawCall, RawReply
from batchproxy.core.request import Request
from batchproxy.engine import Engine, build_engine
from batchproxy.frontends.elsewhere import Question, ask_where_served, is_absent
from batchproxy.frontends.grpc_routes import GrpcAnswer, GrpcRoutes, RelayFormat
from batchproxy.frontends.remote import RemotePool, as_it_came
from batchproxy.frontends.rest_answers import RestAnswer
from batchproxy.frontends.rest_routes import RestRoutes
from batchproxy.tasks import Tasks
from tests.remotes import RAW_METADATA, RAW_STATUS, FakeServer, in_front_of
from tests.serving import Recorder

ABSENT = BackendRejected(
    "Servable not found for request: Latest(m)", code=Code.NOT_FOUND, raw=RawReply(5, "not here", (), b"")
)
NO_LABEL = BackendRejected("Unrecognized servable version label: x", code=Code.INVALID_ARGUMENT)
BROKEN = BackendRejected("no", code=Code.INTERNAL, raw=RawReply(13, "no", (), b""))
GONE = BackendUnavailable("connection refused")
QUESTION = RawCall(GRPC, tfs_grpc.GET_MODEL_METADATA, "", (), encode_metadata_request("m", None))


@asynccontextmanager
async def an_engine(answers: Sequence[RawReply | BatchProxyError]) -> AsyncIterator[tuple[Engine, list[FakeServer]]]:
    """In front of servers that answer so; the balancer takes the first."""
    servers = [FakeServer() for _ in answers]
    for server, answer in zip(servers, answers, strict=True):
        server.answer = answer
    engine = build_engine("servers", {f"s{at}": one for at, one in enumerate(servers)}, Policies({}, Policy()))
    await engine.probe()
    try:
        yield engine, servers
    finally:
        await engine.aclose()


async def answer_of(engine: Engine, request: Request | None = None) -> GrpcAnswer:
    """What the caller of a question is told."""
    tasks, answered = Tasks(), asyncio.get_running_loop().create_future()
    question = Question(RelayFormat(), answered.set_result, lambda *_: None, 0.0, tasks)
    question.start(engine, request or as_it_came(QUESTION, None))
    answer: GrpcAnswer = await answered
    await tasks.aclose()
    return answer


@pytest.mark.parametrize(("error", "absent"), [(ABSENT, True), (NO_LABEL, True), (BROKEN, False), (GONE, False)])
def test_who_has_no_such_model(error: BatchProxyError, absent: bool) -> None:
    """Says so, or that it has no such label."""
    assert absent == is_absent(error)
    assert not is_absent(BatchProxyError("ours", code=Code.NOT_FOUND))


@pytest.mark.parametrize("other", [ABSENT, BROKEN, GONE])
async def test_a_question_is_answered_by_the_server_that_has_the_model(other: BatchProxyError) -> None:
    """Wherever it is, and whatever else the others say to it."""
    async with an_engine([ABSENT, other, RAW_METADATA]) as (engine, servers):
        found = [await answer_of(engine, as_it_came(QUESTION, engine.clock() + 5)) for _ in range(3)]

    assert [RAW_METADATA.body] * 3 == [answer.body for answer in found]
    assert servers[2].relayed


@pytest.mark.parametrize(
    ("answers", "first"), [([ABSENT], ABSENT), ([ABSENT, NO_LABEL], ABSENT), ([BROKEN] * 2, BROKEN)]
)
async def test_where_none_has_it_the_first_one_is_believed(
    answers: list[BatchProxyError], first: BackendRejected
) -> None:
    """Its own words; an error of another kind is nobody else's business."""
    async with an_engine(answers) as (engine, servers):
        answer = await answer_of(engine)

    assert first.raw is not None
    assert (first.code, first.raw.message) == (answer.code, answer.message)
    assert (len(answers) > 1 and first is ABSENT) == (sum(len(server.relayed) for server in servers) > 1)


async def test_nobody_is_asked_where_nobody_can_be() -> None:
    """The refusal of the engine is the answer."""
    async with an_engine([ABSENT, RAW_METADATA]) as (engine, _):
        await engine.drain()
        answer = await answer_of(engine)

    assert Code.UNAVAILABLE == answer.code


class Slow(FakeServer):
    """Refuses at once; asked again it takes its time, and answers as it is told to."""

    def __init__(self, then: RawReply | BatchProxyError) -> None:
        super().__init__()
        self.answer = ABSENT
        self.then = then
        self.asked_again, self.may_answer = asyncio.Event(), asyncio.Event()

    async def relay(self, call: RawCall, timeout_s: float | None) -> RawReply:
        if self.relayed:
            self.answer = self.then
            self.asked_again.set()
            await self.may_answer.wait()
        return await super().relay(call, timeout_s)


@pytest.mark.parametrize("answer", [RAW_METADATA, ABSENT])
async def test_a_caller_that_leaves_meanwhile_is_not_answered(answer: RawReply | BatchProxyError) -> None:
    """Whatever the others say in the end."""
    tasks, told, server, other = Tasks(), list[GrpcAnswer](), Slow(answer), FakeServer()
    other.answer = ABSENT
    engine = build_engine("servers", {"s0": server, "s1": other}, Policies({}, Policy()))
    await engine.probe()
    question = Question(RelayFormat(), told.append, lambda *_: None, 0.0, tasks)
    question.start(engine, as_it_came(QUESTION, None))
    await server.asked_again.wait()
    question.cancel()
    server.may_answer.set()
    await engine.drain()
    await engine.aclose()

    assert [] == told


async def test_asking_for_ourselves() -> None:
    """The same for what the proxy itself wants to know; with no server left, that is the error."""
    async with an_engine([ABSENT, RAW_METADATA]) as (engine, servers):
        found = [await ask_where_served(engine, lambda server: server.relay(QUESTION, 1.0)) for _ in range(3)]
        servers[1].answer = ABSENT
        with pytest.raises(BackendRejected) as caught:
            await ask_where_served(engine, lambda server: server.relay(QUESTION, 1.0))
        servers[0].answer = servers[1].answer = BROKEN
        with pytest.raises(BackendRejected) as other:
            await ask_where_served(engine, lambda server: server.relay(QUESTION, 1.0))
        for endpoint in engine.scheduler.balancer.endpoints:
            endpoint.up = False
        with pytest.raises(NoEndpoint):
            await ask_where_served(engine, lambda server: server.relay(QUESTION, 1.0))

    assert [RAW_METADATA] * 3 == found
    assert (ABSENT, BROKEN) == (caught.value, other.value)


@pytest.mark.parametrize(
    ("method", "answer"), [(tfs_grpc.GET_MODEL_STATUS, RAW_STATUS), (tfs_grpc.GET_MODEL_METADATA, RAW_METADATA)]
)
async def test_the_grpc_routes(method: str, answer: RawReply) -> None:
    """Status and metadata, as they came."""
    async with an_engine([ABSENT, answer]) as (engine, _):
        catalogue = Catalogue(FakeServer().metadata, engine.clock)
        routes = GrpcRoutes(in_front_of(RemotePool(engine, catalogue, {GRPC})), Recorder(), engine.clock)
        answered: asyncio.Future[GrpcAnswer] = asyncio.get_running_loop().create_future()
        routes.handle(method, QUESTION.body, 5.0, answered.set_result)
        found = await answered
        await routes.aclose()
        await catalogue.aclose()

    assert (Code.OK, answer.body) == (found.code, found.body)


@pytest.mark.parametrize("path", ["/v1/models/m", "/v1/models/m/metadata"])
@pytest.mark.parametrize("door", [GRPC, REST])
async def test_the_rest_routes(path: str, door: str) -> None:
    """Relayed, and bridged."""
    answer = RAW_METADATA if path.endswith("metadata") else RAW_STATUS
    there = answer if door == GRPC else RawReply(200, "OK", (), b"as it came")
    async with an_engine([ABSENT, there]) as (engine, _):
        catalogue = Catalogue(FakeServer().metadata, engine.clock)
        pool = RemotePool(engine, catalogue, {door})
        routes = RestRoutes(in_front_of(pool), Recorder(), engine.clock, timeout_s=5.0, deadline_header=None)
        answered: asyncio.Future[RestAnswer] = asyncio.get_running_loop().create_future()
        routes.handle("GET", path, {}, b"", answered.set_result)
        found = await answered
        await routes.aclose()
        await catalogue.aclose()

    assert 200 == found.status
    assert door == GRPC or found.body == b"as it came"


async def test_one_answer_is_enough() -> None:
    """Where the first server has the model, the others are left in peace."""
    async with an_engine([RAW_STATUS, RAW_STATUS]) as (engine, servers):
        answer = await answer_of(engine)

    assert RAW_STATUS.body == answer.body
    assert 1 == sum(len(server.relayed) for server in servers)
