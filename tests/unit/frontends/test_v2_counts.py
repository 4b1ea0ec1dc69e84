"""Statistics out of our own counts: whose are told, and under which version. Those of embedded models: test_v2_rest."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from batchproxy.codecs import tfs_documents, v2_grpc
from batchproxy.core.columns import Columns
from batchproxy.core.errors import BackendRejected, Code, RequestError, UnknownModel
from batchproxy.core.raw import GRPC, REST, RawReply
from batchproxy.core.request import BatchKey, Reply, Version
from batchproxy.core.shapes import ModelInfo
from batchproxy.frontends.directory import Directory
from batchproxy.frontends.remote import RemotePool
from batchproxy.frontends.v2_counts import OurCounts
from batchproxy.protos import v2_pb2 as pb
from tests.remotes import INFO, RAW_METADATA, FakeServer, a_remote_pool, in_front_of
from tests.serving import Recorder, a_directory
from tests.unit.frontends import test_v2_grpc, test_v2_rest

MODEL = INFO.name
X = {"name": "x", "shape": [2], "datatype": "FP32", "data": [1, 2]}


class Labelled(FakeServer):
    """Version 7 is its newest, and so is that labelled ``stable``; version 5 has a label, too."""

    async def metadata(self, model: str, version: Version) -> ModelInfo:
        return replace(await super().metadata(model, version), version=meant(version))

    async def infer(self, key: BatchKey, columns: Columns, timeout_s: float | None = None) -> Reply:
        reply = await super().infer(key, columns, timeout_s)
        return Reply(reply.columns, meant(key.version))


def meant(version: Version) -> int:
    """By a name."""
    return version if isinstance(version, int) else {None: 7, "stable": 7, "old": 5}[version]


async def infer(pool: RemotePool, recorder: Recorder, *paths: str) -> None:
    """One call of two rows each."""
    routes = test_v2_rest.routes_of(in_front_of(pool), recorder)
    for path in paths:
        answer = await test_v2_rest.ask(routes, f"POST /v2/models/{MODEL}{path}/infer", {"inputs": [X]})
        assert 200 == answer.status
    await routes.aclose()


async def test_calls_count_for_the_version_that_was_meant() -> None:
    """By whatever name it was asked for."""
    recorder = Recorder()
    async with a_remote_pool(Labelled(), recorder, [GRPC]) as pool:
        await infer(pool, recorder, "", "/versions/stable", "/versions/7", "/versions/old", "/versions/5")
        counts = OurCounts(in_front_of(pool), recorder, pool.engine.clock)
        every = counts.on_servers(pool, MODEL, None, INFO)
        old = counts.on_servers(pool, MODEL, "old", replace(INFO, version=5))
        unused = counts.on_servers(pool, MODEL, 3, replace(INFO, version=3))
        of_all = counts.here("", None)

    assert [(5, 4), (7, 6)] == [(one.version, one.counts.rows) for one in every]
    assert [(5, 4)] == [(one.version, one.counts.rows) for one in old]
    assert [(3, 0, 0)] == [(one.version, one.counts.rows, one.last_ms) for one in unused]
    assert [(MODEL, 5, 4), (MODEL, 7, 6)] == [(one.name, one.version, one.counts.rows) for one in of_all]


async def asked_by(door: str, pool: RemotePool, recorder: Recorder, model: str, version: Version) -> Any:
    """What is answered: code or status, and the statistics, or the text."""
    directory = in_front_of(pool)
    if door == GRPC:
        by_grpc = test_v2_grpc.routes_of(directory, recorder)
        answer = await test_v2_grpc.ask(by_grpc, v2_grpc.MODEL_STATISTICS, v2_grpc.encode_model(model, version))
        found = pb.ModelStatisticsResponse.FromString(answer.body).model_stats
        return answer.code, [(one.name, one.version, one.inference_count) for one in found] or answer.message
    by_rest = test_v2_rest.routes_of(directory, recorder)
    path = f"/v2/models/{model}" + ("" if version is None else f"/versions/{version}") + "/stats"
    said = await test_v2_rest.ask(by_rest, f"GET {path}")
    document = json.loads(said.body)
    stats = document.get("model_stats", ())
    return said.status, [(one["name"], one["version"], one["inference_count"]) for one in stats] or document["error"]


@pytest.mark.parametrize("asker", [GRPC, REST])
@pytest.mark.parametrize("door", [GRPC, REST])
async def test_a_server_is_asked_which_version_answers(asker: str, door: str) -> None:
    """It says so, too, where there is no such model."""
    server, recorder = FakeServer(), Recorder()
    server.answer = RAW_METADATA if door == GRPC else RawReply(200, "OK", (), tfs_documents.encode_metadata(INFO))
    async with a_remote_pool(server, recorder, [door]) as pool:
        await asyncio.gather(*(infer(pool, recorder, "") for _ in range(2)))
        found = await asked_by(asker, pool, recorder, MODEL, None)
        by_number = await asked_by(asker, pool, recorder, MODEL, 7)
        server.answer = BackendRejected("no such model", code=Code.NOT_FOUND)
        absent = await asked_by(asker, pool, recorder, "nobody", None)
    good, bad = (Code.OK, Code.NOT_FOUND) if asker == GRPC else (200, 404)

    assert (good, [(MODEL, "7", 4)]) == found == by_number
    assert (bad, "no such model") == absent
    assert [] == [name for name, *_ in recorder.requests if name not in {MODEL, ""}]


async def test_servers_that_count_themselves() -> None:
    """Their numbers are asked for, and where they cannot be, ours are not told in their stead."""
    recorder = Recorder()
    async with a_remote_pool(FakeServer(), recorder, [REST]) as pool:
        directory = in_front_of(replace(pool, v2=True))
        counts = OurCounts(directory, recorder, pool.engine.clock)
        with pytest.raises(RequestError, match="count themselves") as caught:
            counts.here(MODEL, None)

        assert Code.UNIMPLEMENTED is caught.value.code
        assert [] == counts.here("", None)


async def test_a_model_that_another_pool_has_now() -> None:
    """Or that is embedded now: it is not told twice."""
    recorder = Recorder()
    async with a_remote_pool(FakeServer(), recorder, [REST]) as pool, a_directory(recorder) as embedded:
        directory = Directory(embedded.models(), {}, pool)
        counts = OurCounts(directory, recorder, pool.engine.clock)
        found = counts.here("", None)
        with pytest.raises(UnknownModel):
            OurCounts(embedded, recorder, pool.engine.clock).here("nobody", None)

    assert [(MODEL, 1)] == [(one.name, one.version) for one in found]
