"""Classify and Regress over gRPC to a server: which calls share one, and which are passed on as they came."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from tensorflow.core.example import example_pb2
from tensorflow_serving.apis import regression_pb2

from batchproxy.codecs import tfs_documents, tfs_example_rows, tfs_examples, tfs_grpc, tfs_splice
from batchproxy.codecs.tfs_example_rows import ExampleTexts
from batchproxy.codecs.tfs_examples import ExamplesClass, MessageColumn
from batchproxy.core.columns import Columns
from batchproxy.core.errors import BackendRejected, Code
from batchproxy.core.raw import GRPC, REST, RawReply
from batchproxy.core.request import BatchKey, Reply
from batchproxy.frontends.grpc_answers import GrpcAnswer, PredictFormat
from batchproxy.frontends.grpc_routes import GrpcRoutes
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


class TextServer(FakeServer):
    """By REST: results are the numbers of examples."""

    async def infer(self, key: BatchKey, columns: Columns, timeout_s: float | None = None) -> Reply:
        self.merged.append((key, columns, timeout_s))
        column = columns[tfs_example_rows.EXAMPLES]
        assert isinstance(column, ExampleTexts)
        numbers = b", ".join(bytes(text)[5:-1].strip(b"[]") for text in column.texts)
        return Reply(tfs_splice.read_results(b'{"results": [' + numbers + b"]}"), 0)


def a_number(value: float) -> bytes:
    """An Example."""
    example = example_pb2.Example()
    example.features.feature["x"].float_list.value.append(value)
    return bytes(example.SerializeToString())


def numbers_in(answer: GrpcAnswer) -> list[float]:
    """Its results."""
    return [one.value for one in regression_pb2.RegressionResponse.FromString(answer.body).result.regressions]


async def test_a_pool_without_a_grpc_door_is_asked_by_rest() -> None:
    """As texts that share a call; each answer has its caller's own results."""
    server, recorder = TextServer(), Recorder()
    calls = [(tfs_grpc.REGRESS, a_message(a_number(1), a_number(2))), (tfs_grpc.REGRESS, a_message(a_number(2.5)))]
    async with a_remote_pool(server, recorder, doors=[REST]) as pool:
        answers = await ask(pool, recorder, calls)
    ((key, columns, _),) = server.merged

    assert [[1.0, 2.0], [2.5]] == [numbers_in(answer) for answer in answers]
    assert (MODEL, None, "regress") == key.target
    assert 3 == columns[tfs_example_rows.EXAMPLES].rows
    assert [(MODEL, "Regress", GRPC, Code.OK)] * 2 == recorder.requests


async def test_what_is_not_known_yet_travels_alone_by_rest() -> None:
    """A model that nobody confirmed is no label; an error of the server's is told in gRPC's words."""
    server, recorder = FakeServer(), Recorder()
    message = a_message(a_number(1), model="late", context=a_number(2))
    async with a_remote_pool(server, recorder, doors=[REST]) as pool:
        server.answer = RawReply(200, "OK", (), b'{"results": [0.5]}')
        (good,) = await ask(pool, recorder, [(tfs_grpc.REGRESS, message)])
        raw = RawReply(404, "Not Found", (), b'{"error": "no late"}')
        server.answer = BackendRejected("no late", code=Code.NOT_FOUND, raw=raw)
        (bad,) = await ask(pool, recorder, [(tfs_grpc.REGRESS, message)])
    sent = server.relayed[0]

    assert [0.5] == numbers_in(good)
    assert (Code.NOT_FOUND, "no late") == (bad.code, bad.message)
    assert ("POST", "/v1/models/late:regress") == (sent.method, sent.path)
    assert b'{"signature_name":"regress","context":{"x":[2.0]},"examples":[{"x":[1.0]}]}' == sent.body
    assert [("", "Regress", GRPC, Code.OK), ("", "Regress", GRPC, Code.NOT_FOUND)] == recorder.requests


@pytest.mark.parametrize(
    ("signature", "text"), [("regress", "Input is empty."), ("no", "No signature was found with the name: no")]
)
async def test_no_examples_by_rest(signature: str, text: str) -> None:
    """The model is looked for first, then its signature, then examples."""
    server, recorder = FakeServer(), Recorder()
    server.answer = RawReply(200, "OK", (), tfs_documents.encode_metadata(INFO))
    async with a_remote_pool(server, recorder, doors=[REST]) as pool:
        (answer,) = await ask(pool, recorder, [(tfs_grpc.REGRESS, a_message(signature=signature))])

    assert (Code.INVALID_ARGUMENT, text) == (answer.code, answer.message)
    assert ["/v1/models/half_plus_two/metadata"] == [call.path for call in server.relayed]


async def test_what_rest_has_no_words_for() -> None:
    """Nothing is sent."""
    odd = example_pb2.Example()
    odd.features.feature["x"].int64_list.SetInParent()
    async with a_remote_pool(server := FakeServer(), recorder := Recorder(), doors=[REST]) as pool:
        (answer,) = await ask(pool, recorder, [(tfs_grpc.CLASSIFY, a_message(odd.SerializeToString()))])

    assert Code.UNIMPLEMENTED is answer.code
    assert "model 'half_plus_two': example 0 has a feature 'x' that is an empty int64_list" in answer.message
    assert [] == server.relayed
