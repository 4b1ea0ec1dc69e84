"""When requests come, how many rows each has and of what kind it is. No server and no scheduler here.

Open loop: all times are known beforehand, and every contender meets the same ones. Closed loop: ``Callers`` ask again
when they are answered, so only how many there are and how long they think is known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

BURST_FACTOR, LULL_FACTOR = 3.0, 1 / 3
"""Rate in a burst and between bursts, as multiples of the mean: with the lengths below the mean stays what it was."""

BURST_S, LULL_S = 0.2, 0.6
"""How long they last on average, in seconds."""


@dataclass(frozen=True, slots=True)
class Callers:
    """Callers that each wait for their answer before they ask again.

    Args:
        count: how many; all ask at time 0.
        think_s: how long each waits between an answer and its next request, on average (exponential). 0: not at all.
    """

    count: int
    think_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Arrivals:
    """What comes.

    Args:
        times: ascending, in seconds.
        rows: of each request; empty: 1 each.
        kinds: of each request, an index into the world's kinds; empty: 0 each.
        callers: a closed loop instead of ``times``.
        nbytes: of each request; empty: 0 each.
    """

    times: Sequence[float] = ()
    rows: Sequence[int] = ()
    kinds: Sequence[int] = ()
    callers: Callers | None = None
    nbytes: Sequence[int] = ()


def poisson(rate: float, horizon_s: float, draw: Random) -> list[float]:
    """Requests that know nothing of each other, ``rate`` a second on average."""
    times = []
    random, log = draw.random, math.log
    now = -log(1.0 - random()) / rate
    while now < horizon_s:
        times.append(now)
        now -= log(1.0 - random()) / rate
    return times


def bursty(rate: float, horizon_s: float, draw: Random) -> list[float]:
    """Bursts of ``3 * rate`` and lulls of ``rate / 3``, each of exponential length; ``rate`` on average."""
    times = []
    start, loud = 0.0, False
    while start < horizon_s:
        stop = min(horizon_s, start + draw.expovariate(1 / (BURST_S if loud else LULL_S)))
        speed = rate * (BURST_FACTOR if loud else LULL_FACTOR)
        times += [start + time for time in poisson(speed, stop - start, draw)]
        start, loud = stop, not loud
    return times


def varying(rate: Callable[[float], float], peak: float, horizon_s: float, draw: Random) -> list[float]:
    """Requests at a rate that depends on the time: those of ``peak`` a second, thinned.

    Args:
        rate: of a time in seconds, at most ``peak``.
        peak: requests a second.
        horizon_s: when they end.
        draw: of chance.
    """
    return [time for time in poisson(peak, horizon_s, draw) if draw.random() * peak < rate(time)]


def diurnal(low: float, high: float, period_s: float, horizon_s: float, draw: Random) -> list[float]:
    """A rate that swings as a sine from ``low`` to ``high`` and back in ``period_s``."""

    def rate(time: float) -> float:
        return low + (high - low) * (1 - math.cos(2 * math.pi * time / period_s)) / 2

    return varying(rate, high, horizon_s, draw)


def steps(rates: Sequence[tuple[float, float]], horizon_s: float, draw: Random) -> list[float]:
    """A rate that changes at once: (from when on, requests a second), ascending."""
    times = []
    ends = [start for start, _ in rates[1:]] + [horizon_s]
    for (start, rate), stop in zip(rates, ends, strict=True):
        times += [start + time for time in poisson(rate, stop - start, draw)]
    return times


def sized(times: Sequence[float], sizes: Sequence[int], draw: Random) -> Arrivals:
    """Requests whose row counts are drawn from ``sizes``, each as likely as any other."""
    return Arrivals(times, [draw.choice(sizes) for _ in times])


def mixed(parts: Sequence[Arrivals]) -> Arrivals:
    """Open loops together; the kind of a request is the index of the part that it came in."""
    together = sorted(
        (time, kind, part.rows[index] if part.rows else 1)
        for kind, part in enumerate(parts)
        for index, time in enumerate(part.times)
    )
    return Arrivals([time for time, _, _ in together], [rows for _, _, rows in together], [k for _, k, _ in together])
