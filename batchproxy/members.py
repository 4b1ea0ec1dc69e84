"""The servers of one pool while they come and go: those that are configured, and those that are looked up.

Whatever changes, new servers are probed before former ones are left, so that somebody is there at every moment.
Looking up: `discovery`. What becomes of calls under way: `fleet`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import cast

from batchproxy.backends import Remote
from batchproxy.core.errors import ConfigError
from batchproxy.core.raw import GRPC, REST
from batchproxy.discovery import FileSource, Source, Watch, checked, source
from batchproxy.endpoints import Address, Kind, ServerAddress, SourceAddress
from batchproxy.engine import Engine
from batchproxy.tasks import Tasks

FIRST_S = 2.0
"""How long a start waits for the first look-ups: as long as for a probe. Whatever comes later is used then."""


class Listing:
    """What endpoints of the configuration say before anything is looked up, but files, which are read at once.

    Args:
        pool: the name of the pool, for errors.
        addresses: the endpoints.
        source: what looks one up.

    Attributes:
        configured: servers by themselves.
        sources: name to what is looked up.
        first: name of a source to what it said so far.
        doors: the protocols that every server speaks, by any of its doors.
        v2: whether they speak the Open Inference Protocol.

    Raises:
        ConfigError: a file cannot be read, or servers do not fit together.
    """

    def __init__(
        self, pool: str, addresses: Sequence[Address], source: Callable[[SourceAddress], Source] = source
    ) -> None:
        self.configured = [address for address in addresses if isinstance(address, ServerAddress)]
        self.sources: dict[str, Source] = {}
        self.first: dict[str, Sequence[ServerAddress]] = {}
        examples = list(self.configured)
        for address in addresses:
            if not isinstance(address, SourceAddress):
                continue
            try:
                found = self.sources[address.name] = source(address)
                said = checked(found.read()) if isinstance(found, FileSource) else []
            except ConfigError as error:
                raise ConfigError(f"pool {pool!r}: {error.message}") from error
            self.first[address.name] = said
            examples += said if address.server is None else [address.server]
        self.doors, self.v2 = doors_of(examples[0]), examples[0].v2
        for example in examples:
            try:
                self.check(example)
            except ConfigError as error:
                raise ConfigError(f"pool {pool!r}: {error.message}") from error

    def check(self, server: ServerAddress) -> None:
        """Refuse a server that could not take every call of the pool.

        Raises:
            ConfigError: it has other doors, or speaks another protocol.
        """
        if doors_of(server) != self.doors:
            raise ConfigError(
                "some endpoints have doors that others lack, so not every one could take every call; "
                "give each the same doors, as in grpc://HOST:8500,http://HOST:8501"
            )
        if server.v2 is not self.v2:
            raise ConfigError(
                f"{server.name!r} does not speak the protocol of the other endpoints; give it its own pool"
            )

    def servers(self) -> dict[str, ServerAddress]:
        """All that are known, by name."""
        return {server.name: server for server in (*self.configured, *chain(*self.first.values()))}


def doors_of(server: ServerAddress) -> frozenset[str]:
    """The protocols of a server's doors."""
    return frozenset(name for name, door in ((GRPC, server.grpc), (REST, server.rest)) if door is not None)


def tls_name(addresses: Collection[Address], server: ServerAddress) -> str | None:
    """The name that a server's certificate must have, where that is not its host: it was looked up by this one."""
    hosts = server.hosts()
    for address in addresses:
        template = address.server if isinstance(address, SourceAddress) and address.kind is Kind.DNS else None
        if template is not None and any(template.at(host) == server for host in hosts):
            return cast("SourceAddress", address).place
    return None


class Members:
    """Keeps the endpoints of an engine as they should be.

    Args:
        engine: of the pool.
        listing: its servers; those that were known are the engine's already.
        open_server: makes what carries a server's calls.

    Attributes:
        changes: how many servers were "added" and "removed" since the start.
    """

    def __init__(self, engine: Engine, listing: Listing, open_server: Callable[[ServerAddress], Remote]) -> None:
        self.changes = {"added": 0, "removed": 0}
        self._engine = engine
        self._open = open_server
        self._changing = asyncio.Lock()
        self._tasks = Tasks()
        self._begin(listing, {})

    def _begin(self, listing: Listing, known: Mapping[str, Sequence[ServerAddress]]) -> None:
        self._listing = listing
        self._found = {name: known.get(name) or said for name, said in listing.first.items()}
        self.watches = [
            Watch(self._engine.name, name, looked, partial(self._looked_up, listing, name))
            for name, looked in listing.sources.items()
        ]

    async def start(self) -> None:
        """Look everything up, for a while, and go on looking."""
        if self._tasks:
            return
        await self._first_look()
        for watch in self.watches:
            _ = self._tasks.spawn(f"look-up-{watch.name}", watch.keep_looking())

    async def _first_look(self) -> None:
        looks = [self._tasks.spawn(f"look-up-{watch.name}", watch.look()) for watch in self.watches]
        if looks:
            await asyncio.wait(looks, timeout=FIRST_S)

    async def change(self, listing: Listing, open_server: Callable[[ServerAddress], Remote]) -> None:
        """The configuration names other endpoints; what was looked up of those that it still names stays in use."""
        await self._tasks.aclose()
        self._open = open_server
        self._begin(listing, self._found)
        await self._settle()
        await self.start()

    async def _looked_up(self, listing: Listing, name: str, servers: Sequence[ServerAddress]) -> None:
        for server in servers:
            listing.check(server)
        self._found[name] = servers
        await self._settle()

    async def _settle(self) -> None:
        """Have the engine use exactly the servers that are known."""
        async with self._changing:
            engine, fleet = self._engine, self._engine.fleet
            wanted = {server.name: server for server in self._listing.configured}
            wanted |= {server.name: server for found in self._found.values() for server in found}
            added = [name for name in wanted if name not in fleet.backends]
            for name in added:
                fleet.add(name, self._open(wanted[name]))
            removed = [name for name in fleet.backends if name not in wanted]
            if added and removed:
                await engine.probe()
            for name in removed:
                fleet.remove(name)
            self.changes["added"] += len(added)
            self.changes["removed"] += len(removed)

    def faults(self) -> list[str]:
        """What cannot be looked up at present, and why."""
        return [f"{watch.name}: {watch.fault}" for watch in self.watches if watch.fault]

    async def aclose(self) -> None:
        """Look nothing up any more."""
        await self._tasks.aclose()
