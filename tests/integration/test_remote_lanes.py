"""Who rides with whom to a server, what does not wait for a slot, and what is known of its models."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import model_management_pb2

from batchproxy.catalogue import RENEW_S
from batchproxy.codecs import tfs_grpc
from batchproxy.protos import tfs_pb2 as pb
from tests.proxy import Proxy, running_in_front_of
from tests.remote import PLUG, in_one_call, plug, predict_message, until_merged
from tests.tfserving.fixture import Captured, Server, running_server

FIXED = {"inputs": [[1.0, 2.0], [3.0, 4.0]]}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """It is reloaded by the last test."""
    with running_server(models=[PLUG, "int64_model", "fixed_batch", "multi_version"]) as one:
        yield one


# ---------------------------------------------------------------- what does not wait for a slot


@pytest.mark.parametrize("kind", ["rest", "grpc"])
def test_calls_that_may_not_be_merged_are_not_throttled(server: Server, kind: str) -> None:
    """R2: 64 callers of a fixed-batch model are at the server at the same time, though two merged calls may be."""
    with (
        running_in_front_of([server]) as proxy,
        grpc.insecure_channel(proxy.grpc) as channel,
        ThreadPoolExecutor(64) as callers,
    ):
        message = predict_message("fixed_batch", {"x": np.ones((2, 2), np.float32)})
        predict = partial(channel.unary_unary(tfs_grpc.PREDICT), message, timeout=30)
        post = partial(proxy.post, "/v1/models/fixed_batch:predict", FIXED)
        call: Callable[[], object] = post if kind == "rest" else predict
        until_merged(proxy, "fixed_batch", call)  # which it will not be; now the proxy knows that
        server.reset()
        with server.held():
            waiting = [callers.submit(call) for _ in range(64)]
            server.wait_for_running(64)
        answers = [one.result() for one in waiting]
    counters = server.counters()

    assert 64 == counters["peak"]
    assert [2] * 64 == counters["rows"]["fixed_batch"]
    assert 1 == len({str(answer) for answer in answers})


def test_calls_beyond_max_relayed_are_refused_at_once(server: Server) -> None:
    """Those below it are not disturbed. A question about the model is one of them, too, while it is asked."""
    with running_in_front_of([server], pool={"max_relayed": 4}) as proxy, ThreadPoolExecutor(4) as callers:
        post = partial(proxy.post, "/v1/models/fixed_batch:predict", FIXED)
        waiting: list[Future[tuple[int, bytes]]] = []
        with server.held():
            while (running := server.counters()["running"]) < 4:
                if running == sum(not one.done() for one in waiting):
                    waiting.append(callers.submit(post))
            status, body = post()
        found = [one.result()[0] for one in waiting]

    assert 503 == status
    assert "max_relayed" in json.loads(body)["error"]
    assert 4 == found.count(200)
    assert {200, 503} >= set(found)


# ---------------------------------------------------------------- headers


@pytest.fixture(scope="module")
def apart() -> Iterator[Server]:
    """Behind ``careful``, which goes on asking what it knows for ten seconds: others count what a server is asked."""
    with running_server(models=[PLUG, "int64_model"]) as one:
        yield one


@pytest.fixture(scope="module")
def careful(apart: Server) -> Iterator[Proxy]:
    """One call at a time; ``x-tenant`` counts beside ``authorization``, and there is a static header."""
    models = {"*": {"partition_by": ["authorization", "x-tenant"]}}
    pool = {"max_inflight": 1, "static_headers": {"x-api-key": "k", "x-tenant": "nobody"}}
    with running_in_front_of([apart], models=models, pool=pool) as one:
        until_merged(one, PLUG, partial(plug, one))
        until_merged(one, "int64_model", partial(one.post, "/v1/models/int64_model:predict", {"instances": [1]}))
        yield one


WHO = [{}, {"authorization": "Bearer a"}, {"authorization": "Bearer b"}, {"authorization": "Bearer a", "x-tenant": "t"}]
"""Four kinds of callers."""


def rows_by_caller(calls: list[tuple[int, dict[str, str]]]) -> list[tuple[int, tuple[str | None, ...]]]:
    """The rows of each call, and the headers that count."""
    names = ("authorization", "x-tenant", "x-api-key", "x-own")
    return sorted(((rows, tuple(found.get(name) for name in names)) for rows, found in calls), key=str)


EXPECTED = sorted(
    [
        (3, (None, "nobody", "k", None)),
        (3, ("Bearer a", "nobody", "k", None)),
        (3, ("Bearer b", "nobody", "k", None)),
        (3, ("Bearer a", "t", "k", None)),
    ],
    key=str,
)
"""One call for each kind, with its headers, the static ones, and no caller's own."""


def test_rest_callers_of_unlike_authorization_never_share_a_call(apart: Server, careful: Proxy) -> None:
    """Those of the same do, and their header arrives."""
    asks = [
        partial(careful.post, "/v1/models/int64_model:predict", {"instances": [7]}, {**who, "x-own": str(number)})
        for who in WHO
        for number in range(3)
    ]
    apart.reset()
    found = in_one_call(apart, careful, asks, len(asks))
    calls = [call for call in apart.captured() if "int64_model" in call.method]

    assert {200} == {status for status, _ in found}
    assert EXPECTED == rows_by_caller([rest_call(call) for call in calls])


def rest_call(call: Captured) -> tuple[int, dict[str, str]]:
    """Rows and headers of a captured predict call; each header must be there once."""
    head, _, body = call.request.partition(b"\r\n\r\n")
    pairs = re.findall(r"([^\r\n:]+): ([^\r\n]*)", head.decode())
    headers = {name.lower(): value for name, value in pairs}
    assert len(pairs) == len(headers)
    return len(json.loads(body)["instances"]), headers


def test_grpc_callers_of_unlike_authorization_never_share_a_call(apart: Server, careful: Proxy) -> None:
    """As over REST."""
    message = predict_message("int64_model", {"x": np.array([7], np.int64)})
    apart.reset()
    with grpc.insecure_channel(careful.grpc) as channel:
        predict = channel.unary_unary(tfs_grpc.PREDICT)
        asks = [
            partial(predict, message, timeout=30, metadata=[*who.items(), ("x-own", str(number))])
            for who in WHO
            for number in range(3)
        ]
        in_one_call(apart, careful, asks, len(asks))
    calls = [call for call in apart.captured() if call.method == tfs_grpc.PREDICT]
    requests = [pb.PredictRequest.FromString(call.request) for call in calls]
    rows = [request.inputs["x"].tensor_shape.dim[0].size for request in requests]

    assert EXPECTED == rows_by_caller([(size, call.metadata) for size, call in zip(rows, calls, strict=True)])


# ---------------------------------------------------------------- models in two places


def test_a_model_of_the_proxys_own_wins_over_the_servers(server: Server) -> None:
    """An embedded model answers by its name, the servers all others."""
    with running_in_front_of([server], embedded={"int64_model": "python:tests.served_twins:half_plus_two"}) as proxy:
        server.reset()
        embedded = proxy.post("/v1/models/int64_model:predict", {"instances": [1.0, 2.0]})
        with grpc.insecure_channel(proxy.grpc) as channel:
            message = predict_message("int64_model", {"x": np.array([1, 2], np.float32)})
            answer = pb.PredictResponse.FromString(channel.unary_unary(tfs_grpc.PREDICT)(message, timeout=30))
        status = json.loads(proxy.get(f"{proxy.rest}/v1/models/int64_model")[1])
        untouched = server.counters()["calls"]
        remote = proxy.post(f"/v1/models/{PLUG}:predict", {"instances": [1.0, 2.0]})
        unknown = proxy.post("/v1/models/nobodys:predict", {"instances": [1.0]})

    assert (200, {"predictions": [2.5, 3.0]}) == (embedded[0], json.loads(embedded[1]))
    assert [2.5, 3.0] == list(answer.outputs["y"].float_val)
    assert "1" == status["model_version_status"][0]["version"]
    assert {} == untouched
    assert (200, {"predictions": [2.5, 3.0]}) == (remote[0], json.loads(remote[1]))
    assert (404, {"error": "Servable not found for request: Latest(nobodys)"}) == (unknown[0], json.loads(unknown[1]))


# ---------------------------------------------------------------- metadata


@pytest.mark.parametrize("doors", [["grpc", "rest"], ["rest"], ["grpc"]], ids="+".join)
def test_metadata_is_asked_once_beside_the_first_requests(server: Server, doors: list[str]) -> None:
    """Not before, and not by each of those who come meanwhile; again when it is half a second old."""
    with running_in_front_of([server], doors=doors) as proxy, ThreadPoolExecutor(8) as callers:
        server.reset()
        started = time.monotonic()
        with server.held():
            post = partial(proxy.post, "/v1/models/int64_model:predict")
            waiting = [callers.submit(post, {"instances": [number]}) for number in range(8)]
            server.wait_for_running(1)
        found = [json.loads(one.result()[1]) for one in waiting]
        asked: list[int] = []
        while not asked:  # it may be asked after the callers, who did not wait for it
            calls, seconds = server.counters()["calls"], time.monotonic() - started
            asked = [count for call, count in calls.items() if "etadata" in call and "int64_model" in call]

    assert [{"predictions": [2 * number + 1]} for number in range(8)] == found
    assert 1 == len(asked)
    assert 1 <= asked[0] <= 1 + seconds / RENEW_S, calls


def test_a_model_that_is_configured_not_to_be_batched_is_relayed(server: Server) -> None:
    """``batchable: false``: whatever its metadata says, each row is a run of its own."""
    with running_in_front_of([server], models={"*": {"batchable": False}}) as proxy, ThreadPoolExecutor(16) as callers:
        server.reset()
        found = list(callers.map(partial(post_one, proxy), range(64)))
        alone = server.counters()["rows"]["int64_model"]

    assert [{"predictions": [2 * number + 1]} for number in range(64)] == found
    assert [1] * 64 == alone


def post_one(proxy: Proxy, number: int) -> Any:
    """One row: the answer's document."""
    return json.loads(proxy.post("/v1/models/int64_model:predict", {"instances": [number]})[1])


def test_when_another_version_answers_the_proxy_asks_again(server: Server) -> None:
    """int64_model becomes half_plus_two under the same name, with other types: nobody is given a wrong answer."""
    request = model_management_pb2.ReloadConfigRequest()
    for name, path in ((PLUG, PLUG), ("changing", "int64_model")):
        request.config.model_config_list.config.add(name=name, base_path=path, model_platform="tensorflow")
    with running_in_front_of([server], pool={"max_inflight": 1}) as proxy, grpc.insecure_channel(proxy.grpc) as channel:
        reload = channel.unary_unary(tfs_grpc.RELOAD_CONFIG)
        until_merged(proxy, PLUG, partial(plug, proxy))
        reload(request.SerializeToString(), timeout=30)
        post = partial(proxy.post, "/v1/models/changing:predict")
        until_merged(proxy, "changing", partial(post, {"instances": [1]}))
        before = in_one_call(server, proxy, [partial(post, {"instances": [number]}) for number in (1, 2, 3)], 3)
        changed = request.config.model_config_list.config[1]
        changed.base_path = "multi_version"
        changed.model_version_policy.specific.versions.append(2)
        reload(request.SerializeToString(), timeout=30)
        predict = channel.unary_unary(tfs_grpc.PREDICT)
        numbers = [*range(60)]
        messages = [predict_message("changing", {"x": np.array([number], np.float32)}) for number in numbers]
        with ThreadPoolExecutor(12) as callers:
            answers = list(callers.map(partial(predict, timeout=30), messages))
            rest = list(callers.map(post, [{"instances": [float(number)]} for number in numbers]))
        known = json.loads(proxy.get(f"{proxy.rest}/v1/models/changing/metadata")[1])

    found = [pb.PredictResponse.FromString(answer) for answer in answers]
    assert [{"predictions": [2 * number + 1]} for number in (1, 2, 3)] == [json.loads(body) for _, body in before]
    assert [[number / 2 + 3] for number in numbers] == [list(answer.outputs["y"].float_val) for answer in found]
    assert {2} == {answer.model_spec.version.value for answer in found}
    assert [(200, {"predictions": [number / 2 + 3]}) for number in numbers] == [(s, json.loads(b)) for s, b in rest]
    assert "2" == known["model_spec"]["version"]
