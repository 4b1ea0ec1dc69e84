"""Tests of batchproxy.core.allowance."""

from __future__ import annotations

from math import inf

from batchproxy.core.allowance import MEMORY_BATCHES, Allowance
from batchproxy.core.book import Book
from batchproxy.core.cost import Cost
from batchproxy.core.policy import Policy


def test_two_bad_batches_within_memory_halve_the_cap_until_as_many_clean_ones() -> None:
    """One bad batch is an accident; a second one within 32 is not (R3)."""
    lane = Allowance(Book(Policy(max_batch_rows=8)))

    assert not lane.note(bad=True)
    assert 8 == lane.cap
    assert lane.note(bad=True)
    assert 4 == lane.cap

    for _ in range(MEMORY_BATCHES - 1):
        assert not lane.note(bad=False)

    assert 4 == lane.cap
    assert not lane.note(bad=False)
    assert 8 == lane.cap


def test_cap_falls_to_one_row_at_least() -> None:
    """Batch after bad batch, and still something is sent."""
    lane = Allowance(Book(Policy(max_batch_rows=8)))

    assert [False, True, True, True, False] == [lane.note(bad=True) for _ in range(5)]
    assert 1 == lane.cap


def test_cap_never_rises_by_being_lowered() -> None:
    """A larger half that passed later says nothing new."""
    lane = Allowance(Book(Policy(max_batch_rows=8)))

    assert lane.lower_cap(3)
    assert not lane.lower_cap(5)
    assert 3 == lane.cap


def test_rounded_lanes_have_the_caps_of_their_model() -> None:
    """One in quarantine keeps a smaller one, a power of two."""
    lane, quarantined = (Allowance(Book(Policy(max_batch_rows=48))) for _ in range(2))
    quarantined.lower_cap(20)
    for each in (lane, quarantined):
        each.book.cap.round()

    assert [(True, 32), (True, 16)] == [(each.round(), each.cap) for each in (lane, quarantined)]
    assert not lane.round()


def test_batches_are_no_larger_than_time_allows() -> None:
    """By the model's objective and what a batch costs; caps that change and quarantines hold beside it."""
    cost = Cost()
    cost.alpha, cost.beta, cost.known = 0.001, 0.004, True
    lane = Allowance(book := Book(Policy(max_batch_rows=64, grows=True, slo_s=0.1)))
    bounded = lane.bind(cost, inf)
    assert 8 <= bounded <= 12
    assert bounded == lane.cap

    book.cap.restore(128, 1024)
    lane.fit()
    assert bounded == lane.cap
    lane.lower_cap(4)
    assert 4 == lane.bind(cost, inf)
    for _ in range(MEMORY_BATCHES):
        lane.note(bad=False)
    assert bounded == lane.bind(cost, inf)
    cost.beta = 0.0
    assert 128 == lane.bind(cost, inf)
    assert 128 == lane.cap


def test_bounded_batches_have_allowed_sizes() -> None:
    """The largest of those that are quick enough."""
    cost = Cost()
    cost.alpha, cost.beta, cost.known = 0.001, 0.004, True
    lane = Allowance(Book(Policy(max_batch_rows=64, allowed_batch_sizes=(2, 8, 64), slo_s=0.1)))

    assert 8 == lane.bind(cost, inf)


def test_callers_patience_bounds_batches() -> None:
    """Without any objective."""
    cost = Cost()
    cost.alpha, cost.beta, cost.known = 0.001, 0.004, True
    lane = Allowance(Book(Policy(max_batch_rows=64)))

    assert 64 == lane.bind(cost, inf)
    assert 8 <= lane.bind(cost, 0.1) <= 12
