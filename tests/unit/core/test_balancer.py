"""Tests of batchproxy.core.balancer."""

from __future__ import annotations

from batchproxy.core.balancer import Balancer, Endpoint


def _pool(count: int, **limits: int) -> tuple[Balancer, list[Endpoint]]:
    endpoints = [Endpoint(f"e{number}", **limits) for number in range(count)]
    for endpoint in endpoints:
        endpoint.up = True
    return Balancer(endpoints), endpoints


def test_endpoint_is_down_until_it_answers() -> None:
    """A new endpoint is not used, and says why."""
    endpoint = Endpoint("e0")

    assert not Balancer([endpoint]).any_up()
    assert not Balancer([endpoint]).free_slot()
    assert Balancer([endpoint]).acquire_slot(1) is None
    assert Balancer([endpoint]).acquire_relay(1) is None
    assert "not probed yet" == endpoint.last_error
    assert "Endpoint(e0, down, in_flight=0/2, rows=0)" == repr(endpoint)


def test_least_rows_are_chosen() -> None:
    """The endpoint with fewest outstanding rows gets the next call, whichever has fewer calls."""
    balancer, (e0, e1) = _pool(2, max_inflight=9)

    chosen = [balancer.acquire_slot(rows) for rows in (5, 2, 2, 2, 1)]

    assert [e0, e1, e1, e1, e0] == chosen
    assert (6, 6) == (e0.rows, e1.rows)
    assert "Endpoint(e0, up, in_flight=2/9, rows=6)" == repr(e0)


def test_equals_take_turns() -> None:
    """Where rows are equal, the one used longest ago is next."""
    balancer, endpoints = _pool(3)
    chosen = []
    for _ in range(6):
        endpoint = balancer.acquire_slot(1)
        assert endpoint is not None
        chosen.append(endpoint)
        endpoint.in_flight, endpoint.rows = 0, 0

    assert [*endpoints, *endpoints] == chosen


def test_slots_are_a_limit() -> None:
    """No endpoint gets more merged calls than it has slots."""
    balancer, _ = _pool(2, max_inflight=1)

    assert balancer.acquire_slot(1) is not None
    assert balancer.free_slot()
    assert balancer.acquire_slot(1) is not None
    assert not balancer.free_slot()
    assert balancer.acquire_slot(1) is None


def test_avoided_endpoint_is_the_last_choice() -> None:
    """The one that failed is used only where no other is free; for merged calls and others."""
    balancer, (e0, e1) = _pool(2, max_inflight=1, max_relayed=1)

    assert e1 is balancer.acquire_slot(1, avoid=e0)
    assert e0 is balancer.acquire_slot(1, avoid=e0)
    assert e1 is balancer.acquire_relay(1, avoid=e0)
    assert e0 is balancer.acquire_relay(1, avoid=e0)


def test_unmerged_calls_take_no_slot() -> None:
    """They have a limit of their own, but count in the load."""
    balancer, (e0,) = _pool(1, max_inflight=1, max_relayed=2)
    balancer.acquire_relay(3)
    balancer.acquire_relay(3)

    assert balancer.acquire_relay(3) is None
    assert balancer.free_slot()
    assert (2, 0, 6) == (e0.relayed, e0.in_flight, e0.rows)


def test_any_up() -> None:
    """One endpoint that is up is enough."""
    balancer, (e0, _) = _pool(2)
    e0.up = False

    assert balancer.any_up()
