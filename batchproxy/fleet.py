"""The backends of one pool: whose calls go where, who is asked whether it is up, what comes and goes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from batchproxy.core.balancer import Endpoint
from batchproxy.core.errors import BackendError, BackendUnavailable

if TYPE_CHECKING:
    from batchproxy.backends.base import Backend
    from batchproxy.core.ends import Failure
    from batchproxy.core.scheduler import Scheduler
    from batchproxy.tasks import Tasks

CHECK_S = 10.0
"""Seconds between two questions to an endpoint that is up whether it still is: the kubelet's ``periodSeconds``."""

MISSED = 3
"""Questions in a row that such an endpoint may leave unanswered: the kubelet's ``failureThreshold``."""


class Fleet:
    """Carries out for one engine what `core.health` decides of its endpoints.

    Args:
        scheduler: decides.
        backends: endpoint name to what carries its calls; this object adds and removes.
        endpoint: makes the book of one more endpoint, by its name.
        tasks: of the engine, which ends them.
        tell: tells callers that nothing is left for them.
        look: to be called where more can be sent than before.

    Attributes:
        backends: of the endpoints that may be used.
        recall: lets an endpoint that is added know what was learned of it before a restart.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        backends: Mapping[str, Backend],
        endpoint: Callable[[str], Endpoint],
        tasks: Tasks,
        tell: Callable[[Sequence[Failure]], None],
        look: Callable[[], None],
    ) -> None:
        self.backends = dict(backends)
        self.recall: Callable[[Endpoint], object] = id  # nobody knows anything
        self._scheduler = scheduler
        self._endpoint = endpoint
        self._tasks = tasks
        self._tell = tell
        self._look = look
        self._leaving: dict[Endpoint, Backend] = {}
        self._missed: dict[Endpoint, int] = {}

    def of(self, endpoint: Endpoint) -> Backend:
        """What carries the calls of an endpoint that was given one."""
        return self._leaving[endpoint] if endpoint.gone else self.backends[endpoint.name]

    def add(self, name: str, backend: Backend) -> None:
        """One more endpoint: it is probed at once, and used as soon as it answers.

        Raises:
            ValueError: there is one of this name.
        """
        if name in self.backends:
            raise ValueError(f"endpoint {name} is in the pool already")
        endpoint = self._endpoint(name)
        self.recall(endpoint)
        self.backends[name] = backend
        self._scheduler.add_endpoint(endpoint)
        self._look()  # where fewer than half of them are well now, those that were left out are used
        _ = self._tasks.spawn(f"probe-{name}", self._probe(endpoint))

    def remove(self, name: str) -> None:
        """Send nothing more there. Its backend is closed when the last call under way there has ended.

        Raises:
            KeyError: there is none of this name.
        """
        backend = self.backends.pop(name)
        endpoint = next(each for each in self._scheduler.balancer.endpoints if each.name == name)
        self._leaving[endpoint] = backend
        _ = self._missed.pop(endpoint, None)
        self._tell(self._scheduler.remove_endpoint(endpoint))
        self.released(endpoint)
        self._look()

    def released(self, endpoint: Endpoint) -> None:
        """A call ended there: if it was the last one of an endpoint that was removed, its backend is closed."""
        if endpoint.gone and not endpoint.busy:
            _ = self._tasks.spawn(f"close-{endpoint.name}", self._close(endpoint))

    async def _close(self, endpoint: Endpoint) -> None:
        backend = self._leaving.get(endpoint)
        if backend is not None:
            await backend.aclose()
            _ = self._leaving.pop(endpoint, None)

    def take_out(self, endpoint: Endpoint, error: BackendError) -> None:
        """It could not be reached: it is left out until a probe is answered."""
        was_up = endpoint.up
        self._tell(self._scheduler.take_out(endpoint, error.message))
        if was_up:
            self._look()  # as in `add`

    async def probe(self) -> None:
        """Ask every endpoint that is not up whether it is now."""
        down = [endpoint for endpoint in self._scheduler.balancer.endpoints if not endpoint.up]
        await asyncio.gather(*(self._probe(endpoint) for endpoint in down))

    async def keep_probing(self, interval_s: float) -> None:
        """Probe what is not up, every ``interval_s`` seconds, until cancelled."""
        while True:
            await asyncio.sleep(interval_s)
            await self.probe()

    async def _probe(self, endpoint: Endpoint) -> None:
        if endpoint.gone:
            return
        try:
            await self.of(endpoint).probe()
        except BackendError as error:
            if not endpoint.gone:
                endpoint.last_error = error.message
        else:
            self._scheduler.bring_back(endpoint)
            self._look()

    async def check(self) -> None:
        """Ask every endpoint that is up whether it still is: one that is about to stop says so before its calls fail.

        The last one stays: what its answers are worth, callers find out.
        """
        await asyncio.gather(*(self._check(endpoint) for endpoint in self._scheduler.balancer.endpoints if endpoint.up))

    async def keep_checking(self) -> None:
        """Do so every ``CHECK_S`` seconds, until cancelled."""
        while True:
            await asyncio.sleep(CHECK_S)
            await self.check()

    async def _check(self, endpoint: Endpoint) -> None:
        missed = self._missed.pop(endpoint, 0)
        try:
            await self.of(endpoint).probe()
        except BackendError as error:
            if endpoint.gone or not endpoint.up:
                return
            missed = MISSED if isinstance(error, BackendUnavailable) else missed + 1  # it says so, or is out of reach
            others = (each for each in self._scheduler.balancer.endpoints if each is not endpoint)
            if missed >= MISSED and any(each.up and not each.out for each in others):
                self.take_out(endpoint, error)
            else:
                self._missed[endpoint] = missed

    async def aclose(self) -> None:
        """Close all; nothing is under way any more."""
        for backend in (*self.backends.values(), *self._leaving.values()):
            await backend.aclose()
