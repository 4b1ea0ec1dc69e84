"""The routes, asked again and again: what is told by its bytes is answered as what was read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from unittest.mock import Mock

import numpy as np
import pytest

from batchproxy.codecs import tensor_proto, tfs_grpc, tfs_rest
from batchproxy.core.errors import Code
from batchproxy.core.raw import GRPC, RawReply
from batchproxy.frontends.directory import Directory
from batchproxy.frontends.grpc_routes import GrpcAnswer, GrpcRoutes
from batchproxy.frontends.rest_answers import RestAnswer
from batchproxy.frontends.rest_routes import RestRoutes
from batchproxy.protos import tfs_pb2 as pb
from tests.remotes import FakeServer, a_remote_pool, in_front_of
from tests.serving import Recorder, a_directory

PATH = "/v1/models/half_plus_two:predict"


def message(value: float) -> bytes:
    """A PredictRequest of one row."""
    request = pb.PredictRequest()
    request.model_spec.name = "half_plus_two"
    tensor_proto.write(np.array([value], np.float32), request.inputs["x"])
    return request.SerializeToString()


def value_of(answer: GrpcAnswer) -> float:
    """The number in an answer."""
    return float(pb.PredictResponse.FromString(answer.body).outputs["y"].float_val[0])


class Caller:
    """Calls one method of one listener's routes."""

    def __init__(self, directory: Directory, recorder: Recorder) -> None:
        engine = directory.default.engine if directory.default is not None else directory.models()[0].engine
        self.grpc = GrpcRoutes(directory, recorder, engine.clock)
        self.rest = RestRoutes(
            directory, recorder, engine.clock, timeout_s=30.0, deadline_header="x-request-timeout-ms"
        )

    async def predict(self, value: float, metadata: Sequence[tuple[str, str]] = ()) -> GrpcAnswer:
        """Over gRPC."""
        answered: asyncio.Future[GrpcAnswer] = asyncio.get_running_loop().create_future()
        self.grpc.handle(tfs_grpc.PREDICT, message(value), 20.0, answered.set_result, metadata)
        return await answered

    async def post(self, body: bytes, headers: dict[str, str] | None = None) -> RestAnswer:
        """Over REST."""
        answered: asyncio.Future[RestAnswer] = asyncio.get_running_loop().create_future()
        self.rest.handle("POST", PATH, headers or {}, body, answered.set_result)
        return await answered


async def test_an_embedded_model_over_grpc(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the third on, no message is read; each is answered and recorded as before."""
    read: list[bytes] = []
    real = tfs_grpc.parse_predict

    def parse_predict(body: bytes) -> tfs_grpc.PredictCall:
        read.append(body)
        return real(body)

    monkeypatch.setattr(tfs_grpc, "parse_predict", parse_predict)
    recorder = Recorder()
    async with a_directory(recorder) as directory:
        caller = Caller(directory, recorder)
        answers = [await caller.predict(float(value)) for value in range(5)]

    assert [2.0, 2.5, 3.0, 3.5, 4.0] == list(map(value_of, answers))
    assert [("half_plus_two", "Predict", "grpc", Code.OK)] * 5 == recorder.requests
    assert 2 == len(read)


async def test_an_embedded_model_refuses_over_grpc_what_it_refused_before() -> None:
    """The model looks at the numbers, and its error is the caller's alone."""
    recorder = Recorder()
    async with a_directory(recorder) as directory:
        caller = Caller(directory, recorder)
        answers = [await caller.predict(value) for value in (1.0, 2.0, 3.0, -1.0, 4.0)]

    assert [Code.OK, Code.OK, Code.OK, Code.INVALID_ARGUMENT, Code.OK] == [answer.code for answer in answers]
    assert "negative input: [-1.0]" in answers[3].message


async def test_an_embedded_model_over_rest() -> None:
    """In the form of the request, whatever was asked before."""
    recorder = Recorder()
    async with a_directory(recorder) as directory:
        caller = Caller(directory, recorder)
        bodies = [b'{"instances": [%d.5]}', b'{"inputs": [%d.5]}', b'{"instances": [%d.5, 1]}']
        answers = [await caller.post(body % number) for number in range(3) for body in bodies]

    assert [
        document
        for number in range(3)
        for document in (
            {"predictions": [number / 2 + 2.25]},
            {"outputs": [number / 2 + 2.25]},
            {"predictions": [number / 2 + 2.25, 2.5]},
        )
    ] == [json.loads(answer.body) for answer in answers]
    assert [("half_plus_two", "predict", "rest", Code.OK)] * 9 == recorder.requests


@pytest.mark.parametrize(("value", "status"), [("0", 504), ("soon", 400), ("5000", 200)])
async def test_time_limits_over_rest(value: str, status: int) -> None:
    """The header is read each time, and a bad one is refused."""
    recorder = Recorder()
    async with a_directory(recorder) as directory:
        caller = Caller(directory, recorder)
        await caller.post(b'{"instances": [1.5]}')
        answer = await caller.post(b'{"instances": [2.5]}', {"x-request-timeout-ms": value})

    assert status == answer.status
    assert ["half_plus_two"] * 2 == [model for model, _, _, _ in recorder.requests]


async def test_a_server_over_grpc() -> None:
    """A lone call goes as it came, with its metadata, and callers that may not share a call are told apart."""
    server = FakeServer()
    server.answer = RawReply(0, "", (), b"relayed")
    async with a_remote_pool(server, Recorder()) as pool:
        caller = Caller(in_front_of(pool), Recorder())
        names = ["a", "a", "a", "b"]
        answers = await asyncio.gather(
            *(caller.predict(float(n), [("authorization", name)]) for n, name in enumerate(names))
        )

    assert [2.0, 2.5, 3.0] == [value_of(answer) for answer in answers[:3]]
    assert b"relayed" == answers[3].body
    assert [[0.0, 1.0, 2.0]] == [columns["x"].array.tolist() for _, columns, _ in server.merged]  # type: ignore[attr-defined]
    assert [(message(3.0), [("authorization", "b")])] == [(call.body, call.headers) for call in server.relayed]


async def test_a_server_whose_model_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the new version is not known, its requests travel alone."""
    server = FakeServer()
    server.answer = RawReply(0, "", (), b"relayed")
    async with a_remote_pool(server, Recorder(), doors=(GRPC,)) as pool:
        caller = Caller(in_front_of(pool), Recorder())
        await asyncio.gather(*(caller.predict(float(n)) for n in range(3)))
        monkeypatch.setattr(pool.catalogue, "look", lambda model, version: None)
        pool.catalogue.edition = object()
        await asyncio.gather(*(caller.predict(float(n)) for n in range(2)))

    assert [3] == [columns["x"].rows for _, columns, _ in server.merged]
    assert [message(0.0), message(1.0)] == [call.body for call in server.relayed]


async def test_a_server_with_a_grpc_door_only_over_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """What became of the first body becomes of others of its kind, until the model changes."""
    server, recorder = FakeServer(), Recorder()
    read = Mock(side_effect=tfs_rest.parse_body)
    monkeypatch.setattr(tfs_rest, "parse_body", read)
    async with a_remote_pool(server, recorder, doors=(GRPC,)) as pool:
        caller = Caller(in_front_of(pool), recorder)
        answers = [await caller.post(b'{"instances": [%d.5]}' % number, {}) for number in range(3)]
        await caller.post(b'{"instances": [0.5]}', {"authorization": "b"})
        before = read.call_count
        pool.catalogue._known.clear()
        pool.catalogue.edition = object()
        answers.append(await caller.post(b'{"instances": [3.5]}', {}))

    assert [{"predictions": [2.25 + number / 2]} for number in range(4)] == [json.loads(one.body) for one in answers]
    assert [("half_plus_two", "predict")] * 5 == [(model, method) for model, method, _, _ in recorder.requests]
    assert [()] * 3 + [(("authorization", "b"),)] + [()] == [key.partition for key, _, _ in server.merged]
    assert (1, 2) == (before, read.call_count)
