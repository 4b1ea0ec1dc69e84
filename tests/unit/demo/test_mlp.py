"""Tests of ``batchproxy.demo.mlp``, with a small model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import numpy_helper

from batchproxy.backends.onnx import OnnxBackend
from batchproxy.core.columns import ArrayColumn
from batchproxy.core.request import BatchKey
from batchproxy.core.shapes import DEFAULT_SIGNATURE, TensorSpec
from batchproxy.demo import mlp

SMALL = (4, 8, 8, 3)


def test_same_model_every_time() -> None:
    """The seed decides all weights."""
    assert mlp.build(SMALL).SerializeToString() == mlp.build(SMALL).SerializeToString()


def test_it_computes_what_numpy_does(tmp_path: Path) -> None:
    """Two hidden layers with ReLU, a last one without."""
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in mlp.build(SMALL).graph.initializer}
    backend = OnnxBackend(mlp.write(tmp_path / "mlp", SMALL))
    x = np.arange(8, dtype=np.float32).reshape(2, 4) / 8
    answer = backend.run(BatchKey("mlp", 1, DEFAULT_SIGNATURE), {"x": ArrayColumn(x)})["y"]
    assert isinstance(answer, ArrayColumn)
    hidden = np.maximum(np.maximum(x @ weights["w1"], 0) @ weights["w2"], 0)

    assert {"x": TensorSpec("float32", (None, 4))} == backend.signatures[DEFAULT_SIGNATURE].inputs
    np.testing.assert_allclose(answer.array, hidden @ weights["w3"], rtol=1e-5, atol=1e-6)
