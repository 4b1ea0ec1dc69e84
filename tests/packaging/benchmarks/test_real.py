"""The comparison with static settings, with real processes and counts that prove nothing about speed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from benchmarks import loading, onnx_models, real, servers, tables
from benchmarks.load import open_loop
from benchmarks.load.open_loop import Pace, Seen
from benchmarks.real import Line
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


class Scripted:
    """A setting that answers as a script says, and its server.

    Args:
        number: stands for its port.
        seen: what comes back of it, look by look; the last one stays.
    """

    pid = 0

    def __init__(self, number: int, *seen: Seen) -> None:
        self.ports = {"grpc": number}
        self._seen = list(seen)
        self._calls = 0

    def look(self) -> Seen:
        """The next one."""
        self._calls += 1
        return self._seen.pop(0) if len(self._seen) > 1 else self._seen[0]

    def batches(self, model: str) -> tuple[float, float]:
        """A look is a call of four rows."""
        return self._calls, 4 * self._calls


def looked(mean_ms: float, answered: int = 100, in_time: int = 100) -> Seen:
    """Of a hundred calls."""
    return Seen(100, answered, in_time, mean_ms, mean_ms, 2 * mean_ms, 0.5)


def reported(monkeypatch: pytest.MonkeyPatch, load: float, **settings: Sequence[Seen]) -> Line:
    """The line of settings that answer so."""
    running = {name: Scripted(number, *seen) for number, (name, seen) in enumerate(settings.items())}
    by_port = {one.ports["grpc"]: one for one in running.values()}
    monkeypatch.setattr(open_loop, "run", lambda pace: by_port[pace.port].look())
    monkeypatch.setattr(loading, "run", lambda job: SimpleNamespace(per_second=1000.0))
    backend = real._OneBackend(real.BACKENDS[1], cast("Any", running), Path("rows"), 0.5, lambda line: None)
    return backend.line(load)


def test_below_capacity_the_mean_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The best of the first looks is looked at again; who answers too little has no mean."""
    line = reported(
        monkeypatch,
        0.5,
        defaults=[looked(3.0)],
        quick=[looked(1.0), looked(2.0)],
        slow=[looked(5.0)],
        silent=[looked(0.1, answered=98)],
    )

    assert ("quick", "silent", 500.0, 4.0) == (line.best, line.worst, line.per_second, line.rows)
    assert ((3.0, 2.0, math.inf), 1.5, (6.0, 4.0)) == (line.figures, line.ratio, line.p99_ms)


def test_above_capacity_the_share_in_time_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long answers took on average; the defaults are so much better."""
    line = reported(
        monkeypatch,
        1.2,
        defaults=[looked(50.0, in_time=75)],
        one=[looked(9.0, in_time=25)],
        other=[looked(90.0, in_time=50)],
    )

    assert ("other", "one", (0.75, 0.5, 0.25), 0.25) == (line.best, line.worst, line.figures, line.ratio)


def test_who_answers_nothing_is_no_yardstick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither for the best, when it fails the second time, nor of the defaults."""
    good, bad = looked(2.0), looked(2.0, answered=10)

    assert 0.0 == reported(monkeypatch, 0.5, defaults=[good], one=[good, bad]).ratio
    assert math.inf == reported(monkeypatch, 0.5, defaults=[bad], one=[good]).ratio


def test_defaults_are_held_against_a_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    """With processes; what comes out of half a second is chance."""
    monkeypatch.setattr(real, "PAIRS", 1)
    grid = dict(list(real.GRID.items())[:1])
    told: list[str] = []
    below, above = real.measure(0.5, told.append, real.BACKENDS[1:2], grid, (0.1, 1.2))

    assert 12 == len(real.GRID)
    assert {below.best, below.worst, above.best, above.worst} <= {*grid}
    assert all(0.0 <= share <= 1.0 for share in above.figures)
    assert below.rows == 0.0 or below.rows >= 1.0
    assert "onnxruntime, convnet: 10%, defaults" in told
    assert "onnxruntime, convnet, 120 %" in tables.real_table([below, above])


def test_convnet_is_a_function_of_its_rows() -> None:
    """One row in, ten numbers out."""
    graph = onnx_models.convnet().graph

    assert ["x"] == [value.name for value in graph.input]
    assert [onnx_models.CLASSES] == [dim.dim_value for dim in graph.output[0].type.tensor_type.shape.dim][1:]
