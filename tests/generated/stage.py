"""A server of generated models, proxies in front of it, and rounds of requests that are asked both ways. No assertions.

A round: the server holds every run back, all requests go out, the proxy has read them all, the server goes on. The
proxies have one slot each, so whoever may share a call does. Then the same requests go to the server directly.
"""

from __future__ import annotations

import http.client
import random
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import grpc
from google.protobuf import text_format
from hypothesis import strategies as st

from batchproxy.codecs import tfs_grpc
from batchproxy.protos import tfs_pb2 as pb
from tests.generated import grpc_predict, models, rest
from tests.generated.models import Model
from tests.golden_cases import Answer, Case, same_answer
from tests.proxy import Proxy, running_in_front_of
from tests.tfserving.fixture import Server, running_server

MODELS = 72
"""Of which some have types that REST has no form for: enough for sixty over each protocol."""

WAYS = ("rest", "bridge", "grpc")
"""REST to REST, REST to gRPC, gRPC to gRPC."""

IN_ANY_ORDER = re.compile(rb'Tensor name: .* has inconsistent batch size.*(?="\n)|Missing named input: .*(?= in )')
"""Texts that name the first of several inputs or outputs, whose order TF Serving does not fix (facts 1.6, 1.9)."""

GET_STATUS = "/tensorflow.serving.ModelService/GetModelStatus"

KINDS = {"rest": rest.KINDS, "bridge": rest.KINDS, "grpc": grpc_predict.KINDS}


class Plan(NamedTuple):
    """One request, as hypothesis draws it: the rest of it comes from the seed, which is cheaper by far.

    Attributes:
        kind: what is odd about it.
        rows: how many.
        seed: of its values and its form.
    """

    kind: str
    rows: int
    seed: int


def plans(way: str) -> st.SearchStrategy[list[Plan]]:
    """The requests of a round: two of three are meant well."""
    good, seeds, rows = st.just("good"), st.integers(0, 2**32 - 1), st.integers(1, 9)
    kinds = st.one_of(good, good, st.sampled_from(KINDS[way]))
    return st.lists(st.builds(Plan, kinds, rows, seeds), min_size=16, max_size=20)


class Difference(NamedTuple):
    """An answer that breaks the law."""

    model: Model
    plan: Plan
    request: Any
    direct: Any
    proxied: Any


class Stage:
    """What runs, and what was asked so far.

    Attributes:
        models: all of them.
        asked: requests by way.
        met: names of models that were asked something, by way.
    """

    def __init__(self, made: Sequence[Model], server: Server, proxies: dict[str, Proxy], stack: ExitStack) -> None:
        self.models = made
        self.asked: Counter[str] = Counter()
        self.met: dict[str, set[str]] = {way: set() for way in WAYS}
        self._server = server
        self._proxies = proxies
        self._http: dict[str, list[http.client.HTTPConnection]] = {place: [] for place in (server.rest, *self._doors())}
        self._channels = {
            place: stack.enter_context(grpc.insecure_channel(place)) for place in (proxies["grpc"].grpc, server.grpc)
        }
        stack.callback(self._close)

    def _doors(self) -> list[str]:
        return [_place(self._proxies[way].rest) for way in ("rest", "bridge")]

    def _close(self) -> None:
        for connections in self._http.values():
            for connection in connections:
                connection.close()

    def candidates(self, way: str) -> list[Model]:
        """The models that can be asked so; some of the others, too, for their errors."""
        return [model for number, model in enumerate(self.models) if way == "grpc" or model.over_rest or not number % 3]

    def differences(self, way: str, model: Model, drawn: Sequence[Plan]) -> list[Difference]:
        """One round; returns the answers that are not those of a direct call."""
        make = _maker(way)
        requests = [
            make(model, plan.kind, plan.rows, random.Random(f"{model.name} {place} {plan.seed}"))
            for place, plan in enumerate(drawn)
        ]
        self.asked[way] += len(requests)
        self.met[way].add(model.name)
        with self._server.held():
            far = self._send(way, requests, direct=False)
            self._all_read(way)
        proxied = [one() for one in far]
        direct = self.ask(way, requests, direct=True)
        return [
            Difference(model, *found)
            for found in zip(drawn, requests, direct, proxied, strict=True)
            if found[2] != found[3] and not _same(*found[1:])
        ]

    def ask(self, way: str, requests: Sequence[Any], *, direct: bool) -> list[Any]:
        """The answers to requests that are sent at once."""
        return [one() for one in self._send(way, requests, direct=direct)]

    def _all_read(self, way: str) -> None:
        """Returns when the proxy has read what was sent to it before: its loop reads in the order of arrival."""
        proxy = self._proxies[way]
        if way == "grpc":
            call = self._channels[proxy.grpc].unary_unary(GET_STATUS)
            call(b"\n\x04\n\x02m0", timeout=30)
        proxy.get(f"{proxy.admin}/healthz")

    def _send(self, way: str, requests: Sequence[Any], *, direct: bool) -> list[Any]:
        if way == "grpc":
            channel = self._channels[self._server.grpc if direct else self._proxies[way].grpc]
            call = channel.unary_unary(tfs_grpc.PREDICT)
            return [_Pending(call.future(message, timeout=30)) for message in requests]
        place = self._server.rest if direct else _place(self._proxies[way].rest)
        pool = self._http[place]
        while len(pool) < len(requests):
            pool.append(http.client.HTTPConnection(place, timeout=30))
        return [_Asked(connection, request) for connection, request in zip(pool, requests, strict=False)]

    def shared(self, way: str) -> tuple[float, float]:
        """How many calls took a slot so far, and how many requests were in them, each as often as it was asked."""
        proxy = self._proxies[way]
        return proxy.metric("batchproxy_batch_rows_count"), proxy.metric("batchproxy_queue_seconds_count")


class _Asked:
    """A REST request on its way."""

    def __init__(self, connection: http.client.HTTPConnection, request: rest.Request) -> None:
        self._connection = connection
        connection.request(request.method, request.path, request.body)

    def __call__(self) -> tuple[int, str, str | None, bytes]:
        """Status, reason, content type and body."""
        answer = self._connection.getresponse()
        return answer.status, answer.reason, answer.getheader("Content-Type"), answer.read()


class _Pending:
    """A gRPC call on its way."""

    def __init__(self, future: Any) -> None:
        self._future = future

    def __call__(self) -> tuple[str, Any]:
        """Code, and text or message."""
        error = self._future.exception()
        return (error.code().name, error.details()) if error else ("OK", self._future.result())


def _place(url: str) -> str:
    return url.removeprefix("http://")


def _same(request: Any, direct: Any, proxied: Any) -> bool:
    """Whether two answers that are not equal are, up to the order of keys."""
    if isinstance(request, rest.Request):
        near, far = (Answer(answer[0], IN_ANY_ORDER.sub(b"", answer[-1])) for answer in (direct, proxied))
        case = Case("", request.method, request.path, {}, request.body, (near,))
        return direct[:-1] == proxied[:-1] and same_answer(case, far)
    return "OK" == direct[0] == proxied[0] and _as_text(direct[1]) == _as_text(proxied[1])


def _as_text(message: bytes) -> str:
    """Sorted, and NaN is itself."""
    return text_format.MessageToString(pb.PredictResponse.FromString(message))


@contextmanager
def staged(seed: int) -> Iterator[Stage]:
    """Models of this seed, served; the proxies know them."""
    source = random.Random(seed)
    made = [models.random_model(number, source) for number in range(MODELS)]
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        listed = models.write(made, Path(folder), source)
        server = stack.enter_context(running_server(config=listed))
        one_slot = {"max_inflight": 1}
        both = stack.enter_context(running_in_front_of([server], pool=one_slot))
        bridge = stack.enter_context(running_in_front_of([server], doors=["grpc"], pool=one_slot))
        proxies = {"rest": both, "bridge": bridge, "grpc": both}
        stage = Stage(made, server, proxies, stack)
        _learn(stage, proxies)
        yield stage


def _learn(stage: Stage, proxies: dict[str, Proxy]) -> None:
    """Asks until every model that may share calls was seen to: its first requests only make the proxies curious."""
    for way, proxy in proxies.items():
        source = random.Random(0)
        make = _maker(way)
        waiting = [model for model in stage.models if model.merges and (way == "grpc" or model.over_rest)]
        while waiting:
            for model in waiting:
                stage.ask(way, [make(model, "good", 1, source)], direct=False)
            seen = set(re.findall(r'batchproxy_backend_calls_total\{[^}]*model="(\w+)"', _metrics(proxy)))
            waiting = [model for model in waiting if model.name not in seen]


def _maker(way: str) -> Any:
    return grpc_predict.request if way == "grpc" else rest.request


def _metrics(proxy: Proxy) -> str:
    return proxy.get(f"{proxy.admin}/metrics")[1].decode()
