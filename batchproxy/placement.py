"""Asks servers for models that they did not have: as soon as they say that they have one, they get calls for it.

Who has what is noted in `core.placement`; nothing is decided here.
"""

from __future__ import annotations

import asyncio
from typing import cast

from batchproxy.backends import Remote
from batchproxy.backends.tfserving import TfServingBackend
from batchproxy.codecs.tfs_grpc import State
from batchproxy.core.balancer import Endpoint
from batchproxy.core.errors import BackendError
from batchproxy.core.request import Version
from batchproxy.engine import Engine


async def keep_asking(engine: Engine, interval_s: float) -> None:
    """Ask every ``interval_s`` seconds, until cancelled."""
    while True:
        await asyncio.sleep(interval_s)
        await ask(engine)


async def ask(engine: Engine) -> None:
    """Ask every server once for each model that it lacks."""
    absent = engine.scheduler.balancer.placement.absent
    questions = [(endpoint, *placed) for placed, endpoints in absent.items() for endpoint in endpoints if endpoint.up]
    await asyncio.gather(*(_ask(engine, *question) for question in questions))


async def _ask(engine: Engine, endpoint: Endpoint, model: str, version: Version) -> None:
    try:
        there = await _has(cast("Remote", engine.fleet.of(endpoint)), model, version)
    except (BackendError, KeyError):  # KeyError: it was removed and closed meanwhile
        return
    if there:
        engine.scheduler.health.placed(endpoint, model, version)


async def _has(server: Remote, model: str, version: Version) -> bool:
    if isinstance(server, TfServingBackend):
        return any(status.state is State.AVAILABLE for status in await server.status(model, version))
    await server.metadata(model, version)
    return True
