"""Pools become objects here: backends, an engine, and what the routes need to find models. Nothing listens yet."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from batchproxy.backends import Embedded, Remote, open_backend
from batchproxy.backends.onnx_versions import OnnxVersions, VersionPolicy
from batchproxy.backends.servers import Options
from batchproxy.backends.tfserving import TfServingBackend
from batchproxy.backends.tls import ClientTls
from batchproxy.backends.v2_server import V2Backend
from batchproxy.catalogue import Catalogue
from batchproxy.codecs.tfs_habits import Habits
from batchproxy.config import EVERY_OTHER, Config, ModelConfig, PoolConfig
from batchproxy.core.errors import ConfigError
from batchproxy.core.policy import Policies, Policy
from batchproxy.core.raw import GRPC, REST
from batchproxy.core.request import Version
from batchproxy.core.shapes import ModelInfo
from batchproxy.endpoints import Address, OnnxAddress, ServerAddress
from batchproxy.engine import Engine, build_engine
from batchproxy.frontends.directory import Directory, Served
from batchproxy.frontends.elsewhere import ask_where_served
from batchproxy.frontends.remote import RemoteModel, RemotePool
from batchproxy.log import Notices
from batchproxy.observe import Observer
from batchproxy.versions import VersionWatch
from batchproxy.wire.budget import Budget

logger = logging.getLogger("batchproxy.pools")


@dataclass(frozen=True, slots=True)
class Pools:
    """Everything between the routes and the models.

    Attributes:
        engines: one a pool.
        catalogues: one a pool of servers.
        directory: which pool has which model.
        watches: one a pool of ONNX models.
    """

    engines: Sequence[Engine]
    catalogues: Sequence[Catalogue]
    directory: Directory
    watches: Sequence[VersionWatch]


def open_pools(config: Config, observer: Observer, budget: Budget | None = None) -> Pools:
    """Open every pool that a model refers to.

    Args:
        config: what to serve.
        observer: told of each call.
        budget: of the process, for what is held on the way to the models and back; left out, its own.

    Raises:
        ConfigError: a model cannot be opened, or endpoints of one pool do not fit together.
    """
    engines: list[Engine] = []
    catalogues: list[Catalogue] = []
    served: list[Served] = []
    remotes: dict[str, RemotePool] = {}
    watched: list[tuple[PoolConfig, Sequence[str], Engine]] = []
    budget = budget or Budget(config.max_buffered_bytes)
    for pool in config.pools:
        models = [model for model in config.models if model.pool == pool.name]
        if not models:
            continue
        if pool.remote:
            remote = _open_remote(config, pool, models, observer, budget)
            engines.append(remote.engine)
            catalogues.append(remote.catalogue)
            remotes |= {model.name: remote for model in models}
        else:
            engine, first = _open_embedded(config, pool, models, observer, budget)
            engines.append(engine)
            served += [Served(ModelInfo(model.name, first.version, first.signatures), engine) for model in models]
            if isinstance(first, OnnxVersions):
                watched.append((pool, [model.name for model in models], engine))
    default = remotes.pop(EVERY_OTHER, None)
    directory = Directory(served, remotes, default)
    watches = [_watch(pool, names, engine, directory) for pool, names, engine in watched]
    return Pools(engines, catalogues, directory, watches)


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
) -> Engine:
    named = {model.name: model.policy() for model in models}
    others = named.pop(EVERY_OTHER, None)
    if pool.remote and others is None:
        others = Policy(batching=False)  # calls that name no model are passed on, too
    engine = build_engine(
        pool.name,
        backends,
        Policies(named, others),
        max_inflight=pool.max_inflight,
        max_relayed=pool.max_relayed,
        max_queued_bytes=pool.max_queued_bytes,
        call_timeout_s=config.backend_timeout_s,
        observer=observer,
    )
    engine.charge = budget.charge
    return engine


def _open_embedded(
    config: Config, pool: PoolConfig, models: Sequence[ModelConfig], observer: Observer, budget: Budget
) -> tuple[Engine, Embedded]:
    """The pool's engine and one of its backends; an address given twice is two endpoints, numbered."""
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
    return _engine(config, pool, backends, models, observer, budget), first[1]


def _open(address: Address, pool: PoolConfig) -> Embedded:
    if not isinstance(address, OnnxAddress):
        return open_backend(address.name)
    onnx = pool.onnx
    policy = onnx.model_version_policy
    return OnnxVersions(
        address.path,
        policy=VersionPolicy(policy.latest or 1, policy.specific, policy.all),
        threads=onnx.threads,
        providers=onnx.providers,
        provider_options=onnx.provider_options,
    )


def _open_remote(
    config: Config, pool: PoolConfig, models: Sequence[ModelConfig], observer: Observer, budget: Budget
) -> RemotePool:
    addresses = [address for address in pool.addresses() if isinstance(address, ServerAddress)]
    doors = _doors(pool, addresses)
    habits = Habits(Notices(logger))
    named = [model.name for model in models if model.name != EVERY_OTHER]
    backends = {address.name: _server(address, pool, named, habits, budget) for address in addresses}
    engine = _engine(config, pool, backends, models, observer, budget)
    options = {  # what is not to be batched need not be read, either
        model.name: RemoteModel(model.partition_by, model.batchable if model.batching else False) for model in models
    }
    others = options.pop(EVERY_OTHER, RemoteModel())

    async def fetch(model: str, version: Version) -> ModelInfo:
        return await ask_where_served(engine, lambda server: server.metadata(model, version))

    return RemotePool(engine, Catalogue(fetch, engine.clock), doors, options, others, habits, addresses[0].v2)


def _server(
    address: ServerAddress, pool: PoolConfig, models: Sequence[str], habits: Habits, budget: Budget
) -> TfServingBackend | V2Backend:
    tls = ClientTls(pool.tls.ca_file, pool.tls.cert_file, pool.tls.key_file, pool.tls.server_name)
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


def _doors(pool: PoolConfig, addresses: Sequence[ServerAddress]) -> frozenset[str]:
    """The protocols of the pool's doors: any endpoint must be able to take any of its calls."""
    kinds = {
        frozenset(name for name, door in ((GRPC, address.grpc), (REST, address.rest)) if door is not None)
        for address in addresses
    }
    if len(kinds) > 1:
        raise ConfigError(
            f"pool {pool.name!r}: some endpoints have doors that others lack, so not every one could take every call; "
            "give each the same doors, as in grpc://HOST:8500,http://HOST:8501"
        )
    return kinds.pop()
