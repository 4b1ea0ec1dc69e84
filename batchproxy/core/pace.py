"""How far behind the batch before it one that is not full leaves, and how soon where a caller's time is nearly up.

Batches that leave whenever a place is free bunch up; evenly spaced ones are evenly filled (see `limit`). Nothing is
learned or sent here.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from batchproxy.core.cost import Cost

PACE = 0.75
"""Share of the endpoint's time that the fixed part of partial batches may fill; the rest takes what comes unevenly."""

SHORTEST = 0.0005
"""Seconds: a batch is held for less only where others arrive meanwhile, since an event loop's timers count
milliseconds, and it is the next arrival that ends so short a wait."""

SEVERAL = 4.0
"""Mean rows from which others surely arrive meanwhile."""

EARLY = 1.25
"""Times of a batch before a caller's deadline at which it leaves at the latest, company or not: at 1 the next hiccup
would make it late."""

SHARED = 2.0
"""Times the fixed part's share of a batch's time up to which spacing is weakened: larger batches save only that part,
and where it is small, a place that is left empty loses more. Of 2, 4 and none, 2 is best on ``1 + 4*rows`` ms."""


class Hurry(NamedTuple):
    """What a caller's deadline means for the batch that it is in.

    Attributes:
        patience: how long it waits in all, in seconds.
        deadline: when it gives up, on the engine's clock.
    """

    patience: float = math.inf
    deadline: float = math.inf


EASE = Hurry()
"""Of who waits for ever."""


def in_time(opens: float, now: float, lead: float, hurry: Hurry) -> tuple[float, bool]:
    """When a batch that should not leave before ``opens`` leaves for its callers' sake, and whether that is now.

    Args:
        opens: later than ``now``.
        now: the engine's clock, in seconds.
        lead: seconds until it would be answered, if it left now.
        hurry: of its most urgent caller.
    """
    latest = hurry.deadline - EARLY * lead
    return max(now, min(opens, latest)), latest <= now


def gap(cost: Cost, rows: int, places: float, in_flight: float) -> float:
    """Seconds between partial batches: what the endpoint needs to work one off, as far as it is busy.

    Args:
        cost: of the batch, known.
        rows: that wait.
        places: batches that the endpoint works on at once.
        in_flight: batches that it has.
    """
    company = min(1.0, cost.rows - 1.0)  # nobody waits for company that never comes
    busy = min(1.0, 2.0 * (in_flight + 1) / max(places, 1.0) - 1.0)
    if company <= 0.0 or busy <= 0.0:
        return 0.0
    saved = (1.0 - cost.unsaved) * min(1.0, SHARED * cost.alpha / cost.seconds(rows))
    seconds = (cost.alpha / PACE + cost.beta * rows) / places * busy * saved * company
    return 0.0 if seconds < SHORTEST and cost.rows < SEVERAL else seconds
