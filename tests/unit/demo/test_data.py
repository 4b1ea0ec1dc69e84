"""Tests of ``batchproxy.demo.data``: the requests are read back by a stranger's messages and the standard library."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tensorflow_serving.apis.predict_pb2 import PredictRequest

from batchproxy.demo import data, mlp
from batchproxy.demo.data import Workload


@pytest.fixture(scope="module")
def digits() -> Workload:
    """The digits workload: 450 calls of the model."""
    return data.digits()


def test_half_plus_two() -> None:
    """Row numbers, and the answers of the model called directly."""
    workload = data.half_plus_two()

    assert "x" == workload.input
    assert (np.arange(1000) / 2 + 2).tolist() == workload.expected["y"].tolist()


def test_digits(digits: Workload) -> None:
    """Real images with their labels; the model knows most of them."""
    assert digits.labels is not None
    assert (450, 64) == digits.rows.shape
    assert 16 == digits.rows.max()
    assert {"label": (450,), "probabilities": (450, 10)} == {name: a.shape for name, a in digits.expected.items()}
    assert np.mean(digits.expected["label"] == digits.labels) > 0.95


def test_rest_requests(digits: Workload) -> None:
    """Each is one HTTP/1.1 request in TF Serving's row form."""
    requests = data.rest_requests(digits, "digits_unbatched")
    head, _, body = requests[7].partition(b"\r\n\r\n")

    assert 450 == len(requests)
    assert head.startswith(b"POST /v1/models/digits_unbatched:predict HTTP/1.1\r\n")
    assert f"Content-Length: {len(body)}".encode() in head.split(b"\r\n")
    assert {"instances": [digits.rows[7].tolist()]} == json.loads(body)


def test_grpc_requests(digits: Workload) -> None:
    """Each is a PredictRequest as TensorFlow Serving's own package reads it."""
    message = PredictRequest.FromString(data.grpc_requests(digits, "digits")[7])
    tensor = message.inputs["pixels"]

    assert "digits" == message.model_spec.name
    assert [1, 64] == [dim.size for dim in tensor.tensor_shape.dim]
    assert digits.rows[7].tolist() == np.frombuffer(tensor.tensor_content, np.float32).tolist()


def test_json_carries_the_rows_exactly(tmp_path: Path) -> None:
    """What a JSON reader makes of the MLP's rows, cast to float32, is what gRPC callers send."""
    workload = data.mlp(mlp.write(tmp_path / "mlp", (256, 8, 8, 4)))
    body = data.rest_requests(workload, "mlp")[3].partition(b"\r\n\r\n")[2]

    assert workload.rows[3].tolist() == np.array(json.loads(body)["instances"][0]).astype(np.float32).tolist()


def test_alone(digits: Workload) -> None:
    """One row and a batch are timed, in milliseconds."""
    one, many = data.alone_ms(digits, calls=3)

    assert 0 < one < 1000
    assert 0 < many < 1000
