"""Tests of batchproxy.core.book: totals, and what they are begun with again."""

from __future__ import annotations

import pytest

from batchproxy.core.book import Book, Share, Waiting
from batchproxy.core.pace import EASE, Hurry
from batchproxy.core.policy import Policy


def test_what_waits_of_a_model_counts_for_its_pool() -> None:
    """And what no longer does is taken off both."""
    waiting = Waiting()
    one, other = Book(Policy(), waiting), Book(Policy(), waiting)
    one.add(3, 30)
    other.add(4, 40)
    one.add(-1, -10)

    assert (2, 4, 6, 60) == (one.rows, other.rows, waiting.rows, waiting.nbytes)


def test_another_policy_begins_anew_and_keeps_what_waits() -> None:
    """Its bounds are the new ones."""
    book = Book(Policy(max_batch_rows=8, max_queued_rows=80))
    book.add(5, 50)
    book.rounded = True
    book.begin(Policy(max_batch_rows=4, max_queued_rows=40, allowed_batch_sizes=(1, 4)))

    assert (5, 4, 40, False, False) == (book.rows, book.cap.rows, book.max_rows, book.rounded, book.tried)


def test_a_share_begins_with_nothing() -> None:
    """Lanes add to it."""
    share = Share()

    assert (0, 0) == (share.rows, share.lanes)


@pytest.mark.parametrize(
    ("policy", "most", "rows"),
    [
        (Policy(max_batch_rows=64, grows=True), 256, 256),
        (Policy(max_batch_rows=64, grows=True), 8, 8),
        (Policy(max_batch_rows=64, grows=True), 1 << 30, 1024),
        (Policy(max_batch_rows=64), 256, 64),
        (Policy(max_batch_rows=64), 8, 8),
    ],
)
def test_what_a_server_takes_at_most(policy: Policy, most: int, rows: int) -> None:
    """It is where batches start and where they end, unless fewer rows are configured; no news is none."""
    book = Book(policy)

    assert book.declare(most)
    assert (rows, rows, False) == (book.cap.rows, book.cap.most, book.learned)
    assert not book.declare(most)
    assert book.declare(None)
    assert 64 == book.cap.rows


def test_what_was_learned_stays_as_far_as_the_server_takes_it() -> None:
    """Rounding, too; and another policy does not forget what the server said."""
    book = Book(Policy(max_batch_rows=64, grows=True))
    book.cap.restore(16, 1024)
    book.declare(100)
    learned = book.cap.rows
    book.rounded = True
    book.declare(24)
    rounded = book.cap.rows
    book.begin(Policy(max_batch_rows=32, grows=True))

    assert (16, 16, 24) == (learned, rounded, book.cap.rows)


def test_a_queue_that_is_kept_short_leaves_endpoints_less_ahead() -> None:
    """As hurried callers do, whose deadlines stay what they are; another policy ends that."""
    book, hurry = Book(Policy()), Hurry(3.0, 9.0)
    before = book.kept(hurry)
    book.ahead_s = 0.5
    during = book.kept(hurry), book.kept(Hurry(0.1, 1.0)), book.kept(EASE)
    book.begin(Policy())

    assert before is hurry
    assert (Hurry(0.5, 9.0), Hurry(0.1, 1.0), Hurry(0.5)) == during
    assert book.kept(hurry) is hurry
