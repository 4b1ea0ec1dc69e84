"""Tests of batchproxy.core.sharing: who waits for whom in a pool of unequal endpoints."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.core.balancer import Balancer, Endpoint
from batchproxy.core.cost import Cost
from batchproxy.core.limit import Limit
from batchproxy.core.pace import EASE, Hurry
from batchproxy.core.request import BatchKey
from batchproxy.core.sharing import Sharing

KEY = BatchKey("m", None, "serving_default")
CAP = 32


def a_cost(speed: float = 1.0, rows: float = CAP) -> Cost:
    """(10 ms + 1 ms a row) / speed; batches have had so many rows."""
    cost = Cost()
    for turn, size in enumerate((1, CAP) * 4):
        cost.learn(size, (0.010 + 0.001 * size) / speed, turn)
    cost.rows = rows
    return cost


def a_limit(in_flight: int, lanes: float = 1.0, last_sent: float = -inf) -> Limit:
    """One that has so many batches."""
    limit = Limit()
    limit.ceiling = lanes
    limit.in_flight, limit.last_sent = in_flight, last_sent
    limit.partial = max(1, int(lanes))
    return limit


def test_where_capacity_is_short_batches_that_are_not_full_are_spaced() -> None:
    """By the pace of all endpoints together, from the last batch of any of them on."""
    slow, fast = a_cost(1.0), a_cost(4.0)
    idle, busy = a_limit(0), a_limit(1, last_sent=5.0)
    opens = []
    for rows in (4, 16):
        sharing = Sharing(rows, CAP, 5.0)
        sharing.add(idle, slow, 5.0)
        sharing.add(busy, fast, inf)
        opens.append(sharing.opens(idle, slow, slow.seconds(rows)))

    assert 5.0 < opens[0] < opens[1] < 5.0 + slow.seconds(16)


@pytest.mark.parametrize(("rows", "in_flight"), [(4.0, 1), (float(CAP), 0)])
def test_where_there_is_little_to_do_nobody_waits(rows: float, in_flight: int) -> None:
    """While batches are small, or nothing is in flight anywhere."""
    slow, fast = a_cost(1.0, rows), a_cost(4.0, rows)
    sharing = Sharing(4, CAP, 5.0)
    sharing.add(idle := a_limit(0), slow, 5.0)
    sharing.add(a_limit(in_flight, last_sent=5.0), fast, inf)

    assert 5.0 == sharing.opens(idle, slow, slow.seconds(4))


def test_a_batch_waits_for_a_faster_endpoint_whose_turn_is_soon() -> None:
    """If that answers it clearly sooner; and not for one that is as good as equal, or being emptied."""
    slow, fast, equal = a_cost(1.0, 2.0), a_cost(4.0, 2.0), a_cost(1.1, 2.0)
    found = []
    for other, draining in ((fast, False), (equal, False), (fast, True)):
        sharing = Sharing(4, CAP, 5.0)
        sharing.add(idle := a_limit(0, 4.0), slow, 5.0)
        sharing.add(soon := a_limit(3, 4.0), other, inf)
        soon.draining = draining
        sharing.add(soon, other, 5.001)
        found.append(sharing.opens(idle, slow, slow.seconds(4)))

    assert [5.001, 5.0, 5.0] == found


def test_a_caller_whose_time_is_nearly_up_is_not_kept() -> None:
    """The endpoint is told, so that the reason can be; who has time waits as everybody."""
    slow = a_cost(1.0)
    found = []
    for hurry in (EASE, Hurry(1.0, 5.9), Hurry(1.0, 5.01)):
        sharing = Sharing(16, CAP, 5.0, hurry)
        sharing.add(idle := a_limit(0), slow, 5.0)
        sharing.add(a_limit(1, last_sent=5.0), slow, inf)
        found.append((sharing.opens(idle, slow, slow.seconds(16)), idle.hurried))

    (at_ease, _), in_time, late = found
    assert at_ease > 5.0
    assert (at_ease, False) == in_time
    assert (5.0, True) == late


@given(
    st.lists(st.tuples(st.integers(0, 8), st.floats(0.1, 10), st.floats(1, CAP)), min_size=2, max_size=6),
    st.integers(1, CAP - 1),
)
def test_nobody_waits_for_longer_than_a_batch_takes(others: list[tuple[int, float, float]], rows: int) -> None:
    """Whatever the others do: it is a place among theirs that is waited for."""
    sharing = Sharing(rows, CAP, 5.0)
    for in_flight, speed, mean in others:
        sharing.add(a_limit(in_flight, 4.0, 5.0), a_cost(speed, mean), inf)
    limit, cost = a_limit(0, 4.0, 5.0), a_cost()
    sharing.add(limit, cost, 5.0)
    opens = sharing.opens(limit, cost, cost.seconds(rows))

    assert 5.0 <= opens <= 5.0 + 2.0 * cost.seconds(rows)


def a_pool(*speeds: float) -> tuple[Balancer, list[Endpoint]]:
    """Endpoints that have answered, with four lanes each, whose batches are full."""
    endpoints = [Endpoint(f"e{number}") for number in range(len(speeds))]
    for endpoint, speed in zip(endpoints, speeds, strict=True):
        endpoint.up, endpoint.last_answer = True, 0.0
        endpoint.cost(KEY).restore(a_cost(speed).state())
        endpoint.limit.restore({"ceiling": 4.0, "partial": 4, "full": 9, "starting": 0, "turn": 5})
    return Balancer(endpoints), endpoints


@pytest.mark.parametrize(("rows", "chosen"), [(float(CAP), "e0"), (2.0, "e1")])
def test_a_full_batch_takes_a_free_place_where_capacity_is_short(rows: float, chosen: str) -> None:
    """Else it goes behind others at the faster endpoint, which answers it sooner."""
    balancer, (slow, fast) = a_pool(1.0, 8.0)
    for endpoint in (slow, fast):
        endpoint.cost(KEY).rows = rows
    fast.limit.in_flight = 4
    best, _ = balancer.choose(KEY, CAP, CAP, 1.0)

    assert best is not None
    assert chosen == best.name


def test_what_may_not_leave_yet_is_told_from_when_on() -> None:
    """As where one endpoint's own pace decides."""
    balancer, (slow, fast) = a_pool(1.0, 4.0)
    fast.limit.in_flight, fast.limit.last_sent = 4, 1.0
    slow.limit.in_flight, slow.limit.last_sent = 1, 0.5
    first, opens = balancer.choose(KEY, 20, CAP, 1.0)
    then, _ = balancer.choose(KEY, 20, CAP, opens)

    assert first is None
    assert 1.0 < opens < 1.1
    assert then is slow
