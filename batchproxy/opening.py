"""One pool becomes objects here: backends, an engine, and what the routes need of it. All pools together: `pools`."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence

import msgspec

from batchproxy.backends import Embedded, Remote, open_backend
from batchproxy.backends.onnx_versions import OnnxVersions, VersionPolicy
from batchproxy.backends.servers import Options
from batchproxy.backends.tfserving import TfServingBackend
from batchproxy.backends.tls import ClientTls
from batchproxy.backends.v2_server import V2Backend
from batchproxy.catalogue import Catalogue
from batchproxy.codecs.tfs_grpc import VersionStatus
from batchproxy.codecs.tfs_habits import Habits
from batchproxy.config import EVERY_OTHER, Config, ModelConfig, PoolConfig
from batchproxy.core.errors import ConfigError
from batchproxy.core.policy import Policies, Policy
from batchproxy.core.request import Version
from batchproxy.core.shapes import ModelInfo
from batchproxy.endpoints import Address, OnnxAddress, ServerAddress
from batchproxy.engine import Engine, build_engine
from batchproxy.frontends.directory import Directory, Served, Versions
from batchproxy.frontends.elsewhere import ask_where_served
from batchproxy.frontends.remote import RemoteModel, RemotePool
from batchproxy.log import Notices
from batchproxy.members import Listing, Members, tls_name
from batchproxy.observe import Observer
from batchproxy.placement import keep_asking
from batchproxy.tasks import Tasks
from batchproxy.versions import VersionWatch
from batchproxy.wire.budget import Budget

logger = logging.getLogger("batchproxy.opening")


class Pool:
    """One open pool.

    Args:
        config: what it was opened for.
        engine: drives its calls.
        policies: of its models.
        models: that it serves.

    Attributes:
        remote: what the routes need of servers; None: its models are embedded.
        members: servers that come and go; None as above.
        first: one of the embedded models.
    """

    def __init__(
        self,
        config: PoolConfig,
        engine: Engine,
        policies: Policies,
        models: Sequence[ModelConfig],
        *,
        remote: RemotePool | None = None,
        members: Members | None = None,
        first: Embedded | None = None,
    ) -> None:
        self.config = config
        self.engine = engine
        self.policies = policies
        self.models = tuple(models)
        self.remote = remote
        self.members = members
        self.first = first
        self.watch: VersionWatch | None = None
        self._tasks = Tasks()
        self._rhythm: tuple[float, float] | None = None

    def goes_on_as(self, config: PoolConfig, models: Sequence[ModelConfig]) -> bool:
        """Whether a new configuration can be taken over in place: endpoints of servers, and what holds for models.

        Else another pool takes its place, and this one answers what it has taken.
        """
        same = msgspec.structs.replace(self.config, endpoints=config.endpoints) == config
        if self.remote is not None:
            return same and (not self.remote.v2 or _names(models) == _names(self.models))
        return self.config == config and _names(models) == _names(self.models)

    def publish(self, directory: Directory) -> None:
        """Let embedded models be found.

        Raises:
            ConfigError: a label is for a version that is not there.
        """
        first = self.first
        if first is None:
            return
        names = [model.name for model in self.models]
        if isinstance(first, OnnxVersions):
            self.watch = _watch(self.config, names, self.engine, directory)
            return
        for name in names:
            served = Served(ModelInfo(name, first.version, first.signatures), self.engine)
            directory.publish(name, Versions({first.version: served}, [VersionStatus(first.version)], {}))

    def check(self) -> None:
        """Refuse what `publish` would, and tell nobody."""
        if isinstance(self.first, OnnxVersions):
            _ = _watch(self.config, [model.name for model in self.models], self.engine, Directory(()))

    def take_over(self, models: Sequence[ModelConfig], call_timeout_s: float) -> None:
        """Other settings of models, from the next request on; those that wait keep their places."""
        self.models = tuple(models)
        self.policies.change(*_policies(models, remote=self.remote is not None))
        self.engine.scheduler.reconfigure()
        self.engine.scheduler.call_timeout_s = call_timeout_s
        if self.remote is not None:
            options, others = _options(models)
            self.remote = dataclasses.replace(self.remote, models=options, others=others)

    async def change_endpoints(self, config: PoolConfig, listing: Listing, budget: Budget) -> None:
        """Other servers."""
        self.config = config
        if self.members is not None and self.remote is not None:
            await self.members.change(listing, _opener(config, self.models, self.remote.habits, budget))

    async def start(self, probe_interval_s: float, look_s: float) -> None:
        """Probe and look after versions from now on, at this pace.

        Args:
            probe_interval_s: between two probes.
            look_s: between two looks at version folders; 0: none.
        """
        if self._rhythm == (probe_interval_s, look_s):
            return
        self._rhythm = (probe_interval_s, look_s)
        await self._tasks.aclose()
        _ = self._tasks.spawn(f"probe-{self.engine.name}", self.engine.keep_probing(probe_interval_s))
        if self.remote is not None:
            _ = self._tasks.spawn(f"check-{self.engine.name}", self.engine.fleet.keep_checking())
            _ = self._tasks.spawn(f"place-{self.engine.name}", keep_asking(self.engine, probe_interval_s))
        if self.watch is not None and self.watch.watched and look_s:
            _ = self._tasks.spawn("versions", self.watch.keep_looking(look_s))

    async def stop(self) -> None:
        """Look after nothing any more; requests are still answered."""
        await self._tasks.aclose()
        if self.members is not None:
            await self.members.aclose()
        if self.watch is not None:
            await self.watch.aclose()

    async def aclose(self) -> None:
        """Free everything."""
        await self.stop()
        if self.remote is not None:
            await self.remote.catalogue.aclose()
        await self.engine.aclose()


def _names(models: Sequence[ModelConfig]) -> set[str]:
    return {model.name for model in models}


def open_pool(
    config: Config, pool: PoolConfig, models: Sequence[ModelConfig], observer: Observer, budget: Budget
) -> Pool:
    """Open one pool; of one that is embedded this takes as long as loading its models.

    Raises:
        ConfigError: a model cannot be opened, or endpoints of the pool do not fit together.
    """
    opening = _open_remote if pool.remote else _open_embedded
    return opening(config, pool, models, observer, budget)


def _watch(pool: PoolConfig, names: Sequence[str], engine: Engine, directory: Directory) -> VersionWatch:
    copies = [backend for backend in engine.backends.values() if isinstance(backend, OnnxVersions)]
    try:
        return VersionWatch(names, copies, engine, directory, pool.onnx.version_labels)
    except ConfigError as error:
        raise ConfigError(f"pool {pool.name!r}: {error.message}") from error


def _engine(
    config: Config,
    pool: PoolConfig,
    backends: Mapping[str, Embedded] | Mapping[str, Remote],
    models: Sequence[ModelConfig],
    observer: Observer,
    budget: Budget,
) -> tuple[Engine, Policies]:
    policies = Policies(*_policies(models, remote=pool.remote))
    engine = build_engine(
        pool.name,
        backends,
        policies,
        max_inflight=pool.max_inflight,
        max_relayed=pool.max_relayed,
        max_queued_bytes=pool.max_queued_bytes,
        call_timeout_s=config.backend_timeout_s,
        observer=observer,
    )
    engine.charge = budget.charge
    return engine, policies


def _policies(models: Sequence[ModelConfig], *, remote: bool) -> tuple[dict[str, Policy], Policy | None]:
    """By name, and for every other one."""
    named = {model.name: model.policy() for model in models}
    others = named.pop(EVERY_OTHER, None)
    if remote and others is None:
        others = Policy(batching=False)  # calls that name no model are passed on, too
    return named, others


def _open_embedded(
    config: Config, pool: PoolConfig, models: Sequence[ModelConfig], observer: Observer, budget: Budget
) -> Pool:
    """An address given twice is two endpoints, numbered."""
    backends: dict[str, Embedded] = {}
    for address in pool.addresses():
        url = address.name
        number = sum(known == url or known.startswith(f"{url}#") for known in backends)
        try:
            backends[f"{url}#{number + 1}" if number else url] = _open(address, pool)
        except ConfigError as error:
            raise ConfigError(f"pool {pool.name!r}: {error.message}") from error
    first, *others = backends.items()
    for name, backend in others:
        if (backend.version, backend.signatures) != (first[1].version, first[1].signatures):
            raise ConfigError(
                f"pool {pool.name!r}: {name} and {first[0]} are not the same model (version or signatures differ); "
                "endpoints of one pool must be; put the other one into a pool of its own"
            )
    engine, policies = _engine(config, pool, backends, models, observer, budget)
    return Pool(pool, engine, policies, models, first=first[1])


def _open(address: Address, pool: PoolConfig) -> Embedded:
    if not isinstance(address, OnnxAddress):
        return open_backend(address.name)
    onnx = pool.onnx
    policy = onnx.model_version_policy
    return OnnxVersions(
        address.path,
        policy=VersionPolicy(policy.latest or 1, policy.specific, policy.all),
        threads=onnx.threads,
        threads_per_call=onnx.threads_per_call,
        providers=onnx.providers,
        provider_options=onnx.provider_options,
    )


def _open_remote(
    config: Config, pool: PoolConfig, models: Sequence[ModelConfig], observer: Observer, budget: Budget
) -> Pool:
    listing = Listing(pool.name, pool.addresses())
    habits = Habits(Notices(logger))
    open_server = _opener(pool, models, habits, budget)
    backends = {name: open_server(server) for name, server in listing.servers().items()}
    engine, policies = _engine(config, pool, backends, models, observer, budget)
    options, others = _options(models)

    async def fetch(model: str, version: Version) -> ModelInfo:
        info = await ask_where_served(engine, lambda server: server.metadata(model, version))
        engine.scheduler.sizes.declare(model, info.max_rows)
        return info

    catalogue = Catalogue(fetch, engine.clock, switched=observer.counted.settle)
    remote = RemotePool(engine, catalogue, listing.doors, options, others, habits, listing.v2)
    return Pool(pool, engine, policies, models, remote=remote, members=Members(engine, listing, open_server))


def _options(models: Sequence[ModelConfig]) -> tuple[dict[str, RemoteModel], RemoteModel]:
    """By name, and for every other one; what is not to be batched need not be read, either."""
    options = {
        model.name: RemoteModel(model.partition_by, model.batchable if model.batching else False) for model in models
    }
    others = options.pop(EVERY_OTHER, RemoteModel())
    return options, others


def _opener(
    pool: PoolConfig, models: Sequence[ModelConfig], habits: Habits, budget: Budget
) -> Callable[[ServerAddress], Remote]:
    """Makes what carries the calls of a server of the pool."""
    named = [model.name for model in models if model.name != EVERY_OTHER]
    addresses = pool.addresses()
    return lambda server: _server(server, pool, named, habits, budget, tls_name(addresses, server))


def _server(
    address: ServerAddress,
    pool: PoolConfig,
    models: Sequence[str],
    habits: Habits,
    budget: Budget,
    looked_up: str | None,
) -> TfServingBackend | V2Backend:
    tls = ClientTls(pool.tls.ca_file, pool.tls.cert_file, pool.tls.key_file, pool.tls.server_name or looked_up)
    options = Options(
        grpc=address.grpc,
        rest=f"https://{address.rest}" if address.rest_tls else address.rest,
        grpc_tls=tls if address.grpc_tls else None,
        rest_tls=tls,
        static_headers=tuple(pool.static_headers.items()),
        grpc_client=pool.grpc_client,
        budget=budget,
    )
    return V2Backend(models, **options) if address.v2 else TfServingBackend(habits=habits, **options)
