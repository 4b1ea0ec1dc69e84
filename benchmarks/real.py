"""What is learned, against what is set by hand, on real backends: the defaults beside a grid of static settings.

Each setting is a proxy of its own, all of them up at once; the same Poisson arrivals come to one after the other, the
defaults among them several times, so that what else the machine does falls on all. The best of the grid is found by
one look, which flatters it (the luckiest of twelve wins), so it is looked at again, in turns with the defaults: the
figure reported is the ratio of those pairs.
"""

from __future__ import annotations

import itertools
import math
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from batchproxy.core.columns import Array
from batchproxy.demo import mlp
from benchmarks import loading, onnx_models, servers
from benchmarks.e2e import random_rows
from benchmarks.load import open_loop
from benchmarks.load.job import Job
from benchmarks.load.open_loop import Pace, Seen
from benchmarks.servers import Server

LOADS = (0.1, 0.5, 0.9, 1.2)
"""Of the capacity."""

OBJECTIVE_MS = 60
"""What a call's deadline is above capacity, where only answers in time count."""

PAIRS = 3
"""Looks at the best setting, in turns with the defaults."""

ANSWERED = 0.99
"""Share of the calls that must be answered below capacity: a setting that refuses more has no mean to speak of."""

CALLERS = 128
"""Callers that never pause find the capacity."""

DEFAULTS = "defaults"

GRID: Mapping[str, Sequence[str]] = {
    f"{lanes} in flight, {rows} rows, {delay} ms": (
        *("--max_inflight", str(lanes), "--max_batch_rows", str(rows), "--max_delay_ms", str(delay)),
    )
    for lanes, rows, delay in itertools.product((1, 2, 4), (16, 64), (0, 2))
}


def _convnet(folder: Path) -> Path:
    return onnx_models.write(folder, 1, onnx_models.convnet().SerializeToString())


@dataclass(frozen=True)
class Backend:
    """A model, and what runs it.

    Attributes:
        name: for people.
        model: asked for.
        rows: makes rows to send.
        arguments: of the proxy, given a folder and the port of TensorFlow's server.
        tensorflow: whether that server is needed.
    """

    name: str
    model: str
    rows: Callable[[], Array]
    arguments: Callable[[Path, int], Sequence[str]]
    tensorflow: bool = False


BACKENDS = (
    Backend(
        "onnxruntime, MLP of 3 layers",
        "mlp",
        lambda: np.round(random_rows(mlp.WIDTHS[0]) / 9, 4),
        lambda folder, port: ("--model", f"mlp=onnx:{mlp.write(folder / 'mlp')}"),
    ),
    Backend(
        "onnxruntime, convnet",
        "convnet",
        lambda: random_rows(*onnx_models.IMAGE) / 9,
        lambda folder, port: ("--model", f"convnet=onnx:{_convnet(folder / 'convnet')}"),
    ),
    Backend(
        "TensorFlow SavedModel, MLP",
        "mlp",
        lambda: random_rows(784) / 9,
        lambda folder, port: ("--backend", f"grpc://{servers.HOST}:{port}"),
        tensorflow=True,
    ),
)


@dataclass(frozen=True)
class Line:
    """What is reported of a backend at a load.

    Attributes:
        backend: its name.
        load: of the capacity.
        per_second: calls that came.
        best: of the grid, by its first look.
        worst: likewise.
        figures: of the defaults, the best and the worst: mean milliseconds, or above capacity the share in time.
        p99_ms: of the defaults and the best.
        ratio: the defaults' figure over the best one's, the median of the pairs; above capacity the difference of
            the shares.
        rows: rows of a batch, of the defaults.
        load_cpu: share of a core that the load took at most.
    """

    backend: str
    load: float
    per_second: float
    best: str
    worst: str
    figures: tuple[float, float, float]
    p99_ms: tuple[float, float]
    ratio: float
    rows: float
    load_cpu: float


def measure(
    seconds: float,
    progress: Callable[[str], None],
    backends: Sequence[Backend] = BACKENDS,
    grid: Mapping[str, Sequence[str]] = GRID,
    loads: Sequence[float] = LOADS,
) -> list[Line]:
    """Measure each backend at each load.

    Args:
        seconds: of a look.
        progress: told what happens, in a line.
        backends: what to measure.
        grid: static settings by name: flags of ``batchproxy serve``.
        loads: of the capacity.

    Raises:
        ServerError: one did not start.
        OSError: a load failed.
    """
    lines: list[Line] = []
    for backend in backends:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="batchproxy-bench-")))
            progress(f"{backend.name}: starting {len(grid) + 1} proxies")
            rows = folder / "rows.npz"
            np.savez(rows, x=backend.rows().astype(np.float32))
            one = _OneBackend(backend, _start(backend, grid, folder, stack), rows, seconds, progress)
            lines += [one.line(load) for load in loads]
    return lines


def _start(backend: Backend, grid: Mapping[str, Sequence[str]], folder: Path, stack: ExitStack) -> dict[str, Server]:
    port = 0
    if backend.tensorflow:
        behind = servers.tfserving("tensorflow", [backend.model], [], folder)
        stack.callback(behind.stop)
        behind.wait_ready()
        port = behind.ports["grpc"]
    arguments = backend.arguments(folder, port)
    running = {}
    for number, (name, flags) in enumerate({DEFAULTS: (), **grid}.items()):
        running[name] = servers.batchproxy(f"proxy-{number}", [*arguments, *flags], folder)
        stack.callback(running[name].stop)
    for server in running.values():
        server.wait_ready()
    return running


class _OneBackend:
    """One backend behind all settings."""

    def __init__(
        self,
        backend: Backend,
        running: Mapping[str, Server],
        rows: Path,
        seconds: float,
        progress: Callable[[str], None],
    ) -> None:
        self._backend = backend
        self._running = running
        self._rows = rows
        self._seconds = seconds
        self._progress = progress
        self._capacity = max(self._closed(name) for name in running)

    def _closed(self, name: str) -> float:
        self._progress(f"{self._backend.name}: capacity, {name}")
        server = self._running[name]
        job = Job(
            "grpc", server.ports["grpc"], server.pid, self._backend.model, str(self._rows), CALLERS, self._seconds, 0.5,
            checked=False,
        )  # fmt: skip
        return loading.run(job).per_second

    def line(self, load: float) -> Line:
        """One load."""
        statics = [name for name in self._running if name != DEFAULTS]
        before = self._running[DEFAULTS].batches(self._backend.model)
        first = {name: self._look(name, load, 1) for name in statics}
        ranked = sorted(statics, key=lambda name: _figure(first[name], load), reverse=load > 1.0)
        best, worst = ranked[0], ranked[-1]
        pairs = [(self._look(DEFAULTS, load, seed), self._look(best, load, seed)) for seed in range(2, 2 + PAIRS)]
        after = self._running[DEFAULTS].batches(self._backend.model)
        calls, rows = (now - then for now, then in zip(after, before, strict=True))
        own, others = zip(*pairs, strict=True)
        return Line(
            self._backend.name,
            load,
            load * self._capacity,
            best,
            worst,
            (_median(own, load), _median(others, load), _figure(first[worst], load)),
            (statistics.median(seen.p99_ms for seen in own), statistics.median(seen.p99_ms for seen in others)),
            statistics.median(_ratio(mine, its, load) for mine, its in pairs),
            rows / calls if calls else 0.0,
            max(seen.load_cpu for seen in (*first.values(), *own, *others)),
        )

    def _look(self, name: str, load: float, seed: int) -> Seen:
        self._progress(f"{self._backend.name}: {load:.0%}, {name}")
        return open_loop.run(
            Pace(
                self._running[name].ports["grpc"],
                self._backend.model,
                str(self._rows),
                load * self._capacity,
                self._seconds,
                deadline_ms=OBJECTIVE_MS if load > 1.0 else 0,
                seed=seed,
            )
        )


def _figure(seen: Seen, load: float) -> float:
    if load > 1.0:
        return seen.in_time / max(1, seen.due)
    return seen.mean_ms if seen.answered >= ANSWERED * seen.due else math.inf


def _median(looks: Sequence[Seen], load: float) -> float:
    return statistics.median(_figure(seen, load) for seen in looks)


def _ratio(own: Seen, other: Seen, load: float) -> float:
    mine, its = _figure(own, load), _figure(other, load)
    if load > 1.0:
        return mine - its
    return mine / its if mine < math.inf else math.inf
