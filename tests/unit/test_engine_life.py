"""The engine from its start to its end: who watches it, how endpoints come up, how it drains and closes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence

import pytest

from batchproxy.core.batch import Dispatch
from batchproxy.core.errors import (
    BackendUnavailable,
    Draining,
    NoEndpoint,
    QueueFull,
)
from batchproxy.core.outcome import Outcome
from batchproxy.core.policy import Policy
from batchproxy.core.request import Entry
from batchproxy.observe import NullObserver
from batchproxy.testing import FIXED, FakeBackend, ManualClock, StubWaiter, a_request, double
from tests.unit.engines import an_engine, held, numbers, single, submit


class Watcher(NullObserver):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.seen: list[object] = []

    def call_started(self, dispatch: Dispatch, members: Sequence[Entry]) -> None:
        self.seen.append(len(members))

    def call_ended(self, dispatch: Dispatch, outcome: Outcome, seconds: float) -> None:
        self.seen.append((outcome, seconds))


async def test_observer_sees_each_call() -> None:
    """How many shared it, how it ended, and how long it took."""
    clock, watcher = ManualClock(), Watcher()
    engine = an_engine(backend := FakeBackend(poison={1}), clock=clock, observer=watcher)
    gate, answers = await held(engine, backend, single(0), single(1))
    clock.advance(0.25)
    gate.release()
    await asyncio.gather(*answers, return_exceptions=True)

    assert [2, (Outcome.REJECTED, 0.25), 1, (Outcome.OK, 0.0), 1, (Outcome.REJECTED, 0.0)] == watcher.seen


async def test_probe_brings_endpoints_up() -> None:
    """Until one has answered callers are told what it said; a healthy one is not asked again."""
    backend = FakeBackend()
    engine = an_engine(backend)
    (endpoint,) = engine.scheduler.balancer.endpoints
    endpoint.up = False

    async def refuse() -> None:
        raise BackendUnavailable("connection refused")

    answer, backend.probe = backend.probe, refuse  # type: ignore[method-assign]
    await engine.probe()
    (refused,) = submit(engine, single(0))
    with pytest.raises(NoEndpoint, match="e0: connection refused"):
        await refused

    backend.probe = answer  # type: ignore[method-assign]
    await engine.probe()
    backend.probe = refuse  # type: ignore[method-assign]
    await engine.probe()

    assert endpoint.up
    assert "" == endpoint.last_error


async def test_drain_takes_nothing_new_and_returns_when_all_are_answered() -> None:
    """Queued and in flight alike; an idle engine is drained at once."""
    engine = an_engine(backend := FakeBackend())
    gate, first = await held(engine, backend, single(0))
    second = submit(engine, single(1))
    draining = asyncio.ensure_future(engine.drain())
    await asyncio.sleep(0)

    with pytest.raises(Draining):
        engine.submit(single(2), StubWaiter())
    assert not draining.done()
    gate.release()
    await draining
    assert [True, True] == [answer.done() for answer in (*first, *second)]
    await engine.drain()


async def test_drain_ends_when_the_last_caller_leaves_the_queue() -> None:
    """Nobody is left to answer, and no call has to end for it to be seen."""
    engine = an_engine(FakeBackend(), policy=Policy(max_delay_s=60.0))
    waiter = StubWaiter()
    entry = engine.submit(single(0), waiter)
    draining = asyncio.ensure_future(engine.drain())
    await asyncio.sleep(0)
    waiter.cancel()
    engine.discard(entry)

    await draining


async def test_close_tells_everybody_and_counts_them() -> None:
    """In flight, queued, late and unbegun: all are told, and backends and timers are closed."""
    clock = ManualClock()
    engine = an_engine(backend := FakeBackend(), clock=clock)
    _, running = await held(engine, backend, single(0), single(1))
    queued = submit(engine, single(2), a_request(first=3, signature=FIXED))

    assert 4 == await engine.aclose()
    errors = [answer.exception() for answer in (*running, *queued)]
    assert [Draining] * 4 == [type(error) for error in errors]
    assert backend.closed
    assert not engine.scheduler.busy
    assert engine._timer is None or engine._timer.cancelled()
    assert 0 == await engine.aclose()


async def test_close_ends_a_drain() -> None:
    """A drain that takes too long is cut short by closing, and returns."""
    engine = an_engine(backend := FakeBackend())
    _, answers = await held(engine, backend, single(0))
    draining = asyncio.ensure_future(engine.drain())
    await asyncio.sleep(0)

    assert 1 == engine.strand()
    await draining
    assert isinstance(answers[0].exception(), Draining)
    assert 0 == await engine.aclose()


async def test_refused_requests_leave_nothing_behind() -> None:
    """Whoever was refused is told once, and the others are answered."""
    engine = an_engine(backend := FakeBackend(), policy=Policy(max_queued_rows=1))
    gate, first = await held(engine, backend, single(0))
    second = submit(engine, single(1))
    waiter = StubWaiter()

    engine.submit(single(2), waiter)
    await asyncio.sleep(0)  # one turn of the loop
    refusal = waiter.error
    gate.release()
    await numbers([*first, *second])

    assert isinstance(refusal, QueueFull)
    assert refusal is waiter.error


async def test_no_wall_clock_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request's whole life asks nothing but the clock that was handed in."""

    def asked() -> float:
        raise AssertionError("somebody looked at the wall clock")

    engine = an_engine(FakeBackend(double, poison={1}), clock=ManualClock(1e9))
    for name in ("time", "time_ns", "localtime", "gmtime"):
        monkeypatch.setattr(time, name, asked)
    logging.disable()  # log lines carry the wall clock's time, and should

    answers = submit(engine, single(0), single(1, deadline=1e9 + 1), single(2))
    await asyncio.gather(*answers, return_exceptions=True)  # an exception that nobody fetches is logged, some day
    logging.disable(logging.NOTSET)

    assert [[0], [2]] == await numbers([answers[0], answers[2]])
    assert 0 == await engine.aclose()


async def test_a_merged_call_is_charged_while_it_runs() -> None:
    """Its columns are a copy of its members'; a request that is alone is charged where it came in."""
    backend = FakeBackend()
    engine = an_engine(backend)
    charges: list[int] = []
    engine.charge = charges.append
    gate, alone = await held(engine, backend, single(1))
    together = submit(engine, single(2), single(3))
    gate.release()
    await numbers([*alone, *together])
    await engine.aclose()

    assert [0, 0] == charges[:2]
    assert charges[2] > 0 == sum(charges)
    assert 4 == len(charges)
