"""What the demo says: progress while it runs, the table, and what the table means. Nothing is measured here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TextIO

PAYS = 1.2
"""A gain below this is lost in the noise of a short run on a shared machine."""


@dataclass(frozen=True)
class Result:
    """One model's figures, with batching unless said otherwise.

    Attributes:
        model: its name.
        requests: single rows sent and answered.
        calls: calls of the model that answered them.
        rows: rows of those calls.
        per_second: answers a second.
        unbatched_per_second: the same without batching.
        wrong: answers that are not the model's own, in both runs.
        lost: requests without an answer, in both runs.
        accuracy: share of the images labelled rightly through the proxy, and directly; None without labels.
    """

    model: str
    requests: int
    calls: int
    rows: int
    per_second: float
    unbatched_per_second: float
    wrong: int = 0
    lost: int = 0
    accuracy: tuple[float, float] | None = None

    @property
    def mean_batch(self) -> float:
        """Rows a call."""
        return self.rows / self.calls if self.calls else 0.0

    @property
    def gain(self) -> float:
        """How many times the throughput batching gives."""
        return self.per_second / self.unbatched_per_second if self.unbatched_per_second else 0.0


HEADS = ("model", "requests", "backend calls", "mean batch", "per second", "unbatched", "gain", "wrong", "lost")


def table(results: Sequence[Result]) -> str:
    """The figures, a line a model."""
    lines = [HEADS]
    lines += [
        (
            result.model,
            f"{result.requests:,}",
            f"{result.calls:,}",
            f"{result.mean_batch:.1f}",
            f"{result.per_second:,.0f}",
            f"{result.unbatched_per_second:,.0f}",
            f"x{result.gain:.2f}",
            f"{result.wrong:,}",
            f"{result.lost:,}",
        )
        for result in results
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADS))]
    rows = [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
    rows.insert(1, "-" * len(rows[0]))
    return "\n".join(rows)


def meaning(results: Sequence[Result]) -> str:
    """The sentence that names the model for which batching pays, and the one for which it does not."""
    best = max(results, key=lambda result: result.gain)
    worst = min(results, key=lambda result: result.gain)
    if best.gain < PAYS:
        return f"Batching pays for none of these models here: {best.model} gains most, x{best.gain:.2f}."
    text = f"Batching pays for {best.model}: x{best.gain:.2f} the throughput"
    if worst.gain < PAYS:
        return f"{text}. It does not pay for {worst.model} (x{worst.gain:.2f}): its calls cost next to nothing."
    return f"{text}. It pays least for {worst.model} (x{worst.gain:.2f}): its calls cost little."


def accuracies(results: Sequence[Result]) -> list[str]:
    """A line for each model whose rows have true labels."""
    return [
        f"{result.model}: {100 * result.accuracy[0]:.2f} % of the images are labelled rightly through the proxy, "
        f"{100 * result.accuracy[1]:.2f} % when the model is called directly."
        for result in results
        if result.accuracy is not None
    ]


def failures(results: Sequence[Result]) -> list[str]:
    """Why this run failed, a line a model; empty if it did not."""
    lines = [
        f"{result.model}: {result.wrong} answers are wrong and {result.lost} requests were lost"
        for result in results
        if result.wrong or result.lost or not result.requests
    ]
    return lines + [
        f"{result.model}: the accuracy through the proxy differs from the model's own"
        for result in results
        if result.accuracy is not None and result.accuracy[0] != result.accuracy[1]
    ]


class Progress:
    """Says what is going on: one line that changes on a terminal, else a line for each step.

    Args:
        stream: where to.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live = stream.isatty()
        self._step = ""

    def step(self, text: str) -> None:
        """Begin a step."""
        self._step = text
        self._stream.write(f"\r\x1b[K{text} ..." if self._live else f"{text} ...\n")
        self._stream.flush()

    def update(self, text: str) -> None:
        """Tell how the step is going."""
        if self._live:
            self._stream.write(f"\r\x1b[K{self._step}: {text}")
            self._stream.flush()

    def done(self) -> None:
        """Leave the line empty for what follows."""
        if self._live:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
