"""The library's client before real servers, through either door: merged calls, each caller its own rows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import numpy as np
import pytest

from batchproxy import BackendRejected, Client, Code, RequestError, State, VersionStatus
from tests.servers.callers import same, some_inputs
from tests.servers.fixture import KINDS, RealServer
from tests.servers.zoo import DTYPES
from tests.tfserving.fixture import Server, running_server

CALLERS = 12
DOORS = ("grpc", "rest")


@pytest.fixture(params=[(kind, door) for kind in KINDS for door in DOORS], ids="-".join)
async def client(request: pytest.FixtureRequest, servers: dict[str, RealServer]) -> AsyncIterator[Client]:
    """For each door of each server, one merged call at a time."""
    kind, door = request.param
    scheme, place = ("v2+grpc", servers[kind].grpc) if door == "grpc" else ("v2+http", servers[kind].rest)
    async with Client(f"{scheme}://{place}", max_inflight=1, canary_every=0) as one:
        yield one


@pytest.mark.parametrize("datatype", DTYPES)
async def test_each_caller_gets_its_own_rows(client: Client, datatype: str) -> None:
    """Bit for bit, in fewer calls than there are callers."""
    model = f"echo_{datatype.lower()}"
    asked = [some_inputs(datatype, 1 + number % 3, 10 * number) for number in range(CALLERS)]
    first = await client.predict(model, asked[0])
    await client.predict(model, asked[0])  # what is known of it now may be used from here on
    replies = await asyncio.gather(*(client.predict(model, inputs, timeout_s=60) for inputs in asked))

    for inputs, reply in zip([asked[0], *asked], [first, *replies], strict=True):
        assert same({"y": inputs["x"][:, ::-1], "row": inputs["row"]}, dict(reply))


async def test_what_a_server_says(client: Client) -> None:
    """Metadata, status, part of the outputs, Python's numbers, and who is refused, alone."""
    info = await client.metadata("strict")
    version = info.version
    only_row = await client.predict("strict", {"x": [[1, 2]], "row": [[3]]}, outputs="row")
    answers = await asyncio.gather(
        *(client.predict("strict", {"x": [[number, 1]], "row": [[number]]}) for number in (5, -5, 7)),
        return_exceptions=True,
    )
    with pytest.raises(BackendRejected) as caught:
        await client.predict("nobody", {"x": np.ones((1, 2), np.float32)})
    one, refused, other = answers

    assert {"x", "row"} == info.signatures["serving_default"].inputs.keys()
    assert (VersionStatus(version),) == await client.status("strict")
    assert ([[3]], ["row"]) == (only_row["row"].tolist(), list(only_row))
    assert not isinstance(one, BaseException)
    assert not isinstance(other, BaseException)
    assert [[[1, 5]], [[1, 7]]] == [one["y"].tolist(), other["y"].tolist()]
    assert isinstance(refused, BackendRejected)
    assert caught.value.code in {Code.NOT_FOUND, Code.INVALID_ARGUMENT}


async def test_a_batch_is_no_larger_than_triton_takes(servers: dict[str, RealServer]) -> None:
    """Nor are there refusals from which to learn it."""
    asked = [some_inputs("INT64", 1, number) for number in range(40)]
    async with Client(f"v2+grpc://{servers['triton'].grpc}", max_inflight=1, canary_every=0) as client:
        await client.predict("capped", asked[0])
        await client.metadata("capped")
        replies = await asyncio.gather(*(client.predict("capped", inputs) for inputs in asked))

    assert all(
        same({"y": inputs["x"][:, ::-1], "row": inputs["row"]}, dict(reply))
        for inputs, reply in zip(asked, replies, strict=True)
    )


@pytest.fixture(scope="module")
def tf_serving() -> Iterator[Server]:
    """TF Serving's test server."""
    with running_server(models=["dtypes", "many_out", "reject_negative"]) as one:
        yield one


async def test_tf_serving_by_rest(tf_serving: Server) -> None:
    """The signature is waited for, since it says what the JSON is; calls are merged."""
    tf_serving.reset()
    async with Client(f"http://{tf_serving.rest}", max_inflight=1, canary_every=0) as client:
        first = await client.predict("dtypes", {"x": [0.1, float("inf")]})
        replies = await asyncio.gather(
            *(client.predict("dtypes", {"x": [number, -number]}, signature="int64") for number in range(CALLERS))
        )
        some = await client.predict("many_out", {"x": [1.0]}, outputs=("o2",))
        versions = await client.status("dtypes")
        with pytest.raises(RequestError, match="has no signature 'nothing'"):
            await client.predict("dtypes", {"x": [1]}, signature="nothing")
        with pytest.raises(BackendRejected) as absent:
            await client.predict("nobody", {"x": [1]})
        with pytest.raises(BackendRejected, match="is of type float16"):
            await client.predict("dtypes", {"x": np.ones(1, np.float16)}, signature="half")
        refused = await asyncio.gather(
            *(client.predict("reject_negative", {"x": [number]}) for number in (4.0, -1.0)), return_exceptions=True
        )
    rows = tf_serving.counters()["rows"]["dtypes"]

    assert np.array([0.1, np.inf], np.float32).tobytes() == first["y"].tobytes()
    assert [[number, -number] for number in range(CALLERS)] == [reply["y"].tolist() for reply in replies]
    assert {np.dtype(np.int64)} == {reply["y"].dtype for reply in replies}
    assert (["o2"], [3.0]) == (list(some), some["o2"].tolist())
    assert State.AVAILABLE is versions[0].state
    assert Code.NOT_FOUND is absent.value.code
    assert [True, False] == [not isinstance(one, BaseException) for one in refused]
    assert len(rows) < CALLERS
