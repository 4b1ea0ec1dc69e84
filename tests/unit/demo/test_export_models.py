"""Tests of ``batchproxy.demo.export_models``: the quick part; `tests/integration/test_demo_models.py` trains."""

from __future__ import annotations

from pathlib import Path

import onnx

from batchproxy.demo import data
from batchproxy.demo.export_models import half_plus_two


def test_half_plus_two_is_what_is_committed() -> None:
    """The script makes the committed model, up to the order in which protobuf writes."""
    committed = onnx.load(data.FOLDER / "models" / "half_plus_two" / "1" / "model.onnx")

    assert half_plus_two() == committed


def test_small_enough_to_commit() -> None:
    """Models and data together stay below 300 KB."""
    files = [path for path in Path(data.FOLDER).rglob("*") if path.suffix in {".onnx", ".npz"}]

    assert 3 == len(files)
    assert sum(path.stat().st_size for path in files) < 300_000
