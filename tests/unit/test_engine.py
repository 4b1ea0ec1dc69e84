"""Tests of batchproxy.engine: on a real loop, with backends that do as they are told and a clock moved by hand."""

from __future__ import annotations

import asyncio
import time

import pytest

from batchproxy.core.errors import (
    DeadlineExceeded,
)
from batchproxy.core.policy import Policy
from batchproxy.core.request import Reply
from batchproxy.testing import FIXED, FakeBackend, ManualClock, StubWaiter, a_request
from tests.unit.engines import Answer, an_engine, held, numbers, single, submit

# -- batching ----------------------------------------------------------------------------------------


async def test_requests_of_one_turn_share_a_call() -> None:
    """Each gets its own rows of it, and the version that answered."""
    engine = an_engine(backend := FakeBackend())

    answers = submit(engine, single(0), a_request(3, first=5), single(1))

    assert [[0], [5, 6, 7], [1]] == await numbers(answers)
    assert [[0, 5, 6, 7, 1]] == backend.calls
    assert 1 == (await answers[0]).version


async def test_lone_request_leaves_without_a_timer() -> None:
    """The clock stands still and no timer may fire, yet it is sent."""
    engine = an_engine(backend := FakeBackend())
    engine._on_timer = lambda: None  # type: ignore[method-assign]

    assert [[4]] == await numbers(submit(engine, single(4)))
    assert [[4]] == backend.calls


async def test_waiter_is_never_told_inside_submit() -> None:
    """Whoever submits may still be setting up what the answer needs."""
    engine = an_engine(FakeBackend())

    (answer,) = submit(engine, single(0))

    assert not answer.done()
    await answer


async def test_batch_forms_while_the_backend_is_busy() -> None:
    """What comes meanwhile leaves together when the slot is free."""
    engine = an_engine(backend := FakeBackend())
    gate, first = await held(engine, backend, single(0))

    later = [*submit(engine, single(1)), *submit(engine, single(2), single(3))]
    gate.release()

    assert [[0], [1], [2], [3]] == await numbers([*first, *later])
    assert [[0], [1, 2, 3]] == backend.calls


async def test_the_next_call_leaves_before_answers_are_written() -> None:
    """The backend has work meanwhile: writing the answers of a batch takes the loop as long as a small model takes."""
    engine = an_engine(backend := FakeBackend())
    calls_then: list[list[list[int]]] = []

    class Writes(StubWaiter):
        def set_result(self, result: Reply, /) -> None:
            calls_then.append(list(backend.calls))
            super().set_result(result)

    gate = backend.hold()
    for number in (0, 1):
        engine.submit(single(number), Writes())
    await gate.entered.wait()
    later = submit(engine, single(2))
    gate.release()

    assert [[2]] == await numbers(later)
    assert [[[0, 1], [2]]] * 2 == calls_then


async def test_fixed_dimension_does_not_wait_for_a_slot() -> None:
    """R2, through the engine."""
    engine = an_engine(backend := FakeBackend())
    gate, first = await held(engine, backend, single(0))

    assert [[7]] == await numbers(submit(engine, a_request(first=7, signature=FIXED)))
    gate.release()
    await numbers(first)


async def test_delay_is_kept_by_a_timer() -> None:
    """With max_delay a lone request leaves once it is over, on the loop's own clock."""
    engine = an_engine(backend := FakeBackend(), policy=Policy(max_delay_s=0.002), clock=time.monotonic)
    began = time.monotonic()

    assert [[0]] == await numbers(submit(engine, single(0)))
    assert time.monotonic() - began >= 0.002
    assert [[0]] == backend.calls


async def test_sooner_wake_up_replaces_a_later_timer() -> None:
    """A timer for the sweep is pending; a lane that is due before it does not wait for it."""
    engine = an_engine(backend := FakeBackend(), policy=Policy(max_delay_s=0.004), max_inflight=2, clock=time.monotonic)
    gate, first = await held(engine, backend, single(0))
    timer = engine._timer

    assert [[1]] == await numbers(submit(engine, single(1)))
    assert timer is not None
    assert timer.cancelled()
    gate.release()
    await numbers(first)


async def test_padding_is_sent_and_undone() -> None:
    """The backend sees an allowed size, the callers their own rows; what travels alone is never padded."""
    policy = Policy(max_batch_rows=4, allowed_batch_sizes=(4,))
    engine = an_engine(backend := FakeBackend(), policy=policy)

    assert [[1, 2], [3]] == await numbers(submit(engine, a_request(2, first=1), single(3)))
    assert [[5]] == await numbers(submit(engine, a_request(first=5, signature=FIXED)))
    assert [[1, 2, 3, 3], [5]] == backend.calls


# -- leaving early -----------------------------------------------------------------------------------


async def test_deadline_in_the_queue() -> None:
    """The caller is told by the sweep, and its request is never sent."""
    clock = ManualClock()
    engine = an_engine(backend := FakeBackend(), clock=clock)
    gate, first = await held(engine, backend, single(0))
    late, patient = submit(engine, single(1, deadline=1.0), single(2))

    clock.advance(1.0)
    engine._on_timer()

    assert isinstance(late.exception(), DeadlineExceeded)
    gate.release()
    assert [[0], [2]] == await numbers([*first, patient])
    assert [[0], [2]] == backend.calls


async def test_deadline_met_while_a_batch_is_made() -> None:
    """Whoever is found late by then is told at once, not at the next sweep."""
    clock = ManualClock()
    engine = an_engine(backend := FakeBackend(), clock=clock)
    gate, first = await held(engine, backend, single(0))
    (late,) = submit(engine, single(1, deadline=1.0))

    clock.advance(1.0)
    gate.release()
    await numbers(first)

    assert isinstance(late.exception(), DeadlineExceeded)


async def test_sweep_is_armed_for_whoever_waits_with_a_deadline() -> None:
    """On the loop's own clock: nobody moves anything by hand, and the caller learns it within a sweep."""
    engine = an_engine(backend := FakeBackend(), clock=time.monotonic)
    gate, first = await held(engine, backend, single(0))
    (late,) = submit(engine, single(1, deadline=engine.clock() + 0.001))

    with pytest.raises(DeadlineExceeded):
        await late
    gate.release()
    await numbers(first)


async def test_deadline_in_flight_leaves_the_others_their_answer() -> None:
    """The slice of the late one is dropped."""
    clock = ManualClock()
    engine = an_engine(backend := FakeBackend(), clock=clock)
    gate, (late, mate) = await held(engine, backend, single(1, deadline=1.0), single(2))

    clock.advance(1.0)
    engine._on_timer()
    gate.release()

    assert [[2]] == await numbers([mate])
    assert isinstance(late.exception(), DeadlineExceeded)


async def test_cancelled_client_does_not_disturb_its_batch_mates() -> None:
    """In flight and queued, with the engine told or not."""
    engine = an_engine(backend := FakeBackend())
    gate = backend.hold()
    answers: list[Answer] = [asyncio.get_running_loop().create_future() for _ in range(6)]
    entries = [engine.submit(single(place), answer) for place, answer in enumerate(answers[:3])]
    await gate.entered.wait()
    entries += [engine.submit(single(place), answer) for place, answer in enumerate(answers[3:], start=3)]
    answers[0].cancel()
    for place in (1, 4):
        answers[place].cancel()
        engine.discard(entries[place])
    gate.release()

    assert [[2], [3], [5]] == await numbers([answers[2], answers[3], answers[5]])
    assert [[0, 1, 2], [3, 5]] == backend.calls


async def test_call_that_nobody_waits_for_is_cancelled_and_keeps_its_slot_until_it_ends() -> None:
    """A thread cannot be stopped: its slot is not given away while it runs."""
    engine = an_engine(backend := FakeBackend())
    gate = backend.hold(stubborn=True)
    waiter = StubWaiter()
    entry = engine.submit(single(0), waiter)
    await gate.entered.wait()
    waiter.cancel()
    engine.discard(entry)
    await gate.cancelled.wait()
    (next_one,) = submit(engine, single(1))
    await asyncio.sleep(0)  # one turn of the loop

    assert [[0]] == backend.calls
    assert 1 == engine.scheduler.balancer.endpoints[0].in_flight
    gate.release()
    assert [[1]] == await numbers([next_one])


async def test_call_cancelled_before_its_first_step_gives_its_slot_back() -> None:
    """Such a task runs no line of its coroutine, not even ``finally``: the slot leaked."""
    engine = an_engine(backend := FakeBackend(), policy=Policy(max_batch_rows=1), max_inflight=2)
    waiter = StubWaiter()
    first = submit(engine, single(0))  # whose call is made by the task that starts all calls
    entry = engine.submit(single(1), waiter)
    asyncio.get_running_loop().call_soon(engine.discard, entry)  # right after that, before the second call's own task

    await asyncio.sleep(0)
    waiter.cancel()
    assert 1 == engine.scheduler.balancer.endpoints[0].in_flight

    assert [[0], [2]] == await numbers([*first, *submit(engine, single(2))])
    assert [[0], [2]] == backend.calls


async def test_call_is_made_in_the_turn_in_which_it_may_start() -> None:
    """A turn later the next requests would have come, and a batch would have been cut in two."""
    engine = an_engine(FakeBackend())

    (answer,) = submit(engine, single(0))
    await asyncio.sleep(0)

    assert answer.done()
