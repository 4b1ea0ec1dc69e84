"""TF Serving's callers before servers of the Open Inference Protocol: what is asked, and what is said of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import numpy as np
import pytest

from batchproxy.codecs import tensor_proto, tfs_calls, tfs_documents, tfs_grpc, v2_documents, v2_grpc
from batchproxy.core.errors import BackendRejected, Code
from batchproxy.core.raw import GRPC, REST, RawReply
from batchproxy.core.request import Version
from batchproxy.core.shapes import DEFAULT_SIGNATURE, UNDECLARED, ModelInfo, Signature, TensorSpec
from batchproxy.frontends.directory import Directory
from batchproxy.frontends.grpc_routes import GrpcAnswer, GrpcRoutes
from batchproxy.frontends.remote import RemoteModel, RemotePool
from batchproxy.frontends.rest_answers import RestAnswer
from batchproxy.frontends.rest_routes import RestRoutes
from batchproxy.protos import tfs_pb2 as pb
from tests.remotes import INFO, FakeServer, a_remote_pool
from tests.serving import Recorder

FLOATS = TensorSpec("float32", (None,))
HALF = Signature({"x": FLOATS}, {"y": FLOATS})
SIGNATURES = {DEFAULT_SIGNATURE: HALF}
SAID = ModelInfo("other", 9, SIGNATURES)
"""What a server says of any model; the name that callers use counts."""


class V2Server(FakeServer):
    """The same of the other protocol; models called ``silent`` declare nothing."""

    def __init__(self, door: str = GRPC) -> None:
        super().__init__()
        if door == GRPC:
            self.answer = RawReply(0, "", (), v2_grpc.encode_metadata(SAID, HALF))
        else:
            self.answer = RawReply(200, "OK", (), v2_documents.encode_metadata(SAID, HALF))

    async def metadata(self, model: str, version: Version) -> ModelInfo:
        if model == "silent":
            return ModelInfo(model, 0, {DEFAULT_SIGNATURE: UNDECLARED})
        if model not in {INFO.name, "late"}:
            raise BackendRejected("no such model", code=Code.NOT_FOUND, raw=RawReply(404, "Not Found", (), b"{}"))
        return ModelInfo(model, 9, SIGNATURES)


@asynccontextmanager
async def a_v2_pool(
    server: FakeServer, recorder: Recorder, door: str = GRPC, model: RemoteModel | None = None
) -> AsyncIterator[RemotePool]:
    """A pool of one such server, which has every name."""
    async with a_remote_pool(server, recorder, doors=[door], model=model) as pool:
        yield replace(pool, v2=True)


def predict(model: str, *values: float) -> bytes:
    """A PredictRequest."""
    request = pb.PredictRequest()
    request.model_spec.name = model
    tensor_proto.write(np.array(values, np.float32), request.inputs["x"])
    return request.SerializeToString()


async def by_grpc(pool: RemotePool, recorder: Recorder, *asked: tuple[str, bytes]) -> list[GrpcAnswer]:
    """The answers to calls that come at once: method and message."""
    routes = GrpcRoutes(Directory((), {}, pool), recorder, pool.engine.clock)
    answers = []
    for method, message in asked:
        answers.append(asyncio.get_running_loop().create_future())
        routes.handle(method, message, None, answers[-1].set_result)
    try:
        return list(await asyncio.gather(*answers))
    finally:
        await routes.aclose()


async def by_rest(pool: RemotePool, recorder: Recorder, method: str, path: str, body: bytes = b"") -> RestAnswer:
    """The answer to one call."""
    routes = RestRoutes(Directory((), {}, pool), recorder, pool.engine.clock, timeout_s=0, deadline_header=None)
    answered: asyncio.Future[RestAnswer] = asyncio.get_running_loop().create_future()
    routes.handle(method, path, {}, body, answered.set_result)
    try:
        return await answered
    finally:
        await routes.aclose()


def outputs(answer: GrpcAnswer) -> list[float]:
    """Of output ``y``."""
    y = pb.PredictResponse.FromString(answer.body).outputs["y"]
    return [*tensor_proto.read(y, "y", tensor_proto.MAX_ELEMENTS)[0].tolist()]


@pytest.mark.parametrize("door", [GRPC, REST])
async def test_predict_calls_are_bridged_whichever_door_the_server_has(door: str) -> None:
    """No message of TF Serving's reaches it, the second of a kind included; the answer says who answered."""
    server, recorder = V2Server(door), Recorder()
    async with a_v2_pool(server, recorder, door) as pool:
        asked = [(tfs_grpc.PREDICT, predict("half_plus_two", number, number + 1)) for number in range(3)]
        answers = await by_grpc(pool, recorder, *asked)
    spec = pb.PredictResponse.FromString(answers[0].body).model_spec

    assert [[2.0, 2.5], [2.5, 3.0], [3.0, 3.5]] == [outputs(answer) for answer in answers]
    assert ("half_plus_two", INFO.version, "serving_default") == (spec.name, spec.version.value, spec.signature_name)
    assert [] == server.relayed
    assert {("half_plus_two", None, "serving_default")} == {key.target for key, _, _ in server.merged}


async def test_the_first_call_of_a_model_waits_for_its_signature() -> None:
    """Its checks are by that; what the server said of it is told in our words."""
    server, recorder = V2Server(), Recorder()
    async with a_v2_pool(server, recorder) as pool:
        late, absent = await by_grpc(
            pool, recorder, (tfs_grpc.PREDICT, predict("late", 1)), (tfs_grpc.PREDICT, predict("absent", 1))
        )

    assert [2.5] == outputs(late)
    assert GrpcAnswer(Code.NOT_FOUND, "no such model") == absent


@pytest.mark.parametrize(
    ("message", "code", "text"),
    [
        (b"\xff", Code.INTERNAL, ""),
        (pb.PredictRequest(model_spec=pb.ModelSpec(name="half_plus_two")).SerializeToString(),
         Code.INVALID_ARGUMENT, ("input size does not match signature: 0!=1 len({}) != len({x}). Sent extra: {}. "
          "Missing but required: {x}.")),
        (pb.PredictRequest(model_spec=pb.ModelSpec(name="half_plus_two", signature_name="s")).SerializeToString(),
         Code.FAILED_PRECONDITION, 'Serving signature key "s" not found.'),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_said_in_tf_servings_words(message: bytes, code: Code, text: str) -> None:
    """By the signature that is made of the server's metadata."""
    server, recorder = V2Server(), Recorder()
    async with a_v2_pool(server, recorder) as pool:
        (answer,) = await by_grpc(pool, recorder, (tfs_grpc.PREDICT, message))

    assert GrpcAnswer(code, text) == answer
    assert [] == server.merged


@pytest.mark.parametrize(("batchable", "merged"), [(None, False), (True, True), (False, False)])
async def test_nothing_is_merged_of_models_that_declare_nothing_unless_the_configuration_says_so(
    batchable: bool | None, merged: bool
) -> None:
    """They are answered all the same: names, types and shapes as they come."""
    server, recorder = V2Server(), Recorder()
    async with a_v2_pool(server, recorder, model=RemoteModel(batchable=batchable)) as pool:
        await pool.catalogue.find("silent", None)
        answers = await by_grpc(pool, recorder, *[(tfs_grpc.PREDICT, predict("silent", number)) for number in range(8)])
        calls = len(server.merged)
        text = await by_rest(pool, recorder, "POST", "/v1/models/silent:predict", b'{"instances": [1.0, 2.0]}')

    assert [[2 + number / 2] for number in range(8)] == [outputs(answer) for answer in answers]
    assert {"predictions": [2.5, 3.0]} == json.loads(text.body)
    assert merged is (calls < 8)


@pytest.mark.parametrize("door", [GRPC, REST])
async def test_metadata_and_status_by_grpc(door: str) -> None:
    """Made of what the server says, under the name and the version that were asked for."""
    server, recorder = V2Server(door), Recorder()
    question = pb.GetModelMetadataRequest(model_spec=pb.ModelSpec(name="m"), metadata_field=["signature_def"])
    status = pb.GetModelStatusRequest(model_spec=pb.ModelSpec(name="m"))
    status.model_spec.version.value = 3
    async with a_v2_pool(server, recorder, door) as pool:
        described, told = await by_grpc(
            pool,
            recorder,
            (tfs_grpc.GET_MODEL_METADATA, question.SerializeToString()),
            (tfs_grpc.GET_MODEL_STATUS, status.SerializeToString()),
        )

    assert tfs_grpc.encode_metadata(ModelInfo("m", 9, SIGNATURES)) == described.body
    assert tfs_grpc.encode_status([tfs_grpc.VersionStatus(3)]) == told.body


@pytest.mark.parametrize("door", [GRPC, REST])
async def test_metadata_and_status_by_rest(door: str) -> None:
    """The same as documents."""
    server, recorder = V2Server(door), Recorder()
    async with a_v2_pool(server, recorder, door) as pool:
        described = json.loads((await by_rest(pool, recorder, "GET", "/v1/models/m/metadata")).body)
        told = json.loads((await by_rest(pool, recorder, "GET", "/v1/models/m/versions/3")).body)

    assert {"name": "m", "signature_name": "", "version": "9"} == described["model_spec"]
    assert (
        "DT_FLOAT" == described["metadata"]["signature_def"]["signature_def"][DEFAULT_SIGNATURE]["inputs"]["x"]["dtype"]
    )
    assert ["3"] == [line["version"] for line in told["model_version_status"]]


@pytest.mark.parametrize("method", [tfs_grpc.CLASSIFY, tfs_grpc.REGRESS, tfs_grpc.RELOAD_CONFIG])
async def test_other_methods_have_no_counterpart(method: str) -> None:
    """And say what to use."""
    server, recorder = V2Server(), Recorder()
    async with a_v2_pool(server, recorder) as pool:
        (answer,) = await by_grpc(pool, recorder, (method, b""))

    assert Code.UNIMPLEMENTED == answer.code
    assert answer.message.endswith("is not answered by servers of the Open Inference Protocol: use Predict")


@pytest.mark.parametrize("verb", ["classify", "regress"])
async def test_other_verbs_have_no_counterpart(verb: str) -> None:
    """The same over REST."""
    server, recorder = V2Server(), Recorder()
    async with a_v2_pool(server, recorder) as pool:
        answer = await by_rest(pool, recorder, "POST", f"/v1/models/m:{verb}", b'{"examples": [{"x": 1}]}')

    assert 501 == answer.status
    assert b"use Predict" in answer.body
    assert [] == server.relayed


async def test_tf_serving_without_a_grpc_door() -> None:
    """Predict in columns, twice of a kind; status and metadata of its documents; the rest by name."""
    server, recorder = FakeServer(), Recorder()
    status = [tfs_grpc.VersionStatus(7), tfs_grpc.VersionStatus(6)]
    spec = tfs_calls.encode_status_request("half_plus_two", None)
    async with a_remote_pool(server, recorder, doors=[REST]) as pool:
        answers = await by_grpc(pool, recorder, *[(tfs_grpc.PREDICT, predict("half_plus_two", at)) for at in range(2)])
        server.answer = RawReply(200, "OK", (), tfs_documents.encode_status(status))
        (stated,) = await by_grpc(pool, recorder, (tfs_grpc.GET_MODEL_STATUS, spec))
        server.answer = RawReply(200, "OK", (), tfs_documents.encode_metadata(INFO))
        (described,) = await by_grpc(pool, recorder, (tfs_grpc.GET_MODEL_METADATA, RAW_METADATA_REQUEST))
        (reload,) = await by_grpc(pool, recorder, (tfs_grpc.RELOAD_CONFIG, b""))

    assert [[2.0], [2.5]] == [outputs(answer) for answer in answers]
    assert {b'[["y","float32"]]'} == {key.extras for key, _, _ in server.merged}
    assert [("GET", "/v1/models/half_plus_two"), ("GET", "/v1/models/half_plus_two/metadata")] == [
        (call.method, call.path) for call in server.relayed
    ]
    assert tuple(status) == tfs_calls.decode_status_reply(stated.body)
    assert INFO.signatures.keys() == tfs_calls.decode_metadata_reply(described.body).signatures.keys()
    assert Code.UNIMPLEMENTED is reload.code
    assert "has no gRPC door, through which HandleReloadConfigRequest could be passed on" in reload.message


RAW_METADATA_REQUEST = tfs_calls.encode_metadata_request("half_plus_two", None)
