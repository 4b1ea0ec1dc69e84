"""Not every endpoint has every model: calls go where it is."""

from __future__ import annotations

import pytest

from batchproxy.core.balancer import LOOKED_AT
from batchproxy.core.errors import BackendRejected, Code
from batchproxy.core.outcome import Outcome
from batchproxy.core.placement import MAX_PLACED
from batchproxy.core.policy import Policies, Policy
from batchproxy.core.request import Request
from batchproxy.testing import Playbook
from tests.unit.plays import requests

ABSENT = BackendRejected("Servable not found for request: Latest(m)", code=Code.NOT_FOUND)


def a_play(endpoints: int, *, batching: bool = True, model: str = "m") -> tuple[Playbook, list[Request]]:
    """Endpoints with room for one batch each, and four requests."""
    policies = Policies({}, Policy(batching=batching))
    return Playbook(policies, endpoints=endpoints, max_inflight=1), requests(4, model)


def absent(play: Playbook) -> dict[str, set[str]]:
    """Model to the endpoints without it."""
    return {
        model: {endpoint.name for endpoint in endpoints}
        for (model, _), endpoints in play.scheduler.balancer.placement.absent.items()
    }


@pytest.mark.parametrize("batching", [True, False])
def test_who_does_not_have_it_gets_no_more_calls(batching: bool) -> None:
    """The call that told goes to another one, and so do all that follow; once it has it, it is used again."""
    play, (a, b, c, d) = a_play(2, batching=batching)
    play.submit(a).expect_dispatch([a], to="e0").settle(Outcome.SAME_FOR_ALL, ABSENT)
    play.expect_waiting(a).expect_dispatch([a], to="e1").settle(Outcome.OK).expect_answered(a)
    play.submit(b).expect_dispatch([b], to="e1").submit(c)
    if batching:
        play.expect_nothing().settle(Outcome.OK).expect_dispatch([c], to="e1")
    else:
        play.expect_dispatch([c], to="e1")
    told = absent(play)
    play.scheduler.health.placed(play.endpoints[0], "m", 1)
    play.submit(d).expect_dispatch([d], to="e0")

    assert {"m": {"e0"}} == told
    assert {} == absent(play)
    assert [
        "endpoint e0: does not have model 'm', version 1; it gets no calls for it until it says that it has it",
        "endpoint e0: has model 'm', version 1 now, and gets calls for it",
    ] == play.notices


@pytest.mark.parametrize("batching", [True, False])
def test_a_model_that_nobody_has_is_told_after_each_was_asked_once(batching: bool) -> None:
    """And nothing is remembered: callers may name what they like."""
    play, (a, b, *_) = a_play(3, batching=batching)
    play.submit(a)
    for name in ("e0", "e1", "e2"):
        play.expect_dispatch([a], to=name).settle(Outcome.SAME_FOR_ALL, ABSENT)
    play.expect_failed(a, Code.NOT_FOUND, "Servable not found").submit(b).expect_dispatch([b], to="e0")

    assert {} == absent(play)


def test_a_model_that_moved_is_found() -> None:
    """Though the one that has it now said that it does not, before it was asked for that."""
    play, (a, b, *_) = a_play(2)
    play.submit(a).expect_dispatch([a], to="e0").settle(Outcome.SAME_FOR_ALL, ABSENT)
    play.expect_dispatch([a], to="e1").settle(Outcome.OK).submit(b)
    play.expect_dispatch([b], to="e1").settle(Outcome.SAME_FOR_ALL, ABSENT)
    play.expect_dispatch([b], to="e0").settle(Outcome.OK).expect_answered(a, b)

    assert {"m": {"e1"}} == absent(play)


def test_names_that_no_server_confirmed_are_not_asked_for_elsewhere() -> None:
    """They have no name here."""
    play, (a, *_) = a_play(2, batching=False, model="")
    play.submit(a).expect_dispatch([a]).settle(Outcome.SAME_FOR_ALL, ABSENT).expect_failed(a, Code.NOT_FOUND)

    assert {} == absent(play)


def test_other_errors_that_are_the_same_for_all_say_nothing_of_placement() -> None:
    """A caller without permission has none elsewhere."""
    play, (a, *_) = a_play(2)
    denied = BackendRejected("no", code=Code.PERMISSION_DENIED)
    play.submit(a).expect_dispatch([a]).settle(Outcome.SAME_FOR_ALL, denied).expect_failed(a, Code.PERMISSION_DENIED)

    assert {} == absent(play)


def test_where_the_others_go_the_one_that_is_left_is_asked_again() -> None:
    """Nobody waits for an endpoint that is not there."""
    play, (a, b, c, _) = a_play(2)
    play.submit(a).expect_dispatch([a], to="e0").settle(Outcome.SAME_FOR_ALL, ABSENT).expect_dispatch([a], to="e1")
    play.scheduler.take_out(play.endpoints[1], "gone")
    play.submit(b).expect_dispatch([b], to="e0").settle(Outcome.SAME_FOR_ALL, ABSENT, of=b)
    play.expect_failed(b, Code.NOT_FOUND)
    play.scheduler.bring_back(play.endpoints[1])
    play.submit(c).expect_dispatch([c], to="e0")

    assert {} == absent(play)


def test_what_is_started_anew_or_removed_is_forgotten() -> None:
    """What it has is to be seen."""
    play, (a, b, *_) = a_play(3)
    play.submit(a).expect_dispatch([a], to="e0").settle(Outcome.SAME_FOR_ALL, ABSENT)
    play.expect_dispatch([a], to="e1").settle(Outcome.SAME_FOR_ALL, ABSENT).expect_dispatch([a], to="e2")
    before = absent(play)
    play.scheduler.take_out(play.endpoints[0], "gone")
    play.scheduler.bring_back(play.endpoints[0])
    after = absent(play)
    play.scheduler.remove_endpoint(play.endpoints[1])
    play.submit(b).expect_dispatch([b], to="e0")

    assert ({"m": {"e0", "e1"}}, {"m": {"e1"}}, {}) == (before, after, absent(play))


def test_in_a_large_pool_the_only_one_that_has_it_is_found() -> None:
    """However few are looked at for one batch."""
    count = 2 * LOOKED_AT + 2
    play, (a, b, *_) = a_play(count)
    play.submit(a)
    for _ in range(count - 1):
        play.expect_dispatch([a]).settle(Outcome.SAME_FOR_ALL, ABSENT)
    play.expect_dispatch([a]).settle(Outcome.OK).expect_answered(a).submit(b).expect_dispatch([b])
    relays, (c, *_) = a_play(count, batching=False)
    relays.submit(c)
    for _ in range(count - 1):
        relays.expect_dispatch([c]).settle(Outcome.SAME_FOR_ALL, ABSENT)
    relays.expect_dispatch([c]).settle(Outcome.OK).expect_answered(c)

    assert count - 1 == len(absent(play)["m"]) == len(absent(relays)["m"])


def test_what_is_remembered_has_a_bound() -> None:
    """The oldest goes."""
    play, _ = a_play(2)
    placement, endpoints = play.scheduler.balancer.placement, play.endpoints
    for version in range(MAX_PLACED + 5):
        assert placement.lacks(endpoints[0], "m", version, endpoints, play.notices.append)
    placement.has(endpoints[0], "m", 0, play.notices.append)
    placement.has(endpoints[1], "m", MAX_PLACED, play.notices.append)

    assert MAX_PLACED == len(placement.absent)
    assert "endpoint e0: does not have model 'm', version 0; it gets no calls" in play.notices[0]
