"""How the endpoints of a pool share its batches: who waits for whom. Which one answers first is `balancer`'s matter.

Each endpoint that becomes free takes what waits. Of three that are 1, 2 and 4 times as fast the slowest so comes upon
half of what the fastest lets gather, small batches, which cost it most a row: at 90 % load it got 0.84 of its part
(0.7 with four lanes each), and everybody waited for the fastest. So, the shorter capacity is:

**Spacing.** Batches that are not full leave at the pace at which all endpoints together work them off, as `limit` has
it for the lanes of one: whoever takes them, they are evenly filled. Where nothing is in flight nobody is waited for.

**Free places.** A full batch goes to an endpoint with a free place rather than behind others at a faster one.

And where there is little to do, a batch waits for a much faster endpoint whose turn is soon.

Large pools do without: so many endpoints differ in when they become free, and batches are seldom small for all.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from batchproxy.core.pace import EASE, Hurry, gap, in_time

if TYPE_CHECKING:
    from batchproxy.core.cost import Cost
    from batchproxy.core.limit import Limit

ROOMY, SHORT = 0.3, 0.6
"""Mean rows of a batch, as parts of the most: up to the first there is capacity enough, from the second on it is short.
At 50 % load they are a quarter, at 90 % three quarters (docs/simulation.md)."""

WIDER = 1.4
"""Of the pace: at 1 the slower ones of (1x, 2x, 4x) still get 0.9 of their parts at 90 % load; the mean latency is the
same from 1 to 1.5."""

CROWDED = 0.6
"""Part of the pool's places that are taken, from which a full batch takes a free one where capacity is short."""

PATIENT = 2.0
"""By how much more where there is capacity enough: then a full batch is a burst, and goes where it ends first."""

FREE = 0.5
"""Part of a place that must be free for it to count: a lone lane behind a network has a ceiling of 1.1."""

FASTER = 1.25
"""How much sooner an endpoint must answer for a batch to wait for its turn: costs are known to so much."""


class Sharing:
    """One choice among several endpoints.

    Args:
        rows: of the batch that is to leave.
        cap: rows that it may have.
        now: the engine's clock, in seconds.
        hurry: of its most urgent caller.
    """

    __slots__ = ("_cap", "_hurry", "_known", "_now", "_rows", "_soon", "_turn")

    def __init__(self, rows: int, cap: int, now: float, hurry: Hurry = EASE) -> None:
        self._rows, self._cap, self._now, self._hurry = rows, cap, now, hurry
        self._known: list[tuple[Limit, Cost]] = []
        self._soon = self._turn = inf

    def add(self, limit: Limit, cost: Cost, opens: float) -> None:
        """An endpoint that can be used, whose costs are known, and from when it may have the batch."""
        self._known.append((limit, cost))
        if self._now < opens < inf and not limit.draining:
            finish = opens - self._now + limit.finish(cost, self._rows)
            if finish < self._soon:
                self._soon, self._turn = finish, opens

    def is_dense(self) -> bool:
        """Whether a full batch should take a free place, though a faster endpoint would answer it sooner."""
        taken, places, strain = self._weigh()
        return taken >= (CROWDED + PATIENT * (1.0 - strain)) * places

    def opens(self, limit: Limit, cost: Cost, finish: float) -> float:
        """From when a batch that is not full may leave for the endpoint that would answer it first; now, or later.

        Args:
            limit: of that endpoint; it is told where a caller's hurry decides.
            cost: of such batches there, known.
            finish: seconds until it would be answered, if it left now.
        """
        taken, places, strain = self._weigh()
        if not taken:
            return self._now
        opens = self._turn if FASTER * self._soon < finish else self._now
        if strain:
            speed = _speed(cost, self._rows)  # the others count as so many places of this endpoint
            spacing = gap(cost, self._rows, places / speed, taken / speed)
            opens = max(opens, max(each.last_sent for each, _ in self._known) + WIDER * strain * spacing)
        if opens > self._now and self._hurry is not EASE:
            opens, limit.hurried = in_time(opens, self._now, limit.lead(cost, self._rows), self._hurry)
        return opens

    def _weigh(self) -> tuple[float, float, float]:
        """Places that are taken, and all there are, each counted by its speed; how short capacity is, from 0 to 1."""
        taken = places = filled = 0.0
        for limit, cost in self._known:
            speed = _speed(cost, self._rows)
            taken += limit.in_flight * speed
            places += limit.ceiling * speed
            filled += limit.ceiling * speed * cost.rows
        full = filled / (places * self._cap)
        return taken, places, max(0.0, min(1.0, (full - ROOMY) / (SHORT - ROOMY)))


def _speed(cost: Cost, rows: int) -> float:
    return 1.0 / max(1e-9, cost.seconds(rows))
