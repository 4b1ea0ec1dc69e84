"""The real servers, started once for all tests in here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.fixture import KINDS, RealServer, running_servers


@pytest.fixture(scope="session")
def servers() -> Iterator[dict[str, RealServer]]:
    """Every kind of real server, with all models of the zoo. Whichever test comes first waits: 7 s here."""
    with running_servers(tuple(KINDS)) as found:
        yield found
