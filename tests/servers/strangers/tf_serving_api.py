"""``tensorflow-serving-api`` before models of the Open Inference Protocol, in our environment. GRPC..."""

from __future__ import annotations

import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # before the import: TensorFlow writes to stderr otherwise
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)


def call(stub: prediction_service_pb2_grpc.PredictionServiceStub, number: int) -> None:
    """One row, which comes back with its number."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "echo_int64"
    x = np.array([[number, -number]], np.int64)
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(x))
    request.inputs["row"].CopyFrom(tf.make_tensor_proto(np.array([[number]], np.int64)))
    outputs = stub.Predict(request, timeout=60).outputs
    assert tf.make_ndarray(outputs["y"]).tolist() == [[-number, number]]
    assert tf.make_ndarray(outputs["row"]).tolist() == [[number]]


def check(address: str) -> None:
    """Everything that a client asks."""
    with grpc.insecure_channel(address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        call(stub, 0)
        with ThreadPoolExecutor(8) as crowd:
            list(crowd.map(lambda number: call(stub, number), range(48)))
        asked = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        asked.model_spec.name = "echo_int64"
        signatures = get_model_metadata_pb2.SignatureDefMap()
        stub.GetModelMetadata(asked, timeout=60).metadata["signature_def"].Unpack(signatures)
        assert sorted(signatures.signature_def["serving_default"].inputs) == ["row", "x"]
        question = get_model_status_pb2.GetModelStatusRequest()
        question.model_spec.name = "echo_int64"
        status = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(question, timeout=60)
        assert [one.state for one in status.model_version_status] == [get_model_status_pb2.ModelVersionStatus.AVAILABLE]


for place in sys.argv[1:]:
    check(place)
print("as expected")
