"""The proxy as a process: what callers and operators see of it. Strangers' clients on the other end."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest

from batchproxy.codecs import tensor_proto, tfs_grpc
from batchproxy.core.overflow import OPENING
from batchproxy.protos import tfs_pb2 as pb
from tests.proxy import ROOT, Proxy, running

NO_SCORES = (
    "Classify needs one output of scores for each example, [n, k], of float type (called 'scores' where there are "
    "several); this signature has ['y']: use Predict"
)
MODELS = {
    name: f"python:tests.models:{name}"
    for name in ("numbered", "gated", "open_gate", "picky", "total", "pairs", "undeclared", "mean_of_all")
}


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxy]:
    """One proxy for the tests that do not stop it."""
    with running({**MODELS, "digits": "onnx:batchproxy/demo/models/digits"}) as one:
        yield one


def predict_request(model: str, x: object, dtype: type = np.float32) -> pb.PredictRequest:
    """A request with the one input ``x``."""
    request = pb.PredictRequest()
    request.model_spec.name = model
    tensor_proto.write(np.asarray(x, dtype), request.inputs["x"])
    return request


def call(proxy: Proxy, request: pb.PredictRequest, timeout: float | None = 30) -> pb.PredictResponse:
    """One Predict call through grpcio, with its limit of 4 MiB lifted on the caller's side."""
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(proxy.grpc, options=options) as channel:
        predict = channel.unary_unary(
            tfs_grpc.PREDICT, pb.PredictRequest.SerializeToString, pb.PredictResponse.FromString
        )
        response: pb.PredictResponse = predict(request, timeout=timeout)
        return response


# ---------------------------------------------------------------- answers


def test_rows_and_columns_are_answered_in_tf_servings_layout(proxy: Proxy) -> None:
    """White space and number texts included."""
    rows = proxy.post("/v1/models/picky:predict", {"instances": [1.0, 2.0, 5.0]})
    columns = proxy.post("/v1/models/picky:predict", {"inputs": {"x": [1.0, 2.0]}})

    assert (200, b'{\n    "predictions": [2.5, 3.0, 4.5\n    ]\n}') == rows
    assert (200, b'{\n    "outputs": [\n        2.5,\n        3.0\n    ]\n}') == columns


def test_status_and_metadata_documents_are_answered(proxy: Proxy) -> None:
    """From what the model says of itself."""
    status, body = proxy.get(f"{proxy.rest}/v1/models/picky")
    metadata_status, metadata = proxy.get(f"{proxy.rest}/v1/models/picky/metadata")

    state = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    assert (200, {"model_version_status": [state]}) == (status, json.loads(body))
    signatures = json.loads(metadata)["metadata"]["signature_def"]["signature_def"]
    assert 200 == metadata_status
    assert "DT_FLOAT" == signatures["serving_default"]["inputs"]["x"]["dtype"]


def test_a_function_that_declares_nothing_is_served_over_both_protocols(proxy: Proxy) -> None:
    """Integers stay integers, decimals are float32, a plain list is the input x."""
    plain = proxy.post("/v1/models/undeclared:predict", {"instances": [[1.0, 2.5, 3.0]]})
    named = proxy.post("/v1/models/undeclared:predict", {"instances": [{"a": 1, "b": "t"}]})
    response = call(proxy, predict_request("undeclared", [1.5]))

    assert (200, {"predictions": [[1.0, 2.5, 3.0]]}) == (plain[0], json.loads(plain[1]))
    assert (200, {"predictions": [{"a": 1, "b": "t"}]}) == (named[0], json.loads(named[1]))
    assert [1.5] == list(response.outputs["x"].float_val)


def test_a_message_of_sixteen_mib_passes_both_ways(proxy: Proxy) -> None:
    """gRPC's own limit of 4 MiB is not met at our door."""
    values = np.arange(4 << 20, dtype=np.float32)
    response = call(proxy, predict_request("undeclared", values[np.newaxis]))

    assert values.tolist() == list(response.outputs["x"].float_val)


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("/v1/models/nobody:predict", {"instances": [1]}, 404, "Servable not found for request: Latest(nobody)"),
        (
            "/v1/models/picky/versions/9:predict",
            {"instances": [1]},
            404,
            "Servable not found for request: Specific(picky, 9)",
        ),
        ("/v1/models/picky:predict", {}, 400, "Missing 'inputs' or 'instances' key"),
        (
            "/v1/models/picky:classify",
            {"examples": [{"x": 1.0}]},
            400,
            NO_SCORES,
        ),
        ("/v1/models/picky:nothing", {}, 400, "Malformed request: POST /v1/models/picky:nothing"),
    ],
)
def test_bad_requests_are_told_what_is_wrong(proxy: Proxy, path: str, body: object, status: int, text: str) -> None:
    """In TF Serving's words where it has some."""
    found, answer = proxy.post(path, body)

    assert (status, {"error": text}) == (found, json.loads(answer))


def test_an_unknown_grpc_method_is_unimplemented(proxy: Proxy) -> None:
    """As on any gRPC server."""
    with grpc.insecure_channel(proxy.grpc) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/tensorflow.serving.SessionService/SessionRun")(b"", timeout=10)

    assert grpc.StatusCode.UNIMPLEMENTED is caught.value.code()


# ---------------------------------------------------------------- batching


def test_one_bad_request_of_many_fails_alone_with_its_own_text(proxy: Proxy) -> None:
    """Every third of 60 callers sends a bad number; nobody is told of another's."""
    numbers = [float(-n) if n % 3 == 0 else float(n) for n in range(1, 61)]
    with ThreadPoolExecutor(len(numbers)) as callers:
        found = list(
            callers.map(lambda number: proxy.post("/v1/models/picky:predict", {"instances": [number]}), numbers)
        )

    for number, (status, body) in zip(numbers, found, strict=True):
        if number < 0:
            error = f"model 'picky': the function raised ValueError: refused: [{number}]"
            assert (400, {"error": error}) == (status, json.loads(body))
        else:
            assert (200, {"predictions": [number / 2 + 2]}) == (status, json.loads(body))


def test_models_that_cannot_be_batched_are_asked_one_by_one(proxy: Proxy) -> None:
    """A fixed leading dimension, an output without rows: each caller gets what a call of its own gives."""

    def both(number: int) -> tuple[object, object]:
        pair = proxy.post("/v1/models/pairs:predict", {"inputs": [number, number + 1]})
        total = proxy.post("/v1/models/total:predict", {"inputs": [number, number + 1]})
        return json.loads(pair[1]), json.loads(total[1])

    with ThreadPoolExecutor(16) as callers:
        found = list(callers.map(both, range(32)))

    assert [({"outputs": [n + 1.0, n + 2.0]}, {"outputs": 2 * n + 1.0}) for n in range(32)] == found
    assert 32 == proxy.metric("batchproxy_backend_calls_total", model="pairs")
    assert 32 == proxy.metric("batchproxy_backend_calls_total", model="total")


def test_a_model_that_mixes_its_rows_is_found_out_and_asked_one_by_one(proxy: Proxy) -> None:
    """It declares nothing and answers one row for any number: each caller still gets its own mean."""
    body = {"instances": [{"x": 1.5}]}
    with ThreadPoolExecutor(24) as callers:
        found = set(callers.map(lambda _: proxy.post("/v1/models/mean_of_all:predict", body), range(96)))
    calls = proxy.metric("batchproxy_backend_calls_total", model="mean_of_all", outcome="UNSPLITTABLE")

    assert {(200, b'{\n    "predictions": [1.5\n    ]\n}')} == found
    assert calls <= OPENING  # as many as can be in flight before the first answer


# ---------------------------------------------------------------- deadlines and disconnects


def hold_the_gate(proxy: Proxy) -> list[threading.Thread]:
    """Fill both slots of ``gated`` with calls that end when the gate is opened."""
    holders = [
        threading.Thread(target=proxy.post, args=("/v1/models/gated:predict", {"instances": [0.0]})) for _ in range(2)
    ]
    for number, holder in enumerate(holders, 1):
        holder.start()
        wait_for(proxy, lambda: proxy.metric("batchproxy_in_flight", pool="gated"), float(number))
    return holders


def wait_for(proxy: Proxy, value: object, expected: float) -> None:
    """Look until ``value()`` is what is expected; every look is a round trip to the proxy, so it ends by itself."""
    for _ in range(5000):
        if value() == expected:  # type: ignore[operator]
            return
    raise AssertionError(f"not {expected} after 5000 looks")


def test_the_expired_and_the_departed_leave_the_queue_and_are_never_sent(proxy: Proxy) -> None:
    """504 and DEADLINE_EXCEEDED at their time; a closed connection frees its place; the neighbour is answered."""
    holders = hold_the_gate(proxy)
    expired = proxy.post("/v1/models/gated:predict", {"instances": [1.0]}, {"x-request-timeout-ms": "50"})
    with pytest.raises(grpc.RpcError) as late:
        call(proxy, predict_request("gated", [2.0]), timeout=0.2)
    host, port = proxy.rest.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as departed:
        body = b'{"instances": [3.0]}'
        head = b"POST /v1/models/gated:predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
        departed.sendall(head + body)
        wait_for(proxy, lambda: proxy.metric("batchproxy_queued_rows", model="gated"), 1.0)
    wait_for(proxy, lambda: proxy.metric("batchproxy_queued_rows", model="gated"), 0.0)
    with ThreadPoolExecutor(1) as stayer:
        stayed = stayer.submit(proxy.post, "/v1/models/gated:predict", {"instances": [4.0]})
        wait_for(proxy, lambda: proxy.metric("batchproxy_queued_rows", model="gated"), 1.0)
        request = pb.PredictRequest()
        request.model_spec.name = "open_gate"
        call(proxy, request)
        answer = stayed.result()
    for holder in holders:
        holder.join()

    assert (504, {"error": "Timed out waiting for notification"}) == (expired[0], json.loads(expired[1]))
    assert grpc.StatusCode.DEADLINE_EXCEEDED is late.value.code()
    assert (200, {"predictions": [8.0]}) == (answer[0], json.loads(answer[1]))
    assert 3 == proxy.metric("batchproxy_batch_rows_sum", model="gated")  # two holders and the stayer
    assert 0 == proxy.metric("batchproxy_queued_bytes", pool="gated")


# ---------------------------------------------------------------- operators


def test_health_readiness_metrics_and_page(proxy: Proxy) -> None:
    """The operator's door."""
    page = proxy.get(f"{proxy.admin}/")

    assert (200, {"status": "ok"}) == _json(proxy.get(f"{proxy.admin}/healthz"))
    assert (200, {"ready": True, "reasons": []}) == _json(proxy.get(f"{proxy.admin}/readyz"))
    assert 1 == proxy.metric("batchproxy_endpoint_up", pool="digits")
    assert page[1].startswith(b"<!doctype html>")
    status = json.loads(proxy.get(f"{proxy.admin}/status.json")[1])
    assert {*MODELS, "digits"} == {model["name"] for model in status["models"]}


def _json(answer: tuple[int, bytes]) -> tuple[int, object]:
    return answer[0], json.loads(answer[1])


def test_sigterm_answers_what_was_taken_and_exits_0() -> None:
    """Unready at once, no new connections, the waiting caller is answered."""
    with running(MODELS, drain_delay_s=0.0) as proxy, ThreadPoolExecutor(2) as callers:
        waiting = callers.submit(proxy.post, "/v1/models/gated:predict", {"instances": [0.0]})
        wait_for(proxy, lambda: proxy.metric("batchproxy_in_flight", pool="gated"), 1.0)
        gate = grpc.insecure_channel(proxy.grpc)
        request = pb.PredictRequest()
        request.model_spec.name = "open_gate"
        opened = gate.unary_unary(tfs_grpc.PREDICT)(request.SerializeToString(), timeout=10)
        status = proxy.stop()
        answer = waiting.result()
        gate.close()

    assert opened
    assert (200, {"predictions": [0.0]}) == (answer[0], json.loads(answer[1]))
    assert 0 == status
    assert any("everything that was taken is answered" in line for line in proxy.log)


def test_unready_at_sigterm_and_a_second_signal_drops_what_is_left() -> None:
    """Exit status 1, and the log says how many went unanswered."""
    with running(MODELS) as proxy, ThreadPoolExecutor(1) as callers:
        held = callers.submit(_post_ignoring_a_reset, proxy, "/v1/models/gated:predict", {"instances": [0.0]})
        wait_for(proxy, lambda: proxy.metric("batchproxy_in_flight", pool="gated"), 1.0)
        proxy.process.send_signal(signal.SIGTERM)
        wait_for(proxy, lambda: float(proxy.get(f"{proxy.admin}/readyz")[0]), 503.0)
        reasons = json.loads(proxy.get(f"{proxy.admin}/readyz")[1])["reasons"]
        status = proxy.stop()
        held.result()

    assert ["shutting down"] == reasons
    assert 1 == status
    assert any("stopped with 1 requests unanswered" in line for line in proxy.log)


def _post_ignoring_a_reset(proxy: Proxy, path: str, body: object) -> None:
    try:
        proxy.post(path, body)
    except OSError:
        return


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "m=onnx:/nowhere.onnx"], ["/nowhere.onnx"]),
        (["--model", "m=python:tests.models:nothing"], ["tests.models", "nothing"]),
        (["--model", "m=python:nowhere:f"], ["nowhere"]),
        (["--model", "m"], ["NAME=", "m"]),
        (["--modle", "m=python:tests.models:total"], ["--modle", "--model"]),
        (["--config", "/nowhere.yaml"], ["/nowhere.yaml"]),
        (["--model", "m=python:tests.models:total", "--port", "x"], ["--port", "x"]),
        ([], ["--model", "--config"]),
    ],
)
def test_wrong_arguments_end_with_one_line_and_status_2(arguments: list[str], words: list[str]) -> None:
    """The line names the place and the fix; there is no traceback."""
    command = [sys.executable, "-m", "batchproxy", "serve", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)

    assert 2 == done.returncode
    (line,) = done.stderr.splitlines()
    assert line.startswith("batchproxy: error: ")
    for word in words:
        assert word in line


def test_a_taken_port_ends_with_one_line_and_status_2() -> None:
    """It names the address and the flag."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        arguments = ["--model", "m=python:tests.models:total", "--rest_api_port", port, "--port=0", "--admin_port=0"]
        command = [sys.executable, "-m", "batchproxy", "serve", *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)

    assert 2 == done.returncode
    assert port in done.stderr
    assert "--rest_api_port" in done.stderr
