"""The loop: what it hands to the scheduler, when it asks again, and what it writes down."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

import pytest

from batchproxy.core.policy import Policy
from batchproxy.core.request import Entry
from batchproxy.core.scheduler import Scheduler
from batchproxy.simulation.arrivals import Arrivals, Callers
from batchproxy.simulation.draws import stream
from batchproxy.simulation.log import Log
from batchproxy.simulation.servers import Habits, Lanes, linear
from batchproxy.simulation.world import Kind, Timed, World, build_scheduler, policy

HABITS = Habits({"": linear(0.010, 0.0)}, rtt_s=0.0, noise=0.0)


def run(
    arrivals: Arrivals,
    *,
    lanes: int = 1,
    habits: Habits = HABITS,
    policies: Mapping[str, Policy] | None = None,
    kinds: tuple[Kind, ...] = (Kind(),),
    horizon_s: float = 1.0,
    drain_s: float = 20.0,
    think: bool = False,
) -> Log:
    """One endpoint that takes 10 ms for any call."""
    policies = policies or {kind.model: policy(8) for kind in kinds}
    world = World(
        build_scheduler(policies, ["one"]), {"one": Lanes(lanes, habits, stream(1, "noise"))}, arrivals,
        kinds=kinds, think=stream(1, "think") if think else None,
    )  # fmt: skip
    return world.run(horizon_s, drain_s)


def test_a_lone_request_takes_one_call() -> None:
    """It leaves when it comes."""
    log = run(Arrivals([0.5]))

    assert (1, [0.5], [1]) == (log.requests, list(log.sent), list(log.rows))
    assert [0.010] == pytest.approx(list(log.latency))


def test_requests_of_an_instant_ride_together() -> None:
    """As those of one turn of the event loop do; their rows add up."""
    log = run(Arrivals([0.5] * 3, [1, 2, 3]))

    assert [6] == list(log.rows)
    assert 3 == log.requests == len(log.latency)


def test_kinds_do_not_ride_together() -> None:
    """Models, nor tenants of one model; each answer is booked for its kind."""
    kinds = (Kind("a"), Kind("b"), Kind("b", tenant="x"))
    log = run(Arrivals([0.5, 0.5, 0.5], kinds=[0, 1, 2]), kinds=kinds, lanes=3)

    assert [1, 1, 1] == list(log.rows)
    assert [0, 1, 2] == sorted(log.kinds)


def test_what_is_padded_is_paid_for() -> None:
    """The server is sent the padded size, as the engine would send it; the log has the rows that were asked for."""
    padding = {"m": Policy(max_batch_rows=8, allowed_batch_sizes=(4, 8))}
    log = run(Arrivals([0.0]), policies=padding, habits=Habits({"": linear(0.0, 0.001)}, 0.0, 0.0))

    assert [0.004] == pytest.approx(list(log.latency))


def test_a_refused_call_is_settled_as_rejected() -> None:
    """Its members get there by smaller calls: nobody is lost, nobody fails."""
    log = run(Arrivals([0.0] * 8), habits=Habits(HABITS.costs, 0.001, 0.0, limit_rows=4))

    assert 8 == len(log.latency)
    assert max(log.rows) == 8
    assert 0 == log.failed


def test_a_lone_refused_request_has_failed() -> None:
    """It is larger than the server takes."""
    log = run(Arrivals([0.0], [5]), habits=Habits(HABITS.costs, 0.001, 0.0, limit_rows=4))

    assert (1, 0, 1) == (log.requests, len(log.latency), log.failed)


def test_a_request_that_is_too_late_is_told_so() -> None:
    """By the sweep, within 50 ms of its deadline, queued or under way."""
    times = [index / 1000 for index in range(200)]
    log = run(Arrivals(times), kinds=(Kind(deadline_s=0.02),), policies={"m": policy(1)})

    assert log.late + log.refused > 100
    assert 200 == log.late + log.refused + len(log.latency)
    assert max(log.latency) < 0.08


def test_who_is_refused_at_once_is_counted() -> None:
    """A full queue."""
    log = run(Arrivals([0.0] * 9), policies={"m": Policy(max_batch_rows=1, max_queued_rows=5)})

    assert (9, 4, 5) == (log.requests, log.refused, len(log.latency))


def test_a_hold_is_ended_by_a_wake() -> None:
    """A policy that waits for company lets a lone request go when its time is up, though nothing else happens."""
    log = run(Arrivals([0.1]), policies={"m": Policy(max_batch_rows=8, max_delay_s=0.003)})

    assert [0.103] == pytest.approx(list(log.sent), abs=1e-4)


def test_the_end_is_not_waited_for_for_ever() -> None:
    """What is not answered when draining ends stays unanswered."""
    log = run(Arrivals([0.0] * 100), policies={"m": policy(1)}, horizon_s=0.1, drain_s=0.1)

    assert 100 == log.requests
    assert len(log.latency) <= 20


def test_callers_ask_again_when_they_are_answered() -> None:
    """Four in lockstep, up to the horizon."""
    log = run(Arrivals(callers=Callers(4)), horizon_s=0.035)

    assert [4, 4, 4, 4] == list(log.rows)
    assert 16 == log.requests == len(log.latency)


def test_callers_may_think() -> None:
    """Half as many requests as without, where they think as long as they wait."""
    log = run(Arrivals(callers=Callers(1, 0.01)), horizon_s=20.0, think=True)

    assert 1000 == pytest.approx(log.requests, rel=0.1)


def test_nothing_comes() -> None:
    """And nothing happens."""
    log = run(Arrivals())

    assert (0, 0) == (log.requests, len(log.rows))


def test_timed() -> None:
    """Seconds of the clock for each call of a method; what is no method is passed on."""
    ticks = iter(range(100))
    real = build_scheduler({"m": policy(8)}, ["one"])
    timed = Timed(real, lambda: float(next(ticks)))
    scheduler = cast("Scheduler", timed)
    request = World(real, {}, Arrivals())._request(0, 1, 0.0)

    class Caller:
        def done(self) -> bool:
            return False

    scheduler.submit(Entry(request, cast("object", Caller()), 0.0), 0.0)  # type: ignore[arg-type]
    scheduler.poll(0.0)
    scheduler.poll(0.0)

    assert (3.0, 3) == (timed.seconds, timed.calls)
    assert scheduler.busy is True
    with pytest.raises(TypeError):
        scheduler.poll()  # type: ignore[call-arg]
    assert math.isclose(4.0, timed.seconds)
