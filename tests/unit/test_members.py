"""Servers that come and go, in an engine without sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from batchproxy.backends import Remote
from batchproxy.core.errors import BackendUnavailable, ConfigError
from batchproxy.core.policy import Policies, Policy
from batchproxy.core.raw import GRPC, REST
from batchproxy.discovery import Source
from batchproxy.endpoints import ServerAddress, SourceAddress, parse
from batchproxy.engine import Engine, build_engine
from batchproxy.members import Listing, Members, doors_of, tls_name


class Found:
    """A source that says what the test wants."""

    period_s = 3600.0

    def __init__(self, *names: str) -> None:
        self.names: Sequence[str] = names

    async def look(self) -> Sequence[ServerAddress] | None:
        return [cast("ServerAddress", parse(name)) for name in self.names]


class Stub:
    """A server that answers its probe, or not."""

    def __init__(self, steps: list[str], server: ServerAddress) -> None:
        self._steps, self._name = steps, server.name

    async def probe(self) -> None:
        self._steps.append(f"probed {self._name}")
        await asyncio.sleep(0)
        if "down" in self._name:
            raise BackendUnavailable("down")

    async def aclose(self) -> None:
        self._steps.append(f"closed {self._name}")


class Scene:
    """An engine and its members."""

    def __init__(self, engine: Engine, listing: Listing, steps: list[str]) -> None:
        self.engine, self.steps = engine, steps
        self.members = Members(engine, listing, self.open)

    def open(self, server: ServerAddress) -> Remote:
        return cast("Remote", Stub(self.steps, server))

    def names(self) -> list[str]:
        """The endpoints there are."""
        return sorted(self.engine.fleet.backends)


def listing(*texts: str, source: Found | None = None) -> Listing:
    """Of these endpoints; what is looked up is in ``source``."""
    found: Any = source or Found()
    return Listing("p", [parse(text) for text in texts], lambda address: cast("Source", found))


@asynccontextmanager
async def a_scene(listed: Listing) -> AsyncIterator[Scene]:
    """Everything is closed in the end."""
    steps: list[str] = []
    backends = {name: cast("Remote", Stub(steps, server)) for name, server in listed.servers().items()}
    engine = build_engine("p", backends, Policies({}, Policy()))
    scene = Scene(engine, listed, steps)
    try:
        yield scene
    finally:
        await scene.members.aclose()
        await engine.aclose()


async def test_new_servers_are_probed_before_former_ones_are_left() -> None:
    """So that somebody is there at every moment; those that stay are not touched."""
    source = Found("grpc://a:1", "grpc://b:1")
    async with a_scene(listing("grpc://s:1", "dns+grpc://x:1", source=source)) as scene:
        await scene.members.start()
        first = scene.names()
        source.names = ["grpc://c:1", "grpc://down:1"]
        scene.steps.clear()
        await scene.members.watches[0].look()
        second, steps = scene.names(), list(scene.steps)
        up = {endpoint.name for endpoint in scene.engine.scheduler.balancer.endpoints if endpoint.up}
        await scene.members.start()

    assert ["grpc://a:1", "grpc://b:1", "grpc://s:1"] == first
    assert ["grpc://c:1", "grpc://down:1", "grpc://s:1"] == second
    assert {"probed grpc://c:1", "probed grpc://down:1"} <= set(steps)
    assert {"grpc://c:1", "grpc://s:1"} >= up > set()
    assert {"added": 4, "removed": 2} == scene.members.changes


async def test_another_configuration_keeps_what_was_found() -> None:
    """Of the sources that it still names, even while these say nothing."""
    source = Found("grpc://a:1")
    async with a_scene(listing("dns+grpc://x:1", source=source)) as scene:
        await scene.members.start()
        source.names = []
        await scene.members.change(listing("grpc://t:1", "dns+grpc://x:1", source=source), scene.open)
        kept, faults = scene.names(), scene.members.faults()
        await scene.members.change(listing("grpc://t:1"), scene.open)
        left = scene.names()

    assert ["grpc://a:1", "grpc://t:1"] == kept
    assert ["dns+grpc://x:1: no server is named"] == faults
    assert ["grpc://t:1"] == left


async def test_servers_that_do_not_fit_are_not_taken() -> None:
    """Any endpoint must be able to take any call."""
    source = Found("grpc://a:1", "http://b:1")
    async with a_scene(listing("grpc://s:1", "dns+grpc://x:1", source=source)) as scene:
        await scene.members.start()
        doors = scene.members.faults()
        source.names = ["v2+grpc://a:1"]
        await scene.members.watches[0].look()
        protocol = scene.members.faults()
        names = scene.names()

    assert "some endpoints have doors that others lack" in doors[0]
    assert "does not speak the protocol of the other endpoints" in protocol[0]
    assert ["grpc://s:1"] == names


def test_endpoints_that_do_not_fit_are_faults() -> None:
    """Of the configuration; the pool is named."""
    with pytest.raises(ConfigError, match="pool 'p': some endpoints have doors that others lack"):
        listing("grpc://a:1", "dns+http://x:1")
    with pytest.raises(ConfigError, match="pool 'p': file:/nowhere: No such file"):
        Listing("p", [parse("file:/nowhere")])


def test_doors_and_names() -> None:
    """What a server speaks; whose name its certificate has."""
    found = parse("dns+grpcs://tf.local:1")
    assert isinstance(found, SourceAddress)
    server = ServerAddress("10.0.0.1:1", grpc_tls=True)

    assert {GRPC, REST} == doors_of(ServerAddress("a:1", "a:2"))
    assert "tf.local" == tls_name([found], server)
    assert tls_name([server], server) is None
    assert tls_name([found], ServerAddress("10.0.0.1:2", grpc_tls=True)) is None
