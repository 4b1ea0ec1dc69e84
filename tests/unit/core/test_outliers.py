"""Tests of batchproxy.core.outliers: who is left out for how its calls end, for how long, and how it comes back."""

from __future__ import annotations

import math

import pytest

from batchproxy.core.balancer import SLOW_START_S, Endpoint
from batchproxy.core.errors import BatchProxyError, Code, QueueFull
from batchproxy.core.outcome import Outcome
from batchproxy.core.outliers import BASE_S, CONSECUTIVE, LONGEST_S, SWEEP_S, VOLUME
from batchproxy.core.policy import Policy
from batchproxy.core.request import BatchKey
from batchproxy.testing import FIXED, Playbook, a_request

BROKEN = BatchProxyError("out of memory", code=Code.INTERNAL)
REFUSED = BatchProxyError("bad row", code=Code.INVALID_ARGUMENT)

PANIC_LINE = (
    "fewer than half of the pool's endpoints are healthy: those that failed, and were left out, are used all the same"
)


def a_pool(endpoints: int) -> Playbook:
    """Endpoints for unmerged calls, which end as a test says."""
    return Playbook({"m": Policy()}, endpoints=endpoints)


def call(play: Playbook, endpoint: Endpoint, outcome: Outcome, error: BatchProxyError | None = None) -> None:
    """A call there ends like this."""
    for other in play.endpoints:
        other.max_relayed = 256 if other is endpoint else 0
    request = a_request(signature=FIXED)
    play.submit(request).expect_dispatch([request], to=endpoint.name)
    dispatch = play.in_flight[-1]
    play.in_flight.remove(dispatch)
    play.scheduler.settle(dispatch, play.now, outcome, error)


def fail(play: Playbook, endpoint: Endpoint, times: int = CONSECUTIVE) -> None:
    """Calls there fail in a row."""
    for _ in range(times):
        call(play, endpoint, Outcome.REJECTED, BROKEN)


def test_who_fails_five_times_in_a_row_is_left_out_and_comes_back() -> None:
    """One line each way; it is not asked meanwhile, and a little at first after that."""
    play = a_pool(3)
    first = play.endpoints[0]
    fail(play, first, CONSECUTIVE - 1)
    before = first.out
    fail(play, first, 1)
    after = first.out
    with pytest.raises(QueueFull):
        fail(play, first, 1)
    play.at(BASE_S).expect_nothing()

    assert (False, True, False) == (before, after, first.out)
    assert BASE_S + SLOW_START_S == first.warm_at
    assert [
        "endpoint e0: left out for 30 s: 5 calls in a row failed, the last with INTERNAL",
        "endpoint e0: used again, a little at first",
    ] == play.notices
    fail(play, first, 1)


def test_an_answer_ends_a_row_of_failures() -> None:
    """So does a refusal that blames the caller."""
    play = a_pool(2)
    for outcome, error in ((Outcome.OK, None), (Outcome.REJECTED, REFUSED), (Outcome.SAME_FOR_ALL, REFUSED)):
        fail(play, play.endpoints[0], CONSECUTIVE - 1)
        call(play, play.endpoints[0], outcome, error)

    assert 0 == play.endpoints[0].failures
    assert [] == play.notices


@pytest.mark.parametrize("outcome", [Outcome.TOO_BIG_OR_BUSY, Outcome.LATE])
def test_what_says_nothing_of_the_endpoint_is_not_counted(outcome: Outcome) -> None:
    """It has too much to do, or a caller had too little time."""
    play = a_pool(2)
    fail(play, play.endpoints[0], CONSECUTIVE - 1)
    call(play, play.endpoints[0], outcome, REFUSED)

    assert CONSECUTIVE - 1 == play.endpoints[0].failures


@pytest.mark.parametrize("outcome", [Outcome.NOT_RUN, Outcome.MAYBE_RUN])
def test_calls_that_did_not_run_count(outcome: Outcome) -> None:
    """Those that may have run do, too."""
    play = a_pool(2)
    call(play, play.endpoints[0], outcome, BROKEN)

    assert 1 == play.endpoints[0].failures


def test_a_call_that_was_given_up_counts_if_it_took_far_too_long() -> None:
    """Five times what it is known to take; a caller who merely left says nothing."""
    play = a_pool(2)
    request = a_request()
    cost = play.endpoints[0].cost(request.key)
    for turn in range(4):
        cost.learn(1, 0.010, turn)
    play.scheduler.take_out(play.endpoints[1], "away")
    for elapsed, failures in ((0.049, 0), (0.051, 1)):
        sent = a_request(first=int(1000 * elapsed))
        play.submit(sent).expect_dispatch([sent], to="e0")
        dispatch = play.in_flight.pop()
        play.scheduler.discard(play.entry(sent))
        play.scheduler.settle(dispatch, play.now + elapsed, Outcome.MAYBE_RUN, BROKEN)

        assert failures == play.endpoints[0].failures


def test_pieces_of_a_rejected_batch_are_not_counted() -> None:
    """One bad row may take as many calls as make a row of failures."""
    sent = [a_request(first=place) for place in range(16)]
    play = Playbook({"m": Policy()}, max_inflight=1, endpoints=2).submit(*sent).expect_dispatch(sent, to="e0")
    play.scheduler.take_out(play.endpoints[1], "away")
    for _ in range(8):
        dispatch = play.in_flight.pop()
        play.scheduler.settle(dispatch, 0.0, Outcome.REJECTED, BROKEN)
        piece = play.scheduler.poll(0.0)
        assert piece is not None
        play.in_flight.append(piece)

    assert 1 == play.endpoints[0].failures


def test_each_time_it_is_out_for_twice_as_long() -> None:
    """Up to five minutes; each quiet sweep takes one time back."""
    play = a_pool(2)
    first = play.endpoints[0]
    lengths = []
    for _ in range(6):
        fail(play, first)
        lengths.append(first.ejected_until - play.now)
        play.at(first.ejected_until).expect_nothing()
        play.scheduler._outliers.sweep_at = math.inf
    play.scheduler._outliers.sweep_at = play.now
    call(play, first, Outcome.OK)

    assert [30.0, 60.0, 120.0, 240.0, LONGEST_S, LONGEST_S] == lengths
    assert 5 == first.times


def test_a_lone_endpoint_is_never_left_out() -> None:
    """There is nothing better."""
    play = a_pool(1)
    fail(play, play.endpoints[0], 2 * CONSECUTIVE)

    assert not play.endpoints[0].out
    assert [] == play.notices


@pytest.mark.parametrize(("endpoints", "most"), [(2, 1), (5, 1), (19, 1), (20, 2), (40, 4)])
def test_a_tenth_is_left_out_at_most(endpoints: int, most: int) -> None:
    """But one always may be."""
    play = a_pool(endpoints)
    for endpoint in play.endpoints[: most + 1]:
        fail(play, endpoint)

    assert most == sum(endpoint.out for endpoint in play.endpoints)


def test_where_fewer_than_half_are_well_all_are_used() -> None:
    """Until others are back."""
    play = a_pool(3)
    fail(play, play.endpoints[0])
    play.scheduler.take_out(play.endpoints[1], "away")
    in_panic = play.endpoints[0].out
    play.scheduler.bring_back(play.endpoints[1])

    assert (False, True) == (in_panic, play.endpoints[0].out)
    assert [
        PANIC_LINE,
        "endpoint e1: left out, and probed until it answers: away",
        "endpoint e1: answers again, and is used again",
        "half of the pool's endpoints are healthy again: only those are used",
    ] == play.notices[1:]


def test_who_waits_is_sent_to_those_that_a_panic_brings_back() -> None:
    """At once: nothing else may end for a while."""
    play = Playbook({"m": Policy()}, endpoints=3, max_inflight=1)
    fail(play, play.endpoints[0])
    first, second, third = (a_request(first=place) for place in range(3))
    for request in (first, second):
        play.submit(request).expect_dispatch([request])
    play.submit(third).expect_nothing()
    play.scheduler.take_out(play.endpoints[1], "away")

    play.expect_dispatch([third], to="e0")


def test_who_is_removed_or_goes_down_is_no_longer_left_out() -> None:
    """A probe that it answers afterwards is news enough; a removal, too."""
    play = a_pool(3)
    first, second, _ = play.endpoints
    fail(play, first)
    play.scheduler.take_out(first, "away")
    play.scheduler.bring_back(first)
    fail(play, second)
    was_out = second.out
    play.scheduler.remove_endpoint(second)

    assert (False, True, False) == (first.out, was_out, second.out)
    assert math.inf == play.scheduler._outliers.due


def test_rates_of_success_are_compared() -> None:
    """Every second call fails at one of five."""
    play = a_pool(5)
    for endpoint in play.endpoints:
        for number in range(VOLUME):
            bad = number % 2 and endpoint is play.endpoints[3]
            call(play, endpoint, Outcome.REJECTED if bad else Outcome.OK, BROKEN if bad else None)
    play.at(SWEEP_S)
    call(play, play.endpoints[0], Outcome.OK)

    assert ["e3"] == [endpoint.name for endpoint in play.endpoints if endpoint.out]
    assert ["endpoint e3: left out for 30 s: 50.0% of its calls succeeded, 90.0% of those in the pool"] == play.notices


def test_few_calls_are_no_rate() -> None:
    """Nor are few endpoints."""
    for endpoints, volume in ((5, VOLUME - 1), (4, VOLUME)):
        play = a_pool(endpoints)
        for endpoint in play.endpoints:
            for number in range(volume):
                bad = number % 2 and endpoint is play.endpoints[3]
                call(play, endpoint, Outcome.REJECTED if bad else Outcome.OK, BROKEN if bad else None)
        play.at(SWEEP_S)
        call(play, play.endpoints[0], Outcome.OK)

        assert [] == play.notices


def a_timed_pool(*times: float) -> tuple[Playbook, BatchKey]:
    """A pool whose endpoints are known to take so long for a batch, and answered one in this sweep."""
    play = a_pool(len(times))
    key = a_request().key
    call(play, play.endpoints[0], Outcome.OK)
    play.scheduler.balancer.choose(key, 1, 1, 0.0)
    for endpoint, seconds in zip(play.endpoints, times, strict=True):
        for turn in range(4):
            endpoint.cost(key).learn(1, seconds, turn)
        endpoint.answers = 1
    return play, key


def test_times_of_the_same_kind_of_batch_are_compared() -> None:
    """Five times the median is no slower machine any more; what it was known to cost is doubted when it is back."""
    play, key = a_timed_pool(0.010, 0.011, 0.009, 0.058)
    play.at(SWEEP_S)
    call(play, play.endpoints[0], Outcome.OK)
    slow = play.endpoints[3]

    assert ["endpoint e3: left out for 30 s: a batch of 1 rows of model 'm' takes 0.058 s, 0.0105 s elsewhere"] == (
        play.notices
    )
    play.at(SWEEP_S + BASE_S).expect_nothing()
    slow.cost(key).learn(1, 0.010, 9)
    assert slow.cost(key).seconds(1) < 0.040


@pytest.mark.parametrize("times", [(0.010, 0.020, 0.040), (0.010, 0.100)])
def test_slower_machines_stay(times: tuple[float, ...]) -> None:
    """They get less by routing; of two nobody can say which is the odd one."""
    play, _ = a_timed_pool(*times)
    play.at(SWEEP_S)
    call(play, play.endpoints[0], Outcome.OK)

    assert [] == play.notices


def test_who_answered_nothing_lately_is_not_judged_by_old_times() -> None:
    """It may have become faster since."""
    play, _ = a_timed_pool(0.010, 0.010, 0.010, 0.100)
    play.endpoints[3].answers = 0
    play.at(SWEEP_S)
    call(play, play.endpoints[0], Outcome.OK)

    assert [] == play.notices
