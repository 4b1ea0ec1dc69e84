"""How many batches an endpoint may have at once, and how far apart: learned from the work it gets done. Sends nothing.

Three ideas, each held against others in simulation (docs/simulation.md):

**The speed ceiling.** A clock runs at 1/n while n batches are in flight: each batch has its fair share of the
endpoint's time, and the shares add up to the busy time. Over a window of batches ``N`` is the mean number in flight
and ``S`` the work done (the time each would take alone) by busy time. While ``S`` keeps up with ``N`` nobody slows
anybody, and more may be tried; where it falls behind, ``S`` is the ceiling.

**Full batches do not wait.** They gain nothing by it, so they may go beyond the limit for partial ones.

**Pacing.** Partial batches that leave whenever a place is free bunch up. They are spaced instead (`pace`), at the speed
at which the endpoint works them off, once half of its places are taken. An idle endpoint is never waited for.
"""

from __future__ import annotations

import math

from batchproxy.core.cost import Cost
from batchproxy.core.overflow import OPENING, Overflow
from batchproxy.core.pace import EASE, Hurry, gap, in_time
from batchproxy.core.saved import number, whole
from batchproxy.core.units import Weight
from batchproxy.core.window import Window

FIRST = 2
"""Partial batches in flight before anything is known: the least that overlaps at all, hence teaches."""

HARD_CAP = 64
"""Batches in flight at most, whatever was learned: an endpoint's memory has a bound."""

PAUSE = 12
"""Windows after a ceiling was seen before it is looked for again: a look costs 1-2 % on a single lane."""

PROBE = 1.3
"""A look above the limit, as a factor: beyond a true ceiling S/N falls to 0.77, far outside the noise of a window."""

FULLISH = 0.9
"""Rows over the cap from which a batch counts as full, and a look above the limit must not thin batches out."""

ROUND = 0.4
"""Part of a lane that counts as one more: a lone lane behind a network gives a ceiling of 1.1 to 1.5, and holds one."""

TIMED = 8.0
"""Weight of a batch for which the endpoint was emptied, and whose size was not seen lately."""

DRAIN = 4.0
"""Mean times of a batch that an endpoint may take to become empty: else it is not waited for."""

HURRY = 0.75
"""Part of a caller's patience that may go by at the endpoint."""

TINY = 1e-9
"""Seconds: what a batch that took no time is said to have taken."""


class Flight:
    """Of a batch in flight: when it left, the clock then, how many others there were; its weight, if it was weighed."""

    __slots__ = ("clock", "others", "sent", "weight")

    def __init__(self, sent: float, clock: float, others: int) -> None:
        self.sent = sent
        self.clock = clock
        self.others = others
        self.weight: Weight | None = None


class Limit:
    """The limit of one endpoint.

    Args:
        fixed: batches in flight at most, where a user knows better: nothing is spaced or tried then, but costs are
            learned all the same.

    Attributes:
        in_flight: batches sent and not yet ended.
        ceiling: work done at once at most: lanes, cores, and what hides the way there and back.
        partial: batches in flight up to which partial ones may go.
        full: the same for full ones.
        full_window: of the last batch that ended, if a window of full batches ended with it: the cost of most of
            them, and the rows a second that the endpoint works off at most.
        draining: whether nothing is sent until the endpoint is empty, so that one batch can be timed alone.
        last_sent: when the last batch left, on the engine's clock.
        hurried: whether what was last asked about may go before its turn, since a caller's time is nearly up.
    """

    def __init__(self, fixed: int | None = None) -> None:
        self.fixed = fixed
        self.in_flight = 0
        self._clock = 0.0
        self._ticked = 0.0
        self.last_sent = -math.inf
        self._turn = 0
        self.hurried = False
        self.forget()

    def forget(self) -> None:
        """What was learned was wrong; what is in flight stays so."""
        self.ceiling = float(self.fixed or FIRST)
        self.partial = self._base = self.fixed or FIRST
        self.full = self._free = self.fixed or OPENING  # the second: where none is in another's way
        self.full_window: tuple[Cost, float] | None = None
        self.draining = self._timing = False
        self._window = Window()
        self._starting = True
        self._probing, self._probed = False, 0
        self._stepped = False  # up, and no batch has ended since
        self._skip = 0
        self._pause = 0
        self._drain_until = math.inf
        self._in_doubt: Window | None = None
        self._was_covered = False
        self._timed_at = -(10**9)
        self._backoff = 1
        self._lows = 0
        self._overflow = Overflow()

    # -- sending -----------------------------------------------------------------------------------

    def opens(self, cost: Cost, rows: int, cap: int, now: float, hurry: Hurry = EASE) -> float:
        """From when a batch may be sent: ``now`` for at once, ``inf`` for not before another has ended.

        Args:
            cost: of its kind of batch.
            rows: that wait.
            cap: rows a batch has at most.
            now: the engine's clock, in seconds.
            hurry: of the most urgent caller.
        """
        count = self.in_flight
        self.hurried = False
        if not count:
            return now
        if self.draining:
            if now < self._drain_until:
                return self._drain_until
            self.draining = self._timing = False  # something in flight takes too long to be waited for
            self._timed_at -= 24 * self.partial  # it is tried again soon
        if rows >= cap and count < self._most(cost, cap, hurry.patience):
            return now
        if count >= self.partial:
            return math.inf
        if self.fixed is not None or not cost.known:
            return now
        places = self.ceiling
        if cost.rows < FULLISH * cap:
            places *= self.partial / self._base
        opens = self.last_sent + gap(cost, rows, places, count)
        if opens > now and hurry is not EASE:
            opens, self.hurried = in_time(opens, now, self.lead(cost, rows), hurry)
        return max(now, opens)

    def _most(self, cost: Cost, cap: int, patience: float) -> int:
        """Full batches in flight: fewer where callers are in a hurry, who would wait for each other at the endpoint."""
        if patience == math.inf or not cost.known:
            return self.full
        each = cost.seconds(cap) * cost.p90 / self.ceiling
        return min(self.full, max(self.partial, int(HURRY * patience / each)))

    def at_most(self, cap: int) -> int:
        """Rows of the next batch at most: a batch that is timed alone has a size of those that raised the doubt."""
        return min(cap, self._in_doubt.typical) if self.draining and self._in_doubt else cap

    def lead(self, cost: Cost, rows: int) -> float:
        """Seconds until a batch sent now is answered, but for one in ten; 0 where nothing is known."""
        return self.finish(cost, rows) * cost.p90

    def finish(self, cost: Cost, rows: int) -> float:
        """Seconds until a batch sent now would be answered; 0 where nothing is known."""
        return cost.seconds(rows) * max(1.0, (self.in_flight + 1) / self.ceiling)

    def depart(self, now: float) -> Flight:
        """A batch leaves."""
        self._tick(now)
        if self.draining:
            self._timing = True
        flight = Flight(now, self._clock, self.in_flight)
        self.in_flight += 1
        self.last_sent = now
        return flight

    def _tick(self, now: float) -> None:
        if self.in_flight:
            self._clock += (now - self._ticked) / self.in_flight
        self._ticked = now

    # -- ending ------------------------------------------------------------------------------------

    def drop(self, now: float) -> None:
        """A batch ended in a way that says nothing of what it costs."""
        self._tick(now)
        self.in_flight -= 1
        if self._timing and not self.in_flight:
            self.draining = self._timing = False

    def alone(self, flight: Flight, now: float) -> float:
        """Seconds that a batch which is answered now would have taken alone, as far as can be told."""
        self._tick(now)
        return min(now - flight.sent, self.ceiling * (self._clock - flight.clock))

    def arrive(self, flight: Flight, cost: Cost, rows: int, cap: int, now: float, filler: float = 0) -> None:
        """A batch was answered: learn from it.

        Args:
            flight: what ``depart`` gave.
            cost: of its kind.
            rows: it had.
            cap: rows it could have had.
            now: the engine's clock, in seconds.
            filler: rows it was padded with, and rows of mean length that it has more than rows; may be below 0.
        """
        self._tick(now)
        self.in_flight -= 1
        self.full_window = None
        self._turn += 1
        seconds = max(TINY, now - flight.sent)
        share = max(TINY, self._clock - flight.clock)
        crowd = seconds / share
        cost.seen(rows)
        if not flight.others and (crowd < 2.0 or not cost.samples):  # it started alone, and mostly stayed so
            seconds_alone = self._learn_alone(cost, rows + filler, seconds, share)
            if flight.weight is not None:
                cost.weigh(flight.weight, seconds_alone)
        elif not cost.known:
            cost.shape(rows + filler, seconds * min(1.0, self.ceiling / crowd), 1.0)
        if self.fixed is not None:
            return
        if self.draining:
            self._drained()
            return
        if rows >= FULLISH * cap:
            whole = share * cost.seconds(cap) / cost.seconds(rows + filler)
            before, changed = self.full, self._overflow.ended((cost, cap), crowd, whole, cost.sigma, self._free)
            self._settle(cost)
            self._stepped |= changed and abs(self.full - before) > before // 4
        if self._probing and not self._starting:
            self._probed += 1
            if self._probed > max(3 * Window.LEAST, 6 * self.partial):  # the limit does not bind: nothing to be seen
                self._end_probe(PAUSE // 2)
                self._settle(cost)
                self._window = Window()
                return
        if self.partial > 1 and crowd < max(1.25, 0.6 * self.partial):
            return  # half idle: says nothing about the limit
        if self._stepped:  # those that left before a step, or first after it, had more of the endpoint than is left now
            self._stepped, self._skip = False, self.in_flight + 1
        if self._skip:
            self._skip -= 1
            return
        self._window.add(cost, rows, cap, share, seconds, filler)
        if self._window.complete(self.partial, first=self._starting and self.partial <= FIRST):
            window, self._window = self._window, Window()
            window.introduce(self._turn)
            self._judge(window, cost)

    def _learn_alone(self, cost: Cost, rows: float, seconds: float, share: float) -> float:
        """As if it had been alone to its end; returns the seconds that it would have taken."""
        if seconds > 1.1 * share and self.ceiling < 1.5:  # one lane: who came later slowed its end
            seconds -= (seconds - share) / 4
        if self._timing and cost.known:
            surprise = seconds / cost.seconds(rows)
            if self._was_covered and cost.covers(rows, 0) and not 1 / 1.35 <= surprise <= 1.35:  # that is no noise
                cost.scale(surprise)
                self._backoff = 1
            elif not 1 / 1.35 <= surprise <= 1.35:
                cost.shape(rows, seconds, TIMED)
            steady = 0.8 < surprise < 1.25
            self._backoff = min(16, 2 * self._backoff) if steady else 1
        cost.learn(rows, seconds, self._turn)
        return seconds

    def _drained(self) -> None:
        """The endpoint is empty, or the batch that had it to itself was answered: judge again what raised the doubt."""
        if self._timing:
            self.draining = self._timing = False
            window, self._in_doubt = self._in_doubt, None
            self._window = Window()
            self._stepped = True
            if window is not None:
                self._judge(window, window.main)

    # -- judging -----------------------------------------------------------------------------------

    def _judge(self, window: Window, cost: Cost) -> None:
        crowd, speed = window.crowd, window.speed
        kept = speed / crowd
        sure = 1.0 - window.guard
        slowed = kept < sure and crowd > 1.25  # less is one batch and the tail of another
        if crowd > 0.95 * self.ceiling and window.rows > 0.95 * window.room:
            self.full_window = window.main, window.rows / window.share
        if slowed and self._doubts(window, speed):
            return
        if kept > 0.93 and crowd < self.ceiling + 0.5:  # nobody slowed anybody: the sizes tell the line
            window.teach_shapes(kept)
        if slowed:
            self._below(speed, crowd, kept < sure - 0.07)
        else:
            self._up_to(window, speed, crowd)
        self._settle(cost)

    def _doubts(self, window: Window, speed: float) -> bool:
        """Whether the endpoint must be seen empty before this window can be judged; if so, it is being emptied."""
        cost = window.main
        since = self._turn - self._timed_at
        self._lows = self._lows + 1 if speed < 0.75 * self.ceiling else 0
        small = self.ceiling < 3.0  # emptying a large endpoint costs too much once it is at work
        covered = cost.covers(window.mean_rows, self._turn - 256 * self.partial - 64)
        unknown = not covered and (self._starting or small) and since > 8 * self.partial * self._backoff
        lower = self._lows > 1 and since > 32 * self.partial
        absurd = speed < 0.85 and since > 8 * self.partial  # an endpoint does at least one thing at a time
        if not (unknown or lower or absurd):
            return False
        self.draining, self._in_doubt, self._timed_at = True, window, self._turn
        self._drain_until = self._ticked + DRAIN * window.seconds / window.count
        self._was_covered = covered and speed > 0.85
        self._lows = 0
        return True

    def _below(self, speed: float, crowd: float, clearly: bool) -> None:
        """S fell behind N: that is the ceiling."""
        fast = self._starting or speed > 1.25 * self.ceiling
        self.ceiling += (speed - self.ceiling) * (0.7 if fast else 0.3)
        if clearly:
            self._starting = False
        if self._probing:
            self._end_probe(PAUSE)
            return
        self._pause -= 1
        if self._pause <= 0 and crowd > 0.75 * self.partial:
            self._start_probe()

    def _up_to(self, window: Window, speed: float, crowd: float) -> None:
        """S kept up with N: the ceiling is no lower."""
        kept = speed / crowd
        if kept > 1.0 + window.luck:  # nothing is faster than alone
            window.rescale(kept**-0.5)
        elif 1.5 < crowd <= self.ceiling + 0.05:
            window.bend(1.0 / kept)
        reached = speed if kept < 0.97 else crowd
        if reached > self.ceiling:
            fast = self._starting or reached > 1.15 * self.ceiling
            self.ceiling += (reached - self.ceiling) * (1.0 if fast else 0.3)
        elif crowd > self.ceiling:
            self.ceiling += (reached - self.ceiling) * 0.3
        if crowd <= 0.75 * min(self.partial, self.ceiling):
            return
        if self._pause > 0:
            self._pause -= 1
            self._probing = False
        elif self._probing and kept < 0.93 and not self._starting:
            self._end_probe(PAUSE // 2)
        else:
            self._start_probe()

    def _start_probe(self) -> None:
        self._stepped = self._stepped or not self._probing
        self._probing = True
        self._probed = 0

    def _end_probe(self, pause: int) -> None:
        self._probing = False
        self._pause = pause

    def _settle(self, cost: Cost) -> None:
        self.ceiling = max(1.0, min(self.ceiling, float(HARD_CAP)))
        self._base = max(1, int(self.ceiling * (1.0 + cost.unsaved) + ROUND))
        self.partial = self._base
        if self._probing:
            self.partial = max(self._base + 1, int(self._base * (2.0 if self._starting else PROBE)))
        free = max(self._overflow.opening, self.partial + 1) if self._starting else 2 * self.partial + 1
        self._free = min(HARD_CAP, free)
        self.full = int(min(self._free, self._overflow.most))
        self.partial = min(self.full, self.partial)

    def state(self) -> dict[str, float] | None:
        """What was learned, as plain numbers; None: nothing was, or a user knows better."""
        if self.fixed is not None or not self._turn:
            return None
        counts = {"partial": self._base, "full": self.full, "starting": int(self._starting), "turn": self._turn}
        return {"ceiling": self.ceiling, **counts}

    def restore(self, state: object) -> None:
        """Go on where another one's ``state()`` was; a limit that a user fixed stays as it is.

        Raises:
            ValueError: it is not what ``state`` gives; nothing has changed then.
        """
        ceiling, partial = number(state, "ceiling", 1.0, HARD_CAP), whole(state, "partial", 1, HARD_CAP)
        full, turn = whole(state, "full", partial, HARD_CAP), whole(state, "turn", 0, 2**53)
        starting = whole(state, "starting", 0, 1) == 1
        if self.fixed is None:
            self.ceiling, self.partial, self._base = ceiling, partial, partial
            self.full = self._free = full
            self._starting, self._turn = starting, turn

    def __repr__(self) -> str:
        return f"Limit({self.in_flight} of {self.partial}, full {self.full}, ceiling={self.ceiling:.2f})"
