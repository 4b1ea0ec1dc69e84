"""Tests of batchproxy.core.front: which batch goes before everything that waits, and where to."""

from __future__ import annotations

from batchproxy.core.ends import MAX_ATTEMPTS
from batchproxy.core.errors import Code
from batchproxy.core.outcome import Outcome
from batchproxy.core.policy import Policy
from batchproxy.testing import Playbook, a_request
from tests.unit.plays import requests

OK, REJECTED, NOT_RUN = Outcome.OK, Outcome.REJECTED, Outcome.NOT_RUN


def test_the_last_try_is_kept_for_an_endpoint_that_has_not_failed() -> None:
    """Who fails at once is always free: all tries would be spent there, while the one that is busy would answer."""
    a, b, c = requests(3)
    play = Playbook({"m": Policy()}, endpoints=2, max_inflight=1)
    play.submit(a).expect_dispatch([a], to="e0").submit(b).expect_dispatch([b], to="e1")
    play.settle(NOT_RUN, of=a).expect_dispatch([a], to="e0").settle(NOT_RUN, of=a)

    play.expect_nothing().expect_wake(None).expect_waiting(a)
    play.submit(c).expect_dispatch([c], to="e0")
    play.settle(OK, of=b).expect_dispatch([a], to="e1").settle(OK, of=a).expect_answered(a, b)


def test_the_last_try_goes_where_it_can_once_no_other_endpoint_is_up() -> None:
    """The one that it was kept for has gone."""
    a, b = requests(2)
    play = Playbook({"m": Policy()}, endpoints=2, max_inflight=1)
    play.submit(a).expect_dispatch([a], to="e0").submit(b).expect_dispatch([b], to="e1")
    play.settle(NOT_RUN, of=a).expect_dispatch([a], to="e0").settle(NOT_RUN, of=a).expect_nothing()

    play.scheduler.take_out(play.endpoints[1], "gone")

    play.expect_dispatch([a], to="e0")


def test_who_waits_for_another_endpoint_is_told_when_its_time_is_up() -> None:
    """It waits no longer than its caller does."""
    a, b = a_request(deadline=2.0), a_request(first=1)
    play = Playbook({"m": Policy()}, endpoints=2, max_inflight=1)
    play.submit(a).expect_dispatch([a], to="e0").submit(b).expect_dispatch([b], to="e1")
    play.settle(NOT_RUN, of=a).expect_dispatch([a], to="e0").settle(NOT_RUN, of=a).expect_nothing()

    play.at(2.0).sweep().expect_failed(a, Code.DEADLINE_EXCEEDED).expect_nothing()


def test_whoever_is_behind_one_that_waits_for_another_endpoint_does_not_wait() -> None:
    """Pieces of a rejected batch go on where there is room."""
    a, b, c, d = requests(4)
    play = Playbook({"m": Policy()}, endpoints=2, max_inflight=1)
    play.submit(a).expect_dispatch([a], to="e0").submit(b).expect_dispatch([b], to="e1")
    play.settle(NOT_RUN, of=a).expect_dispatch([a], to="e0").submit(c, d).settle(NOT_RUN, of=a)

    play.expect_dispatch([c, d], to="e0").settle(REJECTED, of=c).expect_dispatch([c], to="e0").expect_nothing()

    play.settle(OK, of=b).expect_dispatch([d], to="e1").settle(OK, of=d).expect_dispatch([a], to="e1")


def test_with_one_endpoint_all_tries_are_made_there() -> None:
    """Nothing is to be waited for."""
    (a,) = requests(1)
    play = Playbook({"m": Policy()}, max_inflight=1).submit(a)

    for _ in range(MAX_ATTEMPTS):
        play.expect_dispatch([a], to="e0").settle(NOT_RUN)


def test_an_endpoint_without_the_model_is_none_to_wait_for() -> None:
    """It would not answer either."""
    a, b = requests(2)
    play = Playbook({"m": Policy()}, endpoints=2, max_inflight=1)
    play.submit(a).expect_dispatch([a], to="e0").submit(b).expect_dispatch([b], to="e1")
    key, balancer = a.key, play.scheduler.balancer
    balancer.placement.lacks(play.endpoints[1], key.model, key.version, balancer.endpoints, play.notices.append)

    play.settle(NOT_RUN, of=a).expect_dispatch([a], to="e0").settle(NOT_RUN, of=a).expect_dispatch([a], to="e0")
