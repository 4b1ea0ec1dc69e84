"""TensorFlow Serving's own client package, unchanged: only the address is ours."""

from __future__ import annotations

import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # before the import: TensorFlow writes to stderr otherwise
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

import base64
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from batchproxy.backends.onnx import OnnxBackend
from batchproxy.codecs import tfs_grpc
from batchproxy.core.columns import ArrayColumn
from batchproxy.core.request import BatchKey
from batchproxy.core.shapes import DEFAULT_SIGNATURE
from batchproxy.demo import data
from tests.conformance.test_grpc_golden import CASES, DEVIATIONS, as_text, recorded
from tests.proxy import Proxy, running
from tests.twins import TWINS

MODELS = sorted(set(TWINS) - {"multi_version"})  # recorded with two versions at once, served here with one
DIGITS = data.FOLDER / "models" / "digits"
GOLDEN = {
    name: base64.b64decode(case["request_b64"])
    for name, case in CASES.items()
    if case["method"] == tfs_grpc.PREDICT and name not in DEVIATIONS
}
GOLDEN = {name: message for name, message in GOLDEN.items() if b"multi_version" not in message}


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxy]:
    """Every twin, and the digits classifier."""
    models = {name: f"python:tests.served_twins:{name}" for name in MODELS}
    with running({**models, "digits": f"onnx:{DIGITS}"}) as one:
        yield one


@pytest.fixture
def channel(proxy: Proxy) -> Iterator[grpc.Channel]:
    """An ordinary channel."""
    with grpc.insecure_channel(proxy.grpc) as one:
        yield one


def a_request(model: str, **inputs: object) -> predict_pb2.PredictRequest:
    """A request made by TensorFlow itself."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request


def test_predict_through_the_stub(channel: grpc.Channel) -> None:
    """Values, model spec, and an output filter."""
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    request = a_request("many_out", x=np.array([1, 2], np.float32))
    request.output_filter.append("o3")
    response = stub.Predict(request, timeout=10)

    assert ["o3"] == list(response.outputs)
    assert [4.0, 5.0] == tf.make_ndarray(response.outputs["o3"]).tolist()
    assert ("many_out", 1, "serving_default") == (
        response.model_spec.name,
        response.model_spec.version.value,
        response.model_spec.signature_name,
    )


def test_status_and_metadata_through_the_stubs(channel: grpc.Channel) -> None:
    """The signature map unpacks as TF Serving's own message."""
    status_request = get_model_status_pb2.GetModelStatusRequest()
    status_request.model_spec.name = "digits"
    metadata_request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    metadata_request.model_spec.name = "digits"
    status = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(status_request, timeout=10)
    metadata = prediction_service_pb2_grpc.PredictionServiceStub(channel).GetModelMetadata(metadata_request, timeout=10)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    unpacked = metadata.metadata["signature_def"].Unpack(signatures)

    available = get_model_status_pb2.ModelVersionStatus.AVAILABLE
    assert [(1, available)] == [(version.version, version.state) for version in status.model_version_status]
    assert unpacked
    assert {"label", "probabilities"} == set(signatures.signature_def["serving_default"].outputs)


@pytest.mark.parametrize("name", GOLDEN)
def test_the_answer_over_a_socket_is_the_recorded_one(channel: grpc.Channel, name: str) -> None:
    """Code, text and message of what a real TF Serving said to the same bytes."""
    predict = channel.unary_unary(tfs_grpc.PREDICT)
    try:
        found = ("OK", "", as_text(tfs_grpc.PREDICT, predict(GOLDEN[name], timeout=10)))
    except grpc.RpcError as error:
        found = (error.code().name, error.details(), "")

    assert tuple(recorded(CASES[name])) == found


@pytest.mark.slow
def test_the_digits_are_told_apart_as_well_through_the_proxy_as_directly(channel: grpc.Channel) -> None:
    """Same labels one image at a time, in batches, as from the model itself; so the same accuracy."""
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    with np.load(data.FOLDER / "digits.npz") as file:
        images, labels = file["images"].astype(np.float32), file["labels"]
    direct = OnnxBackend(DIGITS).run(BatchKey("digits", 1, DEFAULT_SIGNATURE), {"pixels": ArrayColumn(images)})
    expected = direct["label"]
    assert isinstance(expected, ArrayColumn)

    def ask(image: np.ndarray[tuple[int], np.dtype[np.float32]]) -> int:
        response = stub.Predict(a_request("digits", pixels=image[np.newaxis]), timeout=30)
        return int(response.outputs["label"].int64_val[0])

    with ThreadPoolExecutor(32) as callers:
        found = list(callers.map(ask, images))

    assert expected.array.tolist() == found
    assert (expected.array == labels).mean() > 0.9
