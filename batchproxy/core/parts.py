"""Columns of several callers that were read as one, until somebody asks for those of one of them.

Those who are read together leave in one batch, mostly, and in their order. So what was read as one is sent as one, and
nobody's rows are ever cut out, or joined again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from batchproxy.core.columns import Column, Columns


class Part(Mapping[str, Column]):
    """The columns of one of them.

    Args:
        whole: those of all.
        start: its first row in these.
        stop: the row after its last one.
    """

    __slots__ = ("start", "stop", "whole")

    def __init__(self, whole: Columns, start: int, stop: int) -> None:
        self.whole = whole
        self.start = start
        self.stop = stop

    def __getitem__(self, name: str) -> Column:
        return self.whole[name].take(self.start, self.stop)

    def __iter__(self) -> Iterator[str]:
        return iter(self.whole)

    def __len__(self) -> int:
        return len(self.whole)


def parts(whole: Columns, rows: int, each: int) -> list[Columns]:
    """What every caller has of so many rows, of which each has as many as the next one."""
    return [Part(whole, start, start + each) for start in range(0, rows, each)]


def together(columns: Sequence[Columns]) -> Sequence[Columns]:
    """The same rows in the same order: neighbours that are parts of one whole are one."""
    first = columns[0]
    if type(first) is not Part:  # nor are the others, then, or not so that it matters
        return columns
    runs: list[Columns] = [run := Part(first.whole, first.start, first.start)]
    for piece in columns:
        if type(piece) is not Part:
            runs.append(piece)
        elif piece.whole is run.whole and piece.start == run.stop and runs[-1] is run:
            run.stop = piece.stop
        else:
            runs.append(run := Part(piece.whole, piece.start, piece.stop))
    return [{name: run[name] for name in run} if type(run) is Part else run for run in runs]
