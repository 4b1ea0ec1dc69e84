"""Tests of batchproxy.core.book: totals, and what they are begun with again."""

from __future__ import annotations

from batchproxy.core.book import Book, Share, Waiting
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
