"""Addresses in words."""

from __future__ import annotations

import pytest

from batchproxy.frontends.address import host_port


@pytest.mark.parametrize(
    ("host", "expected"), [("127.0.0.1", "127.0.0.1:80"), ("::1", "[::1]:80"), ("localhost", "localhost:80")]
)
def test_only_ipv6_hosts_are_bracketed(host: str, expected: str) -> None:
    """As in a URL."""
    assert expected == host_port(host, 80)
