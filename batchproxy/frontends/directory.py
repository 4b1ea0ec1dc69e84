"""Which models are served here, and by which engine. Answers look-ups in TF Serving's own words; runs nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from batchproxy.codecs.tfs_grpc import VersionStatus
from batchproxy.core.errors import Code, UnknownModel
from batchproxy.core.shapes import ModelInfo
from batchproxy.engine import Engine
from batchproxy.frontends.remote import RemotePool


@dataclass(frozen=True, slots=True)
class Served:
    """One served version of a model and the engine that runs it."""

    info: ModelInfo
    engine: Engine


@dataclass(frozen=True, slots=True)
class Versions:
    """All that is known under one embedded model's name.

    Attributes:
        served: version to what answers for it; at least one.
        statuses: of these, and of those that are loaded, unloaded or broken.
        labels: label to version, which need not be served.
    """

    served: Mapping[int, Served]
    statuses: Sequence[VersionStatus]
    labels: Mapping[str, int]

    @property
    def newest(self) -> Served:
        """What a call that names no version means."""
        return self.served[max(self.served)]


class Directory:
    """The embedded models by name, and which servers have the others.

    Args:
        served: embedded models, one version each.
        remotes: model name to the pool that serves it.
        default: the pool that gets every other name, and whatever names no model.
    """

    def __init__(
        self,
        served: Iterable[Served],
        remotes: Mapping[str, RemotePool] | None = None,
        default: RemotePool | None = None,
    ) -> None:
        self._models: dict[str, Versions] = {}
        self._newest: dict[str, Served] = {}
        self._listeners: list[Callable[[], None]] = []
        self._remotes = dict(remotes or {})
        self.default = default
        for model in served:
            version = model.info.version
            self.publish(model.info.name, Versions({version: model}, [VersionStatus(version)], {}))

    # -- what changes --------------------------------------------------------------------------

    def publish(self, name: str, versions: Versions) -> None:
        """From now on this is what there is under a name; to be called on the loop.

        Requests that were read before keep the version they mean, and its engine has to answer them: see ``holds``.
        """
        before = self._models.get(name)
        self._models[name] = versions
        self._newest[name] = versions.newest
        if before is None or before.served != versions.served or before.labels != versions.labels:
            for tell in self._listeners:
                tell()

    def change(self, gone: Iterable[str], remotes: Mapping[str, RemotePool], default: RemotePool | None) -> None:
        """From now on these servers have these models; ``gone`` are embedded ones that are not there any more."""
        self._remotes, self.default = dict(remotes), default
        for name in gone:
            self._models.pop(name, None)
            self._newest.pop(name, None)
        for tell in self._listeners:
            tell()

    def on_change(self, tell: Callable[[], None]) -> None:
        """Have ``tell`` called whenever what was found here may not be found any longer: to forget what is kept."""
        self._listeners.append(tell)

    def holds(self, served: Served) -> bool:
        """Whether what was found a while ago, perhaps in another thread, still takes new requests."""
        versions = self._models.get(served.info.name)
        return versions is not None and versions.served.get(served.info.version) is served

    # -- look-ups ------------------------------------------------------------------------------

    def remote(self, name: str) -> RemotePool | None:
        """The pool whose servers have the model; None: it is embedded, or nobody's."""
        return self._remotes.get(name) or (None if name in self._models else self.default)

    def pools(self) -> Sequence[RemotePool]:
        """Every pool of servers."""
        found = [*self._remotes.values(), *([] if self.default is None else [self.default])]
        return list({id(pool): pool for pool in found}.values())

    def v2_pool(self) -> RemotePool | None:
        """The pool that gets what names no model in the Open Inference Protocol: the default one, or the only one."""
        if self.default is not None and self.default.v2:
            return self.default
        pools = [pool for pool in self.pools() if pool.v2]
        return pools[0] if len(pools) == 1 else None

    def embedded(self, name: str) -> Served | None:
        """The newest version of the embedded model of this name, whatever version is asked for."""
        return self._newest.get(name)

    def models(self) -> Sequence[Served]:
        """The newest version of every embedded model, in the order of the configuration."""
        return tuple(self._newest.values())

    def versions(self, name: str) -> Sequence[Served]:
        """The versions of an embedded model that are served, the lowest first; none where there is no such model."""
        versions = self._models.get(name)
        return () if versions is None else [versions.served[version] for version in sorted(versions.served)]

    def find(self, name: str, version: int | None, label: str | None) -> Served:
        """The model that answers an inference or metadata call.

        Raises:
            UnknownModel: in TF Serving's words (``core/basic_manager.cc``): NOT_FOUND for a model or version,
                INVALID_ARGUMENT for a label, even of an unknown model.
        """
        versions = self._models.get(name)
        if label is not None:
            labels = {} if versions is None else versions.labels
            if label not in labels:
                raise UnknownModel(f"Unrecognized servable version label: {label}", code=Code.INVALID_ARGUMENT)
            version = labels[label]
        if version is None:
            served = self._newest.get(name)
        else:
            served = None if versions is None else versions.served.get(version)
        if served is None:
            wanted = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            raise UnknownModel(f"Servable not found for request: {wanted}")
        return served

    def find_status(self, name: str, version: int | None) -> Sequence[VersionStatus]:
        """The states of a model's versions, or of the one that is asked for; a label does not matter there.

        Raises:
            UnknownModel: in TF Serving's words (``model_servers/get_model_status_impl.cc``).
        """
        versions = self._models.get(name)
        if versions is None and version is None:
            raise UnknownModel(f"Could not find any versions of model {name}")
        statuses = () if versions is None else versions.statuses
        found = [status for status in statuses if version in {None, status.version}]
        if not found:
            raise UnknownModel(f"Could not find version {version} of model {name}")
        return found
