"""TF Serving's gRPC messages: bytes to columns, columns to bytes. No framing, no transport."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from batchproxy.codecs import tfs_grpc
from batchproxy.core.columns import Array, ArrayColumn
from batchproxy.core.request import Reply
from batchproxy.core.shapes import Signature, TensorSpec
from batchproxy.protos import tfs_pb2 as pb
from benchmarks.micro.timing import Case, Round

WIDTHS = (3, 784)
CALLS = 16

SIGNATURE = Signature({"x": TensorSpec("float32", (None, None))}, {"y": TensorSpec("float32", (None, None))})

DT_FLOAT = 1


def predict_request(model: str, array: Array, *, content: bool, alias: str = "x") -> bytes:
    """A PredictRequest for float32, as clients write it: ``make_tensor_proto`` fills the content, others the values."""
    request = pb.PredictRequest()
    request.model_spec.name = model
    tensor = request.inputs[alias]
    tensor.dtype = DT_FLOAT
    for size in array.shape:
        tensor.tensor_shape.dim.add().size = size
    if content:
        tensor.tensor_content = array.astype("<f4").tobytes()
    else:
        tensor.float_val.extend(array.ravel().tolist())
    return request.SerializeToString()


def repeated(call: Callable[[], object], times: int = CALLS) -> Round:
    """The same call a few times: a round must be longer than what counts it."""

    def work() -> int:
        for _ in range(times):
            call()
        return times

    return work


def cases() -> Sequence[Case]:
    """One row of 3 and of 784 floats, in both forms; the yardstick is protobuf without us."""
    found = []
    for width in WIDTHS:
        for content in (True, False):
            form = "tensor_content" if content else "float_val"
            yardstick = f"protobuf alone: parse 1 x {width}, {form}"
            found += [
                Case(yardstick, partial(_protobuf_parse, width, content)),
                Case(f"tfs_grpc: parse and decode 1 x {width}, {form}", partial(_decode, width, content), yardstick),
            ]
        yardstick = f"protobuf alone: serialize 1 x {width}"
        found += [
            Case(yardstick, partial(_protobuf_serialize, width)),
            Case(f"tfs_grpc: encode 1 x {width}", partial(_encode, width), yardstick),
        ]
    return found


def _row(width: int) -> Array:
    return np.random.default_rng(1).random((1, width), np.float32)


def _protobuf_parse(width: int, content: bool) -> Round:
    return repeated(partial(pb.PredictRequest.FromString, predict_request("m", _row(width), content=content)))


def _decode(width: int, content: bool) -> Round:
    message = predict_request("m", _row(width), content=content)
    return repeated(lambda: tfs_grpc.decode_inputs(tfs_grpc.parse_predict(message), SIGNATURE))


def _protobuf_serialize(width: int) -> Round:
    reply = Reply({"y": ArrayColumn(_row(width))}, 1)
    return repeated(pb.PredictResponse.FromString(tfs_grpc.encode_predict(reply, "m", "d")).SerializeToString)


def _encode(width: int) -> Round:
    reply = Reply({"y": ArrayColumn(_row(width))}, 1)
    return repeated(lambda: tfs_grpc.encode_predict(reply, "m", "serving_default"))
