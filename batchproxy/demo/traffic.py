"""The load: many callers at once, each with one request under way, half REST, half gRPC. Answers are not judged here.

REST callers are bare connections that write requests made beforehand and count bytes of answers, so that the
load takes as little as possible of the processor that the proxy runs on.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import grpc

PREDICT = "/tensorflow.serving.PredictionService/Predict"

CHANNELS = 4
"""gRPC connections that the callers share: one alone would put all of them behind one writer."""

PATIENCE_S = 20.0
"""How long an answer may take; it is lost then."""


@dataclass
class Answers:
    """What came back.

    Attributes:
        rest: (row number, body) of each answer with status 200.
        grpc: (row number, message) of each answer with status OK.
        lost: why, of each request without such an answer.
        seconds: from the first request to the last answer.
    """

    rest: list[tuple[int, bytes]] = field(default_factory=list)
    grpc: list[tuple[int, bytes]] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, other: Answers) -> None:
        """Count a later run as part of this one."""
        self.rest += other.rest
        self.grpc += other.grpc
        self.lost += other.lost
        self.seconds += other.seconds

    @property
    def total(self) -> int:
        """Requests, answered or not."""
        return len(self.rest) + len(self.grpc) + len(self.lost)

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return (len(self.rest) + len(self.grpc)) / self.seconds if self.seconds else 0.0


class _Load:
    """What the callers of one run share."""

    def __init__(self, seconds: float) -> None:
        self.answers = Answers()
        self.rows: Iterator[int] = itertools.count()
        self.start = time.monotonic()
        self.end = self.start + seconds

    def going(self) -> bool:
        """Whether to send another request."""
        return time.monotonic() < self.end


class RestCaller(asyncio.Protocol):
    """One connection that sends its next request when it has read the answer to the last."""

    def __init__(self, load: _Load, requests: Sequence[bytes]) -> None:
        self._load = load
        self._requests = requests
        self._row = -1
        self._received = b""
        self._missing = -1
        self._transport: asyncio.Transport | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # as create_connection promises
        self._next()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        if self._missing < 0:
            length = content_length(head)
            if length is None:
                self.give_up(f"an answer without Content-Length: {head[:200]!r}")
                return
            self._missing = length
        if len(body) < self._missing:
            return
        if head.startswith(b"HTTP/1.1 200 "):
            self._load.answers.rest.append((self._row, body))
        else:
            self._load.answers.lost.append(f"REST: {head.splitlines()[0].decode('latin-1')}, {body[:200]!r}")
        self._row = -1
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        self.give_up(f"the connection was closed ({exc})")

    def give_up(self, reason: str) -> None:
        """End this caller; a request under way is lost."""
        if not self.done.done():
            if self._row >= 0:
                self._load.answers.lost.append(f"REST: {reason}")
            self.done.set_result(None)
        if self._transport is not None:
            self._transport.abort()

    def _next(self) -> None:
        if not self._load.going() or self._transport is None:
            self.give_up("")
            return
        self._received, self._missing = b"", -1
        self._row = next(self._load.rows) % len(self._requests)
        self._transport.write(self._requests[self._row])


def content_length(head: bytes) -> int | None:
    """The header's value; None where it is missing or no number."""
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length" and value.strip().isdigit():
            return int(value)
    return None


async def run(
    rest: tuple[str, int],
    grpc_address: str,
    rest_requests: Sequence[bytes],
    grpc_requests: Sequence[bytes],
    *,
    callers: int,
    seconds: float,
    progress: Callable[[int, float], None],
) -> Answers:
    """Send requests for ``seconds`` and wait for the answers.

    Args:
        rest: host and port of the REST door.
        grpc_address: ``host:port`` of the gRPC door.
        rest_requests: an HTTP/1.1 request for each row.
        grpc_requests: a serialized ``PredictRequest`` for each row.
        callers: how many at once; half of them REST, the odd one gRPC.
        seconds: how long new requests are sent.
        progress: told (answers, seconds since the start) five times a second.
    """
    load = _Load(seconds)
    half = callers // 2
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
    channels = [grpc.aio.insecure_channel(grpc_address, options) for _ in range(min(CHANNELS, callers - half))]
    calls = [channel.unary_unary(PREDICT) for channel in channels]
    ticker = _tick(load, progress)
    try:
        await asyncio.gather(
            *(_rest_caller(load, rest, rest_requests) for _ in range(half)),
            *(_grpc_caller(load, calls[i % len(calls)], grpc_requests) for i in range(callers - half)),
        )
    finally:
        ticker()
        for channel in channels:
            await channel.close()
    load.answers.seconds = time.monotonic() - load.start
    return load.answers


async def _rest_caller(load: _Load, address: tuple[str, int], requests: Sequence[bytes]) -> None:
    loop = asyncio.get_running_loop()
    try:
        _, caller = await loop.create_connection(lambda: RestCaller(load, requests), *address)
    except OSError as error:
        load.answers.lost.append(f"REST: cannot connect to {address}: {error}")
        return
    timer = loop.call_later(load.end + PATIENCE_S - time.monotonic(), caller.give_up, f"no answer for {PATIENCE_S} s")
    try:
        await caller.done
    finally:
        timer.cancel()


async def _grpc_caller(load: _Load, call: Any, requests: Sequence[bytes]) -> None:
    while load.going():
        row = next(load.rows) % len(requests)
        try:
            load.answers.grpc.append((row, await call(requests[row], timeout=PATIENCE_S)))
        except grpc.aio.AioRpcError as error:
            load.answers.lost.append(f"gRPC: {error.code().name} {error.details()}")


def _tick(load: _Load, progress: Callable[[int, float], None]) -> Callable[[], None]:
    """Call ``progress`` until the function returned is called."""
    loop = asyncio.get_running_loop()
    handle: asyncio.TimerHandle

    def tick() -> None:
        nonlocal handle
        progress(load.answers.total, time.monotonic() - load.start)
        handle = loop.call_later(0.2, tick)

    def stop() -> None:
        handle.cancel()  # the latest one

    handle = loop.call_later(0.2, tick)
    return stop
