"""Tests of batchproxy.core.lanes: how much of a queue one tenant may hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.core.errors import QueueFull
from batchproxy.core.lanes import GENEROUS, Lanes
from batchproxy.core.policy import Policy
from batchproxy.core.request import Entry
from batchproxy.testing import StubWaiter, a_request

ROWS = 90


def _lanes() -> Lanes:
    return Lanes({"m": Policy(max_queued_rows=ROWS)}, 1 << 30)


def _push(lanes: Lanes, tenant: str, width: int = 0) -> Entry | None:
    """A row of this tenant; None: refused."""
    entry = Entry(a_request(tenant=tenant, width=width), StubWaiter(), 0.0)
    try:
        lanes.push(entry)
    except QueueFull:
        return None
    return entry


def _fill(lanes: Lanes, tenant: str) -> list[Entry]:
    entries: list[Entry] = []
    while (entry := _push(lanes, tenant, len(entries) % 3)) is not None:
        entries.append(entry)
    return entries


def test_without_tenants_the_queue_is_anybodys() -> None:
    """All of it."""
    assert ROWS == len(_fill(_lanes(), ""))


def test_a_tenant_alone_leaves_room_for_another() -> None:
    """In whatever shapes it asks; the other one finds a place at once, and gets its share as the queue moves on."""
    lanes = _lanes()
    greedy = _fill(lanes, "greedy")
    others = _fill(lanes, "modest")

    assert ROWS * GENEROUS // (GENEROUS + 1) == len(greedy)
    assert len(others) > 0
    for entry in greedy:  # they leave one by one, and both ask for every place
        lane = lanes.find(entry.request.key)
        assert lane is not None
        lane.remove(entry)
        lanes.rank(lane)
        if _push(lanes, "greedy") is None:
            others += [other for other in [_push(lanes, "modest")] if other is not None]
    assert 0.4 * ROWS < len(others) < 0.6 * ROWS


def test_the_refusal_says_whose_fault_it_is() -> None:
    """Without saying who."""
    lanes = _lanes()
    _push(lanes, "other")
    _fill(lanes, "secret")

    with pytest.raises(
        QueueFull, match=r"\d+ rows of callers with the same headers are waiting, beside 1 of others"
    ) as raised:
        lanes.push(Entry(a_request(tenant="secret"), StubWaiter(), 0.0))
    assert "secret" not in raised.value.message


def test_large_request_of_a_tenant_that_has_nothing_waiting_is_taken() -> None:
    """As long as the bound of all holds."""
    lanes = _lanes()
    lanes.push(Entry(a_request(ROWS, tenant="a"), StubWaiter(), 0.0))

    assert _push(lanes, "b") is None
    assert ROWS == lanes.rows


@given(st.lists(st.tuples(st.sampled_from(("", "a", "b", "c")), st.integers(0, 2), st.booleans()), max_size=300))
def test_shares_add_up(steps: list[tuple[str, int, bool]]) -> None:
    """Whoever comes and goes; of whom nothing waits, nothing is kept."""
    lanes = _lanes()
    waiting: list[Entry] = []
    for tenant, width, leaves in steps:
        if leaves and waiting:
            entry = waiting.pop(len(steps) % len(waiting))
            lane = lanes.find(entry.request.key)
            assert lane is not None
            lane.remove(entry)
            if not lane.live:
                lanes.rank(lane)
        elif (pushed := _push(lanes, tenant, width)) is not None:
            waiting.append(pushed)

    rows: dict[object, int] = {}
    for entry in waiting:
        if entry.request.key.partition:
            where = ("m", entry.request.key.partition)
            rows[where] = rows.get(where, 0) + 1
    assert rows == {where: share.rows for where, share in lanes._shares.items()}
