"""Figures of the proxy in front of a TF Serving server: the same callers directly and through it, in one run.

Direct and proxied load take turns, so that what else the machine does falls on both; a ratio is taken within its round,
and the median over the rounds is what is reported. No table is drawn here.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from batchproxy.core.columns import Array
from benchmarks import loading, servers
from benchmarks.e2e import CALLERS, ROWS, WARM_S, random_rows
from benchmarks.load.job import Job, Result
from benchmarks.servers import Server

INPUTS: Mapping[str, Callable[[], Array]] = {
    "half_plus_two": random_rows,
    "mlp": lambda: np.round(random_rows(784) / 9, 4),
    "fixed_batch": lambda: random_rows(4).reshape(2 * ROWS, 2),
}
"""What is sent, in few digits: the test server reads long ones slowly."""


@dataclass(frozen=True)
class Route:
    """One line of the table: callers, and the two ways to the same server.

    Attributes:
        name: of the line.
        model: the model asked for.
        protocol: of the callers: ``rest`` or ``grpc``.
        server: key of the server that direct callers ask.
        proxy: key of the proxy before it.
        request_rows: rows of one request.
        alone: whether a lone caller is measured, too.
    """

    name: str
    model: str
    protocol: str
    server: str = "server"
    proxy: str = "proxy"
    request_rows: int = 1
    alone: bool = False


ROUTES = (
    Route("half_plus_two REST", "half_plus_two", "rest", alone=True),
    Route("half_plus_two bridged", "half_plus_two", "rest", proxy="bridge", alone=True),
    Route("half_plus_two gRPC", "half_plus_two", "grpc", alone=True),
    Route("MLP REST", "mlp", "rest"),
    Route("MLP bridged", "mlp", "rest", proxy="bridge"),
    Route("MLP gRPC", "mlp", "grpc"),
    Route("fixed_batch REST", "fixed_batch", "rest", "slow", "slow-proxy", 2),
    Route("fixed_batch gRPC", "fixed_batch", "grpc", "slow", "slow-proxy", 2),
)


@dataclass(frozen=True)
class Side:
    """One of the two ways: medians over the rounds."""

    per_second: float
    p50_ms: float
    p99_ms: float
    server_us: float


@dataclass(frozen=True)
class Line:
    """What is reported of a route.

    Attributes:
        ratio: of the proxied rate to the direct one, in the same round.
        p99_ratio: likewise.
        server_ratio: likewise, of the server's processor time per request.
        direct: of callers that ask the server.
        proxied: of callers that ask the proxy.
        proxy_us: the proxy's processor time per request.
        mean_batch: rows of a call to the server.
        load_cpu: share of a core that the load took, the larger of the two ways.
        alone_ms: a lone caller's p50, directly and proxied; empty where it was not measured.
        faults: wrong and lost answers, which should be 0.
        fault: an example of these.
    """

    name: str
    ratio: float
    p99_ratio: float
    server_ratio: float
    direct: Side
    proxied: Side
    proxy_us: float
    mean_batch: float
    load_cpu: float
    alone_ms: list[float]
    faults: int
    fault: str


class _Measured:
    """Results of a route, as they come in."""

    def __init__(self) -> None:
        self.direct: list[Result] = []
        self.proxied: list[Result] = []
        self.alone: list[Result] = []
        self.calls = self.rows = 0.0


def measure(
    rounds: int, seconds: float, progress: Callable[[str], None], routes: Sequence[Route] = ROUTES
) -> list[Line]:
    """Start two servers and three proxies, load them in turns, stop them.

    Args:
        rounds: how often each way is loaded.
        seconds: how long, each time.
        progress: told what happens, in a line.
        routes: what to measure.

    Raises:
        ServerError: one did not start.
        OSError: a server refused a request.
    """
    found = {route.name: _Measured() for route in routes}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="batchproxy-bench-")))
        progress("starting TensorFlow and the proxies")
        running = _start(folder, stack)
        progress("asking for the values that are due")
        for model in {route.model: route for route in routes}.values():
            _write_rows(model, running[model.server], folder)
        for number in range(rounds):
            direct: dict[tuple[str, str], Result] = {}
            for route in routes:
                progress(f"round {number + 1} of {rounds}: {route.name}")
                way = (route.model, route.protocol)
                if way not in direct:  # bridged callers would be the same REST callers when direct
                    direct[way] = _load(route, running, folder, CALLERS, seconds, direct=True)
                own, proxy = found[route.name], running[route.proxy]
                before = proxy.batches(route.model)
                own.direct.append(direct[way])
                own.proxied.append(_load(route, running, folder, CALLERS, seconds))
                calls, rows = (now - then for now, then in zip(proxy.batches(route.model), before, strict=True))
                own.calls, own.rows = own.calls + calls, own.rows + rows
        for route in routes:
            if route.alone:
                progress(f"one caller: {route.name}")
                found[route.name].alone = [
                    _load(route, running, folder, 1, min(seconds, 0.5), direct=direct) for direct in (True, False)
                ]
    return [_line(route.name, found[route.name]) for route in routes]


def _start(folder: Path, stack: ExitStack) -> dict[str, Server]:
    running = {
        "server": servers.tfserving("server", ["half_plus_two", "mlp"], [], folder),
        "slow": servers.batchproxy("slow", ["--model", "fixed_batch=python:benchmarks.models:fixed_batch"], folder),
    }
    for server in running.values():
        stack.callback(server.stop)
    for server in running.values():
        server.wait_ready()
    doors = {name: _doors(server) for name, server in running.items()}
    proxies = {
        "proxy": f"{doors['server']['grpc']},{doors['server']['rest']}",
        "bridge": doors["server"]["grpc"],
        "slow-proxy": f"{doors['slow']['grpc']},{doors['slow']['rest']}",
    }
    for name, backend in proxies.items():
        running[name] = servers.batchproxy(name, ["--backend", backend], folder)
        stack.callback(running[name].stop)
    for name in proxies:
        running[name].wait_ready()
    return running


def _doors(server: Server) -> dict[str, str]:
    schemes = {"grpc": "grpc", "rest": "http"}
    return {name: f"{scheme}://{servers.HOST}:{server.ports[name]}" for name, scheme in schemes.items()}


def _load(
    route: Route, running: Mapping[str, Server], folder: Path, callers: int, seconds: float, *, direct: bool = False
) -> Result:
    asked, behind = running[route.server if direct else route.proxy], 0 if direct else running[route.server].pid
    return loading.run(
        Job(
            route.protocol,
            asked.ports[route.protocol],
            asked.pid,
            route.model,
            str(folder / f"{route.model}.npz"),
            callers,
            seconds,
            WARM_S,
            request_rows=route.request_rows,
            behind_pid=behind,
        )
    )


# ---------------------------------------------------------------- rows to send, and what is due for them


def _write_rows(route: Route, server: Server, folder: Path) -> None:
    """Rows of a model, and what the server itself says of each request, asked one by one and by a plain client."""
    x = INPUTS[route.model]()
    answers = [
        _ask(server, route.model, np.round(x[at : at + route.request_rows].astype(float), 4))
        for at in range(0, len(x), route.request_rows)
    ]
    rows = [row for answer in answers for row in answer]
    named = rows if isinstance(rows[0], dict) else [{"y": row} for row in rows]  # a lone output goes without its name
    outputs: dict[str, Any] = {alias: np.array([row[alias] for row in named]) for alias in named[0]}
    np.savez(folder / f"{route.model}.npz", x=x, **outputs)


def _ask(server: Server, model: str, rows: Array) -> list[Any]:
    url = f"http://{servers.HOST}:{server.ports['rest']}/v1/models/{model}:predict"
    with closing(urllib.request.urlopen(url, json.dumps({"instances": rows.tolist()}).encode(), timeout=30)) as answer:
        return list(json.load(answer)["predictions"])


# ---------------------------------------------------------------- what was found


def _line(name: str, own: _Measured) -> Line:
    faults = [result for result in (*own.direct, *own.proxied, *own.alone) if result.wrong or result.lost]
    return Line(
        name,
        _ratio(own, lambda result: result.per_second),
        _ratio(own, lambda result: result.p99_ms),
        statistics.median(
            after.behind_cpu_us / before.cpu_us if before.cpu_us else 0.0
            for before, after in zip(own.direct, own.proxied, strict=True)
        ),
        _side(own.direct, [result.cpu_us for result in own.direct]),
        _side(own.proxied, [result.behind_cpu_us for result in own.proxied]),
        statistics.median(result.cpu_us for result in own.proxied),
        own.rows / own.calls if own.calls else 0.0,
        max(
            statistics.median(result.load_cpu_s / result.seconds if result.seconds else 0.0 for result in results)
            for results in (own.direct, own.proxied)
        ),
        [result.p50_ms for result in own.alone],
        sum(result.wrong + result.lost for result in faults),
        faults[0].fault if faults else "",
    )


def _ratio(own: _Measured, figure: Callable[[Result], float]) -> float:
    pairs = zip(own.direct, own.proxied, strict=True)
    return statistics.median(figure(after) / figure(before) if figure(before) else 0.0 for before, after in pairs)


def _side(results: Sequence[Result], server_us: Sequence[float]) -> Side:
    return Side(
        statistics.median(result.per_second for result in results),
        statistics.median(result.p50_ms for result in results),
        statistics.median(result.p99_ms for result in results),
        statistics.median(server_us),
    )
