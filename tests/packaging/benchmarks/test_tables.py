"""Figures as Markdown, budgets, and two results beside each other."""

from __future__ import annotations

from dataclasses import asdict, replace

from benchmarks import e2e, remote, tables
from benchmarks.compare import compare
from benchmarks.e2e import Line
from benchmarks.micro import all_cases
from benchmarks.micro.timing import Figure

LINE = Line("null REST", 0.61, 11_000.0, [11_000.0], 5.0, 9.0, 0.2, 80.0, 31.0, 0.3, 0, "")


def test_budgets_name_what_is_measured() -> None:
    """A budget whose case was renamed would never be looked at."""
    budgets = tables.budgets()

    assert {"micro", "e2e", "remote", "remote p99"} <= set(budgets)  # test_wire.py and others look at theirs
    assert set(budgets["micro"]) <= {case.name for case in all_cases() if case.yardstick}
    assert set(budgets["e2e"]) <= {target.name for target in e2e.TARGETS}
    assert set(budgets["remote"]) == {route.name for route in remote.ROUTES}
    assert set(budgets["remote p99"]) < set(budgets["remote"])


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


def test_remote_tables() -> None:
    """Both ways stand beside each other with their ratios; only lone callers that were measured get a line."""
    direct, proxied = remote.Side(2_000.0, 30.0, 80.0, 400.0), remote.Side(7_000.0, 8.0, 90.0, 40.0)
    line = remote.Line("MLP REST", 3.5, 1.125, 0.1, direct, proxied, 70.0, 20.0, 0.2, [], 0, "")
    other = replace(line, name="half_plus_two gRPC", alone_ms=[0.25, 0.75])
    row = tables.remote_table([line, other]).splitlines()[2]

    assert "2,000 > 7,000" in row
    assert ">= 3 ok" in row
    assert "<= 1 MISSED" in row
    assert ["half_plus_two gRPC", "0.25", "0.75", "0.50"] == [
        cell.strip() for cell in tables.alone_table([line, other]).splitlines()[2].strip("|").split("|")
    ]


def test_compare_shows_the_change() -> None:
    """Cases that both results have; a part that one lacks is left out."""
    before = {"when": "1", "machine": "m", "micro": [asdict(Figure("a", 2.0, 2.0)), asdict(Figure("gone", 1.0, 1.0))]}
    after = {"when": "2", "machine": "m", "micro": [asdict(Figure("a", 1.0, 1.0))], "e2e": [asdict(LINE)]}
    text = compare(before, after)

    assert "-50 %" in text
    assert "gone" not in text
    assert "e2e" not in text
