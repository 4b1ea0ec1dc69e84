"""Tests of batchproxy.core.retries: the budget, and who may still hope for an answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.core.cost import Cost
from batchproxy.core.errors import BackendUnavailable, Code
from batchproxy.core.outcome import Outcome
from batchproxy.core.policy import Policy
from batchproxy.core.retries import FLOOR_PER_S, HEDGED, HEDGED_PER_S, SHARE, WINDOW_S, Retries, is_in_time
from batchproxy.testing import Playbook, a_request
from tests.unit.plays import running

FLOOR = int(FLOOR_PER_S * WINDOW_S)


def _budget() -> tuple[Retries, list[str]]:
    notices: list[str] = []
    return Retries(notices.append), notices


def test_a_pool_with_little_to_do_may_retry_too() -> None:
    """Ten a second, over ten seconds; then it says so, once."""
    budget, notices = _budget()
    allowed = [budget.allow(0.0) for _ in range(FLOOR + 2)]

    assert [True] * FLOOR + [False] * 2 == allowed
    assert (FLOOR, 2) == (budget.made, budget.refused)
    assert [
        "the retry budget is spent (100 of the last 0 calls were retries): calls that fail end with their errors"
    ] == notices


def test_a_busy_pool_may_retry_a_fifth() -> None:
    """Of what it did in the last ten seconds."""
    budget, _ = _budget()
    for _ in range(1000):
        budget.ended(5.0)

    assert FLOOR + 200 == sum(budget.allow(5.5) for _ in range(1000))


def test_calls_and_retries_are_forgotten_after_ten_seconds() -> None:
    """And when the budget is spent again, that is said again."""
    budget, notices = _budget()
    for now in (0.0, 11.5):
        for _ in range(1000):
            budget.ended(now)
        assert FLOOR + 200 == sum(budget.allow(now) for _ in range(1000))

    assert 2 == len(notices)


@given(st.lists(st.tuples(st.floats(0.0, 3.0), st.integers(0, 40), st.integers(0, 60)), max_size=30))
def test_retries_never_pass_the_budget(steps: list[tuple[float, int, int]]) -> None:
    """In any window of ten seconds there are no more than a fifth of the calls of eleven, and the floor."""
    budget, _ = _budget()
    now = 0.0
    calls: list[float] = []
    retries: list[float] = []
    for pause, ended, wanted in steps:
        now += pause
        for _ in range(ended):
            budget.ended(now)
            calls.append(now)
        retries += [now for _ in range(wanted) if budget.allow(now)]

        recent = sum(time > now - WINDOW_S - 1 for time in calls)
        assert sum(time > now - WINDOW_S + 1 for time in retries) <= SHARE * recent + FLOOR


@pytest.mark.parametrize(("deadline", "hope"), [(None, True), (1.009, False), (1.02, True)])
def test_who_cannot_be_answered_in_time_is_not_tried_again(deadline: float | None, hope: bool) -> None:
    """By what such a call is known to take."""
    cost = Cost()
    cost.learn(1, 0.010, 1)

    assert hope == is_in_time(cost, 1, deadline, 1.0)
    assert is_in_time(Cost(), 1, 1.001, 1.0)


def test_members_of_a_call_are_tried_again_if_their_time_allows() -> None:
    """The others get the server's own error."""
    hurried, patient = a_request(deadline=0.105), a_request(first=1)
    play = running(hurried, patient, endpoints=2)
    play.endpoints[0].cost(hurried.key).learn(2, 0.010, 1)
    play.at(0.1).settle(Outcome.NOT_RUN, BackendUnavailable("busy"))

    play.expect_failed(hurried, Code.UNAVAILABLE, "busy").expect_dispatch([patient], to="e1")
    assert 1 == play.scheduler.retries.made


def test_without_budget_calls_end_with_the_servers_error() -> None:
    """Nothing else would tell the caller more."""
    sent = a_request()
    play = Playbook({"m": Policy()}, endpoints=2).submit(sent).expect_dispatch([sent])
    while play.scheduler.retries.allow(0.0):
        pass
    play.settle(Outcome.NOT_RUN, BackendUnavailable("busy"))

    play.expect_failed(sent, Code.UNAVAILABLE, "busy").expect_nothing()


def test_hedges_have_a_share_of_their_own() -> None:
    """A tenth of the calls and one a second; then it says so, once, and what fails may still be tried again."""
    budget, notices = _budget()
    for _ in range(100):
        budget.ended(0.0)
    made = 0
    while budget.may_hedge(0.0):
        budget.hedged()
        made += 1
    refused = [budget.may_hedge(0.0) for _ in range(3)]

    assert int(HEDGED * 100 + HEDGED_PER_S * WINDOW_S) == made
    assert [False] * 3 == refused
    assert [
        "the budget of hedges is spent (20 of the last 100 calls were hedges): calls that are slow are waited for"
    ] == notices
    assert FLOOR + 20 - made == sum(budget.allow(0.0) for _ in range(1000))


def test_retries_come_before_hedges() -> None:
    """Where they have used the budget up, nothing is hedged."""
    budget, notices = _budget()
    while budget.allow(0.0):
        pass

    assert not budget.may_hedge(0.0)
    assert 2 == len(notices)


def test_hedges_are_forgotten_after_ten_seconds() -> None:
    """As calls and retries are."""
    budget, _ = _budget()
    for now in (0.0, 11.5):
        made = 0
        while budget.may_hedge(now):
            budget.hedged()
            made += 1
        assert int(HEDGED_PER_S * WINDOW_S) == made


@given(st.lists(st.tuples(st.floats(0.0, 3.0), st.integers(0, 40), st.integers(0, 30)), max_size=30))
def test_hedges_never_pass_the_budget(steps: list[tuple[float, int, int]]) -> None:
    """In any window of nine seconds there are no more than a tenth of the calls of eleven, and the floor."""
    budget, _ = _budget()
    now, calls, hedges = 0.0, list[float](), list[float]()
    for pause, ended, wanted in steps:
        now += pause
        for _ in range(ended):
            budget.ended(now)
            calls.append(now)
        for _ in range(wanted):
            if budget.may_hedge(now):
                budget.hedged()
                hedges.append(now)
        late = sum(when > now - WINDOW_S + 1 for when in hedges)
        assert late <= HEDGED * sum(when > now - WINDOW_S - 1 for when in calls) + HEDGED_PER_S * WINDOW_S
