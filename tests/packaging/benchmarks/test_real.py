"""The comparison with static settings, with real processes and counts that prove nothing about speed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks import onnx_models, real, servers, tables
from benchmarks.load import open_loop
from benchmarks.load.open_loop import Pace
from benchmarks.servers import Server


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Of three numbers each."""
    np.savez(tmp_path / "rows.npz", x=np.ones((4, 3), np.float32))
    return tmp_path / "rows.npz"


@pytest.fixture
def null(tmp_path: Path) -> Iterator[Server]:
    """A model that gives back what it is given."""
    server = servers.batchproxy("null", ["--model", "null=python:benchmarks.models:identity"], tmp_path)
    try:
        server.wait_ready()
        yield server
    finally:
        server.stop()


def test_calls_come_when_they_are_due(null: Server, rows: Path) -> None:
    """All of them are answered, as many as the pace says but for chance, and equal seeds give equal arrivals."""
    pace = Pace(null.ports["grpc"], "null", str(rows), 200.0, 1.0, warm_s=0.2)
    one, again = open_loop.run(pace), open_loop.run(pace)

    assert one.due == one.answered == one.in_time == again.due
    assert 130 < one.due < 270
    assert 0.0 < one.p50_ms <= one.p99_ms


def test_answers_that_are_late_are_not_in_time(null: Server, rows: Path) -> None:
    """Nor are refusals: a model that is not there answers nothing."""
    pace = Pace(null.ports["grpc"], "nobody", str(rows), 100.0, 0.3, warm_s=0.0, deadline_ms=5000)
    seen = open_loop.run(pace)

    assert (0, 0) == (seen.answered, seen.in_time)
    assert seen.due > 0


def test_no_server_is_no_figure(rows: Path) -> None:
    """The error is the load's own."""
    (port,) = servers.free_ports(1)

    with pytest.raises(OSError, match="ConnectionRefused"):
        open_loop.run(Pace(port, "null", str(rows), 10.0, 0.1))


def test_defaults_are_held_against_a_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Below capacity by the mean, above it by the share in time."""
    monkeypatch.setattr(real, "PAIRS", 1)
    grid = dict(list(real.GRID.items())[:2])
    told: list[str] = []
    below, above = real.measure(0.5, told.append, real.BACKENDS[1:2], grid, (0.1, 1.2))

    assert 12 == len(real.GRID)
    assert {below.best, below.worst} <= {*grid}  # one and the same where neither answered enough in half a second
    assert below.figures[1] <= below.figures[2] or below.ratio > 0
    assert all(0.0 <= share <= 1.0 for share in above.figures)
    assert below.rows >= 1.0
    assert "onnxruntime, convnet, 120 %" in tables.real_table([below, above])


def test_convnet_is_a_function_of_its_rows() -> None:
    """One row in, ten numbers out."""
    graph = onnx_models.convnet().graph

    assert ["x"] == [value.name for value in graph.input]
    assert [onnx_models.CLASSES] == [dim.dim_value for dim in graph.output[0].type.tensor_type.shape.dim][1:]
