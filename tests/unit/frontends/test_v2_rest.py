"""The Open Inference Protocol's REST routes: embedded models, servers of both protocols, and what is said of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from batchproxy.backends.callable import signature
from batchproxy.codecs import v2_rest
from batchproxy.core.columns import Array
from batchproxy.core.errors import BackendUnavailable, Code, RequestError
from batchproxy.core.raw import GRPC, REST, RawReply
from batchproxy.frontends.directory import Directory
from batchproxy.frontends.remote import RemoteModel
from batchproxy.frontends.rest_answers import RestAnswer
from batchproxy.frontends.rest_routes import RestRoutes
from batchproxy.frontends.v2_rest import _ERRORS_ONLY, LONG_PRINT, error_answer
from tests.remotes import RAW_METADATA, FakeServer, a_remote_pool, in_front_of
from tests.serving import Recorder, a_directory
from tests.v2_scenes import ABSENT, MODEL, V2Server, a_v2_pool, seen

INFER = f"/v2/models/{MODEL}/infer"
X = {"name": "x", "shape": [2], "datatype": "FP32", "data": [1, 2]}
ANSWER = RawReply(200, "OK", (("content-type", "application/json"),), b'{"model_version": "7", "outputs": []}')


@signature(inputs={"x": ("float32", (None,))}, outputs={"y": ("float32", (None,))})
def doubled(inputs: dict[str, Array]) -> dict[str, Array]:
    """Twice as much."""
    return {"y": inputs["x"] * 2}


def routes_of(directory: Directory, recorder: Recorder, ready: Callable[[], bool] = lambda: True) -> RestRoutes:
    """The routes in front of a directory."""
    clock = asyncio.get_running_loop().time
    return RestRoutes(
        directory, recorder, clock, timeout_s=30, deadline_header="x-ms", priority_header="x-priority", ready=ready
    )


async def ask(routes: RestRoutes, line: str, body: Any = b"", headers: Mapping[str, str] | None = None) -> RestAnswer:
    """The answer to a request; the path is followed by nothing."""
    answered = asyncio.get_running_loop().create_future()
    method, _, path = line.partition(" ")
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    routes.handle(method, path, headers or {}, data, answered.set_result)
    answer: RestAnswer = await answered
    return answer


async def test_an_embedded_model_answers() -> None:
    """In the form, the order and under the id that were asked for."""
    recorder = Recorder()
    async with a_directory(recorder) as directory:
        routes = routes_of(directory, recorder)
        answer = await ask(routes, f"POST {INFER}", {"id": "7", "inputs": [X]})
        outputs = [{"name": "y", "parameters": {"binary_data": True}}]
        binary = await ask(routes, f"POST {INFER}", {"inputs": [X], "outputs": outputs})
        length = int(binary.headers[v2_rest.LENGTH_HEADER])

    assert {
        "model_name": MODEL,
        "model_version": "1",
        "id": "7",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [2], "data": [2.5, 3.0]}],
    } == json.loads(answer.body)
    assert "application/octet-stream" == binary.headers["Content-Type"]
    assert [2.5, 3.0] == np.frombuffer(binary.body[length:], np.float32).tolist()
    assert [(MODEL, "infer", REST, Code.OK)] * 2 == recorder.requests


@pytest.mark.parametrize(
    ("line", "body", "headers", "status", "text"),
    [
        (f"POST {INFER}", b"{", {}, 400, "the JSON of the request"),
        (f"POST {INFER}", {"inputs": []}, {}, 400, "input 'x' is missing"),
        (f"POST {INFER}", {"inputs": [X]}, {"x-ms": "soon"}, 400, "x-ms"),
        (f"POST {INFER}", {"inputs": [X]}, {v2_rest.LENGTH_HEADER: "9999"}, 400, v2_rest.LENGTH_HEADER),
        (f"POST {INFER}", {"inputs": [{**X, "data": [-1, 2]}]}, {}, 400, "negative input: [-1.0, 2.0]"),
        (
            f"POST {INFER}",
            {"inputs": [X], "outputs": [{"name": "y", "parameters": {"classification": 1}}]},
            {},
            501,
            "classification",
        ),
        ("POST /v2/models/nobody/infer", {"inputs": [X]}, {}, 404, "unknown model: 'nobody' is not found"),
        (f"POST /v2/models/{MODEL}/versions/x/infer", {"inputs": [X]}, {}, 404, "version x is not found"),
        (f"GET /v2/models/{MODEL}/versions/{2**63}", b"", {}, 400, "beyond 64 bits"),
        ("GET /v2/models/nobody/ready", b"", {}, 404, "unknown model"),
        ("GET /v2/models/nobody/stats", b"", {}, 404, "unknown model"),
        (f"GET /v2/models/{MODEL}/versions/9/stats", b"", {}, 404, "version 9 is not found"),
    ],
)
async def test_what_is_wrong_is_said(line: str, body: Any, headers: Mapping[str, str], status: int, text: str) -> None:
    """In the protocol's error body."""
    recorder = Recorder()
    async with a_directory(recorder) as directory:
        answer = await ask(routes_of(directory, recorder), line, body, headers)

    assert status == answer.status
    assert text in json.loads(answer.body)["error"]


async def test_what_is_said_of_the_server_and_an_embedded_model() -> None:
    """And what is no path of ours goes where it went before."""
    recorder, ready = Recorder(), [True]
    async with a_directory(recorder) as directory:
        routes = routes_of(directory, recorder, lambda: ready[0])
        server = json.loads((await ask(routes, "GET /v2")).body)
        index = json.loads((await ask(routes, "POST /v2/repository/index")).body)
        metadata = json.loads((await ask(routes, f"GET /v2/models/{MODEL}")).body)
        config = json.loads((await ask(routes, f"GET /v2/models/{MODEL}/config")).body)
        paths = ("health/live", "health/ready", f"models/{MODEL}/ready", "models/x/y")
        statuses = [(await ask(routes, f"GET /v2/{path}")).status for path in paths]
        ready[0] = False
        later = [(await ask(routes, f"GET /v2/health/{path}")).status for path in ("live", "ready")]

    assert ("batchproxy", True) == (server["name"], "binary_tensor_data" in server["extensions"])
    assert [{"name": MODEL, "version": "1", "state": "READY"}] == index
    assert [{"name": "x", "datatype": "FP32", "shape": [-1]}] == metadata["inputs"]
    assert "TYPE_FP32" == config["output"][0]["data_type"]
    assert [200, 200, 200, 404] == statuses
    assert [200, 503] == later


@pytest.mark.parametrize("where", ["here", "TF Serving", "v2", "v2 without buffers"])
async def test_a_request_that_is_all_buffer(where: str) -> None:
    """Triton's raw binary request: the model says what it is, and outputs are buffers. A server of v2 reads it."""
    body, headers = np.array([3, 4], np.float32).tobytes(), {v2_rest.LENGTH_HEADER: "0"}
    server = V2Server()
    server.answer, server.buffers = ANSWER, where != "v2 without buffers"
    async with AsyncExitStack() as stack:
        if where == "here":
            directory = await stack.enter_async_context(a_directory(Recorder(), {MODEL: doubled}))
        else:
            doors = [GRPC if where == "TF Serving" else REST]
            make = a_remote_pool if where == "TF Serving" else a_v2_pool
            directory = in_front_of(await stack.enter_async_context(make(server, Recorder(), doors)))
        routes = routes_of(directory, Recorder())
        answers = [await ask(routes, f"POST {INFER}", body, headers) for _ in range(3)]

    assert [200] * 3 == [answer.status for answer in answers]
    if where == "v2":
        assert [body] * 3 == [call.body for call in server.relayed]
        return
    found = [
        v2_rest.decode_reply(answer.body, answer.headers[v2_rest.LENGTH_HEADER]).columns["y"] for answer in answers
    ]
    due = {"here": [6.0, 8.0]}.get(where, [3.5, 4.0])
    assert [due] * 3 == [column.array.tolist() for column in found]  # type: ignore[attr-defined]


async def test_statistics_of_embedded_models() -> None:
    """As Triton counts them: of a model, of one version, of all."""
    recorder = Recorder()
    async with a_directory(recorder) as directory:
        routes = routes_of(directory, recorder)
        paths = [f"/v2/models/{MODEL}/stats", f"/v2/models/{MODEL}/versions/1/stats", "/v2/models/stats"]
        before = [json.loads((await ask(routes, f"GET {path}")).body)["model_stats"] for path in paths]
        for data in ([1, 2], [3, 4], [-1, 2]):
            await ask(routes, f"POST {INFER}", {"inputs": [{**X, "data": data}]})
        (after,) = json.loads((await ask(routes, f"GET {paths[0]}")).body)["model_stats"]

    assert [(MODEL, "1", 0, 0, 0)] * 3 == [
        (one["name"], one["version"], one["last_inference"], one["inference_count"], one["execution_count"])
        for (one,) in before
    ]
    assert (4, 2) == (after["inference_count"], after["execution_count"])
    assert abs(after["last_inference"] / 1000 - datetime.now(UTC).timestamp()) < 3600
    assert [2, 1, 2] == [after["inference_stats"][what]["count"] for what in ("success", "fail", "compute_infer")]
    assert [(2, 2)] == [(one["batch_size"], one["compute_infer"]["count"]) for one in after["batch_stats"]]


async def test_a_long_answer_is_written_in_a_thread() -> None:
    """Numbers as JSON; the same as buffers are no work."""
    recorder = Recorder()
    long = {"name": "x", "shape": [LONG_PRINT], "datatype": "FP32", "data": [1.5] * LONG_PRINT}
    async with a_directory(recorder, {MODEL: doubled}) as directory:
        routes = routes_of(directory, recorder)
        answer = await ask(routes, f"POST {INFER}", {"inputs": [long]})
        await routes.aclose()

    assert [3.0] * LONG_PRINT == json.loads(answer.body)["outputs"][0]["data"]


async def test_a_timeout_in_the_parameters_is_a_deadline() -> None:
    """In microseconds; the header's priority counts more than the parameter's."""
    server = V2Server()
    async with a_v2_pool(server, Recorder(), [REST]) as pool:
        routes = routes_of(in_front_of(pool), Recorder())
        server.answer = ANSWER
        body = {"inputs": [X], "parameters": {"timeout": 250_000, "priority": 3}}
        await ask(routes, f"POST {INFER}", body)
        await ask(routes, f"POST {INFER}", body, {"x-priority": "high"})

    assert [("POST", INFER)] * 2 == seen(server.relayed)


async def test_a_server_of_the_protocol_is_asked_in_the_callers_words() -> None:
    """What is alone goes as it came, with a content type; questions, too, but whether we are well."""
    server = V2Server()
    lines = [f"GET /v2/models/{MODEL}", f"GET /v2/models/{MODEL}/stats", "GET /v2", "POST /v2/repository/index"]
    async with a_v2_pool(server, Recorder(), [REST]) as pool:
        routes = routes_of(in_front_of(pool), Recorder())
        questions = [(await ask(routes, line)).body for line in lines]
        live = await ask(routes, "GET /v2/health/live")
        server.answer = ANSWER
        answer = await ask(routes, f"POST {INFER}", {"inputs": [X]}, {"x-own": "1"})
        server.answer = ABSENT
        refused = await ask(routes, f"POST {INFER}", {"inputs": [X]})

    assert [b"relayed"] * 4 == questions
    assert (200, b'{"live":true}') == (live.status, live.body)
    assert ANSWER.body == answer.body
    assert (404, b"their words") == (refused.status, refused.body)
    assert [*(tuple(line.split(" ")) for line in lines), ("POST", INFER), ("POST", INFER)] == seen(server.relayed)
    assert (("x-own", "1"), ("content-type", "application/json")) == server.relayed[4].headers


@pytest.mark.parametrize(("buffers", "bridged"), [(True, False), (None, False), (False, True)])
async def test_buffers_for_a_server_that_takes_none(buffers: bool | None, bridged: bool) -> None:
    """They become columns, which its door sends as JSON."""
    server = V2Server()
    server.buffers, server.answer = buffers, ANSWER
    tensor = {"name": "x", "shape": [1], "datatype": "FP32", "parameters": {"binary_data_size": 4}}
    head = json.dumps({"inputs": [tensor]}).encode()
    async with a_v2_pool(server, Recorder(), [REST]) as pool:
        routes = routes_of(in_front_of(pool), Recorder())
        body = head + np.array([1], np.float32).tobytes()
        answer = await ask(routes, f"POST {INFER}", body, {v2_rest.LENGTH_HEADER: str(len(head))})

    assert 200 == answer.status
    assert (1, 0) == (
        (len(server.merged), len(server.relayed)) if bridged else (len(server.relayed), len(server.merged))
    )


async def test_tf_serving_is_asked_by_its_signature() -> None:
    """Predict as columns; metadata, configuration and readiness out of its own metadata; errors in our words."""
    server = FakeServer()
    async with a_remote_pool(server, Recorder(), [GRPC]) as pool:
        routes = routes_of(in_front_of(pool), Recorder())
        answer = json.loads((await ask(routes, f"POST {INFER}", {"inputs": [X], "parameters": {"a": 1}})).body)
        server.answer = RAW_METADATA
        metadata = json.loads((await ask(routes, f"GET /v2/models/{MODEL}")).body)
        ready = await ask(routes, f"GET /v2/models/{MODEL}/ready")
        server.answer = ABSENT
        absent = await ask(routes, "GET /v2/models/nobody/ready")
        nobody = await ask(routes, "POST /v2/models/nobody/infer", {"inputs": [X]})

    assert ("7", [2.5, 3.0]) == (answer["model_version"], answer["outputs"][0]["data"])
    assert (MODEL, b"") == (server.merged[0][0].model, server.merged[0][0].extras)
    assert (["7"], [-1]) == (metadata["versions"], metadata["inputs"][0]["shape"])
    assert [200, 404, 404] == [ready.status, absent.status, nobody.status]
    assert {"error": "not here"} == json.loads(absent.body)


async def test_tf_serving_without_a_grpc_door() -> None:
    """It is asked as well; the key says what its JSON is to be read as."""
    server = FakeServer()
    async with a_remote_pool(server, Recorder(), [REST], RemoteModel(batchable=False)) as pool:
        answer = await ask(routes_of(in_front_of(pool), Recorder()), f"POST {INFER}", {"inputs": [X]})

    assert [2.5, 3.0] == json.loads(answer.body)["outputs"][0]["data"]
    assert [b'[["y","float32"]]'] == [key.extras for key, _, _ in server.merged]


def infer_of(call_id: str, binary: bool, **parameters: Any) -> tuple[bytes, dict[str, str]]:
    """A request and its headers."""
    tensor: dict[str, Any] = {"name": "x", "shape": [2], "datatype": "FP32"}
    tensor |= {"parameters": {"binary_data_size": 8}} if binary else {"data": [1.5, 2.5]}
    head = json.dumps({"id": call_id, "inputs": [tensor], "parameters": {"binary_data_output": binary, **parameters}})
    if not binary:
        return head.encode(), {}
    return head.encode() + np.array([1.5, 2.5], np.float32).tobytes(), {v2_rest.LENGTH_HEADER: str(len(head))}


@pytest.mark.parametrize("binary", [True, False])
async def test_calls_that_are_like_earlier_ones_are_not_read(binary: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The third of a kind is not: it gets its own id all the same, and a wrong header is refused as ever."""
    recorder = Recorder()
    read = Mock(side_effect=v2_rest.parse_infer)
    monkeypatch.setattr(v2_rest, "parse_infer", read)
    async with a_directory(recorder, {MODEL: doubled}) as directory:
        routes = routes_of(directory, recorder)
        asked = [infer_of(call_id, binary, timeout=9_000_000, priority=1) for call_id in ("a", "bb", "ccc", "dd")]
        answers = [await ask(routes, f"POST {INFER}", *one) for one in asked]
        body, headers = asked[0]
        wrong = await ask(routes, f"POST {INFER}", body, {**headers, "x-priority": "urgent"})
        high = await ask(routes, f"POST {INFER}", body, {**headers, "x-priority": "high", "x-ms": "9000"})
        before = read.call_count
        directory.publish(MODEL, replace(directory._models[MODEL], labels={"new": 1}))
        await ask(routes, f"POST {INFER}", *asked[0])

    found = [v2_rest.decode_reply(answer.body, answer.headers.get(v2_rest.LENGTH_HEADER)) for answer in answers]
    assert [[3.0, 5.0]] * 4 == [reply.columns["y"].array.tolist() for reply in found]  # type: ignore[attr-defined]
    assert [b'"id":"a"', b'"id":"bb"', b'"id":"ccc"', b'"id":"dd"'] == [
        answer.body[answer.body.index(b'"id"') :].split(b",")[0] for answer in answers
    ]
    assert [400, 200] == [wrong.status, high.status]
    assert (2, 3) == (before, read.call_count)


@pytest.mark.parametrize("v2", [True, False])
@pytest.mark.parametrize("binary", [True, False])
async def test_calls_of_servers_that_are_like_earlier_ones(v2: bool, binary: bool) -> None:
    """As long as their model, and what its servers can read, is what it was taken for."""
    server = V2Server()
    server.answer = ANSWER
    make = a_v2_pool if v2 else a_remote_pool
    async with make(server, Recorder(), [REST if v2 else GRPC]) as pool:
        routes = routes_of(in_front_of(pool), Recorder())
        asked = [infer_of(call_id, binary) for call_id in "abcd"]
        answers = [await ask(routes, f"POST {INFER}", *one) for one in asked]
        pool.catalogue._known.clear()
        answers.append(await ask(routes, f"POST {INFER}", *asked[0]))
        passed_on = len(server.relayed)
        server.buffers = False
        answers += [await ask(routes, f"POST {INFER}", *asked[0]) for _ in range(3)]

    assert [200] * 8 == [answer.status for answer in answers]
    assert [call.body for call in server.relayed[:4]] == ([body for body, _ in asked] if v2 else [])
    assert (5 if v2 else 0) == passed_on
    assert (3 if v2 and binary else 0 if v2 else 8) == len(server.merged)


def test_errors_that_pass() -> None:
    """They say when to try again; a call that was not read has errors only."""
    again = error_answer(BackendUnavailable("down"))

    assert (503, "1") == (again.status, again.headers["Retry-After"])
    assert 400 == _ERRORS_ONLY.error(RequestError("no")).status
    with pytest.raises(AssertionError, match="This is a bug"):
        _ERRORS_ONLY.reply(None)  # type: ignore[arg-type]
