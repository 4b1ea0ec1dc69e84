"""NVIDIA's ``tritonclient`` in its environment: HTTP with binary tensors, gRPC, asyncio. HTTP GRPC."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import numpy as np
import tritonclient.grpc as over_grpc
import tritonclient.grpc.aio as over_grpc_aio
import tritonclient.http as over_http
import tritonclient.http.aio as over_http_aio

HTTP, GRPC = sys.argv[1:]
ROWS = 3
VALUES = {
    "echo_fp32": ("FP32", np.arange(2 * ROWS, dtype=np.float32).reshape(ROWS, 2) / 3),
    "echo_int64": ("INT64", np.arange(2 * ROWS, dtype=np.int64).reshape(ROWS, 2) << 40),
    "echo_bytes": ("BYTES", np.array([[b"a", "é".encode()]] * ROWS, dtype=object)),
    "echo_bool": ("BOOL", np.array([[True, False]] * ROWS)),
}
ROW = np.arange(ROWS, dtype=np.int64).reshape(ROWS, 1)


def inputs(kind: Any, model: str, **how: bool) -> list[Any]:
    """What a model takes, as one of the clients has it."""
    datatype, x = VALUES[model]
    found = [kind.InferInput("x", list(x.shape), datatype), kind.InferInput("row", list(ROW.shape), "INT64")]
    found[0].set_data_from_numpy(x, **how)
    found[1].set_data_from_numpy(ROW, **how)
    return found


def check(model: str, answer: Any) -> None:
    """See that an answer is the right one."""
    y = VALUES[model][1][:, ::-1].tolist()
    found = [
        [item.encode() if isinstance(item, str) else item for item in row] for row in answer.as_numpy("y").tolist()
    ]
    assert answer.as_numpy("row").tolist() == ROW.tolist()
    assert found == y, model


def http_calls() -> None:
    """JSON and buffers."""
    client = over_http.InferenceServerClient(HTTP)
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("echo_fp32")
    assert client.get_model_metadata("echo_fp32")["inputs"][0]["shape"] == [-1, 2]
    for model in VALUES:
        for binary in (True, False):
            wanted = [over_http.InferRequestedOutput(name, binary_data=binary) for name in ("row", "y")]
            answer = client.infer(model, inputs(over_http, model, binary_data=binary), outputs=wanted, request_id="1")
            check(model, answer)
    if "statistics" in client.get_server_metadata().get("extensions", ()):
        (counted,) = client.get_inference_statistics("echo_fp32")["model_stats"]
        assert counted["inference_count"] > 0, counted  # Triton: requests, where it does not batch a model itself
    client.close()


def grpc_calls() -> None:
    """One by one."""
    client = over_grpc.InferenceServerClient(GRPC)
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("echo_fp32")
    assert client.get_model_metadata("echo_fp32").inputs[0].shape == [-1, 2]
    for model in VALUES:
        answer = client.infer(model, inputs(over_grpc, model), request_id="one")
        check(model, answer)
        assert answer.get_response().id == "one"
    if "statistics" in client.get_server_metadata().extensions:
        (counted,) = client.get_inference_statistics("echo_fp32").model_stats
        assert counted.inference_stats.success.count > 0, counted
    client.close()


async def together() -> None:
    """Many at once."""
    async with over_grpc_aio.InferenceServerClient(GRPC) as client:
        answers = await asyncio.gather(*[client.infer(model, inputs(over_grpc, model)) for model in list(VALUES) * 4])
    for model, answer in zip(list(VALUES) * 4, answers, strict=True):
        check(model, answer)
    async with over_http_aio.InferenceServerClient(HTTP) as client:
        answers = await asyncio.gather(*[client.infer(model, inputs(over_http, model)) for model in list(VALUES) * 4])
    for model, answer in zip(list(VALUES) * 4, answers, strict=True):
        check(model, answer)


http_calls()
grpc_calls()
asyncio.run(together())
print("as expected")
