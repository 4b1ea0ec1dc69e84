"""Tests of batchproxy.core.scheduler: what it makes of limits that are learned. Scripts, as in test_scheduler."""

from __future__ import annotations

import pytest

from batchproxy.core.balancer import Endpoint
from batchproxy.core.batch import Release
from batchproxy.core.outcome import Outcome
from batchproxy.core.pace import EARLY
from batchproxy.core.policy import Policy
from batchproxy.core.request import Entry, Request
from batchproxy.testing import FIXED, Playbook, StubWaiter, a_request
from tests.unit.plays import requests

OK = Outcome.OK


def _play(*, max_inflight: int | None = None, endpoints: int = 1) -> Playbook:
    policies = {"m": Policy(max_batch_rows=4), "n": Policy(max_batch_rows=4)}
    return Playbook(policies, max_inflight=max_inflight, endpoints=endpoints)


def _reason(play: Playbook) -> Release:
    """Of what was sent last."""
    return play.in_flight[-1].reason


def _teach(endpoint: Endpoint, request: Request, seconds: float, rows: int = 3) -> None:
    """Batches of so many rows take so long, whatever their rows."""
    cost = endpoint.cost(request.key)
    cost.learn(rows, seconds, 1)
    cost.rows = float(rows)


def test_reasons() -> None:
    """Each batch tells why it left when it did."""
    play, rows = _play(max_inflight=2), requests(9)
    reasons = []
    for batch in ([rows[0]], [rows[1]]):
        play.submit(*batch).expect_dispatch(batch)
        reasons.append(_reason(play))
    play.submit(*rows[2:6]).expect_nothing().settle(OK).expect_dispatch(rows[2:6])
    reasons.append(_reason(play))
    play.submit(fixed := a_request(signature=FIXED)).expect_dispatch([fixed])
    reasons.append(_reason(play))
    play.settle(Outcome.REJECTED, of=rows[2]).expect_dispatch(rows[2:4])
    reasons.append(_reason(play))

    assert [Release.IDLE, Release.SLOT, Release.FULL, Release.SHAPE, Release.BISECT] == reasons


def test_held_batch_leaves_when_its_time_has_come() -> None:
    """``wake_at`` says when; what comes meanwhile is no reason to ask, and rides with it."""
    play, (a, b, c) = _play(), requests(3)
    _teach(play.endpoints[0], a, 0.1)
    play.submit(a).expect_dispatch([a]).submit(b).expect_nothing()
    opens = play.scheduler.wake_at(0.0)

    assert opens is not None
    assert 0.0 < opens < 0.1
    play.at(opens / 2).submit(c).expect_nothing().expect_wake(opens)
    play.at(opens).expect_dispatch([b, c]).expect_wake(None)
    assert Release.SLOT is _reason(play)


def test_held_batch_leaves_when_another_ends() -> None:
    """The endpoint is idle then: nothing is waited for."""
    play, (a, b) = _play(), requests(2)
    _teach(play.endpoints[0], a, 0.1)
    play.submit(a).expect_dispatch([a]).submit(b).expect_nothing()

    play.at(0.001).settle(OK).expect_wake(0.001).expect_dispatch([b])
    assert Release.IDLE is _reason(play)


def test_lane_that_fills_is_held_no_longer() -> None:
    """Company is complete."""
    play, rows = _play(), requests(5)
    _teach(play.endpoints[0], rows[0], 0.1)
    play.submit(rows[0]).expect_dispatch(rows[:1]).submit(*rows[1:4]).expect_nothing()

    play.submit(rows[4]).expect_dispatch(rows[1:])
    assert Release.FULL is _reason(play)


def test_full_batches_pass_a_lane_that_is_held() -> None:
    """Whosever turn it is: they gain nothing by waiting for those that do."""
    play, held, full = _play(), a_request(), requests(4, "n")
    _teach(play.endpoints[0], held, 0.1)
    play.submit(first := a_request()).expect_dispatch([first]).submit(held).expect_nothing()
    opens = play.scheduler.wake_at(0.0)

    play.submit(*full).expect_dispatch(full).expect_nothing()
    play.expect_wake(opens)


@pytest.mark.parametrize("count", [1, 3])
def test_nothing_is_asked_again_before_something_ends(count: int) -> None:
    """Where every endpoint has its fill, nothing but an end can change that."""
    play = _play(max_inflight=1, endpoints=count)
    for busy in requests(count):
        play.submit(busy).expect_dispatch([busy])
    rows = requests(5)
    play.submit(first := a_request(width=2)).expect_nothing()
    play.cancel(first)
    asked = [play.scheduler.submit(Entry(row, StubWaiter(), 0.0), 0.0) for row in rows]

    assert [False, False, False, True, True] == asked  # a full batch is another matter
    play.expect_nothing().expect_wake(None)
    assert not play.scheduler.submit(Entry(a_request(), StubWaiter(), 0.0), 0.0)
    play.settle(OK).expect_dispatch(rows[:4])


def test_an_endpoint_that_comes_back_is_asked_at_once() -> None:
    """Though all that were up had their fill."""
    play, (a, b) = _play(max_inflight=1, endpoints=2), requests(2)
    e0, e1 = play.endpoints
    e1.up = False
    play.submit(a).expect_dispatch([a], to=e0.name).submit(b).expect_nothing()
    play.scheduler.bring_back(e1)

    play.expect_wake(0.0).expect_dispatch([b], to=e1.name)


def test_batch_goes_where_it_would_be_answered_first() -> None:
    """By what is known of its own model."""
    play, m, n = _play(endpoints=2), a_request(), a_request(model="n")
    for endpoint, seconds in zip(play.endpoints, (0.1, 0.01), strict=True):
        _teach(endpoint, m, seconds)
        _teach(endpoint, n, 0.011 - seconds / 10)

    play.submit(m).expect_dispatch([m], to="e1").submit(n).expect_dispatch([n], to="e0")


def test_an_endpoint_is_emptied_to_time_a_batch() -> None:
    """While it is, nothing leaves; then one batch, of no more rows than those that raised the doubt."""
    play = _play()
    limit = play.endpoints[0].limit
    play.submit(a := a_request()).expect_dispatch([a])
    limit.draining = True
    full = requests(4)
    play.submit(*full).expect_nothing().expect_wake(None)
    limit.at_most = lambda cap: 3  # type: ignore[method-assign]

    play.at(0.1).settle(OK).expect_dispatch(full[:3]).expect_nothing()
    sent = play.in_flight[-1]
    assert (Release.TIMED, 3) == (sent.reason, sent.cap)
    play.at(0.2).settle(OK).expect_dispatch(full[3:])
    assert Release.IDLE is _reason(play)


def test_a_large_pool_with_one_endpoint_left_goes_on() -> None:
    """It is found among a thousand, though only some are looked at for each batch."""
    play, (a, b) = _play(endpoints=1000), requests(2)
    for endpoint in play.endpoints:
        if endpoint.name != "e707":
            play.scheduler.take_out(endpoint, "gone")

    play.submit(a).expect_dispatch([a], to="e707").settle(OK).submit(b).expect_dispatch([b], to="e707")
    play.scheduler.take_out(play.endpoints[707], "gone")
    play.scheduler.bring_back(play.endpoints[3])
    play.submit(c := a_request()).expect_dispatch([c], to="e3")


def test_reason_of_a_model_that_is_not_batched() -> None:
    """Its rows could be merged, but may not be."""
    play = Playbook({"m": Policy(batching=False)})
    play.submit(a := a_request()).expect_dispatch([a])

    assert Release.ALONE is _reason(play)


def test_reason_of_what_did_not_run() -> None:
    """It goes elsewhere as it is."""
    play, (a, b) = _play(max_inflight=1, endpoints=2), requests(2)
    play.submit(a, b).expect_dispatch([a, b]).settle(Outcome.NOT_RUN).expect_dispatch([a, b])

    assert Release.AGAIN is _reason(play)


def _due(play: Playbook, count: int, deadline: float, start: int = 0) -> list[Request]:
    """So many requests that wait until ``deadline``, taken in now."""
    found = requests(start + count)[start:]
    for request in found:
        request.deadline = deadline
    play.submit(*found)
    return found


def test_held_batch_leaves_while_its_callers_can_still_be_answered() -> None:
    """A quarter of a batch's time before it would be too late, though the next batch was to leave later."""
    play, [a] = _play(), requests(1)
    _teach(play.endpoints[0], a, 0.1)
    play.submit(a).expect_dispatch([a])
    needed = EARLY * play.endpoints[0].limit.lead(play.endpoints[0].cost(a.key), 1)
    [b] = _due(play, 1, 0.02 + needed, 1)
    wake = play.expect_nothing().scheduler.wake_at(0.0)

    assert wake == pytest.approx(0.02)
    play.at(0.021).expect_dispatch([b])
    assert Release.DEADLINE is _reason(play)


def test_who_cannot_wait_as_long_as_others_takes_them_along() -> None:
    """A batch is held when one comes whose time is nearly up: it leaves at once, and nobody had to wake it."""
    play, [a, b] = _play(), requests(2)
    _teach(play.endpoints[0], a, 0.1)
    play.submit(a).expect_dispatch([a]).submit(b).expect_nothing()
    held = play.scheduler.wake_at(0.0)
    assert held is not None
    [c] = _due(play, 1, 1.9 * held, 2)

    play.expect_dispatch([c, b])
    assert Release.DEADLINE is _reason(play)


def test_who_is_behind_one_that_leaves_need_not_be_held_as_long() -> None:
    """A batch is held until its most urgent caller has to leave; when that one is gone, the next is looked at."""
    play, [a, b, c] = _play(), requests(3)
    _teach(play.endpoints[0], a, 0.1)
    play.submit(a).expect_dispatch([a]).submit(b).expect_nothing()
    held = play.scheduler.wake_at(0.0)
    assert held is not None
    c.priority, c.deadline = 2, 1.9 * held
    play.submit(c).expect_nothing().expect_wake(held)

    play.cancel(b).expect_wake(0.0).expect_dispatch([c])
    assert Release.DEADLINE is _reason(play)


def test_delay_ends_while_callers_can_still_be_answered() -> None:
    """With ``max_delay``: half of a caller's time is the most while nothing is known of what a batch takes."""
    play = Playbook({"m": Policy(max_delay_s=10.0)})
    [a] = _due(play, 1, 1.0)
    play.expect_nothing().expect_wake(0.5).at(0.5).expect_dispatch([a])

    assert Release.DEADLINE is _reason(play)
