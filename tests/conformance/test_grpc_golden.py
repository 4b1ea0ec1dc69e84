"""What a real TF Serving answered to gRPC calls (``tests/golden/grpc_main.json``), and what our codec answers.

The models are the Python twins of the recorded ones. The few cases that cannot match are in one table with their
reasons; an entry that has become stale fails. Methods that an embedded model does not answer are not asked here.
"""

from __future__ import annotations

import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # before the import: TensorFlow writes to stderr otherwise
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

import base64
import json
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import pytest
from google.protobuf import text_format
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, predict_pb2

from batchproxy.codecs import _dtypes, tfs_grpc
from batchproxy.core.columns import ArrayColumn
from batchproxy.core.errors import BatchProxyError
from batchproxy.core.request import Reply
from batchproxy.core.shapes import ModelInfo, Signature, TensorSpec
from batchproxy.engine import Engine
from batchproxy.frontends.directory import Directory, Served
from tests.twins import TWINS

GOLDEN = Path(__file__).parents[1] / "golden" / "grpc_main.json"
RESPONSES: dict[str, Any] = {
    tfs_grpc.PREDICT: predict_pb2.PredictResponse,
    tfs_grpc.GET_MODEL_STATUS: get_model_status_pb2.GetModelStatusResponse,
    tfs_grpc.GET_MODEL_METADATA: get_model_metadata_pb2.GetModelMetadataResponse,
}
CASES: dict[str, dict[str, Any]] = {
    case["name"]: case for case in json.loads(GOLDEN.read_text())["cases"] if case["method"] in RESPONSES
}

ONE_VERSION = "an embedded model has one version and no labels; the recorded one had two of each"
DEVIATIONS: dict[str, str] = {
    "predict/label_ok": ONE_VERSION,
    "predict/label_canary": ONE_VERSION,
    "predict/version_1": ONE_VERSION,
    "metadata/label": ONE_VERSION,
    "status/multi": ONE_VERSION,
    "status/multi_v1": ONE_VERSION,
    "status/label": ONE_VERSION,
    "status/bad_label": ONE_VERSION,
    "predict/signature_regress": "takes serialized tf.Example; no twin parses them",
    "predict/model_error": "the text names nodes of the recorded graph",
}
"""Cases whose answer cannot be the recorded one, and why."""


class Answer(NamedTuple):
    """Status and message of an answer; the message as text, in which maps are sorted and NaN equals NaN."""

    code: str
    message: str
    response: str


def recorded(case: dict[str, Any]) -> Answer:
    """What the server said."""
    return Answer(
        case["code"], case["message"], as_text(case["method"], base64.b64decode(case.get("response_b64", "")))
    )


def as_text(method: str, message: bytes) -> str:
    """A response in words, read by the stranger's classes."""
    text: str = text_format.MessageToString(RESPONSES[method].FromString(message))
    return text


def recorded_info(case: dict[str, Any]) -> ModelInfo:
    """What a recorded GetModelMetadata answer says of its model."""
    response = get_model_metadata_pb2.GetModelMetadataResponse.FromString(base64.b64decode(case["response_b64"]))
    packed = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(packed)

    def specs(infos: Any) -> dict[str, TensorSpec]:
        return {alias: spec(info) for alias, info in infos.items()}

    def spec(info: Any) -> TensorSpec:
        row = _dtypes.by_number(info.dtype)
        assert row is not None
        shape = info.tensor_shape
        open_or_size = tuple(None if dim.size == -1 else dim.size for dim in shape.dim)
        return TensorSpec(row.name, None if shape.unknown_rank else open_or_size, info.name)

    signatures = {
        name: Signature(specs(item.inputs), specs(item.outputs), method_name=item.method_name)
        for name, item in packed.signature_def.items()
    }
    return ModelInfo(response.model_spec.name, response.model_spec.version.value, signatures)


DECLARED = {
    model: ModelInfo(
        model,
        2 if model == "multi_version" else 1,
        {name: cast("Any", function).__batchproxy_signature__ for name, function in functions.items()},
    )
    for model, functions in TWINS.items()
}
WRITTEN_AGAIN = recorded_info(CASES["metadata/ok"])
"""Twins have no graph with named tensors, so what is encoded is what the server said."""

DIRECTORY = Directory(Served(info, cast("Engine", None)) for info in DECLARED.values())  # nothing is run by it


def ask(method: str, message: bytes) -> Answer:
    """Our answer, through the codec and the twins."""
    try:
        return Answer("OK", "", as_text(method, respond(method, message)))
    except BatchProxyError as error:
        return Answer(error.code.name, tfs_grpc.status_text(error), "")
    except ValueError as error:  # a twin's own, which its backend makes the caller's fault
        return Answer("INVALID_ARGUMENT", str(error), "")


def respond(method: str, message: bytes) -> bytes:
    """The bytes of a successful answer."""
    if method == tfs_grpc.GET_MODEL_STATUS:
        target = tfs_grpc.parse_status(message)
        return tfs_grpc.encode_status(DIRECTORY.find_status(target.model, target.version))
    if method == tfs_grpc.GET_MODEL_METADATA:
        info = DIRECTORY.find(*tfs_grpc.parse_metadata(message)).info
        return tfs_grpc.encode_metadata(WRITTEN_AGAIN if info.name == WRITTEN_AGAIN.name else info)
    call = tfs_grpc.parse_predict(message)
    info = DIRECTORY.find(*call.target).info
    columns = tfs_grpc.decode_inputs(call, tfs_grpc.signature_of(info, call.signature_name))
    function: Any = TWINS[info.name][call.signature_name]
    outputs = function({alias: column.array for alias, column in columns.items()})
    wanted = {alias: ArrayColumn(np.asarray(outputs[alias])) for alias in call.output_filter or outputs}
    return tfs_grpc.encode_predict(Reply(wanted, info.version), info.name, call.signature_name)


@pytest.mark.parametrize("name", [name for name in CASES if name not in DEVIATIONS])
def test_our_answer_is_the_recorded_one(name: str) -> None:
    """Code, text and message."""
    case = CASES[name]

    assert recorded(case) == ask(case["method"], base64.b64decode(case["request_b64"]))


@pytest.mark.parametrize("name", DEVIATIONS)
def test_no_deviation_is_stale(name: str) -> None:
    """A case that matches by now is to leave the table."""
    case = CASES[name]

    assert recorded(case) != ask(case["method"], base64.b64decode(case["request_b64"]))


@pytest.mark.parametrize("name", ["metadata/ok", "metadata/label"])
def test_recorded_metadata_is_written_as_it_was(name: str) -> None:
    """Every signature, tensor name, dtype, shape and method name survives our types."""
    case = CASES[name]
    ours = tfs_grpc.encode_metadata(recorded_info(case))

    assert recorded(case).response == as_text(case["method"], ours)
