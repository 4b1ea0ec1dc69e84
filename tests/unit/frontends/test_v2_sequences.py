"""Calls of a sequence find the server that has it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from batchproxy.core.columns import ArrayColumn
from batchproxy.core.errors import BackendRejected, BatchProxyError, Code, NoEndpoint
from batchproxy.core.policy import Policies, Policy
from batchproxy.core.raw import REST, RawCall
from batchproxy.core.request import BatchKey, Reply, Request
from batchproxy.engine import Engine, build_engine
from batchproxy.frontends.call import Call
from batchproxy.frontends.remote import as_it_came
from batchproxy.frontends.v2_sequences import ask_home, home_of
from tests.remotes import FakeServer

RAW = RawCall(REST, "POST", "/v2/models/m/infer", (), b"{}")


@asynccontextmanager
async def an_engine(count: int) -> AsyncIterator[tuple[Engine, Mapping[str, FakeServer]]]:
    """In front of so many servers, by name."""
    servers = {f"s{number}": FakeServer() for number in range(count)}
    engine = build_engine("servers", servers, Policies({}, Policy()))
    await engine.probe()
    try:
        yield engine, servers
    finally:
        await engine.aclose()


class Outcomes:
    """A format that keeps what it is told."""

    def reply(self, reply: Reply) -> Reply:
        return reply

    def error(self, error: BatchProxyError) -> BatchProxyError:
        return error


def a_call() -> tuple[Call[Any], list[Any]]:
    """A call, and its outcome once there is one."""
    outcomes: list[Any] = []
    return Call(Outcomes(), outcomes.append, lambda *_: None, 0.0), outcomes


async def test_a_sequence_stays_where_it_is() -> None:
    """Each call of it; many sequences spread over the servers; who loses its server goes to another one."""
    async with an_engine(3) as (engine, servers):
        homes = {str(number): home_of(engine, str(number)) for number in range(60)}
        again = {sequence: home_of(engine, sequence) for sequence in homes}
        lost = next(one for one in engine.scheduler.balancer.endpoints if servers[one.name] is homes["0"])
        lost.up = False
        after = {sequence: home_of(engine, sequence) for sequence in homes}

    assert homes == again
    assert {id(server) for server in servers.values()} == {id(server) for server in homes.values()}
    assert homes["0"] not in after.values()
    assert [] == [one for one in homes if homes[one] is not servers[lost.name] and after[one] is not homes[one]]


async def test_a_sequence_is_where_its_model_is() -> None:
    """Not every server has every model; those of other models stay where they are."""
    async with an_engine(2) as (engine, servers):
        balancer = engine.scheduler.balancer
        lacking = next(one for one in balancer.endpoints if servers[one.name] is home_of(engine, "a", "m"))
        assert balancer.placement.lacks(lacking, "m", None, balancer.endpoints, lambda line: None)
        homes = [home_of(engine, "a", model) for model in ("m", "other")]

    assert servers[lacking.name] is not homes[0]
    assert servers[lacking.name] is homes[1]


async def test_calls_are_relayed_or_made_of_columns() -> None:
    """Whichever they are; the answer is the server's, and so is its refusal."""
    columns = {"x": ArrayColumn(np.array([2.0]))}
    async with an_engine(2) as (engine, servers):
        home = home_of(engine, "a")
        waiting, outcomes = a_call()
        await ask_home(waiting, engine, as_it_came(RAW, engine.clock() + 9.0), "a")
        waiting, bridged = a_call()
        await ask_home(waiting, engine, Request(BatchKey("m", None, ""), columns, None, 8), "a")
        for server in servers.values():
            server.answer = BackendRejected("no", code=Code.NOT_FOUND)
        waiting, refused = a_call()
        await ask_home(waiting, engine, as_it_came(RAW, None), "a")

    assert [b"relayed"] == [reply.raw.body for reply in outcomes]
    assert [3.0] == bridged[0].columns["y"].array.tolist()
    assert ["no"] == [error.message for error in refused]
    assert [2, 0] == sorted((len(server.relayed) for server in servers.values()), reverse=True)
    assert 2 == len(next(server for server in servers.values() if server is home).relayed)


async def test_nobody_is_told_twice() -> None:
    """A caller that left hears neither an answer nor an error; without a server there is an error."""
    async with an_engine(2) as (engine, _):
        waiting, outcomes = a_call()
        waiting.cancel()
        await ask_home(waiting, engine, as_it_came(RAW, None), "a")
        for endpoint in engine.scheduler.balancer.endpoints:
            endpoint.up = False
        await ask_home(waiting, engine, as_it_came(RAW, None), "a")
        with pytest.raises(NoEndpoint):
            home_of(engine, "a")
        waiting, told = a_call()
        await asyncio.gather(ask_home(waiting, engine, as_it_came(RAW, None), "a"))

    assert [] == outcomes
    assert [NoEndpoint] == [type(error) for error in told]
