"""Where the addresses of servers are looked up, again and again: DNS, SRV records, a file. What they change: `members`.

A look that fails changes nothing: the addresses that were found last stay in use, which is what a name server that is
down for a while should cost.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Protocol

from batchproxy.core.errors import ConfigError
from batchproxy.endpoints import Kind, ServerAddress, SourceAddress, parse
from batchproxy.log import Notices

logger = logging.getLogger("batchproxy.discovery")

DNS_S = 5.0
"""Seconds between two look-ups of a name: Envoy's ``dns_refresh_rate``. getaddrinfo tells no times to live."""

FILE_S = 1.0
"""Seconds between two looks at a file, which is read only if it is another one."""

LOOK_S = 10.0
"""How long a look-up may take: resolvers wait 5 s for an answer, and ask twice (resolv.conf(5))."""

MOST = 1000
"""Addresses of one source at most: more are a mistake, or somebody else's."""

Hosts = Callable[[str], Awaitable[Sequence[str]]]
"""A name to the addresses of its hosts; raises OSError."""

Records = Callable[[str], Awaitable[Sequence[tuple[str, int]]]]
"""The name of an SRV record to (host, port) of those of the best priority; raises OSError."""


class Source(Protocol):
    """What can be looked up.

    Attributes:
        period_s: seconds between two looks.
    """

    period_s: float

    async def look(self) -> Sequence[ServerAddress] | None:
        """All servers there are now; None: as before.

        Raises:
            OSError: they could not be looked up.
            ConfigError: what was found are no servers.
        """


class DnsSource:
    """The servers behind a name, a server an address."""

    period_s = DNS_S

    def __init__(self, address: SourceAddress, hosts: Hosts | None = None) -> None:
        assert address.server is not None, "DNS tells no doors. This is a bug."
        self._name, self._server = address.place, address.server
        self._hosts = hosts or hosts_of

    async def look(self) -> Sequence[ServerAddress] | None:
        """See `Source`."""
        return [self._server.at(host) for host in await self._hosts(self._name)]


class SrvSource:
    """The servers of an SRV record, a server a target; weights are not heeded: what servers can do is learned."""

    period_s = DNS_S

    def __init__(self, address: SourceAddress, records: Records | None = None) -> None:
        assert address.server is not None, "SRV tells no doors. This is a bug."
        self._name, self._server = address.place, address.server
        self._records = records or Srv().records_of

    async def look(self) -> Sequence[ServerAddress] | None:
        """See `Source`."""
        server = self._server
        return [
            ServerAddress(
                None if server.grpc is None else f"{host}:{port}",
                None if server.rest is None else f"{host}:{port}",
                server.grpc_tls,
                server.rest_tls,
                server.v2,
            )
            for host, port in await self._records(self._name)
        ]


class FileSource:
    """The servers of a file: one a line, as in ``endpoints``; empty lines and those that begin with # say nothing."""

    period_s = FILE_S

    def __init__(self, address: SourceAddress) -> None:
        self._path = Path(address.place)
        self._seen: tuple[int, int, int] | None = None

    async def look(self) -> Sequence[ServerAddress] | None:
        """See `Source`."""
        found = await asyncio.to_thread(self._read)
        if found is None:
            return None
        text, self._seen = found
        return servers_in(text)

    def read(self) -> Sequence[ServerAddress]:
        """As ``look``, at once: a file that cannot be read when the server starts is an error then."""
        try:
            return servers_in(self._path.read_text())
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"file:{self._path}: {reason(error)}") from error
        except ConfigError as error:
            raise ConfigError(f"file:{self._path}: {error.message}") from error

    def _read(self) -> tuple[str, tuple[int, int, int]] | None:
        with self._path.open() as file:
            status = os.fstat(file.fileno())
            seen = (status.st_ino, status.st_mtime_ns, status.st_size)
            return None if seen == self._seen else (file.read(), seen)


def servers_in(text: str) -> list[ServerAddress]:
    r"""What a file of servers names.

    Raises:
        ConfigError: a line that is none, with its number.

    Example:
        >>> servers_in("# two of them\ngrpc://tf-0:8500\n\ngrpc://tf-1:8500")[1].name
        'grpc://tf-1:8500'
    """
    servers = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.strip()
        if not words or words.startswith("#"):
            continue
        try:
            address = parse(words)
        except ConfigError as error:
            raise ConfigError(f"line {number}: {error.message}") from None
        if not isinstance(address, ServerAddress):
            raise ConfigError(f"line {number}: {words!r} is not a server; write grpc://HOST:PORT or http://HOST:PORT")
        servers.append(address)
    return servers


def source(address: SourceAddress) -> Source:
    """What looks an endpoint up.

    Raises:
        ConfigError: SRV records cannot be asked for here.
    """
    match address.kind:
        case Kind.DNS:
            return DnsSource(address)
        case Kind.SRV:
            return SrvSource(address)
        case Kind.FILE:
            return FileSource(address)


class Watch:
    """One source, looked at now and then.

    Args:
        pool: the name of the pool, for logs.
        name: the source's.
        source: what is looked at.
        changed: gets what there is now; raises ConfigError if that does not fit.

    Attributes:
        fault: why the last look failed; empty where it did not.
        failures: looks that failed so far.
    """

    def __init__(
        self, pool: str, name: str, source: Source, changed: Callable[[Sequence[ServerAddress]], Awaitable[None]]
    ) -> None:
        self.name = name
        self.fault = ""
        self.failures = 0
        self._pool = pool
        self._source = source
        self._changed = changed
        self._notice = Notices(logger)

    async def look(self) -> None:
        """Look once."""
        try:
            async with asyncio.timeout(LOOK_S):  # noqa: TID251 - once every few seconds
                found = await self._source.look()
            if found is not None:
                await self._changed(checked(found))
        except (OSError, UnicodeDecodeError, ConfigError) as error:  # TimeoutError is an OSError
            self.failures += 1
            fault = error.message if isinstance(error, ConfigError) else reason(error)
            if fault != self.fault:
                self._notice(f"pool {self._pool!r}: {self.name}: {fault}; what was found before stays in use")
            self.fault = fault
        else:
            if self.fault:
                logger.info("pool %r: %s: can be looked up again", self._pool, self.name)
            self.fault = ""

    async def keep_looking(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(self._source.period_s)
            await self.look()


def checked(found: Sequence[ServerAddress]) -> list[ServerAddress]:
    """Each server once, in a settled order.

    Raises:
        ConfigError: none, or too many. That none is left is more likely a mistake than the truth, and would end in the
            same: nobody could be answered.
    """
    servers = sorted(set(found), key=lambda server: server.name)
    if not servers:
        raise ConfigError("no server is named")
    if len(servers) > MOST:
        raise ConfigError(f"{len(servers)} servers are named, and {MOST} is the most")
    return servers


def reason(error: OSError | UnicodeDecodeError) -> str:
    """What went wrong, in a few words."""
    if isinstance(error, TimeoutError):
        return f"no answer within {LOOK_S:g} s"
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    return "it is not UTF-8"


async def hosts_of(name: str) -> Sequence[str]:
    """The addresses of a name, as the system's resolver tells them."""
    infos = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in infos))


class Srv:
    """Asks for SRV records, which the standard library cannot: by dnspython.

    Args:
        servers: addresses of name servers; left out, the system's.
        port: where these listen.

    Raises:
        ConfigError: dnspython is not installed.
    """

    def __init__(self, servers: Sequence[str] = (), port: int = 53) -> None:
        try:
            import dns.resolver  # noqa: PLC0415 - an extra, for those who have SRV records
        except ImportError as error:
            raise ConfigError("srv+ endpoints need dnspython: pip install 'batchproxy[srv]'") from error
        self._dns = dns
        self._resolver = dns.resolver.Resolver(configure=not servers)
        if servers:
            self._resolver.nameservers, self._resolver.port = list(servers), port

    async def records_of(self, name: str) -> Sequence[tuple[str, int]]:
        """See `Records`."""
        return await asyncio.to_thread(self._ask, name)

    def _ask(self, name: str) -> Sequence[tuple[str, int]]:
        try:
            records = list(self._resolver.resolve(name, "SRV", lifetime=LOOK_S))
        except self._dns.exception.DNSException as error:
            raise OSError(str(error)) from error
        best = min((record.priority for record in records), default=0)
        return [
            (record.target.to_text(omit_final_dot=True), record.port)
            for record in records
            if record.priority == best and record.target != self._dns.name.root
        ]
