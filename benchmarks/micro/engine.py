"""The engine on a running loop with a backend that answers at once: from submit to the caller's future. No sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

import uvloop

from batchproxy.core.columns import Columns
from batchproxy.core.policy import Policy
from batchproxy.core.request import BatchKey, Reply
from batchproxy.core.shapes import UNDECLARED, Signature
from batchproxy.engine import Engine, build_engine
from batchproxy.observe import Observer
from benchmarks.micro import scheduling
from benchmarks.micro.timing import Case, Round

CALLERS = 512
CALLS = 4
"""Requests of each caller in a round: the tasks' own start is spread over them."""

FLOOR = "floor: future + call_soon, 512 callers"


def cases() -> Sequence[Case]:
    """The floor first: what any future costs that is resolved from the loop."""
    return [
        Case(FLOOR, _floor),
        Case("engine, 512 callers, 1 lane", partial(_engine, 1, False), FLOOR),
        Case("engine, 512 callers, 1 lane, deadlines", partial(_engine, 1, True), FLOOR),
        Case("engine, 512 callers, 8 lanes", partial(_engine, 8, False), FLOOR),
    ]


class NullBackend:
    """Hands back what it got."""

    version = 1
    signatures: Mapping[str, Signature] = {"serving_default": UNDECLARED}

    async def infer(self, key: BatchKey, columns: Columns, timeout_s: float | None = None) -> Reply:
        return Reply(columns, 1)

    async def probe(self) -> None: ...

    async def aclose(self) -> None: ...


def null_engine(models: Sequence[str], observer: Observer | None = None) -> Engine:
    """An engine whose only endpoint is up and answers at once."""
    policies = {name: Policy(max_batch_rows=scheduling.BATCH) for name in models}
    engine = build_engine("bench", {"null": NullBackend()}, policies, observer=observer)
    engine.scheduler.balancer.endpoints[0].up = True
    return engine


def _on_loop(call: Callable[[int, int], Awaitable[object]]) -> Round:
    """512 callers, each of which awaits ``call(caller, number)`` again and again."""
    loop = uvloop.new_event_loop()

    async def caller(me: int) -> None:
        for number in range(CALLS):
            await call(me, number)

    async def everybody() -> None:
        await asyncio.gather(*(caller(me) for me in range(CALLERS)))

    def work() -> int:
        loop.run_until_complete(everybody())
        return CALLERS * CALLS

    return work


def _floor() -> Round:
    def call(me: int, number: int) -> Awaitable[object]:
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[None] = loop.create_future()
        loop.call_soon(answered.set_result, None)
        return answered

    return _on_loop(call)


def _engine(lanes: int, deadlines: bool) -> Round:
    engine = null_engine([f"m{lane}" for lane in range(lanes)])
    arriving = scheduling.requests(lanes, CALLERS // lanes, engine.clock() + 3600 if deadlines else None)

    def call(me: int, number: int) -> Awaitable[Reply]:
        answered: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        engine.submit(arriving[me], answered)
        return answered

    return _on_loop(call)
