"""Results as Markdown. Nothing is measured here."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from benchmarks.e2e import Line
from benchmarks.micro.timing import Figure
from benchmarks.outbound import Line as OutboundLine
from benchmarks.real import Line as RealLine
from benchmarks.remote import Line as RemoteLine

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
    """Of each part of the run, ``remote p99`` being a part, too: a case's name to its ratio."""
    return tomllib.loads(BUDGETS.read_text())


def micro_table(figures: Iterable[Figure]) -> str:
    """A line a case; its yardstick, a line above it, is named in the JSON."""
    due = budgets()["micro"]
    rows = []
    for figure in figures:
        ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
        rows.append([
            figure.name, f"{figure.best:.2f}", f"{figure.median:.2f}", ratio,
            verdict(due.get(figure.name), figure.ratio, at_most=True),
        ])  # fmt: skip
    return markdown(["us of CPU per request", "best", "median", "x yardstick", "budget"], rows)


def e2e_table(lines: Iterable[Line]) -> str:
    """A line a server and protocol."""
    due = budgets()["e2e"]
    rows = [
        [
            line.name, f"{line.per_second:,.0f}", f"{line.ratio:.2f}", f"{line.p50_ms:.2f}", f"{line.p99_ms:.1f}",
            f"{line.alone_p50_ms:.2f}", f"{line.cpu_us:.0f}", f"{line.mean_batch:.1f}" if line.mean_batch else "",
            f"{100 * line.load_cpu:.0f}", str(line.faults), verdict(due.get(line.name), line.ratio, at_most=False),
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


def remote_table(lines: Iterable[RemoteLine]) -> str:
    """A line a route; figures of direct callers and of proxied ones stand in one cell."""
    due, p99_due = budgets()["remote"], budgets()["remote p99"]
    rows = []
    for line in lines:
        direct, proxied = line.direct, line.proxied
        rows.append([
            line.name, f"{direct.per_second:,.0f} > {proxied.per_second:,.0f}", f"{line.ratio:.2f}",
            f"{direct.p50_ms:.1f} > {proxied.p50_ms:.1f}",
            f"{direct.p99_ms:.1f} > {proxied.p99_ms:.1f}", f"{line.p99_ratio:.2f}",
            f"{direct.server_us:.0f} > {proxied.server_us:.0f}", f"{line.server_ratio:.2f}",
            f"{line.proxy_us:.0f}", f"{line.mean_batch:.1f}" if line.mean_batch else "",
            f"{100 * line.load_cpu:.0f}", str(line.faults),
            verdict(due.get(line.name), line.ratio, at_most=False),
            verdict(p99_due.get(line.name), line.p99_ratio, at_most=True),
        ])  # fmt: skip
    head = [
        "64 callers, direct > proxied", "req/s", "x", "p50 ms", "p99 ms", "x", "server CPU us/req", "x",
        "proxy CPU us/req", "mean batch", "load CPU %", "wrong or lost", "rate target", "p99 target",
    ]  # fmt: skip
    return markdown(head, rows)


def alone_table(lines: Iterable[RemoteLine]) -> str:
    """What the proxy adds to a lone caller's latency."""
    rows = [
        [line.name, *(f"{each:.2f}" for each in line.alone_ms), f"{line.alone_ms[1] - line.alone_ms[0]:.2f}"]
        for line in lines
        if line.alone_ms
    ]
    return markdown(["one caller, p50 ms", "direct", "proxied", "added"], rows)


def outbound_table(lines: Iterable[OutboundLine]) -> str:
    """A line a kind of call; figures of grpc.aio's client and of our own stand in one cell."""
    due, p50_due = budgets()["outbound"], budgets()["outbound p50"]
    rows = [
        [
            line.name, f"{line.per_second[0]:,.0f} > {line.per_second[1]:,.0f}",
            f"{line.cpu_us[0]:.0f} > {line.cpu_us[1]:.0f}", f"{line.cpu_ratio:.2f}",
            f"{line.p50_us[0]:.0f} > {line.p50_us[1]:.0f}", f"{line.p50_ratio:.2f}", str(line.faults),
            verdict(due.get(line.name), line.cpu_ratio, at_most=True),
            verdict(p50_due.get(line.name), line.p50_ratio, at_most=True),
        ]
        for line in lines
    ]  # fmt: skip
    head = [
        "client, grpc.aio > own", "calls/s", "CPU us/call", "x", "p50 us", "x", "wrong", "CPU budget", "p50 budget",
    ]  # fmt: skip
    return markdown(head, rows)


def real_table(lines: Iterable[RealLine]) -> str:
    """A line a backend and load; the static settings are the best and the worst of the grid."""
    rows = []
    for line in lines:
        over = line.load > 1.0
        shown = [f"{100 * figure:.1f} %" if over else f"{figure:.2f}" for figure in line.figures]
        rows.append([
            f"{line.backend}, {100 * line.load:.0f} %", f"{line.per_second:,.0f}", *shown,
            f"{100 * line.ratio:+.1f} points" if over else f"{line.ratio:.2f}",
            *(f"{each:.1f}" for each in line.p99_ms), f"{line.rows:.1f}", line.best, line.worst,
            f"{100 * line.load_cpu:.0f}",
        ])  # fmt: skip
    head = [
        "of capacity: mean ms; above it, in time", "calls/s", "defaults", "best static", "worst static",
        "defaults to best", "p99 ms, defaults", "p99 ms, best", "rows a batch", "best", "worst", "load CPU %",
    ]  # fmt: skip
    return markdown(head, rows)


def verdict(budget: float | None, ratio: float | None, *, at_most: bool) -> str:
    """A budget and whether it is kept; empty where there is none, or nothing to compare."""
    if budget is None or ratio is None:
        return ""
    kept = ratio <= budget if at_most else ratio >= budget
    return f"{'<=' if at_most else '>='} {budget:g} {'ok' if kept else 'MISSED'}"
