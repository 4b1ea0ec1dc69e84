"""A model server that does as it is told, and a pool around it: for tests of the routes without a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from batchproxy.catalogue import Catalogue
from batchproxy.codecs import tfs_examples, tfs_grpc
from batchproxy.codecs.tfs_examples import MessageColumn
from batchproxy.core.columns import ArrayColumn, Columns
from batchproxy.core.errors import BackendRejected, BatchProxyError, Code
from batchproxy.core.policy import Policies, Policy
from batchproxy.core.raw import GRPC, REST, RawCall, RawReply
from batchproxy.core.request import BatchKey, Reply, Version
from batchproxy.core.shapes import ModelInfo, Signature, TensorSpec
from batchproxy.engine import build_engine
from batchproxy.frontends.directory import Directory
from batchproxy.frontends.remote import RemoteModel, RemotePool
from batchproxy.observe import Observer

FLOATS = TensorSpec("float32", (None,), "x:0")
HALF = Signature({"x": FLOATS}, {"y": FLOATS})
FIXED = Signature({"x": TensorSpec("float32", (2,))}, {"y": TensorSpec("float32", (2,))})
REGRESS = Signature({"inputs": TensorSpec("string", (None,))}, {"outputs": TensorSpec("float32", (None, 1))})
INFO = ModelInfo("half_plus_two", 7, {"serving_default": HALF, "fixed": FIXED, "regress": REGRESS})


RAW_STATUS = RawReply(0, "", (), tfs_grpc.encode_status([tfs_grpc.VersionStatus(INFO.version)]))
RAW_METADATA = RawReply(0, "", (), tfs_grpc.encode_metadata(INFO))


class FakeServer:
    """Knows one model, ``half_plus_two``, by gRPC arrays; relays are answered by ``answer``.

    Examples are results to it: they come back as they were.

    Attributes:
        relayed: what came as it was.
        merged: (key, columns, timeout) of the calls that were made of several requests.
        answer: what a relayed call gets.
    """

    def __init__(self) -> None:
        self.relayed: list[RawCall] = []
        self.merged: list[tuple[BatchKey, Columns, float | None]] = []
        self.answer: RawReply | BatchProxyError = RawReply(200, "Fine", [("x-one", "1"), ("x-one", "2")], b"relayed")

    async def infer(self, key: BatchKey, columns: Columns, timeout_s: float | None = None) -> Reply:
        self.merged.append((key, columns, timeout_s))
        examples = tfs_examples.examples_of(columns)
        if examples is not None:
            return Reply({tfs_examples.RESULTS: MessageColumn(examples.messages)}, INFO.version)
        column = columns["x"]
        assert isinstance(column, ArrayColumn)
        return Reply({"y": ArrayColumn(column.array / 2 + 2)}, INFO.version)

    async def relay(self, call: RawCall, timeout_s: float | None) -> RawReply:
        self.relayed.append(call)
        if isinstance(self.answer, BatchProxyError):
            raise self.answer
        return self.answer

    def begin(self, call: RawCall, timeout_s: float | None, told: Callable[..., None]) -> None:
        """Everything has to wait here."""

    def relay_stream(self, *arguments: Any) -> Any:
        raise BackendRejected("no streams here", code=Code.UNIMPLEMENTED)

    async def metadata(self, model: str, version: Version) -> ModelInfo:
        if model != INFO.name:
            raise BackendRejected(f"Servable not found for request: Latest({model})", code=Code.NOT_FOUND)
        return INFO

    async def probe(self) -> None:
        """Always well."""

    async def aclose(self) -> None:
        """Nothing to free."""


@asynccontextmanager
async def a_remote_pool(
    server: FakeServer,
    observer: Observer,
    doors: Sequence[str] = (GRPC, REST),
    model: RemoteModel | None = None,
) -> AsyncIterator[RemotePool]:
    """A pool of one server that has every model's name; ``half_plus_two`` is known already."""
    engine = build_engine("servers", {"s": server}, Policies({}, Policy()), observer=observer)
    await engine.probe()
    catalogue = Catalogue(server.metadata, engine.clock)
    await catalogue.find(INFO.name, None)
    try:
        yield RemotePool(engine, catalogue, frozenset(doors), {}, model or RemoteModel())
    finally:
        await catalogue.aclose()
        await engine.aclose()


def in_front_of(pool: RemotePool) -> Directory:
    """A directory in which the pool has every name."""
    return Directory([], {}, pool)
