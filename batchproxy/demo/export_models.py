"""Makes the demo's committed models and data again: ``python -m batchproxy.demo.export_models``. Never run by the demo.

Needs the ``test`` extra (scikit-learn, skl2onnx, onnx). The same versions give the same bytes.
Source of the images: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine
Learning Repository, https://doi.org/10.24432/C50P49, CC BY 4.0; the copy that scikit-learn bundles.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from batchproxy.core.columns import Array

OPSET = 17
"""Read by every onnxruntime since 1.12, as is IR version 8."""

IR_VERSION = 8

SEED = 2


def half_plus_two() -> onnx.ModelProto:
    """TensorFlow Serving's hello-world: ``x`` float32 [N] to ``y = x / 2 + 2``."""
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "half"], ["halved"]), helper.make_node("Add", ["halved", "two"], ["y"])],
        "half_plus_two",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N"])],
        [
            helper.make_tensor("half", TensorProto.FLOAT, [], [0.5]),
            helper.make_tensor("two", TensorProto.FLOAT, [], [2.0]),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def digits() -> tuple[onnx.ModelProto, Array, Array]:
    """A classifier of 8x8 images of handwritten digits, with the images it has not seen.

    Returns:
        the model: ``pixels`` float32 [N, 64] of 0..16 to ``label`` int64 [N] and ``probabilities``
        float32 [N, 10]; test images, uint8 [450, 64]; and their labels, int64 [450].
    """
    images, labels = load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(images, labels, random_state=SEED, stratify=labels)
    classifier = make_pipeline(MinMaxScaler((0, 1)), MLPClassifier((64,), alpha=0.01, max_iter=400, random_state=SEED))
    classifier.fit(train_x.astype(np.float32), train_y)
    model = to_onnx(
        classifier,
        name="digits",
        initial_types=[("pixels", FloatTensorType([None, 64]))],
        final_types=[("label", None), ("probabilities", None)],
        options={"zipmap": False},
        target_opset=OPSET,
    )
    model.ir_version = IR_VERSION
    return model, test_x.astype(np.uint8), test_y.astype(np.int64)


def main(folder: Path) -> None:
    """Write ``models/*/1/model.onnx`` and ``digits.npz`` under ``folder``."""
    classifier, images, labels = digits()
    for name, model in (("half_plus_two", half_plus_two()), ("digits", classifier)):
        path = folder / "models" / name / "1" / "model.onnx"
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.checker.check_model(model, full_check=True)
        path.write_bytes(model.SerializeToString(deterministic=True))
        print(f"{path}: {path.stat().st_size} bytes")
    path = folder / "digits.npz"
    np.savez_compressed(path, images=images, labels=labels)
    print(f"{path}: {path.stat().st_size} bytes, {len(images)} images")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
