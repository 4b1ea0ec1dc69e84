"""A small convolutional network as an ONNX model, made from a seed. Nothing is measured here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SHAPE = (1, 28, 28)
CHANNELS = (8, 16)
CLASSES = 10
SEED = 1


def build() -> onnx.ModelProto:
    """``x`` float32 [N, 1, 28, 28] through two convolutions with pooling to ``y`` float32 [N, 10]."""
    random = np.random.default_rng(SEED)
    nodes, weights, value, inner = [], [], "x", SHAPE[0]
    for layer, outer in enumerate(CHANNELS, start=1):
        kernel = random.standard_normal((outer, inner, 3, 3)) * np.sqrt(2 / (9 * inner))
        weights.append(numpy_helper.from_array(kernel.astype(np.float32), f"k{layer}"))
        nodes += [
            helper.make_node("Conv", [value, f"k{layer}"], [f"c{layer}"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", [f"c{layer}"], [f"r{layer}"]),
            helper.make_node("MaxPool", [f"r{layer}"], [f"p{layer}"], kernel_shape=[2, 2], strides=[2, 2]),
        ]
        value, inner = f"p{layer}", outer
    width = inner * (SHAPE[1] // 4) * (SHAPE[2] // 4)
    last = random.standard_normal((width, CLASSES)) * np.sqrt(1 / width)
    weights.append(numpy_helper.from_array(last.astype(np.float32), "w"))
    nodes += [
        helper.make_node("Flatten", [value], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "convnet",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *SHAPE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", CLASSES])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def write(folder: Path) -> Path:
    """Write ``folder/1/model.onnx`` and return ``folder``."""
    path = folder / "1" / "model.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(build().SerializeToString())
    return folder
