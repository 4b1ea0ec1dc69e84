"""The models of ``benchmarks.onnx`` and ``benchmarks.real``, made from a seed. Nothing is measured here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from batchproxy.demo import mlp

IMAGE = (3, 32, 32)
CHANNELS = (64, 128)
CLASSES = 10
SEED = 1
SMALL = (32, 64, 64, 8)
"""Widths of the small model's layers."""


def convnet() -> onnx.ModelProto:
    """``x`` float32 [N, 3, 32, 32] through two convolutions with pooling to ``y`` float32 [N, 10]: 41 MFLOP a row.

    Arithmetic, not memory, is what it takes: the gain of a batch is small.
    """
    random = np.random.default_rng(SEED)
    nodes, weights, value, inner = [], [], "x", IMAGE[0]
    for layer, outer in enumerate(CHANNELS, start=1):
        kernel = random.standard_normal((outer, inner, 3, 3)) * np.sqrt(2 / (9 * inner))
        weights.append(numpy_helper.from_array(kernel.astype(np.float32), f"k{layer}"))
        nodes += [
            helper.make_node("Conv", [value, f"k{layer}"], [f"c{layer}"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", [f"c{layer}"], [f"r{layer}"]),
            helper.make_node("MaxPool", [f"r{layer}"], [f"p{layer}"], kernel_shape=[2, 2], strides=[2, 2]),
        ]
        value, inner = f"p{layer}", outer
    last = random.standard_normal((inner, CLASSES)) * np.sqrt(1 / inner)
    weights.append(numpy_helper.from_array(last.astype(np.float32), "w"))
    nodes += [
        helper.make_node("GlobalAveragePool", [value], ["average"]),
        helper.make_node("Flatten", ["average"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "convnet",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *IMAGE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", CLASSES])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


MODELS: Mapping[str, Callable[[], bytes]] = {
    "small": lambda: mlp.build(SMALL).SerializeToString(),
    "mlp": lambda: mlp.build().SerializeToString(),
    "convnet": lambda: convnet().SerializeToString(),
}
"""By name: little beside what a call costs; weights that a batch reads once; arithmetic."""


def write(folder: Path, version: int, model: bytes) -> Path:
    """Put ``folder/version/model.onnx`` there whole, by a rename, and return ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    before = folder / f".{version}"
    before.mkdir()
    (before / "model.onnx").write_bytes(model)
    before.rename(folder / str(version))
    return folder
