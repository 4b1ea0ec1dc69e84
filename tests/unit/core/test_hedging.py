"""Tests of batchproxy.core.hedging: a batch that is late goes to a second endpoint, too. Scripts, as elsewhere."""

from __future__ import annotations

import math

import pytest

from batchproxy.core.balancer import Endpoint
from batchproxy.core.batch import Race, Release
from batchproxy.core.ends import MAX_ATTEMPTS
from batchproxy.core.errors import BatchProxyError, Code
from batchproxy.core.hedging import SOONEST_S
from batchproxy.core.outcome import Outcome
from batchproxy.core.policy import Policy
from batchproxy.core.request import Request
from batchproxy.core.retries import HEDGED_PER_S, WINDOW_S
from batchproxy.testing import FIXED, Playbook, a_request
from tests.unit.plays import requests

OK, REJECTED, NOT_RUN = Outcome.OK, Outcome.REJECTED, Outcome.NOT_RUN
MAYBE_RUN, UNSPLITTABLE = Outcome.MAYBE_RUN, Outcome.UNSPLITTABLE

HEDGED = Policy(hedging=True, hedging_delay_s=0.1)
LEARNED = Policy(hedging=True)
TOLD = BatchProxyError("told by the backend", code=Code.UNAVAILABLE)
FREE = int(HEDGED_PER_S * WINDOW_S)


def late(*sent: Request, policy: Policy = HEDGED, endpoints: int = 2, max_inflight: int | None = 1) -> Playbook:
    """A playbook with these requests in flight for as long as their model's batches may take."""
    play = Playbook({"m": policy}, endpoints=endpoints, max_inflight=max_inflight)
    return play.submit(*sent).expect_dispatch(sent, to="e0").expect_nothing().expect_wake(0.1).at(0.1)


def raced(*sent: Request, endpoints: int = 2) -> Playbook:
    """A playbook with these requests under way at two endpoints."""
    return late(*sent, endpoints=endpoints).expect_dispatch(sent, to="e1").expect_nothing()


def results(play: Playbook) -> dict[str, int]:
    """What became of its hedges."""
    return {result: count for (_, result), count in play.scheduler.hedging.results.items()}


def outrun(play: Playbook) -> list[str]:
    """Endpoints of calls that are not needed any more."""
    races = {id(call.race): call.race for call in play.in_flight if call.race is not None}
    return [race.loser.endpoint.name for race in races.values() if race.loser is not None]


def test_the_first_good_answer_counts() -> None:
    """The other call is not needed any more, and its end changes nothing."""
    a, b = requests(2)
    play = raced(a, b)
    reasons = [dispatch.reason for dispatch in play.in_flight]

    play.settle(OK, where="e1").expect_answered(a, b)

    assert [Release.IDLE, Release.HEDGE] == reasons
    assert ["e0"] == outrun(play)
    play.settle(MAYBE_RUN, TOLD, where="e0").expect_nothing()
    assert ({"won": 1}, [0, 0]) == (results(play), [endpoint.in_flight for endpoint in play.endpoints])
    assert not play.scheduler.busy


def test_the_first_call_may_answer_first() -> None:
    """It was late, but not by much."""
    a, b = requests(2)
    play = raced(a, b).settle(OK, where="e0").expect_answered(a, b)

    assert (["e1"], {"lost": 1}) == (outrun(play), results(play))
    play.settle(OK, where="e1").expect_nothing()
    assert not play.scheduler.busy


@pytest.mark.parametrize("outcome", [outcome for outcome in Outcome if outcome is not OK])
@pytest.mark.parametrize(("bad", "good"), [("e0", "e1"), ("e1", "e0")])
def test_a_failure_is_no_outcome_while_the_other_call_is_under_way(outcome: Outcome, bad: str, good: str) -> None:
    """Whichever it is, and whatever it says; a batch is not hedged twice."""
    a, b = requests(2)
    play = raced(a, b, endpoints=3).settle(outcome, TOLD, where=bad).expect_waiting(a, b)

    play.at(9.0).expect_nothing().settle(OK, where=good).expect_answered(a, b)

    assert {"won" if good == "e1" else "lost": 1} == results(play)
    assert not play.scheduler.busy


def test_a_failure_of_both_is_one() -> None:
    """The later one says which; each counts as a try, neither endpoint is preferred."""
    a, b = requests(2)
    play = raced(a, b, endpoints=3).settle(NOT_RUN, TOLD, where="e0").settle(NOT_RUN, TOLD, where="e1")

    play.expect_dispatch([a, b], to="e2").settle(NOT_RUN, TOLD, where="e2")

    assert 3 == MAX_ATTEMPTS
    play.expect_failed(a, Code.UNAVAILABLE).expect_failed(b, Code.UNAVAILABLE)
    assert {"failed": 1} == results(play)


def test_a_rejected_batch_is_bisected_once_both_have_said_so() -> None:
    """And pieces of it are not hedged: bisecting has a budget of its own."""
    a, b = requests(2)
    play = raced(a, b).settle(REJECTED, where="e0").settle(REJECTED, where="e1")

    play.expect_dispatch([a], to="e0").expect_dispatch([b], to="e1").settle(OK, of=b).at(9.0).expect_nothing()
    play.settle(REJECTED, of=a).expect_failed(a, Code.INVALID_ARGUMENT).expect_answered(b)


def test_text_of_a_call_that_was_shared_reaches_nobody_though_the_hedge_has_one_member() -> None:
    """The others left before it was sent; what the first call says may still name them."""
    a, b = requests(2)
    play = Playbook({"m": HEDGED}, endpoints=2, max_inflight=1)
    play.submit(a, b).expect_dispatch([a, b], to="e0").cancel(b).at(0.1).expect_dispatch([a], to="e1")

    play.settle(REJECTED, where="e1").settle(REJECTED, where="e0").expect_waiting(a)

    play.expect_dispatch([a]).settle(REJECTED).expect_failed(a, Code.INVALID_ARGUMENT, "rows [0]")


def test_nobody_waits_for_either_call_once_the_last_member_has_left() -> None:
    """Both are named, so that both are cancelled."""
    a, b = requests(2)
    play = raced(a, b).cancel(b)

    abandoned = play.scheduler.discard(play.entry(a))

    assert play.in_flight == list(abandoned)
    play.settle(MAYBE_RUN, TOLD, where="e0").settle(MAYBE_RUN, TOLD, where="e1").expect_nothing()
    assert not play.scheduler.busy


def test_only_the_call_that_is_under_way_is_abandoned() -> None:
    """The other one has failed."""
    (a,) = requests(1)
    play = raced(a).settle(NOT_RUN, TOLD, where="e0")

    abandoned = play.scheduler.discard(play.entry(a))

    assert play.in_flight == list(abandoned)


@pytest.mark.parametrize(
    "policy", [Policy(), Policy(hedging=True, hedging_delay_s=0.1, idempotent=False)], ids=["off", "not idempotent"]
)
def test_who_did_not_ask_for_it_is_not_hedged(policy: Policy) -> None:
    """Nor who may not run twice; no timer is set for either."""
    (a,) = requests(1)
    play = Playbook({"m": policy}, endpoints=2, max_inflight=1).submit(a).expect_dispatch([a])

    play.expect_nothing().expect_wake(None).at(99.0).expect_nothing()

    assert not play.scheduler.hedging.watched


def test_it_is_given_up_where_hedging_is_switched_off_meanwhile() -> None:
    """A new configuration holds for what is under way."""
    (a,) = requests(1)
    policies = {"m": HEDGED}
    play = Playbook(policies, endpoints=2, max_inflight=1).submit(a).expect_dispatch([a])
    policies["m"] = Policy()
    play.scheduler.reconfigure()

    play.at(0.1).expect_nothing().expect_wake(None)


def test_calls_that_are_not_merged_are_not_hedged() -> None:
    """They take no slot, and wait for none."""
    a = a_request(signature=FIXED)

    Playbook({"m": HEDGED}, endpoints=2).submit(a).expect_dispatch([a]).at(9.0).expect_nothing()


def test_one_endpoint_hedges_nothing() -> None:
    """There is no other one."""
    (a,) = requests(1)
    late(a, endpoints=1).expect_nothing().expect_wake(None).settle(OK).expect_answered(a)


def test_it_waits_for_a_place_and_takes_nobodys() -> None:
    """Who waits in a lane goes first; a place that becomes free is taken then."""
    a, b, c = requests(3)
    play = late(a).submit(b).expect_dispatch([b], to="e1").submit(c).expect_nothing().expect_wake(0.2)

    play.at(0.15).settle(OK, of=b).expect_dispatch([c], to="e1").expect_nothing()
    play.settle(OK, of=c).expect_dispatch([a], to="e1")


def test_it_leaves_free_what_only_full_batches_may_fill() -> None:
    """A hedge goes no further than a batch that is not full."""
    a, b, c = requests(3)
    play = late(a, max_inflight=None)
    for request in (b, c):
        play.submit(request)
        play.endpoints[0].up = False
        play.expect_dispatch([request], to="e1")
        play.endpoints[0].up = True

    assert play.endpoints[1].in_flight == play.endpoints[1].limit.partial
    play.expect_nothing().expect_wake(0.2)  # when the next one is late


def test_who_would_not_live_to_see_the_answer_is_not_hedged() -> None:
    """All members' time is up before another call could end."""
    a = a_request(deadline=0.2)
    play = Playbook({"m": HEDGED}, endpoints=2, max_inflight=1)
    for endpoint in play.endpoints:
        endpoint.cost(a.key).learn(1, 0.15, 1)

    play.submit(a).expect_dispatch([a]).at(0.1).expect_nothing()

    assert {} == results(play)


def test_a_member_that_is_late_is_told_so_and_the_others_are_hedged() -> None:
    """It is not sent again."""
    a, b = a_request(deadline=0.05), a_request(first=1)
    play = Playbook({"m": HEDGED}, endpoints=2, max_inflight=1)
    play.submit(a, b).expect_dispatch([a, b]).at(0.1).expect_dispatch([b], to="e1")

    play.sweep().expect_failed(a, Code.DEADLINE_EXCEEDED).settle(OK, where="e1").expect_answered(b)


def test_not_where_it_has_failed_and_not_beyond_its_tries() -> None:
    """A hedge is a try like others, at an endpoint that was not tried."""
    (a,) = requests(1)
    play = Playbook({"m": HEDGED}, endpoints=3, max_inflight=1).submit(a).expect_dispatch([a], to="e0")
    play.settle(NOT_RUN, TOLD).expect_dispatch([a], to="e1").at(0.1).expect_dispatch([a], to="e2")
    play.settle(NOT_RUN, TOLD, where="e1").settle(NOT_RUN, TOLD, where="e2")

    play.expect_failed(a, Code.UNAVAILABLE).expect_nothing()


def test_there_is_a_budget() -> None:
    """Which is said once, and counted."""
    play = Playbook({"m": HEDGED}, endpoints=2, max_inflight=1)
    for place, request in enumerate(requests(FREE + 3)):
        play.at(place / 10).submit(request).expect_dispatch([request]).at(place / 10 + 0.1)
        hedge = play.scheduler.poll(play.now)
        if hedge is not None:
            play.scheduler.settle(hedge, play.now, REJECTED, TOLD)
        play.settle(OK)

    assert {"lost": FREE + 2, "refused": 1} == results(play)
    assert 1 == sum("the budget of hedges is spent" in notice for notice in play.notices)


# -- what is late, where nobody says so ----------------------------------------------------------------


def taught(*endpoints: Endpoint, seconds: float = 0.1) -> None:
    """Let a batch of one row take so long at each."""
    for endpoint in endpoints:
        cost = endpoint.cost(a_request().key)
        for turn in range(20):
            cost.learn(1, seconds, turn)
        cost.first[1] = seconds


def test_late_is_what_is_slower_than_95_of_100() -> None:
    """As was learned of the endpoint; with nothing learned, nothing is late."""
    a, b = requests(2)
    play = Playbook({"m": LEARNED}, endpoints=2, max_inflight=1).submit(a).expect_dispatch([a], to="e0")
    play.expect_nothing().expect_wake(None).at(1.0).settle(OK)
    taught(*play.endpoints)
    p95 = 1.0 + play.endpoints[1].cost(a.key).p95 * play.endpoints[1].cost(a.key).seconds(1)

    play.submit(b).expect_dispatch([b], to="e1")

    wake = play.scheduler.wake_at(1.0)
    assert wake is not None
    assert math.isclose(wake, p95)
    play.at(p95 - 0.001).expect_nothing().at(p95 + 0.001).expect_dispatch([b], to="e0")


def test_company_makes_nobody_late() -> None:
    """A batch that shares its endpoint with another takes twice as long, which is as it should be."""
    a, b = requests(2)
    play = Playbook({"m": LEARNED}, endpoints=2, max_inflight=2)
    taught(*play.endpoints)
    for endpoint in play.endpoints:
        endpoint.limit.ceiling = 1.0
    play.endpoints[1].up = False
    play.submit(a).expect_dispatch([a], to="e0").submit(b).expect_dispatch([b], to="e0")
    play.endpoints[1].up = True

    play.at(0.15).expect_nothing().at(0.25).expect_dispatch([a], to="e1")


def test_nothing_is_late_within_what_a_timer_can_tell() -> None:
    """However fast the endpoint is."""
    (a,) = requests(1)
    play = Playbook({"m": LEARNED}, endpoints=2, max_inflight=1)
    taught(*play.endpoints, seconds=1e-6)

    play.submit(a).expect_dispatch([a]).expect_nothing().expect_wake(SOONEST_S)


def test_a_loser_counts_as_if_it_had_ended_then() -> None:
    """Its endpoint is slower than was thought, at least by so much; not where that is no surprise."""
    (a,) = requests(1)
    play = late(a)
    taught(*play.endpoints, seconds=0.05)
    cost = play.endpoints[0].cost(a.key)
    before = cost.seconds(1)

    play.expect_dispatch([a], to="e1").at(0.15).settle(OK, where="e1").settle(MAYBE_RUN, TOLD, where="e0")

    assert before < cost.seconds(1) < 0.15
    assert 0 == play.endpoints[0].failures


def test_a_loser_that_may_have_been_compiling_teaches_nothing() -> None:
    """Its size was never met there."""
    (a,) = requests(1)
    play = late(a)
    taught(*play.endpoints, seconds=0.05)
    cost = play.endpoints[0].cost(a.key)
    del cost.first[1]
    before = cost.seconds(1)

    play.expect_dispatch([a], to="e1").at(0.15).settle(OK, where="e1").settle(MAYBE_RUN, TOLD, where="e0")

    assert before == cost.seconds(1)


def test_a_loser_that_hangs_counts_against_its_endpoint() -> None:
    """As any call that was given up after five times its time."""
    (a,) = requests(1)
    play = late(a)
    taught(*play.endpoints, seconds=0.05)

    play.expect_dispatch([a], to="e1").at(0.9).settle(OK, where="e1").settle(MAYBE_RUN, TOLD, where="e0")

    assert 1 == play.endpoints[0].failures


def test_a_race_has_one_winner() -> None:
    """Whoever answers second decides nothing."""
    (a,) = requests(1)
    first, second = raced(a).in_flight
    race = Race(first, second)

    assert (first, second) == race.under_way()
    assert race.end(second, answered=True)
    assert not race.end(first, answered=True)
    assert (second, first) == (race.winner, race.loser)
