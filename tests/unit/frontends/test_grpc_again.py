"""gRPC calls that came in one piece are answered as if each had come by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.codecs import tensor_proto, tfs_grpc
from batchproxy.core.errors import Code
from batchproxy.core.request import Entry
from batchproxy.engine import Engine
from batchproxy.frontends.callers import GrpcCaller
from batchproxy.frontends.door import Door
from batchproxy.frontends.grpc_again import Again
from batchproxy.frontends.grpc_routes import GrpcRoutes
from batchproxy.frontends.listener import Listener
from batchproxy.protos import tfs_pb2 as pb
from batchproxy.wire import frames
from tests.http2_peer import CALL, Peer, data, prefixed, split
from tests.serving import Recorder, a_directory
from tests.unit.frontends.test_crowd import identity, settled
from tests.unit.frontends.test_door import Paper

GREETING = frames.PREFACE + frames.settings() + frames.frame(frames.SETTINGS, frames.ACK, 0, b"")
Fields = Sequence[tuple[str, str]]
Said = dict[int, list[tuple[int, int, bytes]]]


def predict(number: float, rows: int = 1, model: str = "a") -> bytes:
    """A PredictRequest."""
    request = pb.PredictRequest()
    request.model_spec.name = model
    tensor_proto.write(np.full((rows, 2), number, np.float32), request.inputs["x"])
    return request.SerializeToString()


def asks(number: int, *more: tuple[str, str], **what: Any) -> tuple[Fields, bytes]:
    """The fields of a call, and its message."""
    return (*CALL, *more), predict(number, **what)


def status(_: int) -> tuple[Fields, bytes]:
    """Another method."""
    path = dict(CALL) | {":path": tfs_grpc.GET_MODEL_STATUS}
    return tuple(path.items()), pb.GetModelStatusRequest(model_spec=pb.ModelSpec(name="a")).SerializeToString()


CALLS: Mapping[str, Callable[[int], tuple[Fields, bytes]]] = {
    "usual": asks,
    "rows": lambda number: asks(number, rows=2),
    "b": lambda number: asks(number, model="b"),
    "unknown": lambda number: asks(number, model="c"),
    "garbage": lambda number: (CALL, b"garbage"),
    "status": status,
    "limited": lambda number: asks(number, ("grpc-timeout", "20S")),
    "first": lambda number: asks(number, ("x-level", "high")),
    "wrong": lambda number: asks(number, ("x-level", "urgent")),
}


class Scene:
    """One connection to a listener without a socket."""

    def __init__(self, routes: GrpcRoutes) -> None:
        self.listener = Listener(None, routes)
        self.listener.loop = asyncio.get_running_loop()
        self.peer = Peer(greet=False)
        self.paper = Paper()
        self.door = Door(self.listener)
        self.door.connection_made(self.paper)
        self.door.data_received(GREETING)

    def call(self, kind: str, number: int) -> bytes:
        """The frames of a call on the next stream."""
        fields, message = CALLS[kind](number)
        stream = self.peer.take()
        return self.peer.headers(fields, stream) + data(stream, prefixed(message), frames.END_STREAM)

    def said(self) -> Said:
        """What was said on each stream."""
        found: Said = {}
        for frame in split(self.paper.written):
            if frame.stream:
                found.setdefault(frame.stream, []).append((frame.kind, frame.flags, frame.payload))
        return found


@asynccontextmanager
async def a_scene() -> AsyncIterator[tuple[Scene, Recorder, dict[str, Engine]]]:
    """Where each kind of call was met before."""
    recorder = Recorder()
    async with a_directory(recorder, {"a": identity, "b": identity}) as directory:
        scene = Scene(GrpcRoutes(directory, recorder, time.monotonic, priority_header="x-level"))
        for number in range(3):
            for kind in CALLS:
                scene.door.data_received(scene.call(kind, number))
                await settled()
        yield scene, recorder, {served.info.name: served.engine for served in directory.models()}


async def told(kinds: Sequence[str], gone: int, *, together: bool) -> Said:
    """What callers are told; who is gone has left in the bytes in which it came."""
    async with a_scene() as (scene, _, _):
        pieces = [scene.call(kind, number) for number, kind in enumerate(kinds)]
        if gone < len(pieces):
            stream = scene.peer.next - 2 * (len(pieces) - gone)
            pieces[gone] += frames.rst_stream(stream, frames.ErrorCode.CANCEL)
        for piece in [b"".join(pieces)] if together else pieces:
            scene.door.data_received(piece)
        await settled()
        return scene.said()


@given(st.lists(st.sampled_from([*CALLS, *["usual"] * 6]), max_size=8), st.integers(0, 12))
def test_nothing_is_different_without_it(kinds: list[str], gone: int) -> None:
    """Whatever is asked beside each other."""
    assert asyncio.run(told(kinds, gone, together=False)) == asyncio.run(told(kinds, gone, together=True))


async def test_those_that_came_together_are_begun_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lone one is not; one with a message in pieces is none of the usual ones; each model has its own batch."""
    together: list[int] = []
    everybody = Again.all

    def counted(self: Again, callers: Sequence[GrpcCaller], *more: Any) -> None:
        together.append(len(callers))
        everybody(self, callers, *more)

    monkeypatch.setattr(Again, "all", counted)
    async with a_scene() as (scene, recorder, _):
        recorder.calls.clear()
        scene.door.data_received(b"".join(scene.call(kind, 1) for kind in ("usual", "usual", "b", "limited")))
        await settled()
        scene.door.data_received(scene.call("usual", 2))
        await settled()

    assert [4] == together
    assert [("a", 1), ("a", 3), ("b", 1)] == sorted((model, rows) for model, rows, _ in recorder.calls)


async def test_terms_are_those_of_the_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadline and priority; who asks for what there is not is refused alone."""
    seen: list[Entry] = []
    async with a_scene() as (scene, recorder, engines):
        submit_all = engines["a"].submit_all

        def heard(entries: Sequence[Entry]) -> None:
            seen.extend(entries)
            submit_all(entries)

        monkeypatch.setattr(engines["a"], "submit_all", heard)
        recorder.requests.clear()
        scene.door.data_received(b"".join(scene.call(kind, 1) for kind in ("usual", "limited", "first", "wrong")))
        await settled()

    assert [(None, None), (20.0, None), (None, 0)] == [
        (entry.request.deadline and round(entry.request.deadline - entry.arrival, 6), entry.request.priority)
        for entry in seen
    ]
    assert [Code.INVALID_ARGUMENT] == [code for *_, code in recorder.requests if code is not Code.OK]


async def test_a_model_that_shuts_down_tells_each() -> None:
    """Those for another one are answered."""
    async with a_scene() as (scene, recorder, engines):
        await engines["b"].drain()
        recorder.requests.clear()
        scene.door.data_received(b"".join(scene.call(kind, 1) for kind in ("b", "usual", "b")))
        await settled()

    assert [Code.OK, Code.UNAVAILABLE, Code.UNAVAILABLE] == sorted((code for *_, code in recorder.requests), key=int)


async def test_a_bug_in_beginning_together_strands_nobody(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each is begun by itself, then, but for those that were."""
    everybody = Again.all

    def breaks(self: Again, callers: Sequence[GrpcCaller], *more: Any) -> None:
        everybody(self, callers[:1], *more)
        raise RuntimeError("no")

    monkeypatch.setattr(Again, "all", breaks)
    async with a_scene() as (scene, recorder, _):
        recorder.requests.clear()
        scene.door.data_received(b"".join(scene.call("usual", number) for number in range(3)))
        await settled()

    assert [Code.OK] * 3 == [code for *_, code in recorder.requests]
    assert ["calls could not be begun together. This is a bug."] == [r.getMessage() for r in caplog.records]
