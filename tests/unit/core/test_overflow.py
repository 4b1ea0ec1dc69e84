"""Tests of batchproxy.core.overflow: on servers that thrash, on those that do not, and on those that change."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

import pytest

from batchproxy.core.overflow import OPENING, Overflow

NOISE = 0.08
FREE = 9


def _shares(cores: int, thrash: float) -> Callable[[int], float]:
    """What a full batch has of the time of a server whose cores are shared, by the number in flight."""
    return lambda crowd: (1 + thrash * max(0, crowd - cores)) / min(crowd, cores)


def _live(
    overflow: Overflow,
    share: Callable[[int], float],
    seed: int,
    batches: int = 3000,
    *,
    load: Callable[[Random], int] = lambda draw: FREE,
    free: int = FREE,
) -> dict[int, int]:
    """Batches that ended at each number in flight, where as many are as ``load`` says or as may be."""
    draw, spent = Random(seed), dict[int, int]()
    for _ in range(batches):
        crowd = int(min(load(draw), overflow.most, free))
        spent[crowd] = spent.get(crowd, 0) + 1
        overflow.ended("kind", crowd, share(crowd) * draw.lognormvariate(0.0, NOISE), NOISE, free)
    return spent


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("cores", [1, 2, 4])
def test_few_are_in_flight_where_more_thrash(cores: int, seed: int) -> None:
    """As many as there are cores, or one more or less, most of the time."""
    spent = _live(Overflow(), _shares(cores, 0.1), seed)
    near = sum(count for crowd, count in spent.items() if abs(crowd - cores) <= 1)

    assert near > 0.8 * sum(spent.values())


def test_noise_that_lone_batches_did_not_show_is_no_thrashing() -> None:
    """A quarter instead of a twelfth: it is seen in the shares, and fewer are tried less often."""
    spent: dict[int, int] = {}
    for seed in range(20):
        overflow, draw = Overflow(), Random(seed)
        for _ in range(1000):
            crowd = int(min(overflow.most, FREE))
            spent[crowd] = spent.get(crowd, 0) + 1
            overflow.ended("kind", crowd, draw.lognormvariate(0.0, 0.25) / min(crowd, 4), NOISE, FREE)

    assert spent[FREE] > 0.55 * sum(spent.values())
    assert sum(count for crowd, count in spent.items() if crowd < 4) < 0.05 * sum(spent.values())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("lanes", [1, 4, 8])
def test_many_are_in_flight_where_nobody_is_in_the_way(lanes: int, seed: int) -> None:
    """As many as may be, most of the time, and never long below the lanes."""
    spent = _live(Overflow(), _shares(lanes, 0.0), seed)
    below = sum(count for crowd, count in spent.items() if crowd < lanes)

    assert spent[FREE] > 0.6 * sum(spent.values())
    assert below < 0.05 * sum(spent.values())


def test_it_takes_few_batches() -> None:
    """Overloaded from its start, a single core has one batch at a time after a hundred, in four of five runs."""
    found = []
    for seed in range(5):
        overflow = Overflow()
        _live(overflow, _shares(1, 0.1), seed, 100, free=3)
        found.append(overflow.most)

    assert sorted(found)[3] <= 2


@pytest.mark.parametrize("seed", range(3))
def test_what_changes_is_followed(seed: int) -> None:
    """A server that gets cores has more batches, and one that loses them fewer."""
    overflow = Overflow()
    for cores in (1, 4, 1):
        _live(overflow, _shares(cores, 0.1), seed, 4000)
        spent = _live(overflow, _shares(cores, 0.1), seed + 10, 1000)
        near = sum(count for crowd, count in spent.items() if abs(crowd - cores) <= 1)

        assert near > 0.7 * sum(spent.values())


@pytest.mark.parametrize("seed", range(5))
def test_a_server_that_slows_down_does_not_thrash(seed: int) -> None:
    """Though what was seen of few batches was seen while it was fast."""
    overflow, lanes = Overflow(), _shares(4, 0.0)
    _live(overflow, lanes, seed, 200, load=lambda draw: draw.randint(1, 5))
    spent = _live(overflow, lambda crowd: 2 * lanes(crowd), seed, 1000)

    assert sum(count for crowd, count in spent.items() if crowd < 4) < 0.1 * sum(spent.values())


def test_the_opening_grows_while_shares_do_not() -> None:
    """Twice as many and one; where batches slow each other it stays."""
    overflow = Overflow()
    found = [overflow.opening]
    for crowd, share in ((5, 1 / 5), (8, 1 / 8), (13, 1 / 8)):
        overflow.ended("kind", crowd, share, NOISE, 99)
        found.append(overflow.opening)
    overflow.ended("kind", 20, 2 / 8, NOISE, 99)

    assert [OPENING, 11, 17, 27] == found
    assert 27 == overflow.opening


def test_kinds_are_not_compared() -> None:
    """Those of another kind count only once none of the first have come for long."""
    overflow = Overflow()
    for _ in range(100):
        overflow.ended("fast", 2, 1.0, NOISE, 5)
        overflow.ended("slow", 5, 9.0, NOISE, 5)
    assert math.inf == overflow.most

    for _ in range(40):
        overflow.ended("slow", 5, 9.0, NOISE, 5)

    assert 4 == overflow.most


def test_what_cannot_be_reached_is_no_more_tried() -> None:
    """One that is never reached is given up, and so is one that the limit fell below."""
    overflow = Overflow()
    while overflow.most == math.inf:
        overflow.ended("kind", FREE, 1.0, NOISE, FREE)
    tried = int(overflow.most)
    assert tried < FREE

    for _ in range(100):
        overflow.ended("kind", 1, 1.0, NOISE, FREE)
    assert math.inf == overflow.most

    while overflow.most == math.inf:
        overflow.ended("kind", FREE, 1.0, NOISE, FREE)
    overflow.ended("kind", 3, 1.0, NOISE, 3)

    assert math.inf == overflow.most


def test_what_is_known_of_many_holds_for_as_many_as_may_be() -> None:
    """Where batches are known to slow each other, and the limit fell below that."""
    overflow = Overflow()
    _live(overflow, _shares(4, 0.1), 1)
    assert overflow.most in {3, 4, 5}

    overflow.ended("kind", 2, 1.0, NOISE, 2)

    assert 2 == overflow.most
    assert "Overflow(most=2)" == repr(overflow)
