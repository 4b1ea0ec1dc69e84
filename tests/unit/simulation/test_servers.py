"""Servers take the time that they should, whoever asks."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.simulation.draws import stream
from batchproxy.simulation.servers import Change, Cores, Habits, Lanes, Pool, Server, kneed, linear, padded

COSTS = {"": linear(0.008, 0.001)}
QUIET = Habits(COSTS, rtt_s=0.002, noise=0.0)


def back(server: Server) -> list[tuple[float, Any, bool]]:
    """Everything that is in flight: (when it is back, tag, whether it was taken)."""
    found = []
    while (now := server.due) < math.inf:
        found += [(round(now, 6), tag, taken) for tag, taken in server.answers(now)]
    return found


@pytest.mark.parametrize(
    ("cost", "expected"),
    [
        (linear(1.0, 0.5), [1.5, 2.0, 2.5, 3.5]),
        (padded(linear(1.0, 0.5)), [1.5, 2.0, 3.0, 5.0]),
        (kneed(linear(1.0, 0.5), 2, 1.0), [1.5, 2.0, 3.5, 6.5]),
    ],
)
def test_costs(cost: Any, expected: list[float]) -> None:
    """By rows 1, 2, 3 and 5."""
    assert expected == [cost(rows) for rows in (1, 2, 3, 5)]


def test_lanes_are_first_come_first_served() -> None:
    """Two lanes: the third call waits for the first one; half a round trip lies before and behind each."""
    server = Lanes(2, QUIET, stream(1, "x"))
    for tag, rows in enumerate((2, 14, 2)):
        server.send(0.0, rows, "m", tag)

    assert [(0.012, 0, True), (0.022, 2, True), (0.024, 1, True)] == back(server)


def test_nothing_is_back_before_its_time() -> None:
    """``answers`` says nothing before ``due``, and ``due`` stays."""
    server = Lanes(1, QUIET, stream(1, "x"))
    server.send(1.0, 2, "m", "a")

    assert [] == server.answers(1.005)
    assert 1.012 == pytest.approx(server.due)


def test_too_big_a_call_is_refused_after_a_round_trip() -> None:
    """It takes no lane."""
    for server in (
        Lanes(1, Habits(COSTS, 0.002, 0.0, limit_rows=4), stream(1, "x")),
        Cores(1, Habits(COSTS, 0.002, 0.0, limit_rows=4), stream(1, "x")),
    ):
        server.send(0.0, 5, "m", "big")
        server.send(0.0, 4, "m", "fits")

        assert [(0.002, "big", False), (0.014, "fits", True)] == back(server)


def test_each_model_has_its_cost() -> None:
    """One that is not named has that of ``""``."""
    server = Lanes(2, Habits({**COSTS, "slow": linear(0.1, 0.0)}, 0.0, 0.0), stream(1, "x"))
    server.send(0.0, 1, "slow", "slow")
    server.send(0.0, 1, "any", "any")

    assert [(0.009, "any", True), (0.1, "slow", True)] == back(server)


def test_a_row_count_is_compiled_once_a_model() -> None:
    """The first call of each takes longer."""
    server = Lanes(1, Habits(COSTS, 0.0, 0.0, compile_s=1.0), stream(1, "x"))
    times: list[float] = []
    for model, rows in (("m", 2), ("m", 2), ("m", 3), ("n", 2)):
        start = server.due if times else 0.0
        server.send(start if start < math.inf else times[-1], rows, model, None)
        times.append(back(server)[0][0])

    assert [1.01, 1.02, 2.031, 3.041] == times


def test_noise_has_the_median_one_and_a_seed() -> None:
    """Half of 1,000 calls take longer than without it; the same seed gives the same."""

    def times(seed: int) -> list[float]:
        server = Lanes(1000, Habits(COSTS, 0.0, 0.08), stream(seed, "x"))
        for tag in range(1000):
            server.send(0.0, 2, "m", tag)
        return [time for time, _, _ in back(server)]

    assert times(1) == times(1)
    assert 500 == pytest.approx(sum(time > 0.01 for time in times(1)), abs=60)


def test_changes_happen_when_a_call_begins() -> None:
    """Slower for calls that begin from then on; more lanes take calls at once, fewer carry on what was begun."""
    habits = Habits(COSTS, 0.0, 0.0, changes=(Change(0.005, slower=2.0), Change(0.05, lanes=3), Change(0.1, lanes=1)))
    server = Lanes(1, habits, stream(1, "x"))
    sends = [
        (0.0, "before"),
        (0.001, "waits, then slower"),
        (0.06, "a"),
        (0.06, "b"),
        (0.06, "c"),
        (0.1, "d"),
        (0.1, "e"),
    ]
    for now, tag in sends:
        server.send(now, 2, "m", tag)

    expected = {"before": 0.01, "waits, then slower": 0.03, "a": 0.08, "b": 0.08, "c": 0.08, "d": 0.12, "e": 0.14}
    assert expected == {tag: time for time, tag, _ in back(server)}


def test_cores_are_shared() -> None:
    """Two calls on one core take twice as long each, and the longer one is alone at the end."""
    server = Cores(1, Habits(COSTS, 0.0, 0.0), stream(1, "x"))
    server.send(0.0, 2, "m", "short")
    server.send(0.0, 12, "m", "long")

    assert [(0.02, "short", True), (0.03, "long", True)] == back(server)


def test_cores_that_are_free_are_not_shared() -> None:
    """As many calls as cores do not feel each other; one more makes all of them slower."""
    server = Cores(2, Habits(COSTS, 0.002, 0.0), stream(1, "x"))
    server.send(0.0, 2, "m", 0)
    server.send(0.0, 2, "m", 1)

    assert [(0.012, 0, True), (0.012, 1, True)] == back(server)


def test_thrashing_adds_work() -> None:
    """10 % for each call above the cores."""
    server = Cores(1, Habits(COSTS, 0.0, 0.0), stream(1, "x"), thrash=0.1)
    for tag in range(3):
        server.send(0.0, 2, "m", tag)

    assert [(0.036, tag, True) for tag in range(3)] == back(server)


def test_cores_may_change() -> None:
    """From the next call that is sent on."""
    server = Cores(1, Habits(COSTS, 0.0, 0.0, changes=(Change(0.01, lanes=2),)), stream(1, "x"))
    server.send(0.0, 12, "m", "a")
    server.send(0.015, 12, "m", "b")

    assert [(0.02, "a", True), (0.035, "b", True)] == back(server)


@given(
    calls=st.lists(st.tuples(st.floats(0.0, 1.0), st.integers(1, 32)), min_size=1, max_size=30),
    width=st.integers(1, 4),
    shared=st.booleans(),
)
def test_work_is_conserved(calls: list[tuple[float, int]], width: int, shared: bool) -> None:
    """Every call is answered once, none faster than alone, and all no later than one by one."""
    server: Server = Cores(width, QUIET, stream(1, "x")) if shared else Lanes(width, QUIET, stream(1, "x"))
    calls.sort()
    times: dict[int, float] = {}
    for tag, (now, rows) in enumerate(calls):
        while server.due <= now:
            at = server.due
            times |= {done: at for done, _ in server.answers(at)}
        server.send(now, rows, "m", tag)
    times |= {tag: time for time, tag, _ in back(server)}
    alone = [0.01 + 0.001 * rows for _, rows in calls]

    assert set(range(len(calls))) == set(times)
    assert all(times[tag] - now >= alone[tag] - 1e-5 for tag, (now, _) in enumerate(calls))
    assert max(times.values()) <= calls[-1][0] + sum(alone) + 1e-5


def test_a_pool_sends_to_the_one_with_the_least_to_do() -> None:
    """By calls in flight over speed, and above a cap only where all are."""

    def order(speeds: tuple[float, float], caps: tuple[float, float]) -> list[int]:
        servers = [Lanes(9, QUIET, stream(1, "x")), Lanes(9, QUIET, stream(2, "x"))]
        pool = Pool(servers, speeds, caps)
        before = [0, 0]
        taken = []
        for tag in range(4):
            pool.send(0.0, 1, "m", tag)
            now = [len(server._back) for server in servers]
            taken.append(0 if now[0] > before[0] else 1)
            before = now
        assert 4 == len(back(pool))
        assert [0, 0] == pool._in_flight
        return taken

    assert [0, 1, 0, 1] == order((1.0, 1.0), (9, 9))
    assert [0, 0, 0, 1] == order((3.0, 1.0), (9, 9))
    assert [0, 1, 0, 0] == order((3.0, 1.0), (1, 1))
