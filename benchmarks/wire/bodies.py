"""The requests that are sent and what is due for them: files for the load generators, bytes for callers. No sockets."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson

from benchmarks.load.payloads import GrpcPredictions, RestPredictions
from benchmarks.micro.grpc_codec import predict_request

FLOATS: Mapping[str, int] = {"1 x 3": 3, "1 KiB": 256, "64 KiB": 16_384, "1 MiB": 262_144}
"""Name of a body to the float32 values of its one row."""

DIGITS = 4
"""Decimal places of a value, so that its JSON is about twice as long as its float32, as in captured traffic."""

SEED = 1


@dataclass(frozen=True)
class Body:
    """One request in both protocols.

    Attributes:
        rest: JSON, row form.
        grpc: PredictRequest.
        rest_file: file with the former.
        grpc_file: file with the latter in its gRPC frame.
    """

    rest: bytes
    grpc: bytes
    rest_file: Path
    grpc_file: Path

    def of(self, protocol: str) -> bytes:
        """In one protocol."""
        return self.rest if protocol == "rest" else self.grpc


def write(name: str, floats: int, folder: Path, model: str = "null") -> Body:
    """Make a request for a model: one row of so many random values.

    Args:
        name: of the files.
        floats: values in the row.
        folder: for the files.
        model: asked for.
    """
    row = np.round(np.random.default_rng(SEED).uniform(-9, 9, (1, floats)), DIGITS)
    rest = orjson.dumps({"instances": row.tolist()})
    grpc = predict_request(model, row.astype(np.float32), content=True)
    stem = name.replace(" ", "")
    body = Body(rest, grpc, folder / f"{model}-{stem}.json", folder / f"{model}-{stem}.grpc")
    body.rest_file.write_bytes(rest)
    body.grpc_file.write_bytes(struct.pack(">BI", 0, len(grpc)) + grpc)
    return body


def right(body: Body, protocol: str, answer: bytes, *, echo: bool) -> bool:
    """Whether an answer is right: the body itself of an echo, its row of the null model."""
    if echo:
        return answer == body.of(protocol)
    row = np.array(orjson.loads(body.rest)["instances"])
    due = {"y": [row]}
    predictions = RestPredictions([b""], due) if protocol == "rest" else GrpcPredictions([b""], due)
    return predictions.right(0, answer)
