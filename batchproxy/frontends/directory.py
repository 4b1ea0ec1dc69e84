"""Which models are served here, and by which engine. Answers look-ups in TF Serving's own words; runs nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from batchproxy.core.errors import Code, UnknownModel
from batchproxy.core.shapes import ModelInfo
from batchproxy.engine import Engine
from batchproxy.frontends.remote import RemotePool


@dataclass(frozen=True, slots=True)
class Served:
    """One served version of a model and the engine that runs it."""

    info: ModelInfo
    engine: Engine


class Directory:
    """The embedded models by name, and which servers have the others.

    Args:
        served: embedded models.
        remotes: model name to the pool that serves it.
        default: the pool that gets every other name, and whatever names no model.
    """

    def __init__(
        self,
        served: Iterable[Served],
        remotes: Mapping[str, RemotePool] | None = None,
        default: RemotePool | None = None,
    ) -> None:
        self._served = {model.info.name: model for model in served}
        self._remotes = dict(remotes or {})
        self.default = default

    def remote(self, name: str) -> RemotePool | None:
        """The pool whose servers have the model; None: it is embedded, or nobody's."""
        return self._remotes.get(name) or (None if name in self._served else self.default)

    def v2_pool(self) -> RemotePool | None:
        """The pool that gets what names no model in the Open Inference Protocol: the default one, or the only one."""
        if self.default is not None and self.default.v2:
            return self.default
        pools = {id(pool): pool for pool in self._remotes.values() if pool.v2}
        return next(iter(pools.values())) if len(pools) == 1 else None

    def embedded(self, name: str) -> Served | None:
        """The embedded model of this name, whatever version is asked for."""
        return self._served.get(name)

    def models(self) -> Sequence[Served]:
        """Every served model, in the order of the configuration."""
        return tuple(self._served.values())

    def find(self, name: str, version: int | None, label: str | None) -> Served:
        """The model that answers an inference or metadata call.

        Raises:
            UnknownModel: in TF Serving's words (``core/basic_manager.cc``): NOT_FOUND for a model or version,
                INVALID_ARGUMENT for a label, even of an unknown model.
        """
        if label is not None:
            raise UnknownModel(f"Unrecognized servable version label: {label}", code=Code.INVALID_ARGUMENT)
        served = self._served.get(name)
        if served is None or (version is not None and version != served.info.version):
            wanted = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            raise UnknownModel(f"Servable not found for request: {wanted}")
        return served

    def find_status(self, name: str, version: int | None) -> Served:
        """The model whose status is asked; a label does not matter there.

        Raises:
            UnknownModel: in TF Serving's words (``model_servers/get_model_status_impl.cc``).
        """
        served = self._served.get(name)
        if served is None and version is None:
            raise UnknownModel(f"Could not find any versions of model {name}")
        if served is None or (version is not None and version != served.info.version):
            raise UnknownModel(f"Could not find version {version} of model {name}")
        return served
