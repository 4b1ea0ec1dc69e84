"""A multi-layer perceptron, made from a seed when needed: the demo's model with real arithmetic. No training here.

256-2048-2048-256 with ReLU: 5.2 million weights (21 MB, too much to commit). One row must read all of them from
memory; 64 rows read them once. Hence the gain of batching: about 5.5 on one core, which `data.alone_ms` measures.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTHS = (256, 2048, 2048, 256)

SEED = 1


def build(widths: tuple[int, ...] = WIDTHS) -> onnx.ModelProto:
    """The model: ``x`` float32 [N, widths[0]] to ``y`` float32 [N, widths[-1]]; always the same weights."""
    random = np.random.default_rng(SEED)
    nodes, weights, value = [], [], "x"
    for layer, (inner, outer) in enumerate(itertools.pairwise(widths), start=1):
        scale = np.sqrt(
            2 / inner
        )  # He's initialisation keeps values near 1 through ReLUs, so tolerances mean something
        matrix = (random.standard_normal((inner, outer)) * scale).astype(np.float32)
        weights += [
            numpy_helper.from_array(matrix, f"w{layer}"),
            numpy_helper.from_array(np.zeros(outer, np.float32), f"b{layer}"),
        ]
        last = layer == len(widths) - 1
        nodes.append(helper.make_node("Gemm", [value, f"w{layer}", f"b{layer}"], ["y" if last else f"h{layer}"]))
        if not last:
            value = f"r{layer}"
            nodes.append(helper.make_node("Relu", [f"h{layer}"], [value]))
    graph = helper.make_graph(
        nodes,
        "mlp",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", widths[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", widths[-1]])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def write(folder: Path, widths: tuple[int, ...] = WIDTHS) -> Path:
    """Write ``folder/1/model.onnx`` and return ``folder``."""
    path = folder / "1" / "model.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(build(widths).SerializeToString())
    return folder
