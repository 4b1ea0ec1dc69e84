"""The benchmark of ONNX models: its arithmetic, its tables, its models, its requests. Nothing is measured.

wrk, h2load and Triton are not needed here.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from batchproxy.backends.onnx import OnnxBackend
from batchproxy.core.columns import Array
from batchproxy.core.shapes import DEFAULT_SIGNATURE
from benchmarks import onnx, onnx_models, onnx_table, onnx_triton, onnx_ways, tables
from benchmarks.micro.timing import Figure
from benchmarks.onnx import Found, Line, Sample, Switch
from benchmarks.onnx_requests import PROTOCOLS, request
from benchmarks.onnx_ways import Way
from benchmarks.wire.tools import Load

TIMES = [2.0, 2.0, 3.0, 4.0, 8.0, 20.0, 40.0, 80.0]
METRICS = """\
nv_inference_count{model="mlp",version="1"} 640.000000
nv_inference_exec_count{model="mlp",version="1"} 20.000000
nv_inference_count{model="mlp-32",version="1"} 7.000000
"""


def _way(name: str, protocol: str = "gRPC") -> Way:
    return next(way for way in onnx_ways.ways("mlp", protocol) if way.name == name)


def _line(name: str, *rates: float, rows: float = 16.0, model: str = "mlp") -> Line:
    samples = [Sample(Load(1000, rate, 0, 5.0, 11.0), rows, 1.5, 0.75, 0.5) for rate in rates]
    return Line(model, _way(name), samples)


def _found(*lines: Line) -> Found:
    rounds = [TIMES] * len(lines[0].samples)
    models = {line.model for line in lines}
    switch, image = Switch((5.0, 6.25), 12345, 0, ""), [Figure("image", 4000.0, 4100.0, "orjson", 0.31)]
    return Found(dict.fromkeys(models, rounds), dict.fromkeys(models, rounds), lines, switch, image)


def test_the_share_of_the_ideal() -> None:
    """T(1) = 2 ms and T(16) = 8 ms: sixteen rows a call could be four times as many; 1,500 a second are 3/4 of it.

    Of two cores the load took half a one, so that is all there was; a pinned server shares its core with no load.
    """
    sample = _line(onnx_ways.ON, 1500).samples[0]

    assert pytest.approx((3.0, 4.0, 0.75, 1.0)) == onnx.share(sample, TIMES, 2)
    assert pytest.approx((3.0, 4.0, 0.75, 0.75)) == onnx.share(sample, TIMES, 1)
    assert 1.0 == onnx.share(replace(sample, rows=0.0), TIMES, 1)[1]


def test_ratios_are_taken_within_the_round() -> None:
    """The best of Triton's own ways is found by its rate over all rounds, and divides each round's."""
    slow, best, front = (
        _line(onnx_ways.TRITON_BATCHING, 50, 60, 70),
        _line(onnx_ways.TUNED["-32"], 100, 10, 200),
        _line(onnx_ways.IN_FRONT, 150, 40, 400),
    )
    other = _line(onnx_ways.TUNED["-64"], 900, 900, 900, model="convnet")

    gone = _line(onnx_ways.TUNED["-64"], 900)

    assert best is onnx_table.best_of_triton(_found(slow, best, front, other, gone), front)
    assert 2.0 == onnx_table.verdicts(_found(slow, best, front))["mlp, gRPC: batchproxy > Triton / Triton's best"]
    assert {} == onnx_table.verdicts(_found(front))


def test_the_tables() -> None:
    """Times and gains of each size, a row a line, targets with their verdicts, the switch in words."""
    batching, front = _line(onnx_ways.TRITON_BATCHING, 100), _line(onnx_ways.IN_FRONT, 94, model="mlp")
    lines = [
        replace(batching, model="convnet"),
        replace(front, model="convnet"),
        replace(_line(onnx_ways.ON, 1500), fault="other values"),
        replace(_line(onnx_ways.TRITON_ALONE), fault="could not be loaded"),
    ]
    told = onnx_table.text(_found(*lines))
    cut = [[cell.strip() for cell in row.split("|")[1:-1]] for row in told.splitlines() if row.startswith("|")]
    rows = {name: cells for name, *cells in cut}

    assert ["2.00", "2.00", "3.00", "4.00", "8.00", "20.00", "40.00", "80.00"] == rows["mlp"]
    assert "4.0" == rows["mlp, one thread: gain"][4]
    assert ["1,500", "", "3.00", "16.0", "4.00", "75"] == rows["mlp, gRPC: embedded"][:6]
    assert [
        "11.0",
        "1.50",
        "",
        "0.50",
    ] == rows["mlp, gRPC: embedded"][7:]
    assert ["94", "0.94"] == rows["convnet, gRPC: batchproxy > Triton"][:2]
    assert ["0.94", ">= 0.95 MISSED"] == rows["convnet, gRPC: batchproxy > Triton / Triton's best"]
    assert "0 of 12,345 requests failed; p99 6.2 ms, without a switch 5.0 ms" in told
    assert "0.31" == rows["image"][2]
    assert [
        ("mlp, gRPC, embedded", "other values"),
        ("mlp, gRPC, Triton, batching off", "could not be loaded"),
    ] == onnx_table.faults(_found(*lines))
    assert "mlp, gRPC: Triton, batching off" not in rows


def test_every_target_is_measured() -> None:
    """A target whose line was renamed would never be looked at."""
    lines = [
        Line(model, way, _line(way.name, 100).samples)
        for model in onnx_models.MODELS
        for protocol in onnx_ways.V2
        for way in onnx_ways.ways(model, protocol)
    ]

    quick = {way for model in onnx_models.MODELS for way in onnx_ways.ways(model, "gRPC", quick=True)}

    assert set(tables.budgets()["onnx"]) <= set(onnx_table.verdicts(_found(*lines)))
    assert quick < {line.way for line in lines}


def test_the_models(tmp_path: Path) -> None:
    """Each takes rows of float32 and has as many answers."""
    for name, made in onnx_models.MODELS.items():
        backend = OnnxBackend(onnx_models.write(tmp_path / name, 1, made()))
        rows, due = onnx._rows(backend)

        assert len(rows) == len(due)
        assert ["float32"] == [spec.dtype for spec in backend.signatures[DEFAULT_SIGNATURE].inputs.values()]
    assert (None, *onnx_models.IMAGE) == backend.signatures[DEFAULT_SIGNATURE].inputs["x"].shape


def test_triton_is_told_and_read(tmp_path: Path) -> None:
    """Its configuration names shapes and batching; its metrics tell calls and rows of one model."""
    told = onnx_triton.config("mlp-default", tmp_path / "m.onnx", (3, 32), (10,), 2, "dynamic_batching { }")

    assert (20.0, 640.0) == onnx_triton.read_batches(METRICS, "mlp")
    assert (0.0, 0.0) == onnx_triton.read_batches(METRICS, "small")
    assert 'name: "x" data_type: TYPE_FP32 dims: [3, 32]' in told
    assert told.rstrip().endswith("dynamic_batching { }")


def test_cores_are_given_back() -> None:
    """A server is started on the first core, the load on the others; this thread goes on wherever it may."""
    before = os.sched_getaffinity(0)
    first, others = onnx_ways.split_cores()
    with onnx_ways.on_cores(first):
        meanwhile = os.sched_getaffinity(0)

    assert first == meanwhile
    assert before == first | others == os.sched_getaffinity(0)


def test_servers_are_asked(tmp_path: Path) -> None:
    """An embedded model answers every protocol rightly, callers at once; what is due for other rows is found wrong."""
    onnx_models.write(tmp_path / "small", 1, onnx_models.MODELS["small"]())
    x, y = onnx._rows(OnnxBackend(tmp_path / "small"))

    def ask(protocol: str, due: Array) -> str:
        requests = [request(protocol, "small", x[at : at + 1], due[at : at + 1]) for at in range(len(x))]
        return onnx_ways.ask(server.ports[requests[0].door], requests)

    with ExitStack() as stack:
        described = {"small": (tmp_path, x.shape[1:], y.shape[1:])}
        server = onnx_ways.start(described, [_way(onnx_ways.ON)], tmp_path, stack)["on"]
        faults = {protocol: (ask(protocol, y), ask(protocol, np.roll(y, 1, 0))) for protocol in PROTOCOLS}
        unknown = request("gRPC", "nobody", x[:1], y[:1])
        refused = onnx_ways.ask(server.ports["grpc"], [unknown])
        size = onnx_ways.answer_bytes(server.ports["grpc"], request("gRPC", "small", x[:1], y[:1]))
        none = onnx_ways.answer_bytes(server.ports["grpc"], unknown)
        calls, rows = server.batches("small")

    assert dict.fromkeys(PROTOCOLS, "") == {protocol: right for protocol, (right, _) in faults.items()}
    assert all(wrong for _, wrong in faults.values())
    assert "unknown model" in refused
    assert size > y[:1].nbytes
    assert 0 == none
    assert len(x) * 2 * len(PROTOCOLS) <= rows
    assert calls <= rows
