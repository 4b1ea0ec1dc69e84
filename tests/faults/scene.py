"""A proxy in front of bad servers, and callers whose rows tell whose they are. No tests, and no fault of its own."""

from __future__ import annotations

import itertools
import json
import math
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import grpc
import numpy as np

from batchproxy.codecs import tfs_grpc, v2_grpc
from batchproxy.core.columns import ArrayColumn
from batchproxy.core.request import BatchKey
from batchproxy.core.shapes import DEFAULT_SIGNATURE
from tests.faults.grpc_front import read_response, read_v2_response
from tests.faults.script import right
from tests.faults.server import BadServer, bad_server
from tests.proxy import Doors, Proxy, running_in_front_of
from tests.remote import predict_message

GUARD_S = 30
"""A caller that has waited for so long hangs."""

PLUG = "plug"
"""The model whose call takes the only slot, so that everything else waits in its lane."""


SCHEMES = {"rest": "http", "grpc": "grpc"}
"""Of a door, in an endpoint."""


@dataclass(frozen=True)
class Route:
    """Which door callers use, and which doors servers have."""

    name: str
    by: str
    doors: tuple[str, ...]
    v2: bool = False

    def endpoint(self, server: Doors) -> str:
        """A server, as the configuration has it."""
        return ",".join(f"{'v2+' * self.v2}{SCHEMES[door]}://{getattr(server, door)}" for door in self.doors)

    def path(self, model: str) -> str:
        """Of the REST door."""
        return f"/v2/models/{model}/infer" if self.v2 else f"/v1/models/{model}:predict"

    def body(self, rows: Sequence[int]) -> bytes:
        """What is sent there for rows."""
        if not self.v2:
            return json.dumps({"instances": list(rows)}).encode()
        tensor = {"name": "x", "datatype": "INT64", "shape": [len(rows)], "data": list(rows)}
        return json.dumps({"inputs": [tensor]}).encode()

    def read(self, document: Any) -> tuple[tuple[float, float], ...]:
        """The rows of an answer of the REST door, as (y, f); KeyError, TypeError: it has none."""
        if not self.v2:
            return tuple((one["y"], one["f"]) for one in document["predictions"])
        outputs = {one["name"]: one["data"] for one in document["outputs"]}
        return tuple(zip(outputs["y"], outputs["f"], strict=True))

    @property
    def method(self) -> str:
        """Of the gRPC door."""
        return v2_grpc.MODEL_INFER if self.v2 else tfs_grpc.PREDICT

    def message(self, model: str, rows: Sequence[int]) -> bytes:
        """What is sent there for rows."""
        x = np.array(rows, np.int64)
        if not self.v2:
            return predict_message(model, {"x": x})
        return v2_grpc.encode_infer_request(BatchKey(model, None, DEFAULT_SIGNATURE), {"x": ArrayColumn(x)})

    def read_message(self, message: bytes) -> tuple[tuple[float, float], ...] | None:
        """The rows of an answer of the gRPC door; None: it has none."""
        return read_v2_response(message) if self.v2 else read_response(message)


REST = Route("REST", "rest", ("rest",))
GRPC = Route("gRPC", "grpc", ("grpc",))
BRIDGED = Route("bridged", "rest", ("grpc",))
V2_REST = Route("v2 REST", "rest", ("rest",), v2=True)
V2_GRPC = Route("v2 gRPC", "grpc", ("grpc",), v2=True)
ROUTES = (REST, GRPC, BRIDGED, V2_REST, V2_GRPC)


@dataclass(frozen=True)
class Said:
    """What a caller was told.

    Attributes:
        code: HTTP's status, or gRPC's number.
        values: y and f of its rows; None: an error.
        text: of the error.
    """

    code: int
    values: tuple[tuple[float, float], ...] | None
    text: str = ""

    @property
    def nan(self) -> bool:
        """Whether an f is NaN."""
        return any(math.isnan(f) for _, f in self.values or ())


def good(route: Route, *rows: int) -> Said:
    """The right answer."""
    return Said(200 if route.by == "rest" else 0, tuple(right(row) for row in rows))


class Asks(Protocol):
    """A caller of a test's own."""

    def ask(self) -> None: ...


@dataclass
class Scene:
    """One proxy, the servers behind it, and callers of one kind."""

    route: Route
    proxy: Proxy
    servers: Sequence[BadServer]
    channel: grpc.Channel
    callers: ThreadPoolExecutor
    _names: Iterator[int] = field(default_factory=itertools.count)
    _rows: Iterator[int] = field(default_factory=lambda: itertools.count(1_000_000))

    @property
    def server(self) -> BadServer:
        """The first one."""
        return self.servers[0]

    def row(self) -> int:
        """A row that nobody else has."""
        return next(self._rows)

    def ask(self, model: str, *rows: int, deadline_s: float = GUARD_S) -> Said:
        """A caller's call of some rows, as it is answered."""
        if self.route.by == "rest":
            limit = {"x-request-timeout-ms": str(int(1000 * deadline_s))}
            return _rest_said(self.route, *self.proxy.post(self.route.path(model), self.route.body(rows), limit))
        predict = self.channel.unary_unary(self.route.method)
        try:
            return Said(0, self.route.read_message(predict(self.route.message(model, rows), timeout=deadline_s)))
        except grpc.RpcError as error:
            return Said(error.code().value[0], None, error.details() or "")

    def status(self) -> Mapping[str, Any]:
        """What the live page shows: a tenth of the metrics' text, where there are many models."""
        return dict(json.loads(self.proxy.get(f"{self.proxy.admin}/status.json")[1]))

    def queued_rows(self) -> int:
        """Rows that wait in the proxy."""
        return sum(model["queued_rows"] for model in self.status()["models"])

    def until_up(self) -> None:
        """Returns when every server may be used."""
        while not all(endpoint["up"] for endpoint in self.status()["endpoints"]):
            pass

    def model(self) -> str:
        """A model that no test has used, of which the proxy knows all that it will know."""
        name = f"m{next(self._names)}"
        self.until_up()
        self.until_known(name)
        self.until_known(PLUG)  # each time: what nobody used for ten seconds is asked for anew
        return name

    def until_known(self, model: str) -> None:
        """Ask until a call of the model is one that may be merged."""
        before = self._merged(model)
        while self._merged(model) == before:
            self.ask(model, 0)

    def _merged(self, model: str) -> int:
        return sum(one["backend_calls"] for one in self.status()["models"] if one["name"] == model)

    def connect(self) -> socket.socket:
        """A connection to the REST door."""
        host, _, port = self.proxy.rest.removeprefix("http://").partition(":")
        return socket.create_connection((host, int(port)))

    def together(
        self,
        model: str,
        rows: Sequence[int],
        meanwhile: Callable[[], object] = int,
        deadline_s: float = GUARD_S,
        others: Sequence[Asks] = (),
    ) -> list[Future[Said]]:
        """A caller for each row, whose calls leave as one batch, for the first server.

        Args:
            model: theirs.
            rows: one each.
            meanwhile: done before the batch leaves.
            deadline_s: of each caller.
            others: further callers, of a row each, whose answers nobody waits for.
        """
        for server in self.servers:
            server.hold(PLUG)
        plugs = []
        for count in range(len(self.servers)):
            plugs.append(self.callers.submit(self.ask, PLUG, 0))
            while sum(server.waiting(PLUG) for server in self.servers) <= count:
                self.status()  # a look that leaves the servers' threads time
        waiting = [self.callers.submit(self.ask, model, row, deadline_s=deadline_s) for row in rows]
        for other in others:
            other.ask()
        while self.queued_rows() < len(rows) + len(others):
            pass
        meanwhile()
        for server in self.servers:
            server.release(PLUG)
            while self.queued_rows():
                pass
        assert all(plug.result(GUARD_S).code in {0, 200} for plug in plugs)
        return waiting


def told(callers: Sequence[Future[Said]]) -> list[Said]:
    """What each was told; nobody hangs."""
    return [caller.result(GUARD_S) for caller in callers]


def _rest_said(route: Route, status: int, answer: bytes) -> Said:
    try:
        found = json.loads(answer)
    except ValueError:
        return Said(status, None, answer.decode("latin-1"))
    if status != 200:
        return Said(status, None, str(found.get("error", found)))
    try:
        return Said(status, route.read(found))
    except (KeyError, TypeError):
        return Said(status, None, answer.decode())


@contextmanager
def scene(route: Route, servers: int = 1, **settings: Any) -> Iterator[Scene]:
    """A proxy in front of so many bad servers, each of which takes one merged call at a time.

    Args:
        route: the doors.
        servers: how many.
        settings: for ``running_in_front_of``.
    """
    with bad_servers(servers) as bad:
        pool = {"max_inflight": 1, "endpoints": [route.endpoint(one) for one in bad]}
        with (
            running_in_front_of(bad, pool=pool, probe_interval_s=0.02, **settings) as proxy,
            grpc.insecure_channel(proxy.grpc) as channel,
            ThreadPoolExecutor(64) as callers,
        ):
            yield Scene(route, proxy, bad, channel, callers)


@contextmanager
def bad_servers(count: int) -> Iterator[list[BadServer]]:
    """Several of them."""
    if not count:
        yield []
        return
    with bad_servers(count - 1) as others, bad_server() as one:
        yield [*others, one]


class Stages:
    """Scenes by the route's name, each opened by the first test that wants it."""

    def __init__(self, stack: ExitStack, servers: int = 1) -> None:
        self._stack = stack
        self._servers = servers
        self._open: dict[str, Scene] = {}

    def __getitem__(self, name: str) -> Scene:
        if name not in self._open:
            route = next(route for route in ROUTES if route.name == name)
            self._open[name] = self._stack.enter_context(scene(route, self._servers))
        return self._open[name]
