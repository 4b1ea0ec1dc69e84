"""Tests of what deadlines decide in batchproxy.core: who is sent, who is refused, and when."""

from __future__ import annotations

from itertools import count

import pytest

from batchproxy.core.balancer import Endpoint
from batchproxy.core.batch import Dispatch
from batchproxy.core.errors import DeadlineExceeded, TooLate
from batchproxy.core.lateness import why_late
from batchproxy.core.outcome import Outcome
from batchproxy.core.pace import Hurry
from batchproxy.core.policy import Policy
from batchproxy.core.request import Entry
from batchproxy.core.scheduler import Scheduler
from batchproxy.testing import Playbook, StubWaiter, a_request

ALPHA_S, BETA_S = 0.010, 0.001
KEY = a_request().key


def _pool(*, cap: int = 4) -> tuple[Scheduler, Endpoint]:
    """A lane of an endpoint that is known to take 10 ms a batch and 1 ms a row, one batch at a time."""
    endpoint = Endpoint("e0", max_inflight=1)
    scheduler = Scheduler({KEY.model: Policy(max_batch_rows=cap)}, [endpoint])
    scheduler.bring_back(endpoint)
    cost = endpoint.cost(KEY)
    for turn in range(64):
        for rows in (1, 4):
            cost.learn(rows, ALPHA_S + BETA_S * rows, turn)
    return scheduler, endpoint


_PLACE = count()


def _entry(scheduler: Scheduler, now: float, patience: float | None) -> Entry:
    request = a_request(first=next(_PLACE))
    request.deadline = None if patience is None else now + patience
    entry = Entry(request, StubWaiter(), now)
    scheduler.submit(entry, now)
    return entry


def _sent(scheduler: Scheduler, now: float) -> Dispatch:
    dispatch = scheduler.poll(now)
    assert dispatch is not None
    return dispatch


def test_who_cannot_be_answered_in_time_is_not_sent() -> None:
    """Its place is taken by those who can be; it is told so before its time is up."""
    scheduler, _ = _pool()
    first = _entry(scheduler, 0.0, None)
    running = _sent(scheduler, 0.0)
    hopeless, other = _entry(scheduler, 0.0, 0.050), _entry(scheduler, 0.0, 0.500)
    scheduler.settle(running, 0.045, Outcome.OK)
    batch = _sent(scheduler, 0.045)

    assert [first] == running.batch.entries
    assert [other] == batch.batch.entries
    assert [hopeless] == scheduler.overdue(0.045)
    assert isinstance(why_late(hopeless, 0.045), TooLate)
    assert isinstance(why_late(hopeless, 0.051), DeadlineExceeded)


def test_who_has_just_come_is_sent_in_spite_of_a_prediction() -> None:
    """A batch that takes longer than anybody allows would otherwise never be tried again."""
    scheduler, _ = _pool()
    entry = _entry(scheduler, 0.0, 0.001)

    assert [entry] == _sent(scheduler, 0.0).batch.entries


def test_who_would_wait_too_long_is_refused_at_once() -> None:
    """By the rows that wait and what each costs; who has more time, or a deadline before all others, is let in."""
    scheduler, _ = _pool()
    _entry(scheduler, 0.0, None)
    _sent(scheduler, 0.0)
    for _ in range(8):
        _entry(scheduler, 0.0, 0.100)
    scheduler.settle(next(iter(scheduler._running.values())), 0.010, Outcome.OK)
    _sent(scheduler, 0.010)
    with pytest.raises(TooLate, match=r"rows wait before this request.*but its deadline is in 0\.100 s"):
        for _ in range(40):
            _entry(scheduler, 0.010, 0.100)
    waiting = scheduler.queued_rows()[KEY.model]

    assert 20 <= waiting <= 30  # 14 ms for 4 rows, and a batch's time to answer
    assert _entry(scheduler, 0.010, 60.0).home is not None
    assert _entry(scheduler, 0.010, None).home is not None
    assert _entry(scheduler, 0.010, 0.030).home is not None


def test_who_is_behind_one_that_leaves_may_have_less_time() -> None:
    """It waits for company no longer than it can, though who was more urgent could have waited longer."""
    patient, pressed = a_request(priority=0, deadline=1.0), a_request(priority=1, deadline=0.02)
    play = Playbook({"m": Policy(max_delay_s=0.1)}).submit(patient, pressed).expect_nothing().expect_wake(0.1)

    play.cancel(patient).expect_wake(0.01).at(0.01).expect_dispatch([pressed])


def test_who_comes_after_one_that_left_hurries_its_lane() -> None:
    """The lane is as urgent as those who still wait in it, not as who left."""
    first, second, third = (a_request(priority=0, deadline=deadline) for deadline in (1.0, 4.0, 2.0))
    play = Playbook({"m": Policy(max_delay_s=3.0)}).submit(first, second).expect_wake(0.5)

    play.cancel(first).expect_wake(2.0).submit(third).expect_wake(1.0)


@pytest.mark.parametrize("together", [False, True], ids=["one_by_one", "together"])
def test_who_cannot_wait_is_seen_among_those_who_are_put_in_order(together: bool) -> None:
    """Whoever overtakes those that came before it is not the last of its lane."""
    endpoint = Endpoint("e0")
    scheduler = Scheduler({KEY.model: Policy(max_delay_s=0.5)}, [endpoint])
    scheduler.bring_back(endpoint)
    waiting = [Entry(a_request(), StubWaiter(), 0.0) for _ in range(4)]
    pressed = Entry(a_request(deadline=0.02), StubWaiter(), 0.0)
    others = [Entry(a_request(deadline=9.0), StubWaiter(), 0.0) for _ in range(2)]
    scheduler.submit_all(waiting, 0.0)
    scheduler._held_until = 0.4  # a partial batch was to leave no sooner
    news = scheduler.submit_all([pressed, *others], 0.0)[0] if together else scheduler.submit(pressed, 0.0)

    assert news
    assert 0.01 == scheduler.wake_at(0.0)


def test_full_batches_do_not_queue_up_behind_each_other_where_callers_are_in_a_hurry() -> None:
    """With time they may go beyond the limit; without, three quarters of it may go by at the endpoint."""
    endpoint = Endpoint("e0")
    limit, cost = endpoint.limit, endpoint.cost(KEY)
    for turn in range(64):
        cost.learn(4, ALPHA_S, turn)
    for _ in range(limit.partial):
        limit.depart(0.0)

    assert 0.0 == limit.opens(cost, 4, 4, 0.0)
    assert 0.0 == limit.opens(cost, 4, 4, 0.0, Hurry(1.0, 1.0))
    assert limit.opens(cost, 4, 4, 0.0, Hurry(0.012, 0.012)) > 1e9
