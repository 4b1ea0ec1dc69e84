"""What tests of the Open Inference Protocol's routes share: a model here, a server there, calls that are answered."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from batchproxy.core.errors import BackendRejected, Code
from batchproxy.core.raw import RawCall, RawReply
from batchproxy.core.request import Version
from batchproxy.core.shapes import ModelInfo, Signature, TensorSpec
from batchproxy.frontends.directory import Directory
from batchproxy.frontends.remote import RemoteModel, RemotePool
from tests.remotes import FakeServer, a_remote_pool, in_front_of
from tests.serving import Recorder

MODEL = "half_plus_two"
FLOATS = TensorSpec("float32", (None,))
INFO = ModelInfo(MODEL, 7, {"serving_default": Signature({"x": FLOATS}, {"y": FLOATS})})
ABSENT = BackendRejected("not here", code=Code.NOT_FOUND, raw=RawReply(404, "Not Found", (), b"their words"))


class V2Server(FakeServer):
    """As ``FakeServer``, with metadata of its one signature.

    Attributes:
        buffers: as for ``V2Backend``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.buffers: bool | None = None

    async def metadata(self, model: str, version: Version) -> ModelInfo:
        if model != MODEL:
            raise ABSENT
        return INFO


@asynccontextmanager
async def a_v2_pool(
    server: FakeServer, recorder: Recorder, doors: Sequence[str], model: RemoteModel | None = None
) -> AsyncIterator[RemotePool]:
    """A pool of a server of the protocol."""
    async with a_remote_pool(server, recorder, doors, model) as pool:
        yield replace(pool, v2=True)


def a_directory_of(pool: RemotePool) -> Directory:
    """Every name is the pool's."""
    return in_front_of(pool)


def seen(calls: Sequence[RawCall]) -> list[tuple[str, str]]:
    """Method and path of what was passed on."""
    return [(call.method, call.path) for call in calls]
