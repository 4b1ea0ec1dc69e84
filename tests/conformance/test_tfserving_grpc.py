"""The test server's gRPC door against what a real TF Serving answered (``grpc_main.json``), over a socket.

Then what tests of the proxy lean on: counters, captured bytes, held runs, refusals, kill and restart, reload. Messages
go as bytes, so that the malformed ones can be sent, and are compared as text, in which maps are sorted.
"""

from __future__ import annotations

import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # before the import: TensorFlow writes to stderr otherwise
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

import base64
import json
import signal
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import grpc
import pytest
from google.protobuf import text_format
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

from tests.golden_cases import GOLDEN
from tests.tfserving.fixture import MODELS, Server, running_server

PREDICT = "/tensorflow.serving.PredictionService/Predict"
STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
RELOAD = "/tensorflow.serving.ModelService/HandleReloadConfigRequest"
RESPONSES: dict[str, Any] = {
    PREDICT: predict_pb2.PredictResponse,
    "/tensorflow.serving.PredictionService/Classify": classification_pb2.ClassificationResponse,
    "/tensorflow.serving.PredictionService/Regress": regression_pb2.RegressionResponse,
    "/tensorflow.serving.PredictionService/MultiInference": inference_pb2.MultiInferenceResponse,
    "/tensorflow.serving.PredictionService/GetModelMetadata": get_model_metadata_pb2.GetModelMetadataResponse,
    STATUS: get_model_status_pb2.GetModelStatusResponse,
    RELOAD: model_management_pb2.ReloadConfigResponse,
}
CASES: dict[str, dict[str, Any]] = {
    case["name"]: case for case in json.loads((GOLDEN / "grpc_main.json").read_text())["cases"]
}


class Answer(NamedTuple):
    """How a call ended: status, its text, and the message as text."""

    code: str
    text: str
    response: str


def ask(server: Server, method: str, request: bytes, timeout_s: float = 30) -> Answer:
    """One call."""
    with grpc.insecure_channel(server.grpc) as channel:
        try:
            return Answer("OK", "", as_text(method, channel.unary_unary(method)(request, timeout=timeout_s)))
        except grpc.RpcError as error:
            return Answer(error.code().name, error.details(), "")


def as_text(method: str, message: bytes) -> str:
    """A response in words."""
    return str(text_format.MessageToString(RESPONSES[method].FromString(message)))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """All models."""
    with running_server() as running:
        yield running


@pytest.fixture(scope="module")
def small() -> Iterator[Server]:
    """Two models, and refusals above two calls; it may be killed."""
    with running_server("--max_threads=2", models=["half_plus_two", "hpt2"]) as running:
        yield running


@pytest.mark.parametrize("name", CASES)
def test_answers_as_recorded(name: str, server: Server) -> None:
    """Each request gets the recorded status, text and message."""
    case = CASES[name]
    answer = ask(server, case["method"], base64.b64decode(case["request_b64"]))

    assert case["code"] == answer.code
    assert case["message"] == answer.text
    if answer.code == "OK":
        assert as_text(case["method"], base64.b64decode(case["response_b64"])) == answer.response


def predict(model: str, *values: float, signature: str = "") -> bytes:
    """A request for half_plus_two and its like."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    request.inputs["x"].dtype = 1
    request.inputs["x"].float_val.extend(values)
    request.inputs["x"].tensor_shape.dim.add(size=len(values))
    return bytes(request.SerializeToString())


def test_counts_and_captures(small: Server) -> None:
    """Calls are counted by front, method and model, rows by run; request and response are kept as bytes."""
    small.reset()
    request = predict("half_plus_two", 1, 2, 3)
    with grpc.insecure_channel(small.grpc) as channel:
        response = channel.unary_unary(PREDICT)(request, metadata=[("x-mark", "7")])
    rest = urllib.request.Request(
        f"http://{small.rest}/v1/models/half_plus_two:predict", data=b'{"instances": [1.0, 2.0]}'
    )
    with urllib.request.urlopen(rest) as answer:
        body = answer.read()
    counters = small.counters()
    by_grpc, by_rest = small.captured()

    assert {"grpc Predict half_plus_two": 1, "rest predict half_plus_two": 1} == counters["calls"]
    assert {"half_plus_two": [3, 2]} == counters["rows"]
    assert ("grpc", PREDICT, request, response) == by_grpc[:4]
    assert "7" == by_grpc.metadata["x-mark"]
    assert ("rest", "POST /v1/models/half_plus_two:predict") == by_rest[:2]
    assert by_rest.request.endswith(b'\r\n\r\n{"instances": [1.0, 2.0]}')
    assert by_rest.response.endswith(b"\r\n\r\n" + body)


def test_held_runs_and_refusals(small: Server) -> None:
    """Runs can be held in flight; calls above ``--max_threads`` are refused as TF Serving refuses them."""
    small.reset()
    request = predict("half_plus_two", 1)
    with ThreadPoolExecutor(2) as pool:
        with small.held():
            waiting = [pool.submit(ask, small, PREDICT, request) for _ in range(2)]
            small.wait_for_running(2)
            refused = ask(small, PREDICT, request)
        answers = [one.result() for one in waiting]

    assert Answer("RESOURCE_EXHAUSTED", "Server Threadpool Exhausted", "") == refused
    assert ["OK", "OK"] == [answer.code for answer in answers]
    assert 2 == small.counters()["peak"]


def test_kill_and_restart(small: Server) -> None:
    """A killed server is gone at once and comes back on the same ports; a stopped one ends with status 0."""
    request = predict("half_plus_two", 1)
    before = small.grpc, small.rest
    small.kill()
    gone = ask(small, PREDICT, request)
    small.start()
    back = ask(small, PREDICT, request)
    status = small.stop()
    small.start()

    assert "UNAVAILABLE" == gone.code
    assert "OK" == back.code
    assert before == (small.grpc, small.rest)
    assert 0 == status
    assert signal.SIGTERM not in signal.sigpending()


def test_a_server_that_cannot_start_says_why() -> None:
    """A failing start raises with what the process wrote."""
    with pytest.raises(RuntimeError, match=r"No such file or directory: .*nowhere.config"):
        running_server(config=MODELS / "nowhere.config").__enter__()


def test_tensor_content() -> None:
    """With the flag, answers carry content, also strings, and no typed fields."""
    flag = "--enable_serialization_as_tensor_content=true"
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "strings"
    request.inputs["s"].dtype = 7
    request.inputs["s"].tensor_shape.dim.add(size=2)
    request.inputs["s"].tensor_content = b"\x01\x02abb"
    with (
        running_server(flag, models=["half_plus_two", "strings"]) as running,
        grpc.insecure_channel(running.grpc) as channel,
    ):
        call = channel.unary_unary(PREDICT)
        numbers = predict_pb2.PredictResponse.FromString(call(predict("half_plus_two", 1, 2)))
        strings = predict_pb2.PredictResponse.FromString(call(request.SerializeToString()))

    assert b"\x00\x00\x20\x40\x00\x00\x40\x40" == numbers.outputs["y"].tensor_content
    assert [] == list(numbers.outputs["y"].float_val)
    assert b"\x02\x03a!bb!" == strings.outputs["s"].tensor_content


def test_reload(small: Server) -> None:
    """A new configuration replaces the old one; a label of a version that is not there is refused."""
    request = model_management_pb2.ReloadConfigRequest()
    config = request.config.model_config_list.config.add(name="multi", base_path="multi_version")
    config.model_version_policy.specific.versions.extend([1, 3])
    config.version_labels["new"] = 3
    reloaded = ask(small, RELOAD, request.SerializeToString())
    labelled = predict_pb2.PredictRequest.FromString(predict("multi", 8))
    labelled.model_spec.version_label = "new"
    answer = ask(small, PREDICT, labelled.SerializeToString())
    gone = ask(small, PREDICT, predict("half_plus_two", 1))
    config.version_labels["new"] = 2
    refused = ask(small, RELOAD, request.SerializeToString())
    nothing = ask(small, RELOAD, b"")
    del request.config.model_config_list.config[:]
    for name in ("half_plus_two", "hpt2"):
        request.config.model_config_list.config.add(name=name, base_path=name)
    restored = ask(small, RELOAD, request.SerializeToString())

    assert "OK" == reloaded.code
    assert "float_val: 8.0" in answer.response
    assert Answer("NOT_FOUND", "Servable not found for request: Latest(half_plus_two)", "") == gone
    assert "FAILED_PRECONDITION" == refused.code
    assert "version 2 of model multi, which is not currently available" in refused.text
    assert "INVALID_ARGUMENT" == nothing.code
    assert "OK" == restored.code


def test_long_texts_are_cut(server: Server) -> None:
    """A status text beyond 1024 bytes is cut and says so; see facts 2.6."""
    answer = ask(server, PREDICT, predict("half_plus_two", 1, signature="s" * 2000))

    assert 'Serving signature key "' + "s" * 1001 + "...TRUNCATED" == answer.text
