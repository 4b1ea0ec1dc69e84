"""Tests of batchproxy.core.balancer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.core import balancer as module
from batchproxy.core.balancer import LOOKED_AT, Balancer, Endpoint
from batchproxy.core.cost import Cost
from batchproxy.core.limit import Flight, Limit
from batchproxy.core.request import BatchKey
from batchproxy.testing import a_request

KEY = a_request().key
CAP = 64


def _pool(count: int, *, max_inflight: int | None = None, max_relayed: int = 256) -> tuple[Balancer, list[Endpoint]]:
    endpoints = [Endpoint(f"e{number}", max_inflight=max_inflight, max_relayed=max_relayed) for number in range(count)]
    for endpoint in endpoints:
        endpoint.up = True
    return Balancer(endpoints), endpoints


def _choose(
    balancer: Balancer, rows: int = 1, *, avoid: Sequence[Endpoint] = (), key: BatchKey = KEY
) -> Endpoint | None:
    return balancer.choose(key, rows, CAP, 0.0, avoid)[0]


def _send(balancer: Balancer, endpoint: Endpoint, rows: int = 1) -> Flight:
    balancer.take(endpoint, rows)
    return endpoint.limit.depart(0.0)


def _settle(balancer: Balancer, endpoint: Endpoint, rows: int = 1) -> None:
    endpoint.rows -= rows
    endpoint.limit.drop(0.0)
    balancer.freed(endpoint)


def _teach(endpoint: Endpoint, seconds: float, *, key: BatchKey = KEY) -> None:
    endpoint.cost(key).learn(1, seconds, 1)


def test_endpoint_is_down_until_it_answers() -> None:
    """A new endpoint is not used, and says why."""
    endpoint = Endpoint("e0")
    balancer = Balancer([endpoint])

    assert not balancer.any_up()
    assert (None, inf) == balancer.choose(KEY, 1, CAP, 0.0)
    assert balancer.acquire_relay(1) is None
    assert "not probed yet" == endpoint.last_error
    assert repr(endpoint).startswith("Endpoint(e0, down, Limit(0 of ")
    assert "model 'm': no endpoint can be used (e0: not probed yet)" == balancer.why_none("m")


def test_any_up() -> None:
    """One endpoint that is up is enough."""
    balancer, (e0, e1) = _pool(2)
    e0.up = False

    assert balancer.any_up()
    e1.up = False
    assert not balancer.any_up()


# -- merged calls ------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 40), min_size=2, max_size=LOOKED_AT, unique=True))
def test_predicted_finish_decides(costs: list[int]) -> None:
    """Idle endpoints that are known: the fastest, whichever was used last."""
    balancer, endpoints = _pool(len(costs))
    for endpoint, power in zip(endpoints, costs, strict=True):
        _teach(endpoint, 1e-4 * 1.2**power)
    fastest = endpoints[costs.index(min(costs))]
    balancer.take(fastest, 5)

    assert fastest is _choose(balancer)


def test_what_is_in_flight_counts_in_the_prediction() -> None:
    """A fast endpoint that is busy answers later than one that is half as fast and idle."""
    balancer, (fast, slow) = _pool(2, max_inflight=8)
    for known, seconds in ((fast, 0.010), (slow, 0.015)):
        _teach(known, seconds)
        known.limit.ceiling = 1.0
    chosen = []
    for _ in range(5):
        endpoint = _choose(balancer)
        assert endpoint is not None
        _send(balancer, endpoint)
        chosen.append(endpoint.name)

    assert ["e0", "e1", "e0", "e1", "e0"] == chosen  # at 10, 15, 20, 30 and 30 ms; of equals, who has fewer rows


@pytest.mark.parametrize("slower", [1.0, 1.5, 5.0, 50.0])
def test_one_that_was_slow_is_tried_again(slower: float) -> None:
    """Its cost may be out of date, and nothing else would tell; the slower, the more seldom."""
    balancer, (e0, e1) = _pool(2)
    _teach(e0, 0.01)
    _teach(e1, 0.01 * slower)
    chosen = []
    for _ in range(20_000):
        endpoint = _choose(balancer)
        assert endpoint is not None
        _send(balancer, endpoint)
        _settle(balancer, endpoint)
        chosen.append(endpoint)
    wasted = chosen.count(e1) * (slower - 1.0)
    early = slower * math.log2(slower + 1.0)  # one after 64 rounds, one after 128 more, and so on

    assert e1 in chosen
    assert wasted <= len(chosen) / module.STALE + early


@pytest.mark.parametrize("bad_answers", [1, 2, 20])
def test_a_bad_moment_does_not_keep_an_endpoint_out(bad_answers: int) -> None:
    """As after a restart, when a model is loaded while it is asked: an hour's worth of traffic must not pass it by."""
    balancer, (e0, e1) = _pool(2)
    for _ in range(100):
        _teach(e0, 0.002)
        _teach(e1, 0.002)
    for _ in range(bad_answers):
        _teach(e1, 1.0)
    chosen = []
    for _ in range(4_000):
        endpoint = _choose(balancer)
        assert endpoint is not None
        _send(balancer, endpoint)
        _settle(balancer, endpoint)
        _teach(endpoint, 0.002)
        chosen.append(endpoint)

    assert 100 <= chosen[-1_000:].count(e1)


def test_kinds_that_come_seldom_are_tried_as_seldom() -> None:
    """How often another model is asked says nothing of how long ago this one's cost was seen."""
    balancer, (e0, e1) = _pool(2)
    seldom = a_request(model="n").key
    for endpoint, seconds in ((e0, 0.01), (e1, 1.0)):
        _teach(endpoint, seconds, key=seldom)
    chosen = []
    for turn in range(20_000):
        found = _choose(balancer, key=KEY if turn % 100 else seldom)
        if not turn % 100:
            chosen.append(found)

    assert 1 <= chosen.count(e1) <= 2


def test_turns_of_kinds_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest is forgotten for one more, and costs that outlive it do no harm."""
    monkeypatch.setattr(module, "MAX_KINDS", 2)
    balancer, _ = _pool(2)
    for model in ("a", "b", "c", "a", "b", "c"):
        assert _choose(balancer, key=a_request(model=model).key) is not None

    assert 2 == len(balancer._turns)


def test_costs_are_those_of_the_kind_of_batch() -> None:
    """What is fast for one model need not be for another; who calls makes no difference."""
    balancer, (e0, e1) = _pool(2)
    other = a_request(model="n").key
    for endpoint, seconds, slow in ((e0, 0.01, 0.2), (e1, 0.02, 0.1)):
        _teach(endpoint, seconds)
        _teach(endpoint, slow, key=other)

    assert [e0, e1] == [_choose(balancer, key=key) for key in (KEY, other)]
    assert e0.cost(KEY) is e0.cost(a_request(tenant="t").key)
    assert e0.cost(KEY) is not e0.cost(a_request(width=3).key)
    assert {KEY[:4], other[:4]} == {*e0.costs()} - {a_request(width=3).key[:4]}


def test_oldest_kind_is_forgotten_for_one_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an endpoint remembers has a bound."""
    monkeypatch.setattr(module, "MAX_KINDS", 2)
    endpoint = Endpoint("e0")
    for model in ("a", "b", "c"):
        endpoint.cost(a_request(model=model).key)

    assert ["b", "c"] == [kind[0] for kind in endpoint.costs()]


def test_least_rows_where_nothing_is_known() -> None:
    """The endpoint with fewest outstanding rows gets the next call, whichever has fewer calls."""
    balancer, (e0, e1) = _pool(2, max_inflight=9)
    chosen = []
    for rows in (5, 2, 2, 2, 1):
        endpoint = _choose(balancer, rows)
        assert endpoint is not None
        _send(balancer, endpoint, rows)
        chosen.append(endpoint)

    assert [e0, e1, e1, e1, e0] == chosen
    assert (6, 6) == (e0.rows, e1.rows)


@given(st.integers(1, LOOKED_AT), st.booleans())
def test_equals_take_turns(count: int, known: bool) -> None:
    """Where nothing tells them apart, the one used longest ago is next."""
    balancer, endpoints = _pool(count)
    chosen = []
    for equal in endpoints if known else ():
        _teach(equal, 0.01)
    for _ in range(2 * count):
        endpoint = _choose(balancer)
        assert endpoint is not None
        _send(balancer, endpoint)
        _settle(balancer, endpoint)
        chosen.append(endpoint)

    assert [*endpoints, *endpoints] == chosen


def test_limits_are_kept() -> None:
    """No endpoint gets more merged calls than it may have; then the answer is that another must end first."""
    balancer, (e0, e1) = _pool(2, max_inflight=1)
    for endpoint in (e0, e1):
        assert endpoint is _choose(balancer)
        _send(balancer, endpoint)

    assert (None, inf) == balancer.choose(KEY, CAP, CAP, 0.0)
    _settle(balancer, e1)
    assert e1 is _choose(balancer)


def test_says_when_the_first_of_those_that_are_held_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that somebody wakes then; what is open already goes before what opens soon."""
    balancer, (e0, e1) = _pool(2)
    opens = {id(e0.limit): 0.3, id(e1.limit): 0.2}
    monkeypatch.setattr(Limit, "opens", lambda limit, cost, rows, cap, now, hurry: max(now, opens[id(limit)]))
    _teach(e1, 9.0)

    assert (None, 0.2) == balancer.choose(KEY, 1, CAP, 0.0)
    assert e1 is balancer.choose(KEY, 1, CAP, 0.25)[0]
    assert e0 is balancer.choose(KEY, 1, CAP, 0.3)[0]


def test_avoided_endpoint_is_the_last_choice() -> None:
    """The one that failed is used only where no other is free, however fast; for merged calls and others."""
    balancer, (e0, e1) = _pool(2, max_inflight=1, max_relayed=1)
    _teach(e0, 0.001)
    _teach(e1, 9.0)

    assert e1 is _choose(balancer, avoid=[e0])
    _send(balancer, e1)
    assert e0 is _choose(balancer, avoid=[e0])
    assert e1 is balancer.acquire_relay(1, avoid=[e0])
    assert e0 is balancer.acquire_relay(1, avoid=[e0])


def test_of_several_that_are_avoided_the_one_that_failed_first_is_used() -> None:
    """Its failure is the longest ago; for merged calls and others."""
    balancer, (e0, e1) = _pool(2)
    _teach(e0, 0.001)
    _teach(e1, 9.0)

    assert (e1, e0) == (_choose(balancer, avoid=[e1, e0]), _choose(balancer, avoid=[e0, e1]))
    assert (e1, e0) == (balancer.acquire_relay(1, [e1, e0]), balancer.acquire_relay(1, [e0, e1]))


def test_barred_endpoints_are_no_choice() -> None:
    """Though nothing else is free; when another one may be had is told."""
    balancer, (e0, e1) = _pool(2, max_inflight=1)

    assert (e1, inf) == balancer.choose(KEY, 1, CAP, 0.0, barred=[e0])
    _send(balancer, e1)
    assert (None, inf) == balancer.choose(KEY, 1, CAP, 0.0, barred=[e0])
    assert e0 is _choose(balancer)


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.data())
def test_endpoints_that_are_down_are_never_chosen(up: list[bool], data: st.DataObject) -> None:
    """In pools of any size; whoever is up and idle is found, if there is one."""
    balancer, endpoints = _pool(len(up))
    for endpoint, usable in zip(endpoints, up, strict=True):
        endpoint.up = usable
        for _ in range(data.draw(st.integers(0, 1))):
            _send(balancer, endpoint)
    for _ in range(3):
        chosen = _choose(balancer)

        assert chosen is None or chosen.up
        if any(endpoint.up and not endpoint.in_flight for endpoint in endpoints):
            assert chosen is not None
        if chosen is not None:
            _send(balancer, chosen)


# -- large pools -------------------------------------------------------------------------------------


def test_large_pools_are_looked_at_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decision costs the same whatever their number; in turn, every endpoint is looked at."""
    balancer, endpoints = _pool(1000)
    real, seen = Limit.finish, []

    def finish(limit: Limit, cost: Cost, rows: int) -> float:
        seen.append(limit)
        return real(limit, cost, rows)

    monkeypatch.setattr(Limit, "finish", finish)
    counts = []
    for _ in range(1000 // LOOKED_AT + 1):
        seen_before = len(seen)
        endpoint = _choose(balancer)
        assert endpoint is not None
        _send(balancer, endpoint)
        counts.append(len(seen) - seen_before)

    assert max(counts) <= LOOKED_AT + 2
    assert {id(endpoint.limit) for endpoint in endpoints} == {id(limit) for limit in seen}


def test_one_that_was_freed_is_looked_at() -> None:
    """In a saturated pool it is the only one that may have a call, wherever it stands."""
    balancer, endpoints = _pool(1000, max_inflight=1)
    for endpoint in endpoints:
        _send(balancer, endpoint)
    for number in (999, 17, 500):
        _settle(balancer, endpoints[number])
        chosen = _choose(balancer)
        assert chosen is not None
        _send(balancer, chosen)

        assert endpoints[number] is chosen
        assert _choose(balancer) is None


def test_the_only_one_that_is_up_is_found() -> None:
    """All others being down: nothing is in flight, so nobody would ask again."""
    balancer, endpoints = _pool(1000)
    for endpoint in endpoints:
        endpoint.up = endpoint is endpoints[700]

    assert endpoints[700] is _choose(balancer)


def test_idle_ones_are_found_among_busy_ones() -> None:
    """Every idle endpoint of a large pool gets a call before any call waits; likewise those that came back."""
    balancer, endpoints = _pool(200, max_inflight=1)
    for endpoint in endpoints[150:]:
        endpoint.up = False
    chosen = set()
    while (found := _choose(balancer)) is not None:
        _send(balancer, found)
        chosen.add(found)

    assert {*endpoints[:150]} == chosen
    endpoints[170].up = True
    balancer.freed(endpoints[170])
    assert endpoints[170] is _choose(balancer)


# -- unmerged calls ----------------------------------------------------------------------------------


def test_unmerged_calls_take_no_slot() -> None:
    """They have a limit of their own, but count in the load."""
    balancer, (e0,) = _pool(1, max_inflight=1, max_relayed=2)
    balancer.acquire_relay(3)
    balancer.acquire_relay(3)

    assert balancer.acquire_relay(3) is None
    assert e0 is _choose(balancer)
    assert (2, 0, 6) == (e0.relayed, e0.in_flight, e0.rows)


def test_an_endpoint_that_comes_back_is_tried_whatever_it_is_said_to_cost() -> None:
    """Its last answers were slow because it was dying; it would never be asked again."""
    balancer, (e0, e1) = _pool(2)
    _teach(e0, 9.0)
    _teach(e1, 0.001)
    before = balancer.choose(KEY, 1, CAP, 0.0)[0]
    e0.trials = 2
    after = [balancer.choose(KEY, 1, CAP, 0.0)[0] for _ in range(3)]

    assert e1 is before
    assert [e0, e0, e1] == after
