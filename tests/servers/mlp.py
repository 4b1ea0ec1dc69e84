"""The ONNX file of the zoo's small model: two layers, and a row number that passes through."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper


def make() -> bytes:
    """The file: ``x`` float32 [N, 8] -> ``y`` float32 [N, 3]; ``row`` int64 [N, 1] -> ``row``."""
    draw = np.random.default_rng(0)
    weights = [draw.standard_normal(shape).astype(np.float32) for shape in ((8, 16), (16, 3))]
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w0"], ["hidden"]),
            helper.make_node("Tanh", ["hidden"], ["bent"]),
            helper.make_node("MatMul", ["bent", "w1"], ["y"]),
            helper.make_node("Identity", ["row"], ["row_out"]),
        ],
        "mlp",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8]),
            helper.make_tensor_value_info("row", TensorProto.INT64, ["n", 1]),
        ],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3]),
            helper.make_tensor_value_info("row_out", TensorProto.INT64, ["n", 1]),
        ],
        [numpy_helper.from_array(weight, f"w{at}") for at, weight in enumerate(weights)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()
