"""The part of the scheduler's state machine that is about requests which come in the same turn of the loop."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st
from hypothesis.stateful import rule

from batchproxy.core.errors import DeadlineExceeded, Unavailable
from batchproxy.core.lane import Lane
from batchproxy.core.policy import Policy
from batchproxy.core.request import Entry, Request
from batchproxy.testing import StubWaiter
from tests.property.hedge_machine import HedgeMachine
from tests.property.strategies import REQUESTS

TIMES_LEFT = st.sampled_from((None, None, 0.005, 0.05, 1.0, 30.0))  # seconds
NUMBERS = st.integers(1, 12)


class ArrivalsMachine(HedgeMachine):
    """How requests come to ``scheduler`` together; one by one they come in `machine`."""

    policies: dict[str, Policy]
    max_queued_bytes: int
    serial: dict[Entry, int]

    @rule(kinds=st.lists(st.tuples(REQUESTS, TIMES_LEFT, NUMBERS), min_size=1, max_size=4), gone=st.sets(NUMBERS))
    def submit_at_once(self, kinds: list[tuple[Request, float | None, int]], gone: set[int]) -> None:
        """Several of each kind, of whom some leave in that turn already."""
        arrived: list[Entry] = []
        for request, time_left, count in kinds:
            deadline = None if time_left is None else self.now + time_left
            arrived += [Entry(replace(request, deadline=deadline), StubWaiter(), self.now) for _ in range(count)]
        for place in gone:
            if place < len(arrived):
                arrived[place].waiter.cancel()  # type: ignore[attr-defined]
                assert () == self.scheduler.discard(arrived[place])
        waiting = self._queued_in_lanes()
        look_again, failures = self.scheduler.submit_all(arrived, self.now)
        self.must_pump |= look_again
        for entry, why in failures:
            assert isinstance(why, Unavailable | DeadlineExceeded)
            assert not entry.waiter.done(), "who left is told that there is no room"
        refused = {entry for entry, _ in failures}
        assert len(refused) == len(failures), "an entry is refused twice"
        taken_in = [entry for entry in arrived if entry not in refused and not entry.waiter.done()]
        self.serial.update({entry: place for place, entry in enumerate(arrived, start=len(self.serial))})
        self.entries += taken_in
        for entry in arrived:
            if entry not in taken_in:
                assert not isinstance(entry.home, Lane), "who was refused, or left, waits"
            elif isinstance(entry.home, Lane):
                self._check_bounds(entry.request, waiting)
                waiting.append(entry)

    def _queued_in_lanes(self) -> list[Entry]:
        return [entry for entry in self.entries if isinstance(entry.home, Lane)]

    def _check_bounds(self, request: Request, waiting: list[Entry]) -> None:
        model = request.key.model
        rows = sum(entry.request.rows or 0 for entry in waiting if entry.request.key.model == model)
        nbytes = sum(entry.request.nbytes for entry in waiting)
        assert not rows or rows + (request.rows or 0) <= self.policies[model].max_queued_rows
        assert not nbytes or nbytes + request.nbytes <= self.max_queued_bytes
