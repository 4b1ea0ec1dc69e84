"""What holds for every test: deterministic hypothesis, who shares a process. Fixtures live beside their tests."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from xdist.remote import Producer

    from tests.workers import Bundles

# "ci" is the default: the same examples in every run, so that a failure is a failure of the change.
# HYPOTHESIS_PROFILE=explore looks for new ones and remembers what it found.
settings.register_profile(
    "ci",
    derandomize=True,
    deadline=None,  # neighbours slow this machine by up to 1.8x
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],  # as above: measured in wall time
)
settings.register_profile("explore", parent=settings.get_profile("ci"), derandomize=False, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Bundles:
    """Tests that share servers stay together."""
    from tests.workers import Bundles  # noqa: PLC0415 - only where there are several processes

    return Bundles(config, log)


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Bytes that are no text are in no test's name, which is the same in each process: gzip's tell the time."""
    return argname if isinstance(val, bytes) and not (val.isascii() and val.decode("ascii").isprintable()) else None
