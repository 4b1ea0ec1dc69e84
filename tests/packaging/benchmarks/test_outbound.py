"""What a call out costs, with a real server and a count that proves nothing about speed."""

from __future__ import annotations

from benchmarks import outbound, tables


def test_both_clients_are_measured() -> None:
    """Right answers, figures of both, a table; and budgets for all that is measured."""
    told: list[str] = []
    (line,) = outbound.measure(1, 0.1, told.append, outbound.CASES[1:2])
    names = {case.name for case in outbound.CASES}

    assert ["round 1 of 1: 768 B, 8 at once"] == told
    assert (0, "") == (line.faults, line.fault)
    assert min(*line.cpu_us, *line.p50_us, *line.per_second) > 0
    assert line.cpu_us[1] / line.cpu_us[0] == line.cpu_ratio
    assert "\n| 768 B, 8 at once  " in tables.outbound_table([line])
    assert names == set(tables.budgets()["outbound"]) == set(tables.budgets()["outbound p50"])
