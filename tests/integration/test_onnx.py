"""ONNX models of every kind through the real server, by REST and by gRPC; versions switched to under load."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import grpc
import numpy as np
import pytest

from batchproxy.backends.onnx import OnnxBackend
from batchproxy.codecs import tensor_proto, tfs_grpc
from batchproxy.core.columns import ArrayColumn
from batchproxy.core.request import BatchKey
from batchproxy.core.shapes import DEFAULT_SIGNATURE
from batchproxy.protos import tfs_pb2 as pb
from tests.onnx_models import ZOO, adding, write
from tests.proxy import Proxy, running, started
from tests.servers.callers import Place, v2_binary, v2_grpc_call, v2_json

ROWS: Mapping[str, list[dict[str, Any]]] = {
    "dense": [{"x": [n / 8, 1, -2, 0.5], "number": n} for n in range(16)],
    "convnet": [{"image": np.full((8, 8, 3), n / 4).tolist()} for n in range(8)],
    "text": [{"words": word} for word in ("a", "", "für", "\u20ac", "nul\x00", *"bcdefgh")],
    "whole": [{"n": n} for n in (0, 1, -5, 2**53 + 1, -(2**61))],
    "pair": [{"price": n / 2, "count": n} for n in range(16)],
    "lengths": [{"x": [1.0] * n} for n in (1, 2, 3, 2, 1, 3, 3, 5)],
    "single": [{"x": [n, n + 1, n + 2]} for n in range(8)],
    "scalar": [{"x": n} for n in range(8)],
    "chooser": [{"x": [float(n), 3.0, 5.5]} for n in range(8)],
}
DTYPES = {"number": np.int64, "n": np.int64, "count": np.int64, "words": np.object_}
TOLERANCE = {
    "dense": 2e-6,
    "convnet": 2e-6,
    "chooser": 2e-6,
}  # matrix products round in another way in company (R1); others are exact


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every kind, written."""
    place = tmp_path_factory.mktemp("zoo")
    for name, made in ZOO.items():
        write(place / name, 1, made())
    return place


@pytest.fixture(scope="module")
def proxy(folder: Path) -> Iterator[Proxy]:
    """Every kind, served."""
    with running({name: f"onnx:{folder / name}" for name in ZOO}) as one:
        yield one


def arrays(row: Mapping[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """One row as a model takes it."""
    found: dict[str, np.ndarray[Any, Any]] = {}
    for alias, value in row.items():
        data = value.encode() if isinstance(value, str) else value
        found[alias] = np.array([data], DTYPES.get(alias, np.float32))
    return found


def alone(folder: Path, name: str) -> list[dict[str, Any]]:
    """What each row gives by itself, straight from the model."""
    backend = OnnxBackend(folder / name, threads=1)
    found = []
    for row in ROWS[name]:
        columns = {alias: ArrayColumn(array) for alias, array in arrays(row).items()}
        outputs = backend.run(BatchKey(name, 1, DEFAULT_SIGNATURE), columns)
        found.append({alias: column.array for alias, column in outputs.items() if isinstance(column, ArrayColumn)})
    return found


def by_rest(proxy: Proxy, name: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """One row in column form, its answer by output."""
    body = {"inputs": {alias: [value] for alias, value in row.items()}}
    status, answer = proxy.post(f"/v1/models/{name}:predict", body)
    assert 200 == status, answer
    outputs = json.loads(answer)["outputs"]
    return outputs if isinstance(outputs, dict) else {"": outputs}


def by_grpc(channel: grpc.Channel, name: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """The same by gRPC."""
    request = pb.PredictRequest()
    request.model_spec.name = name
    for alias, array in arrays(row).items():
        tensor_proto.write(array, request.inputs[alias])
    call = channel.unary_unary(tfs_grpc.PREDICT)
    response = pb.PredictResponse.FromString(call(request.SerializeToString(), timeout=30))
    assert 1 == response.model_spec.version.value
    return {alias: tensor_proto.to_array(proto, alias) for alias, proto in response.outputs.items()}


@pytest.mark.parametrize("name", list(ZOO))
def test_every_kind_by_the_other_protocol(proxy: Proxy, folder: Path, name: str) -> None:
    """The Open Inference Protocol's REST and gRPC: the same values, types and shapes, outputs of rank 0 among them."""
    due = alone(folder, name)
    place = Place(proxy.rest.removeprefix("http://"), proxy.grpc)
    work = [*range(len(due))] * 2
    with ThreadPoolExecutor(8) as callers:
        for call in (v2_json, v2_binary, v2_grpc_call):
            said = list(callers.map(lambda at: call(place, name, arrays(ROWS[name][at])), work))  # noqa: B023 - as below

            for at, answer in zip(work, said, strict=True):
                assert set(due[at]) == set(answer)
                for alias, value in due[at].items():
                    assert (value.dtype, value.shape) == (answer[alias].dtype, answer[alias].shape)
                    if value.dtype == object:
                        assert value.tolist() == answer[alias].tolist()
                    else:
                        tolerance = TOLERANCE.get(name, 0)
                        np.testing.assert_allclose(answer[alias], value, tolerance, tolerance)
    place.close()


@pytest.mark.parametrize("name", list(ZOO))
def test_every_kind_by_both_doors(proxy: Proxy, folder: Path, name: str) -> None:
    """Sixteen callers at once, each gets what its row gives by itself: value, type and shape."""
    due = alone(folder, name)
    work = [*range(len(due))] * 6
    with grpc.insecure_channel(proxy.grpc) as channel, ThreadPoolExecutor(16) as callers:
        said = list(callers.map(lambda at: by_grpc(channel, name, ROWS[name][at]), work))
        written = list(callers.map(lambda at: by_rest(proxy, name, ROWS[name][at]), work))

    for at, answer, text in zip(work, said, written, strict=True):
        assert set(due[at]) == set(answer)
        for alias, value in due[at].items():
            shown = text[alias] if alias in text else text[""]
            assert (value.dtype, value.shape) == (answer[alias].dtype, answer[alias].shape)
            if value.dtype == object:
                assert value.tolist() == answer[alias].tolist() == [item.encode() for item in shown]
            else:
                tolerance = TOLERANCE.get(name, 0)
                np.testing.assert_allclose(answer[alias], value, tolerance, tolerance)
                np.testing.assert_allclose(np.array(shown, value.dtype), value, max(tolerance, 1e-6), tolerance)


def test_what_may_not_be_merged_is_not(proxy: Proxy, folder: Path) -> None:
    """A fixed batch of one, and an output of rank 0: as many calls as requests."""
    for name in ("single", "scalar"):
        before = proxy.metric("batchproxy_backend_calls_total", model=name)
        with ThreadPoolExecutor(8) as callers:
            list(callers.map(lambda row: by_rest(proxy, name, row), ROWS[name]))  # noqa: B023 - done before the next

        assert len(ROWS[name]) == proxy.metric("batchproxy_backend_calls_total", model=name) - before


def test_wrong_shapes_are_the_models_to_refuse(proxy: Proxy) -> None:
    """Two rows for a fixed batch of one, a row too short: onnxruntime's own words, 400."""
    for name, body in (
        ("single", {"instances": [[1, 2, 3], [4, 5, 6]]}),
        ("dense", {"inputs": {"x": [[1]], "number": [1]}}),
    ):
        status, answer = proxy.post(f"/v1/models/{name}:predict", body)

        assert (400, True) == (status, b"Got invalid dimensions for input" in answer)


def test_classify_and_regress(proxy: Proxy, folder: Path) -> None:
    """By REST, batched with Predict: the label that was chosen with its probability; a sum a row."""
    due = alone(folder, "chooser")
    with ThreadPoolExecutor(8) as callers:
        answers = list(
            callers.map(lambda row: proxy.post("/v1/models/chooser:classify", {"examples": [row]}), ROWS["chooser"])
        )
    status, summed = proxy.post("/v1/models/lengths:regress", {"examples": [{"x": [1.0, 2.5]}, {"x": [3, 4]}]})

    for (found, body), outputs in zip(answers, due, strict=True):
        [[[label, score]]] = json.loads(body)["results"]
        assert (200, str(outputs["label"][0])) == (found, label)
        assert pytest.approx(float(outputs["probabilities"].max()), rel=2e-6) == score
    assert (200, {"results": [3.5, 7.0]}) == (status, json.loads(summed))


# ---------------------------------------------------------------- versions


def states(proxy: Proxy) -> dict[str, str]:
    """Version to state, as a caller is told."""
    status, body = proxy.get(f"{proxy.rest}/v1/models/m")
    assert 200 == status
    return {line["version"]: line["state"] for line in json.loads(body)["model_version_status"]}


def test_a_switch_under_load(tmp_path: Path) -> None:
    """From 1 to 2 to 3, with a broken one between: not one request fails, all see versions in order, by both doors."""
    write(tmp_path, 1, adding(1))
    stop = Event()

    def ask_rest() -> list[float]:
        seen = []
        while not stop.is_set():
            status, body = server.post("/v1/models/m:predict", {"instances": [10.0]})
            assert 200 == status, body
            seen.append(json.loads(body)["predictions"][0] - 10)
        return seen

    def ask_grpc() -> list[float]:
        seen = []
        with grpc.insecure_channel(server.grpc) as channel:
            call = channel.unary_unary(tfs_grpc.PREDICT)
            request = pb.PredictRequest()
            request.model_spec.name = "m"
            tensor_proto.write(np.array([10], np.float32), request.inputs["x"])
            while not stop.is_set():
                response = pb.PredictResponse.FromString(call(request.SerializeToString(), timeout=30))
                value = tensor_proto.to_array(response.outputs["y"], "y")[0] - 10
                assert response.model_spec.version.value == value
                seen.append(float(value))
        return seen

    with running({"m": f"onnx:{tmp_path}"}, file_system_poll_wait_seconds=0.05) as server:
        with ThreadPoolExecutor(8) as callers:
            asking: list[Future[list[float]]] = [callers.submit(ask) for ask in (ask_rest, ask_grpc) * 4]
            try:
                write(tmp_path, 2, adding(2))
                while states(server) != {"1": "END", "2": "AVAILABLE"}:
                    assert not any(one.done() for one in asking)
                (tmp_path / "4").mkdir()
                (tmp_path / "4" / "model.onnx").write_bytes(b"broken")
                while "4" not in states(server) or states(server)["4"] != "END":
                    assert not any(one.done() for one in asking)
                assert "AVAILABLE" == states(server)["2"]
                write(tmp_path, 5, adding(5))
                while states(server) != {"1": "END", "2": "END", "4": "END", "5": "AVAILABLE"}:
                    assert not any(one.done() for one in asking)
            finally:
                stop.set()
            answers = [one.result() for one in asking]
        status, refused = server.post("/v1/models/m/versions/1:predict", {"instances": [1.0]})
        server.stop()

    for seen in answers:
        assert sorted(seen) == seen
        assert {1.0, 2.0, 5.0} >= set(seen)
    assert 404 == status
    assert {"error": "Servable not found for request: Specific(m, 1)"} == json.loads(refused)
    assert 1 == sum("version 4 cannot be loaded" in line for line in server.log)


def test_several_versions_and_labels(tmp_path: Path) -> None:
    """Numbers, labels, metadata and states by both doors, as TF Serving answers them."""
    for version in (1, 2, 3):
        write(tmp_path, version, adding(version))
    onnx = {"model_version_policy": {"specific": [1, 3]}, "version_labels": {"stable": 1, "canary": 3}}
    pool = {"name": "p", "endpoints": [f"onnx:{tmp_path}"], "onnx": onnx}
    with started([], {"pools": [pool], "models": [{"name": "m", "pool": "p"}]}) as proxy:
        found = {
            place: proxy.post(f"/v1/models/m{place}:predict", {"instances": [0.0]})
            for place in ("", "/versions/1", "/versions/2", "/labels/stable", "/labels/canary", "/labels/none")
        }
        metadata = [
            json.loads(proxy.get(f"{proxy.rest}/v1/models/m{place}/metadata")[1])["model_spec"]["version"]
            for place in ("", "/versions/1", "/labels/stable")
        ]
        one = json.loads(proxy.get(f"{proxy.rest}/v1/models/m/versions/3")[1])
        absent = proxy.get(f"{proxy.rest}/v1/models/m/versions/2")
        with grpc.insecure_channel(proxy.grpc) as channel:
            request = pb.GetModelStatusRequest()
            request.model_spec.name = "m"
            status = pb.GetModelStatusResponse.FromString(
                channel.unary_unary(tfs_grpc.GET_MODEL_STATUS)(request.SerializeToString(), timeout=30)
            )
            labelled = pb.PredictRequest()
            labelled.model_spec.name, labelled.model_spec.version_label = "m", "stable"
            tensor_proto.write(np.zeros(1, np.float32), labelled.inputs["x"])
            answer = pb.PredictResponse.FromString(
                channel.unary_unary(tfs_grpc.PREDICT)(labelled.SerializeToString(), timeout=30)
            )

    values = {place: json.loads(body).get("predictions") for place, (_, body) in found.items()}
    assert {
        "": [3.0],
        "/versions/1": [1.0],
        "/versions/2": None,
        "/labels/stable": [1.0],
        "/labels/canary": [3.0],
        "/labels/none": None,
    } == values
    assert (404, {"error": "Servable not found for request: Specific(m, 2)"}) == (
        found["/versions/2"][0],
        json.loads(found["/versions/2"][1]),
    )
    assert (400, {"error": "Unrecognized servable version label: none"}) == (
        found["/labels/none"][0],
        json.loads(found["/labels/none"][1]),
    )
    assert ["3", "1", "1"] == metadata
    assert [("3", "AVAILABLE")] == [(line["version"], line["state"]) for line in one["model_version_status"]]
    assert (404, {"error": "Could not find version 2 of model m"}) == (absent[0], json.loads(absent[1]))
    assert [(3, 30), (1, 30)] == [(line.version, line.state) for line in status.model_version_status]
    assert 1 == answer.model_spec.version.value
