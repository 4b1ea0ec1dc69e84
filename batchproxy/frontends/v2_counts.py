"""Statistics of models out of our own counts: of embedded ones, and of those on servers that have no such thing to ask.

Nothing is counted here (``core.counts``), nothing written (``codecs.v2_statistics``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from batchproxy.codecs.v2_statistics import Statistics
from batchproxy.core.counts import Counts
from batchproxy.core.errors import Code, RequestError
from batchproxy.core.request import Version
from batchproxy.core.shapes import ModelInfo
from batchproxy.frontends.directory import Directory, Served
from batchproxy.frontends.remote import RemotePool
from batchproxy.frontends.v2_bridge import find
from batchproxy.observe import Observer


class OurCounts:
    """What is told of calls.

    Args:
        directory: the models.
        observer: counts their calls.
        clock: the engines' own, in seconds.
    """

    def __init__(self, directory: Directory, observer: Observer, clock: Callable[[], float]) -> None:
        self._directory = directory
        self._observer = observer
        self._clock = clock

    def here(self, model: str, version: Version) -> list[Statistics]:
        """Those of an embedded model's version, of all its versions where none is named, or of all models.

        All are the embedded ones, and those that are known on servers of another protocol.

        Args:
            model: its name; empty for all.
            version: as for ``BatchKey``.

        Raises:
            UnknownModel: there is none.
            RequestError: UNIMPLEMENTED: servers of the protocol have it, and count themselves.
        """
        if not model:
            return self._of_all()
        if self._directory.remote(model) is not None:
            raise RequestError(
                f"model {model!r} is on servers that count themselves, behind their other door: ask by that protocol, "
                "or add the door to the pool; batchproxy's own counts are on the admin port, under /metrics",
                code=Code.UNIMPLEMENTED,
            )
        served: Sequence[Served] = () if version is not None else self._directory.versions(model)
        infos = [one.info for one in served or [find(self._directory, model, version)]]
        return [self._of(info.name, info.version) for info in infos]

    def on_servers(self, pool: RemotePool, model: str, version: Version, info: ModelInfo) -> list[Statistics]:
        """Those of the version that answers to what is asked for; where no version is named, of all in use.

        Args:
            pool: has the model.
            model: its name.
            version: as for ``BatchKey``.
            info: what a server says of that.
        """
        return self._in_use(pool, model, {info.version}, alone=version is not None)

    def _of_all(self) -> list[Statistics]:
        infos = [one.info for newest in self._directory.models() for one in self._directory.versions(newest.info.name)]
        found = [self._of(info.name, info.version) for info in infos]
        for pool in self._directory.pools():
            known = [] if pool.v2 else pool.catalogue.names()
            for model in dict.fromkeys(model for model, _, _ in known):
                if self._directory.remote(model) is pool:
                    found += self._in_use(pool, model, set())
        return found

    def _in_use(self, pool: RemotePool, model: str, versions: set[int], *, alone: bool = False) -> list[Statistics]:
        """By number; calls were counted under the names that they were made by."""
        names = [(name, version) for known, name, version in pool.catalogue.names() if known == model]
        if not alone:
            versions = versions | {version for _, version in names}
        return [
            self._of(model, one, [name for name, meant in names if meant == one and name != one])
            for one in sorted(versions)
        ]

    def _of(self, model: str, version: int, names: Iterable[Version] = ()) -> Statistics:
        """One version's, with its other names."""
        counts, counted = Counts(), self._observer.counted
        for name in (version, *names):
            counts.add(counted.of(model, name))
        began = time.time() - self._clock()  # noqa: TID251 - callers are told a date
        last_ms = 0 if counts.last is None else round(1000 * (began + counts.last))
        return Statistics(model, version, counts, last_ms)
