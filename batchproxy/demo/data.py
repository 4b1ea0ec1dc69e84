"""What the demo sends and what must come back: rows, the model's own answers, both wire forms. No sockets."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson

from batchproxy.backends.onnx import OnnxBackend
from batchproxy.codecs import _dtypes
from batchproxy.core.columns import Array, ArrayColumn
from batchproxy.core.request import BatchKey
from batchproxy.core.shapes import DEFAULT_SIGNATURE
from batchproxy.protos import tfs_pb2

FOLDER = Path(__file__).parent

BATCH_ROWS = 64
"""Rows of a full batch: the default of ``Policy.max_batch_rows``."""

UNBATCHED = "_unbatched"
"""Ends the name under which each model is served a second time, with batching off."""


@dataclass(frozen=True)
class Workload:
    """One model, and rows for it.

    Attributes:
        name: of the model.
        path: its ONNX file or folder.
        input: the name of its one input.
        rows: what is sent, one row a request: [R, ...] of the input's dtype.
        expected: output name to [R, ...]: the model called directly, one row at a time.
        labels: what each row truly is, int64 [R]; None where there is no such thing.
    """

    name: str
    path: Path
    input: str
    rows: Array
    expected: Mapping[str, Array]
    labels: Array | None = None


def prepare(name: str, path: Path, rows: Array, labels: Array | None = None) -> Workload:
    """A workload whose expected answers are made here, by calling the model at ``path`` directly, row by row."""
    backend = OnnxBackend(path)
    signature = backend.signatures[DEFAULT_SIGNATURE]
    alias = next(iter(signature.inputs))
    key = BatchKey(name, backend.version, DEFAULT_SIGNATURE)
    answers = [backend.run(key, {alias: ArrayColumn(rows[i : i + 1])}) for i in range(len(rows))]
    expected = {
        output: np.concatenate(
            [column.array for answer in answers if isinstance(column := answer[output], ArrayColumn)]
        )
        for output in signature.outputs
    }
    return Workload(name, path, alias, rows, expected, labels)


def alone_ms(workload: Workload, rows: int = BATCH_ROWS, calls: int = 30) -> tuple[float, float]:
    """Time the model alone, on one thread: what batching could gain at best is ``rows * first / second``.

    Returns:
        milliseconds of a call with one row, and of one with ``rows`` rows: the fastest of ``calls`` each.
    """
    backend = OnnxBackend(workload.path, threads=1)
    key = BatchKey(workload.name, backend.version, DEFAULT_SIGNATURE)
    best = []
    for count in (1, rows):
        columns = {workload.input: ArrayColumn(workload.rows[:count])}
        times = []
        for _ in range(calls):
            start = time.perf_counter()
            backend.run(key, columns)
            times.append(time.perf_counter() - start)
        best.append(1000 * min(times))
    return best[0], best[1]


def half_plus_two() -> Workload:
    """Row numbers: every answer tells whose it is, to the last bit."""
    return prepare("half_plus_two", FOLDER / "models" / "half_plus_two", np.arange(1000, dtype=np.float32))


def digits() -> Workload:
    """450 images of handwritten digits that the classifier was not trained on."""
    with np.load(FOLDER / "digits.npz") as data:
        return prepare("digits", FOLDER / "models" / "digits", data["images"].astype(np.float32), data["labels"])


def mlp(path: Path) -> Workload:
    """Random rows with three decimals, so that JSON carries them exactly and briefly."""
    values = np.random.default_rng(2).standard_normal((256, 256)).round(3)
    return prepare("mlp", path, values.astype(np.float32))


def rest_requests(workload: Workload, model: str) -> list[bytes]:
    """Whole HTTP/1.1 requests, one a row, to TF Serving's predict route of ``model``."""
    requests = []
    for row in workload.rows:
        values = row.astype(np.float64).round(3).tolist()  # rows have three decimals at most
        body = orjson.dumps({"instances": [values]})
        head = f"POST /v1/models/{model}:predict HTTP/1.1\r\nHost: demo\r\nContent-Length: {len(body)}\r\n\r\n"
        requests.append(head.encode() + body)
    return requests


def grpc_requests(workload: Workload, model: str) -> list[bytes]:
    """Serialized ``PredictRequest`` messages, one a row."""
    number = _dtypes.by_numpy(workload.rows.dtype).number
    requests = []
    for row in workload.rows:
        message = tfs_pb2.PredictRequest()
        message.model_spec.name = model
        tensor = message.inputs[workload.input]
        tensor.dtype = number
        for length in (1, *row.shape):
            tensor.tensor_shape.dim.add(size=length)
        tensor.tensor_content = row.tobytes()
        requests.append(message.SerializeToString())
    return requests
