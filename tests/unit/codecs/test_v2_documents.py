"""Paths and documents of the Open Inference Protocol over REST."""

from __future__ import annotations

import json

import pytest

from batchproxy.codecs import v2_documents
from batchproxy.codecs.v2_documents import Target
from batchproxy.core.errors import BackendProtocolError, BatchProxyError, Code, DecodeError
from batchproxy.core.shapes import ModelInfo, Signature, TensorSpec

SIGNATURE = Signature({"x": TensorSpec("float32", (None, 2))}, {"y": TensorSpec("string")})
INFO = ModelInfo("m", 3, {"serving_default": SIGNATURE})


@pytest.mark.parametrize(
    ("line", "target"),
    [
        ("POST /v2/models/m/infer", Target("infer", "m")),
        ("POST /v2/models/m/versions/7/infer", Target("infer", "m", 7)),
        ("POST /v2/models/m/versions/stable/infer", Target("infer", "m", "stable")),
        ("POST /v2/models/a%2Fb/infer?x=1", Target("infer", "a/b")),
        ("POST /v2/repository/index", Target("index")),
        ("GET /v2", Target("server")),
        ("GET /v2/", Target("server")),
        ("GET /v2/health/live", Target("live")),
        ("GET /v2/health/ready", Target("ready")),
        ("GET /v2/models/m", Target("metadata", "m")),
        ("GET /v2/models/m/versions/2", Target("metadata", "m", 2)),
        ("GET /v2/models/m/ready", Target("ready", "m")),
        ("GET /v2/models/m/config", Target("config", "m")),
        ("GET /v2/models/m/stats", Target("stats", "m")),
        ("GET /v2/models/stats", Target("stats")),
        ("GET /v2/models/m/infer", None),
        ("POST /v2/models/m", None),
        ("PUT /v2/models/m", None),
        ("DELETE /v2", None),
        ("POST /v2/repository/models/m/load", None),
        ("GET /v2/systemsharedmemory/status", None),
        ("GET /v2x", None),
        ("GET /v1/models/m", None),
    ],
)
def test_paths(line: str, target: Target | None) -> None:
    """What is not ours to answer is nothing that we know."""
    method, _, path = line.partition(" ")

    assert target == v2_documents.parse_target(method, path)


def test_a_version_beyond_64_bits() -> None:
    """It is refused, not passed on."""
    with pytest.raises(DecodeError, match="beyond 64 bits"):
        v2_documents.parse_target("GET", f"/v2/models/m/versions/{2**63}")


@pytest.mark.parametrize("target", [Target("infer", "a/ b", 3), Target("infer", "ü:%", "x/y"), Target("infer", "m")])
def test_paths_come_back(target: Target) -> None:
    """Whatever models and versions are called."""
    path = v2_documents.model_path(target.model, target.version, "infer")

    assert target == v2_documents.parse_target("POST", path)


def test_metadata_comes_back() -> None:
    """An unknown rank as one open axis."""
    there = Signature(SIGNATURE.inputs, {"y": TensorSpec("string", (None,))})
    body = v2_documents.encode_metadata(INFO, SIGNATURE)

    assert ModelInfo("m", 3, {"serving_default": there}) == v2_documents.decode_metadata(body)
    assert {"name": "x", "datatype": "FP32", "shape": [-1, 2]} == json.loads(body)["inputs"][0]


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'{"name": 3}', b'{"name": "m", "inputs": [{"name": "x", "datatype": "FP8", "shape": []}]}']
)
def test_documents_of_servers_that_are_none(body: bytes) -> None:
    """A protocol error."""
    with pytest.raises(BackendProtocolError, match="the server's metadata"):
        v2_documents.decode_metadata(body)


def test_documents_of_the_server_itself() -> None:
    """Its name comes back, with what it can do; a document without extensions has none."""
    body = v2_documents.encode_server_metadata("s", "1", ["e"])

    assert ("s", ["e"]) == v2_documents.decode_server_metadata(body)
    assert ("s", ()) == v2_documents.decode_server_metadata(b'{"name": "s"}')
    with pytest.raises(BackendProtocolError, match="the server's metadata"):
        v2_documents.decode_server_metadata(b"{}")


def test_configuration_and_index() -> None:
    """In Triton's words."""
    config = json.loads(v2_documents.encode_config(INFO, SIGNATURE))

    assert [{"name": "y", "data_type": "TYPE_STRING", "dims": [-1]}] == config["output"]
    assert ("m", 0) == (config["name"], config["max_batch_size"])
    assert [{"name": "m", "version": "3", "state": "READY"}] == json.loads(v2_documents.encode_index([("m", 3)]))


def test_errors_come_back() -> None:
    """Ours by their status; any server's as text, FastAPI's and pages of gateways among them."""
    status, body = v2_documents.encode_error(BatchProxyError("half a pair: \ud800", code=Code.UNAVAILABLE))

    assert (503, "half a pair: ?") == (status, v2_documents.decode_error(body))
    assert "gone" == v2_documents.decode_error(b'{"detail": "gone"}')
    for page in (b'{"error": {"a": 1}}', b"<html>", b"[1]"):
        assert page.decode() == v2_documents.decode_error(page)
    assert 1024 == len(v2_documents.decode_error(b"x" * 5000))
