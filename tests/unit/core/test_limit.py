"""Tests of batchproxy.core.limit: what holds whatever happens. What it learns is in test_limit_learning."""

from __future__ import annotations

import json
from math import inf
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batchproxy.core.cost import Cost
from batchproxy.core.limit import HARD_CAP, Flight, Limit
from batchproxy.core.pace import PACE

CAP = 32
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["send", "send", "send", "answer", "answer", "drop"]),
        st.sampled_from([0.0, 0.0, 1e-9, 1e-4, 0.003, 0.02, 1.0]),
        st.integers(1, 2 * CAP),
        st.integers(0, HARD_CAP),
    ),
    max_size=120,
)
"""What happens, how long after what was before, rows of a batch, which of those in flight."""


class Walk:
    """An endpoint to which something is sent whenever it may be, and which answers in any order.

    Attributes:
        busy: seconds that anything was in flight.
        shares: what the batches that ended had of them, by the limit's clock.
        last: when something was last sent.
    """

    def __init__(self, fixed: int | None = None) -> None:
        self.limit = Limit(fixed)
        self.cost = Cost()
        self.now = 1.0
        self.last = -inf
        self.busy = self.shares = 0.0
        self.flights: list[tuple[Flight, int]] = []

    def step(self, what: str, wait: float, rows: int, which: int) -> None:
        """Something happens."""
        self.now += wait
        self.busy += wait if self.flights else 0.0
        if what == "send":
            self.send(rows)
        elif self.flights:
            self.end(which % len(self.flights), answered=what == "answer")

    def opens(self, rows: int) -> float:
        """From when a batch may be sent."""
        return self.limit.opens(self.cost, rows, CAP, self.now)

    def send(self, rows: int) -> None:
        """If that may be."""
        if self.opens(rows) <= self.now:
            self.flights.append((self.limit.depart(self.now), min(rows, self.limit.at_most(CAP))))
            self.last = self.now

    def end(self, place: int, *, answered: bool) -> None:
        """One of those in flight ends."""
        flight, rows = self.flights.pop(place)
        if answered:
            self.limit.arrive(flight, self.cost, rows, CAP, self.now)
        else:
            self.limit.drop(self.now)
        self.shares += self.limit._clock - flight.clock


def _walked(steps: list[tuple[str, float, int, int]], fixed: int | None = None) -> Walk:
    walk = Walk(fixed)
    for step in steps:
        walk.step(*step)
    return walk


# -- the clock ---------------------------------------------------------------------------------------


@given(STEPS, st.sampled_from([None, 1, 3]))
def test_fair_shares_add_up_to_the_busy_time(steps: list[tuple[str, float, int, int]], fixed: int | None) -> None:
    """Of all batches, in whatever order they come and go, answered or not."""
    walk = _walked(steps, fixed)
    while walk.flights:
        walk.step("drop", 0.01, 1, 0)

    assert walk.busy == pytest.approx(walk.shares, abs=1e-9)


# -- how many ----------------------------------------------------------------------------------------


@given(STEPS)
def test_no_more_than_the_hard_cap_and_never_less_than_none(steps: list[tuple[str, float, int, int]]) -> None:
    """Nor more partial batches than full ones; the numbers stay numbers."""
    walk = Walk()
    for step in steps:
        walk.step(*step)
        limit = walk.limit

        assert len(walk.flights) == limit.in_flight <= HARD_CAP
        assert 1.0 <= limit.ceiling <= HARD_CAP
        assert 1 <= limit.partial <= HARD_CAP
        assert limit.partial <= limit.full <= HARD_CAP


@given(STEPS, st.integers(1, 9))
def test_a_fixed_limit_is_kept_and_nothing_is_held(steps: list[tuple[str, float, int, int]], fixed: int) -> None:
    """Whoever sets a number gets it: partial batches or full ones leave until it is reached, and at once."""
    walk = Walk(fixed)
    for step in steps:
        walk.step(*step)

        assert walk.limit.in_flight <= fixed
        for rows in (1, CAP):
            assert (walk.now if walk.limit.in_flight < fixed else inf) == walk.opens(rows)


@given(STEPS)
def test_a_batch_is_never_held_for_ever(steps: list[tuple[str, float, int, int]]) -> None:
    """An idle endpoint opens at once; a batch waits for another's end only where there is one, else for its time."""
    walk = Walk()
    for step in steps:
        walk.step(*step)
        for rows in (1, CAP - 1, CAP):
            opens = walk.opens(rows)

            assert opens >= walk.now
            if not walk.limit.in_flight:
                assert walk.now == opens
            elif walk.now < opens < inf:
                assert opens - walk.last <= walk.cost.seconds(rows) / PACE / walk.limit.ceiling + 1e-9


def test_full_batches_go_beyond_the_limit() -> None:
    """They gain nothing by waiting; partial ones wait for the end of another."""
    walk = Walk()
    while walk.opens(1) <= walk.now:
        walk.send(1)
    partial = walk.limit.in_flight
    while walk.opens(CAP) <= walk.now:
        walk.send(CAP)

    assert inf == walk.opens(1) == walk.opens(CAP)
    assert (walk.limit.partial, walk.limit.full) == (partial, walk.limit.in_flight)
    assert partial < walk.limit.in_flight


def _at_work() -> Walk:
    """Two lanes that take 10 ms for any batch of some rows, with one batch in flight since now."""
    walk = Walk()
    walk.cost.learn(8, 0.010, 1)
    for _ in range(50):
        walk.cost.seen(8)
    walk.send(8)
    return walk


def test_partial_batches_are_spaced_where_the_endpoint_is_busy() -> None:
    """The second of two places is taken later than the first, and no sooner for being asked often."""
    walk = _at_work()
    opens = walk.opens(8)
    walk.now = (walk.now + opens) / 2

    assert walk.now < opens < inf
    assert opens == walk.opens(8)
    assert walk.now == walk.opens(CAP)
    walk.now = opens
    assert walk.now == walk.opens(8)


def test_nobody_is_held_for_company_that_never_comes() -> None:
    """Where every batch has one row, spacing would only be waiting."""
    walk = _at_work()
    walk.cost.rows = 1.0

    assert walk.now == walk.opens(1)


# -- how batches end ---------------------------------------------------------------------------------


@given(STEPS, st.integers(1, 6))
def test_a_dropped_batch_teaches_nothing(steps: list[tuple[str, float, int, int]], count: int) -> None:
    """What failed or was given up may have taken any time."""
    walk = _walked(steps)
    for _ in range(count):
        walk.step("send", 0.0, 8, 0)
    before = (walk.cost.state(), walk.limit.ceiling, walk.limit.partial, walk.limit.full)
    while walk.flights:
        walk.step("drop", 3.0, 1, 0)

    assert 0 == walk.limit.in_flight
    assert before == (walk.cost.state(), walk.limit.ceiling, walk.limit.partial, walk.limit.full)
    assert walk.now == walk.opens(1)


def test_first_answers_are_learned_from_whether_or_not_they_were_alone() -> None:
    """Something is better than nothing; then only those that were alone count, until more is known."""
    crowded = Walk()
    for rows in (4, 4):
        crowded.send(rows)
    crowded.step("answer", 0.02, 1, 1)
    guess = crowded.cost.seconds(4)
    alone = Walk()
    alone.send(4)
    alone.step("answer", 0.02, 1, 0)

    assert (True, 0) == (crowded.cost.known, crowded.cost.samples)
    assert 0.0 < guess <= 0.0201
    assert 1 == alone.cost.samples
    assert 0.02 == pytest.approx(alone.cost.seconds(4))


@pytest.mark.parametrize("fixed", [None, 2])
def test_costs_are_learned_whoever_sets_the_limit(fixed: int | None) -> None:
    """They decide to whom a batch goes."""
    walk = Walk(fixed)
    for rows in (1, 8, 32) * 5:
        walk.send(rows)
        walk.step("answer", 0.01 + 0.001 * rows, 1, 0)

    assert (0.011, 0.042) == pytest.approx((walk.cost.seconds(1), walk.cost.seconds(32)), rel=0.05)


@given(st.integers(1, 9), st.floats(1.0, HARD_CAP), st.integers(0, 20))
def test_finish_grows_with_what_is_in_flight(rows: int, ceiling: float, count: int) -> None:
    """As long as there are lanes, a batch takes what it takes alone; beyond, in proportion."""
    limit, cost = Limit(64), Cost()
    unknown = limit.finish(cost, rows)
    cost.learn(rows, 0.01, 1)
    limit.ceiling = ceiling
    finishes = []
    for _ in range(count + 1):
        finishes.append(limit.finish(cost, rows))
        limit.depart(0.0)

    assert 0.0 == unknown
    assert 0.01 == pytest.approx(finishes[0])
    assert sorted(finishes) == finishes
    assert max(1.0, (count + 1) / ceiling) * 0.01 == pytest.approx(finishes[-1])


# -- timing one alone --------------------------------------------------------------------------------


def _send_eight(walk: Walk) -> None:
    while walk.limit.in_flight < 8 and walk.limit.opens(walk.cost, CAP, CAP, walk.now) <= walk.now:
        walk.flights.append((walk.limit.depart(walk.now), 20))


def _doubtful() -> Walk:
    """One lane that has eight batches of 20 rows from the start, so that none of them is ever alone."""
    walk = Walk()
    for _ in range(200):
        _send_eight(walk)
        if walk.limit.draining:
            break
        walk.step("answer", 0.01, 1, 0)
    return walk


def test_an_endpoint_that_was_never_seen_alone_is_emptied() -> None:
    """Nothing is sent until it is; then one batch, of about the size of the others; then all goes on."""
    walk = _doubtful()
    opens = set()
    while walk.flights:
        opens |= {walk.opens(1), walk.opens(CAP)}
        walk.step("answer", 0.01, 1, 0)
    emptied = (walk.limit.draining, walk.opens(CAP) - walk.now, walk.limit.at_most(CAP), walk.limit.at_most(5))
    walk.send(CAP)
    opens |= {walk.opens(1), walk.opens(CAP)}
    walk.step("answer", 0.01, 1, 0)

    assert 1 == len(opens)  # however long it takes, up to a bound
    assert walk.now < min(opens) < 10.0
    assert (True, 0.0, 20, 5) == emptied
    assert (False, CAP) == (walk.limit.draining, walk.limit.at_most(CAP))
    assert 0.01 == pytest.approx(walk.cost.seconds(20), rel=0.1)
    assert 1 == walk.limit.partial


@pytest.mark.parametrize("timed", [True, False])
def test_emptying_ends_though_batches_fail(timed: bool) -> None:
    """Those that were in flight, or the one that was to be timed: nothing is learned, and all goes on."""
    walk = _doubtful()
    while walk.flights:
        walk.step("drop", 0.01, 1, 0)
    if timed:
        walk.send(CAP)
        walk.step("drop", 0.01, 1, 0)

    assert walk.now == walk.opens(1)
    assert timed is not walk.limit.draining


# -- over a restart ----------------------------------------------------------------------------------


@given(STEPS)
@example([("send", 0.0, 1, 0), ("answer", 0.01, 1, 0)])
def test_goes_on_where_it_was(steps: list[tuple[str, float, int, int]]) -> None:
    """What was written down as JSON is taken back, wherever it was."""
    walk, again = _walked(steps), Limit()
    state = walk.limit.state()
    if state is not None:
        again.restore(json.loads(json.dumps(state)))

        assert state == again.state()
        assert again.partial <= walk.limit.partial
        assert (0, walk.limit.ceiling, walk.limit.full) == (again.in_flight, again.ceiling, again.full)


def test_nothing_is_told_before_anything_is_known_or_where_a_user_knows_better() -> None:
    """Nor is a fixed limit changed by what a file says."""
    fixed = _walked([("send", 0.0, 1, 0), ("answer", 0.01, 1, 0)], fixed=3).limit
    learned = _walked([("send", 0.0, 1, 0), ("answer", 0.01, 1, 0)]).limit
    fixed.restore(learned.state())

    assert None is Limit().state() is fixed.state()
    assert (3, 3, 3.0) == (fixed.partial, fixed.full, fixed.ceiling)


@pytest.mark.parametrize(
    "wrong",
    [{"ceiling": 0.5}, {"ceiling": 1000}, {"partial": 0}, {"full": 65}, {"turn": 0.5}, {"starting": 2}],
    ids=str,
)
def test_what_is_no_state_changes_nothing(wrong: dict[str, Any]) -> None:
    """A file that somebody edited: refused as a whole."""
    limit = _walked([("send", 0.0, 1, 0), ("answer", 0.01, 1, 0)]).limit
    before = limit.state()
    assert before is not None

    with pytest.raises(ValueError, match=next(iter(wrong))):
        limit.restore({**before, **wrong})
    assert before == limit.state()


@given(STEPS)
def test_forgotten_is_as_new(steps: list[tuple[str, float, int, int]]) -> None:
    """But for what is in flight, and the clock."""
    limit = _walked(steps).limit
    in_flight = limit.in_flight
    limit.forget()
    new = Limit()

    assert in_flight == limit.in_flight
    assert (new.ceiling, new.partial, new.full, new.draining) == (
        limit.ceiling, limit.partial, limit.full, limit.draining,
    )  # fmt: skip


def test_time_alone_is_no_more_than_what_passed() -> None:
    """Nor more than the fair share of an endpoint with so many lanes."""
    limit = Limit()
    flights = [limit.depart(1.0) for _ in range(8)]

    assert 0.4 * limit.ceiling / 8 == pytest.approx(limit.alone(flights[0], 1.4))
    for _ in range(7):
        limit.drop(1.4)
    assert 0.4 + 0.0 == pytest.approx(Limit().alone(Flight(1.0, -1.0, 0), 1.4))


def test_padding_is_part_of_what_a_batch_costs() -> None:
    """Not of the rows that batches have on average."""
    limit, cost = Limit(), Cost()
    for turn in range(20):
        limit.arrive(limit.depart(turn), cost, 1, 64, turn + 0.064, 63)
        limit.arrive(limit.depart(turn + 0.5), cost, 1, 64, turn + 0.501)

    assert [0.001, 0.064] == pytest.approx([cost.seconds(1), cost.seconds(64)], rel=0.05)
    assert 1.0 == cost.rows


def test_representation() -> None:
    """What a log line shows."""
    assert "Limit(0 of 3, full 3, ceiling=3.00)" == repr(Limit(3))


def test_an_endpoint_that_does_not_become_empty_is_not_waited_for() -> None:
    """One call that hangs must not stop all others."""
    walk = _doubtful()
    bound = walk.opens(CAP)
    before = walk.limit.opens(walk.cost, CAP, CAP, bound - 0.001)
    after = walk.limit.opens(walk.cost, CAP, CAP, bound)

    assert (bound, bound) == (before, after)
    assert not walk.limit.draining
