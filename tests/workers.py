"""Which tests go to one process together, where ``pytest -n`` has several. No tests.

Each process takes the next bundle as soon as it has done its own, in the order of the files: the many small ones of
``tests/unit`` come last, and fill what is left.
"""

from __future__ import annotations

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

BUNDLES = {
    "tests/servers/": "real servers",
    "tests/soak/": "measurements",
    "tests/browser/": "measurements",
    "tests/packaging/benchmarks/": "measurements",
}
"""What stays together beyond a file: who shares Triton and its like, and of whom two at a time are too much."""


class Bundles(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
    """A file's tests stay together, since they share servers that the first of them starts; so do ``BUNDLES``."""

    def __init__(self, config: pytest.Config, log: Producer | None = None) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return bundle(nodeid)


def bundle(nodeid: str) -> str:
    """What a test belongs to."""
    return next((name for start, name in BUNDLES.items() if nodeid.startswith(start)), nodeid.partition("::")[0])
