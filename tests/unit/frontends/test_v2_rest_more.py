"""Every element type of the Open Inference Protocol through an embedded model, and what each call may ask for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from batchproxy.codecs import _dtypes, v2_grpc, v2_rest
from batchproxy.core.columns import Array, ArrayColumn
from batchproxy.core.request import BatchKey, Reply, Request
from batchproxy.frontends import v2_rest as v2_rest_front
from batchproxy.frontends.directory import Directory
from batchproxy.frontends.grpc_routes import GrpcRoutes
from batchproxy.frontends.rest_answers import RestAnswer
from batchproxy.frontends.rest_routes import RestRoutes
from tests.serving import Recorder, a_directory

TYPES = [row for row in _dtypes.TABLE if row.v2]
PATH = "/v2/models/echo/infer"


def echo(inputs: dict[str, Array]) -> dict[str, Array]:
    """What came, rows in order; and the first row again, in an output of its own."""
    return {"y": inputs["x"], "z": inputs["x"]}


def values_of(row: _dtypes.DType) -> Array:
    """Two rows of a type, with its extremes where it has such."""
    if row.name == "string":
        return np.array([[b"a", b""], ["\u00e9".encode(), b"c"]], np.object_)
    if row.name == "bool":
        return np.array([[True, False], [False, True]])
    if row.numpy.kind in "iu":
        limits = np.iinfo(row.numpy)
        return np.array([[limits.min, limits.max], [0, 1]], row.numpy)
    return np.array([[0.5, -2.0], [np.inf, 1e-3]]).astype(row.numpy)


async def ask(routes: RestRoutes, body: bytes, headers: Mapping[str, str] | None = None) -> RestAnswer:
    """The answer to an inference request."""
    answered = asyncio.get_running_loop().create_future()
    routes.handle("POST", PATH, headers or {}, body, answered.set_result)
    answer: RestAnswer = await answered
    return answer


def rest_of(directory: Directory) -> RestRoutes:
    """The REST routes in front of a directory."""
    clock = asyncio.get_running_loop().time
    return RestRoutes(directory, Recorder(), clock, timeout_s=30, deadline_header="x-ms", priority_header="x-priority")


@pytest.mark.parametrize("row", TYPES, ids=lambda row: row.v2)
@pytest.mark.parametrize("form", ["JSON, flat", "JSON, nested", "buffers", "gRPC"])
async def test_every_type_comes_back(row: _dtypes.DType, form: str) -> None:
    """The first time, when it is read, and later, when it is told by what it is like; alone and three at once."""
    array = values_of(row)
    column = {"x": ArrayColumn(array)}
    async with a_directory(Recorder(), {"echo": echo}) as directory:
        if form == "gRPC":
            grpc = GrpcRoutes(directory, Recorder(), asyncio.get_running_loop().time)
            message = v2_grpc.encode_infer_request(BatchKey("echo", None, "serving_default"), column)

            async def once() -> Reply:
                answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
                grpc.handle(v2_grpc.MODEL_INFER, message, None, answered.set_result)
                return v2_grpc.decode_reply((await answered).body)
        else:
            key = BatchKey("echo", None, "serving_default")
            body, length = v2_rest.encode_infer_request(key, column, binary=form == "buffers")
            if form == "JSON, nested":
                document = json.loads(body)
                (tensor,) = document["inputs"]
                tensor["data"] = [tensor["data"][:2], tensor["data"][2:]]
                body = json.dumps(document).encode()
            headers = {} if length is None else {v2_rest.LENGTH_HEADER: str(length)}
            routes = rest_of(directory)

            async def once() -> Reply:
                answer = await ask(routes, body, headers)
                return v2_rest.decode_reply(answer.body, answer.headers.get(v2_rest.LENGTH_HEADER))

        replies = [await once() for _ in range(3)] + await asyncio.gather(*(once() for _ in range(3)))

    found = [reply.columns[name].array for reply in replies for name in ("y", "z")]  # type: ignore[attr-defined]
    assert [(row.numpy, repr(array.tolist()))] * 12 == [(one.dtype, repr(one.tolist())) for one in found]


@pytest.mark.parametrize(
    ("parameters", "outputs", "buffers"),
    [
        ({}, None, []),
        ({"binary_data_output": True}, None, ["y", "z"]),
        ({"binary_data_output": True}, [{"name": "z", "parameters": {"binary_data": False}}, {"name": "y"}], ["y"]),
        ({}, [{"name": "z", "parameters": {"binary_data": True}}], ["z"]),
    ],
)
async def test_outputs_are_written_as_they_were_asked_for(
    parameters: dict[str, Any], outputs: list[Any] | None, buffers: list[str]
) -> None:
    """In that order, as buffers or as JSON, alone and with others that asked otherwise."""
    request: dict[str, Any] = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1.5]}]}
    quiet = json.dumps(request).encode()
    request |= {"parameters": parameters} | ({} if outputs is None else {"outputs": outputs})
    body = json.dumps({"id": "a", **request}).encode()
    async with a_directory(Recorder(), {"echo": echo}) as directory:
        routes = rest_of(directory)
        answers = [await ask(routes, body) for _ in range(3)]
        answers += (await asyncio.gather(ask(routes, quiet), ask(routes, body), ask(routes, body)))[1:]
    names = [output["name"] for output in outputs or ({"name": "y"}, {"name": "z"})]

    for answer in answers:
        header = answer.headers.get(v2_rest.LENGTH_HEADER)
        said = json.loads(answer.body[: None if header is None else int(header)])
        assert ("a", names) == (said["id"], [tensor["name"] for tensor in said["outputs"]])
        assert buffers == [tensor["name"] for tensor in said["outputs"] if "data" not in tensor]
        columns = v2_rest.decode_reply(answer.body, header).columns
        assert [[1.5]] * len(names) == [column.array.tolist() for column in columns.values()]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("headers", "priority", "seconds"),
    [({}, 0, 9.0), ({"x-ms": "2000"}, 0, 2.0), ({"x-priority": "low", "x-ms": "20000"}, 2, 9.0)],
)
async def test_priority_and_timeout_of_each_call(
    headers: dict[str, str], priority: int, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From its parameters and its headers, whether it was read or told by what it is like."""
    tensor = {"name": "x", "shape": [1], "datatype": "FP32", "data": [1.5]}
    body = json.dumps({"inputs": [tensor], "parameters": {"priority": 1, "timeout": 9_000_000}}).encode()
    async with a_directory(Recorder(), {"echo": echo}) as directory:
        engine = directory.models()[0].engine
        submit = Mock(side_effect=engine.submit)
        monkeypatch.setattr(engine, "submit", submit)
        routes = rest_of(directory)
        now = asyncio.get_running_loop().time()
        for _ in range(3):
            await ask(routes, body, headers)
    requests: list[Request] = [call.args[0] for call in submit.call_args_list]

    assert [priority] * 3 == [request.priority for request in requests]
    assert all(
        request.deadline is not None and now + seconds <= request.deadline < now + seconds + 60 for request in requests
    )


async def test_long_answers_of_one_batch_are_printed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the first one in a thread; the others then find the numbers of theirs."""
    monkeypatch.setattr(v2_rest_front, "LONG_PRINT", 8)
    tensor = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1.5, 2.5, 0.25, 4.0]}
    async with a_directory(Recorder(), {"echo": echo}) as directory:
        routes = rest_of(directory)
        run = Mock(side_effect=routes.heavy.run)
        monkeypatch.setattr(routes.heavy, "run", run)
        bodies = [json.dumps({"id": f"{number}", "inputs": [tensor]}).encode() for number in range(16)]
        answers = await asyncio.gather(*(ask(routes, body) for body in bodies))
        replies = [call.args[1].args[0] for call in run.call_args_list]
        batches = len({id(getattr(reply, "whole", reply)) for reply in replies})
        await routes.aclose()

    assert [f"{number}" for number in range(16)] == [json.loads(answer.body)["id"] for answer in answers]
    assert batches == run.call_count < 16
