"""What callers notice while one of three servers is killed again and again, at half of what the three can do.

Capacity is the highest open-loop rate at which p99 is at most five times what a lone request takes. The servers run one
call at a time, which takes ``ALPHA_S + BETA_S * rows``; callers are Poisson, over gRPC. Load and proxy share the cores.
"""

from __future__ import annotations

import asyncio
import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
import uvloop

from benchmarks.asked import GUARD_S, Asked, load, p99_ms
from tests.faults.grpc_front import read_response
from tests.faults.script import right
from tests.proxy import Proxy, started
from tests.remote import predict_message
from tests.soak.clients import Http2Client, LostError
from tests.soak.victim import Victim

SERVERS = 3
ALPHA_S, BETA_S = 0.020, 0.002
"""A call of one row takes 22 ms, and three servers do 1,100 rows a second in batches of 32: callers and proxy can do
that on a busy machine."""

LIMIT = 5.0
"""p99 to T(1), at capacity."""

FIRST_RATE, STEP = 150.0, 1.25
CONNECTIONS = 4
AFTER_S = 0.5
"""What is asked so soon after a kill is reported by itself."""

DEAD_S, EVERY_S = 5.0, 10.0


@dataclass(frozen=True)
class Outcome:
    """What was found.

    Attributes:
        one_ms: a lone request, the median.
        capacity: requests a second.
        rate: of the experiment.
        kills: of a server.
        requests: in the experiment, and how many failed.
        calm_ms: p99 before the first kill.
        outside_ms: p99 of what was not asked within ``AFTER_S`` of a kill.
        within_ms: p99 of what was.
        faults: an example of each.
    """

    one_ms: float
    capacity: float
    rate: float
    kills: int
    requests: int
    failed: int
    calm_ms: float
    outside_ms: float
    within_ms: float
    faults: Sequence[str]

    def lines(self) -> Iterator[str]:
        """For people."""
        yield f"T(1) {self.one_ms:.1f} ms; {self.capacity:.0f} requests a second with p99 <= {LIMIT:g} T(1)"
        yield f"at {self.rate:.0f} a second, {self.kills} kills: {self.failed} of {self.requests} requests failed"
        yield f"p99 calm {self.calm_ms:.0f} ms, outside {1000 * AFTER_S:.0f} ms after kills {self.outside_ms:.0f} ms"
        yield f"  {self.outside_ms / self.calm_ms:.2f} times as long; within them {self.within_ms:.0f} ms"
        yield from self.faults


@dataclass(frozen=True)
class Kills:
    """When servers die: one after the other."""

    count: int
    dead_s: float
    every_s: float


def measure(
    seconds: float, kills: int, progress: Callable[[str], None], dead_s: float = DEAD_S, every_s: float = EVERY_S
) -> Outcome:
    """Start three servers and a proxy, find the capacity, and kill.

    Args:
        seconds: of each step on the way to the capacity, and of the calm.
        kills: how many.
        progress: told what happens, in a line.
        dead_s: how long a server stays dead.
        every_s: from kill to kill.
    """
    with _site() as (proxy, victims):
        return uvloop.run(_measured(proxy, victims, seconds, Kills(kills, dead_s, every_s), progress))


@contextmanager
def _site() -> Iterator[tuple[Proxy, list[Victim]]]:
    with ExitStack() as stack:
        victims = []
        for _ in range(SERVERS):
            victims.append(Victim("lane", lambda: (ALPHA_S, BETA_S)))
            stack.callback(victims[-1].kill)
        pools = [{"name": "servers", "endpoints": [{"grpc": one.grpc} for one in victims]}]
        models = [{"name": "*", "pool": "servers"}]
        yield stack.enter_context(started([], {"pools": pools, "models": models})), victims


async def _measured(
    proxy: Proxy, victims: Sequence[Victim], seconds: float, kills: Kills, progress: Callable[[str], None]
) -> Outcome:
    callers = Callers(proxy.grpc)
    await callers.connect()
    try:
        return await _experiment(callers, victims, seconds, kills, progress)
    finally:
        callers.close()


async def _experiment(
    callers: Callers, victims: Sequence[Victim], seconds: float, kills: Kills, progress: Callable[[str], None]
) -> Outcome:
    progress("a lone caller")
    one = [await callers.ask() for _ in range(40)]
    one_s = statistics.median(asked.seconds for asked in one[10:])
    rate, capacity = FIRST_RATE, FIRST_RATE
    while True:
        progress(f"{rate:.0f} requests a second")
        found = await callers.load(rate, seconds)
        late = [asked for asked in found if asked.at > found[0].at + seconds / 3]  # what came before warms it up
        if any(asked.fault for asked in late) or p99_ms(late) > 1000 * LIMIT * one_s:
            break
        capacity, rate = rate, rate * STEP
    await callers.settled()
    progress(f"{capacity / 2:.0f} requests a second, {kills.count} kills")
    loop = asyncio.get_running_loop()
    times: list[float] = []

    async def strike() -> None:
        await asyncio.sleep(seconds + 2)
        for number in range(kills.count):
            victim = victims[number % SERVERS]
            times.append(loop.time())
            await asyncio.to_thread(victim.kill)
            await asyncio.sleep(kills.dead_s)
            await asyncio.to_thread(victim.start)
            await asyncio.sleep(max(0.0, times[-1] + kills.every_s - loop.time()))

    striking = loop.create_task(strike())
    found = await callers.load(capacity / 2, seconds + 2 + kills.count * kills.every_s)
    await striking
    begin = found[0].at + 2
    calm = [asked for asked in found if begin < asked.at < times[0] - 0.2]
    struck = [asked for asked in found if asked.at > times[0]]
    soon = [any(0 <= asked.at - time < AFTER_S for time in times) for asked in struck]
    within = [asked for asked, near in zip(struck, soon, strict=True) if near]
    outside = [asked for asked, near in zip(struck, soon, strict=True) if not near]
    faults = {asked.fault for asked in found if asked.fault}
    return Outcome(
        1000 * one_s, capacity, capacity / 2, kills.count, len(found), sum(bool(asked.fault) for asked in found),
        p99_ms(calm), p99_ms(outside), p99_ms(within), sorted(faults)[:5],
    )  # fmt: skip


class Callers:
    """Poisson callers of one proxy.

    Args:
        place: of its gRPC door.
    """

    def __init__(self, place: str) -> None:
        self._host, _, port = place.partition(":")
        self._port = int(port)
        self._clients: list[Http2Client] = []
        self._row = 0
        self._lots = random.Random(1)

    async def connect(self) -> None:
        """Open the connections."""
        loop = asyncio.get_running_loop()
        for _ in range(CONNECTIONS):
            _, client = await loop.create_connection(Http2Client, self._host, self._port)
            self._clients.append(client)

    def close(self) -> None:
        """Hang up."""
        for client in self._clients:
            client.close()

    async def ask(self) -> Asked:
        """One request of one row."""
        loop = asyncio.get_running_loop()
        self._row += 1
        row, begun = self._row, loop.time()
        _, answer = self._clients[row % CONNECTIONS].call(predict_message("m", {"x": np.array([row], np.int64)}))
        try:
            async with asyncio.timeout(GUARD_S):
                status, text, message = await answer
        except (LostError, TimeoutError) as error:
            return Asked(begun, loop.time() - begun, f"lost: {error!r}")
        took = loop.time() - begun
        if status:
            return Asked(begun, took, f"status {status}: {text}")
        return Asked(begun, took, "" if read_response(message) == (right(row),) else f"row {row}: another answer")

    async def load(self, rate: float, seconds: float) -> list[Asked]:
        """Requests whose times depend on no answer, and what became of them."""
        return await load(self._waits(rate, seconds), lambda _: self.ask())

    def _waits(self, rate: float, seconds: float) -> Iterator[float]:
        passed = 0.0
        while passed < seconds:
            passed += (wait := self._lots.expovariate(rate))
            yield wait

    async def settled(self) -> None:
        """Returns when a lone request is fast again: what a rate too high has left is gone."""
        while (await self.ask()).seconds > 2 * (ALPHA_S + BETA_S):
            pass
