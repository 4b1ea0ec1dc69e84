"""What the demo says: progress while it runs, the table, and what the table means. Nothing is measured here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TextIO

from batchproxy.demo.data import BATCH_ROWS

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
        alone_ms: a call of the model itself, without the proxy: with one row, and with ``BATCH_ROWS``.
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
    alone_ms: tuple[float, float]
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

    @property
    def saved_ms(self) -> float:
        """Time of the model that a row saves by riding in a full batch."""
        return self.alone_ms[0] - self.alone_ms[1] / BATCH_ROWS


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


def meaning(results: Sequence[Result]) -> list[str]:
    """Two sentences: the model for which batching pays, and the one for which it does not.

    Which is which is decided by what a row's share of a full batch saves the model itself. Throughput is told
    beside it; with cheap models it rises, too, because the proxy hands over fewer calls.
    """
    best = max(results, key=lambda result: result.saved_ms)
    worst = min(results, key=lambda result: result.saved_ms)
    (one, many), gain = best.alone_ms, best.gain
    pays = (
        f"Batching {'pays' if gain >= PAYS else 'ought to pay'} for {best.model}: a row takes the model {one:.3f} ms "
        f"alone and {many / BATCH_ROWS:.3f} ms in a batch of {BATCH_ROWS}, x{BATCH_ROWS * one / many:.1f} at best; "
        f"through the proxy x{gain:.2f}."
    )
    one, gain = worst.alone_ms[0], worst.gain
    does_not = (
        f"It does not pay for {worst.model}: a row alone takes {one:.3f} ms, so there is nothing to save in the model"
    )
    rest = f"; its x{gain:.2f} are the proxy's own cost of a call, paid less often." if gain >= PAYS else "."
    return [pays, does_not + rest]


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
