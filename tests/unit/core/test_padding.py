"""Tests of batchproxy.core.padding: what is padded to what, and when fewer rows are sent instead."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.core.batch import Batch
from batchproxy.core.book import Book
from batchproxy.core.cap import CEILING
from batchproxy.core.cost import Cost
from batchproxy.core.lane import Lane
from batchproxy.core.padding import Rounded, rows_sent, rows_to_take
from batchproxy.core.policy import Policy
from batchproxy.core.raw import REST, RawCall
from batchproxy.core.request import Entry
from batchproxy.testing import StubWaiter, a_request

FIXED_COST = [(1, 1.0), (64, 1.0)]
PER_ROW = [(1, 0.01), (64, 0.64)]


def _cost(points: list[tuple[int, float]]) -> Cost:
    cost = Cost()
    for turn in range(8):
        for rows, seconds in points:
            cost.learn(rows, seconds, turn)
    return cost


def _entries(*rows: int) -> list[Entry]:
    return [Entry(a_request(size), StubWaiter(), 0.0) for size in rows]


def _lane(policy: Policy, *rows: int) -> Lane:
    lane = Lane(a_request().key, Book(policy))
    for entry in _entries(*rows):
        lane.push(entry)
    return lane


@pytest.mark.parametrize(
    ("policy", "sizes"),
    [
        (Policy(max_batch_rows=8), (1, 2, 4, 8)),
        (Policy(max_batch_rows=6), (1, 2, 4, 6)),
        (Policy(max_batch_rows=1), (1,)),
        (Policy(grows=True), tuple(1 << exponent for exponent in range(11))),
    ],
)
def test_sizes_are_powers_of_two_up_to_the_largest_batch(policy: Policy, sizes: tuple[int, ...]) -> None:
    """None is larger; one that may grow has those up to where growth stops."""
    policies = Rounded({"m": policy, "n": policy})
    rounded = policies.round("m")

    assert (True, sizes, ()) == (rounded, policies["m"].allowed_batch_sizes, policies["n"].allowed_batch_sizes)
    assert CEILING == 1024
    assert ["m", "n"] == list(policies)
    assert 2 == len(policies)


def test_configured_sizes_stay() -> None:
    """Somebody knows better; and what was rounded is not rounded again."""
    policies = Rounded({"m": Policy(max_batch_rows=8, allowed_batch_sizes=(3, 8)), "n": Policy()})

    assert [False, True, False] == [policies.round("m"), policies.round("n"), policies.round("n")]
    assert (3, 8) == policies["m"].allowed_batch_sizes


@given(rows=st.integers(1, 2000), most=st.integers(1, 1024))
def test_padding_is_less_than_twice_and_no_more_than_fits(rows: int, most: int) -> None:
    """Whatever the largest batch; a larger request is sent as it is."""
    policies = Rounded({"m": Policy(max_batch_rows=most)})
    policies.round("m")
    sent = policies["m"].padded(rows)

    assert rows <= sent < 2 * rows
    assert sent <= max(rows, most)


def test_what_goes_as_it_came_is_not_padded() -> None:
    """Neither is a batch whose padding could not be undone."""
    policy = Policy(max_batch_rows=8, allowed_batch_sizes=(4, 8))
    raw = a_request(3)
    raw.raw = RawCall(REST, "POST", "/", (), b"")
    plain, lone = Batch(_entries(2, 3), merged=True), Batch([Entry(raw, StubWaiter(), 0.0)], merged=True)
    alone = Batch(_entries(3), merged=False)

    assert [8, 3, 3] == [rows_sent(batch, policy) for batch in (plain, lone, alone)]


@pytest.mark.parametrize(
    ("points", "rows", "taken"),
    [
        (FIXED_COST, [1] * 5, 8),  # the padding is free
        (PER_ROW, [1] * 5, 4),  # the padding costs what rows cost
        (PER_ROW, [1] * 4, 8),  # no padding needed
        (PER_ROW, [3, 2], 4),  # 3 rows are sent as 4: 1.33 each, the 5 as 8: 1.6
        (PER_ROW, [2, 3, 1, 1], 8),  # 2 rows as 4 would cost 2 each, the 7 as 8: 1.14
        (PER_ROW, [5], 8),  # it cannot be cut
        (PER_ROW, [1], 8),  # there is no smaller size
        (PER_ROW, [9], 8),  # more than a batch has: alone, as it is
        ([], [1] * 5, 8),  # nothing is known
    ],
)
def test_up_or_down_by_what_it_costs_a_row(points: list[tuple[int, float]], rows: list[int], taken: int) -> None:
    """Sizes 4 and 8: ``T(8) / q`` is held against what a smaller batch would cost a row."""
    lane = _lane(Policy(max_batch_rows=8, allowed_batch_sizes=(4, 8)), *rows)

    assert taken == rows_to_take(lane, 8, _cost(points))


def test_padding_does_not_pass_the_bound_on_bytes() -> None:
    """While nothing is known of the cost, too."""
    lane = _lane(Policy(max_batch_rows=8, max_batch_bytes=56, allowed_batch_sizes=(4, 8)), *[1] * 5)

    assert 4 == rows_to_take(lane, 8, Cost())


@given(
    rows=st.lists(st.integers(1, 12), min_size=1, max_size=40),
    alpha=st.floats(0.0, 1.0),
    beta=st.floats(1e-4, 1.0),
    cap=st.sampled_from((1, 8, 16)),
)
def test_what_is_taken_costs_no_more_a_row(rows: list[int], alpha: float, beta: float, cap: int) -> None:
    """Than all that would fit; and it is never more than the cap, but for a request that goes alone."""
    policies = Rounded({"m": Policy(max_batch_rows=16)})
    policies.round("m")
    policy = policies["m"]
    cost = _cost([(1, alpha + beta), (16, alpha + 16 * beta)])
    lane = _lane(policy, *rows)
    whole, _ = lane.fitting(cap)
    taken, _ = lane.take(0.0, rows_to_take(lane, cap, cost))
    sent = sum(entry.request.rows or 0 for entry in taken)

    assert cost.seconds(policy.padded(sent)) / sent <= cost.seconds(policy.padded(whole)) / whole * (1 + 1e-9)
    assert sent <= max(cap, rows[0])
