"""Floods over real sockets: who floods is told why and closed, and everybody else goes on being answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from batchproxy.core.errors import Code
from batchproxy.frontends.door import Door
from batchproxy.frontends.grpc_routes import METHODS, GrpcAnswer, GrpcRoutes
from batchproxy.frontends.listener import SHARDS, Listener
from batchproxy.frontends.rest_routes import RestRoutes
from batchproxy.wire import frames
from batchproxy.wire.base import Limits
from batchproxy.wire.frames import ErrorCode, frame
from batchproxy.wire.headers import literal
from batchproxy.wire.http2 import Http2Connection
from batchproxy.wire.http2_limits import Http2Limits
from tests.http2_client import Client
from tests.http2_floods import BEGUN, FLOODS
from tests.http2_peer import CALL, Peer, data, prefixed
from tests.listening import Held, answer_of, open_to, until

POST = b"POST /echo HTTP/1.1\r\nHost: h\r\n"
AT_ONCE = 100
"""Frames between two looks at the others."""


class Echo:
    """gRPC routes that answer with what came."""

    methods = METHODS

    def handle(
        self, method: str, message: bytes, timeout_s: float | None, respond: Callable[[GrpcAnswer], None], *_: object
    ) -> None:
        respond(GrpcAnswer(Code.OK, "", message))


class Clock:
    """Stands still until it is moved."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def serving(**arguments: Any) -> AsyncIterator[tuple[Listener, Client]]:
    """Routes that echo, and an honest client on a connection of its own; no time passes, so nothing is forgiven."""
    listener = Listener(
        cast("RestRoutes", Held()), cast("GrpcRoutes", Echo()), "127.0.0.1", 0, **{"clock": Clock(), **arguments}
    )
    await listener.start()
    path = arguments.get("unix_path")
    honest = Client(*await asyncio.open_unix_connection(path)) if path else await Client.connected(listener)
    try:
        yield listener, honest
    finally:
        honest.close()
        await listener.aclose()


async def is_answered(honest: Client) -> bool:
    """Whether an honest call gets its own answer."""
    text = b"call %d" % honest.peer.next
    honest.call(text)
    return prefixed(text) == (await honest.answer())[2]


async def flood(
    listener: Listener, honest: Client, first: Callable[[Peer], bytes], more: Callable[[Peer], bytes]
) -> tuple[ErrorCode, str]:
    """Send ``more`` again and again, with honest calls in between; returns what was said at the end."""
    attacker = await Client.connected(listener)
    attacker.call(b"one honest call")
    await attacker.answer()
    attacker.send(first(attacker.peer))
    for _ in range(1500 // AT_ONCE):
        attacker.send(*(more(attacker.peer) for _ in range(AT_ONCE)))
        await attacker.sent()

        assert await is_answered(honest)
    try:
        return await attacker.goaway()
    finally:
        attacker.close()


@pytest.mark.parametrize(
    ("first", "more"),
    [
        *((lambda _: b"", more) for _, more in FLOODS),
        *((first, lambda _, again=again: again) for _, first, again in BEGUN),
    ],
    ids=[*(name for name, _ in FLOODS), *(name for name, _, _ in BEGUN)],
)
async def test_floods(first: Callable[[Peer], bytes], more: Callable[[Peer], bytes]) -> None:
    """ENHANCE_YOUR_CALM."""
    async with serving() as (listener, honest):
        code, reason = await flood(listener, honest, first, more)
        await until(lambda: listener.connections == 1)

    assert ErrorCode.ENHANCE_YOUR_CALM is code
    assert reason


async def test_header_bombs() -> None:
    """Small blocks that mean many bytes are answered 431, until they are a flood themselves."""
    bomb = literal(b"bomb", b"x" * 3900)
    plant = b"\x82\x86\x84\x40" + bomb[1:]  # GET / and a field that enters the table

    def explode(peer: Peer) -> bytes:
        return frame(frames.HEADERS, 5, peer.take(), b"\x82\x86\x84" + b"\xbe" * 200)

    async with serving() as (listener, honest):
        said = await flood(listener, honest, lambda peer: frame(frames.HEADERS, 5, peer.take(), plant), explode)

    assert ErrorCode.ENHANCE_YOUR_CALM is said[0]


async def test_more_than_the_window() -> None:
    """DATA that was not allowed ends its stream: nothing of it is kept."""
    limits = Http2Limits(window_bytes=64 << 10, promised_bytes=0)  # one long message at a time
    beginning = prefixed(bytes(1 << 20))[:16384]
    async with serving(http2_limits=limits) as (listener, honest):
        attacker = await Client.connected(listener)
        for stream in (1, 3):
            attacker.send(attacker.peer.headers(CALL, stream), data(stream, beginning))
        attacker.send(*(data(3, bytes(16384)) for _ in range(6)))
        reset = await attacker.reset()
        still = await is_answered(honest)
        attacker.close()

    assert (3, ErrorCode.FLOW_CONTROL_ERROR) == reset
    assert still


async def test_callers_that_shut_their_windows() -> None:
    """Their answers wait for a while, and are given up; others' are sent past them."""
    clock = Clock()
    async with serving(clock=clock) as (listener, honest):
        attackers = [await Client.connected(listener) for _ in range(20)]
        for attacker in attackers:
            attacker.send(frames.settings((frames.INITIAL_WINDOW_SIZE, 0)))
            for _ in range(50):
                attacker.call(bytes(1000))
        await until(lambda: sum(map(_streams, _with_streams(listener))) == 20 * 50)
        during = await is_answered(honest)
        for _ in range(3):
            clock.now += Http2Limits().patience_s
            for _ in range(SHARDS):
                listener._sweep()
        await until(lambda: not _with_streams(listener))
        after = await is_answered(honest)
        for attacker in attackers:
            attacker.close()

    assert (True, True) == (during, after)


def _streams(door: Door) -> int:
    wire = door._wire
    return len(wire.requests.outlet.streams) if isinstance(wire, Http2Connection) else 0


def _with_streams(listener: Listener) -> list[Door]:
    """The connections on which something is asked."""
    return [door for door in listener._doors() if _streams(door)]


async def test_slow_senders_of_either_protocol() -> None:
    """A head, a body or a frame that does not come to its end: 408, or GOAWAY; others are answered."""
    clock = Clock()
    async with serving(clock=clock) as (listener, honest):
        slow = [await open_to(listener) for _ in range(3)]
        begun = (b"GET / HT", b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nx", b"PRI * HTT")
        for (_, writer), text in zip(slow, begun, strict=True):
            writer.write(text)
        frames_of_one = await Client.connected(listener)
        frames_of_one.send(frame(frames.HEADERS, 4, 1, b"\x82\x86\x84")[:-1])
        await until(lambda: len([door for door in listener._doors() if door._wire is not None]) == 4)
        await until(lambda: _half_a_frame_is_there(listener))
        for _ in range(3):
            clock.now += 31
            for _ in range(SHARDS):
                listener._sweep()
        code, _ = await frames_of_one.goaway()
        statuses = [(await answer_of(reader))[0] for reader, _ in slow[:2]]
        rest = await slow[2][0].read()
        still = await is_answered(honest)
        for _, writer in slow:
            writer.close()
        frames_of_one.close()

    assert [408, 408] == statuses
    assert b"" == rest
    assert ErrorCode.ENHANCE_YOUR_CALM is code
    assert still


def _half_a_frame_is_there(listener: Listener) -> bool:
    """Whether half a frame is kept."""
    return any(getattr(door._wire, "_parts", None) for door in listener._doors())


async def test_thousands_of_idle_connections(tmp_path: Path) -> None:
    """They cost a look a second, and nothing else; two thousand here, half of them within HTTP/2."""
    path = str(tmp_path / "socket")  # ports are scarce where other tests have just left theirs
    async with serving(unix_path=path) as (listener, honest):
        idle = []
        for number in range(2000):
            _, writer = await asyncio.open_unix_connection(path)
            writer.write(frames.PREFACE if number % 2 else b"GET /echo HTTP/1.1\r\nHost: h\r\n\r\n")
            idle.append(writer)
        await until(lambda: listener.connections == 2001)
        answers = [await is_answered(honest) for _ in range(20)]
        for _ in range(SHARDS):
            listener._sweep()
        answers.append(await is_answered(honest))
        for writer in idle:
            writer.close()

    assert [True] * 21 == answers


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /" + b"a" * 9000, 414),
        (b"GET / HTTP/1.1\r\nHost: h\r\n" + b"X: y\r\n" * 20_000, 431),
        (POST + b"Content-Length: 99999999999\r\n\r\n", 413),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n" + (b"1;" + b"x" * 900 + b"\r\ny\r\n") * 500, 400),
    ],
    ids=["a long line", "many fields", "a long body", "more framing than data"],
)
async def test_http_1_1_bombs(sent: bytes, status: int) -> None:
    """Are refused with a page that says why, and the connection is closed; others are answered."""
    async with serving(limits=Limits()) as (listener, honest):
        reader, writer = await open_to(listener)
        writer.write(sent)
        found, page = await answer_of(reader)
        still = await is_answered(honest)
        writer.close()

    assert status == found
    assert b"<H1>" in page
    assert still
