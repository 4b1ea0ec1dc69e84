"""Whether merging is worth its while: off where it gains next to nothing and there is room without it. Times nothing.

A batch's rows all wait for its last one. Where the endpoint takes nearly as long for a row of a batch as for a row
alone, that is all they get for it: so while no more rows wait than there are places for, each has a place of its own.
Where more wait, the endpoint is short of time, and the little that merging saves is what it is short of: they are
merged. docs/architecture.md has the figures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batchproxy.core.cost import Cost

WORTH = 1.15
"""Gain below which merging is off: rows a second in the largest batches, over those one by one."""

SAMPLES = 30
"""Batches that had the endpoint to themselves before merging is judged; fewer show noise."""

APART = 4
"""How many times as large as the smallest the largest of them must have been: near sizes show no slope."""

LOOK = 32
"""Batches between two judgements."""

AGAIN = 1000
"""Batches after which merging is on again for ``LOOK`` of them, so that what changed is seen."""


class Worth:
    """The judgement of one kind of batch on one endpoint.

    Attributes:
        off: whether merging is off: it gains less than ``WORTH``, with 95 % confidence.
    """

    __slots__ = ("_left", "off")

    def __init__(self) -> None:
        self.off = False
        self._left = LOOK

    def rows(self, cost: Cost, cap: int, waiting: int, places: int) -> int:
        """Rows that the next batch may have: ``cap``, or 1.

        Args:
            cost: of its kind.
            cap: rows of a batch at most.
            waiting: rows that wait.
            places: batches that the endpoint may have at once.
        """
        self._left -= 1
        if self._left <= 0:
            self._judge(cost, cap)
        return 1 if self.off and waiting <= places else cap

    def _judge(self, cost: Cost, cap: int) -> None:
        self.off = not self.off and self._settled(cost) and cost.gain_between(cap)[1] < WORTH
        self._left = AGAIN if self.off else LOOK

    @staticmethod
    def _settled(cost: Cost) -> bool:
        fewest, most = cost.sizes_alone()
        return cost.samples >= SAMPLES and most >= APART * fewest

    def __repr__(self) -> str:
        return f"Worth({'off' if self.off else 'on'})"
