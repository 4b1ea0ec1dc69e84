"""The client, with grpcio's server at the other end: what is merged, what goes alone, and who is told what."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from batchproxy import (
    BackendRejected,
    BackendUnavailable,
    BatchProxyError,
    Client,
    Code,
    DeadlineExceeded,
    ModelInfo,
    Prediction,
    QueueFull,
    RequestError,
    ShapeMismatch,
    Signature,
    State,
    TensorSpec,
    VersionStatus,
)
from batchproxy.core.columns import ArrayColumn, Columns
from tests.unit.scripted_server import FLOATS, Scripted, floats, known, serving


@pytest.fixture
async def server() -> AsyncIterator[Scripted]:
    """A server whose model doubles."""
    async with serving(Scripted()) as one:
        yield one


@pytest.fixture
async def client(server: Scripted) -> AsyncIterator[Client]:
    """A client that has seen nothing yet."""
    async with Client(server.url, max_inflight=1) as one:
        yield one


# ---------------------------------------------------------------- what is merged


async def test_a_model_not_yet_known_is_called_while_it_is_asked_about(client: Client, server: Scripted) -> None:
    """Nobody waits for metadata where the caller's array says its own type; two callers are two calls."""
    server.metadata_gate.clear()
    replies = await asyncio.gather(client.predict("m", floats(1, 2)), client.predict("m", floats(3)))
    server.metadata_gate.set()

    assert [[2.0, 4.0], [6.0]] == [reply["y"].tolist() for reply in replies]
    assert [1, 2] == sorted(server.sizes)
    assert 1 == server.questions


async def test_callers_that_come_while_a_call_runs_share_the_next(client: Client, server: Scripted) -> None:
    """Each gets its own rows, and the version that answered."""
    await known(client, server)
    server.predict_gate.clear()
    first = asyncio.ensure_future(client.predict("m", floats(0)))
    await server.entered.wait()
    others = [asyncio.ensure_future(client.predict("m", floats(*[number] * number))) for number in range(1, 6)]
    await asyncio.sleep(0)
    server.predict_gate.set()
    replies = await asyncio.gather(first, *others)

    assert [1, 15] == server.sizes
    assert [[0.0], *([2.0 * number] * number for number in range(1, 6))] == [reply["y"].tolist() for reply in replies]
    assert {3} == {reply.version for reply in replies}


async def test_callers_in_one_turn_of_the_loop_share_a_call(client: Client, server: Scripted) -> None:
    """Even where the server is idle."""
    await known(client, server)
    await asyncio.gather(*(client.predict("m", floats(number)) for number in range(8)))

    assert [8] == server.sizes


async def test_requests_that_differ_in_version_or_outputs_do_not_share(client: Client, server: Scripted) -> None:
    """A number, a label or an output filter is a batch of its own, and is sent."""
    await known(client, server)
    await client.predict("m", floats(0), version=7)
    await client.predict("m", floats(0), version="stable")
    server.calls.clear()
    replies = await asyncio.gather(
        client.predict("m", floats(1)),
        client.predict("m", floats(2), version=7),
        client.predict("m", floats(3), version="stable"),
        client.predict("m", floats(4), outputs="y"),
        client.predict("m", floats(5), outputs=["y"]),
    )
    sent = {(call.target.version, call.target.label, call.output_filter) for call in server.calls}

    assert {(None, None, ()), (7, None, ()), (None, "stable", ()), (None, None, ("y",))} == sent
    assert 4 == len(server.calls)
    assert [3, 7, 3, 3, 3] == [reply.version for reply in replies]


async def test_a_signature_that_is_not_batchable_goes_alone() -> None:
    """A fixed leading axis: no caller waits for another."""
    fixed = Signature({"x": TensorSpec("float32", (2,))}, {"y": TensorSpec("float32", (2,))})
    async with serving(Scripted(fixed)) as server, Client(server.url, max_inflight=1) as client:
        await known(client, server)
        server.predict_gate.clear()
        waiting = [asyncio.ensure_future(client.predict("m", floats(number, number))) for number in range(3)]
        while len(server.seen) < 3:
            server.entered.clear()
            await server.entered.wait()
        server.predict_gate.set()
        await asyncio.gather(*waiting)

    assert [2, 2, 2] == server.sizes


async def test_without_metadata_every_call_goes_alone(client: Client, server: Scripted) -> None:
    """As given: what no server describes, none converts."""
    server.model = None
    server.signature = Signature({"x": TensorSpec("float64", (None,))}, {"y": TensorSpec("float64", (None,))})
    replies = await asyncio.gather(*(client.predict("m", {"x": [number]}) for number in (1.0, 2.0)))

    assert [[2.0], [4.0]] == [reply["y"].tolist() for reply in replies]
    assert [1, 1] == server.sizes


# ---------------------------------------------------------------- values


async def test_python_numbers_take_the_type_of_the_signature(client: Client, server: Scripted) -> None:
    """Also in the first call: it waits until the type is known."""
    reply = await client.predict("m", {"x": [1, 2.5]})

    assert [{"x": ("float32", [1.0, 2.5])}] == server.seen
    assert "float32" == reply["y"].dtype


async def test_a_wrong_array_type_is_mended_before_and_after_the_signature_is_known(
    client: Client, server: Scripted
) -> None:
    """The first call asks the server, which refuses; the caller sees no difference."""
    first = await client.predict("m", {"x": np.array([1.5])})
    second = await client.predict("m", {"x": np.array([2.5])})

    assert [[3.0], [5.0]] == [first["y"].tolist(), second["y"].tolist()]
    assert ["float64", "float32", "float32"] == [inputs["x"][0] for inputs in server.seen]


@pytest.mark.parametrize("warm", [False, True])
async def test_a_type_that_does_not_fit_is_named(client: Client, server: Scripted, warm: bool) -> None:
    """The same error whether the signature was known or not; a merged call is never sent."""
    if warm:
        await known(client, server)
    with pytest.raises(ShapeMismatch) as caught:
        await client.predict("m", {"x": np.array([1j])})

    assert "input 'x' is of dtype complex128, the model takes float32" == caught.value.message
    assert (0 if warm else 1) == len(server.seen)


async def test_what_the_server_refuses_for_another_reason_is_sent_once(client: Client, server: Scripted) -> None:
    """Its own code and text."""
    server.script.append(RequestError("I will not"))
    with pytest.raises(BackendRejected) as caught:
        await client.predict("m", floats(1))

    assert (Code.INVALID_ARGUMENT, "I will not") == (caught.value.code, caught.value.message)
    assert 1 == len(server.seen)


async def test_strings_travel_as_bytes() -> None:
    """Text and bytes in, bytes out."""
    strings = Signature({"x": TensorSpec("string", (None,))}, {"y": TensorSpec("string", (None,))})

    def same(columns: Columns) -> Columns:
        return {"y": columns["x"]}

    async with serving(Scripted(strings, same)) as server, Client(server.url) as client:
        replies = [
            await client.predict("m", {"x": value}) for value in (["é", b"\0"], np.array(["b"]), np.array([b"c"]))
        ]

    assert [["é".encode(), b"\0"], [b"b"], [b"c"]] == [reply["y"].tolist() for reply in replies]
    assert "O" == replies[0]["y"].dtype.kind


async def test_answers_are_the_callers_to_keep(client: Client, server: Scripted) -> None:
    """Writable, and no views of the batch they came in."""
    await known(client, server)
    one, two = await asyncio.gather(client.predict("m", floats(1)), client.predict("m", floats(2)))
    one["y"][0] = 100.0

    assert one["y"].base is None
    assert [4.0] == two["y"].tolist()
    assert [2] == server.sizes


def test_a_prediction_is_a_mapping() -> None:
    """It can be looked through, and shows what it holds."""
    prediction = Prediction({"y": np.array([1])}, 3)

    assert ["y"] == list(prediction)
    assert 1 == len(prediction)
    assert "Prediction({'y': array([1])}, version=3)" == repr(prediction)


@pytest.mark.parametrize("inputs", [{}, {"x": [1.0], "z": [1.0]}, {"z": [1.0]}])
async def test_wrong_input_names_are_the_servers_to_refuse(
    client: Client, server: Scripted, inputs: dict[str, Any]
) -> None:
    """In its words, and only to the caller who sent them."""
    await known(client, server)
    results = await asyncio.gather(client.predict("m", inputs), client.predict("m", floats(1)), return_exceptions=True)

    assert isinstance(results[0], BackendRejected)
    assert isinstance(results[1], Prediction)


async def test_an_unknown_signature_is_the_servers_to_refuse(client: Client, server: Scripted) -> None:
    """It is sent as given, alone."""
    await known(client, server)
    server.script.append(RequestError("no such signature", code=Code.FAILED_PRECONDITION))
    with pytest.raises(BackendRejected) as caught:
        await client.predict("m", floats(1), signature="other")

    assert (Code.FAILED_PRECONDITION, "no such signature") == (caught.value.code, caught.value.message)
    assert "other" == server.calls[-1].signature_name


@pytest.mark.parametrize("version", [-1, 2**63])
async def test_a_number_that_is_no_version_is_refused(client: Client, version: int) -> None:
    """By all three questions."""
    for question in (client.predict("m", {}, version=version), client.metadata("m", version=version)):
        with pytest.raises(RequestError):
            await question
    with pytest.raises(RequestError) as caught:
        await client.status("m", version=version)

    assert caught.value.message.startswith(f"version {version} is no version of a model")


# ---------------------------------------------------------------- errors, and callers who leave


async def test_a_bad_row_fails_alone() -> None:
    """With the text that it gets by itself; its neighbours are answered."""

    def roots(columns: Columns) -> Columns:
        column = columns["x"]
        assert isinstance(column, ArrayColumn)
        if (column.array < 0).any():
            raise RequestError(f"negative: {column.array[column.array < 0].tolist()} of {len(column.array)}")
        return {"y": ArrayColumn(np.sqrt(column.array))}

    async with serving(Scripted(FLOATS, roots)) as server, Client(server.url) as client:
        await known(client, server)
        values = [4.0, -1.0, 9.0, 16.0, -4.0, 25.0]
        results = await asyncio.gather(*(client.predict("m", floats(v)) for v in values), return_exceptions=True)

    assert 6 == server.sizes[0]
    assert [2.0, None, 3.0, 4.0, None, 5.0] == [
        result["y"].item() if isinstance(result, Prediction) else None for result in results
    ]
    assert ["negative: [-1.0] of 1", "negative: [-4.0] of 1"] == [
        result.message for result in results if isinstance(result, BackendRejected)
    ]


async def test_what_a_server_says_of_a_missing_model_reaches_the_caller(client: Client, server: Scripted) -> None:
    """Code and text."""
    server.script.append(RequestError("Servable not found", code=Code.NOT_FOUND))
    with pytest.raises(BackendRejected) as caught:
        await client.predict("m", floats(1))

    assert (Code.NOT_FOUND, "Servable not found") == (caught.value.code, caught.value.message)


@pytest.mark.parametrize(("timeout_s", "kind"), [(None, BackendRejected), (60.0, DeadlineExceeded)])
async def test_a_server_that_gives_up_is_told_from_a_caller_s_limit(
    client: Client, server: Scripted, timeout_s: float | None, kind: type[BatchProxyError]
) -> None:
    """A limit travels to the server, which may be the first to see it passed; without one it is the server's word."""
    server.script.append(RequestError("too slow", code=Code.DEADLINE_EXCEEDED))
    with pytest.raises(kind) as caught:
        await client.predict("m", floats(1), timeout_s=timeout_s)

    assert (Code.DEADLINE_EXCEEDED, "too slow") == (caught.value.code, caught.value.message)


async def test_a_caller_that_leaves_disturbs_nobody(client: Client, server: Scripted) -> None:
    """Its rows are never sent."""
    await known(client, server)
    server.predict_gate.clear()
    first = asyncio.ensure_future(client.predict("m", floats(0)))
    await server.entered.wait()
    leaver = asyncio.ensure_future(client.predict("m", floats(1)))
    stayer = asyncio.ensure_future(client.predict("m", floats(2)))
    await asyncio.sleep(0)
    leaver.cancel()
    await asyncio.sleep(0)
    server.predict_gate.set()
    results = await asyncio.gather(first, leaver, stayer, return_exceptions=True)

    assert isinstance(results[1], asyncio.CancelledError)
    assert [{"x": ("float32", [0.0])}, {"x": ("float32", [2.0])}] == server.seen


async def test_time_limits_and_bounds_are_kept(server: Scripted) -> None:
    """A caller in flight, one that waits, and one too many."""
    async with Client(server.url, max_inflight=1, max_queued_rows=2) as client:
        await known(client, server)
        server.predict_gate.clear()
        running = asyncio.ensure_future(client.predict("m", floats(0), timeout_s=0.1))
        await server.entered.wait()
        waiting = asyncio.ensure_future(client.predict("m", floats(1, 2), timeout_s=0.05))
        await asyncio.sleep(0)
        with pytest.raises(QueueFull):
            await client.predict("m", floats(3))
        for late in (waiting, running):
            with pytest.raises(DeadlineExceeded):
                await late
        server.predict_gate.set()

    assert [1] == server.sizes


async def test_time_is_up_while_the_signature_is_awaited(client: Client, server: Scripted) -> None:
    """Python's numbers wait for it no longer than their caller does; nothing is sent."""
    server.metadata_gate.clear()
    with pytest.raises(DeadlineExceeded):
        await client.predict("m", {"x": [1.0]}, timeout_s=0.05)
    server.metadata_gate.set()

    assert [] == server.seen


# ---------------------------------------------------------------- other questions


async def test_metadata_and_status_are_the_servers_own(client: Client, server: Scripted) -> None:
    """Signatures with their tensors' names; every version with its state."""
    info = await client.metadata("m")
    versions = await client.status("m", version=4)
    with pytest.raises(BackendRejected) as caught:
        await client.status("other")

    named = Signature({"x": TensorSpec("float32", (None,), "x")}, {"y": TensorSpec("float32", (None,), "y")})
    assert ModelInfo("m", 3, {"serving_default": named}) == info
    assert (VersionStatus(4, State.LOADING, Code.UNKNOWN, "slow"), VersionStatus(3)) == versions
    assert (Code.NOT_FOUND, "no such model") == (caught.value.code, caught.value.message)


async def test_a_busy_server_is_asked_again_but_not_for_ever(client: Client, server: Scripted) -> None:
    """What it said last reaches the caller; it can be reached, so it is not left out."""
    server.model, server.refusal = None, BatchProxyError("busy", code=Code.UNAVAILABLE)
    with pytest.raises(BackendUnavailable) as caught:
        await client.metadata("m")
    reply = await client.predict("m", floats(1))

    assert ("busy", [2.0]) == (caught.value.message, reply["y"].tolist())
    assert 3 <= server.questions


async def test_static_headers_are_sent(server: Scripted) -> None:
    """With merged calls and with questions."""
    async with Client(server.url, static_headers={"authorization": "Bearer t"}) as client:
        await client.predict("m", floats(1))
        predicted = list(server.metadata)
        server.metadata.clear()
        await client.status("m")

    assert ("authorization", "Bearer t") in predicted
    assert ("authorization", "Bearer t") in server.metadata
