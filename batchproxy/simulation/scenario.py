"""Backends, loads and arrivals by name, and who is tried on them: a scenario and a contender make one run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from batchproxy.core.scheduler import Scheduler
from batchproxy.simulation import arrivals as coming
from batchproxy.simulation.arrivals import Arrivals, Callers
from batchproxy.simulation.draws import stream
from batchproxy.simulation.log import Log
from batchproxy.simulation.rivals import INF, Aimd, Cork, Fixed, Rival, SharedAdaptive, Timer, drive
from batchproxy.simulation.servers import Change, Cores, Cost, Habits, Lanes, Server, linear
from batchproxy.simulation.world import Kind, World, build_scheduler, policy

MAX_ROWS = 32
"""Rows of a batch at most, for everybody: as in the study that policy.md reports."""

BURSTY_HORIZON = 3
"""Runs with bursts are so many times as long: they vary more."""

DAY_S = 20.0
"""Length of a day of ``diurnal`` arrivals: the load swings between a tenth of the mean and 1.9 of it."""


def _diurnal(rate: float, horizon_s: float, draw: Random) -> list[float]:
    return coming.diurnal(0.1 * rate, 1.9 * rate, DAY_S, horizon_s, draw)


SHAPES: dict[str, Callable[[float, float, Random], list[float]]] = {
    "poisson": coming.poisson,
    "bursty": coming.bursty,
    "diurnal": _diurnal,
}
"""Arrivals by name, of (mean rate, horizon in seconds, chance)."""


@dataclass(frozen=True, slots=True)
class Backend:
    """A server that can be made as often as needed.

    Args:
        name: for tables.
        lanes: workers, or cores where ``shared``.
        alpha_s: seconds of a call without rows.
        beta_s: seconds a row.
        horizon_s: how long a run on it lasts.
        rtt_s: round trip in seconds.
        noise: sigma of the log of a call's time.
        shared: calls share the lanes as processes share cores, instead of waiting for one.
        thrash: work that each call above the number of cores adds, as a part.
        shape: what becomes of the cost, padding for example.
        changes: what happens to it.
        compile_s: the first call of a row count takes so much longer.
        limit_rows: it refuses calls of more.
    """

    name: str
    lanes: int
    alpha_s: float
    beta_s: float
    horizon_s: float = 20.0
    rtt_s: float = 0.001
    noise: float = 0.08
    shared: bool = False
    thrash: float = 0.0
    shape: Callable[[Cost], Cost] | None = None
    changes: Sequence[Change] = ()
    compile_s: float = 0.0
    limit_rows: int | None = None

    def cost(self) -> Cost:
        """Seconds of a call alone, by its rows."""
        cost = linear(self.alpha_s, self.beta_s)
        return self.shape(cost) if self.shape is not None else cost

    def capacity(self, rows: int = MAX_ROWS) -> float:
        """Rows a second in batches of ``rows``, every lane at work and no round trip."""
        return self.lanes * rows / self.cost()(rows)

    def server(self, seed: int) -> Server:
        """One that draws its noise from ``seed``."""
        habits = Habits(
            {"": self.cost()}, self.rtt_s, self.noise, self.compile_s, limit_rows=self.limit_rows, changes=self.changes
        )
        draw = stream(seed, "noise")
        if self.shared:
            return Cores(self.lanes, habits, draw, self.thrash)
        return Lanes(self.lanes, habits, draw)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A backend under a load.

    Args:
        backend: see there.
        load: part of its capacity.
        arrivals: a name of ``SHAPES``.
        factor: of the backend's horizon, for shorter runs.
        callers: a closed loop instead of a load.
        max_rows: of a batch.
        objective_s: how long callers wait; 0: for ever.
    """

    backend: Backend
    load: float
    arrivals: str = "poisson"
    factor: float = 1.0
    callers: Callers | None = None
    max_rows: int = MAX_ROWS
    objective_s: float = 0.0

    @property
    def name(self) -> str:
        """What its column in a table is called."""
        if self.callers is not None:
            thought = f", {1000 * self.callers.think_s:.0f} ms thought" if self.callers.think_s else ""
            return f"{self.callers.count} caller{'s' if self.callers.count > 1 else ''}{thought}"
        percent = f"{100 * self.load:.0f} %"
        return percent if self.arrivals == "poisson" else f"{self.arrivals} {percent}"

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.load * self.backend.capacity(self.max_rows)

    @property
    def horizon_s(self) -> float:
        """How long requests come."""
        return self.backend.horizon_s * self.factor * (BURSTY_HORIZON if self.arrivals == "bursty" else 1)

    def requests(self, seed: int) -> Arrivals:
        """What comes: the same for every contender."""
        if self.callers is not None:
            return Arrivals(callers=self.callers)
        return Arrivals(SHAPES[self.arrivals](self.rate, self.horizon_s, stream(seed, "arrivals")))


def ours(
    scenario: Scenario,
    seed: int,
    *,
    requests: Arrivals | None = None,
    watch: Callable[[Scheduler], Callable[[], float]] | None = None,
) -> Log:
    """The scheduler of this package, with nothing set but the largest batch.

    Args:
        scenario: where.
        seed: of chance.
        requests: those of the scenario, where they are made already.
        watch: makes of the scheduler what is asked after each call, for ``Log.watched``.
    """
    kind = Kind(deadline_s=scenario.objective_s or None)
    policies = {kind.model: policy(scenario.max_rows)}
    scheduler = build_scheduler(policies, ["one"])
    world = World(
        scheduler,
        {"one": scenario.backend.server(seed)},
        requests or scenario.requests(seed),
        kinds=(kind,),
        watch=watch(scheduler) if watch is not None else None,
        think=stream(seed, "think"),
    )
    return world.run(scenario.horizon_s)


def theirs(rival: Rival, scenario: Scenario, seed: int, *, requests: Arrivals | None = None) -> Log:
    """A rival in our place."""
    return drive(
        rival,
        scenario.backend.server(seed),
        requests or scenario.requests(seed),
        scenario.horizon_s,
        think=stream(seed, "think"),
    )


def rivals(max_rows: int = MAX_ROWS, objective_s: float = 0.0) -> dict[str, Callable[[int], Rival]]:
    """Who is compared with, by name: made of a seed, where they draw lots. AIMD needs an objective."""
    found: dict[str, Callable[[int], Rival]] = {
        "no batching": lambda seed: Fixed(INF, 0, 1),
        "timer 5 ms, unbounded": lambda seed: Timer(0.005, INF, max_rows),
        "KServe loop, 50 ms": lambda seed: Timer(0.05, 1, max_rows),
        "slot + 5 ms, one slot": lambda seed: Timer(0.005, 1, max_rows),
        "fixed 1": lambda seed: Fixed(1, 0, max_rows),
        "fixed 2": lambda seed: Fixed(2, 0, max_rows),
        "fixed 4": lambda seed: Fixed(4, 0, max_rows),
        "TF Serving adaptive": lambda seed: SharedAdaptive(stream(seed, "rival"), max_rows),
        "BentoML-like": lambda seed: Cork(max_rows, objective_s or Cork.DEADLINE_S),
    }
    if objective_s:
        found["AIMD"] = lambda seed: Aimd(objective_s, max_rows)
    return found
