"""What callers notice while the listening sockets pass from one process to the next, and the next (``--takeover``).

Each request makes a connection of its own, every second one over gRPC; they come at a fixed rate, whatever becomes of
the ones before. Load and proxies share the cores, and a process that starts takes one of them for half a second.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import uvloop

from batchproxy.codecs import tensor_proto
from batchproxy.protos import tfs_pb2 as pb
from benchmarks.asked import GUARD_S, Asked, load, p99_ms
from tests.proxy import Proxy, started
from tests.remote import predict_message
from tests.soak.clients import Http1Client, Http2Client, LostError

MODEL = "--model=half=python:tests.models:picky"
"""Half plus two; a call takes 5 ms."""

RATE = 500.0
CALM_S = 2.0
"""Between a process that has taken over and the next one."""

AROUND_S = 1.0
"""What is asked so long before or after the former process has ended is reported by itself."""


@dataclass(frozen=True)
class Outcome:
    """What was found.

    Attributes:
        rate: connections a second.
        handovers: from one process to the next.
        statuses: how the processes that handed over ended.
        requests: in all, and how many failed.
        calm_ms: p99 of what was asked while nobody handed over.
        around_ms: p99 of the others.
        slowest_ms: of all.
        faults: an example of each.
    """

    rate: float
    handovers: int
    statuses: Sequence[int]
    requests: int
    failed: int
    calm_ms: float
    around_ms: float
    slowest_ms: float
    faults: Sequence[str]

    def lines(self) -> Iterator[str]:
        """For people."""
        yield f"{self.rate:.0f} connections a second, one request each, half of them gRPC; {self.handovers} hand-overs"
        yield f"{self.failed} of {self.requests} requests failed; processes ended with {sorted(set(self.statuses))}"
        yield f"p99 calm {self.calm_ms:.0f} ms, within {AROUND_S:g} s of a hand-over {self.around_ms:.0f} ms"
        yield f"slowest {self.slowest_ms:.0f} ms"
        yield from self.faults


def measure(handovers: int, progress: Callable[[str], None], rate: float = RATE, calm_s: float = CALM_S) -> Outcome:
    """Start a process, ask it, and have others take over.

    Args:
        handovers: how many.
        progress: told what happens, in a line.
        rate: connections a second.
        calm_s: seconds from one hand-over to the start of the next process.
    """
    with ExitStack() as stack:
        flags = [MODEL, f"--takeover={Path(stack.enter_context(tempfile.TemporaryDirectory())) / 'takeover'}"]
        first = stack.enter_context(started(flags))

        def following() -> Proxy:
            return stack.enter_context(started(flags))

        found, times, statuses = uvloop.run(_measured(first, following, handovers, rate, calm_s, progress))
    near = [any(abs(one.at - time) < AROUND_S for time in times) for one in found]
    faults = Counter(one.fault for one in found if one.fault)
    return Outcome(
        rate, handovers, statuses, len(found), faults.total(),
        p99_ms([one for one, close in zip(found, near, strict=True) if not close]),
        p99_ms([one for one, close in zip(found, near, strict=True) if close]),
        1000 * max(one.seconds for one in found),
        [f"{fault} ({count} times)" for fault, count in faults.most_common(5)],
    )  # fmt: skip


async def _measured(
    first: Proxy,
    following: Callable[[], Proxy],
    handovers: int,
    rate: float,
    calm_s: float,
    progress: Callable[[str], None],
) -> tuple[list[Asked], list[float], list[int]]:
    loop = asyncio.get_running_loop()
    callers = Callers(first)
    ended = asyncio.Event()
    asking = loop.create_task(callers.load(rate, ended))
    serving, times, statuses = first, [], []
    await asyncio.sleep(2 * calm_s)  # of which the first calls are slow
    for number in range(handovers):
        progress(f"hand-over {number + 1} of {handovers}")
        next_one = await asyncio.to_thread(following)
        times.append(loop.time())
        statuses.append(await asyncio.to_thread(serving.wait))
        serving = next_one
        await asyncio.sleep(calm_s)
    ended.set()
    return await asking, times, statuses


class Callers:
    """Callers of one address, whichever process listens there."""

    def __init__(self, proxy: Proxy) -> None:
        self._rest, self._grpc = (
            (host, int(port))
            for host, _, port in (place.rpartition(":") for place in (proxy.rest.removeprefix("http://"), proxy.grpc))
        )

    async def load(self, rate: float, ended: asyncio.Event) -> list[Asked]:
        """A request every ``1 / rate`` seconds until the event, and what became of them."""

        def waits() -> Iterator[float]:
            while not ended.is_set():
                yield 1 / rate

        return await load(waits(), self.ask)

    async def ask(self, number: int) -> Asked:
        """One request on a connection of its own."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            async with asyncio.timeout(GUARD_S):
                fault = await (self._by_grpc(number) if number % 2 else self._by_rest(number))
        except (LostError, OSError) as error:  # TimeoutError is one
            fault = f"lost: {error!r}"
        return Asked(begun, loop.time() - begun, fault)

    async def _by_rest(self, number: int) -> str:
        _, client = await asyncio.get_running_loop().create_connection(Http1Client, *self._rest)
        try:
            status, body = await client.post("/v1/models/half:predict", json.dumps({"instances": [number]}).encode())
        finally:
            client.close()
        if status != 200:
            return f"status {status}: {body.decode('latin-1')}"
        return "" if json.loads(body) == {"predictions": [number / 2 + 2]} else "another answer"

    async def _by_grpc(self, number: int) -> str:
        _, client = await asyncio.get_running_loop().create_connection(Http2Client, *self._grpc)
        try:
            status, text, message = await client.call(predict_message("half", {"x": np.array([number], np.float32)}))[1]
        finally:
            client.close()
        if status:
            return f"status {status}: {text}"
        answer = pb.PredictResponse.FromString(message)
        y, _ = tensor_proto.read(answer.outputs["y"], "y", 1)
        return "" if y.tolist() == [number / 2 + 2] else "another answer"
