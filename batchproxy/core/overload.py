"""Models whose callers ask for more than can be done, for longer than a burst lasts: their queue is kept short.

A long queue is right for a burst: all of it is answered. Where requests are refused for seconds on end it is full all
the time, nobody gains anything by its length, and everybody waits for all of it, even after the load has fallen. So its
bound is lowered to what the pool works off in ``KEPT_S``, until nobody has been refused for ``CALM_S``. What endpoints
hold is waited for just as much: meanwhile they get no more than ``AHEAD_S`` lets them beyond the places that they have.

With a load of half the capacity afterwards all that is worked off in twice its time: two seconds after the load has
fallen nobody waits for it any more, where a full batch takes up to 0.4 s and the overload lasted long enough for what
had queued up before the bound to be worked off.

Callers who wait for their answers before they ask again never get there, however many they are, unless the queue is
too short for them. Nothing is refused here; see `lanes`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from batchproxy.core.lane import Lane
from batchproxy.core.lanes import Lanes

STANDING_S = 5.0
"""Seconds of refusals after which a full queue is no burst. Linkerd's lesson: size queues by the predicted wait (its
default of 10,000 requests gave 51 % failures; peers.md, "Load balancing and reliability anchors")."""

APART_S = 1.0
"""Seconds between refusals that belong together."""

KEPT_S = 0.25
"""Seconds of work that such a queue may hold."""

BATCHES = 1.25
"""Batches that it may hold at least: a full one, whatever the next request has in rows."""

AHEAD_S = 0.5
"""Patience that stands for that of callers in `limit`, which lets full batches go ahead by a part of it."""

CALM_S = 5.0
"""Seconds without a refusal after which the queue may be long again."""


@dataclass(slots=True)
class _Trouble:
    since: float
    last: float
    shed: bool = False


class Overload:
    """Watches the refusals of one scheduler.

    Args:
        lanes: of the scheduler.
        notice: told of each change of state that an operator should know, in one line.

    Attributes:
        due: when ``look`` may have something to do, on the engine's clock.
    """

    def __init__(self, lanes: Lanes, notice: Callable[[str], None]) -> None:
        self.due = math.inf
        self._lanes = lanes
        self._notice = notice
        self._troubles: dict[str, _Trouble] = {}

    def refused(self, model: str, lane: Lane | None, now: float) -> None:
        """A request was refused since too much waits.

        Args:
            model: its own.
            lane: where it would have waited; None: there is none yet.
            now: the engine's clock, in seconds.
        """
        trouble = self._troubles.get(model)
        if trouble is None or (not trouble.shed and now > trouble.last + APART_S):
            trouble = self._troubles[model] = _Trouble(now, now)
        trouble.last = now
        self.due = min(self.due, now + CALM_S)
        if trouble.shed or now < trouble.since + STANDING_S or lane is None or not lane.row_s:
            return
        book = lane.book
        rows = max(int(BATCHES * lane.cap), int(KEPT_S / lane.row_s))
        if rows < book.max_rows:
            book.max_rows, book.ahead_s, trouble.shed = rows, AHEAD_S, True
            self._notice(
                f"model {model!r}: requests have been refused for {STANDING_S:.0f} s; at most {rows} rows wait "
                f"({KEPT_S:g} s of work) until none is refused any more. Add capacity, or let callers send less"
            )

    def look(self, now: float) -> None:
        """Let queues be long again whose callers are refused no more."""
        for model, trouble in list(self._troubles.items()):
            if now < trouble.last + CALM_S:
                continue
            del self._troubles[model]
            if trouble.shed:
                book = self._lanes.books[model]
                book.max_rows, book.ahead_s = book.policy.max_queued_rows, math.inf
                self._notice(f"model {model!r}: no request is refused any more; up to {book.max_rows} rows may wait")
        self.due = min((trouble.last + CALM_S for trouble in self._troubles.values()), default=math.inf)

    def shedding(self, model: str) -> bool:
        """Whether a model's queue is kept short."""
        trouble = self._troubles.get(model)
        return trouble is not None and trouble.shed
