"""Embedded ONNX models: what batching could gain by the model's own times, and how much of that callers get.

Every round measures a model by itself, ``T(b)`` for each batch size, and then every line under the same load, so that
what else the machine does falls on all; ratios are taken within a round and the median is reported.

Other ways to serve the same model, such as Triton, are further lines: a key in ``_start`` and entries of ``LINES``.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from batchproxy.backends.onnx import OnnxBackend
from batchproxy.core.columns import Array, ArrayColumn
from batchproxy.core.request import BatchKey
from batchproxy.core.shapes import DEFAULT_SIGNATURE
from batchproxy.demo import mlp
from benchmarks import loading, onnx_models, servers, tables
from benchmarks.e2e import random_rows
from benchmarks.load.job import Job, Result
from benchmarks.servers import Server

SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
CALLERS = 64
WARM_S = 1.0
"""Until the limit and the cost of the model are learned."""

REPEATS = 9
"""Calls of each size in a round; their median counts."""

MODELS = ("mlp", "convnet")


@dataclass(frozen=True)
class Way:
    """One way to be served.

    Attributes:
        name: of the line.
        server: key of the process.
        protocol: ``rest`` or ``grpc``.
    """

    name: str
    server: str
    protocol: str


LINES = (
    Way("REST, batching off", "off", "rest"),
    Way("REST", "on", "rest"),
    Way("gRPC, batching off", "off", "grpc"),
    Way("gRPC", "on", "grpc"),
)


@dataclass(frozen=True)
class Line:
    """What is reported of a model served in one way: medians over the rounds.

    Attributes:
        per_second: requests of one row.
        gain: of the rate to that of direct calls one after the other, ``1 / T(1)``.
        rows: of a backend call.
        ideal: the gain that calls of so many rows would have if they took all the time: ``T(1) * b / T(b)``.
        share: of the ideal that was reached.
        p99_ms: of a request.
        server_cpu: cores that the server took, the model's threads among them.
        load_cpu: share of a core that the load took, of the same machine.
        faults: wrong and lost answers.
        fault: an example of these.
    """

    model: str
    name: str
    per_second: float
    gain: float
    rows: float
    ideal: float
    share: float
    p99_ms: float
    server_cpu: float
    load_cpu: float
    faults: int
    fault: str


@dataclass(frozen=True)
class Switch:
    """A new version under load, beside the same load without one.

    Attributes:
        p99_ms: without, with.
        answered: with.
        faults: with.
    """

    p99_ms: tuple[float, float]
    answered: int
    faults: int
    fault: str


@dataclass(frozen=True)
class Found:
    """All that was measured.

    Attributes:
        raw_ms: by model, ``T(b)`` for each of ``SIZES``.
    """

    raw_ms: Mapping[str, Sequence[float]]
    lines: Sequence[Line]
    switch: Switch


def measure(rounds: int, seconds: float, progress: Callable[[str], None]) -> Found:
    """Start the servers, measure the models and load the servers in turns, stop them.

    Args:
        rounds: how often each is loaded.
        seconds: how long, each time.
        progress: told what happens, in a line.

    Raises:
        ServerError: one did not start.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="batchproxy-bench-")))
        progress("making the models, starting the servers")
        _write_models(folder)
        direct = {model: OnnxBackend(folder / model) for model in MODELS}
        rows = {model: _write_rows(folder, model, backend) for model, backend in direct.items()}
        running = _start(folder, stack)
        raw: dict[str, list[list[float]]] = {model: [] for model in MODELS}
        results: dict[tuple[str, Way], list[tuple[Result, float]]] = {}
        for number in range(rounds):
            for model in MODELS:
                progress(f"round {number + 1} of {rounds}: {model} by itself")
                raw[model].append(_raw_ms(direct[model], rows[model]))
                for way in LINES:
                    progress(f"round {number + 1} of {rounds}: {model}, {way.name}")
                    found = _load(model, way, running[way.server], folder, seconds)
                    results.setdefault((model, way), []).append(found)
        progress("a new version under load")
        switch = _switch(folder, running["on"], max(seconds, 3.0))
        lines = [_line(model, way, results[model, way], raw[model]) for model in MODELS for way in LINES]
    return Found({model: _medians(raw[model]) for model in MODELS}, lines, switch)


def text(found: Found) -> str:
    """What was found, as tables."""
    head = ["T(b), ms", *map(str, SIZES)]
    times = [[model, *(f"{each:.2f}" for each in found.raw_ms[model])] for model in MODELS]
    gains = [
        [f"{model}: gain", *(f"{values[0] * b / each:.1f}" for b, each in zip(SIZES, values, strict=True))]
        for model, values in found.raw_ms.items()
    ]
    rows = [
        [
            f"{line.model}, {line.name}", f"{line.per_second:,.0f}", f"{line.gain:.2f}", f"{line.rows:.1f}",
            f"{line.ideal:.2f}", f"{100 * line.share:.0f}", f"{line.p99_ms:.1f}", f"{line.server_cpu:.2f}",
            f"{line.load_cpu:.2f}",
        ]
        for line in found.lines
    ]  # fmt: skip
    columns = [
        f"{CALLERS} callers", "requests/s", "gain", "rows a call", "ideal gain", "share %", "p99 ms", "server cores",
        "load cores",
    ]  # fmt: skip
    switch = found.switch
    told = (
        f"A new version of the MLP under {CALLERS} callers, gRPC: {switch.faults} of {switch.answered:,} requests "
        f"failed; p99 {switch.p99_ms[1]:.1f} ms, without a switch {switch.p99_ms[0]:.1f} ms."
    )
    return "\n\n".join((tables.markdown(head, [*times, *gains]), tables.markdown(columns, rows), told))


# ---------------------------------------------------------------- inside


def _medians(rounds: Sequence[Sequence[float]]) -> list[float]:
    return [statistics.median(values) for values in zip(*rounds, strict=True)]


def _line(model: str, way: Way, results: Sequence[tuple[Result, float]], raw: Sequence[Sequence[float]]) -> Line:
    gains, ideals = [], []
    for (result, rows), times in zip(results, raw, strict=True):
        gains.append(result.per_second * times[0] / 1000)
        ideals.append(times[0] * rows / float(np.interp(rows, SIZES, times)) if rows else 1.0)
    own = [result for result, _ in results]
    faulty = [result for result in own if result.wrong or result.lost]
    return Line(
        model,
        way.name,
        statistics.median(result.per_second for result in own),
        statistics.median(gains),
        statistics.median(rows for _, rows in results),
        statistics.median(ideals),
        statistics.median(gain / ideal for gain, ideal in zip(gains, ideals, strict=True)),
        statistics.median(result.p99_ms for result in own),
        statistics.median(result.server_cpu_s / max(result.seconds, 1e-9) for result in own),
        statistics.median(result.load_cpu_s / max(result.seconds, 1e-9) for result in own),
        sum(result.wrong + result.lost for result in own),
        faulty[0].fault if faulty else "",
    )


def _write_models(folder: Path) -> None:
    onnx_models.write(folder / "mlp", 1, mlp.build().SerializeToString())
    onnx_models.write(folder / "convnet", 1, onnx_models.convnet().SerializeToString())


def _write_rows(folder: Path, model: str, backend: OnnxBackend) -> Array:
    """Rows to send and what is due for them, in a file; the rows."""
    shape = backend.signatures[DEFAULT_SIGNATURE].inputs["x"].shape or ()
    rows: Array = np.round(random_rows(*(size or 1 for size in shape[1:])) / 9, 4)
    np.savez(folder / f"{model}.npz", x=rows, y=_run(backend, rows))
    return rows


def _run(backend: OnnxBackend, rows: Array) -> Array:
    column = backend.run(BatchKey("m", 1, DEFAULT_SIGNATURE), {"x": ArrayColumn(rows)})["y"]
    assert isinstance(column, ArrayColumn), "onnxruntime gives arrays. This is a bug."
    return column.array


def _raw_ms(backend: OnnxBackend, rows: Array) -> list[float]:
    """``T(b)`` of each size, the calls of all sizes in turns."""
    batches = [np.resize(rows, (size, *rows.shape[1:])) for size in SIZES]
    taken: list[list[float]] = [[] for _ in SIZES]
    for batch in batches:
        _run(backend, batch)
    for _ in range(REPEATS):
        for times, batch in zip(taken, batches, strict=True):
            started = time.perf_counter()
            _run(backend, batch)
            times.append(1000 * (time.perf_counter() - started))
    return [statistics.median(times) for times in taken]


def _start(folder: Path, stack: ExitStack) -> dict[str, Server]:
    pools = [{"name": model, "endpoints": [f"onnx:{folder / model}"]} for model in MODELS]
    running = {}
    for name, batching in (("on", True), ("off", False)):
        models = [{"name": model, "pool": model, "batching": batching} for model in MODELS]
        config = folder / f"{name}.json"
        config.write_text(json.dumps({"pools": pools, "models": models}))
        running[name] = servers.batchproxy(name, ["--config", str(config)], folder)
        stack.callback(running[name].stop)
    for server in running.values():
        server.wait_ready()
    return running


def _load(model: str, way: Way, server: Server, folder: Path, seconds: float) -> tuple[Result, float]:
    """What a load saw, and the mean rows of a backend call meanwhile."""
    before = server.batches(model)
    rows = str(folder / f"{model}.npz")
    job = Job(way.protocol, server.ports[way.protocol], server.pid, model, rows, CALLERS, seconds, WARM_S)
    result = loading.run(job)
    calls, sent = (after - earlier for after, earlier in zip(server.batches(model), before, strict=True))
    return result, sent / calls if calls else 0.0


def _switch(folder: Path, server: Server, seconds: float) -> Switch:
    way = next(way for way in LINES if way.server == "on" and way.protocol == "grpc")
    without, _ = _load("mlp", way, server, folder, seconds)
    weights = (folder / "mlp" / "1" / "model.onnx").read_bytes()
    with ThreadPoolExecutor(1) as beside:
        loaded = beside.submit(_load, "mlp", way, server, folder, seconds)
        time.sleep(WARM_S + seconds / 3)  # into the middle of the load, which takes a while to start as well
        onnx_models.write(folder / "mlp", 2, weights)
        result, _ = loaded.result()
    return Switch((without.p99_ms, result.p99_ms), result.answered, result.wrong + result.lost, result.fault)
