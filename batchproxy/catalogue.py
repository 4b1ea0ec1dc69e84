"""What the servers of one pool say of their models: fetched beside the traffic, never waited for by a batch (R5).

Held per concrete version. An unversioned request is taken to mean the version that was last seen to answer; when an
answer names another one, look-ups find nothing until that one is known, and meanwhile requests travel alone.

What is decided upon is never older than ``MAX_AGE_S``, but for the time that a server takes to answer: names in use are
asked again before that, and one that nobody asked for in a while is as good as unknown. Only what a server confirmed is
kept, so names that callers make up cost no memory.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from batchproxy.core.errors import BatchProxyError, Code
from batchproxy.core.request import Version
from batchproxy.core.shapes import ModelInfo
from batchproxy.tasks import Tasks

logger = logging.getLogger("batchproxy.catalogue")

MAX_AGE_S = 1.0
"""How old an answer may be that is decided upon: TF Serving looks for versions as often."""

RENEW_S = MAX_AGE_S / 2
"""How soon a name in use is asked again."""

KEPT_S = 10.0
"""How long after the last look a name is in use, and how long a version is kept that answers no more: in a pool whose
servers are replaced one by one, two versions take turns."""

MAX_FETCHES = 16
"""Fetches under way at once: a flood of made-up names must not become a flood of questions."""

_GONE = frozenset({Code.NOT_FOUND, Code.INVALID_ARGUMENT, Code.FAILED_PRECONDITION, Code.UNIMPLEMENTED})
"""What a server says of a model, version or label that it does not have, or of a question it cannot answer."""

Fetch = Callable[[str, Version], Awaitable[ModelInfo]]
Asked = tuple[str, Version]


class Timer(Protocol):
    """What ``later`` returns."""

    def cancel(self) -> None: ...


Later = Callable[[float, Callable[[], None]], Timer]


class _Known:
    """What was found out about a name as it is asked for.

    Attributes:
        version: that answers.
        confirmed: when a server said so, on the catalogue's clock; or when none could say anything else.
        looked: when somebody wanted to know.
        late: it grew too old while nobody looked: it is not used before a server was asked.
    """

    __slots__ = ("confirmed", "late", "looked", "version")

    def __init__(self, version: int, now: float) -> None:
        self.version = version
        self.confirmed = self.looked = now
        self.late = False


class Catalogue:
    """The models of one pool.

    Args:
        fetch: asks a server of the pool; raises ``BatchProxyError`` where it does not know the model, or cannot say.
        clock: monotonic seconds.
        later: calls back after so many seconds; left out, the running loop does.
        switched: told the model, the name (a label, or None) and the version that it meant, where it means another now.

    Attributes:
        edition: another object whenever ``look`` might say something else than before, and each time that it should be
            asked again, since a name that nobody looks for is forgotten: at least every ``RENEW_S``.
    """

    def __init__(
        self,
        fetch: Fetch,
        clock: Callable[[], float],
        later: Later | None = None,
        switched: Callable[[str, Version, int], None] = lambda model, name, version: None,
    ) -> None:
        self._switched = switched
        self._fetch = fetch
        self._clock = clock
        self._later = later or _by_the_loop
        self._infos: dict[tuple[str, int], tuple[ModelInfo, float]] = {}  # and when it was last said to answer
        self._known: dict[Asked, _Known] = {}
        self._under_way: dict[Asked, asyncio.Task[ModelInfo | BatchProxyError]] = {}
        self._timers: dict[Asked, Timer] = {}
        self._tasks = Tasks()
        self.edition = object()

    def look(self, model: str, version: Version) -> ModelInfo | None:
        """What is known of a model now; None while it is not. Asks the servers where that is nothing, or too old."""
        asked = (model, version)
        known = self._known.get(asked)
        if known is None:
            self._ask(asked)
            return None
        known.looked = now = self._clock()
        if known.confirmed + MAX_AGE_S <= now:
            # A timer that is due is a loop that is busy, which is no reason to let everybody travel alone.
            known.late = known.late or not (asked in self._under_way or asked in self._timers)
            self._ask(asked)
            if known.late:
                return None
        found = self._infos.get((model, known.version))
        if found is None:
            self._ask(asked, known.version)
            return None
        return found[0]

    def knows(self, model: str, version: Version) -> bool:
        """Whether a server confirmed that there is such a model: only then may its name become a label."""
        return (model, version) in self._known

    def names(self) -> list[tuple[str, Version, int]]:
        """The models that servers confirmed, each under every name it was asked for by, and the version meant."""
        return [(model, name, known.version) for (model, name), known in self._known.items()]

    async def find(self, model: str, version: Version) -> ModelInfo:
        """As ``look``, but waits where nothing is known: for callers who cannot be served without.

        Raises:
            BatchProxyError: what the server said, or why none could be asked.
        """
        info = self.look(model, version)
        if info is not None:
            return info
        task = self._under_way.get((model, version)) or self._ask((model, version), urgent=True)
        assert task is not None, "an urgent question was not asked. This is a bug."
        found = await asyncio.shield(task)
        if isinstance(found, BatchProxyError):
            raise found
        return found

    def answered(self, model: str, version: Version, concrete: int) -> None:
        """An answer named the version it came from; 0: it did not say."""
        known = self._known.get((model, version))
        if not concrete or known is None or known.version == concrete:
            return
        self.edition = object()
        self._switched(model, version, known.version)
        known.version = concrete
        found = self._infos.get((model, concrete))
        if found is None:
            self._ask((model, version), concrete)
        else:
            self._infos[model, concrete] = found[0], self._clock()

    def _ask(
        self, asked: Asked, concrete: int | None = None, *, urgent: bool = False
    ) -> asyncio.Task[ModelInfo | BatchProxyError] | None:
        """Ask for a name, or for the version that was seen to answer to it; at most one question a name."""
        if asked in self._under_way or (len(self._under_way) >= MAX_FETCHES and not urgent):
            return None
        task = self._under_way[asked] = self._tasks.spawn(f"metadata-{asked[0]}", self._learn(asked, concrete))
        return task

    async def _learn(self, asked: Asked, concrete: int | None) -> ModelInfo | BatchProxyError:
        model, version = asked
        known = self._known.get(asked)
        before = None if known is None else known.version
        try:
            info = await self._fetch(model, version if concrete is None else concrete)
        except BatchProxyError as error:
            self._refused(asked, error)
            return error
        except Exception as error:
            logger.exception("model %r: its metadata could not be asked for. This is a bug.", model)
            return BatchProxyError(f"internal error: {type(error).__name__}. This is a bug.", code=Code.INTERNAL)
        finally:
            del self._under_way[asked]
        return self._learnt(asked, before, info)

    def _refused(self, asked: Asked, error: BatchProxyError) -> None:
        known = self._known.get(asked)
        if known is None:
            return
        self.edition = object()
        if error.code in _GONE:
            del self._known[asked]
            return
        known.confirmed, known.late = self._clock(), False  # there is nothing newer to be known
        self._renew_later(asked)

    def _learnt(self, asked: Asked, before: int | None, info: ModelInfo) -> ModelInfo:
        model, now = asked[0], self._clock()
        self.edition = object()
        kept = self._infos.get((model, info.version))
        if kept is not None and kept[0] == info:  # one object as long as it says the same
            info = kept[0]
        self._infos[model, info.version] = info, now
        known = self._known.get(asked)
        if known is None:
            known = self._known[asked] = _Known(info.version, now)
        elif known.version in {before, info.version}:
            if kept is None and known.version != info.version:
                logger.info("model %r: version %d answers now, before it was %d", model, info.version, known.version)
            if known.version != info.version:
                self._switched(*asked, known.version)
            known.version, known.confirmed, known.late = info.version, now, False
        # Else a newer answer named yet another version meanwhile, which the next look asks for.
        self._forget_unused(model, now)
        self._renew_later(asked)
        return info

    def _renew_later(self, asked: Asked) -> None:
        if asked not in self._timers:
            self._timers[asked] = self._later(RENEW_S, lambda: self._renew(asked))

    def _renew(self, asked: Asked) -> None:
        del self._timers[asked]
        self.edition = object()
        known = self._known.get(asked)
        if known is not None and self._clock() - known.looked < KEPT_S and self._ask(asked) is None:
            self._renew_later(asked)

    def _forget_unused(self, model: str, now: float) -> None:
        used = {known.version for (name, _), known in self._known.items() if name == model}
        for (name, version), (_, seen) in list(self._infos.items()):
            if name == model and version not in used and seen + KEPT_S <= now:
                del self._infos[name, version]

    async def aclose(self) -> None:
        """Stop asking."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        await self._tasks.aclose()


def _by_the_loop(delay_s: float, call: Callable[[], None]) -> Timer:
    return asyncio.get_running_loop().call_later(delay_s, call)
