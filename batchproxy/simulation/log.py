"""What happened in a run, and the figures read from it. Nothing is simulated here."""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

DRAIN_S = 20.0
"""How long a run goes on after the last arrival, in seconds: as in the study that policy.md reports."""

GROWTH, BACKLOG_S = 1.4, 0.1
"""A run is unstable where latencies of the last third of the time are this much above those of the middle third, and
more requests are unanswered at the horizon than arrive in so many seconds. A queue that grows steadily has a growth of
5/3; one that has settled, of 1."""


@dataclass(frozen=True, slots=True)
class Figures:
    """A run in numbers; times in milliseconds.

    Attributes:
        mean_ms: latency of what was answered.
        p50_ms: its median.
        p99_ms: 99 of 100 were answered within it.
        mean_rows: of a call.
        served: part of the requests that were answered.
        goodput: part of the requests that were answered in time; 0 without an objective.
        queue: requests not answered at the horizon.
        unstable: whether the queue was still growing.
    """

    mean_ms: float
    p50_ms: float
    p99_ms: float
    mean_rows: float
    served: float
    goodput: float
    queue: int
    unstable: bool


class Log:
    """A run's answers and calls, written as they happen.

    Args:
        horizon_s: when arrivals end.

    Attributes:
        requests: how many came.
        refused: refused at once.
        late: told that their time was up.
        failed: answered with another error.
        arrived: of each answered request, when it came.
        latency: of each, how long it took, in seconds.
        kinds: of each, its kind; empty where there is one kind only.
        sent: of each call that was answered, when it left.
        done: when its answer was back.
        rows: how many rows it had.
        watched: what the world's ``watch`` said after each of them.
        cpu_s: processor time of the scheduler, where a clock was given.
    """

    def __init__(self, horizon_s: float) -> None:
        self.horizon_s = horizon_s
        self.requests = 0
        self.refused = 0
        self.late = 0
        self.failed = 0
        self.arrived = array("d")
        self.latency = array("d")
        self.kinds = array("l")
        self.sent = array("d")
        self.done = array("d")
        self.rows = array("l")
        self.watched = array("d")
        self.cpu_s = 0.0

    def latencies(self, start: float = 0.0, stop: float = np.inf, kind: int | None = None) -> Floats:
        """Of requests that came from ``start`` up to ``stop``, in seconds."""
        arrived, latency = np.array(self.arrived), np.array(self.latency)
        chosen = (arrived >= start) & (arrived < stop)
        if kind is not None and len(self.kinds):
            chosen &= np.array(self.kinds) == kind
        return latency[chosen]

    def figures(self, objective_s: float = 0.0, start: float = 0.0, stop: float = np.inf) -> Figures:
        """The run in numbers.

        Args:
            objective_s: what counts as in time, in seconds; 0: there is none.
            start: only requests that came from then on count for latencies.
            stop: and before then.
        """
        found = self.latencies(start, stop)
        mean, p50, p99 = (
            (1000 * found.mean(), *(1000 * np.percentile(found, [50, 99]))) if len(found) else (np.inf,) * 3
        )
        in_time = int((np.array(self.latency) <= objective_s).sum()) if objective_s else 0
        requests = max(1, self.requests)
        rows = np.array(self.rows)[np.array(self.sent) >= start]
        return Figures(
            float(mean), float(p50), float(p99), float(rows.mean()) if len(rows) else 0.0,
            len(self.latency) / requests, in_time / requests, self.queue(), self.unstable(),
        )  # fmt: skip

    def queue(self) -> int:
        """Requests that are neither answered nor refused at the horizon."""
        answered = int((np.array(self.arrived) + np.array(self.latency) <= self.horizon_s).sum())
        return max(0, self.requests - answered - self.refused - self.late - self.failed)

    def unstable(self) -> bool:
        """Whether the queue was still growing at the horizon; those never answered count as answered at the end."""
        third = self.horizon_s / 3
        if self.queue() <= BACKLOG_S * self.requests / self.horizon_s:
            return False
        middle, last = self.latencies(third, 2 * third), self.latencies(2 * third)
        missing = self.requests - self.refused - self.late - self.failed - len(self.latency)
        if missing > 0.01 * self.requests:
            return True
        return bool(len(middle) and len(last) and last.mean() > GROWTH * middle.mean())

    def __repr__(self) -> str:
        return f"Log(requests={self.requests}, answered={len(self.latency)}, calls={len(self.rows)})"
