"""Tests of batchproxy.core.overflow: on servers that thrash, and on those that do not."""

from __future__ import annotations

from random import Random

import pytest

from batchproxy.core.overflow import FREE, NONE, ONE, PAUSE, WINDOWS, Overflow


def _lived(rates: tuple[float, float, float], windows: int = 200, *, noise: float = 0.0, seed: int = 1) -> Overflow:
    """On a server that works off so many rows a second at each level."""
    overflow, draw = Overflow(), Random(seed)
    for _ in range(windows):
        overflow.judge(rates[overflow.level] * draw.lognormvariate(0.0, noise))
    return overflow


def _settled(rates: tuple[float, float, float], seed: int = 1) -> list[int]:
    """How many of 400 windows were spent at each level, with the noise of eight batches."""
    overflow, draw = Overflow(), Random(seed)
    spent = [0, 0, 0]
    for _ in range(400):
        spent[overflow.level] += 1
        overflow.judge(rates[overflow.level] * draw.lognormvariate(0.0, 0.03))
    return spent


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("rates", "level"),
    [
        ((94.0, 100.0, 100.0), FREE),
        ((100.0, 100.0, 100.0), FREE),
        ((88.0, 100.0, 70.0), ONE),
        ((100.0, 91.0, 70.0), NONE),
    ],
)
def test_most_windows_are_spent_where_most_is_worked_off(
    rates: tuple[float, float, float], level: int, seed: int
) -> None:
    """Tries become seldom; where all are alike batches go free."""
    spent = _settled(rates, seed)

    assert spent[level] > 0.6 * sum(spent)


def test_nothing_is_tried_at_once() -> None:
    """The present level is judged first."""
    overflow = _lived((100.0, 100.0, 100.0), PAUSE + WINDOWS - 1)
    assert FREE == overflow.level

    assert overflow.judge(100.0)
    assert ONE == overflow.level


def test_what_changes_is_followed() -> None:
    """A server that stops thrashing, or begins to."""
    overflow = Overflow()
    for rates, level in (((100.0, 91.0, 60.0), NONE), ((94.0, 100.0, 120.0), FREE), ((100.0, 91.0, 60.0), NONE)):
        for _ in range(600):
            overflow.judge(rates[overflow.level])
        spent = [0, 0, 0]
        for _ in range(200):
            spent[overflow.level] += 1
            overflow.judge(rates[overflow.level])

        assert max(spent) == spent[level]


def test_full_batches_beyond_the_limit() -> None:
    """None, one, or as many again and one."""
    overflow = Overflow()
    found = []
    for level in (NONE, ONE, FREE):
        overflow.level = level
        found.append(overflow.full(4, 6))

    assert [4, 5, 13] == found
    assert "Overflow(level=2)" == repr(overflow)
