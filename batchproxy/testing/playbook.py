"""A test of a Scheduler that reads as a script, after mitmproxy's playbooks. Nothing for production, and no engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from batchproxy.core.balancer import Endpoint
from batchproxy.core.batch import Dispatch
from batchproxy.core.errors import BatchProxyError, Code, DeadlineExceeded
from batchproxy.core.outcome import Outcome
from batchproxy.core.policy import Policy
from batchproxy.core.request import Entry, Reply, Request
from batchproxy.core.scheduler import Scheduler
from batchproxy.testing.fakes import StubWaiter, numbers_of


class Playbook:
    """A test of a Scheduler that reads as a script. Each method returns the playbook.

    Args:
        policies: model name to policy; default: model ``m`` with the default policy.
        endpoints: how many there are (``e0``, ``e1``, ...), all up.
        max_inflight: merged calls that each may have at once; None: learned.
        max_relayed: unmerged calls that each may have at once.
        options: further arguments of ``Scheduler``.

    Example:
        >>> from batchproxy.testing import a_request
        >>> a, b = a_request(), a_request()
        >>> play = Playbook(max_inflight=1)
        >>> _ = play.at(0.0).submit(a).expect_dispatch([a], to="e0").submit(b).expect_nothing()
        >>> _ = play.at(0.5).settle(Outcome.OK).expect_answered(a).expect_dispatch([b])
    """

    def __init__(
        self,
        policies: Mapping[str, Policy] | None = None,
        *,
        endpoints: int = 1,
        max_inflight: int | None = 2,
        max_relayed: int = 256,
        **options: Any,
    ) -> None:
        self.endpoints = [
            Endpoint(f"e{number}", max_inflight=max_inflight, max_relayed=max_relayed) for number in range(endpoints)
        ]
        for endpoint in self.endpoints:
            endpoint.up = True
        self.notices: list[str] = []
        policies = {"m": Policy()} if policies is None else policies
        self.scheduler = Scheduler(policies, self.endpoints, notice=self.notices.append, **options)
        self.now = 0.0
        self.in_flight: list[Dispatch] = []
        self._entries: dict[Request, Entry] = {}

    def at(self, now: float) -> Self:
        """It is ``now`` seconds."""
        self.now = now
        return self

    def submit(self, *requests: Request) -> Self:
        """Requests arrive."""
        for request in requests:
            entry = Entry(request, StubWaiter(), self.now)
            self.scheduler.submit(entry, self.now)
            self._entries[request] = entry
        return self

    def entry(self, request: Request) -> Entry:
        """The entry of a submitted request."""
        return self._entries[request]

    def waiter(self, request: Request) -> StubWaiter:
        """Who waits for its answer."""
        waiter = self._entries[request].waiter
        assert isinstance(waiter, StubWaiter)
        return waiter

    def cancel(self, request: Request) -> Self:
        """Its caller goes away."""
        self.waiter(request).cancel()
        self.scheduler.discard(self._entries[request])
        return self

    def sweep(self) -> Self:
        """Whoever is overdue is told so."""
        for entry in self.scheduler.overdue(self.now):
            self.scheduler.discard(entry)
            if not entry.waiter.done():
                entry.waiter.set_exception(DeadlineExceeded("Deadline Exceeded"))
        return self

    def expect_dispatch(self, requests: Sequence[Request], *, to: str | None = None) -> Self:
        """The next call carries these requests, in this order."""
        dispatch = self.scheduler.poll(self.now)
        assert dispatch is not None, f"nothing is sent at {self.now}, {self.scheduler}"
        self.in_flight.append(dispatch)
        sent = [entry.request for entry in dispatch.batch.entries]
        assert list(requests) == sent, f"{dispatch} carries {sent}"
        assert to in {None, dispatch.endpoint.name}, f"{dispatch} does not go to {to}"
        return self

    def expect_nothing(self) -> Self:
        """No call leaves now."""
        dispatch = self.scheduler.poll(self.now)
        assert dispatch is None, f"{dispatch} is sent at {self.now}"
        return self

    def expect_wake(self, at: float | None) -> Self:
        """The scheduler wants to be asked again then."""
        assert at == self.scheduler.wake_at(self.now)
        return self

    def settle(
        self,
        outcome: Outcome,
        error: BatchProxyError | None = None,
        *,
        of: Request | None = None,
        where: str | None = None,
    ) -> Self:
        """The call with ``of`` in it, or else the oldest, ends.

        Args:
            outcome: how.
            error: what it said; unless OK, a text that names every row number of the call where there is none.
            of: one of its requests.
            where: its endpoint.
        """
        dispatch = next(
            d
            for d in self.in_flight
            if (of is None or of in [e.request for e in d.batch.entries]) and where in {None, d.endpoint.name}
        )
        self.in_flight.remove(dispatch)
        members = list(dispatch.batch.entries)
        text = f"rows {[n for member in members for n in numbers_of(member.columns)]}"
        error = error or BatchProxyError(text, code=Code.INVALID_ARGUMENT)
        failures = self.scheduler.settle(dispatch, self.now, outcome, None if outcome is Outcome.OK else error)
        for member in members if outcome is Outcome.OK else ():
            if not member.waiter.done():
                member.waiter.set_result(Reply({}, 1))
        for entry, why in failures:
            if not entry.waiter.done():
                entry.waiter.set_exception(why)
        return self

    def expect_answered(self, *requests: Request) -> Self:
        """These have their reply."""
        for request in requests:
            assert self.waiter(request).reply is not None, self.waiter(request)
        return self

    def expect_failed(self, request: Request, code: Code, text: str = "") -> Self:
        """This one was refused with ``code`` and a message that contains ``text``."""
        error = self.waiter(request).error
        assert error is not None, self.waiter(request)
        assert (code, True) == (error.code, text in error.message), error
        return self

    def expect_waiting(self, *requests: Request) -> Self:
        """These were told nothing yet."""
        for request in requests:
            assert not self.waiter(request).done(), self.waiter(request)
        return self
