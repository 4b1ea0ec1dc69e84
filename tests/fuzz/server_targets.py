"""A fuzz target with processes behind it: generated models and requests, proxied and direct. Not in the smoke test.

The models are others in every run; ``tests/integration/test_generated.py`` asks the same ones each time.
"""

from __future__ import annotations

import atexit
import functools
import secrets
from contextlib import ExitStack

from hypothesis import given
from hypothesis import strategies as st

from tests.generated.stage import WAYS, Stage, plans, staged


@functools.cache
def _stage() -> Stage:
    """Started when it is first asked for, ended with the program."""
    stack = ExitStack()
    atexit.register(stack.close)
    seed = secrets.randbits(32)
    print(f"servers: models of seed {seed}", flush=True)
    return stack.enter_context(staged(seed))


@given(st.data(), st.sampled_from(WAYS))
def servers(data: st.DataObject, way: str) -> None:
    """R1, without a tolerance."""
    stage = _stage()
    model = data.draw(st.sampled_from(stage.candidates(way)))

    assert [] == stage.differences(way, model, data.draw(plans(way)))


SERVERS = (servers,)
