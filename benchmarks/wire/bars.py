"""What is due and what was found, side by side. Nothing is measured here.

A bar is a figure of one run: mostly a ratio of two lines, taken within the rounds. ``budgets.toml`` has the goal of
each in ``[wire]`` and, where the least that is asked differs from it, that in ``["wire required"]``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.wire.rates import Line, Sample, alone, cpu, rate


@dataclass(frozen=True)
class Ratio:
    """A bar that compares two lines.

    Attributes:
        name: of the bar.
        line: whose figure is divided.
        yardstick: by whose.
        figure: which one.
        at_most: whether less is better.
    """

    name: str
    line: str
    yardstick: str
    figure: Callable[[Sample], float]
    at_most: bool = False


RATIOS: Sequence[Ratio] = (
    Ratio("null gRPC / grpc.aio echo, requests", "null gRPC", "grpc.aio echo", rate),
    Ratio("null gRPC / grpc.aio echo, CPU per request", "null gRPC", "grpc.aio echo", cpu, at_most=True),
    Ratio("null REST / aiohttp echo, requests", "null REST", "aiohttp echo", rate),
    *(
        Ratio(f"batched {word} / {peer}, requests", f"{word}: batchproxy", f"{word}: {peer}", rate)
        for word in ("REST", "gRPC")
        for peer in ("nginx", "HAProxy")
    ),
    *(
        Ratio(f"{word}, batching off / nginx, requests", f"{word}: batchproxy, batching off", f"{word}: nginx", rate)
        for word in ("REST", "gRPC")
    ),
    Ratio("lone caller, null gRPC / grpc.aio echo, p50", "null gRPC", "grpc.aio echo", alone, at_most=True),
)

RESOURCES = (
    "idle memory, MB",
    "10,000 idle REST connections, MB more",
    "10,000 idle gRPC connections, MB more",
    "start to ready, s",
)
STALL = "small callers' p99 beside 2 MB bodies, ms more: {case}"


@dataclass(frozen=True)
class Bar:
    """One line of the table of bars."""

    name: str
    value: float
    at_most: bool


def of_lines(lines: Iterable[Line]) -> list[Bar]:
    """The ratios whose two lines were measured."""
    by_name: Mapping[str, Line] = {line.target.name: line for line in lines}
    return [
        Bar(each.name, by_name[each.line].ratio(by_name[each.yardstick], each.figure), each.at_most)
        for each in RATIOS
        if each.line in by_name and each.yardstick in by_name
    ]


def of_figures(figures: Mapping[str, float]) -> list[Bar]:
    """Figures that are bars by themselves; less is better in each."""
    return [Bar(name, value, at_most=True) for name, value in figures.items()]
