"""The Open Inference Protocol's gRPC routes: embedded models, servers of both protocols, and what is said of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from batchproxy.codecs import v2_grpc
from batchproxy.core.columns import ArrayColumn
from batchproxy.core.errors import BackendRejected, BackendUnavailable, Code, RequestError
from batchproxy.core.raw import GRPC, REST, Header, RawReply
from batchproxy.core.request import BatchKey
from batchproxy.frontends.directory import Directory
from batchproxy.frontends.grpc_routes import METHODS, GrpcAnswer, GrpcRoutes
from batchproxy.frontends.v2_grpc import _ERRORS_ONLY
from batchproxy.frontends.v2_streams import InferStreams
from batchproxy.protos import v2_pb2 as pb
from tests.remotes import RAW_METADATA, FakeServer, a_remote_pool, in_front_of
from tests.serving import Recorder, a_directory
from tests.v2_scenes import MODEL, V2Server, a_v2_pool, seen

KEY = BatchKey(MODEL, None, "serving_default")
MESSAGE = v2_grpc.encode_infer_request(KEY, {"x": ArrayColumn(np.array([1, 2], np.float32))})
NEGATIVE = v2_grpc.encode_infer_request(KEY, {"x": ArrayColumn(np.array([-1], np.float32))})
OF_NOBODY = v2_grpc.encode_infer_request(KEY._replace(model="nobody"), {})
ABSENT = BackendRejected("not here", code=Code.NOT_FOUND, raw=RawReply(5, "their words", (), b""))


def routes_of(directory: Directory, recorder: Recorder, ready: Callable[[], bool] = lambda: True) -> GrpcRoutes:
    """The routes in front of a directory."""
    clock = asyncio.get_running_loop().time
    return GrpcRoutes(directory, recorder, clock, priority_header="x-priority", ready=ready)


async def ask(routes: GrpcRoutes, method: str, message: bytes = b"", metadata: Sequence[Header] = ()) -> GrpcAnswer:
    """The answer to a call."""
    answered = asyncio.get_running_loop().create_future()
    routes.handle(method, message, 30.0, answered.set_result, metadata)
    answer: GrpcAnswer = await answered
    return answer


async def test_an_embedded_model_answers() -> None:
    """Raw, under the caller's id."""
    recorder = Recorder()
    request = pb.ModelInferRequest.FromString(MESSAGE)
    request.id = "7"
    async with a_directory(recorder) as directory:
        answer = await ask(routes_of(directory, recorder), v2_grpc.MODEL_INFER, request.SerializeToString())
        again = pb.ModelInferResponse.FromString(answer.body)

    assert (Code.OK, MODEL, "1", "7") == (answer.code, again.model_name, again.model_version, again.id)
    assert [2.5, 3.0] == np.frombuffer(again.raw_output_contents[0], np.float32).tolist()
    assert [(MODEL, "ModelInfer", GRPC, Code.OK)] == recorder.requests


@pytest.mark.parametrize(
    ("method", "message", "metadata", "code", "text"),
    [
        (v2_grpc.MODEL_INFER, b"\xff", [], Code.INVALID_ARGUMENT, "no ModelInferRequest"),
        (v2_grpc.MODEL_INFER, MESSAGE, [("x-priority", "urgent")], Code.INVALID_ARGUMENT, "x-priority"),
        (v2_grpc.MODEL_INFER, NEGATIVE, [], Code.INVALID_ARGUMENT, "negative input"),
        (v2_grpc.MODEL_INFER, OF_NOBODY, [], Code.NOT_FOUND, "unknown model: 'nobody'"),
        (v2_grpc.MODEL_METADATA, v2_grpc.encode_model("nobody", 3), [], Code.NOT_FOUND, "'nobody' version 3"),
        (v2_grpc.MODEL_CONFIG, b"\xff", [], Code.INVALID_ARGUMENT, "no ModelRequest"),
        (v2_grpc.MODEL_STATISTICS, v2_grpc.encode_model("nobody", None), [], Code.NOT_FOUND, "'nobody'"),
    ],
)
async def test_what_is_wrong_is_said(
    method: str, message: bytes, metadata: Sequence[Header], code: Code, text: str
) -> None:
    """As a status."""
    recorder = Recorder()
    async with a_directory(recorder) as directory:
        answer = await ask(routes_of(directory, recorder), method, message, metadata)

    assert code is answer.code
    assert text in answer.message


def again_of(call_id: str, parameters: bytes = b"{}") -> bytes:
    """``MESSAGE`` with an id, and parameters."""
    key = KEY._replace(extras=b"[" + parameters + b",{}]")
    request = pb.ModelInferRequest.FromString(
        v2_grpc.encode_infer_request(key, {"x": ArrayColumn(np.array([1, 2], np.float32))})
    )
    request.id = call_id
    return request.SerializeToString()


async def test_calls_that_are_like_earlier_ones_are_not_read() -> None:
    """The third of a kind is not: it gets its own id all the same, and a wrong one is refused as ever."""
    recorder = Recorder()
    async with a_directory(recorder) as directory:
        routes = routes_of(directory, recorder)
        parameters = b'{"timeout":9000000}'
        ids = ["a", "b", "c", "d"]
        messages = [again_of(one, parameters) for one in ids]
        answers = [await ask(routes, v2_grpc.MODEL_INFER, message) for message in messages]
        no_text = await ask(routes, v2_grpc.MODEL_INFER, messages[0].replace(b"\x1a\x01a", b"\x1a\x01\xff"))
        no_priority = await ask(routes, v2_grpc.MODEL_INFER, messages[0], [("x-priority", "urgent")])
        priority = await ask(routes, v2_grpc.MODEL_INFER, messages[0], [("x-priority", "high")])
        templates = routes._v2._templates
        learnt = templates.find(messages[0])
        directory.publish(MODEL, directory._models[MODEL])
        later = templates.find(messages[0])

    assert ids == [pb.ModelInferResponse.FromString(answer.body).id for answer in answers]
    assert [Code.INVALID_ARGUMENT] * 2 == [no_text.code, no_priority.code]
    assert Code.OK is priority.code
    assert learnt is not None
    assert learnt is later


@pytest.mark.parametrize("v2", [True, False])
async def test_calls_of_servers_that_are_like_earlier_ones(v2: bool) -> None:
    """As long as their model is what it was taken for; headers that callers must agree in are looked at each time."""
    server = V2Server()
    server.answer = RawReply(0, "", (), pb.ModelInferResponse(model_version="7", id="x").SerializeToString())
    make = a_v2_pool if v2 else a_remote_pool
    async with make(server, Recorder(), [GRPC]) as pool:
        routes = routes_of(in_front_of(pool), Recorder())
        answers = [await ask(routes, v2_grpc.MODEL_INFER, MESSAGE) for _ in range(3)]
        answers.append(await ask(routes, v2_grpc.MODEL_INFER, MESSAGE, [("authorization", "a")]))
        pool.catalogue._known.clear()
        answers.append(await ask(routes, v2_grpc.MODEL_INFER, MESSAGE))

    assert [Code.OK] * 5 == [answer.code for answer in answers]
    assert ({"7"}, 5) == (
        {pb.ModelInferResponse.FromString(answer.body).model_version for answer in answers},
        len(server.relayed if v2 else server.merged),
    )


async def test_what_is_said_of_the_server_and_an_embedded_model() -> None:
    """Whether a model is ready is a question that has an answer for any name."""
    recorder, ready = Recorder(), [True]
    async with a_directory(recorder) as directory:
        routes = routes_of(directory, recorder, lambda: ready[0])
        server = pb.ServerMetadataResponse.FromString((await ask(routes, v2_grpc.SERVER_METADATA)).body)
        index = pb.RepositoryIndexResponse.FromString((await ask(routes, v2_grpc.REPOSITORY_INDEX)).body)
        known, unknown = v2_grpc.encode_model(MODEL, 1), v2_grpc.encode_model("nobody", None)
        metadata = pb.ModelMetadataResponse.FromString((await ask(routes, v2_grpc.MODEL_METADATA, known)).body)
        config = pb.ModelConfigResponse.FromString((await ask(routes, v2_grpc.MODEL_CONFIG, known)).body)
        flags = [
            v2_grpc.decode_flag((await ask(routes, method, message)).body)
            for method, message in (
                (v2_grpc.SERVER_LIVE, b""),
                (v2_grpc.SERVER_READY, b""),
                (v2_grpc.MODEL_READY, known),
                (v2_grpc.MODEL_READY, unknown),
            )
        ]
        ready[0] = False
        later = v2_grpc.decode_flag((await ask(routes, v2_grpc.SERVER_READY)).body)

    assert "batchproxy" == server.name
    assert [MODEL] == [model.name for model in index.models]
    assert ("FP32", [-1]) == (metadata.inputs[0].datatype, list(metadata.inputs[0].shape))
    assert [-1] == list(config.config.output[0].dims)
    assert [True, True, True, False] == flags
    assert not later


async def test_statistics_of_embedded_models() -> None:
    """Of one, and of all."""
    recorder = Recorder()
    async with a_directory(recorder) as directory:
        routes = routes_of(directory, recorder)
        await ask(routes, v2_grpc.MODEL_INFER, MESSAGE)
        answers = [
            await ask(routes, v2_grpc.MODEL_STATISTICS, v2_grpc.encode_model(name, None)) for name in (MODEL, "")
        ]
    found = [pb.ModelStatisticsResponse.FromString(answer.body).model_stats for answer in answers]

    assert [(MODEL, "1", 1)] * 2 == [(one.name, one.version, one.execution_count) for (one,) in found]


async def test_a_server_of_the_protocol_is_asked_in_the_callers_words() -> None:
    """Calls that are alone, and questions, but whether we are well; its errors are its own."""
    server = V2Server()
    methods = [v2_grpc.SERVER_METADATA, v2_grpc.REPOSITORY_INDEX, v2_grpc.MODEL_STATISTICS, v2_grpc.MODEL_METADATA]
    async with a_v2_pool(server, Recorder(), [GRPC]) as pool:
        routes = routes_of(in_front_of(pool), Recorder())
        asked = v2_grpc.encode_model(MODEL, None)
        questions = [(await ask(routes, method, asked)).body for method in methods]
        live = v2_grpc.decode_flag((await ask(routes, v2_grpc.SERVER_LIVE)).body)
        server.answer = RawReply(0, "", (), pb.ModelInferResponse(model_version="7", id="x").SerializeToString())
        answer = await ask(routes, v2_grpc.MODEL_INFER, MESSAGE)
        server.answer = ABSENT
        refused = await ask(routes, v2_grpc.MODEL_INFER, MESSAGE)

    assert [b"relayed"] * 4 == questions
    assert live
    assert server.relayed[4].body is MESSAGE
    assert "x" == pb.ModelInferResponse.FromString(answer.body).id
    assert (Code.NOT_FOUND, "their words") == (refused.code, refused.message)
    assert [(method, "") for method in (*methods, v2_grpc.MODEL_INFER, v2_grpc.MODEL_INFER)] == seen(server.relayed)


async def test_a_server_of_the_protocol_by_its_other_door() -> None:
    """Calls become columns, questions REST's; its words in that protocol are not passed on."""
    server = V2Server()
    document = b'{"name": "half_plus_two", "versions": ["7"], "inputs": [], "outputs": []}'
    server.answer = RawReply(200, "OK", (), document)
    async with a_v2_pool(server, Recorder(), [REST]) as pool:
        routes = routes_of(in_front_of(pool), Recorder())
        answer = pb.ModelInferResponse.FromString((await ask(routes, v2_grpc.MODEL_INFER, MESSAGE)).body)
        body = (await ask(routes, v2_grpc.MODEL_METADATA, v2_grpc.encode_model(MODEL, 7))).body
        server.answer = ABSENT
        unknown = await ask(routes, v2_grpc.MODEL_READY, v2_grpc.encode_model("nobody", None))
        refused = await ask(routes, v2_grpc.MODEL_METADATA, v2_grpc.encode_model("nobody", None))
        nobody = await ask(routes, v2_grpc.MODEL_INFER, OF_NOBODY)

    assert "7" == answer.model_version
    assert ["7"] == list(pb.ModelMetadataResponse.FromString(body).versions)
    assert ("GET", f"/v2/models/{MODEL}/versions/7") == seen(server.relayed)[0]
    assert not v2_grpc.decode_flag(unknown.body)
    assert (Code.NOT_FOUND, "not here") == (refused.code, refused.message)
    assert (Code.NOT_FOUND, "not here") == (nobody.code, nobody.message)


async def test_tf_serving_is_asked_by_its_signature() -> None:
    """Predict as columns, metadata out of its own."""
    server = FakeServer()
    server.answer = RAW_METADATA
    async with a_remote_pool(server, Recorder(), [GRPC]) as pool:
        routes = routes_of(in_front_of(pool), Recorder())
        answer = pb.ModelInferResponse.FromString((await ask(routes, v2_grpc.MODEL_INFER, MESSAGE)).body)
        message = v2_grpc.encode_model(MODEL, None)
        metadata = pb.ModelMetadataResponse.FromString((await ask(routes, v2_grpc.MODEL_METADATA, message)).body)

    assert ("7", [2.5, 3.0]) == (
        answer.model_version,
        np.frombuffer(answer.raw_output_contents[0], np.float32).tolist(),
    )
    assert ["7"] == list(metadata.versions)


async def test_other_methods_are_streams_to_a_server_of_the_protocol() -> None:
    """Those that we answer are none; without such a server there is nobody to ask, but for ModelStreamInfer."""
    async with a_v2_pool(V2Server(), Recorder(), [GRPC]) as pool, a_v2_pool(V2Server(), Recorder(), [REST]) as rest:
        both = routes_of(Directory([], {MODEL: pool}), Recorder())
        without_door = routes_of(in_front_of(rest), Recorder())
        nobody = routes_of(Directory([]), Recorder())

        load = v2_grpc.SERVICE + "RepositoryModelLoad"
        assert pool.engine is both.streams(load)
        assert [None] * len(METHODS) == [both.streams(method) for method in METHODS]
        assert [None, None] == [one.streams(load) for one in (without_door, nobody)]
        assert isinstance(nobody.streams(v2_grpc.MODEL_STREAM_INFER), InferStreams)


def test_calls_that_were_not_read_have_errors_only() -> None:
    """They say when to try again."""
    again = _ERRORS_ONLY.error(BackendUnavailable("down"))

    assert (Code.UNAVAILABLE, (("grpc-retry-pushback-ms", "1000"),)) == (again.code, again.trailers)
    assert () == _ERRORS_ONLY.error(RequestError("no")).trailers
    with pytest.raises(AssertionError, match="This is a bug"):
        _ERRORS_ONLY.reply(None)  # type: ignore[arg-type]
