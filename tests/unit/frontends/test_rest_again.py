"""Requests that are like earlier ones, many at once; that nothing is different by it, says test_crowd.py."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import chain
from typing import Any

import pytest

from batchproxy.codecs.json_templates import MAX_BODY, JsonTemplates
from batchproxy.codecs.tfs_rest import Target
from batchproxy.codecs.tfs_rows import JsonRows
from batchproxy.core.errors import Code
from batchproxy.core.raw import REST, RawCall
from batchproxy.core.request import BatchKey, Entry
from batchproxy.engine import Engine
from batchproxy.frontends.callers import Http1Caller
from batchproxy.frontends.remote import RemotePool
from batchproxy.frontends.rest_again import Again
from batchproxy.frontends.rest_answers import RestAnswer
from batchproxy.frontends.rest_relay import RestRelay, Templates
from batchproxy.frontends.rest_routes import RestRoutes
from batchproxy.frontends.terms import Terms
from batchproxy.wire.http1_head import Head, Headers
from tests.remotes import FakeServer, a_remote_pool
from tests.serving import Recorder, a_directory
from tests.unit.frontends.test_crowd import identity, settled

PATH = "/v1/models/%s:predict"
BODY = b'{"instances": [[%d.5, 2.25]]}'


class Asked(Http1Caller):
    """A caller without a connection, which remembers its answer."""

    __slots__ = ("said",)

    def __init__(self, head: Head, body: bytes) -> None:
        super().__init__(None, head, body, 0)  # type: ignore[arg-type]
        self.said: RestAnswer | None = None

    def __call__(self, answer: RestAnswer) -> None:
        assert self.said is None
        self.said = answer

    @staticmethod
    def respond_all(callers: Any, said: Any) -> None:
        for caller, body in zip(callers, said.bodies, strict=True):
            caller(said.like._replace(body=body))


def head_of(model: str = "a", length: int = 30, **fields: str) -> Head:
    """Of a request for a model."""
    named = {name.replace("_", "-").encode(): value.encode() for name, value in fields.items()}
    head = Head("POST", PATH % model, Headers(named))
    head.length = length
    return head


class Scene:
    """Routes that know the usual requests, and who is asked instead where they do not."""

    def __init__(self, routes: RestRoutes) -> None:
        self.routes = routes
        self.others: list[Http1Caller] = []

    async def ask(self, *callers: Asked) -> list[int]:
        """Statuses; 0 for who was left to somebody else."""
        self.routes.handle_all(callers, time.monotonic(), self.others.append)
        await settled()
        return [caller.said.status if caller.said is not None else 0 for caller in callers]


@asynccontextmanager
async def a_scene() -> AsyncIterator[tuple[Scene, Recorder, dict[str, Engine]]]:
    """With the models a and b."""
    recorder = Recorder()
    async with a_directory(recorder, {"a": identity, "b": identity}) as directory:
        routes = RestRoutes(
            directory, recorder, time.monotonic, timeout_s=30.0, deadline_header="x-ms", priority_header="x-level"
        )
        for model in "ab":
            for number in range(2):
                answered: asyncio.Future[RestAnswer] = asyncio.get_running_loop().create_future()
                routes.handle("POST", PATH % model, {}, BODY % number, answered.set_result)
                await answered
        yield Scene(routes), recorder, {served.info.name: served.engine for served in directory.models()}


async def test_each_is_answered_by_its_model() -> None:
    """Neighbours with one head, and others, in one batch a model."""
    async with a_scene() as (scene, recorder, _):
        recorder.calls.clear()
        heads = {"a": head_of("a"), "b": head_of("b")}
        asked = [Asked(heads[model], BODY % number) for number, model in enumerate("aabba")]
        statuses = await scene.ask(*asked)

    assert [200] * 5 == statuses
    assert [b"[%d.5, 2.25]" % number for number in range(5)] == [
        caller.said.body.split(b"[", 1)[1].split(b"\n")[0] for caller in asked if caller.said is not None
    ]
    assert [("a", 3), ("b", 2)] == sorted((model, rows) for model, rows, _ in recorder.calls)
    assert all(caller.on_cancel is not None for caller in asked)


async def test_who_is_not_like_an_earlier_one_is_left_to_others() -> None:
    """By body, path, length, method, or what its headers ask for."""
    get = head_of()
    get.method = "GET"
    asked = [
        Asked(head_of(), b'{"instances": [[1.5, 2.25], [1.5, 2.25]]}'),
        Asked(head_of(), b'{"instances": [[1.5, 2e-9]]}'),
        Asked(head_of("c"), BODY % 1),
        Asked(head_of(length=MAX_BODY + 1), BODY % 1),
        Asked(get, BODY % 1),
        Asked(head_of(x_ms="soon"), BODY % 1),
        Asked(head_of(x_level="urgent"), BODY % 1),
        Asked(head_of(x_ms="20000", x_level="high"), BODY % 1),
    ]
    async with a_scene() as (scene, _, _):
        assert [*[0] * 7, 200] == await scene.ask(*asked)

    assert set(asked[:7]) == set(scene.others)
    assert 7 == len(scene.others)


async def test_terms_are_those_of_the_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadline and priority."""
    async with a_scene() as (scene, _, engines):
        seen: list[Entry] = []
        submit_all = engines["a"].submit_all

        def heard(entries: Sequence[Entry]) -> None:
            seen.extend(entries)
            submit_all(entries)

        monkeypatch.setattr(engines["a"], "submit_all", heard)
        await scene.ask(Asked(head_of(), BODY % 1), Asked(head_of(x_ms="500", x_level="low"), BODY % 2))

    assert [(30.0, None), (0.5, 2)] == [
        (round((entry.request.deadline or 0.0) - entry.arrival, 6), entry.request.priority) for entry in seen
    ]
    assert [BatchKey("a", 1, "serving_default")[:3]] * 2 == [entry.request.key[:3] for entry in seen]


async def test_a_model_that_shuts_down_tells_each() -> None:
    """Those for another one are answered."""
    async with a_scene() as (scene, recorder, engines):
        await engines["b"].drain()
        statuses = await scene.ask(*(Asked(head_of(model), BODY % 1) for model in "abb"))

    assert [200, 503, 503] == statuses
    assert [Code.UNAVAILABLE] * 2 == [code for _, _, _, code in recorder.requests if code is not Code.OK]


# ---------------------------------------------------------------- for a server

HALF = "half_plus_two"
ROW = b'{"instances": [%d.5]}'
NAMED_ROW = b'{"signature_name": "serving_default", "instances": [%d.5]}'
STARTED = 100.0


class Before:
    """What is known of requests for ``half_plus_two`` at a server, and what is queued of them."""

    def __init__(self, pool: RemotePool, monkeypatch: pytest.MonkeyPatch) -> None:
        templates: Templates = JsonTemplates()
        relay = RestRelay(templates, lambda model, verb: lambda started, code: None)
        for body in (ROW % 1, NAMED_ROW % 1):
            relay.request(pool, Target("predict", HALF), RawCall(REST, "POST", PATH % HALF, (), body), None)
        terms = Terms(timeout_s=30.0, deadline_header="x-ms", priority_header="x-level")
        self.again = Again(templates, terms, relay)
        self.queued: list[list[Entry]] = []
        self.others: list[Http1Caller] = []
        monkeypatch.setattr(pool.engine, "submit_all", lambda entries: self.queued.append(list(entries)))

    def together(self, *asked: Asked) -> None:
        """All of them."""
        self.again.all(asked, STARTED, self.others.append)

    def alone(self, asked: Asked) -> None:
        """One of them."""
        head = asked.head
        if self.again.one(head.path, head.headers, asked.body, STARTED, asked) is None:
            self.others.append(asked)


def told(entry: Entry) -> tuple[bytes, tuple[object, ...]]:
    """A request's body, and all else that the queue and the server learn of it."""
    request, raw = entry.request, entry.request.raw
    assert raw is not None
    column = entry.columns["instances"]
    assert isinstance(column, JsonRows)
    waits = None if request.deadline is None else request.deadline - entry.arrival
    texts = [bytes(text) for text in column.texts]
    return raw.body, (request.key, request.rows, request.nbytes, waits, request.priority, raw.path, raw.headers, texts)


async def test_those_for_a_server_are_queued_as_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one kind in one go; whoever may not share a call with others does not."""
    usual = head_of(HALF)
    asked = [
        Asked(usual, ROW % 1),
        Asked(usual, NAMED_ROW % 6),
        Asked(usual, ROW % 2),
        Asked(head_of(HALF, authorization="Bearer a"), ROW % 3),
        Asked(head_of(HALF, x_ms="500", x_level="low"), ROW % 4),
        Asked(usual, ROW % 5),
    ]
    async with a_remote_pool(FakeServer(), Recorder()) as pool:
        known = Before(pool, monkeypatch)
        known.together(*asked)
        together, known.queued = known.queued, []
        for caller in asked:
            known.alone(caller)

    assert [] == known.others
    assert dict(map(told, chain(*known.queued))) == dict(map(told, chain(*together)))
    assert [4, 1, 1] == sorted(map(len, together), reverse=True)
    assert {caller.body for caller in asked} == {told(entry)[0] for entry in chain(*together)}
    assert all(caller.on_cancel is not None for caller in asked)


async def test_those_that_only_look_like_others_are_left_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """One is no JSON, one has two rows; and nobody is taken for known once the model is another one."""
    usual = head_of(HALF)
    strange = [Asked(usual, b'{"instances": [01.5]}'), Asked(usual, b'{"instances": [1.5, 2.5]}')]
    async with a_remote_pool(FakeServer(), Recorder()) as pool:
        known = Before(pool, monkeypatch)
        known.together(Asked(usual, ROW % 1), *strange)
        before, known.others = known.others, []
        pool.catalogue.answered(HALF, None, 8)
        late = [Asked(usual, ROW % number) for number in range(3)]
        known.together(*late)

    assert set(strange) == set(before)
    assert [ROW % 1] == [told(entry)[0] for entry in chain(*known.queued)]
    assert late == known.others
