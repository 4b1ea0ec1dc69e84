"""TF Serving's JSON: bodies to columns, columns to bodies. No HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import orjson

from batchproxy.codecs import tfs_rest
from batchproxy.core.columns import Array, ArrayColumn
from batchproxy.core.request import Reply
from benchmarks.micro.grpc_codec import CALLS, SIGNATURE, repeated
from benchmarks.micro.timing import Case, Round

SHAPES = ((1, 3), (1, 784), (64, 784))


def predict_body(array: Array) -> bytes:
    """Row form, numbers as Python's ``json`` prints them: the shortest text of the double that the float32 is.

    Rounded to four digits, as measured features and pixels are.
    """
    return orjson.dumps({"instances": np.round(array.astype(float), 4).tolist()})


def cases() -> Sequence[Case]:
    """One short row, one long, and a full batch in one request; the yardstick is orjson without TF Serving's rules."""
    found = []
    for shape in SHAPES:
        size = f"{shape[0]} x {shape[1]}"
        found += [
            Case(f"orjson alone: loads + np.array {size}", partial(_orjson_loads, shape)),
            Case(
                f"tfs_rest: parse and decode {size}", partial(_decode, shape), f"orjson alone: loads + np.array {size}"
            ),
            Case(f"orjson alone: tolist + dumps {size}", partial(_orjson_dumps, shape)),
            Case(f"tfs_rest: encode {size}", partial(_encode, shape), f"orjson alone: tolist + dumps {size}"),
        ]
    return found


def _rows(shape: tuple[int, int]) -> Array:
    return np.random.default_rng(1).random(shape, np.float32)


def _times(shape: tuple[int, int]) -> int:
    """A full batch is long enough by itself."""
    return 1 if shape[0] > 1 else CALLS


def _orjson_loads(shape: tuple[int, int]) -> Round:
    body = predict_body(_rows(shape))
    return repeated(lambda: np.array(orjson.loads(body)["instances"], np.float32), _times(shape))


def _decode(shape: tuple[int, int]) -> Round:
    body = predict_body(_rows(shape))

    def call() -> object:
        envelope = tfs_rest.parse_body(body)
        return tfs_rest.decode_predict(envelope, envelope.signature_name, SIGNATURE)

    return repeated(call, _times(shape))


def _orjson_dumps(shape: tuple[int, int]) -> Round:
    array = _rows(shape)
    return repeated(lambda: orjson.dumps({"predictions": array.tolist()}), _times(shape))


def _encode(shape: tuple[int, int]) -> Round:
    reply = Reply({"y": ArrayColumn(_rows(shape))}, 1)
    return repeated(lambda: tfs_rest.encode_predict(reply, row_form=True), _times(shape))
