"""Compares answers with what the model says when it is called directly. Reads wire forms in its own plain way.

Labels and numbers of models without matrix products must be equal; results of matrix products may differ in
the last digits with the batch size, as they do in every model server: 1e-6 absolute or 2e-6 relative (float32).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from batchproxy.codecs import _dtypes
from batchproxy.core.columns import Array
from batchproxy.demo.data import Workload
from batchproxy.protos import tfs_pb2

ABSOLUTE, RELATIVE = 1e-6, 2e-6


@dataclass
class Verdict:
    """What a comparison found.

    Attributes:
        wrong: answers that are not the model's own answer to their row.
        first: the first wrong one, for people; empty if there is none.
        accuracy: share of the rows whose every answer has the true label; None without labels or answers.
        direct: the same of the model called directly, with the same rows.
    """

    wrong: int = 0
    first: str = ""
    accuracy: float | None = None
    direct: float | None = None


def check(workload: Workload, rest: Iterable[tuple[int, bytes]], grpc: Iterable[tuple[int, bytes]]) -> Verdict:
    """Compare (row number, body) pairs of REST and (row number, message) pairs of gRPC, errors included."""
    verdict = Verdict()
    right: dict[int, bool] = {}
    for read, answers in ((_from_json, rest), (_from_message, grpc)):
        for row, answer in answers:
            try:
                outputs = read(workload, answer)
                fault = _difference(workload, row, outputs)
            except Exception as error:  # noqa: BLE001 - whatever an answer is, it can only be wrong
                outputs, fault = {}, f"unreadable ({type(error).__name__}: {error}): {answer[:200]!r}"
            if fault:
                verdict.wrong += 1
                verdict.first = verdict.first or f"{workload.name}, row {row}: {fault}"
            if workload.labels is not None:
                same = bool(np.array_equal(outputs.get("label", ()), workload.labels[row : row + 1]))
                right[row] = same and right.get(row, True)
    if right and workload.labels is not None:
        rows = list(right)
        verdict.accuracy = sum(right.values()) / len(rows)
        verdict.direct = int(np.sum(workload.expected["label"][rows] == workload.labels[rows])) / len(rows)
    return verdict


def _difference(workload: Workload, row: int, outputs: Mapping[str, Array]) -> str:
    if set(outputs) != set(workload.expected):
        return f"outputs {sorted(outputs)}, expected {sorted(workload.expected)}"
    for name, given in outputs.items():
        wanted = workload.expected[name][row : row + 1]
        if given.shape != wanted.shape or given.dtype != wanted.dtype:
            return f"{name} is {given.dtype} {given.shape}, expected {wanted.dtype} {wanted.shape}"
        bound = np.maximum(ABSOLUTE, RELATIVE * np.abs(wanted)) if wanted.dtype.kind == "f" else 0
        if not np.all(np.abs(given - wanted) <= bound):
            return f"{name} is {given.ravel()[:8]}, expected {wanted.ravel()[:8]}"
    return ""


def _from_json(workload: Workload, body: bytes) -> dict[str, Array]:
    predictions: list[Any] = orjson.loads(body)["predictions"]
    if len(workload.expected) == 1:
        columns = dict.fromkeys(workload.expected, predictions)
    else:
        columns = {name: [row[name] for row in predictions] for name in predictions[0]}
    return {name: np.asarray(values, workload.expected[name].dtype) for name, values in columns.items()}


def _from_message(_: Workload, message: bytes) -> dict[str, Array]:
    outputs = {}
    for name, tensor in tfs_pb2.PredictResponse.FromString(message).outputs.items():
        row = _dtypes.by_number(tensor.dtype)
        if row is None:
            raise ValueError(f"dtype {tensor.dtype}")
        shape = [dim.size for dim in tensor.tensor_shape.dim]
        if tensor.tensor_content:
            flat = np.frombuffer(tensor.tensor_content, row.numpy)
        else:
            flat = np.array(getattr(tensor, row.field), row.numpy)
        outputs[name] = flat.reshape(shape)
    return outputs
