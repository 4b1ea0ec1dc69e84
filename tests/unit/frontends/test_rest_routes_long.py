"""REST bodies and answers that are too long for one turn of the loop: the same answers, and nobody else waits."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import numpy as np
import pytest
from multidict import CIMultiDict

from batchproxy.core.columns import Array
from batchproxy.core.errors import Code
from batchproxy.core.raw import GRPC
from batchproxy.frontends.call import Call
from batchproxy.frontends.directory import Directory
from batchproxy.frontends.heavy import LONG_ANSWER, LONG_BODY
from batchproxy.frontends.remote import RemoteModel
from batchproxy.frontends.rest_answers import RestAnswer
from batchproxy.frontends.rest_routes import RestRoutes
from tests.listening import until
from tests.remotes import FakeServer, a_remote_pool, in_front_of
from tests.serving import Recorder, a_directory, half_plus_two
from tests.thread_of_work import Caller, Gate

PREDICT = "/v1/models/half_plus_two:predict"
PADDING = " " * LONG_BODY


class Routes:
    """Routes before a directory, whose thread is busy until ``gate`` is opened."""

    def __init__(self, directory: Directory, recorder: Recorder, gate: Gate) -> None:
        self.gate = gate
        clock = asyncio.get_running_loop().time
        self.routes = RestRoutes(directory, recorder, clock, timeout_s=30.0, deadline_header="x-request-timeout-ms")
        self.calls: list[Call[RestAnswer] | None] = []

    def ask(
        self, body: str, path: str = PREDICT, headers: Mapping[str, str] | None = None
    ) -> asyncio.Future[RestAnswer]:
        """Send a request; its answer is the future's."""
        answered: asyncio.Future[RestAnswer] = asyncio.get_running_loop().create_future()
        fields = CIMultiDict(headers or {})
        self.calls.append(self.routes.handle("POST", path, fields, body.encode(), answered.set_result))
        return answered


@asynccontextmanager
async def busy(directory: Directory, recorder: Recorder) -> AsyncIterator[Routes]:
    """Routes whose thread has something to do already."""
    gate, first = Gate(), Caller()
    it = Routes(directory, recorder, gate)
    it.routes.heavy.run(first, gate, first.told.append, 0, None)
    await gate.began.wait()
    try:
        yield it
    finally:
        gate.opened.set()
        await it.routes.heavy.idle()
        await it.routes.aclose()


async def test_a_long_body_waits_for_the_thread_and_a_short_one_does_not() -> None:
    """Each is answered as it would be alone, and recorded under its model."""
    recorder = Recorder()
    async with a_directory(recorder) as directory, busy(directory, recorder) as it:
        long, column = it.ask(PADDING + '{"instances": [1.0]}'), it.ask(PADDING + '{"inputs": [3.0]}')
        short = await it.ask('{"instances": [2.0]}')
        waiting = [long.done(), column.done()]
        it.gate.opened.set()
        answers = [await long, await column]

    assert [False, False] == waiting
    assert {"predictions": [3.0]} == json.loads(short.body)
    assert [{"predictions": [2.5]}, {"outputs": [3.5]}] == [json.loads(answer.body) for answer in answers]
    assert [("half_plus_two", "predict", "rest", Code.OK)] * 3 == recorder.requests


@pytest.mark.parametrize(
    ("body", "path", "status", "text"),
    [
        ('{"instances": [1.0', PREDICT, 400, "JSON Parse error"),
        ('{"instances": ["a"]}', PREDICT, 400, "is not of expected type"),
        ('{"instances": [1.0]}', "/v1/models/nobody:predict", 404, "Servable not found"),
        ('{"instances": [1.0', "/v1/models/nobody:predict", 400, "JSON Parse error"),
    ],
)
async def test_what_is_wrong_with_a_long_body_is_said(body: str, path: str, status: int, text: str) -> None:
    """In the words and the order of short ones."""
    recorder = Recorder()
    async with a_directory(recorder) as directory, busy(directory, recorder) as it:
        long, short = it.ask(PADDING + body, path), await it.ask(body, path)
        it.gate.opened.set()
        answer = await long

    assert (status, status) == (short.status, answer.status)
    assert text.encode() in answer.body


async def test_a_deadline_passes_while_a_long_body_waits() -> None:
    """The caller is told, and the model is not called."""
    recorder = Recorder()
    async with a_directory(recorder) as directory, busy(directory, recorder) as it:
        answer = await it.ask(PADDING + '{"instances": [1.0]}', headers={"x-request-timeout-ms": "5"})

    assert 504 == answer.status
    assert [] == recorder.calls
    assert [("half_plus_two", "predict", "rest", Code.DEADLINE_EXCEEDED)] == recorder.requests


async def test_a_caller_that_leaves_while_its_body_waits() -> None:
    """It is recorded as one that left; the model is not called."""
    recorder = Recorder()
    async with a_directory(recorder) as directory, busy(directory, recorder) as it:
        answered = it.ask(PADDING + '{"instances": [1.0]}')
        (call,) = it.calls
        assert call is not None
        call.cancel()
        it.gate.opened.set()
        await it.routes.heavy.idle()

    assert not answered.done()
    assert [] == recorder.calls
    assert [("half_plus_two", "predict", "rest", Code.CANCELLED)] == recorder.requests


# ---------------------------------------------------------------- long answers

MANY = LONG_ANSWER // 4 + 1


def many(inputs: dict[str, Array]) -> dict[str, Array]:
    """A model with a long answer for each row."""
    return {"y": np.repeat(inputs["x"][:, None], MANY, axis=1)}


@pytest.mark.parametrize(
    ("form", "key"), [('{{"instances": [{0}]}}', "predictions"), ('{{"inputs": [{0}]}}', "outputs")]
)
async def test_a_long_answer_waits_for_the_thread_and_a_short_one_does_not(form: str, key: str) -> None:
    """So do all the answers that were made by one call."""
    recorder = Recorder()
    models = {"many": many, "half_plus_two": half_plus_two}
    async with a_directory(recorder, models) as directory, busy(directory, recorder) as it:
        long = [it.ask(form.format(f"{value}.5"), "/v1/models/many:predict") for value in (1, 2, 3)]
        await until(lambda: recorder.calls)
        short = await it.ask(form.format("1.0"))
        waiting = [answer.done() for answer in long]
        it.gate.opened.set()
        answers = [json.loads((await answer).body) for answer in long]

    assert {key: [2.5]} == json.loads(short.body)
    assert [("many", 3), ("half_plus_two", 1)] == [(model, rows) for model, rows, _ in recorder.calls]
    assert [False] * 3 == waiting
    assert [{key: [[value + 0.5] * MANY]} for value in (1, 2, 3)] == answers


async def test_a_deadline_passes_while_a_long_answer_waits() -> None:
    """The caller is told, though the model was called."""
    recorder = Recorder()
    async with a_directory(recorder, {"many": many}) as directory, busy(directory, recorder) as it:
        late = it.ask('{"instances": [1.5]}', "/v1/models/many:predict", {"x-request-timeout-ms": "300"})
        answer = await late

    assert 504 == answer.status
    assert 1 == len(recorder.calls)


def halves(inputs: dict[str, Array]) -> dict[str, Array]:
    """A model whose answer has no JSON form."""
    return {"y": np.zeros((len(inputs["x"]), MANY * 2), np.float16)}


async def test_a_long_answer_that_cannot_be_written() -> None:
    """Is an error, as a short one is."""
    recorder = Recorder()
    async with a_directory(recorder, {"halves": halves}) as directory, busy(directory, recorder) as it:
        answered = it.ask('{"instances": [1.5]}', "/v1/models/halves:predict")
        it.gate.opened.set()
        answer = await answered

    assert 400 == answer.status
    assert b"Failed to write JSON value for tensor type: half" in answer.body


# ---------------------------------------------------------------- servers


async def test_a_long_body_for_a_rest_door_is_read_before_it_is_sent() -> None:
    """As it came, where nothing rides with it."""
    server, recorder = FakeServer(), Recorder()
    async with a_remote_pool(server, recorder) as pool, busy(in_front_of(pool), recorder) as it:
        long = it.ask(PADDING + '{"instances": [1.0]}')
        before = len(server.relayed)
        it.gate.opened.set()
        answer = await long

    assert 0 == before
    assert b"relayed" == answer.body
    assert [("half_plus_two", "predict", "rest", Code.OK)] == recorder.requests
    assert PADDING + '{"instances": [1.0]}' == server.relayed[0].body.decode()


@pytest.mark.parametrize(
    ("path", "model"),
    [
        (PREDICT, RemoteModel(batchable=False)),
        ("/v1/models/nobody:predict", RemoteModel()),
    ],
)
async def test_long_bodies_that_travel_alone_anyway_are_not_read(path: str, model: RemoteModel) -> None:
    """They do not wait for the thread, either."""
    server, recorder = FakeServer(), Recorder()
    async with a_remote_pool(server, recorder, model=model) as pool, busy(in_front_of(pool), recorder) as it:
        answer = await it.ask(PADDING + '{"instances": [1.0]}', path)

    assert b"relayed" == answer.body
    assert 1 == len(server.relayed)


async def test_a_long_body_of_a_model_that_may_be_batched_without_metadata() -> None:
    """Is read, as a short one is."""
    server, recorder = FakeServer(), Recorder()
    model = RemoteModel(batchable=True)
    async with a_remote_pool(server, recorder, model=model) as pool, busy(in_front_of(pool), recorder) as it:
        long = it.ask(PADDING + '{"instances": [1.0]}', "/v1/models/nobody:predict")
        before = len(server.relayed)
        it.gate.opened.set()
        answer = await long

    assert 0 == before
    assert b"relayed" == answer.body


@pytest.mark.parametrize(
    ("verb", "body", "key"),
    [
        ("predict", '{"instances": [1.0]}', "predictions"),
        ("regress", '{"signature_name": "regress", "examples": [{"x": 1.0}]}', "results"),
        ("predict", '{"instances": [1.0', "error"),
    ],
)
async def test_long_bodies_are_bridged_to_a_grpc_door(verb: str, body: str, key: str) -> None:
    """Read, then read again by the model's signature; what is answered is what a short one gets."""
    server, recorder = FakeServer(), Recorder()
    path = f"/v1/models/half_plus_two:{verb}"
    async with a_remote_pool(server, recorder, [GRPC]) as pool, busy(in_front_of(pool), recorder) as it:
        long, short = it.ask(PADDING + body, path), await it.ask(body, path)
        waiting = not long.done()
        it.gate.opened.set()
        answer = await long

    assert waiting
    assert short.status == answer.status
    assert key == "error" or short.body == answer.body  # an error tells its offset
    assert [key] == list(json.loads(answer.body))
    assert recorder.requests[0] == recorder.requests[1]
