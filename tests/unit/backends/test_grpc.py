"""Both gRPC doors: unary calls, with grpcio's threaded server at the other end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import cast

import grpc
import pytest

from batchproxy.core.errors import BackendLost, BackendRejected, BackendUnavailable, Code
from batchproxy.core.raw import RawReply
from tests.strangers import DOORS, Kind, Running, a_door


@pytest.fixture(params=DOORS)
def client(request: pytest.FixtureRequest) -> Kind:
    """One door, then the other."""
    return cast("Kind", request.param)


@pytest.fixture
def running() -> Iterator[Running]:
    """A server of one's own."""
    server = Running()
    yield server
    server.stop()


def raw_of(reply: RawReply | None) -> tuple[object, ...]:
    """A reply's fields, to compare."""
    assert reply is not None
    return reply.status, reply.message, tuple(reply.headers), reply.body, tuple(reply.trailers)


# ---------------------------------------------------------------- unary calls


async def test_a_good_call_and_its_metadata_pass_unchanged(running: Running, client: Kind) -> None:
    """Message, metadata of both kinds and both ends, duplicates, bytes."""
    sent = (("a", "1"), ("a", "2"), ("k-bin", b"\0\xff"), ("te", "trailers"), ("user-agent", "me"), ("grpc-x", "1"))
    async with a_door(running.port, client) as door:
        reply = await door.call("/s/echo", sent, b"\0body", None)
    seen = [pair for pair in running.stranger.metadata if pair[0] != "user-agent"]

    assert [("a", "1"), ("a", "2"), ("k-bin", b"\0\xff")] == [tuple(pair) for pair in seen]
    assert (
        0,
        "",
        (("i", "1"), ("i", "2"), ("i-bin", b"\xff\0")),
        b"\0body",
        (("t", "3"), ("t-bin", b"\0\x01")),
    ) == raw_of(reply)


async def test_messages_of_any_size_pass(running: Running, client: Kind) -> None:
    """gRPC's own limit of 4 MiB is lifted both ways; an empty message is one."""
    big = bytes(5 << 20)
    async with a_door(running.port, client) as door:
        replies = [(await door.call("/s/echo", (), body, 10.0)).body for body in (big, b"")]

    assert [big, b""] == replies


async def test_the_deadline_is_passed_on(running: Running, client: Kind) -> None:
    """The server learns how long is left, or that nobody waits for a given time."""
    async with a_door(running.port, client) as door:
        await door.call("/s/echo", (), b"", 7.0)
        await door.call("/s/echo", (), b"", None)
    limited, unlimited = running.stranger.deadlines

    assert limited is not None
    assert 1.0 < limited < 8.0  # gRPC rounds up
    assert unlimited is None or unlimited > 1e6


@pytest.mark.parametrize(
    ("code", "kind", "ours"),
    [
        ("INVALID_ARGUMENT", BackendRejected, Code.INVALID_ARGUMENT),
        ("NOT_FOUND", BackendRejected, Code.NOT_FOUND),
        ("RESOURCE_EXHAUSTED", BackendRejected, Code.RESOURCE_EXHAUSTED),
        ("CANCELLED", BackendRejected, Code.CANCELLED),
        ("DEADLINE_EXCEEDED", BackendRejected, Code.DEADLINE_EXCEEDED),
        ("UNKNOWN", BackendRejected, Code.UNKNOWN),
        ("UNAUTHENTICATED", BackendRejected, Code.UNAUTHENTICATED),
        ("UNAVAILABLE", BackendUnavailable, Code.UNAVAILABLE),
    ],
)
@pytest.mark.parametrize("trailer", ["", "x"])
async def test_what_the_server_says_is_kept_word_for_word(
    running: Running, code: str, kind: type[BackendRejected], ours: Code, trailer: str, client: Kind
) -> None:
    """Any status but OK is an error of ours with the server's own answer in it."""
    async with a_door(running.port, client) as door:
        with pytest.raises(kind) as caught:
            await door.call(f"/s/abort/{code}/so there", (), trailer.encode(), None)
    number = grpc.StatusCode[code].value[0]

    assert (ours, "so there") == (caught.value.code, caught.value.message)
    assert (number, "so there", (), b"", (("t", "x"),) if trailer else ()) == raw_of(caught.value.raw)


async def test_words_of_the_transport_said_by_the_server_are_the_servers(running: Running, client: Kind) -> None:
    """Trailing metadata tells: no broken connection brings any."""
    async with a_door(running.port, client) as door:
        with pytest.raises(BackendUnavailable) as caught:
            await door.call("/s/abort/UNAVAILABLE/Socket closed", (), b"x", None)

    assert "Socket closed" == caught.value.message
    assert caught.value.raw is not None


async def test_an_exhausted_thread_pool_ran_nothing(running: Running, client: Kind) -> None:
    """R3: the one RESOURCE_EXHAUSTED that is not about size; a lone caller still sees it as it is."""
    async with a_door(running.port, client) as door:
        with pytest.raises(BackendUnavailable) as caught:
            await door.call("/s/abort/RESOURCE_EXHAUSTED/Server Threadpool Exhausted", (), b"", None)

    assert Code.UNAVAILABLE == caught.value.code
    assert (8, "Server Threadpool Exhausted", (), b"", ()) == raw_of(caught.value.raw)


async def test_a_message_too_large_for_the_server_is_rejected(client: Kind) -> None:
    """So that it is halved (R3), not sent to another server."""
    server = Running(limit_bytes=100)
    async with a_door(server.port, client) as door:
        with pytest.raises(BackendRejected) as caught:
            await door.call("/s/echo", (), bytes(200), None)
    server.stop()

    assert Code.RESOURCE_EXHAUSTED == caught.value.code


async def test_the_time_runs_out(running: Running, client: Kind) -> None:
    """Our own clock's DEADLINE_EXCEEDED looks like the server's."""
    async with a_door(running.port, client) as door:
        with pytest.raises(BackendRejected) as caught:
            await door.call("/s/hang", (), b"", 0.1)

    assert Code.DEADLINE_EXCEEDED == caught.value.code
    assert await asyncio.to_thread(running.stranger.cancelled.wait, 5)


async def test_cancelling_cancels_at_the_server(running: Running, client: Kind) -> None:
    """Nobody waits any more, and the server is told."""
    async with a_door(running.port, client) as door:
        task = asyncio.create_task(door.call("/s/hang", (), b"", None))
        await asyncio.to_thread(running.stranger.reached.wait, 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert await asyncio.to_thread(running.stranger.cancelled.wait, 5)


async def test_closing_the_door_loses_calls_and_refuses_new_ones(running: Running, client: Kind) -> None:
    """A call that we broke off ourselves may have run; one after that did not."""
    async with a_door(running.port, client) as door:
        task = asyncio.create_task(door.call("/s/hang", (), b"", None))
        await asyncio.to_thread(running.stranger.reached.wait, 5)
        await door.aclose()
        with pytest.raises(BackendLost, match="closed on our side"):
            await task
        with pytest.raises(BackendUnavailable, match="closed on our side"):
            await door.call("/s/echo", (), b"", None)


async def test_a_door_that_was_never_used_closes(client: Kind) -> None:
    """There is nothing to close."""
    await client("127.0.0.1:1").aclose()
