"""Figures as Markdown, budgets, and two results beside each other."""

from __future__ import annotations

from dataclasses import asdict

from benchmarks import e2e, tables
from benchmarks.compare import compare
from benchmarks.e2e import Line
from benchmarks.micro import all_cases
from benchmarks.micro.timing import Figure

LINE = Line("null REST", 0.61, 11_000.0, [11_000.0], 5.0, 9.0, 0.2, 80.0, 31.0, 0.3, 0, "")


def test_budgets_name_what_is_measured() -> None:
    """A budget whose case was renamed would never be looked at."""
    budgets = tables.budgets()

    assert {"micro", "e2e"} == set(budgets)
    assert set(budgets["micro"]) <= {case.name for case in all_cases() if case.yardstick}
    assert set(budgets["e2e"]) <= {target.name for target in e2e.TARGETS}


def test_micro_table_says_whether_a_budget_is_kept() -> None:
    """A ratio over its budget is marked; a case without one has no verdict."""
    name, budget = next(iter(tables.budgets()["micro"].items()))
    table = tables.micro_table([Figure("floor", 1.0, 1.5), Figure(name, 9.0, 9.5, "floor", budget + 1)])

    assert "| floor " in table
    assert "MISSED" in table.splitlines()[-1]
    assert "MISSED" not in table.splitlines()[-2]


def test_e2e_table_and_gains() -> None:
    """Requests a second are grouped; what batching gains is said where both were measured."""
    off = Line("null REST, batching off", 0.2, 5_500.0, [5_500.0], 5.0, 9.0, 0.2, 80.0, 1.0, 0.3, 0, "")

    assert "11,000" in tables.e2e_table([LINE])
    assert ["null REST: batching makes it 2.0 times as fast"] == tables.gains([LINE, off])


def test_compare_shows_the_change() -> None:
    """Cases that both results have; a part that one lacks is left out."""
    before = {"when": "1", "machine": "m", "micro": [asdict(Figure("a", 2.0, 2.0)), asdict(Figure("gone", 1.0, 1.0))]}
    after = {"when": "2", "machine": "m", "micro": [asdict(Figure("a", 1.0, 1.0))], "e2e": [asdict(LINE)]}
    text = compare(before, after)

    assert "-50 %" in text
    assert "gone" not in text
    assert "e2e" not in text
