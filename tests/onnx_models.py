"""ONNX models made by script: one of each kind that is served in its own way. Opset 17; text needs opset 20."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64, STRING = int(TensorProto.FLOAT), int(TensorProto.INT64), int(TensorProto.STRING)
Dims = Sequence[int | str | None]
Values = Mapping[str, tuple[int, Dims]]


def model(
    nodes: Sequence[Any],
    inputs: Values,
    outputs: Values,
    weights: Mapping[str, np.ndarray[Any, Any]] | None = None,
    *,
    opset: int = 17,
) -> onnx.ModelProto:
    """A model of ``nodes``; names to (type, shape), and to constants."""
    graph = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info(name, dtype, shape) for name, (dtype, shape) in inputs.items()],
        [helper.make_tensor_value_info(name, dtype, shape) for name, (dtype, shape) in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10 if opset > 17 else 8)


def adding(number: float) -> onnx.ModelProto:
    """``y = x + number``, row by row: which version answered can be read from the answer."""
    node = helper.make_node("Add", ["x", "number"], ["y"])
    return model([node], {"x": (FLOAT, ["N"])}, {"y": (FLOAT, ["N"])}, {"number": np.array(number, np.float32)})


def dense() -> onnx.ModelProto:
    """Four numbers through two layers to three; and ``row``, which says whose row it is."""
    random = np.random.default_rng(1)
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "w2"], ["y"]),
        helper.make_node("Identity", ["number"], ["row"]),
    ]
    weights = {"w1": random.random((4, 8), np.float32), "w2": random.random((8, 3), np.float32)}
    return model(
        nodes,
        {"x": (FLOAT, ["N", 4]), "number": (INT64, ["N"])},
        {"y": (FLOAT, ["N", 3]), "row": (INT64, ["N"])},
        weights,
    )


def convnet() -> onnx.ModelProto:
    """Images of 8 x 8 x 3 through a convolution to five numbers."""
    random = np.random.default_rng(2)
    nodes = [
        helper.make_node("Transpose", ["image"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "kernel"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["y"]),
    ]
    weights = {"kernel": random.standard_normal((5, 3, 3, 3)).astype(np.float32)}
    return model(nodes, {"image": (FLOAT, ["N", 8, 8, 3])}, {"y": (FLOAT, ["N", 5])}, weights)


def text() -> onnx.ModelProto:
    """A string with an exclamation mark behind it."""
    node = helper.make_node("StringConcat", ["words", "mark"], ["loud"])
    weights = {"mark": np.array("!", object)}
    return model([node], {"words": (STRING, ["N"])}, {"loud": (STRING, ["N"])}, weights, opset=20)


def whole() -> onnx.ModelProto:
    """int64 times two."""
    node = helper.make_node("Add", ["n", "n"], ["twice"])
    return model([node], {"n": (INT64, ["N"])}, {"twice": (INT64, ["N"])})


def pair() -> onnx.ModelProto:
    """Two inputs of different types, two outputs."""
    nodes = [
        helper.make_node("Cast", ["count"], ["as_float"], to=FLOAT),
        helper.make_node("Mul", ["price", "as_float"], ["total"]),
        helper.make_node("Neg", ["count"], ["back"]),
    ]
    return model(
        nodes,
        {"price": (FLOAT, ["N"]), "count": (INT64, ["N"])},
        {"total": (FLOAT, ["N"]), "back": (INT64, ["N"])},
    )


def lengths() -> onnx.ModelProto:
    """Rows of any length, each to its sum: rows of unequal lengths do not share a call."""
    node = helper.make_node("ReduceSum", ["x", "axis"], ["sum"], keepdims=0)
    return model([node], {"x": (FLOAT, ["N", "L"])}, {"sum": (FLOAT, ["N"])}, {"axis": np.array([1], np.int64)})


def single() -> onnx.ModelProto:
    """One row, and no more."""
    node = helper.make_node("Add", ["x", "x"], ["y"])
    return model([node], {"x": (FLOAT, [1, 3])}, {"y": (FLOAT, [1, 3])})


def scalar() -> onnx.ModelProto:
    """An output of rank 0: the sum of all there is, so rows of others must not be among them."""
    nodes = [helper.make_node("ReduceSum", ["x"], ["all"], keepdims=0), helper.make_node("Neg", ["x"], ["minus"])]
    return model(nodes, {"x": (FLOAT, ["N"])}, {"all": (FLOAT, []), "minus": (FLOAT, ["N"])})


def chooser() -> onnx.ModelProto:
    """A label and probabilities for three numbers, as scikit-learn's converter writes them without ZipMap."""
    nodes = [
        helper.make_node("Softmax", ["x"], ["probabilities"]),
        helper.make_node("ArgMax", ["x"], ["label"], axis=1, keepdims=0),
    ]
    return model(nodes, {"x": (FLOAT, ["N", 3])}, {"label": (INT64, ["N"]), "probabilities": (FLOAT, ["N", 3])})


ZOO: Mapping[str, Callable[[], onnx.ModelProto]] = {
    made.__name__: made for made in (dense, convnet, text, whole, pair, lengths, single, scalar, chooser)
}
"""Every kind, by name."""


def write(folder: Path, version: int, made: onnx.ModelProto) -> Path:
    """Put a model into ``folder/version/model.onnx`` as one does it while a server looks: whole, by a rename."""
    folder.mkdir(parents=True, exist_ok=True)
    before = folder / f".{version}"
    before.mkdir()
    (before / "model.onnx").write_bytes(made.SerializeToString())
    before.rename(folder / str(version))
    return folder
