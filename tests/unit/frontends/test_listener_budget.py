"""Too many bytes at once, over real sockets: large bodies wait or are refused, small callers notice nothing (R7)."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import grpc
import grpc.aio
import pytest

from batchproxy.codecs.tfs_grpc import PREDICT
from batchproxy.core.errors import Code
from batchproxy.frontends.grpc_routes import METHODS, GrpcAnswer, GrpcRoutes
from batchproxy.frontends.listener import Listener
from batchproxy.frontends.rest_answers import RestAnswer
from batchproxy.frontends.rest_routes import RestRoutes
from batchproxy.wire.base import Limits
from batchproxy.wire.budget import READ_BYTES, Budget
from batchproxy.wire.http2_limits import Http2Limits
from tests.http2_client import Client
from tests.http2_peer import CALL, data, prefixed
from tests.listening import Held, answer_of, open_to, port, post, until

MIB = 1 << 20
CALLERS = 200
BODY = bytes(2 * MIB)
PIECE = 128 << 10


class Count:
    """Routes of both kinds that answer with the length of what came; some only when the test lets them.

    Attributes:
        let_go: answers to be given.
        kept: given to whoever works on a request whose caller is gone.
    """

    methods = METHODS

    def __init__(self, *, hold: bool = False) -> None:
        self.hold = hold
        self.let_go: list[Callable[[], None]] = []
        self.kept: list[object] = []

    def handle(self, method: str, second: Any, third: Any, fourth: Any, fifth: Any) -> Count | None:
        """As REST: method, path, headers, body, respond. As gRPC: method, message, timeout, respond, route."""
        if isinstance(fourth, bytes):
            answer = RestAnswer(200, b"%d" % len(fourth))
            return self._answer(lambda: fifth(answer), len(fourth))
        return self._answer(lambda: fourth(GrpcAnswer(Code.OK, "", b"%d" % len(second))), len(second))

    def _answer(self, respond: Callable[[], None], size: int) -> Count | None:
        if self.hold and size > PIECE:
            self.let_go.append(respond)
            return self
        respond()
        return None

    def streams(self, path: str) -> None:
        """None is streamed."""

    def done(self) -> bool:
        return False

    def cancel(self, keep: object = None) -> None:
        self.kept.append(keep)


@asynccontextmanager
async def counting(routes: Count, limit: int, **arguments: Any) -> AsyncIterator[tuple[Listener, Budget]]:
    """A listener on a small budget."""
    budget = Budget(limit)
    listener = Listener(
        cast("RestRoutes", routes), cast("GrpcRoutes", routes), "127.0.0.1", 0, budget=budget, **arguments
    )
    await listener.start()
    try:
        yield listener, budget
    finally:
        await listener.aclose()


async def slowly(listener: Listener) -> tuple[int, bytes]:
    """A large body, a piece at a time."""
    reader, writer = await open_to(listener)
    writer.write(post("/", b"").replace(b"Content-Length: 0", b"Content-Length: %d" % len(BODY)))
    for start in range(0, len(BODY), PIECE):
        writer.write(BODY[start : start + PIECE])
        await writer.drain()
        await asyncio.sleep(0)
    answer = await answer_of(reader)
    writer.close()
    return answer


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


async def test_two_hundred_large_bodies_at_once() -> None:
    """400 MiB on a budget of 16: never much more is held; small callers are answered; so are large ones, or refused."""
    async with counting(Count(), 16 * MIB) as (listener, budget):
        before = resident()
        large = [asyncio.create_task(slowly(listener)) for _ in range(CALLERS)]
        reader, writer = await open_to(listener)
        held = memory = small = 0
        while not all(task.done() for task in large):
            writer.write(post("/", b"hello"))

            assert (200, b"5") == await answer_of(reader)
            held, memory, small = max(held, budget.held), max(memory, resident() - before), small + 1
        answers = [task.result() for task in large]
        answered = answers.count((200, b"%d" % len(BODY)))
        writer.close()
        await until(lambda: listener.connections == 0)
        left = budget.held

    assert {200, 503} >= {status for status, _ in answers}
    assert answered >= CALLERS // 4
    assert held <= 16 * MIB + CALLERS * READ_BYTES
    assert memory < 128 * MIB
    assert (small > 10, 0) == (True, left)


async def test_large_messages_at_once() -> None:
    """The same over HTTP/2, by grpcio: their windows are opened as there is room."""
    async with counting(Count(), 16 * MIB) as (listener, budget):
        options = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
        channels = [grpc.aio.insecure_channel(f"127.0.0.1:{port(listener)}", options) for _ in range(4)]
        large = [
            asyncio.ensure_future(channels[number % 4].unary_unary(PREDICT)(BODY, wait_for_ready=True))
            for number in range(40)
        ]
        small = Client(*await open_to(listener))
        held = 0
        while not all(call.done() for call in large):
            small.call(b"hello")

            assert prefixed(b"5") == (await small.answer())[2]
            held = max(held, budget.held)
        answers = {call.result() for call in large}
        small.close()
        for channel in channels:
            await channel.close()
        await until(lambda: listener.connections == 0)
        left = budget.held

    assert {b"%d" % len(BODY)} == answers
    assert (held <= 16 * MIB, 0) == (True, left)


async def test_nothing_is_read_where_nothing_has_room() -> None:
    """503 and UNAVAILABLE before the body is read, and when to come again; what came with its head is served."""
    async with counting(Count(), MIB) as (listener, budget):
        budget.charge(MIB)
        reader, writer = await open_to(listener)
        writer.write(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        refused = (await reader.read()).lower()
        writer.close()
        reader, writer = await open_to(listener)
        writer.write(post("/", b"hello"))
        served = await answer_of(reader)
        writer.close()
        client = await Client.connected(listener)
        client.call(b"hello")
        _, fields, _ = await client.answer()
        client.request((*CALL[:2], (":path", "/"), (":method", "POST")), b"hello")
        client.close()

    assert refused.startswith(b"http/1.1 503 ")
    assert b"\r\nretry-after: 1\r\n" in refused
    assert (200, b"5") == served
    assert ("14", "1000") == (fields["grpc-status"], fields["grpc-retry-pushback-ms"])


async def test_who_waits_for_room_too_long_is_refused() -> None:
    """As long as a body may take at the most; then there is room again for whoever comes."""
    async with counting(Count(), 4 * MIB, limits=Limits(body_s=0.5), http2_limits=Http2Limits(patience_s=0.5)) as (
        listener,
        budget,
    ):
        budget.charge(3 * MIB + 1)
        reader, writer = await open_to(listener)
        writer.write(post("/", b"").replace(b"Content-Length: 0", b"Content-Length: %d" % MIB) + bytes(PIECE))
        client = await Client.connected(listener)
        client.send(client.peer.headers(CALL, client.peer.take()), data(1, prefixed(bytes(MIB))[:1000]))
        refused = (await reader.read()).lower()
        _, fields, _ = await client.answer()
        writer.close()
        client.close()
        await until(lambda: listener.connections == 0)
        left = budget.held

    assert refused.startswith(b"http/1.1 503 ")
    assert b"\r\nretry-after: 1\r\n" in refused
    assert ("14", "1000") == (fields["grpc-status"], fields["grpc-retry-pushback-ms"])
    assert 3 * MIB + 1 == left


@pytest.mark.parametrize("protocol", ["http/1.1", "h2"])
async def test_a_caller_that_leaves(protocol: str) -> None:
    """Its body stays charged until nothing of its request is left."""
    routes = Count(hold=True)
    async with counting(routes, 16 * MIB) as (listener, budget):
        if protocol == "h2":
            channel = grpc.aio.insecure_channel(f"127.0.0.1:{port(listener)}")
            call = channel.unary_unary(PREDICT)(BODY)
            await until(lambda: routes.let_go)
            call.cancel()
        else:
            _, writer = await open_to(listener)
            writer.write(post("/", BODY))
            await until(lambda: routes.let_go)
            writer.close()
        await until(lambda: routes.kept)
        held = budget.held
        routes.kept.clear()
        routes.let_go.clear()
        await until(lambda: budget.held == 0)
        if protocol == "h2":
            await channel.close()

    assert len(BODY) <= held <= len(BODY) + 1024


async def test_what_a_compressed_body_becomes_counts() -> None:
    """Before it is inflated; where there is no room, it is refused."""
    routes = Count(hold=True)
    packed = gzip.compress(bytes(8 * MIB))
    async with counting(routes, 16 * MIB) as (listener, budget):
        reader, writer = await open_to(listener)
        request = post("/", packed, "Content-Encoding: gzip")
        writer.write(request)
        await until(lambda: routes.let_go)
        held = budget.held
        routes.let_go.pop()()
        first = await answer_of(reader)
        budget.charge(16 * MIB)
        writer.write(request)
        second = await answer_of(reader)
        writer.close()

    assert 8 * MIB + len(packed) >= held >= 8 * MIB
    assert ((200, b"%d" % (8 * MIB)), 503) == (first, second[0])


async def test_what_a_compressed_body_claims_to_become_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond what may be inflated it is empty; nobody else is refused for it meanwhile."""
    charged: list[int] = []
    charge = Budget.charge

    def watched(budget: Budget, more: int, *claim: Any) -> object:
        charged.append(more)
        return charge(budget, more, *claim)

    monkeypatch.setattr(Budget, "charge", watched)
    body = gzip.compress(bytes(PIECE)) + bytes(PIECE) + b"\xff" * 4
    async with counting(Count(), 16 * MIB) as (listener, _):
        reader, writer = await open_to(listener)
        writer.write(post("/", body, "Content-Encoding: gzip"))
        answer = await answer_of(reader)
        writer.close()

    assert (200, b"0") == answer
    assert max(charged, default=0) <= MIB


async def test_small_things_are_counted_now_and_then() -> None:
    """Bodies and answers below the threshold, once a second; a connection that closes takes them along."""
    routes = Held()
    budget = Budget()
    listener = Listener(cast("RestRoutes", routes), None, "127.0.0.1", 0, budget=budget)
    await listener.start()
    _, writer = await open_to(listener)
    writer.write(post("/", bytes(1000)) + post("/", bytes(500)))
    await until(lambda: budget.held == 1500)
    client = await Client.connected(listener)
    client.request(((":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "h")), bytes(3000))
    await until(lambda: budget.held == 4500)
    writer.close()
    client.close()
    await until(lambda: budget.held == 0)
    await listener.aclose()
