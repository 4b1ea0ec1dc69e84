"""The benchmark of embedded models: its arithmetic, its tables, its models. Nothing is measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from batchproxy.backends.onnx import OnnxBackend
from batchproxy.core.shapes import DEFAULT_SIGNATURE
from benchmarks import onnx, onnx_models
from benchmarks.load.job import Result

WAY = onnx.LINES[-1]


def test_the_share_of_the_ideal() -> None:
    """T(1) = 2 ms and T(16) = 8 ms: sixteen rows a call could be four times as many; 1,800 a second are 0.9 of it."""
    times = [2.0, 2.0, 3.0, 4.0, 8.0, 20.0, 40.0, 80.0]
    result = Result(answered=3600, seconds=2.0, p99_ms=11.0, server_cpu_s=3.0, load_cpu_s=0.5)
    line = onnx._line("mlp", WAY, [(result, 16.0)], [times])

    assert (1800.0, 3.6, 16.0, 4.0) == (line.per_second, line.gain, line.rows, line.ideal)
    assert 0.9 == pytest.approx(line.share)
    assert (1.5, 0.25, 0) == (line.server_cpu, line.load_cpu, line.faults)


def test_faults_are_told() -> None:
    """A wrong answer, a lost one, and a server that made no call."""
    results = [(Result(answered=1, seconds=1.0, wrong=1, fault="wrong"), 0.0), (Result(lost=2, fault="lost"), 0.0)]
    line = onnx._line("mlp", WAY, results, [[1.0] * len(onnx.SIZES)] * 2)

    assert (3, "wrong", 1.0) == (line.faults, line.fault, line.ideal)


def test_the_tables() -> None:
    """Times and gains of each size, a row a line, the switch in words."""
    line = onnx.Line("mlp", "gRPC", 1800.0, 3.6, 16.0, 4.0, 0.9, 11.0, 1.5, 0.25, 0, "")
    raw = {model: [float(2 + size) for size in onnx.SIZES] for model in onnx.MODELS}
    told = onnx.text(onnx.Found(raw, [line], onnx.Switch((5.0, 6.25), 12345, 0, "")))

    assert "| mlp, gRPC  |      1,800 | 3.60 |        16.0 |       4.00 |      90 |   11.0 |         1.50 |" in told
    assert "0 of 12,345 requests failed; p99 6.2 ms, without a switch 5.0 ms" in told
    assert f"| mlp: gain     | {1.0:4.1f} |" in told


def test_the_models(tmp_path: Path) -> None:
    """The convnet takes images, and its file of rows holds what is due for them."""
    onnx_models.write(tmp_path / "convnet", 1, onnx_models.convnet().SerializeToString())
    backend = OnnxBackend(tmp_path / "convnet")
    rows = onnx._write_rows(tmp_path, "convnet", backend)

    assert (None, *onnx_models.IMAGE) == backend.signatures[DEFAULT_SIGNATURE].inputs["x"].shape
    with np.load(tmp_path / "convnet.npz") as file:
        assert (len(rows), onnx_models.CLASSES) == file["y"].shape
