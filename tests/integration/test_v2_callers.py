"""Callers of the Open Inference Protocol before a running proxy: tritonclient, in an environment of its own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.proxy import Proxy, running
from tests.servers.fixture import python_of

CLIENT = Path(__file__).parents[1] / "servers" / "triton_client.py"
CALLERS = 48
"""Of each of the client's two asynchronous tests."""


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxy]:
    """A function that echoes, and one with numbered rows."""
    with running({"echo": "python:tests.models:undeclared", "numbered": "python:tests.models:numbered"}) as one:
        yield one


def test_tritonclient_asks_by_every_way_it_has(proxy: Proxy) -> None:
    """Each type by JSON, buffers and gRPC; documents, errors; 96 callers at once, merged, each with its own id."""
    line = [python_of("triton"), CLIENT, proxy.rest.removeprefix("http://"), proxy.grpc]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)

    assert ("", 0) == (done.stderr[-2000:], done.returncode)
    assert CALLERS == proxy.metric("batchproxy_requests_total", model="numbered", code="OK", method="infer")
    assert CALLERS == proxy.metric("batchproxy_requests_total", model="numbered", code="OK", method="ModelInfer")
    assert proxy.metric("batchproxy_backend_calls_total", model="numbered") < 2 * CALLERS


def test_an_onnx_model_answers_both_protocols(tmp_path: Path) -> None:
    """The same rows by v2 JSON, by a query of TF Serving's, and by ``curl``; v2 metadata is the model's own."""
    file = tmp_path / "model.onnx"
    rows = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["twice"]), helper.make_node("Identity", ["name"], ["same"])],
        "g",
        [rows("x", TensorProto.FLOAT, ["n", 2]), rows("name", TensorProto.STRING, ["n"])],
        [rows("twice", TensorProto.FLOAT, ["n", 2]), rows("same", TensorProto.STRING, ["n"])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), file)
    with running({"m": f"onnx:{file}"}) as proxy:
        x = {"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [[1, 2], [0.1, 4]]}
        name = {"name": "name", "shape": [2], "datatype": "BYTES", "data": ["a", "ü"]}
        status, answer = proxy.post("/v2/models/m/versions/1/infer", {"id": "7", "inputs": [x, name]})
        rows = {"inputs": {"x": x["data"], "name": name["data"]}}
        theirs = json.loads(proxy.post("/v1/models/m:predict", rows)[1])["outputs"]
        metadata = json.loads(proxy.get(f"{proxy.rest}/v2/models/m")[1])
        ready = [proxy.get(f"{proxy.rest}/v2/{path}")[0] for path in ("health/live", "health/ready", "models/m/ready")]
        missing = proxy.post("/v2/models/m/versions/9/infer", {"inputs": [x, name]})

    ours = {output["name"]: output["data"] for output in json.loads(answer)["outputs"]}
    assert (200, "7", "1") == (status, json.loads(answer)["id"], json.loads(answer)["model_version"])
    assert ours == {"twice": np.ravel(theirs["twice"]).tolist(), "same": theirs["same"]}
    assert [("x", "FP32", [-1, 2]), ("name", "BYTES", [-1])] == [tuple(row.values()) for row in metadata["inputs"]]
    assert [200, 200, 200] == ready
    assert (404, {"error": "Request for unknown model: 'm' version 9 is not found"}) == (
        missing[0],
        json.loads(missing[1]),
    )
