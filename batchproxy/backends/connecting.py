"""Opening one connection of ours to a server. What is said over it is not known here."""

from __future__ import annotations

import asyncio
import ssl


async def connect(
    protocol: asyncio.Protocol,
    host: str,
    port: int,
    *,
    path: str = "",
    tls: ssl.SSLContext | None = None,
    server_name: str | None = None,
) -> None:
    """Open a connection; if it fails or is given up, the protocol is told that it is lost.

    Args:
        protocol: of this connection alone; ``connection_lost`` may be called twice.
        host: of the server.
        port: likewise.
        path: of its unix socket, instead of both.
        tls: None: in the clear.
        server_name: whom its certificate must be of.

    Raises:
        OSError: no connection.
        UnicodeError: the host is no name.
    """
    loop = asyncio.get_running_loop()
    try:
        if path:
            await loop.create_unix_connection(lambda: protocol, path, ssl=tls, server_hostname=server_name)
        else:
            await loop.create_connection(lambda: protocol, host, port, ssl=tls, server_hostname=server_name)
    except BaseException:
        protocol.connection_lost(None)  # given up just when it worked: uvloop closes it and does not say so
        raise
