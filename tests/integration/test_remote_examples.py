"""R1's laws for Classify and Regress: over REST, over gRPC, and REST bridged to gRPC, in front of real TensorFlow.

Requests that share a call are made to: they wait together for the proxy's only slot (``tests/remote.py``). Regressions
do not depend on the batch size, so they must be the direct answer; scores of classes are exponentials, which
TensorFlow computes several at a time, so their last digits do.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow.core.example import example_pb2
from tensorflow_serving.apis import classification_pb2, input_pb2, regression_pb2

from batchproxy.codecs import tfs_grpc
from tests.integration.test_remote_golden import close
from tests.proxy import Proxy, ask, running_in_front_of
from tests.remote import PLUG, in_one_call, plug, until_merged
from tests.tfserving.fixture import Server, running_server

UNKNOWN = b"\xa2\x06\x03odd"  # field 100, length-delimited
FLOATS = st.floats(-8, 8, width=32)
Example = dict[str, Any]


class Model(NamedTuple):
    """A signature that takes examples.

    Attributes:
        name: of the model.
        signature: its name; empty for the default.
        verb: ``classify`` or ``regress``.
        examples: what it can read, and, some of them, what makes its call fail.
    """

    name: str
    signature: str
    verb: str
    examples: st.SearchStrategy[Example]

    @property
    def always_runs(self) -> bool:
        """Of the others the proxy may learn that batches fail, as not every text is taken: it makes small ones."""
        return self.examples is GOOD


GOOD: st.SearchStrategy[Example] = st.fixed_dictionaries({"x": FLOATS})
MIXED: st.SearchStrategy[Example] = st.one_of(GOOD, GOOD, GOOD, st.sampled_from([{"x": 1}, {}]))
ANY = st.fixed_dictionaries({}, optional={"x": FLOATS, "n": st.integers(-9, 9), "s": st.text(max_size=5)})
MODELS = [
    Model("half_plus_two", "classify_x", "classify", GOOD),
    Model("half_plus_two", "classify_x_to_y", "classify", GOOD),
    Model("half_plus_two", "regress_x_to_y", "regress", MIXED),
    Model("half_plus_two", "regress_x2_to_y3", "regress", ANY),
    Model("example_tf2", "", "regress", ANY),
]


@st.composite
def mates(draw: st.DrawFn) -> tuple[Model, list[list[Example]], Example | None]:
    """Some requests of 1-5 examples each, with one context or none."""
    model = draw(st.sampled_from(MODELS))
    requests = draw(st.lists(st.lists(model.examples, min_size=1, max_size=5), min_size=2, max_size=4))
    return model, requests, draw(st.one_of(st.none(), model.examples))


def rest_body(model: Model, examples: list[Example], context: Example | None) -> bytes:
    """A request as JSON."""
    document: dict[str, Any] = {"signature_name": model.signature} if model.signature else {}
    if context is not None:
        document["context"] = context
    return json.dumps({**document, "examples": examples}).encode()


def an_example(features: Mapping[str, Any]) -> Any:
    """As TF Serving reads one from JSON."""
    example = example_pb2.Example()
    example.features.SetInParent()
    for name, value in features.items():
        feature = example.features.feature[name]
        match value:
            case float():
                feature.float_list.value.append(value)
            case int():
                feature.int64_list.value.append(value)
            case _:
                feature.bytes_list.value.append(value.encode())
    return example


def grpc_message(model: Model, examples: list[Example], context: Example | None) -> bytes:
    """A request as a message of the stranger's."""
    request = (
        classification_pb2.ClassificationRequest if model.verb == "classify" else regression_pb2.RegressionRequest
    )()
    request.model_spec.name = model.name
    request.model_spec.signature_name = model.signature
    data: input_pb2.Input = request.input
    held: Any = data.example_list
    if context is not None:
        held = data.example_list_with_context
        held.context.CopyFrom(an_example(context))
    held.examples.extend(map(an_example, examples))
    return bytes(request.SerializeToString())


def ask_grpc(place: str, model: Model, message: bytes) -> tuple[str, str]:
    """Code and text, or answer as text."""
    method, kind = {
        "classify": (tfs_grpc.CLASSIFY, classification_pb2.ClassificationResponse),
        "regress": (tfs_grpc.REGRESS, regression_pb2.RegressionResponse),
    }[model.verb]
    with grpc.insecure_channel(place) as channel:
        try:
            return "OK", str(kind.FromString(channel.unary_unary(method)(message, timeout=30)))
        except grpc.RpcError as error:
            return error.code().name, error.details()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """The models above."""
    with running_server(models=sorted({model.name for model in MODELS} | {PLUG})) as one:
        yield one


def learned(proxy: Proxy) -> Proxy:
    """It knows every model."""
    until_merged(proxy, PLUG, partial(plug, proxy))
    until_merged(proxy, "example_tf2", partial(proxy.post, "/v1/models/example_tf2:regress", b'{"examples":[{}]}'))
    return proxy


@pytest.fixture(scope="module")
def proxy(server: Server) -> Iterator[Proxy]:
    """One call at a time, so that requests wait for each other."""
    with running_in_front_of([server], pool={"max_inflight": 1}) as one:
        yield learned(one)


@pytest.fixture(scope="module")
def bridge(server: Server) -> Iterator[Proxy]:
    """As above; it knows the gRPC door alone."""
    with running_in_front_of([server], doors=["grpc"], pool={"max_inflight": 1}) as one:
        yield learned(one)


def same(model: Model, expected: tuple[Any, str], found: tuple[Any, str]) -> bool:
    """Whether an answer obeys the third law."""
    if model.verb == "classify" and expected[0] in {200, "OK"}:
        return bool(expected[0] == found[0]) and close(expected[1], found[1])
    return expected == found


def shared(server: Server, proxy: Proxy, model: Model, asks: Sequence[Callable[[], Any]], total: int) -> list[Any]:
    """The answers to requests that were merged into one call, where none of them makes it fail."""
    server.reset()
    found = in_one_call(server, proxy, asks, total)
    calls = server.counters()["rows"][model.name]
    assert not model.always_runs or total == calls[model.name == PLUG]  # the first call was the plug's
    return found


@pytest.mark.parametrize("way", ["proxy", "bridge"])
@settings(max_examples=30)
@given(drawn=mates())
def test_rest_mates_get_what_a_direct_call_gives(
    request: pytest.FixtureRequest, way: str, drawn: tuple[Model, list[list[Example]], Example | None]
) -> None:
    """Byte for byte, whichever door of the server is used; also where one of them makes the call fail."""
    model, requests, context = drawn
    server, proxy = request.getfixturevalue("server"), request.getfixturevalue(way)
    path = f"/v1/models/{model.name}:{model.verb}"
    bodies = [rest_body(model, examples, context) for examples in requests]
    found = shared(server, proxy, model, [partial(proxy.post, path, body) for body in bodies], sum(map(len, requests)))
    direct = [ask(f"http://{server.rest}{path}", body) for body in bodies]
    wrong = [
        (body, expected, answer)
        for body, expected, answer in zip(bodies, direct, found, strict=True)
        if not same(model, (expected[0], expected[1].decode()), (answer[0], answer[1].decode()))
    ]

    assert [] == wrong


@settings(max_examples=30)
@given(drawn=mates(), extras=st.sampled_from([b"", UNKNOWN]))
def test_grpc_mates_get_what_a_direct_call_gives(
    server: Server, proxy: Proxy, drawn: tuple[Model, list[list[Example]], Example | None], extras: bytes
) -> None:
    """Value for value: results, and the model spec of the caller's own call."""
    model, requests, context = drawn
    messages = [grpc_message(model, examples, context) + extras for examples in requests]
    asks = [partial(ask_grpc, proxy.grpc, model, message) for message in messages]
    found = shared(server, proxy, model, asks, sum(map(len, requests)))
    direct = [ask_grpc(server.grpc, model, message) for message in messages]
    wrong = [
        (message, expected, answer)
        for message, expected, answer in zip(messages, direct, found, strict=True)
        if not same(model, expected, answer)
    ]

    assert [] == wrong


def test_what_the_server_is_sent(server: Server, proxy: Proxy) -> None:
    """One call with the examples of all, which the server reads as it reads each alone."""
    model = MODELS[1]
    path = f"/v1/models/{model.name}:{model.verb}"
    bodies = [rest_body(model, [{"x": float(number)}] * number, None) for number in (1, 2, 3)]
    asks = [partial(proxy.post, path, body) for body in bodies]
    answers = shared(server, proxy, model, asks, 6)

    assert [[2.5], [3.0, 3.0], [3.5, 3.5, 3.5]] == [
        [score for ((_, score),) in json.loads(body)["results"]] for _, body in answers
    ]
    assert 1 == server.counters()["calls"]["rest classify half_plus_two"]
    assert 3 <= proxy.metric("batchproxy_requests_total", model="half_plus_two", method="classify", protocol="rest")
