"""Callers of the Open Inference Protocol before a running proxy: tritonclient, in an environment of its own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import grpc
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from batchproxy.codecs import tfs_grpc, v2_grpc
from batchproxy.core.columns import ArrayColumn
from batchproxy.core.request import BatchKey
from batchproxy.protos import tfs_pb2, v2_pb2
from tests.proxy import Proxy, running, running_in_front_of
from tests.remote import PLUG, in_one_call, plug, predict_message, until_merged
from tests.servers.fixture import python_of
from tests.tfserving.fixture import running_server

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
    """The same rows by either JSON; the metadata is the model's own."""
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
        x, name = [[1, 2], [0.1, 4]], ["a", "ü"]
        inputs = [
            {"name": "x", "shape": [2, 2], "datatype": "FP32", "data": x},
            {"name": "name", "shape": [2], "datatype": "BYTES", "data": name},
        ]
        status, answer = proxy.post("/v2/models/m/versions/1/infer", {"id": "7", "inputs": inputs})
        theirs = json.loads(proxy.post("/v1/models/m:predict", {"inputs": {"x": x, "name": name}})[1])["outputs"]
        metadata = json.loads(proxy.get(f"{proxy.rest}/v2/models/m")[1])
        ready = [proxy.get(f"{proxy.rest}/v2/{path}")[0] for path in ("health/live", "health/ready", "models/m/ready")]
        missing = proxy.post("/v2/models/m/versions/9/infer", {"inputs": inputs})

    ours = {output["name"]: output["data"] for output in json.loads(answer)["outputs"]}
    assert (200, "7", "1") == (status, json.loads(answer)["id"], json.loads(answer)["model_version"])
    assert ours == {"twice": np.ravel(theirs["twice"]).tolist(), "same": theirs["same"]}
    assert [("x", "FP32", [-1, 2]), ("name", "BYTES", [-1])] == [tuple(row.values()) for row in metadata["inputs"]]
    assert [200, 200, 200] == ready
    assert (404, {"error": "Request for unknown model: 'm' version 9 is not found"}) == (
        missing[0],
        json.loads(missing[1]),
    )


def test_callers_of_all_four_protocols_share_a_call_of_tf_serving() -> None:
    """TF Serving's REST and gRPC, the Open Inference Protocol's REST and gRPC: one call, to each its own row."""
    key = BatchKey("int64_model", None, "serving_default")
    v2_message = v2_grpc.encode_infer_request(key, {"x": ArrayColumn(np.array([4], np.int64))})
    tensor = {"name": "x", "shape": [1], "datatype": "INT64", "data": [3]}
    with (
        running_server(models=[PLUG, "int64_model"]) as server,
        running_in_front_of([server], doors=["grpc"], pool={"max_inflight": 1}) as proxy,
        grpc.insecure_channel(proxy.grpc) as channel,
    ):
        ask_tfs = partial(channel.unary_unary(tfs_grpc.PREDICT), timeout=30)
        ask_v2 = partial(channel.unary_unary(v2_grpc.MODEL_INFER), timeout=30)
        asks = [
            partial(proxy.post, "/v1/models/int64_model:predict", {"instances": [1]}),
            partial(ask_tfs, predict_message("int64_model", {"x": np.array([2], np.int64)})),
            partial(proxy.post, "/v2/models/int64_model/infer", {"id": "three", "inputs": [tensor]}),
            partial(ask_v2, v2_message),
        ]
        until_merged(proxy, PLUG, partial(plug, proxy))
        until_merged(proxy, "int64_model", asks[2])
        server.reset()
        found = in_one_call(server, proxy, asks, len(asks))
        rows = server.counters()["rows"]["int64_model"]
    of_v2 = json.loads(found[2][1])
    of_v2_grpc = v2_pb2.ModelInferResponse.FromString(found[3])

    assert [4] == rows
    assert {"predictions": [3]} == json.loads(found[0][1])
    assert [5] == list(tfs_pb2.PredictResponse.FromString(found[1]).outputs["y"].int64_val)
    assert ("three", [7]) == (of_v2["id"], of_v2["outputs"][0]["data"])
    assert [9] == np.frombuffer(of_v2_grpc.raw_output_contents[0], np.int64).tolist()
