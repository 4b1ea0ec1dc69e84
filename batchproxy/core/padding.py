"""To which row count a batch is padded, and when fewer rows are the better choice. Nothing is joined here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from batchproxy.core.batch import Batch
from batchproxy.core.cap import CEILING
from batchproxy.core.cost import Cost
from batchproxy.core.lane import Lane
from batchproxy.core.policy import Policy


class Rounded(Mapping[str, Policy]):
    """Policies as they were configured, but for models whose batches are rounded up to powers of two since.

    Args:
        configured: model name to policy.

    Example:
        >>> policies = Rounded({"m": Policy(max_batch_rows=12)})
        >>> policies.round("m")
        True
        >>> policies["m"].allowed_batch_sizes
        (1, 2, 4, 8, 12)
    """

    def __init__(self, configured: Mapping[str, Policy]) -> None:
        self._configured = configured
        self._rounded: dict[str, Policy] = {}

    def round(self, model: str) -> bool:
        """Let batches of a model have powers of two of rows from now on; False where its sizes are given already."""
        policy = self[model]
        if policy.allowed_batch_sizes:
            return False
        most = CEILING if policy.grows else policy.max_batch_rows
        powers = [1 << exponent for exponent in range(most.bit_length())]
        # a request of more rows than the last power goes alone: as the largest that a batch may have
        sizes = powers if powers[-1] == most else [*powers, most]
        self._rounded[model] = replace(policy, allowed_batch_sizes=tuple(sizes))
        return True

    def configured(self, model: str) -> Policy:
        """The policy without what is rounded."""
        return self._configured[model]

    def forget(self, model: str) -> None:
        """Its policy is another one now: whether it has to be rounded is found out anew."""
        self._rounded.pop(model, None)

    def __getitem__(self, model: str) -> Policy:
        return self._rounded[model] if model in self._rounded else self._configured[model]

    def __iter__(self) -> Iterator[str]:
        return iter(self._configured)

    def __len__(self) -> int:
        return len(self._configured)


def rows_sent(batch: Batch, policy: Policy) -> int:
    """Rows of the call that a batch becomes, with the padding. A lone request that goes as it came has none."""
    if not batch.padded or (len(batch.entries) == 1 and batch.entries[0].request.raw is not None):
        return batch.rows
    return policy.padded(batch.rows)


def rows_to_take(lane: Lane, cap: int, cost: Cost, places: int = 0) -> int:
    """Rows to take of a lane at most: ``cap``, or the size below the rows that wait, where padding them costs more.

    With sizes s1 < q < s2 and q rows waiting, s2 is worth it where ``T(s2) / q < T(s1) / s1`` (TF Serving's
    ``MINIMIZE_TPU_COST``). Where the entries cannot be cut at s1, what is left of it is held against it. While the cost
    is unknown, all are sent, unless the padding would make the call larger than calls may be.

    Args:
        lane: that leaves.
        cap: rows of its batch at most.
        cost: of its batches on the endpoint, by rows sent.
        places: batches that the endpoint may have at once: up to so many rows go one by one where merging them gains
            nothing (see `gain`). 0: all are merged.
    """
    policy = lane.book.policy
    if not policy.allowed_batch_sizes:
        return cost.worth.rows(cost, cap, lane.rows, places)
    rows, nbytes = lane.fitting(cap)
    padded = policy.padded(rows)
    smaller = max((size for size in policy.allowed_batch_sizes if size < rows), default=0)
    if padded == rows or not smaller:
        return cap
    fewer, _ = lane.fitting(smaller)
    if fewer > smaller:  # a single entry, which cannot be cut
        return cap
    if nbytes * padded > lane.max_bytes * rows:
        return smaller
    if not cost.known or cost.seconds(padded) * fewer < cost.seconds(policy.padded(fewer)) * rows:
        return cap
    return smaller
