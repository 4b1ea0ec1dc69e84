"""What the servers of one pool say of their models: fetched beside the traffic, never waited for by a batch (R5).

Held per concrete version. An unversioned request is taken to mean the version that was last seen to answer; when an
answer names another one, look-ups find nothing until that one is known, and meanwhile requests travel alone.
Only what a server confirmed is kept, so names that callers make up cost no memory.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from batchproxy.core.errors import BatchProxyError, Code
from batchproxy.core.request import Version
from batchproxy.core.shapes import ModelInfo
from batchproxy.tasks import Tasks

logger = logging.getLogger("batchproxy.catalogue")

MAX_AGE_S = 1.0
"""How old an answer may be before it is asked again, in the background: TF Serving looks for versions as often."""

MAX_FETCHES = 16
"""Fetches under way at once: a flood of made-up names must not become a flood of questions."""

_GONE = frozenset({Code.NOT_FOUND, Code.INVALID_ARGUMENT, Code.FAILED_PRECONDITION, Code.UNIMPLEMENTED})
"""What a server says of a model, version or label that it does not have, or of a question it cannot answer."""

Fetch = Callable[[str, Version], Awaitable[ModelInfo]]


class Catalogue:
    """The models of one pool.

    Args:
        fetch: asks a server of the pool; raises ``BatchProxyError`` where it does not know the model, or cannot say.
        clock: monotonic seconds.
    """

    def __init__(self, fetch: Fetch, clock: Callable[[], float]) -> None:
        self._fetch = fetch
        self._clock = clock
        self._infos: dict[tuple[str, int], ModelInfo] = {}
        self._answering: dict[tuple[str, Version], tuple[int, float]] = {}  # as asked -> version, when last confirmed
        self._under_way: dict[tuple[str, Version], asyncio.Task[ModelInfo | BatchProxyError]] = {}
        self._tasks = Tasks()

    def look(self, model: str, version: Version) -> ModelInfo | None:
        """What is known of a model now; None while it is not. Asks the servers where that is nothing, or old."""
        known = self._answering.get((model, version))
        if known is None:
            self._ask(model, version)
            return None
        concrete, confirmed = known
        if confirmed + MAX_AGE_S <= self._clock():
            self._ask(model, version)
        return self._infos.get((model, concrete))

    def knows(self, model: str, version: Version) -> bool:
        """Whether a server confirmed that there is such a model: only then may its name become a label."""
        return (model, version) in self._answering

    async def find(self, model: str, version: Version) -> ModelInfo:
        """As ``look``, but waits where nothing is known: for callers who cannot be served without.

        Raises:
            BatchProxyError: what the server said, or why none could be asked.
        """
        info = self.look(model, version)
        if info is not None:
            return info
        task = self._under_way.get((model, version)) or self._ask(model, version, urgent=True)
        assert task is not None, "an urgent question was not asked. This is a bug."
        found = await asyncio.shield(task)
        if isinstance(found, BatchProxyError):
            raise found
        return found

    def answered(self, model: str, version: Version, concrete: int) -> None:
        """An answer named the version it came from; 0: it did not say."""
        known = self._answering.get((model, version))
        if not concrete or known is None or known[0] == concrete:
            return
        self._answering[model, version] = (concrete, known[1])
        if (model, concrete) not in self._infos:
            self._ask(model, version)

    def _ask(
        self, model: str, version: Version, *, urgent: bool = False
    ) -> asyncio.Task[ModelInfo | BatchProxyError] | None:
        asked = (model, version)
        if asked in self._under_way or (len(self._under_way) >= MAX_FETCHES and not urgent):
            return None
        task = self._under_way[asked] = self._tasks.spawn(f"metadata-{model}", self._learn(model, version))
        return task

    async def _learn(self, model: str, version: Version) -> ModelInfo | BatchProxyError:
        asked = (model, version)
        try:
            info = await self._fetch(model, version)
        except BatchProxyError as error:
            if error.code in _GONE:
                self._answering.pop(asked, None)
            return error
        else:
            before = self._answering.get(asked)
            if before is not None and before[0] != info.version:
                logger.info("model %r: version %d answers now, before it was %d", model, info.version, before[0])
            if self._infos.get((model, info.version)) != info:  # one object as long as it says the same
                self._infos[model, info.version] = info
            self._answering[asked] = (info.version, self._clock())
            self._forget_unreferenced(model)
            return self._infos[model, info.version]
        finally:
            del self._under_way[asked]

    def _forget_unreferenced(self, model: str) -> None:
        used = {(name, concrete) for (name, _), (concrete, _) in self._answering.items() if name == model}
        for key in [key for key in self._infos if key[0] == model and key not in used]:
            del self._infos[key]

    async def aclose(self) -> None:
        """Stop asking."""
        await self._tasks.aclose()
