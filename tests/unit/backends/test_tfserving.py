"""Which call goes through which door, and as what: with a scripted server behind each door."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2

from batchproxy.backends.base import Remote
from batchproxy.backends.tfserving import TfServingBackend
from batchproxy.codecs import tfs_documents, tfs_grpc
from batchproxy.codecs.tfs_calls import encode_predict_request, encode_status_request
from batchproxy.codecs.tfs_rows import read_request
from batchproxy.codecs.tfs_splice import JsonAnswer, splice
from batchproxy.core.columns import ArrayColumn, TensorColumn
from batchproxy.core.errors import (
    BackendError,
    BackendLost,
    BackendProtocolError,
    BackendRejected,
    BackendUnavailable,
    Code,
)
from batchproxy.core.raw import GRPC, REST, RawCall
from batchproxy.core.request import BatchKey, Reply
from batchproxy.core.shapes import ModelInfo, Signature, TensorSpec
from tests.unit.scripted_doors import nobody, scripted

INFO = ModelInfo("m", 7, {"serving_default": Signature({"x": TensorSpec("float32", (None,), "x:0")}, {})})
STATUS = (tfs_grpc.VersionStatus(7),)
KEY = BatchKey("m", 7, "serving_default", (), ("y",), partition=(("x-tenant", "a"),), extras=b"\x32\x02me")


@asynccontextmanager
async def backend(*, grpc: str | None = None, rest: str | None = None) -> AsyncIterator[TfServingBackend]:
    """A backend that is closed at the end."""
    opened = TfServingBackend(grpc=grpc, rest=rest, static_headers=(("x-static", "s"),))
    try:
        yield opened
    finally:
        await opened.aclose()


# ---------------------------------------------------------------- merged calls


async def test_arrays_go_by_grpc() -> None:
    """The batch's own request out, its columns, version and other fields back."""
    columns = {"x": ArrayColumn(np.array([1, 2], np.float32))}
    answer = Reply({"y": TensorColumn(np.array([3, 4], np.float32), content=True)}, 7, b"\x7a\x01z")
    async with scripted() as server, backend(grpc=server.grpc, rest=server.rest) as remote:
        server.grpc_answers[tfs_grpc.PREDICT] = tfs_grpc.encode_predict(answer, "m", "serving_default")
        reply = await remote.infer(KEY, columns, 5.0)
    method, headers, body = server.seen[0]
    column = reply.columns["y"]

    assert (tfs_grpc.PREDICT, encode_predict_request(KEY, columns)) == (method, body)
    assert {"x-tenant": "a", "x-static": "s"} == {name: value for name, value in headers.items() if name[:2] == "x-"}
    assert isinstance(column, TensorColumn)
    assert ([3, 4], True, 7, b"\x7a\x01z") == (column.array.tolist(), column.content, reply.version, reply.extras)


async def test_the_callers_value_of_a_header_wins_over_a_static_one() -> None:
    """It is sent once: two values of one header are anybody's guess."""
    columns = {"x": ArrayColumn(np.array([1], np.float32))}
    answer = tfs_grpc.encode_predict(Reply({}, 1), "m", "serving_default")
    async with scripted() as server, backend(grpc=server.grpc, rest=server.rest) as remote:
        server.grpc_answers[tfs_grpc.PREDICT] = answer
        await remote.infer(KEY._replace(partition=(("x-static", "theirs"),)), columns, 5.0)
    _, headers, _ = server.seen[0]

    assert "theirs" == headers["x-static"]


@pytest.mark.parametrize(
    ("version", "path"), [(7, "/versions/7"), ("stable", "/labels/stable"), (None, "")], ids=["number", "label", "none"]
)
async def test_rows_go_by_rest(version: int | str | None, path: str) -> None:
    """The raw rows out, the answer's rows back; they do not say which version answered."""
    request = read_request(b'{"instances": [1.0, 2e0], "signature_name": ""}')
    assert request is not None
    body = b'{"predictions": [2.5, NaN]}'
    async with scripted() as server, backend(grpc=server.grpc, rest=server.rest) as remote:
        server.rest_answers[f"POST /v1/models/m{path}:predict"] = 200, body
        reply = await remote.infer(KEY._replace(version=version), request.columns, 5.0)
    _, headers, sent = server.seen[0]

    assert b'{"signature_name":"","instances":[1.0,2e0]}' == sent
    assert ("a", "s", "application/json") == (headers["x-tenant"], headers["x-static"], headers["content-type"])
    assert 0 == reply.version
    assert body == splice({name: column for name, column in reply.columns.items() if isinstance(column, JsonAnswer)})


async def test_inputs_by_name_are_answered_as_outputs() -> None:
    """The form of the request is the form of the answer."""
    request = read_request(b'{"inputs": {"instances": [1, 2]}}')
    assert request is not None
    async with scripted() as server, backend(rest=server.rest) as remote:
        server.rest_answers["POST /v1/models/m/versions/7:predict"] = 200, b'{"outputs": [3, 4]}'
        reply = await remote.infer(KEY, request.columns, None)

    assert {"outputs": 2} == {name: column.rows for name, column in reply.columns.items()}


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (201, BackendProtocolError, Code.INTERNAL),
        (400, BackendRejected, Code.INVALID_ARGUMENT),
        (502, BackendLost, Code.UNAVAILABLE),
        (503, BackendUnavailable, Code.UNAVAILABLE),
    ],
)
async def test_a_merged_rest_call_that_fails(status: int, kind: type[BackendError], code: Code) -> None:
    """Only 200 is an answer."""
    request = read_request(b'{"instances": [1]}')
    assert request is not None
    async with scripted() as server, backend(rest=server.rest) as remote:
        server.rest_answers["POST /v1/models/m/versions/7:predict"] = status, b'{"predictions": [1]}'
        with pytest.raises(kind) as caught:
            await remote.infer(KEY, request.columns, None)

    assert code == caught.value.code


async def test_a_merged_grpc_call_that_fails() -> None:
    """The server's code, for the scheduler to act upon."""
    async with scripted() as server, backend(grpc=server.grpc) as remote:
        server.grpc_answers[tfs_grpc.PREDICT] = grpc.StatusCode.FAILED_PRECONDITION, "no such signature"
        with pytest.raises(BackendRejected, match="no such signature") as caught:
            await remote.infer(KEY, {}, None)

    assert Code.FAILED_PRECONDITION == caught.value.code


# ---------------------------------------------------------------- relayed calls


async def test_relayed_calls_use_the_door_they_came_by() -> None:
    """As they came, with our static headers, unless the caller has one of that name."""
    async with scripted() as server, backend(grpc=server.grpc, rest=server.rest) as remote:
        server.grpc_answers["/any/Method"] = b"\xff"
        server.rest_answers["DELETE /any?thing"] = server.rest_answers["GET /"] = 200, b"{"
        by_grpc = await remote.relay(RawCall(GRPC, "/any/Method", "", (("a", "1"),), b"\xfe"), 5.0)
        by_rest = await remote.relay(RawCall(REST, "DELETE", "/any?thing", (("b", "2"),), b"!"), 5.0)
        await remote.relay(RawCall(REST, "GET", "/", (("X-Static", "theirs"),), b""), 5.0)
    (_, metadata, message), (_, headers, body), (_, own, _) = server.seen

    assert ((0, b"\xff"), (200, b"{")) == ((by_grpc.status, by_grpc.body), (by_rest.status, by_rest.body))
    assert ("1", "s", b"\xfe") == (metadata["a"], metadata["x-static"], message)
    assert ("2", "s", b"!") == (headers["b"], headers["x-static"], body)
    assert "theirs" == own["x-static"]


async def test_streams_are_relayed() -> None:
    """By gRPC."""

    async def sent() -> AsyncIterator[bytes]:
        yield b"1"
        yield b"2"

    async with (
        scripted() as server,
        backend(grpc=server.grpc) as remote,
        remote.relay_stream("/s/chat", (), sent()) as stream,
    ):
        messages = [message async for message in stream.messages()]
        status = await stream.status()

    assert ([b"1", b"2"], (0, "", ())) == (messages, status)


# ---------------------------------------------------------------- questions


async def test_questions_by_grpc() -> None:
    """Where there is a gRPC door, even beside a REST door."""
    async with scripted() as server, backend(grpc=server.grpc, rest=server.rest) as remote:
        server.grpc_answers[tfs_grpc.GET_MODEL_METADATA] = tfs_grpc.encode_metadata(INFO)
        server.grpc_answers[tfs_grpc.GET_MODEL_STATUS] = tfs_grpc.encode_status(STATUS)
        info = await remote.metadata("m", "stable")
        status = await remote.status("m", None)
    asked = [tfs_grpc.parse_metadata(server.seen[0][2]), tfs_grpc.parse_status(server.seen[1][2])]

    assert (INFO, STATUS) == (info, status)
    assert [tfs_grpc.Target("m", label="stable"), tfs_grpc.Target("m")] == asked


async def test_questions_by_rest() -> None:
    """Where that is all there is."""
    async with scripted() as server, backend(rest=server.rest) as remote:
        server.rest_answers["GET /v1/models/m/labels/stable/metadata"] = 200, tfs_documents.encode_metadata(INFO)
        server.rest_answers["GET /v1/models/m/versions/7"] = 200, tfs_documents.encode_status(STATUS)
        answers = await remote.metadata("m", "stable"), await remote.status("m", 7)

    assert (INFO, STATUS) == answers


async def test_a_question_that_is_refused() -> None:
    """As the server refused it."""
    async with scripted() as server, backend(rest=server.rest) as remote:
        server.rest_answers["GET /v1/models/m/metadata"] = 404, b'{"error": "no m"}'
        with pytest.raises(BackendRejected, match="^no m$") as caught:
            await remote.metadata("m", None)

    assert Code.NOT_FOUND == caught.value.code


# ---------------------------------------------------------------- doors


async def test_arrays_go_by_rest_where_there_is_no_other_door() -> None:
    """In column form; the answer is read as the key says."""
    key = KEY._replace(signature="s", extras=b'[["y","int8"],["z","float32"]]')
    path = "/v1/models/m/versions/7:predict"
    async with scripted() as server, backend(rest=server.rest) as remote:
        server.rest_answers[f"POST {path}"] = 200, b'{"outputs": {"y": [3, 4], "z": [NaN, 1.0]}}'
        reply = await remote.infer(key, {"x": ArrayColumn(np.array([1, 2], np.float32))}, 5.0)
    column = reply.columns["y"]

    assert (f"POST {path}", b'{"signature_name":"s","inputs":{"x":[1.0,2.0]}}') == (
        server.seen[0][0],
        server.seen[0][2],
    )
    assert isinstance(column, ArrayColumn)
    assert (["y"], [3, 4], "int8") == (list(reply.columns), column.array.tolist(), column.array.dtype.name)
    assert 0 == reply.version


async def test_a_door_that_is_missing_is_named() -> None:
    """With what to write to have it."""
    async with backend(grpc="tf:1") as only_grpc, backend(rest="tf:2") as only_rest:
        with pytest.raises(BackendRejected, match=r"grpc://tf:1 has no rest door: add http://HOST:PORT") as by_rest:
            await only_grpc.relay(RawCall(REST, "GET", "/", (), b""), None)
        with pytest.raises(BackendRejected, match=r"http://tf:2 has no grpc door: add grpc://HOST:PORT") as by_grpc:
            await only_rest.relay(RawCall(GRPC, tfs_grpc.PREDICT, "", (), b""), None)

    assert Code.UNIMPLEMENTED == by_rest.value.code == by_grpc.value.code
    assert (True, False, False, True) == tuple(
        one.has(protocol) for one in (only_grpc, only_rest) for protocol in (GRPC, REST)
    )


def test_it_is_a_remote_backend() -> None:
    """For the type checker; and it is called by the places it goes to."""
    remote: Remote = TfServingBackend(grpc="unix:/s", rest="https://tf/")

    assert "grpc://unix:/s,https://tf" == getattr(remote, "name", None)


# ---------------------------------------------------------------- probes


@pytest.mark.parametrize("code", [grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNIMPLEMENTED])
@pytest.mark.parametrize("status", [200, 400, 404, 500])
async def test_any_answer_is_a_sign_of_life(code: grpc.StatusCode, status: int) -> None:
    """No model is needed for it."""
    async with scripted() as server, backend(grpc=server.grpc, rest=server.rest) as remote:
        server.grpc_answers[tfs_grpc.GET_MODEL_STATUS] = code, "no"
        server.rest_answers["GET /v1/models/"] = status, b""
        await remote.probe()

    assert encode_status_request("", None) == server.seen[0][2]
    assert 3 == len(server.seen)


async def test_a_welcome_by_grpc() -> None:
    """A server may even know of a model without a name."""
    async with scripted() as server, backend(grpc=server.grpc) as remote:
        server.grpc_answers[tfs_grpc.GET_MODEL_STATUS] = b""
        await remote.probe()

    assert [tfs_grpc.GET_MODEL_STATUS, "/grpc.health.v1.Health/Check"] == [method for method, _, _ in server.seen]


@pytest.mark.parametrize("status", health_pb2.HealthCheckResponse.ServingStatus.keys())
async def test_a_server_that_speaks_of_its_health(status: str) -> None:
    """By gRPC's health checking protocol, which it may have, or not; here as grpcio's own package writes it."""
    answer = health_pb2.HealthCheckResponse(status=status).SerializeToString()
    async with scripted() as server, backend(grpc=server.grpc) as remote:
        server.grpc_answers[tfs_grpc.GET_MODEL_STATUS] = b""
        server.grpc_answers["/grpc.health.v1.Health/Check"] = answer
        outcome = await asyncio.gather(remote.probe(), return_exceptions=True)

    assert (["is not serving"] if status == "NOT_SERVING" else [None]) == [
        error and re.findall("is not serving", str(error))[0] for error in outcome
    ]


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED])
async def test_a_server_that_is_not_well_by_grpc(code: grpc.StatusCode) -> None:
    """It says so itself, or somebody in between does."""
    async with scripted() as server, backend(grpc=server.grpc) as remote:
        server.grpc_answers[tfs_grpc.GET_MODEL_STATUS] = code, "not now"
        with pytest.raises(BackendError, match="not now"):
            await remote.probe()


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_a_server_that_is_not_well_by_rest(status: int) -> None:
    """A gateway's words are no sign of life."""
    async with scripted() as server, backend(rest=server.rest) as remote:
        server.rest_answers["GET /v1/models/"] = status, b"not now"
        with pytest.raises(BackendError, match="not now"):
            await remote.probe()


@pytest.mark.parametrize("dead", ["grpc", "rest"])
async def test_each_door_must_answer(dead: str) -> None:
    """One open door does not make a server."""
    async with scripted() as server:
        server.grpc_answers[tfs_grpc.GET_MODEL_STATUS] = b""
        server.rest_answers["GET /v1/models/"] = 400, b""
        doors = {"grpc": server.grpc, "rest": server.rest} | {dead: nobody()}
        async with backend(**doors) as remote:
            with pytest.raises(BackendUnavailable):
                await remote.probe()
