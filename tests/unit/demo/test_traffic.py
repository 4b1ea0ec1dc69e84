"""Tests of ``batchproxy.demo.traffic`` against servers that answer, refuse, mumble and hang up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc
import pytest

from batchproxy.demo import traffic
from batchproxy.demo.traffic import Answers, content_length

HOST = "127.0.0.1"
BODIES = [b"zero", b"one", b"two"]
REST = [b"POST /%d HTTP/1.1\r\nContent-Length: 0\r\n\r\n" % row for row in range(3)]
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def answer(status: bytes, body: bytes) -> bytes:
    """An HTTP/1.1 answer."""
    return b"HTTP/1.1 %b\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body)


def rest_server(reply: Callable[[int], list[bytes]]) -> Handler:
    """Sends the pieces that ``reply`` gives for a row, one write each; an empty piece closes the connection."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while line := await reader.readline():
                for piece in reply(int(line.split()[1][1:])) if line.startswith(b"POST") else ():
                    if not piece:
                        return
                    writer.write(piece)
                    await writer.drain()

    return handle


class Predict(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Answers a message with itself, doubled; refuses ``two``."""

    def service(self, details: Any) -> Any:
        """One method."""
        return grpc.unary_unary_rpc_method_handler(self._double) if details.method == traffic.PREDICT else None

    async def _double(self, request: bytes, context: Any) -> bytes:
        if request == b"two":
            await context.abort(grpc.StatusCode.UNAVAILABLE, "not two")
        return request * 2


@asynccontextmanager
async def servers(handler: Handler) -> AsyncIterator[tuple[tuple[str, int], str]]:
    """A REST and a gRPC server."""
    handlers = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.append(asyncio.current_task())
        await handler(reader, writer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    rest = await asyncio.start_server(connected, HOST, 0)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([Predict()])
    port = server.add_insecure_port(f"{HOST}:0")
    await server.start()
    yield (HOST, rest.sockets[0].getsockname()[1]), f"{HOST}:{port}"
    rest.close()
    await asyncio.gather(*filter(None, handlers))  # the callers have hung up, so all of them end
    await server.stop(None)


async def load(handler: Handler, callers: int = 6, seconds: float = 0.25) -> Answers:
    """A short run against ``handler``."""
    async with servers(handler) as (rest, address):
        return await traffic.run(
            rest, address, REST, BODIES, callers=callers, seconds=seconds, progress=lambda count, elapsed: None
        )


async def test_answers_belong_to_their_rows() -> None:
    """REST and gRPC, answers in one piece or several; errors are lost requests with their reason."""
    whole = [answer(b"200 OK", body) for body in BODIES]
    found = await load(rest_server(lambda row: [whole[row][:5], whole[row][5:-1], whole[row][-1:]]))

    assert {(row, body) for row, body in enumerate(BODIES)} == set(found.rest)
    assert {(0, b"zerozero"), (1, b"oneone")} == set(found.grpc)
    assert {"gRPC: UNAVAILABLE not two"} == set(found.lost)
    assert found.total == len(found.rest) + len(found.grpc) + len(found.lost)
    assert 0.25 <= found.seconds < 5
    assert found.per_second == (len(found.rest) + len(found.grpc)) / found.seconds


async def test_rest_errors_are_lost() -> None:
    """Another status than 200 is told with the body; the caller goes on."""
    found = await load(rest_server(lambda row: [answer(b"503 Service Unavailable", b'{"error": "full"}')]), callers=2)
    lost = [reason for reason in found.lost if reason.startswith("REST")]

    assert 1 < len(lost)
    assert {'REST: HTTP/1.1 503 Service Unavailable, b\'{"error": "full"}\''} == set(lost)
    assert [] == found.rest


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ([b""], "REST: the connection was closed (None)"),
        ([b"HTTP/1.1 200 OK\r\n\r\n"], "REST: an answer without Content-Length: b'HTTP/1.1 200 OK'"),
    ],
)
async def test_a_connection_that_fails(reply: list[bytes], reason: str) -> None:
    """Ends its caller, and the request under way is lost."""
    found = await load(rest_server(lambda row: reply), callers=2)

    assert [reason] == [text for text in found.lost if text.startswith("REST")]


async def test_no_answer_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patience ends, and the request is lost."""
    monkeypatch.setattr(traffic, "PATIENCE_S", 0.05)
    found = await load(rest_server(lambda row: []), callers=2)

    assert ["REST: no answer for 0.05 s"] == [text for text in found.lost if text.startswith("REST")]


async def test_nobody_listens() -> None:
    """Both kinds of callers say so."""
    async with servers(rest_server(lambda row: [])) as (rest, address):
        pass
    found = await traffic.run(rest, address, REST, BODIES, callers=2, seconds=0.05, progress=lambda *_: None)

    assert any(text.startswith("REST: cannot connect to") for text in found.lost)
    assert any(text.startswith("gRPC: UNAVAILABLE") for text in found.lost)
    assert 0.0 == found.per_second


async def test_progress_is_told() -> None:
    """Five times a second: answers so far and seconds."""
    told: list[tuple[int, float]] = []
    async with servers(rest_server(lambda row: [answer(b"200 OK", BODIES[row])])) as (rest, address):
        await traffic.run(
            rest, address, REST, BODIES, callers=2, seconds=0.5, progress=lambda n, s: told.append((n, s))
        )

    assert 2 <= len(told) <= 3
    assert 0 < told[0][0] <= told[1][0]
    assert 0.15 < told[0][1] < told[1][1]


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 12", 12),
        (b"HTTP/1.1 200 OK\r\nServer: x\r\ncontent-length:0", 0),
        (b"HTTP/1.1 200 OK\r\nContent-Length: many", None),
        (b"HTTP/1.1 200 OK", None),
    ],
)
def test_content_length(head: bytes, expected: int | None) -> None:
    """In any case of letters; None where there is none."""
    assert expected == content_length(head)


def test_no_time_no_rate() -> None:
    """A run that never was divides by nothing."""
    assert 0.0 == Answers().per_second


def test_runs_add_up() -> None:
    """Several short runs count as one."""
    found = Answers([(0, b"a")], [(1, b"b")], ["lost"], 2.0)
    found.add(Answers([(2, b"c")], [], [], 1.0))

    assert Answers([(0, b"a"), (2, b"c")], [(1, b"b")], ["lost"], 3.0) == found
    assert (4, 1.0) == (found.total, found.per_second)
