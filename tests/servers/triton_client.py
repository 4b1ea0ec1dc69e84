"""A stranger's client, run by the interpreter of ``.venv-triton``: tritonclient against REST and gRPC ports. No tests.

    python triton_client.py REST_ADDRESS GRPC_ADDRESS

Calls two models: ``echo``, which gives back what it gets, and ``numbered`` of ``tests.models``. Ends with status 0
where every answer was right, else with what was wrong.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
import tritonclient.grpc as by_grpc
import tritonclient.grpc.aio as by_grpc_aio
import tritonclient.http as by_http
import tritonclient.http.aio as by_http_aio
from tritonclient.utils import InferenceServerException

RAW_ONLY = frozenset({"FP16", "BF16"})
"""Types that tritonclient does not write as JSON."""

TYPES = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.object_,
    "BF16": ml_dtypes.bfloat16,
}

CALLERS = 48


def values(datatype: str) -> Any:
    """Some of a type, its ends among them."""
    kind = TYPES[datatype]
    if datatype == "BYTES":
        return np.array([[b"", "naïve".encode()], [b"x" * 300, b"last"]], np.object_)
    if datatype == "BOOL":
        return np.array([[True, False], [False, True]])
    if np.issubdtype(kind, np.integer):
        info = np.iinfo(kind)
        return np.array([[info.min, info.max], [0, 1]], kind)
    return np.array([[0.5, -2.0], [1.5, 384.0]], kind)


def same(name: str, got: Any, expected: Any) -> None:
    """Both are equal, to the bit."""
    assert got is not None, f"{name}: nothing came back"
    assert got.shape == expected.shape, f"{name}: shape {got.shape}, not {expected.shape}"
    assert got.tolist() == expected.tolist(), f"{name}: {got.tolist()}, not {expected.tolist()}"


def encoded(array: Any) -> Any:
    """Strings as bytes: out of JSON they come as text."""
    flat = [item.encode() if isinstance(item, str) else item for item in array.ravel()]
    return np.array(flat, np.object_).reshape(array.shape)


def filled(module: Any, datatype: str, array: Any, **how: Any) -> Any:
    """An input of ``echo``."""
    tensor = module.InferInput("x", list(array.shape), datatype)
    tensor.set_data_from_numpy(array, **how)
    return tensor


def check_types(rest: Any, grpc: Any) -> None:
    """Each type comes back as it went, by every way that the client has for it."""
    for datatype in TYPES:
        array = values(datatype)
        result = grpc.infer("echo", [filled(by_grpc, datatype, array)], request_id="g-1")
        same(f"grpc {datatype}", result.as_numpy("x"), array)
        assert result.get_response().id == "g-1"
        for sent in (True,) if datatype in RAW_ONLY else (True, False):
            for wanted in (True,) if datatype in RAW_ONLY else (True, False):
                outputs = [by_http.InferRequestedOutput("x", binary_data=wanted)]
                tensor = filled(by_http, datatype, array, binary_data=sent)
                result = rest.infer("echo", [tensor], outputs=outputs, request_id="h-1")
                got = result.as_numpy("x")
                if datatype == "BYTES" and not wanted:
                    got = np.array(
                        [[item.encode() if isinstance(item, str) else item for item in row] for row in got], np.object_
                    )
                same(f"http {datatype} {sent} {wanted}", got, array)
                assert result.get_response()["id"] == "h-1"
        result = rest.infer("echo", [filled(by_http, datatype, array, binary_data=True)])
        same(f"http {datatype} without outputs", result.as_numpy("x"), array)


def check_documents(rest: Any, grpc: Any) -> None:
    """What is said of the server and its models."""
    for client in (rest, grpc):
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("numbered")
        assert not client.is_model_ready("nobody")
    metadata = rest.get_model_metadata("numbered")
    assert metadata["inputs"] == [
        {"name": "number", "datatype": "INT64", "shape": [-1]},
        {"name": "weight", "datatype": "FP32", "shape": [-1, 2]},
    ], metadata
    assert metadata["versions"] == ["1"], metadata
    assert grpc.get_model_metadata("numbered", as_json=True)["inputs"][1]["shape"] == ["-1", "2"]
    assert rest.get_model_config("numbered")["max_batch_size"] == 0
    assert grpc.get_model_config("numbered").config.input[1].dims == [-1, 2]
    assert rest.get_server_metadata()["name"] == grpc.get_server_metadata().name == "batchproxy"
    index = {model["name"]: model["state"] for model in rest.get_model_repository_index()}
    assert index == {"echo": "READY", "numbered": "READY"}, index
    assert [model.name for model in grpc.get_model_repository_index().models] == ["echo", "numbered"]


def check_errors(rest: Any, grpc: Any) -> None:
    """What is wrong is said, by name."""
    wrong = np.zeros((1,), np.float32)
    for module, client in ((by_http, rest), (by_grpc, grpc)):
        number = module.InferInput("number", [1], "FP32")
        number.set_data_from_numpy(wrong)
        for model, inputs, text in (
            ("nobody", [number], "unknown model: 'nobody'"),
            ("numbered", [number], "datatype FP32, the model takes INT64"),
            ("numbered", [], "'number' is missing"),
        ):
            said = "nothing: it answered"
            try:
                client.infer(model, inputs)
            except InferenceServerException as error:
                said = str(error)
            assert text in said, said


def of_number(module: Any, number: int) -> Sequence[Any]:
    """The inputs of ``numbered`` for one row."""
    numbers = module.InferInput("number", [1], "INT64")
    numbers.set_data_from_numpy(np.array([number], np.int64))
    weights = module.InferInput("weight", [1, 2], "FP32")
    weights.set_data_from_numpy(np.array([[number, 0.5]], np.float32))
    return [numbers, weights]


async def check_many(module: Any, client: Any, prefix: str) -> None:
    """Callers at once, each of which gets its own row back, under its own id."""

    async def one(number: int) -> None:
        call_id = f"{prefix}-{number}"
        result = await client.infer("numbered", of_number(module, number), request_id=call_id)
        answer = result.get_response()
        same(call_id, result.as_numpy("number"), np.array([number]))
        same(call_id, result.as_numpy("sum"), np.array([number + 0.5], np.float32))
        assert result.as_numpy("name").tolist() == [b"row-%d" % number]
        assert (answer["id"] if isinstance(answer, dict) else answer.id) == call_id, answer

    await asyncio.gather(*(one(number) for number in range(CALLERS)))


async def check_at_once(rest: str, grpc: str) -> None:
    """Both asynchronous clients."""
    async with by_http_aio.InferenceServerClient(rest, conn_limit=CALLERS) as client:
        await check_many(by_http_aio, client, "h")
    async with by_grpc_aio.InferenceServerClient(grpc) as client:
        await check_many(by_grpc_aio, client, "g")


def main(rest_address: str, grpc_address: str) -> None:
    """All of it."""
    rest, grpc = by_http.InferenceServerClient(rest_address), by_grpc.InferenceServerClient(grpc_address)
    check_documents(rest, grpc)
    check_types(rest, grpc)
    check_errors(rest, grpc)
    rest.close()
    grpc.close()
    asyncio.run(check_at_once(rest_address, grpc_address))


if __name__ == "__main__":
    main(*sys.argv[1:])
