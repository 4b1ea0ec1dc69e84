"""The gRPC codec with the messages of the real ``tensorflow-serving-api`` at the other end."""

from __future__ import annotations

import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # before the import: TensorFlow writes to stderr otherwise
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    predict_pb2,
    prediction_service_pb2,
)

from batchproxy.codecs import tensor_proto, tfs_grpc
from batchproxy.codecs.tfs_grpc import State, Target, VersionStatus
from batchproxy.core.columns import ArrayColumn, ListColumn
from batchproxy.core.errors import BackendProtocolError, BatchProxyError, Code, DecodeError, RequestError, TooLarge
from batchproxy.core.request import Reply
from batchproxy.core.shapes import UNDECLARED, ModelInfo, Signature, TensorSpec

FLOATS = TensorSpec("float32", (None,), "x:0")
TWO_IN_TWO_OUT = Signature({"a": FLOATS, "b": TensorSpec("int64")}, {"p": FLOATS, "q": FLOATS})
PREDICT_REQUEST = predict_pb2.PredictRequest
STATUS_REQUEST = get_model_status_pb2.GetModelStatusRequest
METADATA_REQUEST = get_model_metadata_pb2.GetModelMetadataRequest


def predict_bytes(inputs: dict[str, Any] | None = None, outputs: tuple[str, ...] = (), **spec: Any) -> bytes:
    """What the stranger's client sends."""
    request = predict_pb2.PredictRequest(output_filter=outputs)
    request.model_spec.name = "m"
    for key, value in spec.items():
        if key == "version":
            request.model_spec.version.value = value
        else:
            setattr(request.model_spec, key, value)
    for alias, value in (inputs or {}).items():
        request.inputs[alias].CopyFrom(tf.make_tensor_proto(value))
    data: bytes = request.SerializeToString()
    return data


def refused(inputs: dict[str, Any], signature: Signature = TWO_IN_TWO_OUT, outputs: tuple[str, ...] = ()) -> str:
    """The text with which a call is refused as INVALID_ARGUMENT."""
    call = tfs_grpc.parse_predict(predict_bytes(inputs, outputs))
    with pytest.raises(RequestError) as caught:
        tfs_grpc.decode_inputs(call, signature)
    assert caught.value.code == Code.INVALID_ARGUMENT
    return caught.value.message


# ---------------------------------------------------------------- Predict: the request


@pytest.mark.parametrize(
    ("spec", "target"),
    [
        ({}, Target("m")),
        ({"version": 7}, Target("m", version=7)),
        ({"version": 0}, Target("m", version=0)),
        ({"version_label": "stable"}, Target("m", label="stable")),
        ({"version_label": ""}, Target("m", label="")),
    ],
)
def test_versions_and_labels_that_are_sent_are_told_from_none(spec: dict[str, Any], target: Target) -> None:
    """Version 0 and an empty label are not "no version"."""
    assert target == tfs_grpc.parse_predict(predict_bytes(**spec)).target


def test_the_signature_defaults_and_the_filter_keeps_its_order() -> None:
    """An empty signature name means ``serving_default``."""
    bare = tfs_grpc.parse_predict(predict_bytes())
    full = tfs_grpc.parse_predict(predict_bytes(outputs=("q", "p"), signature_name="s"))

    assert ("serving_default", ()) == (bare.signature_name, bare.output_filter)
    assert ("s", ("q", "p")) == (full.signature_name, full.output_filter)


def test_a_request_without_a_model() -> None:
    """No spec and no name have different texts."""
    with pytest.raises(RequestError, match=r"^Missing ModelSpec$"):
        tfs_grpc.parse_predict(b"")
    with pytest.raises(RequestError, match=r"^ModelSpec has no name specified\.$"):
        tfs_grpc.parse_predict(predict_bytes(name=""))


@pytest.mark.parametrize("parse", [tfs_grpc.parse_predict, tfs_grpc.parse_status, tfs_grpc.parse_metadata])
@pytest.mark.parametrize("message", [b"\xff", b"\x0a\x7f", b"\x0a\x03\x0a\x01\xff"])
def test_a_malformed_message_is_internal_without_a_text(parse: Any, message: bytes) -> None:
    """Broken framing, a cut field and a name that is no UTF-8."""
    with pytest.raises(DecodeError) as caught:
        parse(message)

    assert caught.value.code == Code.INTERNAL
    assert caught.value.message == ""


def test_inputs_become_columns() -> None:
    """Values, dtypes and shapes arrive as the client made them."""
    arrays = {"a": np.array([[1, 2]], np.float32), "b": np.array(3)}
    columns = tfs_grpc.decode_inputs(tfs_grpc.parse_predict(predict_bytes(arrays)), TWO_IN_TWO_OUT)

    assert ["a", "b"] == list(columns)
    for alias, array in arrays.items():
        assert columns[alias].array.dtype == array.dtype
        assert columns[alias].array.tolist() == array.tolist()


def test_an_undeclared_signature_takes_anything() -> None:
    """A bare Python function says nothing of itself, so nothing can be wrong here."""
    call = tfs_grpc.parse_predict(predict_bytes({"any": [b"s"], "thing": 1}, ("o", "o")))

    assert {"any", "thing"} == set(tfs_grpc.decode_inputs(call, UNDECLARED))


def test_signatures_are_found_by_name() -> None:
    """Empty means the default; an unknown one is FAILED_PRECONDITION."""
    info = ModelInfo("m", 1, {"serving_default": TWO_IN_TWO_OUT})
    with pytest.raises(RequestError, match=r'^Serving signature key "zz" not found\.$') as caught:
        tfs_grpc.signature_of(info, "zz")

    assert caught.value.code == Code.FAILED_PRECONDITION
    assert tfs_grpc.signature_of(info, "") is TWO_IN_TWO_OUT


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        (
            {},
            (
                "input size does not match signature: 0!=2 len({}) != len({a,b}). "
                "Sent extra: {}. Missing but required: {a,b}."
            ),
        ),
        (
            {"b": 1, "z": 1, "c": 1},
            (
                "input size does not match signature: 3!=2 len({b,c,z}) != len({a,b}). "
                "Sent extra: {c,z}. Missing but required: {a}."
            ),
        ),
        (
            {"a": 1.0, "z": 1},
            (
                "Signature input alias: b(feed name: b) not found in request and no default value provided. "
                "Inputs expected to be in the request {a,z}, or default input alias set: "
            ),
        ),
        (
            {"y": 1.0, "z": 1},
            (
                "Signature input alias: a(feed name: x:0) not found in request and no default value provided. "
                "Inputs expected to be in the request {y,z}, or default input alias set: "
            ),
        ),
        ({"a": 1, "b": np.int64(1)}, "Expects arg[0] to be float but int32 is provided"),
        ({"a": 1.0, "b": b"s"}, "Expects arg[1] to be int64 but string is provided"),
    ],
)
def test_inputs_that_do_not_fit_the_signature(inputs: dict[str, Any], text: str) -> None:
    """TF Serving's texts, with sets in sorted order."""
    assert text == refused(inputs)


@pytest.mark.parametrize(
    ("outputs", "text"),
    [
        (("zz",), "output tensor alias not found in signature: zz Outputs expected to be in the set {p,q}."),
        (("p", "q", "p"), "duplicate output tensor alias: p"),
    ],
)
def test_output_filters_that_do_not_fit(outputs: tuple[str, ...], text: str) -> None:
    """Checked after the inputs' values and before their dtypes, as on the server."""
    assert text == refused({"a": 1, "b": 1}, outputs=outputs)


def test_an_undecodable_tensor_names_its_alias() -> None:
    """It comes before the output filter."""
    request = predict_pb2.PredictRequest.FromString(predict_bytes({"a": 1.0, "b": 1}, ("zz",)))
    request.inputs["b"].tensor_content = b"abc"
    call = tfs_grpc.parse_predict(request.SerializeToString())

    with pytest.raises(DecodeError, match=r"^tensor parsing error: b$"):
        tfs_grpc.decode_inputs(call, TWO_IN_TWO_OUT)


def test_the_inputs_share_the_limit_of_claimed_elements() -> None:
    """Many inputs cannot claim what one may not."""
    half = tensor_proto.MAX_ELEMENTS // 2 + 2
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "m"
    for alias in "ab":
        request.inputs[alias].dtype = 10  # a byte each
        request.inputs[alias].tensor_shape.dim.add().size = half

    with pytest.raises(TooLarge, match="'b' claims 33554434 elements and sends 0"):
        tfs_grpc.decode_inputs(tfs_grpc.parse_predict(request.SerializeToString()), UNDECLARED)


def test_a_huge_claim_is_refused_at_once() -> None:
    """2^50 elements in forty bytes: the real server blocks for ten seconds before it says the same."""
    request = predict_pb2.PredictRequest.FromString(predict_bytes({"x": 1.0}))
    request.inputs["x"].tensor_shape.dim.add().size = 2**50
    call = tfs_grpc.parse_predict(request.SerializeToString())

    with pytest.raises(DecodeError, match=r"^tensor parsing error: x$"):
        tfs_grpc.decode_inputs(call, UNDECLARED)


@given(st.data())
def test_a_cut_or_mutated_request_never_raises_anything_else(data: st.DataObject) -> None:
    """Hostile bytes end in columns or in one of our errors."""
    inputs = {"a": np.arange(3, dtype="f4"), "b": np.array([b"s", b""]), "c": 2j, "d": [True]}
    raw = bytearray(predict_bytes(inputs, ("o",), version=3))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    message = bytes(raw[: data.draw(st.integers(0, len(raw)))])
    try:
        columns = tfs_grpc.decode_inputs(tfs_grpc.parse_predict(message), UNDECLARED)
    except BatchProxyError:
        return

    assert all(isinstance(column, ArrayColumn) for column in columns.values())


# ---------------------------------------------------------------- Predict: the answer


def test_the_clients_messages_read_our_answer() -> None:
    """Outputs with their values; the spec has name, concrete version and resolved signature."""
    arrays = {"f": np.array([[0.5], [2]], np.float32), "s": np.array([b"\xff", b""], object), "i": np.array(3)}
    reply = Reply({alias: ArrayColumn(array) for alias, array in arrays.items()}, version=4)
    response = predict_pb2.PredictResponse.FromString(tfs_grpc.encode_predict(reply, "m", "sig"))

    assert ("m", 4, "sig") == (
        response.model_spec.name,
        response.model_spec.version.value,
        response.model_spec.signature_name,
    )
    assert response.model_spec.WhichOneof("version_choice") == "version"
    assert set(arrays) == set(response.outputs)
    for alias, array in arrays.items():
        assert tf.make_ndarray(response.outputs[alias]).tolist() == array.tolist()
        assert response.outputs[alias].tensor_content == b""


def test_outputs_that_cannot_be_sent_name_model_and_output() -> None:
    """Dates have no type, and lists are not for servers."""
    dates = Reply({"d": ArrayColumn(np.array(["2020"], "M8[D]"))}, 1)
    items = Reply({"l": ListColumn([1])}, 1)

    with pytest.raises(
        BackendProtocolError, match=r"^model 'm', output 'd': the model gave an array of dtype datetime"
    ):
        tfs_grpc.encode_predict(dates, "m", "s")
    with pytest.raises(BackendProtocolError, match="output 'l' is no array. This is a bug"):
        tfs_grpc.encode_predict(items, "m", "s")


# ---------------------------------------------------------------- GetModelStatus


@pytest.mark.parametrize("name", ["m", ""])
def test_status_requests(name: str) -> None:
    """A name is not demanded: the empty one is not found later."""
    request = STATUS_REQUEST()
    request.model_spec.name = name
    request.model_spec.version.value = 3

    assert Target(name, version=3) == tfs_grpc.parse_status(request.SerializeToString())
    with pytest.raises(RequestError, match=r"^Missing ModelSpec$"):
        tfs_grpc.parse_status(b"")


def test_status_answers_list_the_newest_version_first() -> None:
    """State, code and text of each version; an empty status where all is well."""
    failed = VersionStatus(10, State.END, Code.NOT_FOUND, "no file")
    raw = tfs_grpc.encode_status([VersionStatus(2), failed])
    lines = get_model_status_pb2.GetModelStatusResponse.FromString(raw).model_version_status

    assert [(10, 50, 5, "no file"), (2, 30, 0, "")] == [
        (line.version, line.state, line.status.error_code, line.status.error_message) for line in lines
    ]
    assert lines[1].HasField("status")


def test_states_are_the_real_ones() -> None:
    """Names and numbers of ``ModelVersionStatus.State``."""
    theirs = get_model_status_pb2.ModelVersionStatus.State.items()

    assert dict(theirs) == {state.name: state.value for state in State}


# ---------------------------------------------------------------- GetModelMetadata


def metadata_bytes(*fields: str, name: str = "m") -> bytes:
    """A GetModelMetadataRequest of the real package."""
    request = METADATA_REQUEST(metadata_field=fields)
    request.model_spec.name = name
    data: bytes = request.SerializeToString()
    return data


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (b"", "Missing ModelSpec"),
        (metadata_bytes(name=""), "GetModelMetadataRequest must specify at least one metadata_field"),
        (metadata_bytes("signature_def", "zz", name=""), "Metadata field zz is not supported"),
        (metadata_bytes("signature_def", name=""), "ModelSpec has no name specified."),
    ],
)
def test_metadata_requests_that_are_refused(message: bytes, text: str) -> None:
    """In the server's order: spec, fields, name."""
    with pytest.raises(RequestError) as caught:
        tfs_grpc.parse_metadata(message)

    assert text == caught.value.message


def test_metadata_requests_may_repeat_the_field() -> None:
    """Asking twice is asking once."""
    assert Target("m") == tfs_grpc.parse_metadata(metadata_bytes("signature_def", "signature_def"))


def test_the_clients_messages_read_our_metadata() -> None:
    """Every signature with names, dtypes and shapes, packed under the real message's name."""
    signature = Signature(
        {"a": TensorSpec("float16", (None, 3), "a:0")},
        {"o": TensorSpec("string"), "p": TensorSpec("bool", ())},
        method_name="tensorflow/serving/classify",
    )
    raw = tfs_grpc.encode_metadata(ModelInfo("m", 5, {"s": signature, "bare": UNDECLARED}))
    response = get_model_metadata_pb2.GetModelMetadataResponse.FromString(raw)
    packed = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(packed)
    read = packed.signature_def["s"]
    specs = {
        alias: (info.name, info.dtype, [dim.size for dim in info.tensor_shape.dim], info.tensor_shape.unknown_rank)
        for alias, info in [*read.inputs.items(), *read.outputs.items()]
    }

    assert ("m", 5, "") == (
        response.model_spec.name,
        response.model_spec.version.value,
        response.model_spec.signature_name,
    )
    assert {"s", "bare"} == set(packed.signature_def)
    assert read.method_name == "tensorflow/serving/classify"
    assert {"a": ("a:0", 19, [-1, 3], False), "o": ("o", 7, [], True), "p": ("p", 10, [], False)} == specs


# ---------------------------------------------------------------- texts and methods


@given(st.text(max_size=10), st.integers(1000, 1100))
def test_long_texts_are_cut(text: str, size: int) -> None:
    """1,024 bytes stay, whole characters only, and the cut is told."""
    message = text + "ä" * size
    status = tfs_grpc.status_text(RequestError(message))
    kept = status.removesuffix("...TRUNCATED")

    assert message.startswith(kept)
    assert 1023 <= len(kept.encode()) <= 1024


def test_short_texts_stay() -> None:
    """Up to and including 1,024 bytes; what is no UTF-8 is replaced."""
    assert tfs_grpc.status_text(RequestError("a" * 1024)) == "a" * 1024
    assert tfs_grpc.status_text(RequestError("a" * 1025)) == "a" * 1024 + "...TRUNCATED"
    assert tfs_grpc.status_text(RequestError("\ud800")) == "?"


def test_methods_are_those_of_the_real_services() -> None:
    """Full names, as they travel in ``:path``."""
    services = prediction_service_pb2.DESCRIPTOR.services_by_name["PredictionService"]
    theirs = {f"/{services.full_name}/{method.name}" for method in services.methods}

    assert theirs == {method for method in tfs_grpc.METHODS if "PredictionService" in method}
    assert {tfs_grpc.GET_MODEL_STATUS, tfs_grpc.RELOAD_CONFIG} == set(tfs_grpc.METHODS) - theirs
