"""Tests of batchproxy.core.overload: when a queue is kept short, and when it may be long again."""

from __future__ import annotations

from math import inf

import pytest

from batchproxy.core.errors import QueueFull
from batchproxy.core.outcome import Outcome
from batchproxy.core.overload import AHEAD_S, APART_S, BATCHES, CALM_S, KEPT_S, STANDING_S
from batchproxy.core.policy import Policy
from batchproxy.testing import Playbook, a_request

ROWS = 4


def _full(max_queued_rows: int = 100) -> Playbook:
    """A scheduler with as much waiting as may wait, for an endpoint that works off 40 rows a second."""
    play = Playbook({"m": Policy(max_batch_rows=ROWS, max_queued_rows=max_queued_rows)}, max_inflight=1)
    first = a_request(ROWS)
    play.endpoints[0].cost(first.key).learn(ROWS, 0.1, 1)
    play.submit(first).expect_dispatch([first])
    then = [a_request() for _ in range(ROWS + 1)]
    play.submit(*then).at(0.1).settle(Outcome.OK).expect_dispatch(then[:ROWS])
    _refill(play)
    return play


def _refill(play: Playbook) -> None:
    while True:
        try:
            play.submit(a_request())
        except QueueFull:
            return


def _refuse(play: Playbook, until: float, step: float = 0.5) -> None:
    while play.now < until:
        play.at(play.now + step)
        with pytest.raises(QueueFull):
            play.submit(a_request())


def test_after_refusals_for_seconds_on_end_the_queue_is_kept_short() -> None:
    """What waits is answered; new requests wait only for a quarter of a second of work."""
    play = _full()
    began = play.now
    _refuse(play, began + STANDING_S - 0.5)
    before = play.scheduler.overload.shedding("m")
    _refuse(play, began + STANDING_S)
    bound = play.scheduler._lanes.books["m"].max_rows

    assert (False, True) == (before, play.scheduler.overload.shedding("m"))
    assert AHEAD_S == play.scheduler._lanes.books["m"].ahead_s
    assert bound in {9, 10}
    assert max(int(BATCHES * ROWS), int(KEPT_S * 40)) >= bound
    (line,) = play.notices
    assert line.startswith(f"model 'm': requests have been refused for 5 s; at most {bound} rows wait (0.25 s of work)")


def test_once_nobody_was_refused_for_a_while_it_may_be_long_again() -> None:
    """At the next look; also where there was nothing but a burst."""
    play = _full()
    _refuse(play, play.now + STANDING_S)
    last = play.now
    play.at(last + CALM_S - 0.1).expect_nothing()
    still = play.scheduler.overload.shedding("m")
    play.at(last + CALM_S).expect_nothing()

    assert (True, False) == (still, play.scheduler.overload.shedding("m"))
    assert inf == play.scheduler._lanes.books["m"].ahead_s
    assert 100 == play.scheduler._lanes.books["m"].max_rows
    assert inf == play.scheduler.overload.due
    assert "model 'm': no request is refused any more; up to 100 rows may wait" == play.notices[-1]


def test_a_burst_shortens_nothing() -> None:
    """Nor do bursts that come again and again."""
    play = _full()
    for _ in range(4):
        _refuse(play, play.now + STANDING_S / 2)
        play.at(play.now + APART_S + 0.1)
    play.at(play.now + CALM_S).expect_nothing()

    assert [] == play.notices


def test_refusals_of_one_that_never_sent_a_batch_shorten_nothing() -> None:
    """What its work takes is not known."""
    play = Playbook({"m": Policy(max_queued_rows=1, max_delay_s=99.0)})
    play.submit(a_request())
    _refuse(play, 2 * STANDING_S)

    assert [] == play.notices


def test_a_short_queue_is_not_made_longer() -> None:
    """Its bound is below two batches already."""
    play = _full(max_queued_rows=6)
    _refuse(play, 2 * STANDING_S)

    assert 6 == play.scheduler._lanes.books["m"].max_rows
    assert [] == play.notices
