"""The part of the scheduler's state machine that is about endpoints: they go down, come up, are added and removed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from batchproxy.core.balancer import Endpoint
from batchproxy.core.batch import Batch, Dispatch, Release
from batchproxy.core.ends import MAX_ATTEMPTS, Failure
from batchproxy.core.errors import BatchProxyError, NoEndpoint
from batchproxy.core.outliers import CONSECUTIVE
from batchproxy.core.request import Entry, State
from batchproxy.core.scheduler import Scheduler
from batchproxy.testing import StubWaiter

WHICH = st.integers(0, 1000)  # one of however many there are
MOST = 5


class PoolMachine(RuleBasedStateMachine):
    """What happens to the endpoints of ``scheduler``; who starts it, and the rest, is `machine`'s."""

    scheduler: Scheduler
    make_endpoint: Callable[[str], Endpoint]
    endpoints: list[Endpoint]
    removed: list[Endpoint]
    bound: set[Dispatch]  # relays that had their endpoint before it was removed
    in_flight: dict[Dispatch, tuple[Entry, ...]]
    entries: list[Entry]
    must_pump: bool
    now: float

    @precondition(lambda self: self.endpoints)
    @rule(which=WHICH)
    def endpoint_down(self, which: int) -> None:
        self._strand(self.scheduler.take_out(self.endpoints[which % len(self.endpoints)], "gone"))

    @rule()
    def endpoints_up(self) -> None:
        """Also of those that were removed meanwhile: a probe may be under way."""
        for endpoint in (*self.endpoints, *self.removed):
            self.scheduler.bring_back(endpoint)
        self.must_pump = True

    @precondition(lambda self: len(self.endpoints) < MOST)
    @rule()
    def add_endpoint(self) -> None:
        endpoint = self.make_endpoint(f"e{len(self.endpoints) + len(self.removed)}")
        self.endpoints.append(endpoint)
        self.scheduler.add_endpoint(endpoint)
        self.must_pump = True  # with fewer than half of them well, those that were left out are used

    @precondition(lambda self: self.endpoints)
    @rule(which=WHICH)
    def remove_endpoint(self, which: int) -> None:
        endpoint = self.endpoints.pop(which % len(self.endpoints))
        self.removed.append(endpoint)
        self.bound |= {relay for relay in self.scheduler._relays if relay.endpoint is endpoint}
        self._strand(self.scheduler.remove_endpoint(endpoint))

    @precondition(lambda self: self.endpoints)
    @rule(which=WHICH)
    def endpoint_nearly_left_out(self, which: int) -> None:
        """Its next failure is one too many."""
        self.endpoints[which % len(self.endpoints)].failures = CONSECUTIVE - 1

    def _strand(self, failures: list[Failure]) -> None:
        assert not failures or not any(endpoint.up for endpoint in self.endpoints), "told so though one is left"
        for entry, why in failures:
            assert isinstance(why, NoEndpoint)
            self.tell(entry, why)
        self.must_pump = True

    def tell(self, entry: Entry, error: BatchProxyError) -> None:
        """As the engine does, but an entry that was answered may not be named again at all."""
        waiter = waiter_of(entry)
        if not waiter.cancelled:
            waiter.set_exception(error)

    def check_slots(self, dispatch: Dispatch) -> None:
        """A merged call goes only where a place is free at that moment; a hedge takes none from full batches."""
        limit = dispatch.endpoint.limit
        most = limit.partial if dispatch.reason is Release.HEDGE else limit.full
        assert limit.in_flight <= most, "sent to an endpoint that has as many calls as its limit allows"
        assert not limit.draining or limit.in_flight == 1, "sent to an endpoint that is being emptied"

    @invariant()
    def nobody_waits_for_nothing(self) -> None:
        if not any(endpoint.up for endpoint in self.endpoints):
            queued = [entry for entry in self.entries if entry.state is State.QUEUED and not waiter_of(entry).cancelled]
            assert not queued, "entries wait though no endpoint is left"

    @invariant()
    def endpoints_add_up(self) -> None:
        waiting = list(self.scheduler._relays)
        for endpoint in (*self.endpoints, *self.removed):
            merged = [d for d in self.in_flight if d.endpoint is endpoint and d.batch.merged]
            relayed = [d for d in (*self.in_flight, *waiting) if d.endpoint is endpoint and not d.batch.merged]
            assert (len(merged), len(relayed)) == (endpoint.in_flight, endpoint.relayed)
            assert endpoint.busy == bool(merged or relayed)
            fixed = endpoint.limit.fixed  # a learned limit may sink below what is under way: see check_slots
            assert fixed is None or endpoint.in_flight <= fixed, "above an endpoint's slots"
            assert endpoint.relayed <= endpoint.max_relayed, "above an endpoint's max_relayed"
            rows = sum(
                entry.request.rows or 1 for d in merged + relayed for entry in self.in_flight.get(d, d.batch.entries)
            )
            assert rows == endpoint.rows
        assert not any(endpoint.up for endpoint in self.removed), "a removed endpoint came back"

    @invariant()
    def few_are_left_out(self) -> None:
        """For how their calls end; one of up to five, and nobody where fewer than half would be left."""
        out = [endpoint for endpoint in self.endpoints if endpoint.out]
        well = [endpoint for endpoint in self.endpoints if endpoint.up and endpoint.ejected_until == -inf]
        ejected = [endpoint for endpoint in self.endpoints if endpoint.ejected_until != -inf]
        assert len(out) <= len(ejected) <= 1, "too many endpoints are left out"
        assert not out or 2 * len(well) >= len(self.endpoints), "left out in a panic"


def has_room(endpoint: Endpoint) -> bool:
    """Whether whatever is ripe must go there at once; a learned limit may hold a batch while another is in flight."""
    limit = endpoint.limit
    return endpoint.up and not endpoint.out and endpoint.in_flight < (1 if limit.fixed is None else limit.fixed)


def keeps_its_last_try(batch: Batch, endpoints: Sequence[Endpoint]) -> bool:
    """Whether it waits for an endpoint where it has not failed, all of which are busy."""
    others = [endpoint for endpoint in endpoints if endpoint.up and not endpoint.out and endpoint not in batch.avoid]
    last = all(entry.attempts >= MAX_ATTEMPTS - 1 for entry in batch.entries)
    return last and bool(others) and not any(has_room(endpoint) for endpoint in others)


def waiter_of(entry: Entry) -> StubWaiter:
    """Its own kind."""
    assert isinstance(entry.waiter, StubWaiter)
    return entry.waiter
