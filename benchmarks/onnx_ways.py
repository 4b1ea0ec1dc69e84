"""What ``benchmarks.onnx`` loads: the ways in which a model is served, and their servers. Starts and asks, no more."""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from batchproxy.codecs import v2_rest
from benchmarks import onnx_triton, servers
from benchmarks.onnx_requests import Request, door
from benchmarks.servers import HOST, Server

ASKING = 16
"""Callers at once that check answers, each with rows of its own: their batches have several."""

PATIENCE_S = 30.0


@dataclass(frozen=True)
class Way:
    """One way in which a model is served.

    Attributes:
        name: of the line.
        protocol: one of ``onnx_requests.PROTOCOLS``.
        server: key of the process that is asked.
        suffix: of the model's name there.
        behind: key of the process behind it; empty where there is none.
        pinned: whether the server has the first core for itself, and the load has the others.
    """

    name: str
    protocol: str
    server: str
    suffix: str = ""
    behind: str = ""
    pinned: bool = False

    @property
    def door(self) -> str:
        """``rest`` or ``grpc``."""
        return door(self.protocol)


V2 = ("gRPC", "REST", "REST binary")

TRITON_ALONE = "Triton, batching off"
TRITON_BATCHING = "Triton, dynamic batching"
TUNED = {suffix: f"Triton, dynamic batching{suffix.replace('-', ', ')} rows" for suffix in ("-32", "-64")}
IN_FRONT = "batchproxy > Triton"
OFF = "embedded, batching off"
ON = "embedded"
LANES = "embedded, one thread a call"
PINNED = "embedded, one core"


def ways(model: str, protocol: str, quick: bool = False) -> tuple[Way, ...]:
    """The lines of a model and protocol, in the order in which they are loaded.

    Args:
        model: of ``onnx_models.MODELS``; of the small one, only what stands beside Triton.
        protocol: one of ``onnx_requests.PROTOCOLS``.
        quick: whether only the most telling ones.
    """
    on, lanes = Way(ON, protocol, "on"), Way(LANES, protocol, "lanes")
    if protocol not in V2:
        return () if model == "small" else (on,)
    triton = [Way(TRITON_ALONE, protocol, "triton"), Way(TRITON_BATCHING, protocol, "triton", "-default")]
    if not quick:
        triton += [Way(name, protocol, "triton", suffix) for suffix, name in TUNED.items()]
    front = Way(IN_FRONT, protocol, "front", behind="triton")
    if model == "small":
        return (*triton, front, on)
    if quick:
        return (*triton, front, on, lanes)
    return (*triton, front, Way(OFF, protocol, "off"), on, lanes, Way(PINNED, protocol, "pinned", pinned=True))


@contextmanager
def on_cores(cores: set[int] | None) -> Iterator[None]:
    """What this thread does and starts runs on these cores meanwhile; None: wherever it may."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def split_cores() -> tuple[set[int], set[int]]:
    """The core of a pinned server, and those of its load; the same where there is only one."""
    first, *others = sorted(os.sched_getaffinity(0))
    return {first}, set(others) or {first}


def start(
    models: Mapping[str, tuple[Path, tuple[int, ...], tuple[int, ...]]],
    chosen: Sequence[Way],
    folder: Path,
    stack: ExitStack,
) -> dict[str, Server]:
    """Start the servers that some ways need; ``stack`` stops them.

    Args:
        models: name to its file ``folder/NAME/1/model.onnx``, axes of a row of ``x``, and of ``y``.
        chosen: the ways.
        folder: of the models, and for the servers' files.
        stack: for the end.

    Raises:
        ServerError: one did not start.
        RuntimeError: Triton's environment is not there.
    """
    needed = {way.server for way in chosen} | {way.behind for way in chosen if way.behind}
    running: dict[str, Server] = {}
    if "triton" in needed:
        running["triton"] = onnx_triton.start(models, len(os.sched_getaffinity(0)), folder)
        stack.callback(running["triton"].stop)
    for name in ("on", "off", "lanes", "pinned"):
        if name in needed:
            with on_cores(split_cores()[0] if name == "pinned" else None):
                running[name] = _embedded(name, models, folder)
            stack.callback(running[name].stop)
    if "front" in needed:
        running["triton"].wait_ready()
        ports = running["triton"].ports
        address = f"v2+grpc://{HOST}:{ports['grpc']},v2+http://{HOST}:{ports['rest']}"
        running["front"] = servers.batchproxy("front", ["--backend", address], folder)
        stack.callback(running["front"].stop)
    for server in running.values():
        server.wait_ready()
    return running


def _embedded(name: str, models: Mapping[str, object], folder: Path) -> Server:
    own = {"onnx": {"threads_per_call": 1}} if name == "lanes" else {}
    pools = [{"name": model, "endpoints": [f"onnx:{folder / model}"], **own} for model in models]
    served = [{"name": model, "pool": model, "batching": name != "off"} for model in models]
    config = folder / f"{name}.json"
    config.write_text(json.dumps({"pools": pools, "models": served}))
    return servers.batchproxy(name, ["--config", str(config)], folder)


# ---------------------------------------------------------------- asking


def ask(port: int, requests: Sequence[Request]) -> str:
    """Send each request once, some at the same time, by grpcio or the standard library; what was wrong, or nothing."""
    with ThreadPoolExecutor(ASKING) as pool:
        if requests[0].door == "rest":
            found = list(pool.map(lambda request: _ask_rest(port, request), requests))
        else:
            with grpc.insecure_channel(f"{HOST}:{port}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
                found = list(pool.map(lambda request: _ask_grpc(channel, request), requests))
    return next((fault for fault in found if fault), "")


def answer_bytes(port: int, request: Request) -> int:
    """Bytes of the answer to a gRPC call; 0 where it failed."""
    with grpc.insecure_channel(f"{HOST}:{port}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
        try:
            return len(channel.unary_unary(request.path)(request.body, timeout=PATIENCE_S))
        except grpc.RpcError:
            return 0


def _ask_rest(port: int, request: Request) -> str:
    headers = {"Content-Type": "application/json", **request.headers}
    with closing(http.client.HTTPConnection(HOST, port, timeout=PATIENCE_S)) as connection:
        try:
            connection.request("POST", request.path, request.body, headers)
            answer = connection.getresponse()
            text = answer.read()
        except OSError as error:
            return f"no answer: {error}"
    if answer.status != http.client.OK:
        return f"HTTP {answer.status}: {text[:200]!r}"
    return request.wrong(text, answer.getheader(v2_rest.LENGTH_HEADER))


def _ask_grpc(channel: grpc.Channel, request: Request) -> str:
    try:
        answer: bytes = channel.unary_unary(request.path)(request.body, timeout=PATIENCE_S)
    except grpc.RpcError as error:
        return f"{error.code()}: {error.details()}"
    return request.wrong(answer, None)
