"""The committed models are what the script makes, and they know their digits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from batchproxy.backends.onnx import OnnxBackend
from batchproxy.core.columns import ArrayColumn
from batchproxy.core.request import BatchKey
from batchproxy.core.shapes import DEFAULT_SIGNATURE, Signature, TensorSpec
from batchproxy.demo import data, export_models

KEY = BatchKey("digits", 1, DEFAULT_SIGNATURE)

OTHER_PROCESSOR = 0.01
"""How far a probability may be off that was trained on another one, whose vectors are longer or shorter: each step of
some thousands starts where the one before it ended. Measured: 0.0022 with AVX-512, the same with one thread or two."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the script makes, training included: about two seconds."""
    folder = tmp_path_factory.mktemp("models")
    export_models.main(folder)
    return folder


@pytest.mark.slow
def test_the_digits_model_can_be_made_again(folder: Path) -> None:
    """Training ends at the committed model, as nearly as another processor's last digits let it."""
    labels, probabilities = [], []
    with np.load(folder / "digits.npz") as images:
        columns = {"pixels": ArrayColumn(images["images"].astype(np.float32))}
    for place in (data.FOLDER, folder):
        answer = OnnxBackend(place / "models" / "digits").run(KEY, columns)
        assert isinstance(answer["label"], ArrayColumn)
        assert isinstance(answer["probabilities"], ArrayColumn)
        labels.append(answer["label"].array)
        probabilities.append(answer["probabilities"].array)

    np.testing.assert_allclose(probabilities[1], probabilities[0], rtol=0.0, atol=OTHER_PROCESSOR)
    second, first = np.sort(probabilities[0])[:, -2:].T
    sure = first - second > 2 * OTHER_PROCESSOR
    assert sure.mean() > 0.97
    assert labels[0][sure].tolist() == labels[1][sure].tolist()


@pytest.mark.slow
def test_the_other_files_can_be_made_again(folder: Path) -> None:
    """Byte for byte: nothing is computed in them."""
    half = Path("models", "half_plus_two", "1", "model.onnx")

    assert (data.FOLDER / half).read_bytes() == (folder / half).read_bytes()
    with np.load(data.FOLDER / "digits.npz") as committed, np.load(folder / "digits.npz") as made:
        assert committed["images"].tolist() == made["images"].tolist()
        assert committed["labels"].tolist() == made["labels"].tolist()


def test_signature_of_the_digits_model() -> None:
    """Rows are open everywhere, so its calls may be merged; there is no ZipMap."""
    found = OnnxBackend(data.FOLDER / "models" / "digits").signatures[DEFAULT_SIGNATURE]

    assert found.batchable
    assert found == Signature(
        {"pixels": TensorSpec("float32", (None, 64))},
        {"label": TensorSpec("int64", (None,)), "probabilities": TensorSpec("float32", (None, 10))},
    )


def test_accuracy() -> None:
    """Of 450 images that it has not seen it labels 438 rightly: 97.3 %."""
    workload = data.digits()
    assert workload.labels is not None

    assert 438 == int(np.sum(workload.expected["label"] == workload.labels))
