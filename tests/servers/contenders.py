"""Who is compared: batchproxy before a server, and servers that batch by themselves; and how they are asked. No tests.

All are asked by the same JSON of the Open Inference Protocol, over connections that are used once.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np

from batchproxy.codecs import v2_grpc
from batchproxy.core.columns import ArrayColumn
from batchproxy.core.request import BatchKey
from batchproxy.core.shapes import DEFAULT_SIGNATURE
from tests.proxy import Proxy, ask, started
from tests.servers.fixture import RealServer
from tests.servers.zoo import TOGETHER, WINDOW_S

TRIES = 20
"""How often callers are sent off together until they did share a call: on a busy machine some come late."""

GUARD_S = 60
"""A caller that has waited for so long hangs."""


_TAKEN = ("nv_inference_pending_request_count", "nv_inference_request_success", "nv_inference_request_failure")
"""Triton's metrics that say together how many requests came: those that wait, and those that have ended."""


@dataclass(frozen=True)
class Told:
    """What a caller was told.

    Attributes:
        status: of HTTP; 0: nothing, for as long as it had patience.
        outputs: name to (shape, flat values); empty where it is an error.
        text: of the error.
    """

    status: int
    outputs: Mapping[str, tuple[Sequence[int], Sequence[Any]]]
    text: str = ""

    @property
    def company(self) -> int:
        """How many rows the call had; 0: not told."""
        return int(self.outputs.get("company", ((), (0,)))[1][0])

    def right(self, y: Sequence[Any], row: int) -> bool:
        """Whether this is the answer to the row of this number."""
        wanted = {"y": ([1, len(y)], list(y)), "row": ([1, 1], [row])}
        found = {name: (list(shape), list(data)) for name, (shape, data) in self.outputs.items() if name != "company"}
        return self.status == 200 and wanted == found


class Contender:
    """One that batches.

    Args:
        place: ``host:port`` of its REST door.
        grpc_: likewise.
        prefix: of its models' names.
        server: where the models run.
        proxy: what batches before it; None: the server does.
    """

    def __init__(self, place: str, grpc_: str, prefix: str, server: RealServer, proxy: Proxy | None = None) -> None:
        self.place = place
        self._channel = grpc.insecure_channel(grpc_)
        self.server = server
        self.proxy = proxy
        self._prefix = prefix

    def ask(
        self,
        x: Sequence[Any],
        row: int,
        model: str = "numbers",
        *,
        outputs: Sequence[str] = (),
        parameters: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
        patience_s: float = GUARD_S,
    ) -> Told:
        """One request of one row."""
        more: dict[str, Any] = {"outputs": outputs, "parameters": parameters, "headers": headers}
        return self.ask_rows([x], [row], model, patience_s=patience_s, **more)

    def ask_rows(
        self,
        x: Sequence[Sequence[Any]],
        rows: Sequence[int],
        model: str = "numbers",
        *,
        outputs: Sequence[str] = (),
        parameters: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
        patience_s: float = GUARD_S,
    ) -> Told:
        """One request of several rows, of two values where there are none."""
        connection = http.client.HTTPConnection(self.place, timeout=patience_s)
        path, body = self.request(x, rows, model, outputs=outputs, parameters=parameters)
        try:
            connection.request("POST", path, body, dict(headers or {}) | {"content-type": "application/json"})
            answer = connection.getresponse()
            status, text = answer.status, answer.read()
        except TimeoutError:
            return Told(0, {}, "no answer")
        finally:
            connection.close()
        try:
            found = json.loads(text)
        except ValueError:
            return Told(status, {}, text.decode("latin-1"))
        if status != 200:
            return Told(status, {}, str(found.get("error", found)))
        return Told(status, {one["name"]: (one["shape"], _flat(one["data"])) for one in found["outputs"]})

    def request(
        self,
        x: Sequence[Sequence[Any]],
        rows: Sequence[int],
        model: str = "numbers",
        *,
        outputs: Sequence[str] = (),
        parameters: Mapping[str, object] | None = None,
    ) -> tuple[str, bytes]:
        """The path and the body."""
        width = len(x[0]) if x else 2
        kind = "BYTES" if model == "words" else "INT64"
        document: dict[str, object] = {
            "inputs": [
                {"name": "x", "datatype": kind, "shape": [len(x), width], "data": _flat(x)},
                {"name": "row", "datatype": "INT64", "shape": [len(x), 1], "data": list(rows)},
            ]
        }
        if outputs:
            document["outputs"] = [{"name": name} for name in outputs]
        if parameters:
            document["parameters"] = dict(parameters)
        return f"/v2/models/{self._prefix}_{model}/infer", json.dumps(document).encode()

    def leaver(self, row: int) -> grpc.Future:
        """A caller over gRPC, on its way; to be cancelled."""
        columns = {"x": ArrayColumn(np.array([[row, 7]])), "row": ArrayColumn(np.array([[row]]))}
        key = BatchKey(f"{self._prefix}_numbers", None, DEFAULT_SIGNATURE)
        call = self._channel.unary_unary(v2_grpc.MODEL_INFER)
        return call.future(v2_grpc.encode_infer_request(key, columns), timeout=GUARD_S)

    def taken(self) -> float:
        """How many requests a Triton that batches by itself took in so far."""
        lines = ask(f"http://{self.server.metrics}/metrics")[1].decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(_TAKEN))

    def knock(self) -> None:
        """Returns when the server has read what came before over the same connection, and had time to see to it."""
        for _ in range(20):
            self._channel.unary_unary(v2_grpc.SERVER_READY)(b"", timeout=GUARD_S)

    def close(self) -> None:
        """Hang up."""
        self._channel.close()

    @contextmanager
    def busy(self) -> Iterator[None]:
        """For as long as the block lasts, the server's one instance is busy with a call that we made."""
        with ThreadPoolExecutor(1) as caller:
            waiting = caller.submit(self.ask, [-2, -2], 0)
            with self.server.gate.open("wb"):  # returns when the model has opened its end
                yield
            assert waiting.result(GUARD_S).status == 200


def _flat(data: Any) -> list[Any]:
    return [value for part in data for value in _flat(part)] if isinstance(data, list | tuple) else [data]


def at_once(asks: Sequence[Callable[[], Told]]) -> list[Told]:
    """A caller each; what they were told, in order. Nobody hangs."""
    with ThreadPoolExecutor(len(asks)) as callers:
        waiting = [callers.submit(ask) for ask in asks]
        return [one.result(GUARD_S) for one in waiting]


def until(
    asks: Callable[[], Sequence[Callable[[], Told]]], shared: Callable[[Sequence[Told]], bool], tries: int = TRIES
) -> list[Told]:
    """What callers were told when they came together as they should: they are sent off until they do.

    Args:
        asks: makes the callers.
        shared: whether they came together.
        tries: what they were told at the last of so many is given back all the same.
    """
    for _ in range(tries):
        found = at_once(asks())
        if shared(found):
            break
    return found


def sure(found: Sequence[Told]) -> bool:
    """Whether all of them shared one full call."""
    return all(told.company == TOGETHER for told in found)


@contextmanager
def before(server: RealServer) -> Iterator[Contender]:
    """batchproxy before a server that does not batch, with the very settings that the others have."""
    model = {"max_batch_rows": TOGETHER, "max_delay_ms": 1000 * WINDOW_S, "canary_every": 0}
    pools = [{"name": "server", "endpoints": [f"v2+http://{server.rest}"], "max_inflight": 1}]
    with started([], {"pools": pools, "models": [{"name": "*", "pool": "server", **model}]}) as proxy:
        found = Contender(proxy.rest.removeprefix("http://"), proxy.grpc, "plain", server, proxy)
        try:
            yield found
        finally:
            found.close()


@contextmanager
def itself(server: RealServer) -> Iterator[Contender]:
    """A server that batches by itself."""
    found = Contender(server.rest, server.grpc, "packed", server)
    try:
        yield found
    finally:
        found.close()
