"""What a call to a gRPC server costs the caller: our own client against grpc.aio's, in turns, one server for both.

The server is the grpc.aio echo, a process of its own. No table is drawn here.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvloop

from batchproxy.backends.grpc import GrpcDoor
from batchproxy.backends.grpc_wire import GrpcWireDoor
from benchmarks import servers

Door = GrpcDoor | GrpcWireDoor

METHOD = "/benchmarks.Echo/Echo"
STREAM = "/benchmarks.Echo/Stream"


@dataclass(frozen=True)
class Case:
    """Calls of one kind.

    Attributes:
        name: for the table.
        message_bytes: of the request, and of the answer.
        callers: at once.
        streamed: whether each caller makes one streamed call, of which each message counts.
        ahead: how many messages of a streamed call may be unanswered.
    """

    name: str
    message_bytes: int
    callers: int = 1
    streamed: bool = False
    ahead: int = 1


CASES = (
    Case("768 B, one at a time", 768),
    Case("768 B, 8 at once", 768, 8),
    Case("200 KB, one at a time", 200_000),
    Case("200 KB, 8 at once", 200_000, 8),
    Case("600 KB, one at a time", 600_000),
    Case("stream, 64 B, one at a time", 64, streamed=True),
    Case("stream, 64 B, 100 ahead", 64, streamed=True, ahead=100),
    Case("8 streams, 64 B, 100 ahead", 64, 8, streamed=True, ahead=100),
    Case("stream, 64 KiB, one at a time", 64 << 10, streamed=True),
    Case("stream, 64 KiB, 100 ahead", 64 << 10, streamed=True, ahead=100),
    Case("8 streams, 64 KiB, 100 ahead", 64 << 10, 8, streamed=True, ahead=100),
)
"""768 B: a batch of 64 rows of three floats. A stream is sent as much as is taken, 100 messages at the most."""


@dataclass(frozen=True)
class Line:
    """Medians over the rounds; each pair is ``grpc.aio``, own.

    Attributes:
        cpu_us: processor time of the calling process per call, or message of a stream.
        p50_us: from call to answer; between the answers of a stream.
        per_second: calls, or messages.
        cpu_ratio: own to grpc.aio, in the same round.
        p50_ratio: likewise.
        faults: answers that were not the message sent.
        fault: in words; empty for none.
    """

    name: str
    cpu_us: tuple[float, float]
    p50_us: tuple[float, float]
    per_second: tuple[float, float]
    cpu_ratio: float
    p50_ratio: float
    faults: int
    fault: str


@dataclass(frozen=True)
class _Run:
    cpu_us: float
    p50_us: float
    per_second: float
    faults: int


def measure(rounds: int, seconds: float, progress: Callable[[str], None], cases: Sequence[Case] = CASES) -> list[Line]:
    """Start the server, call it in turns, stop it.

    Args:
        rounds: how often each client is measured.
        seconds: how long, each time.
        progress: told what happens, in a line.
        cases: what to measure.

    Raises:
        ServerError: the server did not start.
    """
    with tempfile.TemporaryDirectory(prefix="batchproxy-bench-") as folder:
        server = servers.echo("grpc", Path(folder))
        try:
            server.wait_ready()
            return uvloop.run(_measure(server.ports["grpc"], rounds, seconds, progress, cases))
        finally:
            server.stop()


async def _measure(
    port: int, rounds: int, seconds: float, progress: Callable[[str], None], cases: Sequence[Case]
) -> list[Line]:
    target = f"{servers.HOST}:{port}"
    doors: tuple[Door, Door] = (GrpcDoor(target), GrpcWireDoor(target))
    runs: dict[str, list[tuple[_Run, _Run]]] = {case.name: [] for case in cases}
    for case in cases:
        for door in doors:
            await _run(door, case, 0.1)  # connections, windows, and what is learnt of them
    for number in range(rounds):
        for case in cases:
            progress(f"round {number + 1} of {rounds}: {case.name}")
            first = await _run(doors[0], case, seconds)
            runs[case.name].append((first, await _run(doors[1], case, seconds)))
    for door in doors:
        await door.aclose()
    return [_line(name, pairs) for name, pairs in runs.items()]


async def _run(door: Door, case: Case, seconds: float) -> _Run:
    message = bytes(range(256)) * (case.message_bytes // 256 + 1)
    message = message[: case.message_bytes]
    times: list[float] = []
    faults = 0
    clock = time.perf_counter

    async def calls(until: float) -> None:
        nonlocal faults
        while (start := clock()) < until:
            reply = await door.call(METHOD, (), message, 60.0)
            times.append(clock() - start)
            faults += reply.body != message

    async def messages(until: float) -> None:
        nonlocal faults
        room = asyncio.Semaphore(case.ahead)

        async def sent() -> AsyncIterator[bytes]:
            while clock() < until:
                await room.acquire()
                yield message

        async with door.stream(STREAM, (), sent(), 60.0) as stream:
            start = clock()
            async for answer in stream.messages():
                now = clock()
                times.append(now - start)
                start = now
                faults += answer != message
                room.release()
            code, _, _ = await stream.status()
            faults += bool(code)

    begin, cpu = clock(), time.process_time()
    work = messages if case.streamed else calls
    await asyncio.gather(*(work(begin + seconds) for _ in range(case.callers)))
    spent, passed = time.process_time() - cpu, clock() - begin
    return _Run(1e6 * spent / len(times), 1e6 * statistics.median(times), len(times) / passed, faults)


def _line(name: str, pairs: Sequence[tuple[_Run, _Run]]) -> Line:
    def both(figure: Callable[[_Run], float]) -> tuple[float, float]:
        return statistics.median(figure(aio) for aio, _ in pairs), statistics.median(figure(own) for _, own in pairs)

    faults = sum(aio.faults + own.faults for aio, own in pairs)
    return Line(
        name,
        both(lambda run: run.cpu_us),
        both(lambda run: run.p50_us),
        both(lambda run: run.per_second),
        statistics.median(own.cpu_us / aio.cpu_us for aio, own in pairs),
        statistics.median(own.p50_us / aio.p50_us for aio, own in pairs),
        faults,
        "an answer was not the message sent" if faults else "",
    )
