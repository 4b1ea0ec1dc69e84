"""Requests that are like earlier ones, many at once; that nothing is different by it, says test_crowd.py."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from batchproxy.codecs.json_templates import MAX_BODY
from batchproxy.core.errors import Code
from batchproxy.core.request import BatchKey, Entry
from batchproxy.engine import Engine
from batchproxy.frontends.callers import Http1Caller
from batchproxy.frontends.rest_answers import RestAnswer
from batchproxy.frontends.rest_routes import RestRoutes
from batchproxy.wire.http1_head import Head, Headers
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
