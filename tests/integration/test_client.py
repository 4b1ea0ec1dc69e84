"""The client against TensorFlow: what the server was asked, and that each caller gets what it alone would get."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import numpy as np
import pytest

from batchproxy import BackendRejected, BatchProxyError, Client, Code, Prediction, State, VersionStatus
from batchproxy.codecs import _dtypes
from batchproxy.core.columns import Array
from batchproxy.core.shapes import TensorSpec
from tests.tfserving.fixture import Server, running_server
from tests.twins import TWINS

CALLERS = 12


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """All models."""
    with running_server() as one:
        yield one


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Client]:
    """A client that sends one merged call at a time, and nothing of its own."""
    server.reset()
    async with Client(f"grpc://{server.grpc}", max_inflight=1, canary_every=0) as one:
        yield one


def tensor(spec: TensorSpec, number: int, rows: int) -> Array:
    """A tensor of that dtype whose rows show the caller's number."""
    sizes = (None,) if spec.shape is None else spec.shape
    shape = tuple(
        rows if axis == 0 and size is None else 3 if size is None else size for axis, size in enumerate(sizes)
    )
    if spec.dtype == "string":
        return np.full(shape, b"caller %d" % number, np.object_)
    value = number % 2 if spec.dtype == "bool" else number + 1
    return np.full(shape, value, _dtypes.numpy_dtype(spec.dtype))


def assert_same(expected: Array, found: Array, *, exact: bool) -> None:
    """Equal; or within rounding, where numpy's function is not TensorFlow's to the last digit."""
    if exact:
        np.testing.assert_array_equal(expected, found)
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("model", TWINS)
async def test_concurrent_callers_get_what_each_alone_would_get(client: Client, server: Server, model: str) -> None:
    """Values and dtypes, every signature; in fewer runs than callers where rows may be merged."""
    info = await client.metadata(model)
    for name, twin in TWINS[model].items():
        specs = info.signatures[name].inputs
        asked = [
            {alias: tensor(spec, number, number % 3 + 1) for alias, spec in specs.items()} for number in range(CALLERS)
        ]
        expected = [twin(inputs) for inputs in asked]
        server.reset()
        for _ in range(2):  # at first the signature is not known, and everybody goes alone
            found = await asyncio.gather(*(client.predict(model, inputs, signature=name) for inputs in asked))
            for one, reply in zip(expected, found, strict=True):
                assert set(one) == set(reply)
                for output, array in one.items():
                    assert np.asarray(array).dtype == reply[output].dtype
                    assert_same(array, reply[output], exact=(model, output) != ("special", "log"))
        runs = server.counters()["rows"][model]
        if info.signatures[name].batchable and model != "mixed_batch_out":  # whose answers cannot be split
            assert len(runs) < 2 * CALLERS


async def test_callers_share_calls_as_the_server_counts_them(client: Client, server: Server) -> None:
    """One in flight, and sixty that come meanwhile: two runs."""
    await client.predict("int64_model", {"x": [0]})
    server.reset()
    with server.held():
        first = asyncio.ensure_future(client.predict("int64_model", {"x": [0]}))
        await asyncio.to_thread(server.wait_for_running, 1)
        others = [asyncio.ensure_future(client.predict("int64_model", {"x": [number]})) for number in range(1, 61)]
        await asyncio.sleep(0)
    replies = await asyncio.gather(first, *others)

    assert [[2 * number + 1] for number in range(61)] == [reply["y"].tolist() for reply in replies]
    assert [1, 60] == server.counters()["rows"]["int64_model"]


@pytest.mark.parametrize("model", ["mlp", "convnet"])
async def test_matrix_products_are_equal_within_rounding(client: Client, model: str) -> None:
    """Rows alone and merged, from Python's own numbers: TensorFlow's last digits depend on the batch."""
    info = await client.metadata(model)
    (alias, spec), *_ = info.signatures["serving_default"].inputs.items()
    assert spec.shape is not None
    shape = tuple(size or 1 for size in spec.shape[1:])
    rows = np.random.default_rng(7).random((8, 1, *shape))
    alone = [await client.predict(model, {alias: row}) for row in rows]
    merged = await asyncio.gather(*(client.predict(model, {alias: row.tolist()}) for row in rows))

    for one, other in zip(alone, merged, strict=True):
        for output in one:
            np.testing.assert_allclose(one[output], other[output], rtol=2e-6, atol=1e-6)


async def test_a_bad_row_fails_alone(client: Client) -> None:
    """With TensorFlow's text about itself; the others are answered."""
    await client.predict("reject_negative", {"x": [1.0]})
    values = [4.0, 9.0, -1.0, 16.0, 25.0]
    found = await asyncio.gather(
        *(client.predict("reject_negative", {"x": [value]}) for value in values), return_exceptions=True
    )
    error = found.pop(2)

    assert [2.0, 3.0, 4.0, 5.0] == [one["y"].item() for one in found if isinstance(one, Prediction)]
    assert isinstance(error, BackendRejected)
    assert Code.INVALID_ARGUMENT == error.code
    assert "negative input is not allowed" in error.message


async def test_a_cancelled_caller_disturbs_nobody(client: Client, server: Server) -> None:
    """One in the queue, and one whose call is in flight with others'."""
    await client.predict("int64_model", {"x": [0]})
    server.reset()
    with server.held():
        flying = [asyncio.ensure_future(client.predict("int64_model", {"x": [number]})) for number in range(3)]
        await asyncio.to_thread(server.wait_for_running, 1)
        queued = [asyncio.ensure_future(client.predict("int64_model", {"x": [number]})) for number in range(3, 6)]
        await asyncio.sleep(0)
        flying.pop(1).cancel()
        queued.pop(1).cancel()
        await asyncio.sleep(0)
    replies = await asyncio.gather(*flying, *queued)

    assert [[1], [5], [7], [11]] == [reply["y"].tolist() for reply in replies]
    assert [3, 2] == server.counters()["rows"]["int64_model"]


async def test_versions_labels_and_outputs(client: Client) -> None:
    """Each asks for what it names, at the same time; the version that answered is told."""
    asked: tuple[int | str | None, ...] = (None, 1, 2, "stable", "canary")
    for _ in range(2):
        replies = await asyncio.gather(*(client.predict("multi_version", {"x": [2.0]}, version=v) for v in asked))
        many = await client.predict("many_out", {"x": [1.0]}, outputs=["o4", "o2"])

        assert [(4.0, 2), (3.0, 1), (4.0, 2), (3.0, 1), (4.0, 2)] == [(r["y"].item(), r.version) for r in replies]
        assert {"o2": [3.0], "o4": [5.0]} == {name: array.tolist() for name, array in many.items()}


async def test_errors_are_the_servers_own(client: Client) -> None:
    """A model, a signature and an input that it does not have."""
    found = {
        "model": client.predict("nobody", {"x": [1.0]}),
        "signature": client.predict("half_plus_two", {"x": [1.0]}, signature="nope"),
        "input": client.predict("half_plus_two", {"z": [1.0]}),
        "version": client.predict("half_plus_two", {"x": [1.0]}, version=9),
        "status": client.status("nobody"),
    }
    errors = dict(zip(found, await asyncio.gather(*found.values(), return_exceptions=True), strict=True))

    assert {
        "model": Code.NOT_FOUND,
        "signature": Code.FAILED_PRECONDITION,
        "input": Code.INVALID_ARGUMENT,
        "version": Code.NOT_FOUND,
        "status": Code.NOT_FOUND,
    } == {name: error.code for name, error in errors.items() if isinstance(error, BackendRejected)}
    assert "Signature input alias: x(feed name: px:0) not found in request" in str(errors["input"])


async def test_metadata_and_status(client: Client) -> None:
    """As the server gives them."""
    info = await client.metadata("two_in_two_out")
    versions = await client.status("multi_version")

    assert ("two_in_two_out", 1) == (info.name, info.version)
    assert {"serving_default", "only_sum"} <= set(info.signatures)
    assert TensorSpec("float32", (None, 2), "only_sum_a:0") == info.signatures["only_sum"].inputs["a"]
    assert {VersionStatus(1, State.AVAILABLE), VersionStatus(2, State.AVAILABLE)} == set(versions)


@pytest.mark.slow
async def test_one_of_two_servers_is_killed_and_comes_back(server: Server) -> None:
    """Nothing is lost and nothing is mixed up: the rows carry numbers. The one that is back gets work again."""
    with running_server(models=["int64_model"]) as second:
        stopped = False
        progress = asyncio.Semaphore(0)
        errors: list[BatchProxyError] = []

        async def call(client: Client, number: int) -> None:
            while not stopped:
                number += 1000
                try:
                    reply = await client.predict("int64_model", {"x": np.array([number])}, timeout_s=20)
                except BatchProxyError as error:
                    errors.append(error)
                else:
                    assert [2 * number + 1] == reply["y"].tolist()
                progress.release()

        async def some_answers() -> None:
            for _ in range(200):
                await progress.acquire()

        async with Client(f"grpc://{server.grpc}", f"grpc://{second.grpc}") as client:
            callers = [asyncio.ensure_future(call(client, number)) for number in range(16)]
            await some_answers()
            await asyncio.to_thread(second.kill)
            await some_answers()
            await asyncio.to_thread(second.start)
            while not (await asyncio.to_thread(second.counters))["rows"].get("int64_model"):
                await client._engine.probe()
            stopped = True
            await asyncio.gather(*callers)

    assert [] == errors
