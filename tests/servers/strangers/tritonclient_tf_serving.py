"""NVIDIA's ``tritonclient`` before TensorFlow Serving's models, in its own environment. HTTP GRPC."""

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
TYPES = {
    "bool": ("BOOL", np.array([True, False])),
    "int8": ("INT8", np.array([-128, 127], np.int8)),
    "uint8": ("UINT8", np.array([0, 255], np.uint8)),
    "int32": ("INT32", np.array([-(2**31), 7], np.int32)),
    "int64": ("INT64", np.array([-(2**63), 2**63 - 1])),
    "uint64": ("UINT64", np.array([0, 2**64 - 1], np.uint64)),
    "double": ("FP64", np.array([0.1, -1.5e300])),
    "string": ("BYTES", np.array([b"\xff\x00", "é".encode()], object)),
    "serving_default": ("FP32", np.array([0.1, np.inf], np.float32)),
}
"""The signature of a type, its name, and values of it."""


def tensor(kind: Any, datatype: str, array: Any, name: str = "x", **how: bool) -> list[Any]:
    """An input."""
    one = kind.InferInput(name, list(array.shape), datatype)
    one.set_data_from_numpy(array, **how)
    return [one]


def check(signature: str, answer: Any) -> None:
    """See that what comes back is what went."""
    _, x = TYPES[signature]
    assert answer.as_numpy("y").tolist() == x.tolist(), signature


def one_by_one() -> None:
    """Every type, by every way, and what is said of models."""
    rest, grpc = over_http.InferenceServerClient(HTTP), over_grpc.InferenceServerClient(GRPC)
    for client in (rest, grpc):
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("dtypes")
        assert not client.is_model_ready("nobody")
    assert rest.get_model_metadata("dtypes")["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1]}]
    assert grpc.get_model_metadata("dtypes").inputs[0].shape == [-1]
    for signature, (datatype, x) in TYPES.items():
        how: dict[str, Any] = {"parameters": {"signature_name": signature}, "request_id": "1"}
        answer = grpc.infer("dtypes", tensor(over_grpc, datatype, x), **how)
        check(signature, answer)
        assert answer.get_response().id == "1"
        check(signature, rest.infer("dtypes", tensor(over_http, datatype, x, binary_data=True), **how))
    for client in (rest, grpc):
        client.close()


async def together() -> None:
    """Many at once, each with numbers of its own."""

    async def one(kind: Any, client: Any, number: int) -> None:
        x = np.array([number, -number])
        how = {"parameters": {"signature_name": "int64"}}
        answer = await client.infer("dtypes", tensor(kind, "INT64", x), **how)
        assert answer.as_numpy("y").tolist() == x.tolist()

    async with over_grpc_aio.InferenceServerClient(GRPC) as client:
        await asyncio.gather(*[one(over_grpc_aio, client, number) for number in range(48)])
    async with over_http_aio.InferenceServerClient(HTTP, conn_limit=16) as client:
        await asyncio.gather(*[one(over_http_aio, client, number) for number in range(48)])


def stream() -> None:
    """ModelStreamInfer, which TensorFlow Serving does not have."""
    said: list[tuple[Any, Any]] = []
    client = over_grpc.InferenceServerClient(GRPC)
    client.start_stream(callback=lambda result, error: said.append((result, error)))
    for number in range(24):
        x = np.array([number])
        parameters = {"signature_name": "int64"}
        client.async_stream_infer("dtypes", tensor(over_grpc, "INT64", x), parameters=parameters)
    client.stop_stream()  # waits for the answers
    client.close()
    assert [error for _, error in said] == [None] * 24
    assert [result.as_numpy("y").tolist() for result, _ in said] == [[number] for number in range(24)]


one_by_one()
asyncio.run(together())
stream()
print("as expected")
