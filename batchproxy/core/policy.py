"""The numbers that shape a model's batches, and the two questions they answer: full? due when?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

PRIORITIES = {"high": 0, "normal": 1, "low": 2}
"""Levels by the names that people write. A level is worth so many ``lane.AGING_S`` of waiting."""


ROWS = 64
"""Rows of a batch, unless configured or learned: the gain of most models is near its best there (peers.md, D)."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How requests of one model are batched.

    Args:
        max_batch_rows: rows of a merged call at most; a larger request goes alone. TF Serving: ``max_batch_size``.
        max_batch_bytes: bytes of a merged call at most (R7); one of JSON takes 8 MiB at most.
        grows: whether ``max_batch_rows`` is only where to start, since nobody set it: more are tried while they pay.
        max_delay_s: how long the first request of a batch may wait for company while an endpoint
            is free, in seconds. 0: not at all. TF Serving: ``batch_timeout_micros``.
        slo_s: seconds within which answers are wanted: batches are no larger than that allows. 0: nobody said; the
            deadlines of callers hold all the same.
        max_queued_rows: rows of this model that may wait; beyond it requests are refused.
            The default is 128 full batches. TF Serving: ``max_enqueued_batches``.
        allowed_batch_sizes: ascending row counts; merged calls are padded up to the next one and the padding is
            undone, or cut down where that costs less a row. Empty: any size. The last one equals ``max_batch_rows``.
        batching: False sends every request alone, at once.
        idempotent: False: nothing is ever run twice, so no bisecting, no retry and no hedge (R3).
        hedging: whether a batch that takes longer than nearly all others is sent to a second endpoint, too (`hedging`).
        hedging_delay_s: after how many seconds; 0: as learned.
        canary_every: of so many batches one is checked for rows that influence each other (see `canary`); 0: none.
        priority: of requests that name none; one of ``PRIORITIES``.
    """

    max_batch_rows: int = ROWS
    grows: bool = False
    max_batch_bytes: int = 64 << 20
    max_delay_s: float = 0.0
    slo_s: float = 0.0
    max_queued_rows: int = 8192
    allowed_batch_sizes: tuple[int, ...] = ()
    batching: bool = True
    idempotent: bool = True
    hedging: bool = False
    hedging_delay_s: float = 0.0
    canary_every: int = 0
    priority: int = PRIORITIES["normal"]

    def padded(self, rows: int) -> int:
        """The row count that ``rows`` rows are sent as.

        >>> Policy(max_batch_rows=8, allowed_batch_sizes=(1, 4, 8)).padded(3)
        4
        """
        sizes = self.allowed_batch_sizes
        return next((size for size in sizes if size >= rows), rows) if sizes else rows


class Policies(Mapping[str, Policy]):
    """Policies by model name, with one for every other name.

    Iterating gives the configured names only: of the others there is no end.

    Args:
        named: model name to policy.
        others: what holds for every other name; None: no other name is served.

    Example:
        >>> Policies({}, Policy(max_batch_rows=8))["any"].max_batch_rows
        8
    """

    def __init__(self, named: Mapping[str, Policy], others: Policy | None = None) -> None:
        self._named = dict(named)
        self._others = others
        self._former: dict[str, Policy] = {}

    def change(self, named: Mapping[str, Policy], others: Policy | None) -> None:
        """Other policies from now on; requests of a model that has none any more keep the last one it had."""
        self._former |= self._named
        self._named, self._others = dict(named), others

    def __getitem__(self, name: str) -> Policy:
        policy = self._named.get(name, self._others) or self._former.get(name)
        if policy is None:
            raise KeyError(name)
        return policy

    def __iter__(self) -> Iterator[str]:
        return iter(self._named)

    def __len__(self) -> int:
        return len(self._named)
