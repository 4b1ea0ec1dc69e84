"""A state machine that fills Lanes and takes batches out as a scheduler does, and checks that each got its fair turn.

Calls cost what their model costs, in seconds that are not the clock's: endpoints are as fast as the rules make them.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from batchproxy.core.lane import Lane
from batchproxy.core.lanes import Lanes
from batchproxy.core.policy import Policy
from batchproxy.core.request import BatchKey, Entry
from batchproxy.testing import StubWaiter, a_request
from tests.property.order import leaves_before, urgency

ROW_COSTS = {"cheap": 0.001, "dear": 0.05}
"""Seconds of a row, by model."""

TENANTS = ("", "a", "b")
Flow = tuple[str, tuple[tuple[str, str], ...]]
Served = dict[Flow, Counter[Flow]]

ARRIVALS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "model": st.sampled_from(tuple(ROW_COSTS)),
        "tenant": st.sampled_from(TENANTS),
        "width": st.sampled_from((0, 0, 3)),
        "rows": st.sampled_from((1, 1, 2, 20)),
        "priority": st.sampled_from((None, None, 0, 2)),
    }
)
"""Arguments of ``a_request``."""

TIMES_LEFT = st.sampled_from((None, None, 0.5, 2.0, 30.0))  # seconds


class LanesMachine(RuleBasedStateMachine):
    """Two models and three tenants that share a pool."""

    @initialize(
        rows=st.tuples(st.sampled_from((1, 4, 16)), st.sampled_from((1, 4, 16))),
        delays=st.tuples(st.sampled_from((0.0, 0.0, 0.02)), st.sampled_from((0.0, 0.0, 0.02))),
        priorities=st.tuples(st.sampled_from((0, 1, 1, 2)), st.sampled_from((0, 1, 1, 2))),
        predicted=st.booleans(),
    )
    def start(
        self,
        rows: tuple[int, int],
        delays: tuple[float, float],
        priorities: tuple[int, int],
        predicted: bool,
    ) -> None:
        self.policies = {
            model: Policy(max_batch_rows=top, max_delay_s=delay, priority=priority)
            for model, top, delay, priority in zip(ROW_COSTS, rows, delays, priorities, strict=True)
        }
        self.lanes = Lanes(self.policies, 1 << 40)
        self.predicted = predicted
        self.now = 0.0
        self.serial: dict[Entry, int] = {}
        self.dearest = 0.0
        # what others were served while this flow waited: with a ripe lane, with a full one
        self.served: tuple[Served, Served] = ({}, {})

    # -- what happens to lanes -----------------------------------------------------------------------

    @rule(arrival=ARRIVALS, time_left=TIMES_LEFT, count=st.sampled_from((1, 1, 1, 40)))
    def push(self, arrival: dict[str, Any], time_left: float | None, count: int) -> None:
        for _ in range(count):
            request = a_request(**arrival)
            request.deadline = None if time_left is None else self.now + time_left
            entry = Entry(request, StubWaiter(), self.now)
            self.serial[entry] = len(self.serial)
            self.lanes.push(entry)

    @rule(seconds=st.sampled_from((0.01, 0.01, 0.3, 1.0, 6.0)))
    def let_time_pass(self, seconds: float) -> None:
        self.now += seconds

    @rule(count=st.sampled_from((1, 1, 10)), full=st.sampled_from((False, False, True)))
    def send(self, count: int, full: bool) -> None:
        for _ in range(count):
            self._send(full)

    @rule(which=st.integers(0, 1000), told=st.booleans())
    def cancel(self, which: int, told: bool) -> None:
        waiting = list(self.lanes.entries())
        if waiting:
            self._cancel(waiting[which % len(waiting)], told)

    @rule(which=st.integers(0, 1000))
    def cancel_a_head(self, which: int) -> None:
        lanes = list({entry.home: None for entry in self.lanes.entries() if isinstance(entry.home, Lane)})
        if lanes:
            self._cancel(min(lanes[which % len(lanes)], key=partial(urgency, self.policies, self.serial)), told=True)

    # -- doing it --------------------------------------------------------------------------------------

    def _cancel(self, entry: Entry, told: bool) -> None:
        assert isinstance(entry.waiter, StubWaiter)
        entry.waiter.cancel()
        if told and isinstance(lane := entry.home, Lane):
            lane.remove(entry)
            if not lane.live:
                self.lanes.rank(lane)

    def _next(self, full: bool) -> Lane | None:
        return self.lanes.next_full() if full else self.lanes.next_ripe(self.now)

    def _send(self, full: bool = False) -> bool:
        """One batch leaves, or one lane is found to hold nothing that anybody wants."""
        ripe = self._ripe(full)
        lane = self._next(full)
        assert (lane is None) is (not ripe), "a lane is ripe and has no turn, or has one and is not ripe"
        if lane is None:
            return False
        assert lane is self._next(full), "asked again, another one"
        assert lane.key in ripe, "a lane has its turn that is neither full nor due"
        sent, late = lane.take(self.now, lane.cap)
        self.lanes.rank(lane)
        assert all(entry.expired(self.now) for entry in late)
        if sent:
            leaves_before(sent, lane.key, ripe, partial(urgency, self.policies, self.serial), self.now)
            self._charge(lane, sum(entry.request.rows or 0 for entry in sent), ripe, full)
        return True

    def _charge(self, lane: Lane, rows: int, ripe: dict[BatchKey, list[Entry]], full: bool) -> None:
        cost = rows * ROW_COSTS[lane.key.model]
        if self.predicted:
            self.lanes.charge(lane, rows, cost)
        else:
            self.lanes.charge(lane, rows)
            cost = rows
        self.dearest = max(self.dearest, cost)
        flow = _flow(lane.key)
        for waiting in {_flow(key) for key in ripe} - {flow}:
            others = self.served[full].setdefault(waiting, Counter())
            others[flow] += cost  # type: ignore[assignment]  # seconds
            assert others[flow] <= 4 * self.dearest + 1e-9, f"{waiting} waits while {flow} sends for {others[flow]}"
        for served in self.served:
            served.pop(flow, None)

    def _ripe(self, full: bool) -> dict[BatchKey, list[Entry]]:
        """What the lanes hold that have a turn; of those that are full, where only they have one."""
        lanes = {entry.home: None for entry in self.serial if isinstance(entry.home, Lane)}
        return {lane.key: list(lane) for lane in lanes if self._is_full(lane) or (not full and self._is_due(lane))}

    def _is_full(self, lane: Lane) -> bool:
        return sum(entry.request.rows or 0 for entry in lane) >= self.policies[lane.key.model].max_batch_rows

    def _is_due(self, lane: Lane) -> bool:
        return min(entry.arrival for entry in lane) + self.policies[lane.key.model].max_delay_s <= self.now

    # -- what must hold always -------------------------------------------------------------------------

    @invariant()
    def turns_are_lost_with_the_last_lane_that_has_one(self) -> None:
        for full, served in enumerate(self.served):
            here = {_flow(key) for key in self._ripe(bool(full))}
            for flow in served.keys() - here:
                del served[flow]

    @invariant()
    def somebody_is_told_when_to_look(self) -> None:
        due = self.lanes.next_due()
        waiting = [entry for entry in self.serial if isinstance(entry.home, Lane)]
        assert waiting == sorted(self.lanes.entries(), key=self.serial.__getitem__), "an entry is lost"
        for entry in waiting:
            assert due is not None, "a lane waits and nobody is told"
            assert due <= max(self.now, entry.arrival + self.policies[entry.request.key.model].max_delay_s)

    def teardown(self) -> None:
        """While slots keep freeing, everybody is sent."""
        if not hasattr(self, "lanes"):
            return
        self.now += 1.0
        for _ in range(len(self.serial)):
            if not self._send():
                break
        assert not list(self.lanes.entries()), "somebody is never sent"
        assert 0 == len(self.lanes) == self.lanes.rows == self.lanes.nbytes


def _flow(key: BatchKey) -> Flow:
    return key.model, key.partition
