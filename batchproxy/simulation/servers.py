"""What a server does with a call: how long it takes, what else it waits for, when its answer is back. Decides nothing.

``send`` hands a call over; ``due`` is the next time at which ``answers`` may have something, though it need not.
A call of ``rows`` rows alone takes its ``Cost`` times log-normal noise, between two halves of a round trip.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush, heapreplace
from random import Random
from typing import Any, NamedTuple, Protocol

INF = math.inf

Cost = Callable[[int], float]
"""Seconds that a call of so many rows takes alone, without noise and round trip."""


def linear(alpha_s: float, beta_s: float) -> Cost:
    """``alpha + beta * rows``: most models on most machines."""
    return lambda rows: alpha_s + beta_s * rows


def padded(cost: Cost) -> Cost:
    """A server that pads to the next power of two."""
    return lambda rows: cost(1 << (rows - 1).bit_length())


def kneed(cost: Cost, knee_rows: int, extra_s: float) -> Cost:
    """``extra_s`` more for each row beyond ``knee_rows``: a cache or a memory that is full."""
    return lambda rows: cost(rows) + extra_s * max(0, rows - knee_rows)


class Change(NamedTuple):
    """What a server becomes at a time.

    Attributes:
        at_s: when.
        lanes: as many from then on; None: as before.
        slower: times of calls that begin later are multiplied by this; None: as before.
    """

    at_s: float
    lanes: int | None = None
    slower: float | None = None


@dataclass(frozen=True, slots=True)
class Habits:
    """What servers have in common.

    Args:
        costs: model name to cost; the model ``""`` is any other.
        rtt_s: round trip in seconds.
        noise: sigma of the log of a call's time.
        compile_s: added to the first call of each row count of a model: XLA, TensorRT.
        limit_rows: a call of more is refused after a round trip; None: any.
        changes: ascending; what happens to it.
    """

    costs: Mapping[str, Cost]
    rtt_s: float = 0.001
    noise: float = 0.08
    compile_s: float = 0.0
    limit_rows: int | None = None
    changes: Sequence[Change] = ()


class Server(Protocol):
    """One endpoint's machine."""

    due: float
    """When ``answers`` may next have something; infinity: not before another call is sent."""

    def send(self, now: float, rows: int, model: str, tag: Any) -> None:
        """A call leaves the proxy; ``tag`` is what ``answers`` will name it by."""

    def answers(self, now: float) -> Sequence[tuple[Any, bool]]:
        """(tag, whether it was taken) of the calls whose answer is back at the proxy by now."""


class Desk:
    """What every server does first: refuse what is too big, and draw how long the rest will take alone."""

    def __init__(self, habits: Habits, draw: Random) -> None:
        self.half_s = habits.rtt_s / 2
        self.slower = 1.0
        self.changes = list(habits.changes)
        self._habits = habits
        self._gauss = draw.gauss
        self._compiled: set[Hashable] = set()

    def refuses(self, rows: int) -> bool:
        """Whether a call is too big."""
        limit = self._habits.limit_rows
        return limit is not None and rows > limit

    def seconds(self, rows: int, model: str) -> float:
        """Time of a call that has the server to itself."""
        habits = self._habits
        cost = habits.costs.get(model) or habits.costs[""]
        taken = cost(rows) * self.slower
        if habits.noise:
            taken *= math.exp(self._gauss(0.0, habits.noise))
        if habits.compile_s and (model, rows) not in self._compiled:
            self._compiled.add((model, rows))
            taken += habits.compile_s
        return taken

    def changed(self, start: float) -> Change | None:
        """The next change that has happened when a call begins at ``start``; it is told once."""
        if not self.changes or self.changes[0].at_s > start:
            return None
        change = self.changes.pop(0)
        if change.slower is not None:
            self.slower = change.slower
        return change


class Lanes:
    """Workers that each do one call at a time, first come, first served.

    Args:
        lanes: how many.
        habits: see there.
        draw: of noise.
    """

    def __init__(self, lanes: int, habits: Habits, draw: Random) -> None:
        self.due = INF
        self._desk = Desk(habits, draw)
        self._free = [0.0] * lanes
        self._back: list[tuple[float, int, Any, bool]] = []
        self._calls = 0

    def send(self, now: float, rows: int, model: str, tag: Any) -> None:
        desk = self._desk
        self._calls += 1
        taken = not desk.refuses(rows)
        done = now + desk.half_s
        if taken:
            start = max(done, self._free[0])
            while (change := desk.changed(start)) is not None:
                self._resize(change, start)
                start = max(done, self._free[0])
            done = start + desk.seconds(rows, model)
            heapreplace(self._free, done)
        heappush(self._back, (done + desk.half_s, self._calls, tag, taken))
        self.due = self._back[0][0]

    def _resize(self, change: Change, start: float) -> None:
        """Lanes that go are those that would have been free first: what was begun is still carried to its end."""
        free = sorted(self._free, reverse=True)
        lanes = change.lanes or len(free)
        self._free = sorted(free[:lanes] + [max(change.at_s, 0.0)] * (lanes - len(free)))

    def answers(self, now: float) -> list[tuple[Any, bool]]:
        found = []
        back = self._back
        while back and back[0][0] <= now:
            _, _, tag, taken = heappop(back)
            found.append((tag, taken))
        self.due = back[0][0] if back else INF
        return found


class Cores:
    """Calls that share cores: each gets one, or its part of all where there are more calls than cores.

    Args:
        cores: how many; a change of ``lanes`` changes them.
        habits: see there.
        draw: of noise.
        thrash: work that each call above the number of cores adds, as a part: 0.1 is ten per cent.
    """

    def __init__(self, cores: int, habits: Habits, draw: Random, thrash: float = 0.0) -> None:
        self.due = INF
        self._desk = Desk(habits, draw)
        self._cores = cores
        self._thrash = thrash
        self._coming: list[tuple[float, int, float, Any]] = []
        self._running: list[tuple[float, int, Any]] = []
        self._back: list[tuple[float, int, Any, bool]] = []
        self._calls = 0
        self._last = 0.0
        self._work = 0.0
        """What each running call has been given so far, in seconds of a core: calls end in the order of ``_work``
        at their begin plus their own need, so nobody's share is counted down one by one."""

    def send(self, now: float, rows: int, model: str, tag: Any) -> None:
        desk = self._desk
        self._calls += 1
        if desk.refuses(rows):
            heappush(self._back, (now + 2 * desk.half_s, self._calls, tag, False))
        else:
            while (change := desk.changed(now)) is not None:
                self._advance(now)
                self._cores = change.lanes or self._cores
            heappush(self._coming, (now + desk.half_s, self._calls, desk.seconds(rows, model), tag))
        self._plan()

    def answers(self, now: float) -> list[tuple[Any, bool]]:
        while (at := self._next()) <= now:
            self._advance(at)
            if self._coming and self._coming[0][0] <= at:
                _, call, seconds, tag = heappop(self._coming)
                heappush(self._running, (self._work + seconds, call, tag))
            else:
                _, call, tag = heappop(self._running)
                heappush(self._back, (at + self._desk.half_s, call, tag, True))
        found = []
        while self._back and self._back[0][0] <= now:
            _, _, tag, taken = heappop(self._back)
            found.append((tag, taken))
        self._plan()
        return found

    def _speed(self) -> float:
        """What a running call is given each second."""
        calls, cores = len(self._running), self._cores
        return min(1.0, cores / calls) / (1 + self._thrash * max(0, calls - cores))

    def _advance(self, to: float) -> None:
        if self._running:
            self._work += (to - self._last) * self._speed()
        self._last = to

    def _next(self) -> float:
        """When a call next begins or ends."""
        at = self._coming[0][0] if self._coming else INF
        if self._running:
            at = min(at, self._last + max(0.0, self._running[0][0] - self._work) / self._speed())
        return at

    def _plan(self) -> None:
        self.due = min(self._next(), self._back[0][0] if self._back else INF)


class Pool:
    """Several servers as one, for rivals, which know of one only: a call goes to the one with the least to do.

    Args:
        servers: the servers.
        speeds: what each does, in any unit that they share: calls in flight are divided by it. Equal ones are what a
            balancer by least requests has.
        caps: calls in flight above which a server is taken only where all are above theirs.
    """

    def __init__(self, servers: Sequence[Server], speeds: Sequence[float], caps: Sequence[float]) -> None:
        self.due = INF
        self._servers = servers
        self._known = list(zip(speeds, caps, strict=True))
        self._in_flight = [0] * len(servers)

    def send(self, now: float, rows: int, model: str, tag: Any) -> None:
        loads = [
            (calls >= cap, (calls + 1) / speed)
            for calls, (speed, cap) in zip(self._in_flight, self._known, strict=True)
        ]
        index = loads.index(min(loads))
        self._in_flight[index] += 1
        self._servers[index].send(now, rows, model, tag)
        self.due = min(server.due for server in self._servers)

    def answers(self, now: float) -> list[tuple[Any, bool]]:
        found: list[tuple[Any, bool]] = []
        for index, server in enumerate(self._servers):
            if server.due <= now:
                back = server.answers(now)
                self._in_flight[index] -= len(back)
                found += back
        self.due = min(server.due for server in self._servers)
        return found
