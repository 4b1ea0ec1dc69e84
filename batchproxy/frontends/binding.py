"""The listening sockets of one address: made here, or inherited from whoever listened before. No connections here."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from batchproxy.frontends.address import host_port

BACKLOG = 4096
"""Connections the kernel keeps until we accept them; Linux cuts it to ``net.core.somaxconn``, 4096 by default."""


class Binding:
    """Where a listener listens.

    Args:
        host: address to bind.
        port: port to bind; 0: any free one.
        unix_path: a socket's path, instead of both.
        inherited: sockets that listen there already, instead of new ones.

    Attributes:
        address: ``host:port`` or ``unix:path``.
        kept: whether another process goes on with the sockets, so that a path stays where it is.
    """

    def __init__(self, host: str, port: int, unix_path: str | None, inherited: Sequence[socket.socket] = ()) -> None:
        self._host, self._port, self._path = host, port, unix_path
        self.address = host_port(host, port) if unix_path is None else f"unix:{unix_path}"
        self._inherited = inherited
        self._servers: list[asyncio.Server] = []
        self.kept = False

    async def open(
        self, make: Callable[[], asyncio.BaseProtocol], tls: ssl.SSLContext | None, handshake_s: float | None
    ) -> None:
        """Begin to take connections.

        Args:
            make: a connection's protocol.
            tls: for connections within TLS.
            handshake_s: how long that may take to begin; None without TLS.

        Raises:
            OSError: the address cannot be bound.
        """
        loop = asyncio.get_running_loop()
        options: Any = {"ssl": tls, "backlog": BACKLOG, "ssl_handshake_timeout": handshake_s}
        create: Any = loop.create_server if self._path is None else loop.create_unix_server
        if self._inherited:
            self._servers = [await create(make, sock=one, **options) for one in self._inherited]
        elif self._path is None:
            self._servers = [await loop.create_server(make, self._host, self._port, **options)]
        else:
            self._servers = [await loop.create_unix_server(make, self._path, **options)]
        if self._path is None:
            self.address = host_port(self._host, self._servers[0].sockets[0].getsockname()[1])

    def sockets(self) -> list[socket.socket]:
        """Those that listen, as copies: whoever asks closes them."""
        return [
            socket.socket(one.family, one.type, one.proto, fileno=socket.dup(one.fileno()))
            for server in self._servers
            for one in server.sockets
        ]

    def close(self) -> None:
        """Take no more connections."""
        servers, self._servers = self._servers, []
        for server in servers:
            server.close()
        if servers and self._path is not None and not self.kept:
            Path(self._path).unlink(missing_ok=True)


def fits(one: socket.socket, host: str, port: int, unix_path: str | None, *, named: bool = True) -> bool:
    """Whether an inherited socket listens where a door should.

    Args:
        one: the socket.
        host: of the door; a name may stand for any address.
        port: of the door; 0 is any, of a socket that was handed over for this door.
        unix_path: of the door, instead of both.
        named: whether the socket was handed over for this door, rather than for any that it fits.
    """
    if unix_path is not None:
        return one.family is socket.AF_UNIX and one.getsockname() == unix_path
    if one.family is socket.AF_UNIX:
        return False
    its_host, its_port = one.getsockname()[:2]
    if port != its_port and not (named and port == 0):
        return False
    try:
        return ipaddress.ip_address(its_host) == ipaddress.ip_address(host)
    except ValueError:
        return True  # a name
