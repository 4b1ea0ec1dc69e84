"""What a client asks of models, and reads: metadata, status, paths and errors, with the real API at the other end."""

from __future__ import annotations

import json
import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # before the import: TensorFlow writes to stderr otherwise
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2

from batchproxy.codecs import tfs_calls, tfs_documents, tfs_grpc
from batchproxy.codecs.tfs_grpc import State, VersionStatus
from batchproxy.core.errors import BackendProtocolError, Code
from batchproxy.core.request import Version
from batchproxy.core.shapes import ModelInfo, Signature, TensorSpec

VERSIONS = st.one_of(st.none(), st.integers(0, 2**63 - 1), st.text(max_size=9))
NAMES = st.text(max_size=300)


# ---------------------------------------------------------------- metadata


INFO = ModelInfo(
    "m",
    7,
    {
        "serving_default": Signature(
            {"x": TensorSpec("float32", (None, 3), "x:0"), "t": TensorSpec("string", None, "t:0")},
            {"y": TensorSpec("bfloat16", (), "y:0")},
        ),
        "other": Signature({}, {}, method_name="tensorflow/serving/regress"),
        "__saved_model_init_op": Signature({}, {"op": TensorSpec("DT_INVALID", None, "NoOp")}, method_name=""),
    },
)


def test_metadata_is_read_by_both_protocols() -> None:
    """What our own server side writes, which strangers read (its own tests)."""
    assert INFO == tfs_calls.decode_metadata_reply(tfs_grpc.encode_metadata(INFO))
    assert INFO == tfs_calls.decode_metadata_document(tfs_documents.encode_metadata(INFO))


@given(NAMES, VERSIONS)
def test_questions_as_strangers_read_them(model: str, version: Version) -> None:
    """Model, version or label, and the one field there is."""
    metadata = get_model_metadata_pb2.GetModelMetadataRequest.FromString(
        tfs_calls.encode_metadata_request(model, version)
    )
    status = get_model_status_pb2.GetModelStatusRequest.FromString(tfs_calls.encode_status_request(model, version))
    spec = metadata.model_spec

    assert ["signature_def"] == list(metadata.metadata_field)
    assert spec == status.model_spec
    assert (model, "") == (spec.name, spec.signature_name)
    assert version == (None if not (choice := spec.WhichOneof("version_choice")) else _chosen(spec, choice))


def _chosen(spec: Any, choice: str) -> Any:
    return spec.version.value if choice == "version" else spec.version_label


def test_types_that_we_do_not_carry_keep_tensorflows_name() -> None:
    """A signature may have them; a shape that is not told is of unknown rank."""
    signatures = get_model_metadata_pb2.SignatureDefMap()
    inputs = signatures.signature_def["s"].inputs
    inputs["r"].dtype = 20
    inputs["n"].dtype = 99
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.metadata["signature_def"].Pack(signatures)
    info = tfs_calls.decode_metadata_reply(response.SerializeToString())

    assert {"r": TensorSpec("DT_RESOURCE"), "n": TensorSpec("DT_99")} == info.signatures["s"].inputs


def test_a_sparse_input_in_a_rest_document() -> None:
    """It has neither a name nor, perhaps, a shape."""
    info = {"dtype": "DT_VARIANT", "coo_sparse": {}}
    definition = {"inputs": {"x": info}, "outputs": {}, "method_name": "p"}
    body = {
        "model_spec": {"name": "m", "version": "1"},
        "metadata": {"signature_def": {"signature_def": {"s": definition}}},
    }
    read_back = tfs_calls.decode_metadata_document(json.dumps(body).encode())

    assert {"x": TensorSpec("DT_VARIANT")} == read_back.signatures["s"].inputs


@pytest.mark.parametrize("message", [b"\xff", b""])
def test_no_metadata_by_grpc(message: bytes) -> None:
    """No message, or one without signatures."""
    with pytest.raises(BackendProtocolError, match="GetModelMetadata"):
        tfs_calls.decode_metadata_reply(message)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"metadata": 3}', b'{"metadata": {"signature_def": 1}}'])
def test_no_documents(body: bytes) -> None:
    """Whatever it is instead."""
    with pytest.raises(BackendProtocolError, match="the server's metadata cannot be read"):
        tfs_calls.decode_metadata_document(body)
    with pytest.raises(BackendProtocolError, match="the server's status cannot be read"):
        tfs_calls.decode_status_document(body)


# ---------------------------------------------------------------- status


STATUSES = (
    VersionStatus(3, State.LOADING),
    VersionStatus(2, State.END, Code.NOT_FOUND, "gone"),
    VersionStatus(0, State.AVAILABLE),
)


def test_status_by_grpc() -> None:
    """Line for line."""
    assert STATUSES == tfs_calls.decode_status_reply(tfs_grpc.encode_status(STATUSES))


def test_status_of_a_newer_server() -> None:
    """States and codes that we have never heard of are UNKNOWN."""
    response = get_model_status_pb2.GetModelStatusResponse()
    response.model_version_status.add(version=1).MergeFromString(b"\x10\x63\x1a\x02\x08\x63")

    assert (VersionStatus(1, State.UNKNOWN, Code.UNKNOWN),) == tfs_calls.decode_status_reply(
        response.SerializeToString()
    )


def test_status_by_rest() -> None:
    """As a document."""
    body = tfs_documents.encode_status(STATUSES)
    other = body.replace(b'"OK"', b'"NEW"').replace(b'"NOT_FOUND"', b'"NEW"')

    assert STATUSES == tfs_calls.decode_status_document(body)
    assert {Code.UNKNOWN} == {line.code for line in tfs_calls.decode_status_document(other)}


@pytest.mark.parametrize(
    ("model", "version", "path"),
    [
        ("m", None, "/v1/models/m"),
        ("m", 0, "/v1/models/m/versions/0"),
        ("m", "stable", "/v1/models/m/labels/stable"),
        ("a/b:c?é", "x y", "/v1/models/a%2Fb%3Ac%3F%C3%A9/labels/x%20y"),
    ],
)
def test_paths(model: str, version: Version, path: str) -> None:
    """What a name could break is quoted."""
    assert path == tfs_calls.model_path(model, version)


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{ "error": "a \\"b\\" \xc3\xa9" }', 'a "b" é'),
        (b'{"error": 3}', '{"error": 3}'),
        (b"[1]", "[1]"),
        (b"<html>" + b"x" * 5000, "<html>" + "x" * 1018),
        (b"\xff", "\ufffd"),
        (b"", "503 Service Unavailable"),
    ],
)
def test_error_bodies(body: bytes, text: str) -> None:
    """TF Serving's document, or the beginning of whatever a gateway said."""
    assert text == tfs_calls.decode_error_document(body, "503 Service Unavailable")
