"""Which endpoints of a pool can be used: what comes and goes, and who is told where nothing is left. Sends nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf

from batchproxy.core.balancer import NOT_PROBED, TRIALS, Balancer, Endpoint
from batchproxy.core.ends import Failure
from batchproxy.core.errors import NoEndpoint
from batchproxy.core.outliers import Outliers
from batchproxy.core.request import QUEUED, Entry, Version


class Health:
    """Keeps the endpoints of one scheduler.

    Args:
        balancer: of the scheduler.
        unanswered: everyone who waits or is in flight.
        discard: forgets an entry, wherever it waits.
        look_again: to be called where more can be sent than before.
        notice: told of each change of state that an operator should know, in one line.

    Attributes:
        outliers: those that can be reached, but fail.
    """

    def __init__(
        self,
        balancer: Balancer,
        unanswered: Iterable[Entry],
        discard: Callable[[Entry], object],
        look_again: Callable[[], None],
        notice: Callable[[str], None],
    ) -> None:
        self._balancer = balancer
        self._unanswered = unanswered
        self._discard = discard
        self._look_again = look_again
        self._notice = notice
        self.outliers = Outliers(balancer, look_again, notice)

    def add(self, endpoint: Endpoint) -> None:
        """One more endpoint: as those of the start, it is used once it has answered a probe."""
        self._balancer.add(endpoint)
        self.outliers.weigh()
        self._notice(f"endpoint {endpoint.name}: added to the pool; it is used once it answers a probe")

    def remove(self, endpoint: Endpoint) -> list[Failure]:
        """Nothing more is sent to it, whatever a probe may say; what is in flight there ends as it would have.

        Returns:
            Everyone who waits, each with an error, if no other one can be used.
        """
        if endpoint.gone:
            return []
        endpoint.gone, endpoint.up = True, False
        endpoint.last_error = "removed from the pool"
        self._balancer.remove(endpoint)
        self.outliers.forget(endpoint)
        self.outliers.weigh()
        self._notice(f"endpoint {endpoint.name}: removed from the pool; it gets nothing more")
        return self.strand()

    def take_out(self, endpoint: Endpoint, why: str) -> list[Failure]:
        """An endpoint cannot be reached: leave it out until ``bring_back``.

        Returns:
            Everyone who waits, each with an error, if it was the last one.
        """
        if endpoint.gone:
            return []
        if endpoint.up:
            endpoint.up = False
            self.outliers.weigh()
            self._notice(f"endpoint {endpoint.name}: left out, and probed until it answers: {why}")
        endpoint.last_error = why
        return self.strand()

    def bring_back(self, endpoint: Endpoint) -> None:
        """An endpoint answered its probe."""
        if endpoint.gone:
            return
        if not endpoint.up and endpoint.last_error != NOT_PROBED:
            self._notice(f"endpoint {endpoint.name}: answers again, and is used again")
            endpoint.warm_at = inf
        if not endpoint.up:
            self._balancer.placement.forget(endpoint)  # it may have been started anew
        endpoint.up, endpoint.trials = True, TRIALS
        endpoint.last_answer = -inf
        self.outliers.forget(endpoint)
        self.outliers.weigh()
        endpoint.last_error = ""
        self._balancer.freed(endpoint)
        self._look_again()

    def placed(self, endpoint: Endpoint, model: str, version: Version) -> None:
        """An endpoint has a model that it did not have."""
        self._balancer.placement.has(endpoint, model, version, self._notice)
        self._look_again()

    def strand(self) -> list[Failure]:
        """If nothing is left to be used: everyone who waits, and why; they are forgotten here."""
        if self._balancer.any_up():
            return []
        waiting = [entry for entry in self._unanswered if entry.state is QUEUED]
        for entry in waiting:
            self._discard(entry)
        self._look_again()  # at batches that nobody waits for any more
        return [(entry, NoEndpoint(self._balancer.why_none(entry.request.key.model))) for entry in waiting]
