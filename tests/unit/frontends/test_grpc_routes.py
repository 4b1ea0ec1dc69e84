"""gRPC methods to answers, without a socket; the requests are built with TF Serving's own messages' twin."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from batchproxy.codecs import tensor_proto, tfs_grpc
from batchproxy.core.columns import Array
from batchproxy.core.errors import Code
from batchproxy.frontends.directory import Directory
from batchproxy.frontends.grpc_routes import GrpcAnswer, GrpcRoutes
from batchproxy.protos import tfs_pb2 as pb
from tests.serving import Recorder, a_directory


def predict_message(values: list[float], *, model: str = "half_plus_two", name: str = "x") -> bytes:
    """A PredictRequest with one float input."""
    request = pb.PredictRequest()
    request.model_spec.name = model
    tensor_proto.write(np.asarray(values, np.float32), request.inputs[name])
    return request.SerializeToString()


async def ask(
    directory: Directory, recorder: Recorder, method: str, message: bytes, timeout_s: float | None = None
) -> GrpcAnswer:
    """The answer of one call."""
    engine = directory.models()[0].engine
    routes = GrpcRoutes(directory, recorder, engine.clock)
    answered: asyncio.Future[GrpcAnswer] = asyncio.get_running_loop().create_future()
    routes.handle(method, message, timeout_s, answered.set_result)
    return await answered


async def test_predict_is_run_and_answered_with_the_callers_model_spec() -> None:
    """Typed values, name, concrete version and resolved signature."""
    recorder = Recorder()
    async with a_directory(recorder) as directory:
        answer = await ask(directory, recorder, tfs_grpc.PREDICT, predict_message([1.0, 2.0, 5.0]))

    response = pb.PredictResponse.FromString(answer.body)
    assert Code.OK == answer.code
    assert [2.5, 3.0, 4.5] == list(response.outputs["y"].float_val)
    assert ("half_plus_two", 1, "serving_default") == (
        response.model_spec.name,
        response.model_spec.version.value,
        response.model_spec.signature_name,
    )
    assert [("half_plus_two", "Predict", "grpc", Code.OK)] == recorder.requests


@pytest.mark.parametrize(
    ("message", "code", "text", "model"),
    [
        (b"\xff", Code.INTERNAL, "", ""),
        (b"", Code.INVALID_ARGUMENT, "Missing ModelSpec", ""),
        (predict_message([1], model="n"), Code.NOT_FOUND, "Servable not found for request: Latest(n)", ""),
    ],
)
async def test_what_cannot_be_looked_up_is_refused_without_a_label_of_its_own(
    message: bytes, code: Code, text: str, model: str
) -> None:
    """A name that is not served never becomes a metric's label (R7)."""
    recorder = Recorder()
    async with a_directory(recorder) as directory:
        answer = await ask(directory, recorder, tfs_grpc.PREDICT, message)

    assert GrpcAnswer(code, text) == answer
    assert [(model, "Predict", "grpc", code)] == recorder.requests


async def test_a_model_functions_refusal_is_the_answer() -> None:
    """Code and text of the model's own error, recorded under the model."""
    recorder = Recorder()
    async with a_directory(recorder) as directory:
        answer = await ask(directory, recorder, tfs_grpc.PREDICT, predict_message([-1.0]))

    assert Code.INVALID_ARGUMENT == answer.code
    assert "model 'half_plus_two': the function raised ValueError: negative input: [-1.0]" == answer.message
    assert [("half_plus_two", "Predict", "grpc", Code.INVALID_ARGUMENT)] == recorder.requests


async def test_a_deadline_that_has_passed_is_answered_at_once() -> None:
    """It never reaches the queue."""
    recorder = Recorder()
    async with a_directory(recorder) as directory:
        answer = await ask(directory, recorder, tfs_grpc.PREDICT, predict_message([1.0]), timeout_s=0.0)

    assert GrpcAnswer(Code.DEADLINE_EXCEEDED, "Deadline Exceeded") == answer
    assert [] == recorder.calls


async def test_status_and_metadata_are_answered_from_the_model() -> None:
    """Without a call to it."""
    recorder = Recorder()
    request = pb.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "half_plus_two"
    status = pb.GetModelStatusRequest()
    status.model_spec.name = "half_plus_two"
    async with a_directory(recorder) as directory:
        metadata = await ask(directory, recorder, tfs_grpc.GET_MODEL_METADATA, request.SerializeToString())
        state = await ask(directory, recorder, tfs_grpc.GET_MODEL_STATUS, status.SerializeToString())

    assert 1 == pb.GetModelMetadataResponse.FromString(metadata.body).model_spec.version.value
    assert 30 == pb.GetModelStatusResponse.FromString(state.body).model_version_status[0].state
    assert [
        ("half_plus_two", "GetModelMetadata", "grpc", Code.OK),
        ("half_plus_two", "GetModelStatus", "grpc", Code.OK),
    ] == recorder.requests
    assert [] == recorder.calls


async def test_methods_of_other_backends_are_refused_by_name() -> None:
    """MultiInference needs a server that has it."""
    recorder = Recorder()
    async with a_directory(recorder) as directory:
        answer = await ask(directory, recorder, tfs_grpc.MULTI_INFERENCE, b"")

    expected = GrpcAnswer(Code.UNIMPLEMENTED, "MultiInference is not answered for embedded models: use Predict")
    assert expected == answer


async def test_a_dtype_that_no_answer_can_carry_is_an_error_of_the_backend() -> None:
    """The text names model and output."""

    def dates(inputs: dict[str, Array]) -> dict[str, Array]:
        return {"y": np.zeros(len(inputs["x"]), "datetime64[s]")}

    recorder = Recorder()
    async with a_directory(recorder, {"dates": dates}) as directory:
        answer = await ask(directory, recorder, tfs_grpc.PREDICT, predict_message([1.0], model="dates"))

    assert Code.INTERNAL == answer.code
    assert "'dates'" in answer.message
    assert "'y'" in answer.message
