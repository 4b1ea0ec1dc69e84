"""What tests of the listener share: routes to hold requests, ways to connect, a protocol of no use but for telling."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

from batchproxy.frontends.door import Door, Wire
from batchproxy.frontends.listener import Listener
from batchproxy.frontends.rest_answers import RestAnswer
from batchproxy.frontends.rest_routes import RestRoutes
from batchproxy.wire.frames import PREFACE
from tests.serving import Recorder, a_directory

PREDICT = "/v1/models/half_plus_two:predict"
TLS = Path(__file__).parent / "tls"


class Held:
    """Routes that keep requests until the test answers them; an echo where there is a path to echo."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[RestAnswer], None]] = []
        self.bodies: list[bytes] = []
        self.cancelled = asyncio.Event()
        self.come = asyncio.Event()

    def handle(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, respond: Callable[[RestAnswer], None]
    ) -> Held | None:
        self.bodies.append(body)
        if path == "/echo":
            respond(RestAnswer(200, body))
            return None
        if path == "/split":
            respond(RestAnswer(200, b"", {"X": "a\r\nb: c"}))
            return None
        if path == "/broken":
            raise KeyError(path)
        self.waiting.append(respond)
        self.come.set()
        return self

    def done(self) -> bool:
        return False

    def cancel(self) -> None:
        self.cancelled.set()


@asynccontextmanager
async def listening(routes: object = None, **arguments: Any) -> AsyncIterator[Listener]:
    """A listener on a free port of 127.0.0.1."""
    listener = Listener(cast("RestRoutes", routes), None, "127.0.0.1", 0, **arguments)
    await listener.start()
    try:
        yield listener
    finally:
        await listener.aclose()


@asynccontextmanager
async def predicting(**arguments: Any) -> AsyncIterator[tuple[Listener, Recorder]]:
    """A listener before the real routes and one small model."""
    recorder = Recorder()
    async with a_directory(recorder) as directory:
        clock = asyncio.get_running_loop().time
        routes = RestRoutes(directory, recorder, clock, timeout_s=30, deadline_header="x-request-timeout-ms")
        async with listening(routes, **arguments) as listener:
            yield listener, recorder


def port(listener: Listener) -> int:
    """Where it listens."""
    return int(listener.address.rpartition(":")[2])


async def open_to(listener: Listener, **arguments: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A raw connection."""
    return await asyncio.open_connection("127.0.0.1", port(listener), **arguments)


def post(path: str, body: bytes, *fields: str) -> bytes:
    """A request."""
    head = "\r\n".join([f"POST {path} HTTP/1.1", "Host: h", *fields, f"Content-Length: {len(body)}"])
    return head.encode() + b"\r\n\r\n" + body


async def answer_of(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Status and body of the next answer."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
    return int(head.split(" ")[1]), await reader.readexactly(length)


async def until(condition: Callable[[], object]) -> None:
    """Let the loop turn until something is so; the test's time limit bounds it."""
    for _ in range(10_000_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came about")


def the_door(listener: Listener) -> Door:
    """Its only connection."""
    (door,) = listener._doors()
    return door


class Other:
    """A connection of another protocol: every byte is a request, and its answer is that byte."""

    def __init__(self) -> None:
        self.closing = self.full = False
        self.on_room = None
        self._out = b""

    def feed(self, data: bytes, now: float) -> list[bytes]:
        return [data] if data else []

    def say(self, data: bytes) -> None:
        self._out += data

    def output(self) -> bytes:
        out, self._out = self._out, b""
        return out

    def due(self) -> None:
        return None

    def tick(self, now: float) -> None:
        """Nothing is due."""

    def eof(self, now: float) -> None:
        self.closing = True

    def lost(self) -> None:
        """Nobody waits."""

    def held(self) -> int:
        return 0

    def drain(self, now: float) -> None:
        self.closing = True

    def paused(self, yes: bool) -> None:
        """Reads on."""


def speak_other(listener: Listener) -> None:
    """Let the listener take HTTP/2 for the protocol above."""
    listener.wires[PREFACE] = Wire(lambda now: cast("Any", Other()), _repeat)


def _repeat(door: Door, data: bytes) -> None:
    cast("Other", door._wire).say(data)


def tls(side: int, *alpn: str) -> ssl.SSLContext:
    """One side's context; each trusts the other."""
    made = ssl.SSLContext(side)
    if side == ssl.PROTOCOL_TLS_SERVER:
        made.load_cert_chain(TLS / "cert.pem", TLS / "key.pem")
    else:
        made.load_verify_locations(TLS / "cert.pem")
    if alpn:
        made.set_alpn_protocols(list(alpn))
    return made
