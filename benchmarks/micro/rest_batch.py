"""A REST batch from the callers' bodies to their answers, spliced or bridged to gRPC. No HTTP, no queue."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import orjson

from batchproxy.codecs import tfs_calls, tfs_grpc, tfs_rest, tfs_rows, tfs_splice
from batchproxy.core.columns import Array, ArrayColumn
from batchproxy.core.request import BatchKey, Reply
from batchproxy.core.shapes import Signature, TensorSpec
from benchmarks.micro.grpc_codec import SIGNATURE
from benchmarks.micro.rest_codec import predict_body
from benchmarks.micro.timing import Case, Round

CALLERS = 64
WIDTH = 784
SCORES = 10
"""Numbers in each answer, as of a classifier of digits."""

IMAGE = (1, 224, 224, 3)
IMAGES = Signature({"x": TensorSpec("float32", (None, 224, 224, 3))}, SIGNATURE.outputs)
KEY = BatchKey("m", None, "serving_default")


def cases() -> Sequence[Case]:
    """64 callers of a row each, and one of an image; the yardstick reads the same bodies by orjson and numpy."""
    rows, image = f"{CALLERS} callers, 1 x {WIDTH}", "224 x 224 x 3"
    return [
        Case(f"orjson alone: loads + np.array, {rows}", partial(_plain, _rows())),
        Case(f"REST batch spliced, {rows}", _spliced, f"orjson alone: loads + np.array, {rows}"),
        Case(
            f"REST batch bridged, {rows}",
            partial(_bridged, _rows(), SIGNATURE),
            f"orjson alone: loads + np.array, {rows}",
        ),
        Case(f"orjson alone: loads + np.array, {image}", partial(_plain, [_image()])),
        Case(
            f"REST image bridged, {image}",
            partial(_bridged, [_image()], IMAGES),
            f"orjson alone: loads + np.array, {image}",
        ),
    ]


def _rows() -> list[Array]:
    return list(np.random.default_rng(1).random((CALLERS, 1, WIDTH), np.float32))


def _image() -> Array:
    return np.random.default_rng(1).random(IMAGE, np.float32)


def _scores(rows: int) -> Array:
    return np.random.default_rng(2).random((rows, SCORES), np.float32)


def _plain(arrays: list[Array]) -> Round:
    bodies = [predict_body(array) for array in arrays]

    def work() -> int:
        for body in bodies:
            np.array(orjson.loads(body)["instances"], np.float32)
        return len(bodies)

    return work


def _spliced() -> Round:
    bodies = [predict_body(array) for array in _rows()]
    answer = tfs_rest.encode_predict(Reply({"y": ArrayColumn(_scores(CALLERS))}, 1), row_form=True)

    def work() -> int:
        requests = [tfs_rows.read_request(body) for body in bodies]
        columns = [request.columns[tfs_rows.INSTANCES] for request in requests if request is not None]
        merged = columns[0].concat(columns[1:])
        tfs_rows.write_request({tfs_rows.INSTANCES: merged}, None, row_form=True)
        found = tfs_splice.read_answer(answer, row_form=True)
        for row in range(CALLERS):
            tfs_splice.cut(found, row, row + 1)
        return CALLERS

    return work


def _bridged(arrays: list[Array], signature: Signature) -> Round:
    bodies = [predict_body(array) for array in arrays]
    answer = tfs_grpc.encode_predict(Reply({"y": ArrayColumn(_scores(len(bodies)))}, 1), "m", "serving_default")

    def work() -> int:
        columns = []
        for body in bodies:
            envelope = tfs_rest.parse_body(body)
            columns.append(tfs_rest.decode_predict(envelope, envelope.signature_name, signature).columns["x"])
        merged = columns[0].concat(columns[1:]) if len(columns) > 1 else columns[0]
        tfs_calls.encode_predict_request(KEY, {"x": merged})
        reply = tfs_calls.decode_predict_reply(answer)
        for row in range(len(bodies)):
            own = {name: column.take(row, row + 1) for name, column in reply.columns.items()}
            tfs_rest.encode_predict(Reply(own, 1), row_form=True)
        return len(bodies)

    return work
