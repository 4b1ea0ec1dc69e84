"""Tables of runs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from batchproxy.simulation.log import Figures
from batchproxy.simulation.report import (
    Point,
    contenders_table,
    distance_table,
    misses_table,
    rivals_table,
    short,
    table,
    verdict,
)  # fmt: skip

RUN = Figures(10.0, 9.0, 20.0, 4.0, 1.0, 0.5, 0, False)


def a_point(
    mean_ms: float = 10.0, p99_ms: float = 20.0, *, load: float = 0.5, lanes: int = 4, **changes: bool
) -> Point:
    """Our runs against an oracle of 10 ms, p99 20 ms."""
    our = [replace(RUN, mean_ms=mean_ms, p99_ms=p99_ms, **changes)] * 3
    return Point("A4", f"{100 * load:.0f} %", load, lanes, our, [RUN] * 3, [RUN], [RUN], "k=4, +0")


@pytest.mark.parametrize(
    ("point", "expected"),
    [
        (a_point(), []),
        (a_point(10.4), []),
        (a_point(10.6), ["mean"]),
        (a_point(10.9, lanes=8), []),
        (a_point(11.1, lanes=8), ["mean"]),
        (a_point(11.4, load=0.95), []),
        (a_point(11.6, load=0.95, lanes=16), ["mean"]),
        (a_point(10.0, 24.1), ["p99"]),
        (a_point(15.1), ["mean", "1.5x"]),
        (a_point(unstable=True), ["unstable"]),
    ],
)
def test_misses(point: Point, expected: list[str]) -> None:
    """The aims, by load and lanes."""
    assert expected == point.misses


def test_instability_is_a_miss_only_where_the_oracle_is_stable() -> None:
    """And where most seeds say so."""
    unstable = replace(RUN, unstable=True)
    point = a_point()

    assert not replace(point, ours=[unstable, RUN, RUN]).unstable
    assert replace(point, ours=[unstable, unstable, RUN]).unstable
    assert not replace(point, ours=[unstable] * 3, oracle=[unstable] * 3).unstable


def test_worst_seed() -> None:
    """Each seed is compared with the oracle on the same one."""
    point = replace(a_point(), ours=[replace(RUN, mean_ms=12.0), RUN, RUN])

    assert 0.2 == pytest.approx(point.worst)
    assert 0.2 / 3 == pytest.approx(point.excess)
    assert 0.0 == point.warm


def test_distance_table() -> None:
    """A line a backend, a column a scenario; misses are bold."""
    text = distance_table([a_point(12.0), a_point(load=0.95)])

    assert "| A4        | **+20** / +0 [+20] | +0 / +0 [+0] |" == text.splitlines()[2]


def test_misses_come_first_the_worst_of_them_first() -> None:
    """Those that keep their aims are not listed."""
    lines = misses_table([a_point(), a_point(12.0), a_point(30.0, load=0.3)]).splitlines()[2:]

    assert ["A4 30 %", "A4 50 %"] == [line.split("|")[1].strip() for line in lines]


def test_verdict_counts() -> None:
    """In words."""
    expected = (
        "1 of 2 points keep the aim for the mean (without the first third of each run: 2), 2 that for p99; "
        "0 unstable where the oracle is not, 1 above 1.5 times the oracle."
    )

    assert expected == verdict([a_point(), a_point(30.0)])


def test_rivals_table() -> None:
    """Mean / p99 / rows; empty where a contender did not run."""
    text = rivals_table({"us": {"10 %": [RUN], "30 %": [RUN]}, "them": {"30 %": [replace(RUN, mean_ms=2345.0)]}})
    cells = [part.strip() for part in text.splitlines()[3].split("|")]

    assert ["", "them", "", "2.3s / 20.0 / 4.0", ""] == cells


@pytest.mark.parametrize("goodput", [True, False])
def test_contenders_table(goodput: bool) -> None:
    """What was in time is shown where there is an objective."""
    head, _, row = contenders_table({"us": [RUN, replace(RUN, unstable=True)]}, goodput=goodput).splitlines()

    assert goodput is ("in time %" in head)
    assert goodput is ("50.0" in row)
    assert "yes" not in row


def test_short_times() -> None:
    """Three figures."""
    assert ["9.9", "120", "1.2s"] == [short(ms) for ms in (9.94, 120.4, 1234.0)]


def test_table_is_aligned() -> None:
    """Text to the left, numbers to the right."""
    assert "| a   |  b |\n|-----|---:|\n| one | 12 |" == table(["a", "b"], [["one", "12"]])
