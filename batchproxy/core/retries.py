"""How many calls of a pool may be made a second time: retries must not be what keeps a pool overloaded. Sends nothing.

Linkerd's budget (peers.md, "Load balancing and reliability anchors"): of the last ten seconds' calls a fifth may be
retries, and ten a second beyond that, so that a pool with little to do can try again, too. A merged call counts once,
whoever is in it.

A hedge, which is sent though nothing failed, is paid from the same budget, as gRPC and Envoy have it, but may not use
up more than its own share of it: slow servers must not keep what failed from being tried again.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

from batchproxy.core.cost import Cost

SHARE = 0.2
"""Retries per call that ended. Linkerd: ``retryRatio``; Envoy's ``budget_percent`` is the same 20 %."""

FLOOR_PER_S = 10.0
"""Retries a second beyond those. Linkerd: ``minRetriesPerSecond``."""

WINDOW_S = 10
"""Seconds that calls and retries are counted over. Linkerd: ``ttl``."""

HEDGED = 0.1
"""Hedges per call that ended. gRPC: ``retryThrottling.tokenRatio`` of gRFC A6, from which hedges are paid, too. By the
95th percentile a twentieth is called for as long as all is well ("The Tail at Scale", Dean and Barroso, 2013)."""

HEDGED_PER_S = 1.0
"""Hedges a second beyond those. gRPC: ``maxTokens`` 10, over ten seconds."""


class Retries:
    """The budget of one pool.

    Args:
        notice: told when the budget is spent, in one line.

    Attributes:
        made: retries so far.
        refused: calls that ended with their error since the budget was spent.
        calls: that ended in the last ten seconds.
        hedges: that were made in them.
    """

    def __init__(self, notice: Callable[[str], None]) -> None:
        self.made = 0
        self.refused = 0
        self._notice = notice
        self.calls = self.hedges = 0
        self._seconds: deque[tuple[float, int, int, int]] = deque()  # until when one counts, its calls, retries, hedges
        self._until = -math.inf
        self._calls = self._retries = self._hedges = 0  # of the present second
        self._all_retries = 0  # of the window, hedges among them
        self._spent = self._hedges_spent = False

    def ended(self, now: float) -> None:
        """A call ended, retry or not."""
        if now >= self._until:
            self._turn(now)
        self._calls += 1
        self.calls += 1

    def allow(self, now: float) -> bool:
        """Whether one more call may be made a second time; if so, it counts as made."""
        if now >= self._until:
            self._turn(now)
        if not self._is_left():
            self.refused += 1
            if not self._spent:
                self._spent = True
                self._notice(
                    f"the retry budget is spent ({self._all_retries} of the last {self.calls} calls were "
                    "retries): calls that fail end with their errors"
                )
            return False
        self._spent = False
        self._retries += 1
        self._all_retries += 1
        self.made += 1
        return True

    def may_hedge(self, now: float) -> bool:
        """Whether one more call that is slow may be made elsewhere, too; ``hedged`` is to be called if it is."""
        if now >= self._until:
            self._turn(now)
        if self._is_left() and self.hedges + 1 <= HEDGED * self.calls + HEDGED_PER_S * WINDOW_S:
            self._hedges_spent = False
            return True
        if not self._hedges_spent:
            self._hedges_spent = True
            self._notice(
                f"the budget of hedges is spent ({self.hedges} of the last {self.calls} calls were hedges): calls that "
                "are slow are waited for"
            )
        return False

    def hedged(self) -> None:
        """A call that is slow was made elsewhere, too."""
        self._retries += 1
        self._all_retries += 1
        self._hedges += 1
        self.hedges += 1

    def _is_left(self) -> bool:
        return self._all_retries + 1 <= SHARE * self.calls + FLOOR_PER_S * WINDOW_S

    def _turn(self, now: float) -> None:
        """A second is over."""
        if self._calls or self._retries:
            self._seconds.append((self._until - 1.0 + WINDOW_S, self._calls, self._retries, self._hedges))
        while self._seconds and self._seconds[0][0] <= now:
            _, calls, retries, hedges = self._seconds.popleft()
            self.calls -= calls
            self._all_retries -= retries
            self.hedges -= hedges
        self._calls = self._retries = self._hedges = 0
        self._until = now + 1.0


def is_in_time(cost: Cost, rows: int, deadline: float | None, now: float) -> bool:
    """Whether a caller can still be answered by another call, as far as is known.

    Args:
        cost: of the call.
        rows: of the call.
        deadline: the caller's, on the engine's clock, in seconds.
        now: likewise.
    """
    return deadline is None or now + cost.seconds(rows) < deadline
