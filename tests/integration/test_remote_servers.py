"""Several servers behind one proxy: a dead one is left out at once and comes back; with none left, callers are told."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import grpc
import numpy as np
import pytest
from google.protobuf import text_format
from tensorflow_serving.apis import model_management_pb2

from batchproxy.codecs import tfs_grpc
from batchproxy.core.limit import HARD_CAP
from tests.proxy import Proxy, ask, running_in_front_of
from tests.remote import predict_message, until_merged
from tests.tfserving.fixture import Server, running_server

T = TypeVar("T")

PATH = "/v1/models/int64_model:predict"
FIXED = {"inputs": [[1.0, 2.0], [3.0, 4.0]]}
MODELS = ["int64_model", "fixed_batch"]

CALLERS = HARD_CAP + 1
"""Threads: so many calls a server may have had before one comes to the other. By default there would be four more than
CPUs, and the next call would not be begun until those held are given up."""

AT_ONCE_S = 10.0
"""Of the five minutes that a call may take: nobody was waited for."""


@pytest.fixture(scope="module")
def servers() -> Iterator[list[Server]]:
    """Two of them; every test leaves them running."""
    with running_server(models=MODELS) as one, running_server(models=MODELS) as other:
        yield [one, other]


@pytest.fixture(scope="module")
def proxy(servers: list[Server]) -> Iterator[Proxy]:
    """In front of both, by both of their doors."""
    with running_in_front_of(servers) as one:
        until_merged(one, "int64_model", partial(post, one, 1))
        yield one


def post(proxy: Proxy, number: int) -> tuple[int, Any]:
    """A call that may share a batch: status, and the answer's document."""
    status, body = proxy.post(PATH, {"instances": [number]})
    return status, json.loads(body)


def predict(channel: grpc.Channel, number: int) -> bytes:
    """The same over gRPC."""
    message = predict_message("int64_model", {"x": np.array([number], np.int64)})
    answer: bytes = channel.unary_unary(tfs_grpc.PREDICT)(message, timeout=30)
    return answer


def until(value: Callable[[], object], expected: object) -> None:
    """Look until it is so; each look is a round trip, so that it takes no time of others."""
    while value() != expected:
        pass


def up(proxy: Proxy) -> float:
    """How many endpoints are used."""
    return proxy.metric("batchproxy_endpoint_up")


def test_a_dead_server_is_left_out_at_once_and_used_again_when_it_is_back(servers: list[Server], proxy: Proxy) -> None:
    """No call fails: not those that meet it dead, not those after; merged, relayed, and of every kind."""
    first, _ = servers
    first.kill()
    with grpc.insecure_channel(proxy.grpc) as channel:
        found = [post(proxy, number) for number in range(8)]
        fixed = [proxy.post("/v1/models/fixed_batch:predict", FIXED)[0] for _ in range(8)]
        status = [proxy.get(f"{proxy.rest}/v1/models/int64_model")[0] for _ in range(8)]
        answers = [predict(channel, number) for number in range(8)]
    without = up(proxy)
    ready = proxy.get(f"{proxy.admin}/readyz")[0]
    first.start()
    until(partial(up, proxy), 2.0)
    for server in servers:
        server.reset()
    with ThreadPoolExecutor(16) as callers:
        after = list(callers.map(partial(post, proxy), range(200)))

    assert [(200, {"predictions": [2 * number + 1]}) for number in range(8)] == found
    assert [200] * 16 == fixed + status
    assert all(answers)
    assert (1.0, 200) == (without, ready)
    assert [(200, {"predictions": [2 * number + 1]}) for number in range(200)] == after
    assert all(server.counters()["rows"]["int64_model"] for server in servers)


@pytest.mark.parametrize("kind", ["rest", "grpc"])
def test_a_call_in_flight_to_a_server_that_dies_is_made_again(servers: list[Server], proxy: Proxy, kind: str) -> None:
    """The model is idempotent unless it is configured not to be (R3)."""
    first, other = servers
    with (
        ThreadPoolExecutor(CALLERS) as callers,
        grpc.insecure_channel(proxy.grpc) as channel,
        first.held(),
    ):
        call: Callable[[], object] = partial(post, proxy, 5) if kind == "rest" else partial(predict, channel, 5)
        waiting = until_held(callers, call, first, other)
        first.kill()
        found = [one.result() for one in waiting]
        first.start()
    until(partial(up, proxy), 2.0)

    if kind == "rest":
        assert [(200, {"predictions": [11]})] * len(found) == found
    assert all(found)


def until_held(callers: ThreadPoolExecutor, call: Callable[[], T], server: Server, other: Server) -> list[Future[T]]:
    """Make calls, one after the other, until one of them is held by this server; then the other one answers its own.

    Meanwhile the other one holds what comes to it, so that it gets busier, whatever either is said to cost: it may get
    as many as it may ever have, each of which needs a thread (``CALLERS``).
    """
    waiting: list[Future[T]] = []
    with other.held():
        while not server.counters()["running"]:
            waiting.append(callers.submit(call))
            while server.counters()["running"] + other.counters()["running"] < len(waiting):
                pass
    return waiting


def test_a_call_that_must_not_run_twice_is_not_made_again(servers: list[Server]) -> None:
    """``idempotent: false``: it may have run, so its caller is told."""
    first, other = servers
    models = {"*": {"idempotent": False}}
    with (
        running_in_front_of(servers, models=models, probe_interval_s=0.05) as proxy,
        ThreadPoolExecutor(CALLERS) as callers,
    ):
        until_merged(proxy, "int64_model", partial(post, proxy, 1))
        with first.held():
            waiting = until_held(callers, partial(post, proxy, 5), first, other)
            first.kill()
            found = [one.result() for one in waiting]
            first.start()
    (error,) = [document["error"] for status, document in found if status == 503]

    assert {200, 503} >= {status for status, _ in found}
    assert "idempotent: false" in error


def test_a_call_that_a_server_refuses_for_its_threads_is_made_elsewhere(servers: list[Server]) -> None:
    """``Server Threadpool Exhausted`` means that it did not run (R3)."""
    message = predict_message("fixed_batch", {"x": np.ones((2, 2), np.float32)})
    with (
        running_server("--max_threads=1", models=MODELS) as narrow,
        running_in_front_of([narrow, servers[0]], doors=["grpc"]) as proxy,
        grpc.insecure_channel(proxy.grpc) as channel,
        ThreadPoolExecutor(6) as callers,
    ):
        call = channel.unary_unary(tfs_grpc.PREDICT)
        with narrow.held(), servers[0].held():
            waiting = [callers.submit(call, message, timeout=30) for _ in range(6)]
            servers[0].wait_for_running(5)
        answers = [one.result() for one in waiting]

    assert 6 == len(answers)


def test_with_no_server_left_callers_are_told_at_once_and_why(servers: list[Server]) -> None:
    """Also by a proxy that was started before its servers; it works as soon as one is there."""
    with running_in_front_of(servers, probe_interval_s=0.05) as elder:
        until_merged(elder, "int64_model", partial(post, elder, 1))
        for server in servers:
            server.kill()
        with running_in_front_of(servers, probe_interval_s=0.05) as younger:
            told = [told_by(elder), told_by(elder), told_by(younger), told_by(younger)]
            ready = [ask(f"{proxy.admin}/readyz") for proxy in (elder, younger)]
            health = ask(f"{younger.admin}/healthz")[0]
            servers[1].start()
            for proxy in (elder, younger):
                until(lambda proxy=proxy: ask(f"{proxy.admin}/readyz")[0], 200)  # type: ignore[misc]
            found = [post(proxy, 3) for proxy in (elder, younger)]
            servers[0].start()
            until(partial(up, younger), 2.0)

    for (status, headers, text), (code, details, trailers), seconds in told:
        assert (503, "1") == (status, headers["Retry-After"])
        assert any(server.rest in json.loads(text)["error"] for server in servers)
        assert (grpc.StatusCode.UNAVAILABLE, {"grpc-retry-pushback-ms": "1000"}) == (code, trailers)
        assert "no endpoint can be used" in details
        assert seconds < AT_ONCE_S
    for status, text in ready:
        assert 503 == status
        [reason] = json.loads(text)["reasons"]
        assert all(server.rest in reason for server in servers)
    assert 200 == health
    assert [(200, {"predictions": [7]})] * 2 == found


def told_by(proxy: Proxy) -> tuple[Any, Any, float]:
    """What a REST and a gRPC caller are told, and how long that took together."""
    started = time.monotonic()
    try:
        urllib.request.urlopen(f"{proxy.rest}{PATH}", b'{"instances": [1]}', timeout=30)
        raise AssertionError("it was answered")
    except urllib.error.HTTPError as error:
        with error:
            rest = error.code, error.headers, error.read()
    with grpc.insecure_channel(proxy.grpc) as channel, pytest.raises(grpc.RpcError) as caught:
        predict(channel, 1)
    told = caught.value.code(), caught.value.details(), dict(caught.value.trailing_metadata())
    return rest, told, time.monotonic() - started


def test_a_reload_reaches_every_server(servers: list[Server], proxy: Proxy) -> None:
    """OK where all reloaded; else the first failing code, and what each said. One that is down is asked, too."""
    fine, wrong = (
        text_format.Parse(text, model_management_pb2.ReloadConfigRequest()).SerializeToString()
        for text in (reload_of(""), reload_of('version_labels { key: "stable" value: 9 }'))
    )
    until(partial(up, proxy), 2.0)  # others have killed them meanwhile
    for server in servers:
        server.reset()
    with grpc.insecure_channel(proxy.grpc) as channel:
        reload = channel.unary_unary(tfs_grpc.RELOAD_CONFIG)
        answer = model_management_pb2.ReloadConfigResponse.FromString(reload(fine, timeout=30))
        with pytest.raises(grpc.RpcError) as refused:
            reload(wrong, timeout=30)
        servers[1].kill()
        with pytest.raises(grpc.RpcError) as halved:
            reload(fine, timeout=30)
        servers[1].start()
        until(partial(up, proxy), 2)
    texts = [error.value.details().split("; ") for error in (refused, halved)]

    assert 0 == answer.status.error_code
    assert 3 == servers[0].counters()["calls"]["grpc HandleReloadConfigRequest "]
    assert grpc.StatusCode.FAILED_PRECONDITION == refused.value.code()
    assert 2 == sum("Request to assign label to version 9 of model int64_model" in text for text in texts[0])
    assert grpc.StatusCode.UNAVAILABLE == halved.value.code()
    assert texts[1][0].startswith("1 of the pool's 2 servers did not reload: ")
    assert texts[1][0].endswith(": OK")


def reload_of(more: str) -> str:
    """A configuration of the models that the servers have, in text form."""
    models = [f'config {{ name: "{name}" base_path: "{name}" model_platform: "tensorflow" {more} }}' for name in MODELS]
    return f"config {{ model_config_list {{ {' '.join(models)} }} }}"
