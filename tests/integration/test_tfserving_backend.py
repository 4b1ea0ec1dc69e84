"""The transports in front of a server that runs TensorFlow, spoken to as TF Serving is: both ways, kill and restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import numpy as np
import pytest

from batchproxy.backends.tfserving import AIO, WIRE, TfServingBackend
from batchproxy.codecs import tfs_calls, tfs_grpc
from batchproxy.codecs.tfs_rows import read_request
from batchproxy.codecs.tfs_splice import JsonAnswer, splice
from batchproxy.core.columns import ArrayColumn, Columns, TensorColumn
from batchproxy.core.errors import BackendLost, BackendRejected, BackendUnavailable, Code
from batchproxy.core.raw import GRPC, REST, RawCall
from batchproxy.core.request import BatchKey
from tests.tfserving.fixture import Server, running_server

KEY = BatchKey("half_plus_two", None, "serving_default")
HALVES = {"x": ArrayColumn(np.array([1, 2, 6], np.float32))}
MODELS = ("half_plus_two", "multi_version", "strings", "two_in_two_out")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """The small models."""
    with running_server(models=MODELS) as running:
        yield running


@pytest.fixture(params=[WIRE, AIO])
async def remote(server: Server, request: pytest.FixtureRequest) -> AsyncIterator[TfServingBackend]:
    """Both its doors, by either gRPC client."""
    backend = TfServingBackend(grpc=server.grpc, rest=server.rest, grpc_client=request.param)
    yield backend
    await backend.aclose()


async def test_arrays(remote: TfServingBackend) -> None:
    """Numbers through TensorFlow and back, with the version that answered."""
    reply = await remote.infer(KEY, HALVES, 10.0)
    column = reply.columns["y"]

    assert isinstance(column, TensorColumn)
    assert ([2.5, 3.0, 5.0], False) == (column.array.tolist(), column.content)
    assert (1, b"") == (reply.version, reply.extras)


async def test_strings(remote: TfServingBackend) -> None:
    """Any bytes."""
    info = await remote.metadata("strings", None)
    inputs = info.signatures["serving_default"].inputs
    columns = {alias: ArrayColumn(np.array([b"a", b"\xff\0"], object)) for alias in inputs}
    reply = await remote.infer(KEY._replace(model="strings"), columns, 10.0)

    assert {2} == {column.rows for column in reply.columns.values()}


async def test_rows(remote: TfServingBackend) -> None:
    """Raw JSON in, the server's own JSON back."""
    request = read_request(b'{"instances": [1.0, 2.0, 6.0]}')
    assert request is not None
    reply = await remote.infer(KEY, request.columns, 10.0)
    parts = {name: column.take(1, 3) for name, column in reply.columns.items() if isinstance(column, JsonAnswer)}

    assert b'{\n    "predictions": [3.0, 5.0\n    ]\n}' == splice(parts)


async def test_relayed_calls_are_the_callers_bytes_both_ways(server: Server, remote: TfServingBackend) -> None:
    """What the server took in and gave out is what the caller sent and got."""
    message = tfs_calls.encode_predict_request(KEY, HALVES) + b"\x32\x02me"
    body = b'{ "instances" : [1.0 ] }'
    server.reset()
    by_grpc = await remote.relay(RawCall(GRPC, tfs_grpc.PREDICT, "", (("a", "1"),), message), 10.0)
    path = "/v1/models/half_plus_two:predict"
    by_rest = await remote.relay(RawCall(REST, "POST", path, (("a", "1"),), body), 10.0)
    first, second = server.captured()

    assert (message, by_grpc.body, "1") == (first.request, first.response, first.metadata["a"])
    assert second.request.endswith(b"\r\n\r\n" + body)
    assert second.response.endswith(b"\r\n\r\n" + by_rest.body)


async def test_questions_have_one_answer_by_either_door(server: Server, remote: TfServingBackend) -> None:
    """Metadata and status by gRPC are those by REST."""
    by_rest = TfServingBackend(rest=server.rest)
    await remote.probe()
    questions = [(model, version) for model in MODELS for version in (None, *([1] if model != "strings" else []))]
    pairs = [
        (await ask(model, version), await ask_again(model, version))
        for model, version in questions
        for ask, ask_again in ((remote.metadata, by_rest.metadata), (remote.status, by_rest.status))
    ]
    await by_rest.aclose()

    assert len(pairs) == 2 * len(questions)
    assert all(first == second for first, second in pairs)


@pytest.mark.parametrize("protocol", [GRPC, REST])
async def test_refusals_are_the_servers(remote: TfServingBackend, protocol: str) -> None:
    """Its code, its words, its bytes."""
    message = tfs_calls.encode_predict_request(KEY._replace(model="nobody"), HALVES)
    call = {
        GRPC: RawCall(GRPC, tfs_grpc.PREDICT, "", (), message),
        REST: RawCall(REST, "POST", "/v1/models/nobody:predict", (), b'{"instances": [1]}'),
    }[protocol]
    with pytest.raises(BackendRejected, match="Servable not found for request: Latest\\(nobody\\)") as caught:
        await remote.relay(call, 10.0)

    assert Code.NOT_FOUND == caught.value.code
    assert caught.value.raw is not None


async def test_an_unknown_method_is_refused_by_the_server(remote: TfServingBackend) -> None:
    """Through a stream, since nobody knows its kind."""

    async def sent() -> AsyncIterator[bytes]:
        yield b"?"

    async with remote.relay_stream("/no.such.Service/Method", (), sent()) as stream:
        messages = [message async for message in stream.messages()]
        status = await stream.status()

    assert ([], Code.UNIMPLEMENTED) == (messages, status[0])


async def refused(remote: TfServingBackend, columns: Columns) -> None:
    """Call a dead server until the call does not leave any more: a channel may take a moment to see that it is cut."""
    async with asyncio.timeout(20):
        while True:
            try:
                await remote.infer(KEY, columns, 20.0)
            except BackendLost:
                continue
            except BackendUnavailable:
                return


async def test_a_server_that_is_killed_and_comes_back(server: Server, remote: TfServingBackend) -> None:
    """Calls in flight may have run; later ones did not; once it is back the same doors lead to it."""
    rows = read_request(b'{"instances": [1.0]}')
    assert rows is not None
    with server.held():
        calls = [asyncio.create_task(remote.infer(KEY, columns, 20.0)) for columns in (HALVES, rows.columns)]
        await asyncio.to_thread(server.wait_for_running, 2)
        server.kill()
        ends = await asyncio.gather(*calls, return_exceptions=True)
        for columns in (HALVES, rows.columns):
            await refused(remote, columns)
        with pytest.raises(BackendUnavailable):
            await remote.probe()
        await asyncio.to_thread(server.start)
    async with asyncio.timeout(20):
        while True:
            try:
                await remote.probe()
                break
            except BackendUnavailable:
                await asyncio.sleep(0)
    replies = [await remote.infer(KEY, columns, 20.0) for columns in (HALVES, rows.columns)]

    assert [BackendLost, BackendLost] == [type(end) for end in ends]
    assert [3, 1] == [column.rows for reply in replies for column in reply.columns.values()]
