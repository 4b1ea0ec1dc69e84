"""Tests of batchproxy.core.health: endpoints that are added and removed at run time."""

from __future__ import annotations

import pytest

from batchproxy.core.balancer import NAMED, Endpoint
from batchproxy.core.errors import BatchProxyError, Code, NoEndpoint
from batchproxy.core.outcome import Outcome
from batchproxy.core.policy import Policy
from batchproxy.testing import FIXED, Playbook, a_request
from tests.unit.plays import one_slot, requests, running


def test_added_endpoint_is_used_once_it_answers() -> None:
    """Not before: it may still be loading."""
    a, b, c = requests(3)
    play = running(a).submit(b)
    play.scheduler.add_endpoint(new := Endpoint("new", max_inflight=1))
    play.expect_nothing()

    play.scheduler.bring_back(new)
    play.expect_dispatch([b], to="new")
    assert ["endpoint new: added to the pool; it is used once it answers a probe"] == play.notices
    play.submit(c).expect_nothing()


def test_removed_endpoint_ends_what_it_has_and_gets_nothing_more() -> None:
    """Its answer is taken, and what waits goes to another one."""
    a, b, c = requests(3)
    play = running(a, endpoints=2).submit(b).expect_dispatch([b], to="e1").submit(c)
    first = play.endpoints[0]

    assert [] == play.scheduler.remove_endpoint(first)
    busy = [first.busy]
    play.expect_nothing().settle(Outcome.OK, of=a).expect_answered(a).expect_nothing()

    assert [True, False] == [*busy, first.busy]
    play.settle(Outcome.OK, of=b).expect_dispatch([c], to="e1")
    assert ["endpoint e0: removed from the pool; it gets nothing more"] == play.notices
    assert (play.endpoints[1],) == play.scheduler.balancer.endpoints


def test_removing_twice_is_removing_once() -> None:
    """A list of addresses may say so twice."""
    play = one_slot(endpoints=2)
    play.scheduler.remove_endpoint(play.endpoints[0])

    assert [] == play.scheduler.remove_endpoint(play.endpoints[0])
    assert 1 == len(play.notices)


def test_who_waits_is_told_that_the_last_one_was_removed() -> None:
    """What is in flight is answered."""
    a, b = requests(2)
    play = running(a).submit(b)

    ((entry, error),) = play.scheduler.remove_endpoint(play.endpoints[0])

    assert play.entry(b) is entry
    assert "model 'm': no endpoint can be used (the pool has none at present)" == error.message
    play.settle(Outcome.OK).expect_answered(a)
    with pytest.raises(NoEndpoint):
        play.submit(*requests(1))


def test_probes_and_failures_of_a_removed_endpoint_change_nothing() -> None:
    """They were under way when it went."""
    play = one_slot(endpoints=2)
    gone = play.endpoints[0]
    play.scheduler.remove_endpoint(gone)

    play.scheduler.bring_back(gone)
    failures = play.scheduler.take_out(gone, "refused")

    assert ([], False, "removed from the pool") == (failures, gone.up, gone.last_error)
    assert 1 == len(play.notices)


def test_pieces_of_a_rejected_batch_do_not_wait_for_nothing() -> None:
    """No endpoint may ever come back, and they have no deadline."""
    a, b = requests(2)
    play = running(a, b)
    play.scheduler.remove_endpoint(play.endpoints[0])

    failures = play.scheduler.settle(
        play.in_flight[0], 1.0, Outcome.REJECTED, BatchProxyError("names both", code=Code.INVALID_ARGUMENT)
    )

    assert [(play.entry(a), NoEndpoint), (play.entry(b), NoEndpoint)] == [(e, type(why)) for e, why in failures]
    play.expect_nothing()
    assert not play.scheduler.busy


def test_call_of_a_removed_endpoint_that_did_not_run_goes_elsewhere() -> None:
    """Its caller learns of nothing."""
    (a,) = requests(1)
    play = running(a, endpoints=2)
    play.scheduler.remove_endpoint(play.endpoints[0])

    play.settle(Outcome.NOT_RUN).expect_dispatch([a], to="e1").settle(Outcome.OK).expect_answered(a)


def test_unmerged_call_counts_until_it_ends() -> None:
    """As long as it runs, the endpoint is busy."""
    request = a_request(signature=FIXED)
    play = Playbook({"m": Policy()}, endpoints=2).submit(request).expect_dispatch([request], to="e0")
    gone = play.endpoints[0]
    play.scheduler.remove_endpoint(gone)

    busy = [gone.busy]
    play.settle(Outcome.OK)

    assert [True, False] == [*busy, gone.busy]


def test_a_large_pool_shrinks_and_grows() -> None:
    """Wherever its next look begins, and whoever became free last."""
    play = one_slot(endpoints=40)
    for sent in requests(30):
        play.submit(sent).expect_dispatch([sent])
    for endpoint in play.endpoints[:-1]:
        play.scheduler.remove_endpoint(endpoint)
    (request,) = requests(1)

    play.submit(request).expect_dispatch([request], to="e39")
    assert all(play.scheduler.balancer._freed is not each for each in play.endpoints[:-1])


def test_an_endpoint_that_became_free_and_was_removed_is_not_held() -> None:
    """Nothing of it is kept."""
    (a,) = requests(1)
    play = running(a, endpoints=2).settle(Outcome.OK)
    balancer = play.scheduler.balancer
    freed = [balancer._freed]

    play.scheduler.remove_endpoint(play.endpoints[0])
    balancer.freed(play.endpoints[0])

    assert [play.endpoints[0], None] == [*freed, balancer._freed]
    assert [play.endpoints[1]] == list(balancer._idle)


def test_of_many_endpoints_a_few_are_named() -> None:
    """A thousand reasons are no text for a caller."""
    play = one_slot(endpoints=NAMED + 3)
    for endpoint in play.endpoints:
        play.scheduler.take_out(endpoint, "refused")

    with pytest.raises(NoEndpoint, match=r"e7: refused; and 3 more\)"):
        play.submit(*requests(1))
