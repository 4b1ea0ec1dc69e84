"""Tests of batchproxy.canary: real engines around Python models whose rows do, or do not, influence each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import numpy as np
import pytest

from batchproxy.backends.callable import CallableBackend
from batchproxy.core.canary import Verdict
from batchproxy.core.columns import Array, ArrayColumn
from batchproxy.core.errors import BackendRejected, BackendUnavailable, BatchProxyError
from batchproxy.core.policy import Policy
from batchproxy.core.request import Reply, build_request
from batchproxy.core.shapes import UNDECLARED
from batchproxy.engine import Engine, build_engine
from batchproxy.testing import FakeBackend, Gate, a_request
from tests.unit.engines import an_engine, held, numbers, single, submit

ALWAYS = Policy(canary_every=1)


class Model:
    """A function that remembers what it was called with."""

    def __init__(self, function: Callable[[Array], Array]) -> None:
        self._function = function
        self.calls: list[list[float]] = []

    async def __call__(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """One input, one output."""
        self.calls.append(inputs["x"][:, 0].tolist())
        return {"y": self._function(inputs["x"])}


@asynccontextmanager
async def serving(model: Model, policy: Policy = ALWAYS) -> AsyncIterator[Engine]:
    """An engine around a model, which is up."""
    engine = build_engine("pool", {"e": CallableBackend(model)}, {"m": policy}, max_inflight=1)
    engine.scheduler.balancer.endpoints[0].up = True
    yield engine
    await engine.aclose()


async def ask(engine: Engine, *values: float) -> list[float]:
    """The answers to requests of one row each, made in one turn; returns once their canary has a verdict."""
    requests = [
        build_request(("m", 1, "serving_default"), UNDECLARED, {"x": ArrayColumn(np.array([[value, 1]], np.float32))})
        for value in values
    ]
    replies = await asyncio.gather(*submit(engine, *requests))
    await judged()
    return [first_of(reply) for reply in replies]


def first_of(reply: Reply) -> float:
    """The first number of an answer."""
    column = reply.columns["y"]
    assert isinstance(column, ArrayColumn)
    return float(column.array.flat[0])


async def judged() -> None:
    """Returns once no canary is under way."""
    while canaries := [task for task in asyncio.all_tasks() if task.get_name().startswith("canary-")]:
        await asyncio.wait(canaries)


async def a_canary_held(engine: Engine, backend: FakeBackend) -> Gate:
    """The first batch is answered, and the gate holds its canary's call."""
    gate, answers = await held(engine, backend, single(0), single(1))
    second = backend.hold()
    gate.release()
    await asyncio.gather(*answers)
    await second.entered.wait()
    return second


def verdicts(engine: Engine) -> dict[Verdict, int]:
    """How many there were of each kind."""
    return {verdict: count for (_, verdict), count in engine.scheduler.canary.verdicts.items()}


async def test_a_model_whose_rows_influence_each_other_is_taken_out(caplog: pytest.LogCaptureFixture) -> None:
    """Loudly, and by its first batch; from then on callers get what they get from a direct call."""
    async with serving(model := Model(lambda x: x - x.mean(axis=0))) as engine:
        wrong = await ask(engine, 1, 2, 6)
        before = len(model.calls)
        right = await ask(engine, 1, 2, 6)

    assert [-2, -1, 3] == wrong
    assert [0, 0, 0] == right
    assert [[1], [2], [6]] == model.calls[before:]
    assert {Verdict.INFLUENCE: 1} == verdicts(engine)
    (line,) = [record.getMessage() for record in caplog.records]
    assert "model 'm', version 1, 'serving_default': batching is off from now on" in line
    assert "what is in the other rows" in line


async def test_callers_do_not_wait_for_it() -> None:
    """They have their answers while it runs, and so have others after them."""
    engine = an_engine(backend := FakeBackend(), policy=ALWAYS)
    gate = await a_canary_held(engine, backend)
    later = await numbers(submit(engine, single(2), single(3)))

    assert [[2], [3]] == later
    assert [[0, 1], [1], [2, 3]] == backend.calls
    assert 1 == engine.scheduler.balancer.endpoints[0].relayed
    gate.release()
    await judged()
    assert 0 == engine.scheduler.balancer.endpoints[0].relayed
    assert {Verdict.SAME: 1} == verdicts(engine)


async def test_a_model_of_matrix_products_stays_batched() -> None:
    """Rows of 256 numbers: kernels for one row and for many differ in their last digits."""
    weights = np.random.default_rng(0).normal(size=(256, 2)).astype(np.float32)
    model = Model(lambda x: np.sin(x * np.arange(256, dtype=np.float32)[:, np.newaxis, np.newaxis]).T[0] @ weights)
    async with serving(model) as engine:
        for start in range(5):
            await ask(engine, *np.linspace(start, start + 1, 7).tolist())

    assert {Verdict.SAME: 5} == verdicts(engine)
    assert set() == engine.scheduler.unbatched


async def test_a_random_model_stays_batched_and_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    """Dropout that was left on, say."""
    lots = np.random.default_rng(0)
    async with serving(Model(lambda x: x * (lots.random(x.shape) < 0.5))) as engine:
        for start in range(1, 60, 3):
            await ask(engine, start, start + 1, start + 2)

    assert {Verdict.SAME, Verdict.RANDOM} == set(verdicts(engine))
    assert set() == engine.scheduler.unbatched
    (line,) = [record.getMessage() for record in caplog.records]
    assert "not deterministic" in line


@pytest.mark.parametrize("error", [BackendRejected("no"), BackendUnavailable("gone")])
async def test_an_error_changes_nothing(error: BatchProxyError) -> None:
    """It has no caller, and the endpoint stays in use."""
    engine = an_engine(backend := FakeBackend(), policy=ALWAYS)
    backend.script += [backend._answer, error]

    assert [[0], [1]] == await numbers(submit(engine, single(0), single(1)))
    await judged()
    assert {Verdict.FAILED: 1} == verdicts(engine)
    assert set() == engine.scheduler.unbatched
    assert [[2], [3]] == await numbers(submit(engine, single(2), single(3)))


async def test_one_that_takes_too_long_is_ended() -> None:
    """After the time that any call may take."""
    backend = FakeBackend()
    engine = build_engine("pool", {"e": backend}, {"m": ALWAYS}, max_inflight=1, call_timeout_s=0.01)
    engine.scheduler.balancer.endpoints[0].up = True
    gate = await a_canary_held(engine, backend)
    await judged()

    assert gate.cancelled.is_set()
    assert {Verdict.FAILED: 1} == verdicts(engine)
    assert 0 == engine.scheduler.balancer.endpoints[0].relayed


async def test_closing_ends_it_without_waiting() -> None:
    """Nobody is owed its answer."""
    engine = an_engine(backend := FakeBackend(), policy=ALWAYS)
    gate = await a_canary_held(engine, backend)
    await engine.drain()

    assert 0 == await engine.aclose()
    assert gate.cancelled.is_set()
    assert {Verdict.FAILED: 1} == verdicts(engine)


async def test_one_that_ends_before_it_began_gives_its_place_back() -> None:
    """A task cancelled before its first step runs no line of its coroutine."""
    engine = an_engine(FakeBackend(), policy=ALWAYS)
    answers = submit(engine, single(0), single(1))
    answers[0].add_done_callback(
        lambda _: [task.cancel() for task in asyncio.all_tasks() if task.get_name().startswith("canary-")]
    )
    await asyncio.gather(*answers)
    for _ in range(100):
        if not verdicts(engine):
            await asyncio.sleep(0)

    assert {Verdict.FAILED: 1} == verdicts(engine)
    assert 0 == engine.scheduler.balancer.endpoints[0].relayed


@pytest.mark.parametrize(
    ("policy", "requests"),
    [
        (Policy(canary_every=1, idempotent=False), [single(0), single(1)]),
        (Policy(), [single(0), single(1)]),
        (ALWAYS, [a_request(3)]),
    ],
    ids=["idempotent: false", "canary_every: 0", "one member"],
)
async def test_who_is_not_run_twice(policy: Policy, requests: Sequence[object]) -> None:
    """What may not be, what shall not be, and what had no company."""
    engine = an_engine(backend := FakeBackend(), policy=policy)
    await asyncio.gather(*submit(engine, *requests))  # type: ignore[arg-type]
    await judged()

    assert 1 == len(backend.calls)
    assert {} == verdicts(engine)


async def test_a_saturated_endpoint_sees_none() -> None:
    """While there are more batches in flight than partial ones may fill."""
    engine = an_engine(backend := FakeBackend(), policy=ALWAYS)
    limit = engine.scheduler.balancer.endpoints[0].limit
    gate = backend.hold()
    answers = submit(engine, single(0), single(1))
    await gate.entered.wait()
    limit.in_flight += 2
    gate.release()
    await asyncio.gather(*answers)
    await judged()

    assert [[0, 1]] == backend.calls
    limit.in_flight -= 2
    await asyncio.gather(*submit(engine, single(2), single(3)))
    await judged()
    assert [[0, 1], [2, 3], [3]] == backend.calls


async def test_it_is_padded_as_batches_are() -> None:
    """A server that takes 2 or 4 rows at a time is sent no other number; copies are charged while they are held."""
    policy = Policy(max_batch_rows=4, allowed_batch_sizes=(2, 4), canary_every=1)
    held: list[int] = []
    async with serving(model := Model(lambda x: x - x.mean(axis=0)), policy) as engine:
        engine.charge = held.append
        await ask(engine, 1, 2, 6)

    assert [[1, 2, 6, 6], [2, 2], [2, 2], [2, 2, 2, 2], [1, 2, 6, 6], [2, 2]] == model.calls[:6]
    assert {Verdict.INFLUENCE: 1} == verdicts(engine)
    assert 0 == sum(held)
    assert 32 == max(held)
