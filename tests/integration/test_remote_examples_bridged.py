"""Classify and Regress over gRPC before a server with a REST door only: as a direct gRPC call, but for versions.

The recorded requests, requests that share a call (with callers of REST, too), and what JSON has no words for.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from tensorflow.core.example import example_pb2
from tensorflow_serving.apis import classification_pb2, regression_pb2

from batchproxy.codecs import tfs_grpc
from tests.golden_cases import GOLDEN
from tests.integration.test_remote_examples import (
    MODELS,
    Example,
    Model,
    ask_grpc,
    grpc_message,
    learned,
    mates,
    rest_body,
    same,
    shared,
)
from tests.proxy import Proxy, running_in_front_of
from tests.remote import PLUG, in_one_call
from tests.servers.callers import Place, Refused, call
from tests.tfserving.fixture import Server, running_server

RECORDED: dict[str, dict[str, Any]] = {
    case["name"]: case
    for case in json.loads((GOLDEN / "grpc_main.json").read_text())["cases"]
    if case["method"] in {tfs_grpc.CLASSIFY, tfs_grpc.REGRESS}
}
VERSION = re.compile(r"  version \{\n(?:    value: \d+\n)?  \}\n")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Every model that a recorded request names, and one that keeps the proxy busy."""
    with running_server(models=sorted({model.name for model in MODELS} | {PLUG, "multi_version"})) as one:
        yield one


@pytest.fixture(scope="module")
def bridge(server: Server) -> Iterator[Proxy]:
    """It knows the REST door alone, and makes one call at a time, so that requests wait for each other."""
    with running_in_front_of([server], doors=["rest"], pool={"max_inflight": 1}) as one:
        yield learned(one)


def without_version(found: tuple[str, str]) -> tuple[str, str]:
    """REST does not say which version answered."""
    return found[0], VERSION.sub("", found[1])


def said(place: Place, method: str, message: bytes) -> tuple[str, str] | tuple[int, str]:
    """The answer as text, or code and text."""
    kind = (
        classification_pb2.ClassificationResponse if method == tfs_grpc.CLASSIFY else regression_pb2.RegressionResponse
    )
    try:
        return without_version(("OK", str(kind.FromString(call(place.channel, method, message)))))
    except Refused as error:
        return error.status, error.text


@pytest.fixture(scope="module")
def places(server: Server, bridge: Proxy) -> Iterator[tuple[Place, Place]]:
    """Directly, and through the proxy."""
    found = Place(server.rest, server.grpc), Place(bridge.rest, bridge.grpc)
    yield found
    for place in found:
        place.close()


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_request(places: tuple[Place, Place], name: str) -> None:
    """Answers, codes and texts are those of the server's own gRPC door."""
    case = RECORDED[name]
    direct, bridged = (said(place, case["method"], base64.b64decode(case["request_b64"])) for place in places)

    assert direct == bridged
    assert (case["code"] == "OK") is (direct[0] == "OK")


@settings(max_examples=40)
@given(drawn=mates())
def test_mates_get_what_a_direct_call_gives(
    server: Server, bridge: Proxy, drawn: tuple[Model, list[list[Example]], Example | None]
) -> None:
    """Each its own results, also where one of them makes the call fail."""
    model, requests, context = drawn
    messages = [grpc_message(model, examples, context) for examples in requests]
    asks = [partial(ask_grpc, bridge.grpc, model, message) for message in messages]
    found = shared(server, bridge, model, asks, sum(map(len, requests)))
    direct = [without_version(ask_grpc(server.grpc, model, message)) for message in messages]
    wrong = [
        (message, expected, answer)
        for message, expected, answer in zip(messages, direct, map(without_version, found), strict=True)
        if not same(model, expected, answer)
    ]

    assert [] == wrong


def test_callers_of_grpc_and_of_rest_share_a_call(server: Server, bridge: Proxy) -> None:
    """One call with the examples of all; each is answered in its own words."""
    model = MODELS[1]
    path = f"/v1/models/{model.name}:{model.verb}"
    asks: list[Callable[[], Any]] = [
        partial(ask_grpc, bridge.grpc, model, grpc_message(model, [{"x": 2.0}, {"x": 4.0}], None)),
        partial(bridge.post, path, rest_body(model, [{"x": 6.0}], None)),
        partial(ask_grpc, bridge.grpc, model, grpc_message(model, [{"x": 8.0}], None)),
    ]
    server.reset()
    first, second, third = in_one_call(server, bridge, asks, 4)

    assert ["score: 3", "score: 4", "score: 6"] == re.findall(r"score: \d+", first[1] + third[1])
    assert [[["", 5.0]]] == json.loads(second[1])["results"]
    assert 1 == server.counters()["calls"]["rest classify half_plus_two"]


def test_one_bad_example_fails_alone(server: Server, bridge: Proxy) -> None:
    """The others of its call get their results, it gets the server's own text."""
    model = next(model for model in MODELS if model.signature == "regress_x_to_y")
    messages = [grpc_message(model, [{"x": 1 if number == 2 else float(number)}], None) for number in range(5)]
    asks = [partial(ask_grpc, bridge.grpc, model, message) for message in messages]
    server.reset()
    found = in_one_call(server, bridge, asks, 5)
    direct = [without_version(ask_grpc(server.grpc, model, message)) for message in messages]

    assert "INVALID_ARGUMENT" == direct[2][0]
    assert direct == [without_version(answer) for answer in found]


def test_features_of_every_kind(places: tuple[Place, Place]) -> None:
    """What the examples hold beside what the model reads goes along, strings that are no text and odd numbers too."""
    example = example_pb2.Example()
    feature = example.features.feature
    feature["x"].float_list.value.append(-0.0)
    feature['odd é "name"'].float_list.value.extend([np.inf, -np.inf, np.nan, 3e38])
    feature["whole"].int64_list.value.extend([-(2**63), 2**63 - 1])
    feature["bytes"].bytes_list.value.extend([b"\xff\x00", b""])
    feature["none"].SetInParent()
    request = regression_pb2.RegressionRequest()
    request.model_spec.name, request.model_spec.signature_name = "half_plus_two", "regress_x_to_y"
    request.input.example_list.examples.extend([example, example])
    direct, bridged = (said(place, tfs_grpc.REGRESS, request.SerializeToString()) for place in places)

    assert direct == bridged
    assert "OK" == direct[0]


@pytest.mark.parametrize("odd", ["an empty list", "a name with NUL"])
def test_what_json_has_no_words_for(places: tuple[Place, Place], odd: str) -> None:
    """UNIMPLEMENTED, with the name of the feature and what to do."""
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name, request.model_spec.signature_name = "half_plus_two", "classify_x"
    features = request.input.example_list.examples.add().features.feature
    if odd == "an empty list":
        features["lost"].float_list.SetInParent()
    else:
        features["lost\0"].float_list.value.append(1)
    code, text = said(places[1], tfs_grpc.CLASSIFY, request.SerializeToString())

    assert 12 == code
    assert "'lost" in text
    assert "name a gRPC door of the server (grpc://HOST:PORT)" in text


@pytest.mark.parametrize("choice", [{"version": {"value": 2}}, {"version_label": "nobody"}, {"version": {"value": 9}}])
def test_a_version_or_label_that_is_asked_for(places: tuple[Place, Place], choice: dict[str, Any]) -> None:
    """It reaches the server, which says what it has to say."""
    request = regression_pb2.RegressionRequest(model_spec={"name": "multi_version", **choice})
    request.model_spec.signature_name = "regress_x_to_y"
    request.input.example_list.examples.add().features.feature["x"].float_list.value.append(2)
    direct, bridged = (said(place, tfs_grpc.REGRESS, request.SerializeToString()) for place in places)

    assert direct == bridged


def test_an_answer_names_the_version_that_was_asked_for(places: tuple[Place, Place]) -> None:
    """That one it can be sure of."""
    request = regression_pb2.RegressionRequest(model_spec={"name": "multi_version", "version": {"value": 2}})
    request.model_spec.signature_name = "regress_x_to_y"
    request.input.example_list.examples.add().features.feature["x"].float_list.value.append(2)
    answers = [call(place.channel, tfs_grpc.REGRESS, request.SerializeToString()) for place in places]

    assert answers[0] == answers[1]
