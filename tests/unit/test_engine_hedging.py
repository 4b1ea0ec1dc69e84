"""Tests of batchproxy.engine: a batch that is slow is sent to a second backend, and each caller is answered once."""

from __future__ import annotations

import asyncio
import time

import pytest

from batchproxy.core.errors import BackendRejected, BackendUnavailable
from batchproxy.core.policy import Policy
from batchproxy.engine import Engine
from batchproxy.metrics import Metrics
from batchproxy.testing import FakeBackend
from tests.unit.engines import an_engine, held, numbers, single

HEDGED = Policy(hedging=True, hedging_delay_s=0.001)


def a_hedging_engine(*backends: FakeBackend, observer: Metrics | None = None) -> Engine:
    """Its timers are real; the policy's delay is as short as they can be."""
    return an_engine(*backends, policy=HEDGED, clock=time.monotonic, observer=observer)


def results(engine: Engine) -> dict[str, int]:
    """What became of its hedges."""
    return {result: count for (_, result), count in engine.scheduler.hedging.results.items()}


async def until_idle(engine: Engine, start: int = 0) -> None:
    """Returns when no call is under way any more, of a loser neither, at the endpoints from this one on."""
    while any(endpoint.busy for endpoint in engine.scheduler.balancer.endpoints[start:]):  # noqa: ASYNC110
        await asyncio.sleep(0)


async def test_a_slow_call_is_overtaken_and_cancelled() -> None:
    """Callers get the second backend's answer; the first one's place is free again."""
    engine = a_hedging_engine(slow := FakeBackend(), fast := FakeBackend())

    _, answers = await held(engine, slow, single(0), single(1))

    assert [[0], [1]] == await numbers(answers)
    assert [[[0, 1]]] * 2 == [slow.calls, fast.calls]
    await engine.drain()
    await until_idle(engine)
    assert {"won": 1} == results(engine)


async def test_the_first_answer_is_taken_though_it_is_late() -> None:
    """The second call is the one that is cancelled."""
    engine = a_hedging_engine(slow := FakeBackend(), slower := FakeBackend())
    second = slower.hold()
    first, answers = await held(engine, slow, single(0), single(1))
    await second.entered.wait()

    first.release()

    assert [[0], [1]] == await numbers(answers)
    await until_idle(engine)
    assert {"lost": 1} == results(engine)


async def test_a_call_that_takes_its_time_to_be_cancelled_holds_nobody_up() -> None:
    """Callers have their answers, and its place is taken until it has ended."""
    engine = a_hedging_engine(slow := FakeBackend(), FakeBackend())

    first, answers = await held(engine, slow, single(0), single(1), stubborn=True)
    found = await numbers(answers)
    taken = engine.scheduler.balancer.endpoints[0].in_flight
    first.release()

    assert ([[0], [1]], 1) == (found, taken)
    await until_idle(engine)
    assert {"won": 1} == results(engine)


@pytest.mark.parametrize("error", [BackendRejected("no"), BackendUnavailable("gone")])
async def test_a_hedge_that_fails_changes_nothing(error: Exception) -> None:
    """The first call is waited for."""
    engine = a_hedging_engine(slow := FakeBackend(), bad := FakeBackend())
    bad.script.append(error)
    second = bad.hold()
    first, answers = await held(engine, slow, single(0), single(1))
    await second.entered.wait()
    second.release()
    await until_idle(engine, 1)
    waiting = [answer.done() for answer in answers]

    first.release()

    assert [False, False] == waiting
    assert [[0], [1]] == await numbers(answers)


async def test_both_calls_are_cancelled_when_nobody_waits_any_more() -> None:
    """The last caller has gone."""
    engine = a_hedging_engine(slow := FakeBackend(), slower := FakeBackend())
    second = slower.hold()
    _, (answer,) = await held(engine, slow, single(0))
    await second.entered.wait()
    (entry,) = engine.scheduler.stranded()

    answer.cancel()
    engine.discard(entry)

    await until_idle(engine)
    assert {"failed": 1} == results(engine)


async def test_hedges_are_counted() -> None:
    """By model and outcome; the call that was not needed is told apart from those that failed."""
    engines: list[Engine] = []
    metrics = Metrics(lambda: engines)
    engine = a_hedging_engine(slow := FakeBackend(), FakeBackend(), observer=metrics)
    engines.append(engine)
    _, answers = await held(engine, slow, single(0), single(1))
    await numbers(answers)
    await until_idle(engine)
    text = metrics.render().decode()

    assert 'batchproxy_hedges_total{model="m",outcome="won"} 1.0' in text
    assert 'batchproxy_backend_calls_total{endpoint="e0",model="m",outcome="OUTRUN"} 1.0' in text
    assert 'batchproxy_backend_calls_total{endpoint="e1",model="m",outcome="OK"} 1.0' in text
    assert 'batchproxy_batches_total{model="m",reason="hedge"} 1.0' in text
    assert 'batchproxy_queue_seconds_count{model="m"} 2.0' in text
