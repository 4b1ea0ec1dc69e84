"""Classify and Regress of embedded models, through the routes of both protocols. Those of servers: test_rest_bridge."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from tensorflow.core.example import example_pb2
from tensorflow_serving.apis import classification_pb2, regression_pb2

from batchproxy.backends.callable import signature
from batchproxy.codecs.tfs_grpc import CLASSIFY, REGRESS
from batchproxy.core.columns import Array
from batchproxy.core.errors import Code
from batchproxy.frontends.directory import Directory, Versions
from batchproxy.frontends.heavy import LONG_BODY
from tests.serving import Recorder, a_directory
from tests.unit.frontends import test_grpc_routes, test_rest_routes


@signature(
    inputs={"size": ("float32", (None,)), "word": ("string", (None,))},
    outputs={"label": ("string", (None,)), "probabilities": ("float32", (None, 2))},
)
def judge(inputs: dict[str, Array]) -> dict[str, Array]:
    """Large or not; the word is its label."""
    large = np.clip(inputs["size"] / 10, 0, 1)
    return {"label": inputs["word"], "probabilities": np.stack([1 - large, large], axis=1)}


@signature(inputs={"size": ("float32", (None,))}, outputs={"price": ("float32", (None,))})
def price(inputs: dict[str, Array]) -> dict[str, Array]:
    """Twice the size."""
    return {"price": inputs["size"] * 2}


@asynccontextmanager
async def models(recorder: Recorder) -> AsyncIterator[Directory]:
    """Both."""
    async with a_directory(recorder, {"judge": judge, "price": price}) as directory:
        yield directory


async def rest(directory: Directory, recorder: Recorder, path: str, body: Any) -> tuple[int, Any]:
    """Status and document of a POST."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = await test_rest_routes.ask(directory, recorder, path, data)
    return answer.status, json.loads(answer.body)


async def test_rest() -> None:
    """The label that was chosen with its score; a number."""
    recorder = Recorder()
    async with models(recorder) as directory:
        body = {"examples": [{"size": 9.0, "word": "a"}, {"size": 2.5, "word": "b"}]}
        judged = await rest(directory, recorder, "/v1/models/judge:classify", body)
        priced = await rest(directory, recorder, "/v1/models/price:regress", {"examples": [{"size": 9}]})

    assert (200, {"results": [[["a", pytest.approx(0.9)]], [["b", 0.75]]]}) == judged
    assert (200, {"results": [18.0]}) == priced
    assert [("judge", "classify", "rest", Code.OK), ("price", "regress", "rest", Code.OK)] == recorder.requests
    assert [("judge", 2), ("price", 1)] == [(model, rows) for model, rows, _ in recorder.calls]


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("price:regress", {}, 400, "key 'examples' is expected and was not found"),
        ("price:regress", {"examples": [{}]}, 400, "Feature: size (data type: float) is required"),
        ("price:classify", {"examples": [{"size": 1.0}]}, 400, "Classify needs one output of scores"),
        (
            "price:regress",
            {"examples": [{"size": 1.0}], "signature_name": "s"},
            400,
            "No signature was found with the name: s",
        ),
        ("price/versions/9:regress", {"examples": [{}]}, 404, "Servable not found for request: Specific(price, 9)"),
        ("price/labels/l:regress", {"examples": [{}]}, 400, "Unrecognized servable version label: l"),
        ("none:regress", {"examples": [{}]}, 404, "Servable not found for request: Latest(none)"),
    ],
)
async def test_rest_refusals(path: str, body: Any, status: int, text: str) -> None:
    """In TF Serving's words where it has some."""
    recorder = Recorder()
    async with models(recorder) as directory:
        found, document = await rest(directory, recorder, f"/v1/models/{path}", body)

    assert status == found
    assert text in document["error"]
    assert [] == recorder.calls


async def test_terms_of_a_rest_call() -> None:
    """A limit that is none is refused."""
    recorder = Recorder()
    async with models(recorder) as directory:
        headers = {"x-request-timeout-ms": "soon"}
        answer = await test_rest_routes.ask(
            directory, recorder, "/v1/models/price:regress", b'{"examples": [{"size": 1}]}', headers=headers
        )

    assert 400 == answer.status


async def test_a_switch_while_a_long_body_is_read() -> None:
    """It is read again, for the version that serves then."""
    recorder = Recorder()
    async with models(recorder) as directory:
        served = directory.find("price", None, None)
        newer = type(served)(served.info, served.engine)
        finds: list[int] = []
        find = directory.find

        def switching(name: str, version: int | None, label: str | None) -> Any:
            found = find(name, version, label)
            if not finds:
                directory._models["price"] = Versions({1: newer}, [], {})  # as ``publish``, but in this thread
                directory._newest["price"] = newer
            finds.append(1)
            return found

        directory.find = switching  # type: ignore[method-assign]
        body = {"examples": [{"size": 2.0}], "more": "x" * LONG_BODY}
        answer = await rest(directory, recorder, "/v1/models/price:regress", body)

    assert (200, {"results": [4.0]}) == answer
    assert [1, 1] == finds


def example(**features: Any) -> example_pb2.Example:
    """A tensorflow.Example of single values."""
    made = example_pb2.Example()
    for name, value in features.items():
        kind = made.features.feature[name]
        (kind.bytes_list if isinstance(value, bytes) else kind.float_list).value.append(value)
    return made


async def test_grpc() -> None:
    """TF Serving's own messages, both ways."""
    recorder = Recorder()
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name = "judge"
    request.input.example_list.examples.append(example(size=9.0, word=b"a"))
    numbers = regression_pb2.RegressionRequest()
    numbers.model_spec.name = "price"
    numbers.model_spec.version.value = 1
    numbers.input.example_list_with_context.context.CopyFrom(example(size=3.0))
    numbers.input.example_list_with_context.examples.append(example(more=1.0))
    async with models(recorder) as directory:
        judged = await test_grpc_routes.ask(directory, recorder, CLASSIFY, request.SerializeToString())
        priced = await test_grpc_routes.ask(directory, recorder, REGRESS, numbers.SerializeToString())

    classified = classification_pb2.ClassificationResponse.FromString(judged.body)
    regressed = regression_pb2.RegressionResponse.FromString(priced.body)
    [only] = classified.result.classifications[0].classes

    assert ("a", pytest.approx(0.9)) == (only.label, only.score)
    assert [6.0] == [one.value for one in regressed.result.regressions]
    assert ("price", 1, "serving_default") == (
        regressed.model_spec.name,
        regressed.model_spec.version.value,
        regressed.model_spec.signature_name,
    )
    assert [("judge", "Classify", "grpc", Code.OK), ("price", "Regress", "grpc", Code.OK)] == recorder.requests


async def test_grpc_refusals() -> None:
    """No examples; a label that nobody assigned; an input that is not filled."""
    recorder = Recorder()
    request = regression_pb2.RegressionRequest()
    request.model_spec.name = "price"
    async with models(recorder) as directory:
        empty = await test_grpc_routes.ask(directory, recorder, REGRESS, request.SerializeToString())
        request.input.example_list.examples.append(example(more=1.0))
        missing = await test_grpc_routes.ask(directory, recorder, REGRESS, request.SerializeToString())
        request.model_spec.version_label = "l"
        labelled = await test_grpc_routes.ask(directory, recorder, REGRESS, request.SerializeToString())

    assert empty.message.startswith("Input is empty.")
    assert "Feature: size (data type: float) is required but could not be found." in missing.message
    assert "Unrecognized servable version label: l" == labelled.message
    assert {Code.INVALID_ARGUMENT} == {answer.code for answer in (empty, missing, labelled)}


async def test_a_model_that_fails_is_told_in_its_words() -> None:
    """By either protocol."""

    @signature(inputs={"size": ("float32", (None,))}, outputs={"price": ("float32", (None,))})
    def broken(inputs: dict[str, Array]) -> dict[str, Array]:
        raise ValueError("not today")

    recorder = Recorder()
    request = regression_pb2.RegressionRequest()
    request.model_spec.name = "broken"
    request.input.example_list.examples.append(example(size=1.0))
    async with a_directory(recorder, {"broken": broken}) as directory:
        status, document = await rest(directory, recorder, "/v1/models/broken:regress", {"examples": [{"size": 1.0}]})
        answer = await test_grpc_routes.ask(directory, recorder, REGRESS, request.SerializeToString())

    assert (400, True) == (status, "not today" in document["error"])
    assert "not today" in answer.message
