"""Tests of batchproxy.core.unanswered: whoever was taken in is found once, wherever it is."""

from __future__ import annotations

from batchproxy.core.outcome import Outcome
from batchproxy.core.policy import Policy
from batchproxy.core.request import Entry
from batchproxy.testing import FIXED, Playbook, a_request
from tests.unit.plays import requests, running


def found(play: Playbook) -> list[Entry]:
    """Everybody, as often as named."""
    return list(play.scheduler._unanswered)


def test_everybody_is_found_wherever_they_are() -> None:
    """In a lane, in a call, in a call that is not merged, in pieces that wait; nobody who was answered."""
    bad, good, waiting, alone = *requests(3), a_request(signature=FIXED)
    play = running(bad, good).submit(waiting, alone).expect_dispatch([alone]).settle(Outcome.REJECTED, of=bad)
    before = {play.entry(each) for each in (bad, good, waiting, alone)}
    seen = found(play)

    play.expect_dispatch([bad]).settle(Outcome.OK, of=bad)

    assert (4, before) == (len(seen), set(seen))
    assert before - {play.entry(bad)} == set(found(play))


def test_a_batch_that_is_under_way_twice_is_named_once() -> None:
    """Its members are those of both calls."""
    a, b = requests(2)
    policy = Policy(hedging=True, hedging_delay_s=0.1)
    play = running(a, b, policy=policy, endpoints=2).at(0.1).expect_dispatch([a, b])

    assert [play.entry(a), play.entry(b)] == found(play)
    assert [play.entry(a), play.entry(b)] == play.scheduler.stranded()


def test_versions_that_are_wanted() -> None:
    """By whoever is not answered yet."""
    (a,) = requests(1)
    play = running(a)
    wanted = [play.scheduler.wants(1), play.scheduler.wants(2)]

    play.settle(Outcome.OK)

    assert [True, False] == wanted
    assert not play.scheduler.wants(1)
