"""REST paths to answers, without a socket: embedded models, servers, and servers that only speak gRPC."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping

import pytest
from multidict import CIMultiDict

from batchproxy.core.errors import BackendRejected, Code
from batchproxy.core.raw import GRPC, REST, RawReply
from batchproxy.frontends.directory import Directory
from batchproxy.frontends.rest_answers import RestAnswer
from batchproxy.frontends.rest_routes import RestRoutes
from tests.remotes import RAW_METADATA, RAW_STATUS, FakeServer, a_remote_pool, in_front_of
from tests.serving import Recorder, a_directory

PREDICT = "/v1/models/half_plus_two:predict"


async def ask(
    directory: Directory,
    recorder: Recorder,
    path: str = PREDICT,
    body: bytes = b"",
    *,
    method: str = "POST",
    headers: Mapping[str, str] | None = None,
) -> RestAnswer:
    """The answer to one request."""
    loop = asyncio.get_running_loop()
    routes = RestRoutes(directory, recorder, _clock(directory), timeout_s=30.0, deadline_header="x-request-timeout-ms")
    answered: asyncio.Future[RestAnswer] = loop.create_future()
    routes.handle(method, path, CIMultiDict(headers or {}), body, answered.set_result)
    answer = await answered
    await routes.aclose()
    return answer


def _clock(directory: Directory) -> Callable[[], float]:
    engine = directory.default.engine if directory.default is not None else directory.models()[0].engine
    return engine.clock


# ---------------------------------------------------------------- embedded models


async def test_predict_is_answered_in_the_form_of_the_request() -> None:
    """And recorded under its model."""
    recorder = Recorder()
    async with a_directory(recorder) as directory:
        rows = await ask(directory, recorder, body=b'{"instances": [1.0, 2.0]}')
        columns = await ask(directory, recorder, body=b'{"inputs": [1.0]}')

    assert {"predictions": [2.5, 3.0]} == json.loads(rows.body)
    assert {"outputs": [2.5]} == json.loads(columns.body)
    assert [("half_plus_two", "predict", "rest", Code.OK)] * 2 == recorder.requests


@pytest.mark.parametrize(
    ("path", "method", "status", "verb"),
    [
        ("/v1/models/half_plus_two", "GET", 200, "status"),
        ("/v1/models/half_plus_two/metadata", "GET", 200, "metadata"),
        ("/v1/models/nobody", "GET", 404, "status"),
        ("/v1/models/nobody/metadata", "GET", 404, "metadata"),
        ("/v1/models/half_plus_two:regress", "POST", 400, "regress"),
        ("/v1/models/half_plus_two:nothing", "POST", 400, ""),
        (PREDICT, "DELETE", 400, ""),
    ],
)
async def test_documents_and_refusals(path: str, method: str, status: int, verb: str) -> None:
    """Every call that reaches the API is recorded."""
    recorder = Recorder()
    async with a_directory(recorder) as directory:
        answer = await ask(directory, recorder, path, method=method)

    assert status == answer.status
    assert [verb] == [method for _, method, _, _ in recorder.requests]
    assert [] == recorder.calls


async def test_what_is_outside_the_api_is_not_recorded() -> None:
    """A stranger's scan leaves no trace in the metrics."""
    recorder = Recorder()
    async with a_directory(recorder) as directory:
        answer = await ask(directory, recorder, "/elsewhere", method="GET")

    assert 404 == answer.status
    assert [] == recorder.requests


@pytest.mark.parametrize(("value", "status"), [("0", 504), ("10000", 200), ("soon", 400), ("-1", 400), ("1" * 16, 400)])
async def test_a_caller_may_shorten_its_time(value: str, status: int) -> None:
    """A header in whole milliseconds."""
    recorder = Recorder()
    async with a_directory(recorder) as directory:
        answer = await ask(directory, recorder, body=b'{"instances": [1.0]}', headers={"X-Request-Timeout-Ms": value})

    assert status == answer.status


# ---------------------------------------------------------------- servers with a REST door


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/elsewhere?a=%2F", b""),
        ("POST", "/v1/models/half_plus_two:classify", b"{}"),
        ("GET", "/v1/models/half_plus_two/metadata", b""),
        ("POST", PREDICT, b"not json"),
        ("POST", PREDICT, b'{"instances": [1.0]}'),
        ("POST", "/v1/models/nobody:predict", b'{"instances": [1.0]}'),
    ],
)
async def test_what_is_alone_or_not_understood_is_passed_on_as_it_came(method: str, path: str, body: bytes) -> None:
    """Method, path undecoded, body; headers but those of one hop, in lower case."""
    server, recorder = FakeServer(), Recorder()
    headers = {"Authorization": "a", "Connection": "x-hop", "X-Hop": "1", "Host": "me", "Content-Length": "3"}
    async with a_remote_pool(server, recorder) as pool:
        answer = await ask(in_front_of(pool), recorder, path, body, method=method, headers=headers)

    (raw,) = server.relayed
    assert (REST, method, path, body) == (raw.protocol, raw.method, raw.path, raw.body)
    assert [("authorization", "a")] == list(raw.headers)
    assert (200, b"relayed", "Fine") == (answer.status, answer.body, answer.reason)
    assert ["1", "2"] == [value for name, value in answer.headers.items() if name == "x-one"]


async def test_the_servers_refusal_is_passed_on() -> None:
    """With its own words, and recorded by its code."""
    server, recorder = FakeServer(), Recorder()
    server.answer = BackendRejected("no", code=Code.NOT_FOUND, raw=RawReply(404, "No", (), b"relayed"))
    async with a_remote_pool(server, recorder) as pool:
        answer = await ask(in_front_of(pool), recorder, body=b'{"instances": [1.0]}')

    assert (404, b"relayed") == (answer.status, answer.body)
    assert [("half_plus_two", "predict", "rest", Code.NOT_FOUND)] == recorder.requests


async def test_a_bad_time_limit_is_refused_before_anything_is_passed_on() -> None:
    """It is ours to say."""
    server, recorder = FakeServer(), Recorder()
    async with a_remote_pool(server, recorder) as pool:
        answer = await ask(in_front_of(pool), recorder, headers={"x-request-timeout-ms": "x"})

    assert 400 == answer.status
    assert [] == server.relayed


# ---------------------------------------------------------------- servers that only speak gRPC


async def test_predict_is_bridged_to_a_grpc_call() -> None:
    """By the signature that the server told us; the answer is TF Serving's JSON."""
    server, recorder = FakeServer(), Recorder()
    async with a_remote_pool(server, recorder, doors=[GRPC]) as pool:
        answer = await ask(in_front_of(pool), recorder, body=b'{"instances": [1.0, 5.0]}')
        unread = await ask(in_front_of(pool), recorder, body=b"not json")
        wrong = await ask(in_front_of(pool), recorder, body=b'{"instances": ["a"]}')

    assert {"predictions": [2.5, 4.5]} == json.loads(answer.body)
    assert [400, 400] == [unread.status, wrong.status]
    assert 1 == len(server.merged)
    assert [] == server.relayed


async def test_the_first_request_of_a_model_waits_for_its_signature() -> None:
    """And learns that there is no such model from the server itself."""
    server, recorder = FakeServer(), Recorder()
    async with a_remote_pool(server, recorder, doors=[GRPC]) as pool:
        known = await ask(
            in_front_of(pool), recorder, "/v1/models/half_plus_two/versions/7:predict", b'{"instances": [1.0]}'
        )
        nobody = await ask(in_front_of(pool), recorder, "/v1/models/nobody:predict", b'{"instances": [1.0]}')

    assert {"predictions": [2.5]} == json.loads(known.body)
    assert (404, {"error": "Servable not found for request: Latest(nobody)"}) == (
        nobody.status,
        json.loads(nobody.body),
    )


async def test_status_and_metadata_are_bridged() -> None:
    """As documents made of the server's gRPC answers."""
    server, recorder = FakeServer(), Recorder()
    async with a_remote_pool(server, recorder, doors=[GRPC]) as pool:
        directory = in_front_of(pool)
        server.answer = RAW_STATUS
        status = await ask(directory, recorder, "/v1/models/half_plus_two", method="GET")
        server.answer = RAW_METADATA
        metadata = await ask(directory, recorder, "/v1/models/half_plus_two/metadata", method="GET")

    assert "7" == json.loads(status.body)["model_version_status"][0]["version"]
    assert "7" == json.loads(metadata.body)["model_spec"]["version"]
    assert [GRPC, GRPC] == [raw.protocol for raw in server.relayed]


async def test_examples_are_bridged_and_refused_like_the_server_does() -> None:
    """A lone call is made of columns; what cannot be read never reaches the server."""
    server, recorder = FakeServer(), Recorder()
    path = "/v1/models/half_plus_two:regress"
    async with a_remote_pool(server, recorder, doors=[GRPC]) as pool:
        answer = await ask(in_front_of(pool), recorder, path, b'{"signature_name": "regress", "examples": [{}]}')
        wrong = await ask(in_front_of(pool), recorder, path, b'{"signature_name": "regress"}')

    assert b'{\n    "results": [0.0]\n}' == answer.body
    assert (400, 1) == (wrong.status, len(server.merged))
    assert b"key 'examples' is expected and was not found" in wrong.body
    assert [("half_plus_two", "regress", "rest", Code.OK), ("", "regress", "rest", Code.INVALID_ARGUMENT)] == (
        recorder.requests
    )


@pytest.mark.parametrize(("method", "path", "status"), [("OPTIONS", "*", 404), ("GET", "x", 404), ("GET", "x%", 400)])
@pytest.mark.parametrize("door", [GRPC, REST])
async def test_what_is_no_path_reaches_no_server(door: str, method: str, path: str, status: int) -> None:
    """It is answered as libevent does."""
    server, recorder = FakeServer(), Recorder()
    async with a_remote_pool(server, recorder, doors=[door]) as pool:
        answer = await ask(in_front_of(pool), recorder, path, method=method)

    assert (status, "text/html") == (answer.status, answer.headers["Content-Type"])
    assert [] == server.relayed


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/v1/models/%FF:predict", 404, "Servable not found for request: Latest(\udcff)"),
        ("/v1/models/%FF/versions/3:predict", 404, "Servable not found for request: Specific(\udcff, 3)"),
        ("/v1/models/m/labels/%FF:predict", 400, "Unrecognized servable version label: \udcff"),
        ("/v1/models/m/labels/%FF:regress", 400, "Unrecognized servable version label: \udcff"),
        ("/v1/models/%FF", 404, "Could not find any versions of model \udcff"),
        ("/v1/models/%FF/metadata", 404, "Servable not found for request: Latest(\udcff)"),
    ],
)
async def test_names_that_grpc_cannot_carry_are_nobodys(path: str, status: int, text: str) -> None:
    """Bytes that are no UTF-8 come back as they came, in TF Serving's words."""
    server, recorder = FakeServer(), Recorder()
    async with a_remote_pool(server, recorder, doors=[GRPC]) as pool:
        method = "POST" if path.endswith(("predict", "regress")) else "GET"
        answer = await ask(in_front_of(pool), recorder, path, b'{"instances": [1], "examples": [{}]}', method=method)

    assert status == answer.status
    assert f'{{\n    "error": "{text}"\n}}'.encode(errors="surrogateescape") == answer.body
    assert [] == server.relayed
