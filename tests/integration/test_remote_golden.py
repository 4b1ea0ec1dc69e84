"""Recorded requests through the proxy in front of a server: the answers are those that the same server gives directly.

REST: status, reason, headers, body. gRPC: code, text, metadata, message. Once one by one, once four of each at a time,
so that predict calls are merged.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import grpc
import numpy as np
import pytest

from batchproxy.codecs import tfs_grpc
from tests.conformance.test_tfserving_grpc import as_text
from tests.golden_cases import ANSWERED_OTHERWISE, GOLDEN, Answer, Case, load_cases, same_answer
from tests.proxy import Proxy, running_in_front_of
from tests.tfserving.fixture import Server, running_server

GROUPS = (
    "rest_predict_basic",
    "rest_json_parse",
    "rest_number_format",
    "rest_dtypes",
    "rest_strings",
    "rest_shapes",
    "rest_classify_regress",
    "rest_status_metadata",
    "rest_routing",
    "rest_cors",
    "rest_transport",
)
EVERY = load_cases(*GROUPS)
REST = {name: case for name, case in EVERY.items() if name not in ANSWERED_OTHERWISE}
VERSION_1_0 = {
    item["name"]
    for group in GROUPS
    for item in json.loads((GOLDEN / f"{group}.json").read_text())["cases"]
    if item.get("request", {}).get("http_version") == "1.0"
}
GRPC: dict[str, dict[str, Any]] = {
    case["name"]: case for case in json.loads((GOLDEN / "grpc_main.json").read_text())["cases"]
}

PER_HOP = {"connection", "content-length", "date", "keep-alive", "server"}
"""Headers that a proxy may write itself."""

NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")
"""As text formats of both protocols write it."""


class RestAnswer(NamedTuple):
    """What a caller sees of a REST answer."""

    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes


class GrpcAnswer(NamedTuple):
    """What a caller sees of a gRPC answer; the message as text, in which maps are sorted."""

    code: str
    text: str
    initial: list[tuple[str, str]]
    trailing: list[tuple[str, str]]
    message: str


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """All models; every answer carries the three CORS headers, so that one that lost its headers is seen."""
    with running_server("--rest_api_enable_cors_support=true") as one:
        yield one


@pytest.fixture(scope="module")
def proxy(server: Server) -> Iterator[Proxy]:
    """A proxy that knows both of its doors."""
    with running_in_front_of([server]) as one:
        yield one


def ask_rest(place: str, case: Case) -> RestAnswer:
    """Sends a recorded request as it was sent."""
    connection = http.client.HTTPConnection(place.removeprefix("http://"), timeout=30)
    if case.name in VERSION_1_0:
        connection._http_vsn, connection._http_vsn_str = 10, "HTTP/1.0"  # type: ignore[attr-defined]
    try:
        connection.putrequest(case.method, case.path, skip_accept_encoding=True)
        for name, value in {**case.headers, "Content-Length": str(len(case.body))}.items():
            connection.putheader(name, value)
        connection.endheaders(case.body)
        answer = connection.getresponse()
        headers = sorted((n.lower(), v) for n, v in answer.getheaders() if n.lower() not in PER_HOP)
        body = answer.read()
        assert str(len(body)) == answer.getheader("Content-Length", str(len(body)))
        return RestAnswer(answer.status, answer.reason, headers, body)
    finally:
        connection.close()


def ask_grpc(channel: grpc.Channel, name: str) -> GrpcAnswer:
    """Sends a recorded message."""
    case = GRPC[name]
    call = channel.unary_unary(case["method"])
    try:
        message, ended = call.with_call(base64.b64decode(case["request_b64"]), timeout=30)
    except grpc.RpcError as error:
        message, ended = None, error
    text = "" if message is None else as_text(case["method"], message)
    return GrpcAnswer(
        ended.code().name,
        ended.details() or "",
        _pairs(ended.initial_metadata()),
        _pairs(ended.trailing_metadata()),
        text,
    )


def _pairs(metadata: Any) -> list[tuple[str, str]]:
    return [(name, value) for name, value in metadata or ()]


def same(case: Case, direct: RestAnswer, proxied: RestAnswer) -> bool:
    """Whether two answers are the same, up to the order of an object's keys."""
    expected = case._replace(answers=(Answer(direct.status, direct.body),))
    return direct[:3] == proxied[:3] and same_answer(expected, Answer(proxied.status, proxied.body))


def same_in_a_batch(case: Case, direct: RestAnswer, proxied: RestAnswer) -> bool:
    """As ``same``; matrix products and exponentials depend on the batch size in their last digits (R1's third law)."""
    if direct.status != 200 or not re.search("/(convnet|mlp)[/:]|:classify", case.path):
        return same(case, direct, proxied)
    return direct[:3] == proxied[:3] and close(direct.body.decode(), proxied.body.decode())


def close(expected: str, found: str) -> bool:
    """Whether two answers are the same text but for the last digits of their numbers."""
    if NUMBER.sub("0", expected) != NUMBER.sub("0", found):
        return False
    wanted, given = (np.array(NUMBER.findall(text), np.float64) for text in (expected, found))
    return np.allclose(given, wanted, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("name", REST)
def test_a_rest_answer_is_that_of_a_direct_call(server: Server, proxy: Proxy, name: str) -> None:
    """Asked alone: relayed, or in a batch of one."""
    case = REST[name]
    direct, proxied = ask_rest(server.rest, case), ask_rest(proxy.rest, case)

    assert same(case, direct, proxied), (direct, proxied)


def test_rest_answers_of_many_at_once_are_those_of_direct_calls(server: Server, proxy: Proxy) -> None:
    """Four of each, good and bad mixed, in whatever batches they form; nobody sees another's error."""
    direct = {name: ask_rest(server.rest, case) for name, case in REST.items()}
    names = [name for name in REST for _ in range(4)]
    server.reset()
    with ThreadPoolExecutor(64) as callers:
        answers = list(callers.map(lambda name: ask_rest(proxy.rest, REST[name]), names))
    merged = sum(map(len, server.counters()["rows"].values()))
    wrong = [
        (name, direct[name], answer)
        for name, answer in zip(names, answers, strict=True)
        if not same_in_a_batch(REST[name], direct[name], answer)
    ]
    predicted = sum(":" in REST[name].path and 200 == direct[name].status for name in names)

    assert [] == wrong[:3]
    assert merged < predicted, "hardly anything was merged"


# ---------------------------------------------------------------- REST, bridged to gRPC


@pytest.fixture(scope="module")
def bridge(server: Server) -> Iterator[Proxy]:
    """A proxy that knows the gRPC door alone, and has the CORS option itself."""
    with running_in_front_of([server], doors=["grpc"], rest_api_enable_cors_support=True) as one:
        yield one


def same_bridged(case: Case, direct: RestAnswer, found: RestAnswer) -> bool:
    """Whether it is that, or else a recorded one, where they vary."""
    if direct.headers != found.headers:
        return False
    return same_in_a_batch(case, direct, found) or same_answer(case, Answer(found.status, found.body))


@pytest.mark.parametrize("name", REST)
def test_a_bridged_answer_is_that_of_a_direct_call(server: Server, bridge: Proxy, name: str) -> None:
    """Status, reason, headers and body, as if the server had been asked over REST."""
    case = REST[name]
    direct, found = ask_rest(server.rest, case), ask_rest(bridge.rest, case)

    assert same_bridged(case, direct, found), (direct, found)


def test_no_deviation_is_stale(server: Server, proxy: Proxy, bridge: Proxy) -> None:
    """A case that matches by now is to leave the table."""
    cases = [EVERY[name] for name in ANSWERED_OTHERWISE]
    stale = [
        case.name
        for case in cases
        for one in (proxy, bridge)
        if same_bridged(case, ask_rest(server.rest, case), ask_rest(one.rest, case))
    ]

    assert [] == stale


def test_bridged_answers_of_many_at_once_are_those_of_direct_calls(server: Server, bridge: Proxy) -> None:
    """As over REST."""
    direct = {name: ask_rest(server.rest, case) for name, case in REST.items()}
    names = [name for name in REST for _ in range(4)]
    with ThreadPoolExecutor(64) as callers:
        answers = list(callers.map(lambda name: ask_rest(bridge.rest, REST[name]), names))
    wrong = [
        (name, direct[name], answer)
        for name, answer in zip(names, answers, strict=True)
        if not same_bridged(REST[name], direct[name], answer)
    ]

    assert [] == wrong


# ---------------------------------------------------------------- gRPC


def same_scores(method: str, direct: GrpcAnswer, found: GrpcAnswer) -> bool:
    """Whether two classifications differ in the last digits alone, as exponentials in batches of two sizes do."""
    return method == tfs_grpc.CLASSIFY and direct[:4] == found[:4] and close(direct.message, found.message)


@pytest.mark.parametrize("name", GRPC)
def test_a_grpc_answer_is_that_of_a_direct_call(server: Server, proxy: Proxy, name: str) -> None:
    """Every method, malformed messages and unknown methods included."""
    with grpc.insecure_channel(server.grpc) as near, grpc.insecure_channel(proxy.grpc) as far:
        direct, proxied = ask_grpc(near, name), ask_grpc(far, name)

    assert direct == proxied


def test_grpc_answers_of_many_at_once_are_those_of_direct_calls(server: Server, proxy: Proxy) -> None:
    """As over REST."""
    names = [name for name in GRPC for _ in range(4)]
    with grpc.insecure_channel(server.grpc) as near, grpc.insecure_channel(proxy.grpc) as far:
        direct = {name: ask_grpc(near, name) for name in GRPC}
        server.reset()
        with ThreadPoolExecutor(64) as callers:
            answers = list(callers.map(lambda name: ask_grpc(far, name), names))
    calls = server.counters()["calls"]
    wrong = [
        (name, direct[name], answer)
        for name, answer in zip(names, answers, strict=True)
        if direct[name] != answer and not same_scores(GRPC[name]["method"], direct[name], answer)
    ]
    predicted = sum(GRPC[name]["method"] == tfs_grpc.PREDICT for name in names)

    assert [] == wrong
    assert sum(count for call, count in calls.items() if call.startswith("grpc Predict")) < predicted
