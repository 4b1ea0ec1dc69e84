"""The requests that are sent and the check of every answer. No sockets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import orjson
from google.protobuf.message import DecodeError

from batchproxy.core.columns import Array
from batchproxy.protos import tfs_pb2 as pb
from benchmarks.load.job import Job
from benchmarks.micro.grpc_codec import predict_request

MAX_KNOWN = 64
"""Different right answers to one row that are remembered: last digits of an MLP depend on the batch it was in."""


class Payload(Protocol):
    """Requests by number, and whether an answer is right."""

    requests: Sequence[bytes]

    def right(self, number: int, answer: bytes) -> bool:
        """Whether these bytes answer request ``number``."""


class Echo:
    """The answer is what was sent."""

    def __init__(self, requests: Sequence[bytes], bodies: Sequence[bytes]) -> None:
        self.requests = requests
        self._bodies = bodies

    def right(self, number: int, answer: bytes) -> bool:
        return answer == self._bodies[number]


class Unchecked:
    """Any answer will do."""

    def __init__(self, requests: Sequence[bytes]) -> None:
        self.requests = requests

    def right(self, number: int, answer: bytes) -> bool:
        return True


class Predictions:
    """The answer holds the model's values for these very rows: an answer meant for other rows is wrong.

    An answer that was checked once is known by its bytes, so that checking costs the load little.

    Args:
        requests: one for each entry of ``expected``.
        expected: by output, the rows due for each request.
    """

    def __init__(self, requests: Sequence[bytes], expected: Mapping[str, Sequence[Array]]) -> None:
        self.requests = requests
        self._expected = expected
        self._known: list[set[bytes]] = [set() for _ in requests]

    def right(self, number: int, answer: bytes) -> bool:
        known = self._known[number]
        if answer in known:
            return True
        values = self._values(answer)
        if values is None or not all(
            alias in values and _same(values[alias], due[number]) for alias, due in self._expected.items()
        ):
            return False
        if len(known) < MAX_KNOWN:
            known.add(answer)
        return True

    def _values(self, answer: bytes) -> dict[str, Array] | None:
        raise NotImplementedError


def _same(values: Array, due: Array) -> bool:
    return values.shape == due.shape and np.allclose(values, due, rtol=1e-4, atol=1e-5)


class RestPredictions(Predictions):
    """``{"predictions": [row, ...]}``; a row of several outputs is an object."""

    def _values(self, answer: bytes) -> dict[str, Array] | None:
        try:
            rows = orjson.loads(answer)["predictions"]
            if len(self._expected) == 1:
                return dict.fromkeys(self._expected, np.array(rows))
            return {alias: np.array([row[alias] for row in rows]) for alias in self._expected}
        except (ValueError, KeyError, TypeError):
            return None


class GrpcPredictions(Predictions):
    """A PredictResponse whose outputs are float32, each value in ``float_val``."""

    def _values(self, answer: bytes) -> dict[str, Array] | None:
        try:
            outputs = pb.PredictResponse.FromString(answer).outputs
            return {
                alias: np.array(tensor.float_val).reshape([dim.size for dim in tensor.tensor_shape.dim])
                for alias, tensor in outputs.items()
            }
        except (DecodeError, ValueError):
            return None


def message_of(model: str, rows: Array) -> bytes:
    """A PredictRequest of these rows."""
    return predict_request(model, rows, content=True)


def payload_of(job: Job) -> Payload:
    """What a job sends: the rows of its file, so many in each request."""
    with np.load(job.rows) as arrays:
        groups = {
            name: [array[at : at + job.request_rows] for at in range(0, len(array), job.request_rows)]
            for name, array in arrays.items()
        }
    inputs = groups.pop("x")
    if job.protocol == "grpc":
        messages = [message_of(job.model, rows) for rows in inputs]
        if not job.checked:
            return Unchecked(messages)
        return Echo(messages, messages) if job.echo else GrpcPredictions(messages, groups)
    bodies = [orjson.dumps({"instances": np.round(rows.astype(float), 4).tolist()}) for rows in inputs]
    head = f"POST /v1/models/{job.model}:predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    requests = [f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body for body in bodies]
    if not job.checked:
        return Unchecked(requests)
    return Echo(requests, bodies) if job.echo else RestPredictions(requests, groups)
