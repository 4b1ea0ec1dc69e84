"""Classify and Regress over gRPC to a server: which calls share one, and which are passed on as they came."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from batchproxy.codecs import tfs_examples, tfs_grpc
from batchproxy.codecs.tfs_examples import ExamplesClass, MessageColumn
from batchproxy.core.errors import Code
from batchproxy.core.raw import GRPC, REST, RawReply
from batchproxy.core.request import BatchKey, Reply
from batchproxy.frontends.grpc_routes import GrpcAnswer, GrpcRoutes, PredictFormat
from batchproxy.frontends.remote import RemotePool
from tests.remotes import INFO, FakeServer, a_remote_pool, in_front_of
from tests.serving import Recorder

MODEL = INFO.name


def a_message(*examples: bytes, model: str = MODEL, signature: str = "regress", context: bytes | None = None) -> bytes:
    """A request for Classify or Regress."""
    column = MessageColumn(examples, ExamplesClass(tfs_grpc.REGRESS, context))
    return tfs_examples.write_request(BatchKey(model, None, signature), column)


def an_answer(*results: bytes, version: int = INFO.version) -> bytes:
    """The server's answer."""
    return tfs_examples.write_reply(Reply({tfs_examples.RESULTS: MessageColumn(results)}, version), MODEL, "regress")


async def ask(pool: RemotePool, recorder: Recorder, calls: Sequence[tuple[str, bytes]]) -> list[GrpcAnswer]:
    """The answers to calls that come in one turn of the loop."""
    loop = asyncio.get_running_loop()
    routes = GrpcRoutes(in_front_of(pool), recorder, pool.engine.clock)
    answers: list[asyncio.Future[GrpcAnswer]] = [loop.create_future() for _ in calls]
    for (method, message), answer in zip(calls, answers, strict=True):
        routes.handle(method, message, None, answer.set_result)
    return [await answer for answer in answers]


async def test_examples_of_two_callers_share_a_call() -> None:
    """Each gets its own results, under the name and version that its own call would have had."""
    server, recorder = FakeServer(), Recorder()
    calls = [(tfs_grpc.REGRESS, a_message(b"\x0a\x00", b"")), (tfs_grpc.REGRESS, a_message(b"\x0a\x01\x00"))]
    async with a_remote_pool(server, recorder) as pool:
        answers = await ask(pool, recorder, calls)
    ((key, columns, _),) = server.merged

    assert [an_answer(b"\x0a\x00", b""), an_answer(b"\x0a\x01\x00")] == [answer.body for answer in answers]
    assert (MODEL, None, "regress") == key.target
    assert 3 == columns[tfs_examples.INPUT].rows
    assert [(MODEL, "Regress", GRPC, Code.OK)] * 2 == recorder.requests


async def test_only_what_agrees_in_everything_shares_a_call() -> None:
    """Another context, another unknown field: each alone, and so as it came."""
    server, recorder = FakeServer(), Recorder()
    server.answer = RawReply(0, "", [("a", "b")], an_answer(b"", version=8), [("c", "d")])
    messages = [
        a_message(b""),
        a_message(b"", context=b""),
        a_message(b"", context=b"\x0a\x00"),
        a_message(b"") + b"\xa2\x06\x03odd",
    ]
    async with a_remote_pool(server, recorder) as pool:
        answers = await ask(pool, recorder, [(tfs_grpc.REGRESS, message) for message in messages])
    expected = GrpcAnswer(Code.OK, "", an_answer(b"", version=8), [("a", "b")], [("c", "d")])

    assert [] == server.merged
    assert messages == [call.body for call in server.relayed]
    assert [expected] * 4 == answers


async def test_an_answer_tells_the_version() -> None:
    """Another than before: nothing is known of it yet."""
    async with a_remote_pool(FakeServer(), Recorder()) as pool:
        asked = (pool.catalogue, None)
        form = PredictFormat(MODEL, "regress", asked, tfs_examples.write_reply, tfs_examples.version_of)
        answer = form.reply(Reply({}, 0, raw=RawReply(0, "", (), an_answer(b"\xff", version=8))))
        after = pool.catalogue.look(MODEL, None)

    assert an_answer(b"\xff", version=8) == answer.body
    assert after is None


@pytest.mark.parametrize(
    ("method", "message", "label"),
    [
        (tfs_grpc.REGRESS, b"\xff", ""),
        (tfs_grpc.REGRESS, a_message(), ""),
        (tfs_grpc.REGRESS, a_message(b"", model="nobody"), ""),
        (tfs_grpc.REGRESS, a_message(b"", signature="serving_default"), MODEL),
        (tfs_grpc.REGRESS, a_message(b"", signature="nothing"), MODEL),
        (tfs_grpc.CLASSIFY, a_message(b""), MODEL),
    ],
    ids=["broken", "empty", "unknown model", "predict", "unknown signature", "another method"],
)
async def test_what_may_not_be_merged_is_passed_on(method: str, message: bytes, label: str) -> None:
    """Two of a kind, and yet two calls."""
    server, recorder = FakeServer(), Recorder()
    server.answer = RawReply(0, "", (), b"relayed")
    async with a_remote_pool(server, recorder) as pool:
        answers = await ask(pool, recorder, [(method, message)] * 2)

    assert [] == server.merged
    assert [message] * 2 == [call.body for call in server.relayed]
    assert [b"relayed"] * 2 == [answer.body for answer in answers]
    assert [(label, method.rpartition("/")[2], GRPC, Code.OK)] * 2 == recorder.requests


async def test_a_pool_without_a_grpc_door_says_so() -> None:
    """Examples are texts there, which nobody makes of messages."""
    async with a_remote_pool(FakeServer(), recorder := Recorder(), doors=[REST]) as pool:
        (answer,) = await ask(pool, recorder, [(tfs_grpc.CLASSIFY, a_message(b""))])

    assert Code.UNIMPLEMENTED is answer.code
    assert "has no gRPC door" in answer.message
