"""Which batch takes so long that it is sent to a second endpoint, too, and which of the two calls counts.

"The Tail at Scale" (Dean and Barroso, CACM 2013): whatever is slower than 95 of 100 is asked for once more elsewhere,
the first answer is taken and the other call cancelled, which costs a twentieth of the calls while all is well. Here:

* **Late** is a batch whose time, as if it had its endpoint to itself, is above the 95th percentile for its size, by
  what was learned of that endpoint. Company that it has there is accounted for; where nothing was learned, nothing is
  late.
* **Room** is what waiting batches leave: a hedge is considered only where nothing else can be sent, and never goes
  beyond the limit for batches that are not full. Under load, where hedges would make the tail, there are none.
* **Budget**: `retries`.
* A failure of one of the two is no outcome while the other is under way. A good answer of either is.

What is learned from the loser: that it took longer than it was given. A batch that was cancelled is no sample, but to
leave it out would leave fast ones only: the mean and the quantile would fall, more would be late, and a slow endpoint
would look as good as the others. So its time so far counts as if it had ended then, if that is more than was predicted.
That is less than it would have taken, hence never blames an endpoint for what waiting would not have shown; and the
95th percentile is not moved by how far above it a value lies, so it stays what it would be without hedges. Whether a
loser counts against the health of its endpoint is decided as for any call that was given up (`outliers`: only after
five times its time).

Nothing is sent here.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping

from batchproxy.core.balancer import Balancer, Endpoint
from batchproxy.core.batch import Batch, Dispatch, Race, Release
from batchproxy.core.ends import MAX_ATTEMPTS
from batchproxy.core.outcome import Outcome
from batchproxy.core.policy import Policy
from batchproxy.core.ranking import Ranking
from batchproxy.core.request import RUNNING
from batchproxy.core.retries import Retries, is_in_time

SOONEST_S = 0.001
"""Seconds after which a batch is late at the earliest, unless configured: an event loop's timers count milliseconds."""

WON, LOST, FAILED, REFUSED = "won", "lost", "failed", "refused"
"""What became of a hedge: it answered first, the first call did, neither answered, or there was no budget for it."""


class _Watch:
    """A call that is looked at when it may be late; lets go of it when it ends."""

    __slots__ = ("dispatch", "ticket")

    def __init__(self, dispatch: Dispatch, ticket: int) -> None:
        self.dispatch: Dispatch | None = dispatch
        self.ticket = ticket


class Hedging:
    """Watches the calls of one scheduler whose models are hedged.

    Args:
        policies: model name to policy.
        balancer: of the scheduler.
        retries: the pool's budget.
        refresh: drops the members of a batch that left or are late.
        send: sends a batch to an endpoint, for a reason, as one of at most so many rows.

    Attributes:
        results: how many hedges there were, by model and what became of them.
        watched: the calls that may come to be late; empty where no model is hedged.
    """

    def __init__(
        self,
        policies: Mapping[str, Policy],
        balancer: Balancer,
        retries: Retries,
        refresh: Callable[[Batch, float], object],
        send: Callable[[Batch, Endpoint, float, Release, int], Dispatch],
    ) -> None:
        self.results: Counter[tuple[str, str]] = Counter()
        self.watched: dict[Dispatch, _Watch] = {}
        self._policies = policies
        self._balancer = balancer
        self._retries = retries
        self._refresh = refresh
        self._send = send
        self._soon: Ranking[float, _Watch] = Ranking()
        self._late: dict[Dispatch, None] = {}
        self._opens = math.inf
        self._ticket = 0

    def watch(self, dispatch: Dispatch) -> None:
        """A merged call of a model that is hedged has left."""
        policy = self._policies[dispatch.batch.key.model]
        if not policy.idempotent or dispatch.batch.family is not None:  # bisecting has a budget of its own
            return
        delay = policy.hedging_delay_s or self._left(dispatch, dispatch.started)
        if delay is not None:
            self._ticket += 1
            watch = self.watched[dispatch] = _Watch(dispatch, self._ticket)
            self._soon.push(dispatch.started + delay, watch)

    def forget(self, dispatch: Dispatch) -> None:
        """A call needs no hedge any more."""
        watch = self.watched.pop(dispatch, None)
        if watch is not None:
            watch.dispatch, watch.ticket = None, -1
            self._late.pop(dispatch, None)

    def wake_at(self) -> float:
        """When ``next`` could say something after it said nothing, on the engine's clock; ``inf``: not by itself."""
        first = self._soon.first()
        return self._opens if first is None else min(self._opens, first[0])

    def next(self, now: float) -> Dispatch | None:
        """The second call of a batch that is late; None: no batch is, or there is no room or no budget for it."""
        self._find_late(now)
        self._opens = math.inf
        for dispatch in tuple(self._late):
            batch = dispatch.batch
            if not self._is_wanted(dispatch, now):
                self.forget(dispatch)
            elif not self._retries.may_hedge(now):
                self.results[batch.key.model, REFUSED] += 1
                self.forget(dispatch)
            else:
                barred = (*batch.avoid, dispatch.endpoint)
                # one more row than it has would make it full: it is not, so that it takes nobody's place
                endpoint, opens = self._balancer.choose(batch.key, batch.rows, batch.rows + 1, now, barred=barred)
                if endpoint is not None:
                    self.forget(dispatch)
                    self._retries.hedged()
                    self._refresh(batch, now)
                    hedge = self._send(batch, endpoint, now, Release.HEDGE, dispatch.cap)
                    _ = Race(dispatch, hedge)
                    return hedge
                self._opens = min(self._opens, opens)
        return None

    def _find_late(self, now: float) -> None:
        soon = self._soon
        while (first := soon.first()) is not None and first[0] <= now:
            soon.pop()
            watch = first[2]
            assert watch.dispatch is not None, "a call that has ended is watched. This is a bug."
            fixed = self._policies[watch.dispatch.batch.key.model].hedging_delay_s
            left = 0.0 if fixed else self._left(watch.dispatch, now)
            if left is None:
                self.forget(watch.dispatch)
            elif left > 0.0:  # it had company
                soon.push(now + max(SOONEST_S, left), watch)
            else:
                self._late[watch.dispatch] = None

    def _left(self, dispatch: Dispatch, now: float) -> float | None:
        """Seconds until a call is late, if its company stays; None where nothing is known of its cost."""
        endpoint, flight = dispatch.endpoint, dispatch.flight
        cost, limit = endpoint.cost(dispatch.batch.key), endpoint.limit
        if not cost.known or flight is None:
            return None
        patience = max(SOONEST_S, cost.seconds(dispatch.units) * cost.p95)
        return (patience - limit.alone(flight, now)) * max(1.0, limit.in_flight / limit.ceiling)

    def _is_wanted(self, dispatch: Dispatch, now: float) -> bool:
        """Whether anybody is left who can still be answered by another call, and it may be made."""
        batch = dispatch.batch
        policy = self._policies[batch.key.model]
        if not policy.hedging or not policy.idempotent:
            return False
        cost = dispatch.endpoint.cost(batch.key)
        return any(
            entry.state is RUNNING
            and not entry.waiter.done()
            and entry.attempts + 1 < MAX_ATTEMPTS
            and is_in_time(cost, dispatch.sent, entry.request.deadline, now)
            for entry in batch.entries
        )

    def end(self, dispatch: Dispatch, race: Race, outcome: Outcome, now: float) -> bool:
        """One of two calls of a batch has ended; to be told before its slot is free.

        Args:
            dispatch: the call.
            race: of the two.
            outcome: how it ended.
            now: the engine's clock, in seconds.

        Returns:
            Whether that is what becomes of the batch; else the other call decides, or has decided.
        """
        answered, batch = outcome is Outcome.OK, dispatch.batch
        if race.winner is not None and not answered:
            _outlasted(dispatch, now)
        decides = race.end(dispatch, answered)
        if decides:
            won = race.winner is race.second
            self.results[batch.key.model, FAILED if race.winner is None else WON if won else LOST] += 1
            if answered:
                batch.live = 0  # nobody waits for the other call
        elif race.winner is None and outcome in {Outcome.NOT_RUN, Outcome.MAYBE_RUN}:
            batch.failed_at(dispatch.endpoint)
            for entry in batch.entries:
                entry.attempts += 1
        return decides


def _outlasted(dispatch: Dispatch, now: float) -> None:
    """A call that was cancelled, since another one was faster, would have taken longer than this."""
    endpoint, flight = dispatch.endpoint, dispatch.flight
    cost = endpoint.cost(dispatch.batch.key)
    if flight is not None and not flight.others and dispatch.sent in cost.first:  # else it may have been compiling
        cost.outlasted(dispatch.units, endpoint.limit.alone(flight, now))
