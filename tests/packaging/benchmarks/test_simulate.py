"""The simulator's benchmark: every scenario has the oracle's choice, and a small comparison runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from benchmarks import scenarios, simulate, worlds


class Pool:
    """As a pool of processes, without them."""

    def map(self, function: Callable[[Any], Any], jobs: Iterable[Any]) -> Iterator[Any]:
        return map(function, jobs)


def test_every_scenario_has_a_choice() -> None:
    """And every backend a static setting for all of its loads."""
    known = scenarios.choices()
    chosen = [*scenarios.points(), *scenarios.points(scenarios.OTHERS), *scenarios.other_arrivals()]

    assert [] == [(one.backend.name, one.name) for one in chosen if one.name not in known[one.backend.name]]
    assert all("static" in known[name] for name in (*scenarios.BACKENDS, *scenarios.OTHERS))


def test_choices_are_read_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is made of what it says."""
    known = scenarios.choices()
    before = scenarios.ORACLE.read_text()
    monkeypatch.setattr(scenarios, "ORACLE", tmp_path / "oracle.json")
    scenarios.write_choices(known)

    assert before == scenarios.ORACLE.read_text()


def test_seeds_are_apart() -> None:
    """Nothing is shown on seeds that anything was chosen or designed on."""
    assert set() == set(scenarios.HELD_OUT) & {*scenarios.ORACLE_SEEDS, *scenarios.TUNING}


def test_a_comparison_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """A point a scenario, with what the oracle sends."""
    chosen = [one for one in scenarios.points(["A1"], 0.02) if one.load == 0.1]
    points = list(simulate.compare(cast("Any", Pool()), chosen, (1, 2)))

    assert [("A1", "10 %", "k=1, +0"), ("A1", "bursty 10 %", "k=1, +0")] == [
        (point.backend, point.scenario, point.choice) for point in points
    ]
    assert 2 == len(points[0].ours)
    assert "A1 10 %: " in capsys.readouterr().err


def test_cost_is_told_for_each_number_of_endpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line each."""
    monkeypatch.setattr(worlds, "REQUESTS", 200)
    lines = worlds.cost_table().splitlines()

    assert ["1", "10", "100", "1,000"] == [line.split("|")[1].strip() for line in lines[2:]]
