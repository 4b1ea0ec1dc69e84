"""The requests that are sent and the check of every answer. No sockets."""

from __future__ import annotations

from collections.abc import Sequence
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


class Predictions:
    """The answer holds the model's values for this very row: an answer meant for another row is wrong.

    An answer that was checked once is known by its bytes, so that checking costs the load little.
    """

    def __init__(self, requests: Sequence[bytes], expected: Array) -> None:
        self.requests = requests
        self._expected = expected
        self._known: list[set[bytes]] = [set() for _ in requests]

    def right(self, number: int, answer: bytes) -> bool:
        known = self._known[number]
        if answer in known:
            return True
        values = self._values(answer)
        due = self._expected[number]
        if values is None or values.shape != due.shape or not np.allclose(values, due, rtol=1e-4, atol=1e-5):
            return False
        if len(known) < MAX_KNOWN:
            known.add(answer)
        return True

    def _values(self, answer: bytes) -> Array | None:
        raise NotImplementedError


class RestPredictions(Predictions):
    """``{"predictions": [row]}``."""

    def _values(self, answer: bytes) -> Array | None:
        try:
            rows = orjson.loads(answer)["predictions"]
            return np.array(rows[0]) if len(rows) == 1 else None
        except (ValueError, KeyError, TypeError):
            return None


class GrpcPredictions(Predictions):
    """A PredictResponse whose output ``y`` is one row of float32."""

    def _values(self, answer: bytes) -> Array | None:
        try:
            tensor = pb.PredictResponse.FromString(answer).outputs["y"]
            shape = [dim.size for dim in tensor.tensor_shape.dim]
            return np.array(tensor.float_val).reshape(shape)[0] if shape[:1] == [1] else None
        except (DecodeError, ValueError):
            return None


def payload_of(job: Job) -> Payload:
    """What a job sends, one request for each row of its file."""
    with np.load(job.rows) as arrays:
        x, y = arrays["x"], arrays["y"]
    if job.protocol == "grpc":
        messages = [predict_request(job.model, x[row : row + 1], content=True) for row in range(len(x))]
        return Echo(messages, messages) if job.echo else GrpcPredictions(messages, y)
    bodies = [
        orjson.dumps({"instances": np.round(x[row : row + 1].astype(float), 4).tolist()}) for row in range(len(x))
    ]
    head = f"POST /v1/models/{job.model}:predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    requests = [f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body for body in bodies]
    return Echo(requests, bodies) if job.echo else RestPredictions(requests, y)
