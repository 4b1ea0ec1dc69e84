"""Rivals' schedules, worked out by hand, and what each learns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.simulation.arrivals import Arrivals, Callers, poisson
from batchproxy.simulation.draws import stream
from batchproxy.simulation.rivals import INF, Aimd, Cork, Fixed, Rival, SharedAdaptive, Timer, drive
from batchproxy.simulation.servers import Habits, Lanes, linear

CONSTANT = Habits({"": linear(0.010, 0.0)}, rtt_s=0.0, noise=0.0)


def schedule(rival: Rival, arrivals: Arrivals, lanes: int = 9) -> list[tuple[int, int]]:
    """(ms when a call left, rows it had), on a server that takes 10 ms for any call."""
    log = drive(rival, Lanes(lanes, CONSTANT, stream(1, "x")), arrivals, 1.0)
    return sorted(zip([round(1000 * time) for time in log.sent], log.rows, strict=True))


def at(*times_ms: float) -> Arrivals:
    """Requests of one row at these times."""
    return Arrivals([time / 1000 for time in times_ms])


@pytest.mark.parametrize(
    ("rival", "expected"),
    [
        (Fixed(INF, 0, 1), [(0, 1), (1, 1), (2, 1), (3, 1), (4, 1)]),
        (Fixed(1, 0, 2), [(0, 1), (10, 2), (20, 2)]),
        (Fixed(2, 0, 2), [(0, 1), (1, 1), (10, 2), (11, 1)]),
        (Fixed(1, 1, 2), [(0, 1), (2, 2), (10, 2)]),
        (Fixed(1, INF, 2), [(0, 1), (2, 2), (4, 2)]),
        (Timer(0.003, INF, 8), [(3, 4), (7, 1)]),
        (Timer(0.003, INF, 2), [(1, 2), (3, 2), (7, 1)]),
        (Timer(0.003, 1, 8), [(3, 4), (13, 1)]),
        (Aimd(1.0, 8), [(0, 1), (10, 2), (20, 2)]),
    ],
)
def test_schedule(rival: Rival, expected: list[tuple[int, int]]) -> None:
    """Five requests, a millisecond apart."""
    assert expected == schedule(rival, at(0, 1, 2, 3, 4))


def test_latencies_of_a_schedule() -> None:
    """From a request's arrival to the end of its call."""
    log = drive(Fixed(1, 0, 2), Lanes(1, CONSTANT, stream(1, "x")), at(0, 1, 2, 3), 1.0)

    assert [10, 19, 18, 27] == [round(1000 * latency) for latency in log.latency]
    assert (4, [0, 10, 20]) == (log.requests, [round(1000 * time) for time in log.sent])


def test_requests_of_several_rows_are_not_cut() -> None:
    """As many whole requests as fit; one that is larger than a batch goes alone."""
    arrivals = Arrivals([0.0, 0.001, 0.001, 0.002, 0.002], [1, 2, 3, 9, 4])

    assert [(0, 1), (10, 2), (20, 3), (30, 9), (40, 4)] == schedule(Fixed(1, 0, 4), arrivals)
    assert [(0, 1), (1, 2), (2, 3), (2, 4), (2, 9)] == schedule(Fixed(1, INF, 4), arrivals)


def test_callers_ask_again_when_they_are_answered() -> None:
    """Two of them in lockstep: a call of two every 10 ms, until the horizon."""
    log = drive(Fixed(1, 0, 8), Lanes(1, CONSTANT, stream(1, "x")), Arrivals(callers=Callers(2)), 0.035)

    assert [2, 2, 2, 2] == list(log.rows)
    assert 8 == log.requests == len(log.latency)


def test_callers_may_think() -> None:
    """Half as many calls as without, where they think as long as they wait."""
    callers = Arrivals(callers=Callers(1, 0.01))
    log = drive(Fixed(1), Lanes(1, CONSTANT, stream(1, "x")), callers, 20.0, think=stream(1, "think"))

    assert 1000 == pytest.approx(log.requests, rel=0.1)


@given(
    times=st.lists(st.floats(0.0, 0.2), min_size=1, max_size=60),
    rival=st.sampled_from(["fixed", "timer", "kserve", "adaptive", "cork", "aimd"]),
    rows=st.data(),
)
def test_nobody_is_lost(times: list[float], rival: str, rows: st.DataObject) -> None:
    """Each rival answers everybody once, and no call is larger than it may be but that of one large request."""
    makers: dict[str, Rival] = {
        "fixed": Fixed(2, 1, 8), "timer": Timer(0.005, INF, 8), "kserve": Timer(0.05, 1, 8),
        "adaptive": SharedAdaptive(stream(1, "x"), 8), "cork": Cork(8), "aimd": Aimd(0.05, 8),
    }  # fmt: skip
    sizes = rows.draw(st.one_of(st.just([]), st.lists(st.integers(1, 9), min_size=len(times), max_size=len(times))))
    log = drive(makers[rival], Lanes(1, CONSTANT, stream(1, "x")), Arrivals(sorted(times), sizes), 0.2, drain_s=60.0)

    assert len(times) == log.requests == len(log.latency)
    assert (sum(sizes) or len(times)) == sum(log.rows)
    assert all(latency >= 0.0099 for latency in log.latency)
    assert max(log.rows) <= 9


def feed(rival: Rival, calls: Sequence[tuple[int, float]]) -> None:
    """(rows, seconds) of calls that are over, one after the other."""
    now = 0.0
    for rows, seconds in calls:
        rival.complete(now + seconds, rows, now, now, now)
        now += seconds


def test_adaptive_limit_walks_towards_better_windows() -> None:
    """The first window is worse than nothing: back by an eighth; then better ones: on, by half as much, then twice."""
    rival = SharedAdaptive(stream(1, "x"))
    limits = [rival.limit]
    for seconds in (5.0, 4.0, 3.0, 2.0, 9.0):
        feed(rival, [(1, seconds)] * 1000)
        limits.append(rival.limit)

    steps = [after / before - 1 for before, after in pairwise(limits)]
    assert [-1 / 8, -1 / 16, -1 / 8, -1 / 8, 1 / 8] == pytest.approx(steps)


def test_adaptive_limit_is_a_probability_behind_the_point() -> None:
    """At 2.5, a third call goes every other time that it is asked for."""
    rival = SharedAdaptive(stream(1, "x"))
    rival.limit = 2.5
    sent = sum(rival.decide(0.0, 1, 2, 0.0, 0.0)[0] for _ in range(1000))

    assert 500 == pytest.approx(sent, abs=60)
    assert 1 == rival.decide(0.0, 1, 1, 0.0, 0.0)[0]
    assert (0, INF, INF) == rival.decide(0.0, 1, 3, 0.0, 0.0)


def test_cork_refuses_who_would_be_late() -> None:
    """The oldest, once it has seen ten calls; before it knows nothing."""
    rival = Cork(8, deadline_s=0.05)
    before = rival.decide(1.0, 4, 0, 0.9, 1.0)[0]
    feed(rival, [(rows, 0.01 + 0.001 * rows) for rows in (1, 8) * 10])
    late = rival.decide(1.0, 4, 0, 0.9, 1.0)[0]
    early = rival.decide(1.0, 4, 0, 0.99, 1.0)[0]

    assert (4, -1, 4) == (before, late, early)


def test_cork_refuses_in_the_loop() -> None:
    """Who is refused is late, not answered."""
    arrivals = Arrivals(poisson(2000.0, 1.0, stream(1, "x")))
    log = drive(Cork(8, deadline_s=0.05), Lanes(1, CONSTANT, stream(1, "x")), arrivals, 1.0)

    assert log.late > 0.3 * log.requests
    assert log.requests == log.late + len(log.latency)


def test_aimd_keeps_its_objective() -> None:
    """Full calls in time make it larger by one; one that is late, a tenth smaller."""
    rival = Aimd(0.05, 8)
    feed(rival, [(rows, 0.01) for rows in range(1, 12)])
    grown = rival.decide(0.0, 99, 0, 0.0, 0.0)[0]
    feed(rival, [(8, 0.06)])
    shrunk = rival.decide(0.0, 99, 0, 0.0, 0.0)[0]

    assert (8, 7) == (grown, shrunk)
    assert (0, math.inf, math.inf) == rival.decide(0.0, 99, 1, 0.0, 0.0)
