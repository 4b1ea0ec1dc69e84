"""Tests of batchproxy.core.balancer: what it makes of endpoints that are new, back, or left out."""

from __future__ import annotations

from math import inf

from batchproxy.core.balancer import LOOKED_AT, SLOW_START_S, UNPROVEN, Balancer, Endpoint
from batchproxy.testing import a_request

KEY = a_request().key
CAP = 8


def _pool(count: int, *, max_inflight: int | None = None) -> tuple[Balancer, list[Endpoint]]:
    endpoints = [Endpoint(f"e{number}", max_inflight=max_inflight, max_relayed=2) for number in range(count)]
    for endpoint in endpoints:
        endpoint.up = True
    return Balancer(endpoints), endpoints


def _fill(balancer: Balancer, now: float = 0.0) -> dict[str, int]:
    """Full batches until there is no room; how many went where."""
    sent: dict[str, int] = {}
    while (chosen := balancer.choose(KEY, CAP, CAP, now)[0]) is not None:
        balancer.take(chosen, CAP)
        chosen.limit.depart(now)
        sent[chosen.name] = sent.get(chosen.name, 0) + 1
    return sent


def test_who_never_answered_gets_few_batches() -> None:
    """It may hang, and each batch there would wait for a time limit."""
    balancer, endpoints = _pool(2)
    endpoints[0].last_answer = 0.0
    sent = _fill(balancer)

    assert UNPROVEN == sent["e1"]
    assert sent["e0"] > 2 * UNPROVEN
    endpoints[1].last_answer = 1.0
    assert balancer.choose(KEY, CAP, CAP, 1.0)[0] is endpoints[1]


def test_where_there_is_no_other_or_a_limit_was_set_nothing_is_held_back() -> None:
    """The one may be hoped for, the other was asked for."""
    alone, _ = _pool(1)
    fixed, _ = _pool(2, max_inflight=5)

    assert _fill(alone)["e0"] > UNPROVEN
    assert {"e0": 5, "e1": 5} == _fill(fixed)


def test_left_out_endpoint_is_not_chosen() -> None:
    """Neither for batches nor for calls that are not merged, in pools of any size."""
    for count in (2, 3 * LOOKED_AT):
        balancer, endpoints = _pool(count, max_inflight=1)
        for endpoint in endpoints[1:]:
            endpoint.out = True

        assert {"e0": 1} == _fill(balancer)
        assert [endpoints[0], endpoints[0], None] == [balancer.acquire_relay(1) for _ in range(3)]


def test_who_is_back_gets_little_at_first() -> None:
    """Its answers seem later than they are: ten times at first, then less and less."""
    balancer, endpoints = _pool(2, max_inflight=64)
    for endpoint in endpoints:
        endpoint.cost(KEY).learn(CAP, 0.010, 1)
    endpoints[0].warm_at = inf
    shares = [_share(balancer, endpoints, now) for now in (100.0, 100.0 + SLOW_START_S / 2, 100.0 + SLOW_START_S)]

    assert 100.0 + SLOW_START_S == endpoints[0].warm_at
    assert 0.0 < shares[0] < 0.15
    assert 0.25 < shares[1] < 0.40
    assert 0.45 < shares[2] < 0.55


def _share(balancer: Balancer, endpoints: list[Endpoint], now: float) -> float:
    """Of 40 batches that are in flight at once, the part that goes to the first endpoint."""
    for endpoint in endpoints:
        endpoint.limit.in_flight = endpoint.rows = 0
        endpoint.limit.ceiling = 1.0
    chosen = []
    for _ in range(40):
        best = balancer.choose(KEY, CAP, CAP, now)[0]
        assert best is not None
        balancer.take(best, CAP)
        best.limit.depart(now)
        chosen.append(best)
    return chosen.count(endpoints[0]) / len(chosen)


def test_any_up_remembers_who_was() -> None:
    """It is asked for each request, of a thousand endpoints."""
    balancer, endpoints = _pool(3)
    first = balancer.any_up()
    endpoints[0].up = False
    second = balancer.any_up()
    for endpoint in endpoints:
        endpoint.up = False

    assert (True, True, False) == (first, second, balancer.any_up())


def test_unmerged_calls_spread_over_a_large_pool() -> None:
    """Only a few are looked at for each, in turn; where those have no room, all are."""
    balancer, endpoints = _pool(5 * LOOKED_AT)
    chosen = [balancer.acquire_relay(1) for _ in endpoints]
    used = len(set(chosen))
    chosen += [balancer.acquire_relay(1) for _ in endpoints]

    assert used > 0.9 * len(endpoints)
    assert all(endpoint.relayed == 2 for endpoint in endpoints)
    assert balancer.acquire_relay(1) is None


def test_avoided_endpoint_is_the_last_choice_of_a_large_pool_too() -> None:
    """Even where it is the only one among the few that are looked at."""
    balancer, endpoints = _pool(2 * LOOKED_AT)
    for endpoint in endpoints[1:LOOKED_AT]:
        endpoint.up = False

    chosen = balancer.acquire_relay(1, endpoints[:1])
    assert chosen in endpoints[LOOKED_AT:]
