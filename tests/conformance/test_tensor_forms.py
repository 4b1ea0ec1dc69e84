"""Every DataType in every form a value may have, through the messages of ``tensorflow-serving-api`` and back."""

from __future__ import annotations

import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # before the import: TensorFlow writes to stderr otherwise
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

import itertools

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from batchproxy.codecs import _dtypes, tensor_proto, tfs_calls, tfs_grpc
from batchproxy.core.columns import Array
from batchproxy.core.request import BatchKey, Reply
from batchproxy.core.shapes import UNDECLARED
from tests.unit.codecs.test_tensor_proto import CLIENT_ROWS, comparable, some_values

FORMS = ("typed field", "tensor_content", "last value repeats", "no value")


def sent(row: _dtypes.DType, form: str) -> tuple[bytes, Array]:
    """A PredictRequest for three rows of two in one form, and what it means."""
    array = some_values(row, (3, 2))
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "m"
    proto = request.inputs["x"]
    if form == "tensor_content":
        proto.CopyFrom(tf.make_tensor_proto(array, dtype=tf.dtypes.as_dtype(row.number)))
        proto.ClearField(row.field)
        proto.tensor_content = bytes(tensor_proto.content_of(array))
    else:
        held = {"typed field": array, "last value repeats": array.ravel()[:2], "no value": array[:0]}[form]
        proto.ParseFromString(tensor_proto.from_array(held).SerializeToString())
        proto.tensor_shape.CopyFrom(tf.TensorShape((3, 2)).as_proto())
        if form == "last value repeats":
            array = np.concatenate([held, np.repeat(held[-1:], 4)]).reshape(3, 2)
        elif form == "no value":
            array = np.full((3, 2), b"" if row.name == "string" else row.numpy.type(0), row.numpy)
    return request.SerializeToString(), array


@pytest.mark.parametrize("forms", list(itertools.product(FORMS, repeat=2)), ids="+".join)
@pytest.mark.parametrize("row", CLIENT_ROWS, ids=lambda row: row.name)
def test_two_forms_share_a_call_and_each_gets_its_own(row: _dtypes.DType, forms: tuple[str, str]) -> None:
    """Read, merged, written for the server, answered, cut, and written for the callers; read by ``make_ndarray``."""
    (one, first), (two, second) = (sent(row, form) for form in forms)
    columns = [tfs_grpc.decode_inputs(tfs_grpc.parse_predict(message), UNDECLARED)["x"] for message in (one, two)]
    merged = columns[0].concat(columns[1:])
    request = predict_pb2.PredictRequest.FromString(
        tfs_calls.encode_predict_request(BatchKey("m", None, "serving_default"), {"x": merged})
    )
    due = np.concatenate([first, second])
    response = predict_pb2.PredictResponse()
    response.outputs["y"].CopyFrom(request.inputs["x"])
    reply = tfs_calls.decode_predict_reply(response.SerializeToString())
    shares = [Reply({"y": reply.columns["y"].take(start, start + 3)}, 1) for start in (0, 3)]
    found = [predict_pb2.PredictResponse.FromString(tfs_grpc.encode_predict(one, "m", "s")) for one in shares]

    assert [comparable(first), comparable(second)] == [comparable(column.array) for column in columns]
    assert comparable(due) == comparable(np.asarray(tf.make_ndarray(request.inputs["x"]), row.numpy))
    assert [comparable(first), comparable(second)] == [
        comparable(np.asarray(tf.make_ndarray(answer.outputs["y"]), row.numpy)) for answer in found
    ]
