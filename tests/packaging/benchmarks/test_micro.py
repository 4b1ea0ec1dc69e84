"""Every micro case works; how fast it is, no test says."""

from __future__ import annotations

from itertools import pairwise

import pytest

from benchmarks.micro import all_cases
from benchmarks.micro.timing import Case, measure

CASES = all_cases()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_runs(case: Case) -> None:
    """One round does requests, and a second one finds things as the first did."""
    work = case.make()
    counts = [work(), work()]

    assert counts[0] > 0
    assert counts[0] == counts[1]


def test_names_are_unique_and_yardsticks_exist() -> None:
    """A case is looked up by its name, as another's yardstick, too."""
    names = [case.name for case in CASES]

    assert len(names) == len(set(names))
    assert {case.yardstick for case in CASES} <= {"", *names}


def test_ratio_is_to_the_yardsticks_best() -> None:
    """A case's figure is divided by that of its yardstick, taken in the same run."""
    yard, own = measure([Case("yard", lambda: lambda: 4), Case("own", lambda: lambda: 1, "yard")], 0)

    assert (None, "yard") == (yard.ratio, own.yardstick)
    assert own.best / yard.best == own.ratio


def test_samples_are_taken_in_turns() -> None:
    """A burst of other work on the machine must not fall on one case only."""
    order: list[str] = []

    def case(name: str) -> Case:
        def work() -> int:
            order.append(name)
            for _ in range(200_000):  # longer than a sample is meant to be, so that each is one round
                pass
            return 1

        return Case(name, lambda: work)

    figures = measure([case("a"), case("b")], 3)

    assert ["a", "b"] == [figure.name for figure in figures]
    assert all(figure.best <= figure.median for figure in figures)
    assert sum(before != after for before, after in pairwise(order)) >= 5
