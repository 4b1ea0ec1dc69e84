"""NVIDIA's ``tritonclient`` in its environment: ModelStreamInfer, with callbacks and asyncio. HTTP GRPC."""

from __future__ import annotations

import asyncio
import queue
import sys
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import numpy as np
import tritonclient.grpc as over_grpc
import tritonclient.grpc.aio as over_grpc_aio

_, GRPC = sys.argv[1:]
STEPS = 40
MODEL = "strict"


def inputs(kind: Any, number: int) -> list[Any]:
    """One row; every tenth is refused by the model."""
    x = kind.InferInput("x", [1, 2], "INT64")
    x.set_data_from_numpy(np.array([[number, -1 if number % 10 == 5 else 1]], dtype=np.int64))
    row = kind.InferInput("row", [1, 1], "INT64")
    row.set_data_from_numpy(np.array([[number]], dtype=np.int64))
    return [x, row]


def check(number: int, result: Any, error: Any) -> None:
    """See that an answer is the right one, and that answers come in order."""
    if number % 10 == 5:
        assert error is not None
        assert "a number below zero among 1 rows" in str(error), error
        return
    assert error is None, error
    assert result.get_response().id == f"{number}"
    assert result.as_numpy("y").tolist() == [[1, number]]
    assert result.as_numpy("row").tolist() == [[number]]


def with_callbacks() -> None:
    """All at once; answers are told from another thread."""
    came: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client = over_grpc.InferenceServerClient(GRPC)
    client.start_stream(callback=partial(lambda told, result, error: told.put((result, error)), came))
    for number in range(STEPS):
        client.async_stream_infer(MODEL, inputs(over_grpc, number), request_id=f"{number}")
    for number in range(STEPS):
        check(number, *came.get(timeout=60))
    client.stop_stream()
    client.close()


async def with_asyncio() -> None:
    """One by one: the next request is sent when the last was answered."""
    answered = asyncio.Event()

    async def requests() -> AsyncIterator[dict[str, Any]]:
        for number in range(STEPS):
            answered.clear()
            yield {"model_name": MODEL, "inputs": inputs(over_grpc_aio, number), "request_id": f"{number}"}
            await answered.wait()

    async with over_grpc_aio.InferenceServerClient(GRPC) as client:
        number = 0
        async for result, error in client.stream_infer(requests()):
            check(number, result, error)
            number += 1
            answered.set()
        assert number == STEPS


with_callbacks()
asyncio.run(with_asyncio())
print("as expected")
