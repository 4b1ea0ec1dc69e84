"""Other rules for what to send when, written down from peers' sources, and the loop that drives them. None is ours.

A rival sees what any batcher sees: rows that wait, calls in flight, how long the oldest has waited. It says how many
rows leave now; or else how many must wait before it is worth asking again, and from when on it is in any case.
All are re-implementations in a few lines, not the products.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Sequence
from heapq import heappop, heappush
from itertools import accumulate
from random import Random
from typing import Protocol

from batchproxy.simulation.arrivals import Arrivals
from batchproxy.simulation.log import DRAIN_S, Log
from batchproxy.simulation.servers import Server

INF = math.inf

Say = tuple[int, float, float]
"""Rows to send now, or, below 0, how many of the oldest requests to refuse; if 0: ask again once so many rows wait, and
at this time."""


class Rival(Protocol):
    """A rule."""

    def decide(self, now: float, waiting: int, in_flight: int, oldest: float, newest: float) -> Say:
        """What leaves now.

        Args:
            now: in seconds.
            waiting: rows, at least 1.
            in_flight: calls.
            oldest: when the oldest request came.
            newest: when the newest request came.
        """

    def complete(self, now: float, rows: int, sent: float, oldest: float, newest: float) -> None:
        """A call is back.

        Args:
            now: in seconds.
            rows: it had.
            sent: when it left.
            oldest: when its oldest request came.
            newest: when its newest request came.
        """


class Fixed:
    """At most ``limit`` calls in flight, sent as soon as one is free; a full batch may go above it, ``overflow`` times.

    ``limit`` infinity and ``max_rows`` 1 is no batching at all.
    """

    def __init__(self, limit: float, overflow: float = 0, max_rows: int = 32) -> None:
        self._limit, self._full, self._max_rows = limit, limit + overflow, max_rows

    def decide(self, now: float, waiting: int, in_flight: int, oldest: float, newest: float) -> Say:
        if in_flight < self._limit:
            return min(waiting, self._max_rows), 0, INF
        if in_flight < self._full:
            return (self._max_rows if waiting >= self._max_rows else 0), self._max_rows, INF
        return 0, INF, INF

    def complete(self, now: float, rows: int, sent: float, oldest: float, newest: float) -> None:
        """Nothing is learned."""


class Timer:
    """A batch leaves when it is full or its oldest has waited ``delay_s``, if fewer than ``limit`` are in flight.

    Unlimited: a timer as most libraries have it. Limited: Triton's dynamic batcher with a delay. One and 50 ms: KServe.
    """

    def __init__(self, delay_s: float, limit: float = INF, max_rows: int = 32) -> None:
        self._delay_s, self._limit, self._max_rows = delay_s, limit, max_rows

    def decide(self, now: float, waiting: int, in_flight: int, oldest: float, newest: float) -> Say:
        if in_flight >= self._limit:
            return 0, INF, INF
        if waiting >= self._max_rows or oldest + self._delay_s <= now:
            return min(waiting, self._max_rows), 0, INF
        return 0, self._max_rows, oldest + self._delay_s

    def complete(self, now: float, rows: int, sent: float, oldest: float, newest: float) -> None:
        """Nothing is learned."""


class SharedAdaptive:
    """TensorFlow's ``AdaptiveSharedBatchScheduler``: a limit on calls in flight that walks after the mean latency.

    From ``tensorflow/core/kernels/batching_util/adaptive_shared_batch_scheduler.h``: starts at 3 of 16 threads; every
    1,000 batches the mean time from a batch's making to its end is compared with that of the 1,000 before, at first
    with 0. Better: on, by twice as much of the limit if it was better before, too, else by half as much. Worse: back.
    By 1/8 of the limit at first and at most, by 1/128 at least. The part of it behind the point is a probability.
    """

    START, THREADS, WINDOW = 3.0, 16.0, 1000
    LEAST, MOST = 1 / 128, 1 / 8

    def __init__(self, draw: Random, max_rows: int = 32) -> None:
        self.limit = self.START
        self._draw = draw
        self._max_rows = max_rows
        self._step, self._direction = self.MOST, 1
        self._last, self._better = 0.0, False
        self._sum, self._count = 0.0, 0

    def decide(self, now: float, waiting: int, in_flight: int, oldest: float, newest: float) -> Say:
        whole = math.floor(self.limit)
        if in_flight < whole or (in_flight == whole and self._draw.random() < self.limit - whole):
            return min(waiting, self._max_rows), 0, INF
        return 0, (waiting + 1 if in_flight == whole < self.limit else INF), INF

    def complete(self, now: float, rows: int, sent: float, oldest: float, newest: float) -> None:
        self._sum += now - oldest
        self._count += 1
        if self._count < self.WINDOW:
            return
        mean, self._sum, self._count = self._sum / self._count, 0.0, 0
        better = mean < self._last
        if better:
            self._step = min(self.MOST, max(self.LEAST, self._step * (2 if self._better else 0.5)))
        else:
            self._direction = -self._direction
        self._last, self._better = mean, better
        self.limit = min(self.THREADS, max(1.0, self.limit * (1 + self._direction * self._step)))


class Cork:
    """BentoML's dispatcher (``marshal/dispatcher.py``): one call at a time, held while that costs little.

    A line is fitted to the last 50 calls, and their average wait is kept, anew every 5 s. Held
    while (wait of the newest + 1 ms + slope) * waiting stays below 0.95 of that average. The oldest is refused where it
    would be answered too late by that line. Asked again when the hold ends, where BentoML polls: that flatters it.

    Args:
        max_rows: of a call.
        deadline_s: what is too late.
    """

    TICK_S, DECAY, MEMORY, REFRESH_S = 0.001, 0.95, 50, 5.0
    DEADLINE_S, TRAINED = 60.0, 10  # nobody is refused before so many calls
    SLOPE_S, INTERCEPT_S, WAIT_S = 0.002, 0.001, 0.01  # before anything is measured

    def __init__(self, max_rows: int = 32, deadline_s: float = DEADLINE_S) -> None:
        self._max_rows, self._deadline_s = max_rows, deadline_s
        self._past: deque[tuple[int, float, float]] = deque(maxlen=self.MEMORY)
        self._slope_s, self._intercept_s, self._wait_s = self.SLOPE_S, self.INTERCEPT_S, self.WAIT_S
        self._fitted = -INF

    def decide(self, now: float, waiting: int, in_flight: int, oldest: float, newest: float) -> Say:
        rows = min(waiting, self._max_rows)
        taken_s = self._slope_s * rows + self._intercept_s
        if waiting > 1 and len(self._past) >= self.TRAINED and now - oldest + taken_s >= self._deadline_s:
            return -1, 0, INF
        if in_flight:
            return 0, INF, INF
        if waiting < self._max_rows:
            ready = newest + self._wait_s * self.DECAY / waiting - self.TICK_S - self._slope_s
            if now < ready:
                return 0, waiting + 1, ready
        return rows, 0, INF

    def complete(self, now: float, rows: int, sent: float, oldest: float, newest: float) -> None:
        self._past.append((rows, now - sent, sent - (oldest + newest) / 2))
        count = len(self._past)
        if count == self.MEMORY and now - self._fitted < self.REFRESH_S:
            return
        self._fitted = now
        mean = sum(rows for rows, _, _ in self._past) / count
        seconds = sum(taken for _, taken, _ in self._past) / count
        spread = sum((rows - mean) ** 2 for rows, _, _ in self._past)
        if spread:
            slope = sum((rows - mean) * (taken - seconds) for rows, taken, _ in self._past) / spread
            self._slope_s = max(0.0, slope)
            self._intercept_s = max(0.0, seconds - self._slope_s * mean)
        self._wait_s = sum(wait for _, _, wait in self._past) / count


class Aimd:
    """Clipper's paper: one call at a time; the largest batch grows by one where a full one kept the objective, and
    shrinks by a tenth where a call did not.
    """

    def __init__(self, objective_s: float, max_rows: int = 32) -> None:
        self._objective_s, self._max_rows, self._cap = objective_s, max_rows, 1.0

    def decide(self, now: float, waiting: int, in_flight: int, oldest: float, newest: float) -> Say:
        return (0, INF, INF) if in_flight else (min(waiting, int(self._cap)), 0, INF)

    def complete(self, now: float, rows: int, sent: float, oldest: float, newest: float) -> None:
        if now - sent > self._objective_s:
            self._cap = max(1.0, self._cap * 0.9)
        elif rows >= int(self._cap):
            self._cap = min(float(self._max_rows), self._cap + 1)


def drive(
    rival: Rival,
    server: Server,
    arrivals: Arrivals,
    horizon_s: float,
    *,
    drain_s: float = DRAIN_S,
    think: Random | None = None,
) -> Log:
    """Let everything come to one server; as ``World.run``, but with a step a call instead of one a request."""
    log = Log(horizon_s)
    times: list[float] | Sequence[float] = arrivals.times
    callers = arrivals.callers
    returning: list[float] = []
    own: list[float] = []
    if callers is not None:
        times = own = [0.0] * callers.count
    sums = list(accumulate(arrivals.rows, initial=0)) if arrivals.rows else None
    head = tail = in_flight = refused = 0
    now, end = 0.0, horizon_s + drain_s
    decide, sent_at = rival.decide, log.sent
    if callers is None and times:
        now = times[0]
    while True:
        count = len(times)
        tail = bisect_right(times, now, tail)
        need, at = 1.0, INF
        while head < tail:
            waiting = tail - head if sums is None else sums[tail] - sums[head]
            rows, need, at = decide(now, waiting, in_flight, times[head], times[tail - 1])
            if not rows:
                break
            if rows < 0:
                head, refused = head - rows, refused - rows
                need, at = 1.0, INF
                continue
            stop = head + rows if sums is None else max(head + 1, bisect_right(sums, sums[head] + rows) - 1)
            server.send(now, rows if sums is None else sums[stop] - sums[head], "", (head, stop, now))
            head, in_flight = stop, in_flight + 1
            need, at = 1.0, INF
        when = min(server.due, at)
        if need < INF:
            index = head + int(need) - 1 if sums is None else bisect_left(sums, sums[head] + need) - 1
            if index < count and times[index] < when:
                when = times[index]
        if returning and returning[0] < when:
            when = returning[0]
        if when > end:
            break
        now = when
        if server.due <= now:
            for (start, stop, sent), _ in server.answers(now):
                in_flight -= 1
                arrived = times[start:stop]
                log.arrived.extend(arrived)
                log.latency.extend([now - time for time in arrived])
                rows = stop - start if sums is None else sums[stop] - sums[start]
                sent_at.append(sent)
                log.done.append(now)
                log.rows.append(rows)
                rival.complete(now, rows, sent, arrived[0], arrived[-1])
                if callers is not None:
                    for _ in arrived:
                        pause = think.expovariate(1 / callers.think_s) if think and callers.think_s else 0.0
                        heappush(returning, now + pause)
        if now >= horizon_s:
            returning.clear()
        while returning and returning[0] <= now:
            own.append(heappop(returning))
    log.requests, log.late = len(times), refused
    return log
