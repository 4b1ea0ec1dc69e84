"""Who is taken in, and who is refused; several that come together, together. What is sent is not decided here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from batchproxy.core.balancer import Balancer
from batchproxy.core.batch import Release
from batchproxy.core.ends import Failure
from batchproxy.core.errors import DeadlineExceeded, NoEndpoint, QueueFull, Unavailable
from batchproxy.core.lane import Lane
from batchproxy.core.lanes import Lanes
from batchproxy.core.lateness import refuse_hopeless
from batchproxy.core.overload import Overload
from batchproxy.core.policy import Policy
from batchproxy.core.request import DONE, Entry, Target

MANY = 3
"""So many that come together are pushed together; setting up the loop costs what pushing two by themselves costs."""


class Intake:
    """The door of one scheduler.

    Args:
        policies: model name to policy.
        lanes: of the scheduler.
        balancer: of the scheduler.
        unbatched: targets whose requests travel alone.
        overload: told of who finds no room.
        relay: binds an entry that travels alone to an endpoint; False where none has room.
        news: whether it matters that more wait in a lane; told None of who waits in none.
    """

    def __init__(
        self,
        policies: Mapping[str, Policy],
        lanes: Lanes,
        balancer: Balancer,
        unbatched: Collection[Target],
        overload: Overload,
        relay: Callable[[Entry, float, Release], bool],
        news: Callable[[Lane | None, float], bool],
    ) -> None:
        self._policies = policies
        self._lanes = lanes
        self._balancer = balancer
        self._unbatched = unbatched
        self._overload = overload
        self._relay = relay
        self._news = news

    def admit(self, entry: Entry, now: float) -> Lane | None:
        """Take one in; returns the lane in which it waits, None where it waits for nobody.

        Raises:
            DeadlineExceeded: its time is up already.
            NoEndpoint: no endpoint of the pool is up.
            TooLate: by what is known, it would be answered after its deadline.
            QueueFull: a bound on rows, bytes, lanes or unmerged calls is reached.
        """
        request = entry.request
        key, deadline = request.key, request.deadline
        if deadline is not None and deadline <= now:
            raise DeadlineExceeded("Deadline Exceeded")
        if not self._balancer.any_up():
            raise NoEndpoint(self._balancer.why_none(key.model))
        if request.rows is None or self._travels_alone(entry):
            if not self._relay(entry, now, Release.SHAPE if request.rows is None else Release.ALONE):
                raise QueueFull(
                    f"model {key.model!r}: every endpoint has max_relayed unmerged calls in flight; try again"
                )
            return None
        try:
            lane = self._lanes.push(entry)
        except QueueFull:
            self._overload.refused(key.model, self._lanes.find(key), now)
            raise
        if deadline is not None and lane.rows > lane.cap and lane.order != entry.order:
            refuse_hopeless(lane, entry, now)
        return lane

    def _travels_alone(self, entry: Entry) -> bool:
        """Whatever its shape."""
        key = entry.request.key
        return not self._policies[key.model].batching or (bool(self._unbatched) and key.target in self._unbatched)

    def admit_all(self, entries: Sequence[Entry], now: float) -> tuple[bool, list[Failure]]:
        """``admit`` each in turn, but for those that left already: neighbours that may ride together at a blow.

        Args:
            entries: the earliest first.
            now: the engine's clock, in seconds.

        Returns:
            Whether ``news`` had any, and who is refused, with the error that ``admit`` would raise.
        """
        failures: list[Failure] = []
        news, many, left = False, len(entries) >= MANY, iter(entries)
        entry = next(left, None)
        while entry is not None:
            if many and entry.request.rows is not None and self._balancer.any_up() and not self._travels_alone(entry):
                lane, count, after = self._lanes.push_all(entry, left, now)
                if count:
                    news |= self._news(lane, now)
                if after is not entry:
                    entry = after
                    continue
            if entry.state is not DONE:
                try:
                    news |= self._news(self.admit(entry, now), now)
                except (DeadlineExceeded, Unavailable) as error:
                    entry.state = DONE
                    failures.append((entry, error.with_traceback(None)))  # which knows this frame, and it the error
            entry = next(left, None)
        return news, failures
