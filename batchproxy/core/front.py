"""Batches that go before all that waits in lanes: those that did not run, pieces of rejected ones. Sends nothing.

A server that fails at once is always free, so a batch that goes wherever there is room would spend all its tries there
while another server, busy now, would answer it. Its last try is therefore kept for an endpoint where it has not failed,
as long as one is up; whoever is behind it does not wait for that. Envoy has such a rule, too (``previous_hosts``), but
goes back to a host that failed when no other is found in a few draws; here the draw is worth waiting for, and no longer
than the callers would.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from batchproxy.core.balancer import Balancer, Endpoint
from batchproxy.core.batch import Batch
from batchproxy.core.ends import MAX_ATTEMPTS, Ends

if TYPE_CHECKING:
    from batchproxy.core.request import BatchKey

Place = Callable[["BatchKey", int, int, float, Sequence[Endpoint]], Endpoint | None]


class Front:
    """Says which of them goes next, for one scheduler.

    Args:
        ends: of the scheduler; puts them there.
        balancer: of the scheduler.
        place: finds the endpoint for a batch and notes where there is none; see `Scheduler`.
        refresh: drops the members of a batch that left or are late; whether any remain.

    Attributes:
        opens: when ``next`` could say something after it said nothing, on the engine's clock; ``inf``: not by itself.
    """

    def __init__(self, ends: Ends, balancer: Balancer, place: Place, refresh: Callable[[Batch, float], bool]) -> None:
        self.opens = -math.inf
        self.batches: deque[Batch] = ends.front
        self._ends = ends
        self._balancer = balancer
        self._place = place
        self._refresh = refresh

    def next(self, now: float) -> tuple[Batch, Endpoint] | None:
        """The next batch and its endpoint; it is taken out. None: there is none, or nothing may leave at present."""
        batches, passed, opens = self.batches, 0, math.inf
        while len(batches) > passed:
            batch = batches[passed]
            if batch.live:
                barred = self.barred(batch)
                if barred:
                    endpoint, when = self._balancer.choose(
                        batch.key, batch.rows, batch.rows, now, batch.avoid, barred=barred
                    )
                    opens = min(opens, when)
                else:
                    endpoint = self._place(batch.key, batch.rows, batch.rows, now, batch.avoid)
                if endpoint is None and not barred:
                    self.opens = -math.inf  # whoever placed it in vain has noted until when
                    return None
                if endpoint is None:
                    passed += 1
                    continue
                if self._refresh(batch, now):
                    del batches[passed]
                    return batch, endpoint
            del batches[passed]
            batch.leave_family()
            self._ends.requeue_released(batch)
            passed, opens = 0, math.inf  # what was released is before those that were passed
        self.opens = opens
        return None

    def barred(self, batch: Batch) -> Sequence[Endpoint]:
        """The endpoints that a batch may not go to."""
        if not batch.avoid or batch.entries[0].attempts < MAX_ATTEMPTS - 1:
            return ()
        key, balancer = batch.key, self._balancer
        without = balancer.placement.without(key.model, key.version, balancer.endpoints)
        for endpoint in balancer.endpoints:
            if endpoint.up and not endpoint.out and endpoint not in batch.avoid and endpoint not in without:
                return batch.avoid
        return ()
