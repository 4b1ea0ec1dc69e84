"""All pools of a configuration: opened at the start, and exchanged while requests are answered. Nothing listens here.

A new configuration is applied as a whole or not at all: whatever can be wrong is opened before anything is changed. A
pool whose servers or models are others goes on as it is (`opening.Pool.goes_on_as`); one of another kind is replaced,
and answers what it has taken before it is closed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence

from batchproxy.catalogue import Catalogue
from batchproxy.config import EVERY_OTHER, Config, ModelConfig, PoolConfig
from batchproxy.engine import Engine
from batchproxy.frontends.directory import Directory
from batchproxy.members import Listing
from batchproxy.metrics import Tally
from batchproxy.observe import Observer
from batchproxy.opening import Pool, open_pool
from batchproxy.tasks import Tasks
from batchproxy.versions import VersionWatch
from batchproxy.wire.budget import Budget

logger = logging.getLogger("batchproxy.pools")

RETIRE_S = 15.0
"""How long a pool that was replaced still takes requests: of callers whose bodies were being read, or who waited for
metadata, which servers are given 10 s to tell."""


class Pools:
    """Everything between the routes and the models.

    Args:
        config: what to serve.
        observer: told of each call.
        budget: of the process, for what is held on the way to the models and back; left out, its own.

    Attributes:
        engines: one a pool; the same list for ever.
        directory: which pool has which model.
        opened: told of each engine of a later configuration, before it is used.

    Raises:
        ConfigError: a model cannot be opened, or endpoints of one pool do not fit together.
    """

    def __init__(self, config: Config, observer: Observer, budget: Budget | None = None) -> None:
        self._observer = observer
        self._budget = budget or Budget(config.max_buffered_bytes)
        self._open: dict[str, Pool] = {
            pool.name: open_pool(config, pool, models, self._observer, self._budget) for pool, models in _used(config)
        }
        self._retired: list[Pool] = []
        self._tasks = Tasks()
        self._changing = asyncio.Lock()
        self.directory = Directory(())
        self.opened: Callable[[Engine], object] = id  # nobody wants to know
        self.engines: list[Engine] = []
        for pool in self._open.values():
            pool.publish(self.directory)
        self._publish(())

    @property
    def catalogues(self) -> Sequence[Catalogue]:
        """One a pool of servers."""
        return [pool.remote.catalogue for pool in self._open.values() if pool.remote is not None]

    @property
    def watches(self) -> Sequence[VersionWatch]:
        """One a pool of ONNX models."""
        return [pool.watch for pool in self._open.values() if pool.watch is not None]

    @property
    def answering(self) -> Sequence[Engine]:
        """Those of pools that were replaced, too."""
        return [*self.engines, *(pool.engine for pool in self._retired)]

    def faults(self, engine: Engine) -> list[str]:
        """What cannot be looked up for a pool at present, and why."""
        members = self._open[engine.name].members
        return [] if members is None else members.faults()

    def tallies(self) -> Iterator[Tally]:
        """What pools counted of servers that come and go."""
        for name, pool in self._open.items():
            if pool.members is None:
                continue
            for change, count in pool.members.changes.items():
                labels = {"pool": name, "change": change}
                yield Tally("batchproxy_endpoint_changes", "Endpoints added to pools and removed.", labels, count)
            for watch in pool.members.watches:
                labels = {"pool": name, "source": watch.name}
                yield Tally("batchproxy_discovery_failures", "Look-ups that failed.", labels, watch.failures)

    async def probe(self) -> None:
        """Look up where there are servers, and ask everybody whether they are up."""
        await asyncio.gather(*(pool.members.start() for pool in self._open.values() if pool.members is not None))
        await asyncio.gather(*(engine.probe() for engine in self.engines))

    async def start(self, config: Config) -> None:
        """Go on probing and looking."""
        for pool in self._open.values():
            await pool.start(config.probe_interval_s, config.file_system_poll_wait_seconds)

    # -- another configuration ---------------------------------------------------------------------

    async def change(self, config: Config) -> None:
        """Serve what another configuration says, from now on; nobody who was taken in is turned away.

        Raises:
            ConfigError: it cannot be served; all is as before.
        """
        async with self._changing:
            used = _used(config)
            kept = {
                pool.name: (self._open[pool.name], pool, models)
                for pool, models in used
                if pool.name in self._open and self._open[pool.name].goes_on_as(pool, models)
            }
            listings = {
                name: await asyncio.to_thread(Listing, name, pool.addresses())
                for name, (former, pool, _) in kept.items()
                if former.config.endpoints != pool.endpoints
            }
            for name in [name for name, listing in listings.items() if not _same_doors(kept[name][0], listing)]:
                del kept[name], listings[name]
            fresh = await self._prepare(config, [(pool, models) for pool, models in used if pool.name not in kept])
            former = [pool for name, pool in self._open.items() if name not in kept]
            for pool in former:
                await pool.stop()
            for pool, _, models in kept.values():
                pool.take_over(models, config.backend_timeout_s)
            self._open = {pool.name: kept[pool.name][0] if pool.name in kept else fresh[pool.name] for pool, _ in used}
            for pool in fresh.values():
                pool.publish(self.directory)
            self._publish([model.name for pool in former for model in pool.models])
            for pool in former:
                self._retired.append(pool)
                _ = self._tasks.spawn(f"retire-{pool.engine.name}", self._retire(pool, config.drain_timeout_s))
            await self.start(config)
            for name, listing in listings.items():
                await kept[name][0].change_endpoints(kept[name][1], listing, self._budget)

    async def _prepare(
        self, config: Config, wanted: Sequence[tuple[PoolConfig, Sequence[ModelConfig]]]
    ) -> dict[str, Pool]:
        """Open pools, those that load models in a thread, and have them ready to answer."""
        fresh: dict[str, Pool] = {}
        try:
            for pool, models in wanted:
                arguments = (config, pool, models, self._observer, self._budget)
                fresh[pool.name] = (
                    open_pool(*arguments) if pool.remote else await asyncio.to_thread(open_pool, *arguments)
                )
                fresh[pool.name].check()
        except BaseException:
            for opened in fresh.values():
                await opened.aclose()
            raise
        for one in fresh.values():
            self.opened(one.engine)
        await asyncio.gather(*(pool.members.start() for pool in fresh.values() if pool.members is not None))
        await asyncio.gather(*(pool.engine.probe() for pool in fresh.values()))
        return fresh

    def _publish(self, former: Sequence[str]) -> None:
        """Let models be found where they are now, and those of ``former`` pools, which no pool has any more, not."""
        remotes = {model.name: pool.remote for pool in self._open.values() if pool.remote for model in pool.models}
        embedded = {model.name for pool in self._open.values() if not pool.remote for model in pool.models}
        default = remotes.pop(EVERY_OTHER, None)
        self.directory.change([name for name in former if name not in embedded], remotes, default)
        self.engines[:] = [pool.engine for pool in self._open.values()]

    async def _retire(self, pool: Pool, drain_timeout_s: float) -> None:
        await asyncio.sleep(RETIRE_S)
        drained = self._tasks.spawn(f"drain-{pool.engine.name}", pool.engine.drain())
        if (await asyncio.wait([drained], timeout=drain_timeout_s))[1]:
            logger.warning(
                "pool %r: it was replaced, and %d requests were not answered in time",
                pool.engine.name,
                pool.engine.strand(),
            )
        self._retired.remove(pool)
        await pool.aclose()

    async def aclose(self) -> None:
        """Free everything."""
        await self._tasks.aclose()
        for pool in (*self._open.values(), *self._retired):
            await pool.aclose()


def open_pools(config: Config, observer: Observer, budget: Budget | None = None) -> Pools:
    """Open every pool that a model refers to; see `Pools`."""
    return Pools(config, observer, budget)


def _used(config: Config) -> list[tuple[PoolConfig, list[ModelConfig]]]:
    """The pools that a model refers to, with their models."""
    found = [(pool, [model for model in config.models if model.pool == pool.name]) for pool in config.pools]
    return [(pool, models) for pool, models in found if models]


def _same_doors(pool: Pool, listing: Listing) -> bool:
    return pool.remote is not None and (pool.remote.doors, pool.remote.v2) == (listing.doors, listing.v2)
