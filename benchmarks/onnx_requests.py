"""Requests of one row, as clients of each protocol write them, for the load generators; and what is due. No sockets.

Written and read by our own codecs, which tests hold against foreign ones.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import orjson

from batchproxy.codecs import tfs_grpc, v2_documents, v2_grpc, v2_rest
from batchproxy.core.columns import Array, ArrayColumn
from batchproxy.core.errors import BatchProxyError
from batchproxy.core.request import BatchKey
from batchproxy.core.shapes import DEFAULT_SIGNATURE
from benchmarks.load.payloads import GrpcPredictions, RestPredictions, message_of

PROTOCOLS = ("gRPC", "REST", "REST binary", "TFS gRPC", "TFS REST")
"""Of the Open Inference Protocol: ModelInfer with raw tensors, JSON, JSON with the buffers behind it as tritonclient
asks; and TF Serving's own two."""


@dataclass(frozen=True)
class Request:
    """One request.

    Attributes:
        protocol: one of ``PROTOCOLS``.
        path: of the URL, or of the gRPC method.
        body: what is sent; a gRPC message without its frame.
        headers: beside the content type of JSON.
        due: what the model makes of its row, ``[1, ...]``.
    """

    protocol: str
    path: str
    body: bytes
    due: Array
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def door(self) -> str:
        """``rest`` or ``grpc``."""
        return door(self.protocol)

    def write(self, file: Path) -> Path:
        """Write the body to a file, a gRPC message with its frame, and return that."""
        framed = struct.pack(">BI", 0, len(self.body)) + self.body if self.door == "grpc" else self.body
        file.write_bytes(framed)
        return file

    def wrong(self, answer: bytes, header: str | None) -> str:
        """What is wrong with an answer; empty for a right one.

        Args:
            answer: of a call that went well.
            header: its ``v2_rest.LENGTH_HEADER``.
        """
        if self.protocol.startswith("TFS"):
            kind = GrpcPredictions if self.door == "grpc" else RestPredictions
            return "" if kind([b""], {"y": [self.due]}).right(0, answer) else f"wrong answer: {answer[:200]!r}"
        try:
            reply = v2_grpc.decode_reply(answer) if self.door == "grpc" else v2_rest.decode_reply(answer, header)
        except BatchProxyError as error:
            return error.message
        column = reply.columns.get("y")
        if not isinstance(column, ArrayColumn) or column.array.shape != self.due.shape:
            return f"no output y of shape {self.due.shape}: {answer[:200]!r}"
        return "" if np.allclose(column.array, self.due, rtol=1e-4, atol=1e-5) else f"other values: {answer[:200]!r}"


def door(protocol: str) -> str:
    """``rest`` or ``grpc``."""
    return "grpc" if protocol.endswith("gRPC") else "rest"


def request(protocol: str, model: str, row: Array, due: Array) -> Request:
    """A request for ``y`` of ``x``.

    Args:
        protocol: one of ``PROTOCOLS``.
        model: asked for.
        row: float32 ``[1, ...]``, of few decimals.
        due: what the model makes of it.
    """
    key, columns = BatchKey(model, None, DEFAULT_SIGNATURE), {"x": ArrayColumn(row)}
    if protocol == "gRPC":
        return Request(protocol, v2_grpc.MODEL_INFER, v2_grpc.encode_infer_request(key, columns), due)
    if protocol == "TFS gRPC":
        return Request(protocol, tfs_grpc.PREDICT, message_of(model, row), due)
    decimals = np.round(row.astype(float), 4)
    if protocol == "TFS REST":
        body = orjson.dumps({"instances": decimals.tolist()})
        return Request(protocol, f"/v1/models/{model}:predict", body, due)
    path = v2_documents.model_path(model, None, "infer")
    if protocol == "REST":
        tensor = {"name": "x", "shape": list(row.shape), "datatype": "FP32", "data": decimals.ravel().tolist()}
        return Request(protocol, path, orjson.dumps({"inputs": [tensor], "outputs": [{"name": "y"}]}), due)
    body, length = v2_rest.encode_infer_request(key, columns, binary=True)
    headers = {"Content-Type": "application/octet-stream", v2_rest.LENGTH_HEADER: str(length)}
    return Request(protocol, path, body, due, headers)
