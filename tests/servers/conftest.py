"""The real servers, started once for all tests in here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.fixture import KINDS, RealServer, running_servers


@pytest.fixture(scope="session")
def servers() -> Iterator[dict[str, RealServer]]:
    """Every kind of real server, with all models of the zoo."""
    with running_servers(tuple(KINDS)) as found:
        yield found


@pytest.fixture(params=tuple(KINDS))
def server(request: pytest.FixtureRequest, servers: dict[str, RealServer]) -> RealServer:
    """Each of them."""
    return servers[request.param]
