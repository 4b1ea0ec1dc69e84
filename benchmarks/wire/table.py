"""Results as Markdown. Nothing is measured here."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence

from benchmarks.tables import budgets, markdown, verdict
from benchmarks.wire.bars import Bar
from benchmarks.wire.paced import Result
from benchmarks.wire.rates import Line, alone, cpu, rate
from benchmarks.wire.stall import Found


def rates(lines: Sequence[Line]) -> str:
    """A line a target."""
    by_name = {line.target.name: line for line in lines}
    head = [
        "saturated; alone", "req/s", "x", "CPU us/req", "x", "behind us/req", "p50 ms", "p99 ms", "alone p50 us",
        "failed",
    ]  # fmt: skip
    return markdown(head, [_cells(line, by_name) for line in lines])


def _cells(line: Line, by_name: Mapping[str, Line]) -> list[str]:
    yardstick = by_name.get(line.target.yardstick)
    lone = line.median(alone)
    return [
        line.target.name,
        f"{line.median(rate):,.0f}",
        f"{line.ratio(yardstick, rate):.2f}" if yardstick else "",
        f"{line.median(cpu):,.1f}",
        f"{line.ratio(yardstick, cpu):.3f}" if yardstick else "",
        f"{line.median(lambda sample: sample.behind_us):,.1f}" if line.target.behind else "",
        f"{line.median(lambda sample: sample.load.p50_ms):.2f}",
        f"{line.median(lambda sample: sample.load.p99_ms):.2f}",
        f"{lone:.0f}" if lone else "",
        str(line.failed),
    ]


def stalls(found: Iterable[Found]) -> str:
    """A line a case: the small callers' p99, medians over the rounds, and the images' own p50."""

    def p99(results: Sequence[Result]) -> str:
        return f"{statistics.median(result.p99_ms for result in results):.1f}"

    head = ["small callers' p99, ms", "alone", "images elsewhere", "images beside", "more", "image p50 ms"]
    return markdown(
        head,
        [
            [
                each.case.name, p99(each.alone), p99(each.elsewhere), p99(each.beside), f"{each.rise_ms:.1f}",
                f"{statistics.median(result.p50_ms for result in each.images):.0f}",
            ]
            for each in found
        ],
    )  # fmt: skip


def bars(found: Iterable[Bar]) -> str:
    """A line a bar: the figure, whether the goal is met, and the least that is asked where that is another."""
    goals, required = budgets()["wire"], budgets()["wire required"]
    return markdown(
        ["bar", "found", "goal", "required"],
        [
            [
                bar.name,
                f"{bar.value:.3g}",
                verdict(goals.get(bar.name), bar.value, at_most=bar.at_most),
                verdict(required.get(bar.name), bar.value, at_most=bar.at_most),
            ]
            for bar in found
        ],
    )
