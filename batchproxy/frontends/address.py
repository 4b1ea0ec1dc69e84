"""Binding an address and naming it. No requests here."""

from __future__ import annotations

from aiohttp import web

from batchproxy.core.errors import ConfigError


def host_port(host: str, port: int) -> str:
    """``host:port``, an IPv6 host in brackets.

    >>> host_port("::1", 8500)
    '[::1]:8500'
    """
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def bind(runner: web.BaseRunner, host: str, port: int, flag: str) -> str:
    """Listen with an aiohttp runner; returns where.

    Args:
        runner: set up before.
        host: address to bind.
        port: port to bind; 0: any free one.
        flag: what chooses another port, for the error's text.

    Raises:
        ConfigError: the address cannot be bound.
    """
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host_port(host, port)}: {error.strerror}; choose another {flag}"
        ) from error
    return host_port(host, runner.addresses[0][1])
