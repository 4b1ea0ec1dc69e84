"""ONNX models: what batching could gain by the model's own times, and how much of that callers get, by several ways.

Every round measures each model by itself, ``T(b)`` for each batch size, and then loads every way to be served in turn,
so that what else the machine does falls on all; ratios are taken within a round and the median is reported. The load
is ``wrk``'s and ``h2load``'s; answers are checked before and after, by callers at once with rows of their own.
"""

from __future__ import annotations

import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from batchproxy.backends.onnx import OnnxBackend
from batchproxy.core.columns import Array, ArrayColumn
from batchproxy.core.request import BatchKey
from batchproxy.core.shapes import DEFAULT_SIGNATURE
from benchmarks import loading, micro, onnx_models, onnx_ways
from benchmarks.e2e import random_rows
from benchmarks.load.job import Job
from benchmarks.micro import timing
from benchmarks.micro.timing import Figure
from benchmarks.onnx_requests import PROTOCOLS, Request, request
from benchmarks.onnx_ways import Way
from benchmarks.servers import Server
from benchmarks.wire import tools
from benchmarks.wire.peers import tree_cpu_s
from benchmarks.wire.tools import Load

SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
CALLERS = 64
CONNECTIONS = 8
"""For gRPC; each with an equal part of the callers."""

ROUNDS, QUICK_ROUNDS = 3, 1
SECONDS = 1
"""Of each load: wrk takes whole ones."""

WARM_S = 1.0
"""Until the limit and the cost of the model are learned."""

REPEATS = 9
"""Calls of each size in a round; their median counts."""

SWITCH_S, QUICK_SWITCH_S = 3.0, 1.5
IMAGE, IMAGE_SAMPLES = "224 x 224 x 3", 9
"""Part of the names of cases of ``benchmarks.micro``."""

PREFIX = 5
"""Bytes of gRPC's own frame before a message."""


@dataclass(frozen=True)
class Sample:
    """What was seen of a way in one round.

    Attributes:
        load: by the load generator.
        rows: of a call of the model, on average; 0 where nobody counts them.
        server_cores: processor time of the server, by the time of the load.
        behind_cores: likewise, of the server behind it.
        load_cores: likewise, of the load.
    """

    load: Load
    rows: float
    server_cores: float
    behind_cores: float
    load_cores: float


@dataclass
class Line:
    """A model served in one way: its samples, one a round.

    Attributes:
        fault: what was wrong with an answer, or with the load; empty: nothing.
    """

    model: str
    way: Way
    samples: list[Sample] = field(default_factory=list)
    fault: str = ""

    def median(self, figure: Callable[[Sample], float]) -> float:
        """Over the rounds."""
        return statistics.median(figure(sample) for sample in self.samples)

    def whole(self, rounds: int) -> bool:
        """Whether it was loaded in every round."""
        return len(self.samples) == rounds

    def ratio(self, other: Line) -> float:
        """Of the rates: the median of the ratios within each round."""
        pairs = zip(self.samples, other.samples, strict=True)
        return statistics.median(own.load.per_second / max(its.load.per_second, 1e-9) for own, its in pairs)


@dataclass(frozen=True)
class Share:
    """How much of the ideal gain a line has: medians over the rounds.

    Attributes:
        gain: of the rate to that of direct calls one after the other, ``1 / T(1)``.
        ideal: the gain that calls of its size would have if they took all the time: ``T(1) * b / T(b)``.
        reached: the former by the latter.
        left: likewise, of the cores that the load left.
    """

    gain: float
    ideal: float
    reached: float
    left: float


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
        raw_ms: by model, ``T(b)`` for each of ``SIZES``, round by round: with a thread for each core.
        alone_ms: likewise, with one thread on one core.
        lines: each way to be served; one that failed may have fewer samples than there were rounds.
        image: processor time of reading an image of 600 KB of JSON, its yardstick before it.
    """

    raw_ms: Mapping[str, Sequence[Sequence[float]]]
    alone_ms: Mapping[str, Sequence[Sequence[float]]]
    lines: Sequence[Line]
    switch: Switch
    image: Sequence[Figure]

    @property
    def rounds(self) -> int:
        """How many there were."""
        return max(len(rounds) for rounds in self.raw_ms.values())

    def share(self, line: Line) -> Share:
        """Of a whole line."""
        times = (self.alone_ms if line.way.pinned else self.raw_ms)[line.model]
        cores = 1 if line.way.pinned else len(os.sched_getaffinity(0))
        found = [share(sample, each, cores) for sample, each in zip(line.samples, times, strict=True)]
        return Share(*(statistics.median(values) for values in zip(*found, strict=True)))


def share(sample: Sample, times: Sequence[float], cores: int) -> tuple[float, float, float, float]:
    """A ``Share`` of one round.

    Args:
        sample: of it.
        times: ``T(b)`` for each of ``SIZES``, in ms.
        cores: that server and load have together; 1: the load has its own.
    """
    gain = sample.load.per_second * times[0] / 1000
    ideal = times[0] * sample.rows / float(np.interp(sample.rows, SIZES, times)) if sample.rows else 1.0
    taken = sample.load_cores if cores > 1 else 0.0
    return gain, ideal, gain / ideal, gain / ideal * cores / max(cores - taken, 1e-9)


def measure(
    quick: bool,
    progress: Callable[[str], None],
    models: Sequence[str] = tuple(onnx_models.MODELS),
    protocols: Sequence[str] = PROTOCOLS,
) -> Found:
    """Start the servers, measure the models and load the servers in turns, stop them.

    Args:
        quick: one round; no figures to quote.
        progress: told what happens, in a line.
        models: which of ``onnx_models.MODELS``.
        protocols: which of ``onnx_requests.PROTOCOLS``.

    Raises:
        ServerError: one did not start.
        ToolError: a load generator is missing or failed.
    """
    if absent := tools.missing(("wrk", "h2load")):
        raise tools.ToolError(absent)
    lines = [
        Line(model, way) for model in models for protocol in protocols for way in onnx_ways.ways(model, protocol, quick)
    ]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="batchproxy-bench-")))
        progress("making the models, starting the servers")
        files = {model: onnx_models.write(folder / model, 1, onnx_models.MODELS[model]()) for model in models}
        direct = {model: OnnxBackend(file) for model, file in files.items()}
        alone = {model: OnnxBackend(file, threads=1) for model, file in files.items()}
        rows = {model: _rows(backend) for model, backend in direct.items()}
        described = {
            model: (file / "1" / "model.onnx", x.shape[1:], y.shape[1:])
            for (model, file), (x, y) in zip(files.items(), rows.values(), strict=True)
        }
        running = onnx_ways.start(described, [line.way for line in lines], folder, stack)
        requests = {id(line): _requests(line, *rows[line.model]) for line in lines}
        progress("asking each server")
        for line in lines:
            line.fault = onnx_ways.ask(running[line.way.server].ports[line.way.door], requests[id(line)])
        raw: dict[str, list[list[float]]] = {model: [] for model in models}
        pinned: dict[str, list[list[float]]] = {model: [] for model in models}
        for number in range(ROUNDS if not quick else QUICK_ROUNDS):
            for model in models:
                progress(f"round {number + 1}: {model} by itself")
                raw[model].append(raw_ms(direct[model], rows[model][0]))
                with onnx_ways.on_cores(onnx_ways.split_cores()[0]):
                    pinned[model].append(raw_ms(alone[model], rows[model][0]))
                for line in (line for line in lines if line.model == model and not line.fault):
                    progress(f"round {number + 1}: {model}, {line.way.protocol}, {line.way.name}")
                    own = requests[id(line)][0]
                    try:
                        sample = _sample(line, own, running, folder, warm=not number and not quick)
                    except (tools.ToolError, OSError) as error:  # of which urllib's own errors are some
                        ends = [running[name].ended() for name in (line.way.server, line.way.behind) if name]
                        line.fault = "; ".join([f"could not be loaded: {error}", *filter(None, ends)])
                    else:
                        line.samples.append(sample)
        progress("asking each server again")
        for line in lines:
            if not line.fault:
                again = onnx_ways.ask(running[line.way.server].ports[line.way.door], requests[id(line)])
                failed = sum(sample.load.failed for sample in line.samples)
                line.fault = again or (f"{failed} requests failed" if failed else "")
        progress("a new version under load")
        model = "mlp" if "mlp" in models else models[0]
        switch = _switch(folder, model, rows[model], running["on"], QUICK_SWITCH_S if quick else SWITCH_S)
    progress("reading an image")
    image = timing.measure([case for case in micro.all_cases() if IMAGE in case.name], IMAGE_SAMPLES)
    return Found(raw, pinned, lines, switch, image)


# ---------------------------------------------------------------- inside


def _rows(backend: OnnxBackend) -> tuple[Array, Array]:
    """Rows to send, and what is due for them."""
    shape = backend.signatures[DEFAULT_SIGNATURE].inputs["x"].shape or ()
    rows: Array = np.round(random_rows(*(size or 1 for size in shape[1:])) / 9, 4)
    return rows, _run(backend, rows)


def _requests(line: Line, x: Array, y: Array) -> list[Request]:
    name = line.model + line.way.suffix
    count = len(x)
    return [request(line.way.protocol, name, x[at : at + 1], y[at : at + 1]) for at in range(count)]


def _run(backend: OnnxBackend, rows: Array) -> Array:
    column = backend.run(BatchKey("m", 1, DEFAULT_SIGNATURE), {"x": ArrayColumn(rows)})["y"]
    assert isinstance(column, ArrayColumn), "onnxruntime gives arrays. This is a bug."
    return column.array


def raw_ms(backend: OnnxBackend, rows: Array) -> list[float]:
    """``T(b)`` of each size in ms, the calls of all sizes in turns."""
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


def _sample(line: Line, own: Request, running: Mapping[str, Server], folder: Path, *, warm: bool) -> Sample:
    way = line.way
    server = running[way.server]
    name = line.model + way.suffix
    pids = [running[key].pid for key in (way.server, way.behind) if key]
    with onnx_ways.on_cores(onnx_ways.split_cores()[1] if way.pinned else None):
        if warm and way.server != "triton":
            _load(own, server, folder, WARM_S, latencies=False)
        calls, rows = server.batches(name)
        before = [tree_cpu_s(pid) for pid in pids]
        load_before = _children_s()
        load = _load(own, server, folder, SECONDS)
        spent = [tree_cpu_s(pid) - then for pid, then in zip(pids, before, strict=True)]
        load_s = _children_s() - load_before
        calls, rows = (after - then for after, then in zip(server.batches(name), (calls, rows), strict=True))
    per_second = load.per_second / max(load.answered, 1)  # what is spent on all that was answered, by the second
    server_cores, behind_cores = ([each * per_second for each in spent] + [0.0])[:2]
    return Sample(load, rows / calls if calls else 0.0, server_cores, behind_cores, load_s * per_second)


def _load(own: Request, server: Server, folder: Path, seconds: float, *, latencies: bool = True) -> Load:
    port = server.ports[own.door]
    body = own.write(folder / "body")
    if own.door == "rest":
        return tools.wrk(port, own.path, body, CALLERS, max(1, round(seconds)), own.headers)
    size = onnx_ways.answer_bytes(port, own) + PREFIX
    # Triton 2.51 dies of calls that are cut off (its issues 7368 and 8034), so all are waited for.
    return tools.h2load(
        port, body, CONNECTIONS, CALLERS // CONNECTIONS, seconds, size, own.path, latencies=latencies, to_the_end=True
    )


def _children_s() -> float:
    """Processor time of children that have ended: the load generators."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _switch(folder: Path, model: str, rows: tuple[Array, Array], server: Server, seconds: float) -> Switch:
    """Callers whose every answer is checked, over TF Serving's gRPC."""
    file = folder / "rows.npz"
    np.savez(file, x=rows[0], y=rows[1])
    job = Job("grpc", server.ports["grpc"], server.pid, model, str(file), CALLERS, seconds, WARM_S)
    without = loading.run(job)
    weights = (folder / model / "1" / "model.onnx").read_bytes()
    with ThreadPoolExecutor(1) as beside:
        loaded = beside.submit(loading.run, job)
        time.sleep(WARM_S + seconds / 3)  # into the middle of the load, which takes a while to start as well
        onnx_models.write(folder / model, 2, weights)
        result = loaded.result()
    return Switch((without.p99_ms, result.p99_ms), result.answered, result.wrong + result.lost, result.fault)
