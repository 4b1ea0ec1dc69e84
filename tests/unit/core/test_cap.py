"""Tests of batchproxy.core.cap."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.core.cap import FLOOR, PAUSE, WINDOWS, Cap, power
from batchproxy.core.cost import Cost


def _line(alpha: float, beta: float) -> Cost:
    cost = Cost()
    for turn in range(64):
        for rows in (1, 8, 64):
            cost.learn(rows, alpha + beta * rows, turn)
    return cost


def _play(cap: Cap, rate: Callable[[int], float], cost: Cost, windows: int = 400) -> list[int]:
    """The sizes that were in use, window by window."""
    seen = []
    for _ in range(windows):
        seen.append(cap.rows)
        cap.judge(cost, rate(cap.rows))
    return seen


@pytest.mark.parametrize(("alpha", "beta"), [(0.008, 0.00025), (0.001, 0.00001)])
def test_grows_while_rows_are_cheap(alpha: float, beta: float) -> None:
    """Where a batch costs much and a row little, the cap ends where growth stops paying or is not allowed."""
    cap = Cap(64, 1024)
    seen = _play(cap, lambda rows: rows / (alpha + beta * rows), _line(alpha, beta))

    assert max(seen) <= 1024
    assert 512 <= cap._settled <= 1024


def test_a_knee_is_found_and_stepped_back_from() -> None:
    """Beyond 128 rows each costs a millisecond: twice that is tried, seldom, and not kept."""
    cap = Cap(64, 1024)
    seen = _play(cap, lambda rows: rows / (0.008 + 0.00025 * rows + 0.001 * max(0, rows - 128)), _line(0.008, 0.00025))

    assert 128 == cap._settled
    assert 256 in seen
    assert seen.count(256) < 12 * WINDOWS


def test_shrinks_where_rows_save_nothing() -> None:
    """Where a row costs nearly as much as a batch, smaller batches are as fast, and answer sooner."""
    cap = Cap(64, 64)
    seen = _play(cap, lambda rows: rows / (0.001 + 0.004 * rows), _line(0.001, 0.004))

    assert FLOOR <= cap._settled <= 16
    assert max(seen) == 64


def test_does_not_try_what_is_known_to_be_a_loss() -> None:
    """Half the rows of an accelerator's batch are never tried."""
    cap = Cap(64, 64)
    seen = _play(cap, lambda rows: rows / (0.008 + 0.00025 * rows), _line(0.008, 0.00025))

    assert {64} == set(seen)


def test_a_try_that_failed_is_not_repeated_soon() -> None:
    """The pause after a failure doubles."""
    cap = Cap(64, 128)
    seen = _play(cap, lambda rows: 1000.0, _line(0.008, 0.0), windows=200)
    tries = [place for place, rows in enumerate(seen) if rows == 128 and seen[place - 1] == 64]

    assert len(tries) > 2
    assert all(later - earlier >= PAUSE for earlier, later in pairwise(tries))
    assert tries[2] - tries[1] > tries[1] - tries[0]
    assert "Cap(64 rows of 128)" == repr(Cap(64, 128))


def test_what_a_backend_refuses_is_not_tried_again() -> None:
    """Only what was tried on top of the declared rows: a refusal of those may pass."""
    cap = Cap(64, 1024)
    before = cap.refused(32)
    _play(cap, float, _line(0.008, 0.0))
    grown = cap.rows
    after = cap.refused(128)

    assert (False, True) == (before, after)
    assert grown > 128
    assert (128, 128) == (cap.rows, cap.most)
    assert {128} == set(_play(cap, float, _line(0.008, 0.0)))


@given(rows=st.integers(1, 3000))
def test_power(rows: int) -> None:
    """The largest one that is no larger."""
    found = power(rows)

    assert found <= rows < 2 * found
    assert 1 == found.bit_count()


def test_rounded_caps_begin_again() -> None:
    """With a power of two, and what they try is one, too."""
    cap = Cap(48, 1000)
    before = set(_play(cap, float, _line(0.008, 0.0)))
    cap.round()
    began = cap.rows

    assert before > {48, 96}
    assert (32, 512) == (began, cap.most)
    assert {32, 64, 128, 256, 512} >= set(_play(cap, float, _line(0.008, 0.0))) > {32, 64}
