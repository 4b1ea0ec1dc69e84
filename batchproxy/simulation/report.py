"""Runs as Markdown: who is how far from the oracle, the misses first. Nothing is simulated here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from batchproxy.simulation.log import Figures


@dataclass(frozen=True, slots=True)
class Point:
    """One scenario, us beside the oracle; a list holds a run a seed.

    Args:
        backend: its name.
        scenario: load and arrivals.
        load: part of the capacity.
        lanes: of the backend.
        ours: whole runs.
        oracle: whole runs.
        ours_warm: without the first third.
        oracle_warm: without the first third.
        choice: what the oracle sends.
    """

    backend: str
    scenario: str
    load: float
    lanes: int
    ours: Sequence[Figures]
    oracle: Sequence[Figures]
    ours_warm: Sequence[Figures]
    oracle_warm: Sequence[Figures]
    choice: str = ""

    @property
    def excess(self) -> float:
        """How much our mean latency is above the oracle's, as a part of it."""
        return mean(run.mean_ms for run in self.ours) / mean(run.mean_ms for run in self.oracle) - 1

    @property
    def warm(self) -> float:
        """The same without the first third of each run."""
        return mean(run.mean_ms for run in self.ours_warm) / mean(run.mean_ms for run in self.oracle_warm) - 1

    @property
    def worst(self) -> float:
        """The excess of the worst seed."""
        return max(a.mean_ms / b.mean_ms for a, b in zip(self.ours, self.oracle, strict=True)) - 1

    @property
    def tail(self) -> float:
        """Our p99 as a multiple of the oracle's."""
        return mean(run.p99_ms for run in self.ours) / mean(run.p99_ms for run in self.oracle)

    @property
    def unstable(self) -> bool:
        """Whether our queue still grew at the end of most runs, and the oracle's did not."""
        return mostly(run.unstable for run in self.ours) and not mostly(run.unstable for run in self.oracle)

    @property
    def allowed(self) -> float:
        """The excess that is aimed at: 5 % up to 70 % load on up to 4 lanes, 10 % on more; 15 % above."""
        if self.load > 0.7:
            return 0.15
        return 0.05 if self.lanes <= 4 else 0.10

    @property
    def misses(self) -> list[str]:
        """Which aims it misses: ``mean``, ``p99`` (above 1.2), ``1.5x``, ``unstable``."""
        found = [name for name, missed in (("mean", self.excess > self.allowed), ("p99", self.tail > 1.2)) if missed]
        found += [name for name, missed in (("1.5x", self.excess > 0.5), ("unstable", self.unstable)) if missed]
        return found


def mean(values: Iterable[float]) -> float:
    """Arithmetic.

    >>> mean([1.0, 2.0])
    1.5
    """
    found = list(values)
    return sum(found) / len(found)


def mostly(answers: Iterable[bool]) -> bool:
    """Whether more than half are true."""
    found = list(answers)
    return 2 * sum(found) > len(found)


def cell(runs: Sequence[Figures]) -> str:
    """``mean / p99 / rows``, in ms; ``s`` where seconds."""
    return (
        f"{short(mean(run.mean_ms for run in runs))} / {short(mean(run.p99_ms for run in runs))} / "
        f"{mean(run.mean_rows for run in runs):.1f}"
    )


def short(ms: float) -> str:
    """A time in three figures.

    >>> short(2.345), short(234.5), short(23450)
    ('2.3', '234', '23.4s')
    """
    return f"{ms / 1000:.1f}s" if ms >= 1000 else f"{ms:.0f}" if ms >= 100 else f"{ms:.1f}"


def above(part: float) -> str:
    """By how much something is more, in per cent; as a multiple from ten times on.

    >>> above(0.123), above(-0.02), above(12.5)
    ('+12', '-2', 'x14')
    """
    return f"x{part + 1:.0f}" if part >= 9 else f"{100 * part:+.0f}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, aligned for the terminal, too: the first column to the left, the others to the right."""
    lines = [list(head), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    first, *others = (
        "| "
        + " | ".join(c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True)))
        + " |"
        for line in lines
    )
    rule = "|" + "|".join("-" * (w + 2) if not i else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    return "\n".join((first, rule, *others))


def distance_table(points: Iterable[Point]) -> str:
    """A line a backend, a column a scenario: excess over the oracle, cold / warm [worst seed]; misses in bold."""
    cells: dict[str, dict[str, str]] = {}
    columns: dict[str, None] = {}
    for point in points:
        columns[point.scenario] = None
        cold = above(point.excess)
        if "mean" in point.misses:
            cold = f"**{cold}**"
        text = f"{cold} / {above(point.warm)} [{above(point.worst)}]"
        cells.setdefault(point.backend, {})[point.scenario] = text
    rows = [[name, *(row.get(column, "") for column in columns)] for name, row in cells.items()]
    return table(["Excess, %", *columns], rows)


def misses_table(points: Iterable[Point]) -> str:
    """The points that miss an aim, the worst first."""
    missed = sorted((point for point in points if point.misses), key=lambda point: -point.excess)
    rows = [
        [
            f"{point.backend} {point.scenario}", above(point.excess), f"{100 * point.allowed:.0f}",
            f"{point.tail:.2f}", cell(point.ours), cell(point.oracle), point.choice, ", ".join(point.misses),
        ]
        for point in missed
    ]  # fmt: skip
    head = ["Point", "excess %", "aim %", "p99 x", "ours: mean / p99 / rows", "oracle", "it sends", "misses"]
    return table(head, rows)


def verdict(points: Sequence[Point]) -> str:
    """How many points keep the aims, in a sentence."""
    kept = sum("mean" not in point.misses for point in points)
    tails = sum("p99" not in point.misses for point in points)
    warm = sum(point.warm <= point.allowed for point in points)
    unstable, far = sum(point.unstable for point in points), sum(point.excess > 0.5 for point in points)
    return (
        f"{kept} of {len(points)} points keep the aim for the mean (without the first third of each run: {warm}), "
        f"{tails} that for p99; {unstable} unstable where the oracle is not, {far} above 1.5 times the oracle."
    )


def rivals_table(found: Mapping[str, Mapping[str, Sequence[Figures]]]) -> str:
    """A line a contender, a column a scenario: mean / p99 / rows of a call."""
    columns = list(dict.fromkeys(column for row in found.values() for column in row))
    rows = [[name, *(cell(row[column]) if column in row else "" for column in columns)] for name, row in found.items()]
    return table(["ms", *columns], rows)


def contenders_table(found: Mapping[str, Sequence[Figures]], *, goodput: bool = False) -> str:
    """A line a contender of one scenario; a list holds a run a seed.

    Args:
        found: name to runs.
        goodput: whether there is an objective to be kept.
    """
    head = ["ms", "mean", "p50", "p99", "rows a call", "answered %", *(["in time %"] if goodput else []), "queue grows"]
    rows = []
    for name, runs in found.items():
        times = [short(mean(getattr(run, part) for run in runs)) for part in ("mean_ms", "p50_ms", "p99_ms")]
        kept = [f"{100 * mean(run.goodput for run in runs):.1f}"] if goodput else []
        served = f"{100 * mean(run.served for run in runs):.1f}"
        grows = "yes" if mostly(run.unstable for run in runs) else ""
        rows.append([name, *times, f"{mean(run.mean_rows for run in runs):.1f}", served, *kept, grows])
    return table(head, rows)
