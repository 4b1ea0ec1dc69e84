"""Pools of model servers as the routes see them, and requests that are passed on as they came. No wire format here."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from batchproxy.catalogue import Catalogue
from batchproxy.codecs import tfs_columns
from batchproxy.codecs.tfs_habits import Habits
from batchproxy.core.raw import GRPC, REST, RawCall
from batchproxy.core.request import BatchKey, Request, Version
from batchproxy.core.shapes import UNDECLARED, Signature
from batchproxy.engine import Engine


@dataclass(frozen=True, slots=True)
class RemoteModel:
    """What the configuration says of a model on a server.

    Attributes:
        partition_by: headers, lower case, that callers must agree in to share a call.
        batchable: True: may be batched even where the server has no metadata; False: never; None: its metadata says.
    """

    partition_by: tuple[str, ...] = ("authorization",)
    batchable: bool | None = None


@dataclass(frozen=True, slots=True)
class RemotePool:
    """Servers that serve the same models.

    Attributes:
        engine: drives their calls.
        catalogue: what they say of their models.
        doors: the protocols (``core.raw.GRPC``, ``REST``) that every one of them speaks.
        models: configured models by name.
        others: what holds for models that are not configured by name.
        habits: what their answers gave away of how they were started.
        v2: whether they speak the Open Inference Protocol; False: TF Serving's. Only calls in their own protocol are
            passed on.
        takes_grpc: whether gRPC calls of TF Serving's can be passed on.
    """

    engine: Engine
    catalogue: Catalogue
    doors: Collection[str]
    models: Mapping[str, RemoteModel] = field(default_factory=dict)
    others: RemoteModel = RemoteModel()
    habits: Habits = field(default_factory=Habits)
    v2: bool = False
    takes_grpc: bool = field(init=False)  # kept: every request asks

    def passes_on(self, verb: str) -> bool:
        """Whether a REST call may go through a REST door; ``verb`` is empty for one that is none of TF Serving's.

        Not predict calls to servers that garble their own answers: a gRPC door is known to be there then. Nor any call
        to servers that do not speak TF Serving's protocol.
        """
        return REST in self.doors and not self.v2 and not (verb == "predict" and self.habits.tensor_content)

    def __post_init__(self) -> None:
        object.__setattr__(self, "takes_grpc", GRPC in self.doors and not self.v2)

    def expected(self, signature: Signature) -> bytes:
        """What a key has to say of the answer to arrays: where it is JSON, what it is made of; else nothing."""
        return b"" if self.v2 or GRPC in self.doors else tfs_columns.expected(signature)

    def may_batch(self, model: str) -> bool:
        """Whether the configuration leaves open that calls of this model are merged."""
        return self.models.get(model, self.others).batchable is not False

    def signature(self, model: str, version: Version, name: str) -> Signature | None:
        """What may be assumed of a signature now; None: nothing, so its requests travel as they came."""
        batchable = self.models.get(model, self.others).batchable
        if batchable is False:
            return None
        info = self.catalogue.look(model, version)
        if info is None:
            return UNDECLARED if batchable else None
        signature = info.signatures.get(name)
        return signature if signature is None or signature.declared or batchable else None

    def merges(self, model: str, signature: Signature) -> bool:
        """Whether the configuration lets calls be merged: where a server declares nothing, it has to say so."""
        batchable = self.models.get(model, self.others).batchable
        return batchable is True or (batchable is None and signature.declared)

    def label(self, model: str, version: Version) -> str:
        """The model's name where it is configured or a server confirmed it, else nothing: names may be made up."""
        return model if model in self.models or self.catalogue.knows(model, version) else ""

    def partition(self, model: str, raw: RawCall) -> tuple[tuple[str, str], ...]:
        """The headers that this call's mates must share, in the order of the configuration."""
        wanted = self.models.get(model, self.others).partition_by
        if not wanted:
            return ()
        return tuple(
            [(low, value) for name, value in raw.headers if (low := name.lower()) in wanted and isinstance(value, str)]
        )


def as_it_came(raw: RawCall, deadline: float | None, model: str = "", version: Version = None) -> Request:
    """A request that is passed on untouched, by itself; ``model`` is empty unless a server confirmed the name."""
    return Request(_lone_key(model, version), {}, None, len(raw.body), deadline, raw)


@lru_cache(maxsize=1024)
def _lone_key(model: str, version: Version) -> BatchKey:
    return BatchKey(model, version, "")
