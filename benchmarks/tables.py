"""Results as Markdown. Nothing is measured here."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from benchmarks.e2e import Line
from benchmarks.micro.timing import Figure

BUDGETS = Path(__file__).with_name("budgets.toml")


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose first column is text and whose others are numbers, aligned for the terminal, too.

    >>> print(markdown(["Case", "us"], [["a", "1.5"], ["long", "10"]]))
    | Case |  us |
    |------|----:|
    | a    | 1.5 |
    | long |  10 |
    """
    lines = [list(head), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    first, *others = (_line(line, widths) for line in lines)
    rule = (
        "|" + "|".join("-" * (width + 2) if not i else "-" * (width + 1) + ":" for i, width in enumerate(widths)) + "|"
    )
    return "\n".join((first, rule, *others))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return (
        "| "
        + " | ".join(c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True)))
        + " |"
    )


def budgets() -> Mapping[str, Mapping[str, float]]:
    """``micro`` and ``e2e`` to a case's name to its ratio."""
    return tomllib.loads(BUDGETS.read_text())


def micro_table(figures: Iterable[Figure]) -> str:
    """A line a case; its yardstick, a line above it, is named in the JSON."""
    due = budgets()["micro"]
    rows = []
    for figure in figures:
        ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
        rows.append([
            figure.name, f"{figure.best:.2f}", f"{figure.median:.2f}", ratio,
            _verdict(due.get(figure.name), figure.ratio, at_most=True),
        ])  # fmt: skip
    return markdown(["us of CPU per request", "best", "median", "x yardstick", "budget"], rows)


def e2e_table(lines: Iterable[Line]) -> str:
    """A line a server and protocol."""
    due = budgets()["e2e"]
    rows = [
        [
            line.name, f"{line.per_second:,.0f}", f"{line.ratio:.2f}", f"{line.p50_ms:.2f}", f"{line.p99_ms:.1f}",
            f"{line.alone_p50_ms:.2f}", f"{line.cpu_us:.0f}", f"{line.mean_batch:.1f}" if line.mean_batch else "",
            f"{100 * line.load_cpu:.0f}", str(line.faults), _verdict(due.get(line.name), line.ratio, at_most=False),
        ]
        for line in lines
    ]  # fmt: skip
    head = [
        "64 callers", "req/s", "x echo", "p50 ms", "p99 ms", "alone p50 ms", "CPU us/req", "mean batch", "load CPU %",
        "wrong or lost", "budget",
    ]  # fmt: skip
    return markdown(head, rows)


def gains(lines: Iterable[Line]) -> list[str]:
    """What batching gains where a server was measured with and without it."""
    rates = {line.name: line.per_second for line in lines}
    found = []
    for name, rate in rates.items():
        off = rates.get(f"{name}, batching off")
        if off:
            found.append(f"{name}: batching makes it {rate / off:.1f} times as fast")
    return found


def _verdict(budget: float | None, ratio: float | None, *, at_most: bool) -> str:
    if budget is None or ratio is None:
        return ""
    kept = ratio <= budget if at_most else ratio >= budget
    return f"{'<=' if at_most else '>='} {budget:g} {'ok' if kept else 'MISSED'}"
