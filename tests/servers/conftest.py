"""The real servers, started once for all tests in here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.fixture import KINDS, RealServer, running_servers


@pytest.fixture(scope="session")
def servers() -> Iterator[dict[str, RealServer]]:
    """Every kind of real server, with all models of the zoo."""
    with running_servers(tuple(KINDS)) as found:
        yield found


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whichever test comes first waits for Triton and its seventeen processes: 7 s here, more on a loaded machine."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(240))
