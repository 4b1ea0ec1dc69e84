"""Addresses in words, and binding them."""

from __future__ import annotations

import pytest
from aiohttp import web

from batchproxy.core.errors import ConfigError
from batchproxy.frontends.address import bind, host_port


@pytest.mark.parametrize(
    ("host", "expected"), [("127.0.0.1", "127.0.0.1:80"), ("::1", "[::1]:80"), ("localhost", "localhost:80")]
)
def test_only_ipv6_hosts_are_bracketed(host: str, expected: str) -> None:
    """As in a URL."""
    assert expected == host_port(host, 80)


async def test_a_taken_port_is_a_configuration_error_that_names_the_flag() -> None:
    """The user learns which flag to change."""
    runners = [web.AppRunner(web.Application()) for _ in range(2)]
    for runner in runners:
        await runner.setup()
    address = await bind(runners[0], "127.0.0.1", 0, "--flag")
    with pytest.raises(ConfigError) as caught:
        await bind(runners[1], "127.0.0.1", int(address.rpartition(":")[2]), "--flag")
    for runner in runners:
        await runner.cleanup()

    assert caught.value.message.startswith(f"cannot listen on {address}: ")
    assert caught.value.message.endswith("choose another --flag")
