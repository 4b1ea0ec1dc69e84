"""The client's life: servers that go and come, what is refused when it is made, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from batchproxy import BackendUnavailable, Client, ConfigError, Draining, NoEndpoint
from tests.unit.scripted_server import Scripted, floats, known, serving


@pytest.fixture
async def server() -> AsyncIterator[Scripted]:
    """A server whose model doubles."""
    async with serving(Scripted()) as one:
        yield one


# ---------------------------------------------------------------- servers that go and come


async def test_two_servers_share_the_work(server: Scripted) -> None:
    """While one is busy the other is used."""
    async with serving(Scripted()) as second, Client(server.url, second.url, max_inflight=1) as client:
        await known(client, server)
        second.entered.clear()
        server.predict_gate.clear()
        second.predict_gate.clear()
        waiting = asyncio.ensure_future(client.predict("m", floats(1)))
        await asyncio.sleep(0)
        other = asyncio.ensure_future(client.predict("m", floats(2)))
        await server.entered.wait()
        await second.entered.wait()
        server.predict_gate.set()
        second.predict_gate.set()
        await asyncio.gather(waiting, other)

    assert [1] == server.sizes


@pytest.mark.slow
async def test_a_server_that_is_gone_is_left_out_and_used_again(server: Scripted) -> None:
    """Nobody notices while there is another."""
    second = Scripted()
    async with serving(second):
        pass  # it has a port now, and nobody listens there
    async with Client(server.url, second.url) as client:
        for number in range(4):
            assert [2.0 * number] == (await client.predict("m", floats(number)))["y"].tolist()
            assert 3 == (await client.metadata("m")).version
        async with serving(second):
            await client._engine.probe()
            while not second.seen:
                await client.predict("m", floats(1))

    assert [1] == second.sizes


async def test_a_question_goes_to_another_server_where_the_first_has_died(server: Scripted) -> None:
    """It changes nothing, so it can be asked again."""
    second = Scripted()
    async with serving(second):
        client = Client(second.url, server.url)
        first = [(await client.metadata("m")).version for _ in range(2)]
    later = [(await client.metadata("m")).version for _ in range(3)]
    await client.aclose()

    assert ([3, 3], [3, 3, 3]) == (first, later)
    assert 4 == server.questions


async def test_without_any_server_the_reason_is_given() -> None:
    """At once, and for every kind of call."""
    nobody = Scripted()
    async with serving(nobody):
        pass
    async with Client(nobody.url) as client:
        errors: list[BaseException] = []
        for question in (client.predict("m", floats(1)), client.metadata("m"), client.status("m")):
            with pytest.raises(NoEndpoint) as caught:
                await question
            errors.append(caught.value)

    assert [True] * 3 == [f"({nobody.url}: " in str(error) for error in errors]


async def test_a_server_that_stops_between_two_calls_is_noticed() -> None:
    """The call that meets it is told so, those after it that there is no server."""
    gone = Scripted()
    async with serving(gone):
        client = Client(gone.url)
        await known(client, gone)
    with pytest.raises(BackendUnavailable) as first:
        await client.predict("m", floats(1))
    with pytest.raises(NoEndpoint) as second:
        await client.predict("m", floats(1))
    await client.aclose()

    assert first.value.message in second.value.message


# ---------------------------------------------------------------- life


def test_a_client_is_made_without_a_loop() -> None:
    """And shows where it leads; a second door is not needed."""
    client = Client("grpc://tf:8500,http://tf:8501", "grpc://unix:/run/tf.sock", "http://tf:8501")
    of_v2 = Client("v2+http://triton:8000,v2+grpc://triton:8001", "v2+http://triton:8000")
    within_tls = Client("grpcs://tf:8500", "https://tf:8501")

    assert "Client('grpc://tf:8500', 'grpc://unix:/run/tf.sock', 'http://tf:8501')" == repr(client)
    assert "Client('v2+grpc://triton:8001', 'v2+http://triton:8000')" == repr(of_v2)
    assert "Client('grpcs://tf:8500', 'https://tf:8501')" == repr(within_tls)


@pytest.mark.parametrize(
    ("endpoints", "options", "text"),
    [
        ((), {}, "a client needs a server, as in Client('grpc://tf:8500')"),
        (
            ("onnx:model.onnx",),
            {},
            (
                "endpoint 'onnx:model.onnx' is no server; a client needs grpc://HOST:PORT, http://HOST:PORT, "
                "v2+grpc://HOST:PORT or v2+http://HOST:PORT"
            ),
        ),
        (
            ("grpc://tf:1", "v2+grpc://triton:1"),
            {},
            "endpoint 'v2+grpc://triton:1' speaks another protocol than those before it; make a client for each",
        ),
        (("tf:8500",), {}, "endpoint 'tf:8500' has no scheme; write 'grpc://tf:8500' or 'http://tf:8500'"),
        (("grpc://tf:1", "grpc://tf:1"), {}, "endpoint 'grpc://tf:1' is given twice; name each server once"),
        (
            ("grpc://tf:1",),
            {"static_headers": {"é": "x"}},
            "static_headers: header 'é' cannot be sent as gRPC metadata: visible ASCII characters only",
        ),
        (("grpc://tf:1",), {"static_headers": {"te": "x"}}, "static_headers: 'te' is written by gRPC itself"),
        *(
            (
                ("grpc://tf:1",),
                options,
                (
                    "max_batch_rows, max_queued_rows and max_inflight must be 1 or more, "
                    "max_delay_ms and canary_every 0 or more"
                ),
            )
            for options in (
                {"max_batch_rows": 0},
                {"max_queued_rows": 0},
                {"max_inflight": 0},
                {"max_delay_ms": -1},
                {"canary_every": -1},
            )
        ),
    ],
)
def test_what_cannot_be_is_said_at_once(endpoints: tuple[str, ...], options: dict[str, Any], text: str) -> None:
    """What is wrong, and what would be right."""
    with pytest.raises(ConfigError) as caught:
        Client(*endpoints, **options)

    assert text == caught.value.message


async def test_closing_answers_who_is_there_and_takes_nobody_new(server: Scripted) -> None:
    """Calls in flight and in the queue are finished; closing again does nothing."""
    client = Client(server.url, max_inflight=1)
    await known(client, server)
    server.predict_gate.clear()
    running = asyncio.ensure_future(client.predict("m", floats(1)))
    await server.entered.wait()
    queued = asyncio.ensure_future(client.predict("m", floats(2)))
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(client.aclose())
    await asyncio.sleep(0)
    for question in (client.predict("m", floats(3)), client.metadata("m"), client.status("m")):
        with pytest.raises(Draining):
            await question
    server.predict_gate.set()
    replies = await asyncio.gather(running, queued)
    await closing
    await client.aclose()

    assert [[2.0], [4.0]] == [reply["y"].tolist() for reply in replies]


async def test_closing_answers_those_who_wait_for_a_signature(server: Scripted) -> None:
    """Questions under way are given up, and whoever asked is told that the client was closed."""
    client = Client(server.url)
    server.metadata_gate.clear()
    waiting = [
        asyncio.ensure_future(client.predict("m", {"x": [1.0]})),
        asyncio.ensure_future(client.metadata("m")),
    ]
    for _ in waiting:
        await server.asked.acquire()
    await client.aclose()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    server.metadata_gate.set()

    assert [Draining, Draining] == [type(result) for result in results]


async def test_closing_before_the_first_probe_has_ended_answers_its_callers(server: Scripted) -> None:
    """Likewise for the very first call; a client that was never used closes, too."""
    await Client(server.url).aclose()
    client = Client(server.url)
    waiting = asyncio.ensure_future(client.predict("m", floats(1)))
    await asyncio.sleep(0)
    await client.aclose()
    with pytest.raises(Draining):
        await waiting
    with pytest.raises(Draining):
        await client.__aenter__()

    assert [] == server.seen
