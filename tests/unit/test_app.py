"""The composition root on a loop of the test's own; ``tests/integration`` runs it as a process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec
import pytest

from batchproxy import __version__
from batchproxy.app import App, Origin
from batchproxy.config import Config
from batchproxy.core.errors import ConfigError
from batchproxy.frontends.heavy import LONG_BODY
from tests.listening import until
from tests.thread_of_work import Caller, Gate

ANY = "127.0.0.1:0"


def a_config(**more: object) -> Config:
    """One embedded model, every door on a free port."""
    return msgspec.convert(
        {
            "listen": {"rest": ANY, "grpc": ANY, "admin": ANY},
            "pools": [{"name": "p", "endpoints": ["python:tests.models:picky"]}],
            "models": [{"name": "picky", "pool": "p"}],
            **more,
        },
        Config,
    )


@asynccontextmanager
async def running(config: Config) -> AsyncIterator[App]:
    """An app that is started and, in the end, closed."""
    app = App(config)
    try:
        await app.start()
        yield app
    finally:
        await app.aclose()


async def predict(
    app: App, session: aiohttp.ClientSession, door: str = "REST", body: bytes = b'{"instances": [1.0]}'
) -> object:
    """What the model says of 1.0."""
    url = f"http://{app.doors[door].address}/v1/models/picky:predict"
    async with session.post(url, data=body) as answer:
        return json.loads(await answer.read())


async def test_every_door_is_opened_and_either_takes_rest() -> None:
    """The admin door says that all is well, and what was done."""
    async with running(a_config()) as app, aiohttp.ClientSession() as session:
        answers = [await predict(app, session, door) for door in ("REST", "gRPC")]
        ready, status = app.not_ready(), app.status()
        assert app.admin is not None
        async with session.get(f"http://{app.admin.address}/readyz") as answer:
            readyz = answer.status
        await app.drain()

    assert [{"predictions": [2.5]}] * 2 == answers
    assert [] == ready
    assert 200 == readyz
    assert __version__ == status["version"]
    assert ("picky", "p", 2) == tuple(status["models"][0][key] for key in ("name", "pool", "requests"))
    assert [("p", True)] == [(endpoint["pool"], endpoint["up"]) for endpoint in status["endpoints"]]


async def test_closed_doors_stay_closed() -> None:
    """A door that is null in the configuration is not opened."""
    async with running(a_config(listen={"rest": ANY, "grpc": None, "admin": None})) as app:
        doors = list(app.doors)
        await app.drain()

    assert ["REST"] == doors
    assert app.admin is None


async def test_draining_is_unready_at_once_and_drops_nobody() -> None:
    """While it listens on for ``drain_delay_s`` it still answers."""
    async with running(a_config(drain_delay_s=0.2)) as app, aiohttp.ClientSession() as session:
        draining = asyncio.ensure_future(app.drain())
        await asyncio.sleep(0)
        reasons = app.not_ready()
        answer = await predict(app, session)
        dropped = await draining

    assert ["shutting down"] == reasons
    assert {"predictions": [2.5]} == answer
    assert 0 == dropped


async def test_what_may_be_held_is_one_bound_for_all_doors() -> None:
    """A body that would take more than three quarters of it is too long; what waits is counted at every door."""
    async with running(a_config(max_buffered_bytes=1 << 20)) as app, aiohttp.ClientSession() as session:
        url = f"http://{app.doors['REST'].address}/v1/models/picky:predict"
        async with session.post(url, data=bytes((3 << 18) + 1)) as answer:
            status = answer.status
        budgets = {id(door.budget) for door in app.doors.values()}
        engines = {engine.charge == app._budget.charge for engine in app._engines}
        app._budget.charge(5)
        page = app.metrics.render()
        await app.drain()

    assert 413 == status
    assert ({id(app._budget)}, {True}) == (budgets, engines)
    assert b"batchproxy_buffered_bytes 5.0" in page


def names_in(folder: Path) -> list[str]:
    """What is in a folder."""
    return [path.name for path in folder.iterdir()]


async def test_what_was_learned_outlives_a_restart(tmp_path: Path) -> None:
    """With ``state_dir``: written at the end of draining, read at the start; without it nothing is."""
    config = a_config(state_dir=str(tmp_path / "state"))
    async with running(config) as app, aiohttp.ClientSession() as session:
        await predict(app, session)
        await app.drain()
    async with running(config) as app:
        [endpoint] = app.status()["endpoints"]
        await app.drain()
    async with running(a_config()) as app:
        [cold] = app.status()["endpoints"]
        await app.drain()
    names = names_in(tmp_path)

    assert ["state"] == names
    assert [("picky", 1)] == [(known["model"], known["batches"]) for known in endpoint["learned"]]
    assert [] == cold["learned"]


@pytest.mark.parametrize("in_time", [True, False])
async def test_a_long_body_that_is_being_read_is_waited_for(in_time: bool) -> None:
    """As long as draining may take; then its caller is told, and counted."""
    async with running(a_config(drain_timeout_s=30 if in_time else 0.05)) as app, aiohttp.ClientSession() as session:
        assert app._rest is not None
        heavy, gate, first = app._rest.heavy, Gate(), Caller()
        heavy.run(first, gate, first.told.append, 0, None)
        await gate.began.wait()
        body = b" " * LONG_BODY + b'{"instances": [1.0]}'
        waiting = asyncio.ensure_future(predict(app, session, body=body))
        await until(lambda: heavy.unanswered() == 2)
        unanswered = app.unanswered()
        draining = asyncio.ensure_future(app.drain())
        await until(lambda: app.doors["REST"].draining)
        if in_time:
            gate.opened.set()
        answer, dropped = await waiting, await draining
        gate.opened.set()

    assert 2 == unanswered
    assert (0 if in_time else 2) == dropped
    assert (
        {"predictions": [2.5]} if in_time else {"error": "the proxy shut down before the answer was there"}
    ) == answer


async def test_what_is_not_answered_in_time_is_dropped_and_counted() -> None:
    """The caller is told so."""
    config = a_config(
        pools=[{"name": "p", "endpoints": ["python:tests.unit.test_app:never"]}],
        models=[{"name": "picky", "pool": "p"}],
        drain_timeout_s=0.05,
    )
    async with running(config) as app, aiohttp.ClientSession() as session:
        waiting = asyncio.ensure_future(predict(app, session))
        await STARTED.wait()
        unanswered = app.unanswered()
        dropped = await app.drain()
        answer = await waiting

    assert (1, 1) == (unanswered, dropped)
    assert {"error": "the proxy shut down before the answer was there"} == answer


STARTED = asyncio.Event()


async def never(inputs: object) -> None:
    """A model that does not answer."""
    STARTED.set()
    await asyncio.Event().wait()


async def test_a_taken_port_is_a_configuration_error_that_names_the_flag() -> None:
    """And the doors that were opened before are closed again."""
    async with running(a_config()) as app:
        taken = app.doors["REST"].address
        with pytest.raises(ConfigError, match="--rest_api_port"):
            async with running(a_config(listen={"rest": taken, "grpc": None, "admin": None})):
                pass
        await app.drain()


async def test_servers_that_cannot_be_reached_are_a_reason_not_to_be_ready() -> None:
    """The reason names pool and endpoint."""
    config = a_config(pools=[{"name": "tf", "endpoints": ["grpc://127.0.0.1:1"]}], models=[{"name": "*", "pool": "tf"}])
    async with running(config) as app:
        (reason,) = app.not_ready()
        await app.drain()

    assert reason.startswith("pool 'tf': no endpoint has answered its probe: grpc://127.0.0.1:1: ")


async def test_the_configuration_is_read_again_when_asked_to() -> None:
    """And counted; not while the process ends."""
    other = a_config(models=[{"name": "other", "pool": "p"}])
    app = App(a_config(), origin=Origin(lambda: other, (), ()))
    try:
        await app.start()
        app.hang_up()
        await until(lambda: app.reload.counts["applied"] == 1)
        served = [model.info.name for model in app._directory.models()]
        page = app.metrics.render()
        told = app.status()["configuration"]
        await app.drain()
        app.hang_up()
    finally:
        await app.aclose()

    assert ["other"] == served
    assert b'batchproxy_config_reloads_total{result="applied"} 1.0' in page
    assert {"applied": 1, "refused": 0, "fault": "", "needs_restart": []} == told
    assert 1 == app.reload.counts["applied"]
