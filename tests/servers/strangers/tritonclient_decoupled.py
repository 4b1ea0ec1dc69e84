"""NVIDIA's ``tritonclient`` in its environment: a stream to a model of several answers to one request. GRPC FINAL.

Prints as JSON what came for each id, in order. With ``FINAL`` the client asks for an empty last answer to each.
"""

from __future__ import annotations

import json
import queue
import sys
from collections import defaultdict
from functools import partial
from typing import Any

import numpy as np
import tritonclient.grpc as over_grpc

GRPC, FINAL = sys.argv[1], sys.argv[2:] == ["FINAL"]
MODEL = "countdown"
STEPS = (3, 1, 0, 5, -1, 2) if FINAL else (3, 1, 5, -1, 2)
"""How many answers each request is to get; below zero, the model refuses it."""


def inputs(number: int, steps: int) -> list[Any]:
    """One row."""
    x = over_grpc.InferInput("x", [1, 1], "INT64")
    x.set_data_from_numpy(np.array([[steps]]))
    row = over_grpc.InferInput("row", [1, 1], "INT64")
    row.set_data_from_numpy(np.array([[number]]))
    return [x, row]


def what(result: Any) -> list[Any]:
    """An answer: its values, and whether it is the last one to its request."""
    answer = result.get_response()
    final = answer.parameters["triton_final_response"].bool_param if answer.parameters else None
    values = [result.as_numpy(name).tolist() for name in ("y", "row")] if answer.outputs else []
    return [*values, final]


came: queue.Queue[tuple[Any, Any]] = queue.Queue()
client = over_grpc.InferenceServerClient(GRPC)
client.start_stream(callback=partial(lambda told, result, error: told.put((result, error)), came))
for number, steps in enumerate(STEPS):
    client.async_stream_infer(
        MODEL, inputs(number, steps), request_id=f"id-{number}", enable_empty_final_response=FINAL
    )
answers: dict[str, list[Any]] = defaultdict(list)
for _ in range(sum(max(steps, 0) + FINAL if steps >= 0 else 1 for steps in STEPS)):
    result, error = came.get(timeout=60)
    if error is None:
        answers[result.get_response().id].append(what(result))
    else:
        answers["refused"].append(str(error))
client.stop_stream()
client.close()
print(json.dumps(answers, sort_keys=True))
