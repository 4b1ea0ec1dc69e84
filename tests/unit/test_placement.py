"""Servers are asked again for models that they did not have."""

from __future__ import annotations

import asyncio
from typing import cast

from batchproxy.backends import Remote
from batchproxy.backends.tfserving import TfServingBackend
from batchproxy.codecs.tfs_grpc import State, VersionStatus
from batchproxy.core.errors import BackendRejected, Code
from batchproxy.core.policy import Policies, Policy
from batchproxy.core.request import Version
from batchproxy.core.shapes import ModelInfo
from batchproxy.engine import build_engine
from batchproxy.placement import ask, keep_asking
from tests.listening import until


class Statuses(TfServingBackend):
    """A TF Serving process whose models are in this state."""

    def __init__(self, state: State) -> None:
        super().__init__(grpc="127.0.0.1:1")
        self.state = state

    async def status(self, model: str, version: Version) -> tuple[VersionStatus, ...]:
        if self.state is State.UNKNOWN:
            raise BackendRejected("Could not find any versions of model m", code=Code.NOT_FOUND)
        return (VersionStatus(1, State.END), VersionStatus(2, self.state))


class Metadata:
    """A server of the Open Inference Protocol."""

    async def metadata(self, model: str, version: Version) -> ModelInfo:
        return ModelInfo(model, 1, {})

    async def aclose(self) -> None:
        pass


async def test_it_is_used_again_once_a_version_is_available() -> None:
    """While it loads, or says nothing, it is not; a server of the Open Inference Protocol tells by its metadata."""
    loading, unknown = Statuses(State.LOADING), Statuses(State.UNKNOWN)
    backends = {"a": loading, "b": unknown, "c": cast("Remote", Metadata()), "d": Statuses(State.AVAILABLE)}
    engine = build_engine("p", backends, Policies({}, Policy()))
    balancer = engine.scheduler.balancer
    for endpoint in balancer.endpoints:
        endpoint.up = True
    for endpoint in balancer.endpoints[:3]:
        balancer.placement.lacks(endpoint, "m", None, balancer.endpoints, lambda line: None)
    await ask(engine)
    first = {endpoint.name for endpoint in balancer.placement.absent["m", None]}
    loading.state = unknown.state = State.AVAILABLE
    asking = asyncio.ensure_future(keep_asking(engine, 0.001))
    await until(lambda: not balancer.placement.absent)
    asking.cancel()
    await asyncio.wait([asking])
    await engine.aclose()

    assert {"a", "b"} == first
