"""The engine and the requests of one turn of the loop: taken in together at its end, each told once."""

from __future__ import annotations

import asyncio
import sys
from types import FrameType
from typing import Any

import pytest

from batchproxy.core.errors import BatchProxyError, DeadlineExceeded, Draining, NoEndpoint, QueueFull
from batchproxy.core.lanes import Lanes
from batchproxy.core.policy import Policy
from batchproxy.core.request import Entry, Reply
from batchproxy.core.scheduler import Scheduler
from batchproxy.engine import CROWD, SWEEP_S, Engine, build_engine
from batchproxy.testing import FIXED, FakeBackend, ManualClock, StubWaiter, a_request
from tests.unit.engines import Answer, an_engine, held, numbers, single, submit


async def one_turn() -> None:
    """Whatever was left to the end of this turn has been done after it."""
    await asyncio.sleep(0)


class Told(StubWaiter):
    """Knows whether it is told while somebody submits."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.engine = engine
        self.inside = False

    def submit(self, deadline: float | None = None) -> None:
        self.inside = True
        self.engine.submit(single(0, deadline), self)
        self.inside = False

    def set_exception(self, exception: BatchProxyError, /) -> None:
        assert not self.inside, "told from inside submit"
        super().set_exception(exception)


async def test_refusals_are_told_to_the_waiter_in_the_same_turn() -> None:
    """Never raised, and never from inside ``submit``; those that fit go on."""
    engine = an_engine(backend := FakeBackend(), policy=Policy(max_queued_rows=2))
    gate, first = await held(engine, backend, single(7))
    waiters = [Told(engine) for _ in range(4)]
    waiters[0].submit(deadline=-1.0)
    for waiter in waiters[1:]:
        waiter.submit()
    assert not any(waiter.done() for waiter in waiters)
    await one_turn()

    assert [DeadlineExceeded, QueueFull] == [type(waiter.error) for waiter in (waiters[0], waiters[3])]
    assert not waiters[1].done()
    gate.release()
    await numbers(first)
    await engine.drain()
    assert [True, True] == [waiter.reply is not None for waiter in waiters[1:3]]


async def test_refusals_reach_futures_with_what_they_say() -> None:
    """The library's callers wait for futures: which error it is, and when to come back."""
    engine = an_engine(FakeBackend())
    engine.scheduler.take_out(engine.scheduler.balancer.endpoints[0], "gone")
    (answer,) = submit(engine, single(0))

    with pytest.raises(NoEndpoint, match="gone") as caught:
        await answer
    assert caught.value.retry_after_s == NoEndpoint("").retry_after_s


async def test_shutting_down_is_raised() -> None:
    """The one refusal that is known at once; the waiter is told nothing."""
    engine = an_engine(FakeBackend())
    await engine.drain()
    waiter = StubWaiter()

    with pytest.raises(Draining):
        engine.submit(single(0), waiter)
    await one_turn()
    assert not waiter.done()


async def test_who_leaves_in_its_own_turn_is_never_taken_in() -> None:
    """Its neighbours are."""
    engine = an_engine(backend := FakeBackend())
    waiter = StubWaiter()
    first = submit(engine, single(0))
    entry = engine.submit(single(1), waiter)
    last = submit(engine, single(2))
    waiter.cancel()
    engine.discard(entry)

    assert [[0], [2]] == await numbers([*first, *last])
    assert [[0, 2]] == backend.calls


async def test_a_thousand_that_leave_in_their_own_turn_cost_as_many_steps_each_as_ten() -> None:
    """A connection's rapid reset: nobody is looked for in a list."""

    async def steps(count: int) -> float:
        engine = an_engine(FakeBackend())
        counted = 0

        def trace(frame: FrameType, event: str, argument: object) -> Any:
            nonlocal counted
            counted += event == "line"
            return trace

        requests = [single(0) for _ in range(count)]
        sys.settrace(trace)
        entries = [engine.submit(request, StubWaiter()) for request in requests]
        for entry in entries:
            engine.discard(entry)
        engine._take_in(0.0)
        sys.settrace(None)
        assert not engine.scheduler.busy
        assert 0 == len(engine.scheduler._lanes)
        return counted / count

    assert await steps(1000) <= await steps(10)


async def test_several_models_in_one_turn() -> None:
    """Each has a call of its own, with all of its requests, whatever order they came in."""
    backend = FakeBackend()
    engine = build_engine("pool", {"e": backend}, {"m": Policy(), "n": Policy()}, max_inflight=4, clock=ManualClock())
    engine.scheduler.balancer.endpoints[0].up = True
    answers = submit(engine, *(a_request(model="mn"[place % 2], first=place) for place in range(6)))
    alone = submit(engine, a_request(first=9, signature=FIXED))

    assert [[place] for place in range(6)] == await numbers(answers)
    assert [[9]] == await numbers(alone)
    assert [[0, 2, 4], [1, 3, 5], [9]] == sorted(backend.calls)


async def test_first_call_leaves_in_the_turn_in_which_its_requests_came() -> None:
    """All of them, in one call, by a task whose first step makes it."""
    engine = an_engine(backend := FakeBackend())
    answers = submit(engine, single(0), single(1))
    assert [] == backend.calls
    await one_turn()

    assert [[0, 1]] == backend.calls
    assert [True, True] == [answer.done() for answer in answers]


@pytest.mark.parametrize("first", [CROWD - 1, CROWD])
async def test_a_crowd_lets_in_who_comes_a_turn_later(first: int) -> None:
    """Those who are few leave without them."""
    engine = an_engine(backend := FakeBackend())
    answers = submit(engine, *(single(number) for number in range(first)))
    await one_turn()
    answers += submit(engine, single(first))
    await asyncio.gather(*answers)

    everybody = list(range(first + 1))
    assert ([everybody] if first == CROWD else [everybody[:-1], everybody[-1:]]) == backend.calls


@pytest.mark.parametrize("leave", [CROWD, 1])
async def test_a_crowd_may_go_meanwhile(leave: int) -> None:
    """Nobody is kept waiting for who left."""
    engine = an_engine(backend := FakeBackend())
    waiters = [StubWaiter() for _ in range(CROWD)]
    entries = [engine.submit(single(number), waiter) for number, waiter in enumerate(waiters)]
    await one_turn()
    for entry, waiter in list(zip(entries, waiters, strict=True))[:leave]:
        waiter.cancel()
        engine.discard(entry)
    await engine.drain()

    assert ([] if leave == CROWD else [list(range(1, CROWD))]) == backend.calls
    assert all(waiter.reply is not None for waiter in waiters[leave:])


async def test_no_task_is_made_for_requests_that_have_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are taken in by a plain callback, and the sweep of deadlines is armed for them."""
    engine = an_engine(backend := FakeBackend())
    gate, first = await held(engine, backend, single(0))
    waiting = submit(engine, single(1))
    await one_turn()  # polled once: there is no place
    await one_turn()  # and the task that did it has gone
    monkeypatch.setattr(engine, "_timer", None)
    tasks = len(engine._tasks)
    waiting += submit(engine, single(2), single(3))
    await one_turn()

    assert tasks == len(engine._tasks)
    assert {"m": 3} == engine.scheduler.queued_rows()
    assert engine._timer is not None
    gate.release()
    assert [[0], [1], [2], [3]] == await numbers([*first, *waiting])
    assert [[0], [1, 2, 3]] == backend.calls


async def test_requests_that_wait_for_nobody_leave_though_others_have_to() -> None:
    """In the turn in which they came, while merged calls are held back."""
    engine = an_engine(backend := FakeBackend())
    gate, first = await held(engine, backend, single(0))
    waiting = submit(engine, single(1))
    await one_turn()
    alone = submit(engine, a_request(first=7, signature=FIXED))

    assert [[7]] == await numbers(alone)
    gate.release()
    assert [[0], [1]] == await numbers([*first, *waiting])


async def test_a_call_that_ends_takes_along_who_came_in_that_turn() -> None:
    """The next batch does not wait for the end of the turn."""
    engine = an_engine(backend := FakeBackend())
    gate, first = await held(engine, backend, single(0))
    gate.release()
    await one_turn()
    later = submit(engine, single(1), single(2))

    assert [[0], [1], [2]] == await numbers([*first, *later])
    assert [[0], [1, 2]] == backend.calls


async def test_drain_waits_for_who_came_just_before_it() -> None:
    """They count, though they have not been taken in: whether a place is free or not."""
    for busy in (False, True):
        engine = an_engine(backend := FakeBackend())
        answers: list[Answer] = []
        gate = None
        if busy:
            gate, answers = await held(engine, backend, single(0))
            answers += submit(engine, single(1))
            await one_turn()
        answers += submit(engine, single(2))
        draining = asyncio.ensure_future(engine.drain())
        await one_turn()
        if gate is not None:
            assert not draining.done()
            gate.release()
        await draining

        assert all(answer.done() for answer in answers)
        await engine.aclose()


async def test_close_tells_who_came_just_before_it() -> None:
    """Once each, and they are counted; who left before is not. The pump that was to take them in finds nobody."""
    for busy in (False, True):
        engine = an_engine(backend := FakeBackend())
        answers: list[Answer] = []
        if busy:
            _, answers = await held(engine, backend, single(0))
            answers += submit(engine, single(1))
            await one_turn()
        came = [StubWaiter() for _ in range(3)]
        entries = [engine.submit(single(place), waiter) for place, waiter in enumerate(came)]
        came[1].cancel()
        engine.discard(entries[1])
        assert len(answers) + 2 == engine.unanswered()

        assert len(answers) + 2 == engine.strand()
        await one_turn()
        assert [Draining] * 2 == [type(came[place].error) for place in (0, 2)]
        assert came[1].error is None
        assert 0 == engine.unanswered()
        await engine.drain() if not busy else None
        assert 0 == await engine.aclose()
        for answer in answers:
            assert isinstance(answer.exception(), Draining)


async def test_who_came_in_this_turn_is_wanted_too() -> None:
    """A version that only they mean is not put away."""
    engine = an_engine(FakeBackend())
    request = single(0)
    request.key = request.key._replace(version=3)
    answers = submit(engine, request)

    assert [True, False] == [engine.wants(3), engine.wants(4)]
    await numbers(answers)
    assert not engine.wants(3)


async def test_a_bug_in_taking_in_strands_nobody(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each caller is told, and the engine goes on."""
    engine = an_engine(FakeBackend())

    def crash(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Lanes, "push_all", crash)
    answers = submit(engine, single(0), a_request(first=1, signature=FIXED), single(2))
    await asyncio.wait(answers)
    monkeypatch.undo()

    assert ["internal error: ZeroDivisionError. This is a bug."] * 3 == [str(answer.exception()) for answer in answers]
    assert ["pool 'pool': requests could not be taken in. This is a bug."] == [r.getMessage() for r in caplog.records]
    assert [[3]] == await numbers(submit(engine, single(3)))


async def test_the_callers_own_reading_of_the_clock_is_taken() -> None:
    """One who has just read it need not have it read again."""
    clock = ManualClock()
    engine = an_engine(FakeBackend(), clock=clock)
    given = engine.submit(single(0), StubWaiter(), -0.5)
    read = engine.submit(single(1), StubWaiter())

    assert (-0.5, 0.0) == (given.arrival, read.arrival)
    await engine.aclose()


async def test_all_of_one_turn_are_taken_in_by_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are."""
    engine = an_engine(FakeBackend())
    taken: list[int] = []
    real = Scheduler.submit_all

    def submit_all(self: Scheduler, entries: list[object], now: float) -> object:
        taken.append(len(entries))
        return real(self, entries, now)  # type: ignore[arg-type]

    monkeypatch.setattr(Scheduler, "submit_all", submit_all)
    replies: list[Reply] = [await answer for answer in submit(engine, *(single(place) for place in range(64)))]

    assert 64 == len(replies)
    assert [64] == taken


async def test_several_may_be_submitted_at_once() -> None:
    """Together or by themselves: they are of one turn; and all are refused while shutting down."""
    engine = an_engine(backend := FakeBackend())
    waiters = [StubWaiter() for _ in range(3)]
    entries = [Entry(single(number), waiter, 0.0) for number, waiter in enumerate(waiters)]
    engine.submit_all(entries[:2])
    engine.submit_all(entries[2:])
    await engine.drain()
    with pytest.raises(Draining):
        engine.submit_all([Entry(single(3), late := StubWaiter(), 0.0)])

    assert [[0, 1, 2]] == backend.calls
    assert all(waiter.reply is not None for waiter in waiters)
    assert not late.done()


async def test_timer_is_set_anew_when_a_caller_goes_whose_neighbour_has_less_time() -> None:
    """The next sweep would be too late for it."""
    engine = an_engine(FakeBackend(), policy=Policy(max_delay_s=1.0), clock=ManualClock())
    patient = engine.submit(a_request(priority=0, deadline=1.0), StubWaiter())
    engine.submit(a_request(priority=1, deadline=0.02), StubWaiter())
    await one_turn()
    before = engine._timer_at
    patient.waiter.cancel()  # type: ignore[attr-defined]
    engine.discard(patient)

    assert [SWEEP_S, 0.01] == [before, engine._timer_at]
    await engine.aclose()
