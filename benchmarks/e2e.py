"""The end-to-end table: our servers and the two echoes under the same load, in turns, in one run.

The machine's speed drifts and others use it, too. So every round loads every server once, a ratio is taken within its
round, and the median over the rounds is what is reported.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from batchproxy.backends.onnx import OnnxBackend
from batchproxy.core.columns import Array, ArrayColumn
from batchproxy.core.request import BatchKey
from batchproxy.core.shapes import DEFAULT_SIGNATURE
from batchproxy.demo import mlp
from benchmarks import loading, servers
from benchmarks.load.job import Job, Result
from benchmarks.servers import Server

CALLERS = 64
ROWS = 64
"""Different rows that are sent, over and over."""

WARM_S = 0.3
HALF_PLUS_TWO = "batchproxy/demo/models/half_plus_two"


@dataclass(frozen=True)
class Target:
    """One line of the table.

    Attributes:
        name: of the line.
        server: key of the process.
        protocol: ``rest`` or ``grpc``.
        model: the model asked for.
        rows: which file of rows is sent.
    """

    name: str
    server: str
    protocol: str
    model: str
    rows: str

    @property
    def yardstick(self) -> str:
        """The line that this one's rate is divided by."""
        return ECHOES[self.protocol].name


@dataclass(frozen=True)
class Line:
    """What is reported of a target: medians over the rounds.

    Attributes:
        ratio: of the rate to that of the protocol's echo, in the same round.
        rates: requests a second, each round's.
        cpu_us: of the server process per request.
        mean_batch: rows of a backend call; 0 for the echoes.
        alone_p50_ms: with one caller only.
        load_cpu: share of a core that the load itself took; near 1, it and not the server was the limit.
        faults: wrong and lost answers, which should be 0.
        fault: an example of these.
    """

    name: str
    ratio: float
    per_second: float
    rates: list[float]
    p50_ms: float
    p99_ms: float
    alone_p50_ms: float
    cpu_us: float
    mean_batch: float
    load_cpu: float
    faults: int
    fault: str


ECHOES = {
    "rest": Target("aiohttp echo", "echo-rest", "rest", "echo", "three"),
    "grpc": Target("grpc.aio echo", "echo-grpc", "grpc", "echo", "three"),
}

TARGETS = (
    *ECHOES.values(),
    Target("null REST", "null", "rest", "null", "three"),
    Target("null gRPC", "null", "grpc", "null", "three"),
    Target("half_plus_two REST", "half", "rest", "half_plus_two", "one"),
    Target("half_plus_two gRPC", "half", "grpc", "half_plus_two", "one"),
    Target("MLP REST", "mlp", "rest", "mlp", "mlp"),
    Target("MLP REST, batching off", "mlp-off", "rest", "mlp", "mlp"),
    Target("MLP gRPC", "mlp", "grpc", "mlp", "mlp"),
    Target("MLP gRPC, batching off", "mlp-off", "grpc", "mlp", "mlp"),
)


def measure(rounds: int, seconds: float, progress: Callable[[str], None]) -> list[Line]:
    """Start every server, load them in turns, stop them.

    Args:
        rounds: how often each is loaded.
        seconds: how long, each time.
        progress: told what happens, in a line.

    Raises:
        ServerError: one did not start.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="batchproxy-bench-")))
        progress("making the models and rows")
        _write_rows(folder)
        progress("starting the servers")
        running = _start(folder, stack)
        results: dict[str, list[Result]] = {target.name: [] for target in TARGETS}
        batches: dict[str, list[float]] = {target.name: [0.0, 0.0] for target in TARGETS}
        for number in range(rounds):
            for target in TARGETS:
                progress(f"round {number + 1} of {rounds}: {target.name}")
                before = running[target.server].batches(target.model)
                results[target.name].append(_load(target, running[target.server], folder, CALLERS, seconds))
                after = running[target.server].batches(target.model)
                batches[target.name][0] += after[0] - before[0]
                batches[target.name][1] += after[1] - before[1]
        alone = {}
        for target in TARGETS:
            progress(f"one caller: {target.name}")
            alone[target.name] = _load(target, running[target.server], folder, 1, min(seconds, 0.5))
    return [_line(target, results, alone[target.name], batches[target.name]) for target in TARGETS]


def _line(target: Target, results: dict[str, list[Result]], alone: Result, batches: Sequence[float]) -> Line:
    own, yard = results[target.name], results[target.yardstick]
    faults = [result for result in (*own, alone) if result.wrong or result.lost]
    calls, rows = batches
    return Line(
        target.name,
        _median(mine.per_second / its.per_second if its.answered else 0.0 for mine, its in zip(own, yard, strict=True)),
        _median(result.per_second for result in own),
        [round(result.per_second, 1) for result in own],
        _median(result.p50_ms for result in own),
        _median(result.p99_ms for result in own),
        alone.p50_ms,
        _median(result.cpu_us for result in own),
        rows / calls if calls else 0.0,
        _median(result.load_cpu_s / result.seconds for result in own),
        sum(result.wrong + result.lost for result in faults),
        faults[0].fault if faults else "",
    )


def _median(values: Iterable[float]) -> float:
    return statistics.median(values)


def _start(folder: Path, stack: ExitStack) -> dict[str, Server]:
    onnx = f"onnx:{mlp.write(folder / 'mlp')}"
    unbatched = folder / "unbatched.json"
    unbatched.write_text(
        json.dumps(
            {
                "pools": [{"name": "mlp", "endpoints": [onnx]}],
                "models": [{"name": "mlp", "pool": "mlp", "batching": False}],
            }
        )
    )
    _write_rows_of_mlp(folder)
    starts: dict[str, Callable[[], Server]] = {
        "echo-rest": lambda: servers.echo("rest", folder),
        "echo-grpc": lambda: servers.echo("grpc", folder),
        "null": lambda: servers.batchproxy("null", ["--model", "null=python:benchmarks.models:identity"], folder),
        "half": lambda: servers.batchproxy("half", ["--model", f"half_plus_two=onnx:{HALF_PLUS_TWO}"], folder),
        "mlp": lambda: servers.batchproxy("mlp", ["--model", f"mlp={onnx}"], folder),
        "mlp-off": lambda: servers.batchproxy("mlp-off", ["--config", str(unbatched)], folder),
    }
    running = {}
    for name, start in starts.items():
        running[name] = start()
        stack.callback(running[name].stop)
    for server in running.values():
        server.wait_ready()
    return running


def _load(target: Target, server: Server, folder: Path, callers: int, seconds: float) -> Result:
    job = Job(
        target.protocol,
        server.ports[target.protocol],
        server.pid,
        target.model,
        str(folder / f"{target.rows}.npz"),
        callers,
        seconds,
        WARM_S,
        echo=target in ECHOES.values(),
    )
    return loading.run(job)


# ---------------------------------------------------------------- rows to send, and what is due for them


def random_rows(*shape: int) -> Array:
    """Numbers of four decimals, as measured features and pixels have, each row different from all others."""
    rows: Array = np.round(np.random.default_rng(2).uniform(-9, 9, (ROWS, *shape)), 4).astype(np.float32)
    return rows


def _write_rows(folder: Path) -> None:
    three, one = random_rows(3), random_rows()
    np.savez(folder / "three.npz", x=three, y=three)
    np.savez(folder / "one.npz", x=one, y=one / 2 + 2)


def _write_rows_of_mlp(folder: Path) -> None:
    x = random_rows(mlp.WIDTHS[0]) / 9
    x = np.round(x, 4)
    outputs = OnnxBackend(folder / "mlp").run(BatchKey("mlp", 1, DEFAULT_SIGNATURE), {"x": ArrayColumn(x)})
    column = outputs["y"]
    assert isinstance(column, ArrayColumn), "onnxruntime gives arrays. This is a bug."
    np.savez(folder / "mlp.npz", x=x, y=column.array)
