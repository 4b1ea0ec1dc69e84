"""Tests of batchproxy.core.batch."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchproxy.core.balancer import Endpoint
from batchproxy.core.batch import Batch, Bisection, Dispatch, Release
from batchproxy.core.request import Entry, State
from batchproxy.testing import FIXED, StubWaiter, a_request


def _entries(count: int) -> list[Entry]:
    return [Entry(a_request(2, first=place), StubWaiter(), 0.0) for place in range(count)]


def calls_to_find(bad: set[int], count: int, *, at_once: int = 1, seed: int = 0) -> tuple[int, dict[int, int]]:
    """Bisect a batch of ``count`` entries of which ``bad`` fail; (calls in all, entry to good calls it was in).

    Args:
        bad: places of the entries that are refused.
        count: how many entries there are.
        at_once: calls in flight at a time; they end in random order.
        seed: of that order.
    """
    order = random.Random(seed)
    whole = Batch(_entries(count), merged=True)
    place = {entry: number for number, entry in enumerate(whole.entries)}
    whole.family = family = Bisection(count)
    family.park(whole)
    queue, calls, passed = family.release(), 1, dict.fromkeys(range(count), 0)
    in_flight: list[Batch] = []
    while queue or in_flight:
        while queue and len(in_flight) < at_once:
            in_flight.append(queue.pop(0))
            calls += 1
        piece = in_flight.pop(order.randrange(len(in_flight)))
        piece.leave_family()
        places = [place[entry] for entry in piece.entries]
        if bad.isdisjoint(places):
            for number in places:
                passed[number] += 1
        elif len(places) > 1:
            family.park(piece)
        queue = family.release() + queue
        assert 0 <= family.unresolved <= family.calls_left
    assert not family.parked
    return calls, passed


def _ceil_log2(count: int) -> int:
    return math.ceil(math.log2(count))


@pytest.mark.parametrize("at_once", [1, 2, 8])
@pytest.mark.parametrize("count", [2, 3, 4, 5, 7, 8, 12, 16, 31, 32, 33, 63, 64])
def test_one_bad_entry_is_found_in_two_calls_a_level(count: int, at_once: int) -> None:
    """Wherever it stands: 2 * ceil(log2 n) + 1 calls with the rejected one, and nobody good runs twice."""
    for place in range(count):
        calls, passed = calls_to_find({place}, count, at_once=at_once, seed=place)

        assert calls <= 2 * _ceil_log2(count) + 1
        assert {number: int(number != place) for number in range(count)} == passed


@pytest.mark.parametrize("count", range(2, 65))
def test_all_bad_costs_little_more_than_one_call_each(count: int) -> None:
    """n + ceil(log2 n) calls after the rejected one."""
    assert calls_to_find(set(range(count)), count)[0] <= 1 + count + _ceil_log2(count)


@settings(max_examples=300)
@given(
    st.integers(2, 64).flatmap(lambda count: st.tuples(st.just(count), st.sets(st.integers(0, count - 1), min_size=1))),
    st.integers(1, 4),
    st.integers(0, 99),
)
def test_law_of_calls(drawn: tuple[int, set[int]], at_once: int, seed: int) -> None:
    """k bad of n: never over 1 + n + c, and at most k * (2c + 1) up to k = c // 2, with c = ceil(log2 n)."""
    count, bad = drawn
    levels = _ceil_log2(count)

    calls, passed = calls_to_find(bad, count, at_once=at_once, seed=seed)

    assert calls <= 1 + count + levels
    assert len(bad) > max(1, levels // 2) or calls <= len(bad) * (2 * levels + 1)
    assert {number: int(number not in bad) for number in range(count)} == passed


@settings(max_examples=200)
@given(st.sampled_from((16, 32, 64)), st.data())
def test_few_bad_entries_cost_few_calls(count: int, data: st.DataObject) -> None:
    """The same law, looked for where it is tight: as many bad entries as it speaks of."""
    levels = _ceil_log2(count)
    bad = data.draw(st.sets(st.integers(0, count - 1), min_size=1, max_size=levels // 2))

    calls, _ = calls_to_find(bad, count, at_once=data.draw(st.integers(1, 4)), seed=data.draw(st.integers(0, 99)))

    assert calls <= len(bad) * (2 * levels + 1)


def test_batch_counts_its_living_members() -> None:
    """Members that are done are dropped; the others know where they are."""
    entries = _entries(3)
    entries[1].state = State.DONE

    batch = Batch(entries, merged=True)

    assert [entries[0], entries[2]] == batch.entries
    assert (2, 4) == (batch.live, batch.rows)
    assert batch is entries[0].home
    assert "Batch(m, entries=2, rows=4)" == repr(batch)


def test_entry_without_rows_counts_as_one() -> None:
    """What travels alone is a row of load."""
    batch = Batch([Entry(a_request(signature=FIXED), StubWaiter(), 0.0)], merged=False)

    assert 1 == batch.rows
    assert not batch.padded


def test_pieces_inherit_what_is_known() -> None:
    """Pieces keep order, family, padding, and what was learned of the call."""
    batch = Batch(_entries(3), merged=True)
    batch.padded, batch.halved, batch.avoid = False, True, (Endpoint("e0"),)

    first, second = batch.cut([2, 1])

    assert [first.entries, second.entries] == [batch.entries[:2], batch.entries[2:]]
    assert (False, True, batch.avoid) == (first.padded, first.halved, first.avoid)


def test_members_that_leave_a_parked_piece_lower_the_claim() -> None:
    """A piece of four with one member left is cut as a piece of one, and one without any is dropped."""
    batch = Batch(_entries(4), merged=True)
    batch.family = family = Bisection(4)
    family.park(batch)
    for entry in batch.entries[:3]:
        entry.state = State.DONE

    assert [batch.entries[3:]] == [piece.entries for piece in family.release()]
    assert 0 == family.unresolved

    family.park(piece := Batch(_entries(2), merged=True))
    for entry in piece.entries:
        entry.state = State.DONE

    assert [] == family.release()
    assert 0 == family.unresolved


def test_batch_without_family_leaves_none() -> None:
    """A fresh batch has nothing to settle with anybody."""
    batch = Batch(_entries(2), merged=True)
    batch.leave_family()

    assert 0 == batch.claim


def test_dispatch_remembers_what_was_charged() -> None:
    """Members may leave while it runs; the endpoint is credited what it was debited."""
    batch = Batch(_entries(2), merged=True)
    dispatch = Dispatch(batch, Endpoint("e0"), 1.5, Release.SLOT, 8, None)
    batch.rows = 0

    assert (4, 4, 8, 1.5, None) == (
        dispatch.rows, dispatch.sent, dispatch.cap, dispatch.started, dispatch.flight,
    )  # fmt: skip
    assert "Dispatch(Batch(m, entries=2, rows=0) -> e0, slot)" == repr(dispatch)
