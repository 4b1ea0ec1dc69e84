"""The test of the test, for whose turn it is: faults planted in lanes and turns, each found by the lanes' machine."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from batchproxy.core import lane as module
from batchproxy.core.lane import Lane
from batchproxy.core.request import Entry
from batchproxy.core.turns import Flow, Turns
from tests.property.faults import Fault, Faults
from tests.property.lanes_machine import LanesMachine

FAULTS = Faults()
fault = FAULTS.add


@fault
def _equals_are_served_last_come_first(patch: pytest.MonkeyPatch) -> None:
    real = Lane.head

    def head(self: Lane) -> Entry | None:
        if not self._sorted:
            self._entries.reverse()
        return real(self)

    patch.setattr(Lane, "head", head)


@fault
def _nobody_ages(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(module, "AGING_S", 1e6)


@fault
def _deadlines_do_not_count(patch: pytest.MonkeyPatch) -> None:
    real = Lane.push

    def push(self: Lane, entry: Entry) -> bool:
        deadline, entry.request.deadline = entry.request.deadline, None
        changed = real(self, entry)
        entry.request.deadline = deadline
        return changed

    patch.setattr(Lane, "push", push)


@fault
def _models_have_no_priority(patch: pytest.MonkeyPatch) -> None:
    real = Lane.__init__

    def init(self: Lane, *arguments: Any) -> None:
        real(self, *arguments)
        self._handicap = module.AGING_S

    patch.setattr(Lane, "__init__", init)


@fault
def _urgent_request_does_not_hurry_its_lane(patch: pytest.MonkeyPatch) -> None:
    real = Lane.push

    def push(self: Lane, entry: Entry) -> bool:
        before = self.order
        changed = real(self, entry)
        if self.live > 1:
            self.order = before
            return changed and self.full()
        return changed

    patch.setattr(Lane, "push", push)
    patch.setattr(Lane, "in_order", lambda self: True)


@fault
def _lane_stays_as_urgent_as_who_left_it(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Lane, "in_order", lambda self: True)


@fault
def _credit_is_kept_for_ever(patch: pytest.MonkeyPatch) -> None:
    def join(self: Turns, flow: Flow) -> None:
        self._present += 1
        flow.round = max(flow.round, 0)

    patch.setattr(Turns, "_join", join)


@fault
def _nobody_is_charged(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Turns, "charge", lambda self, lane, rows, seconds=None: None)


@fault
def _rows_are_charged_whatever_they_cost(patch: pytest.MonkeyPatch) -> None:
    real = Turns.charge
    patch.setattr(Turns, "charge", lambda self, lane, rows, seconds=None: real(self, lane, rows))


@fault
def _debts_grow_without_end(patch: pytest.MonkeyPatch) -> None:
    real = Turns.charge

    def charge(self: Turns, lane: Lane, rows: int, seconds: float | None = None) -> None:
        flow = self._flows.get((lane.key.model, lane.key.partition))
        before = 0 if flow is None else flow.round
        real(self, lane, rows, seconds)
        if flow is not None and flow.round > self._round:
            flow.round = before + 1

    patch.setattr(Turns, "charge", charge)


@fault
def _flow_is_skipped_for_ever(patch: pytest.MonkeyPatch) -> None:
    real = Turns._add

    def add(self: Turns, lane: Lane) -> None:
        if lane.key.partition != (("tenant", "b"),):
            real(self, lane)

    patch.setattr(Turns, "_add", add)


@fault
def _lane_that_was_alone_is_lost_when_another_comes(patch: pytest.MonkeyPatch) -> None:
    real = Turns.add

    def add(self: Turns, lane: Lane) -> None:
        if self._sole is not lane:
            self._sole = None
        real(self, lane)

    patch.setattr(Turns, "add", add)


@fault
def _only_urgency_counts(patch: pytest.MonkeyPatch) -> None:
    real = Turns._place

    def place(self: Turns, flow: Flow, order: float) -> None:
        flow.round = 0
        real(self, flow, order)

    patch.setattr(Turns, "_place", place)


@pytest.mark.parametrize("plant", FAULTS, ids=lambda plant: plant.__name__.strip("_"))
def test_fault_is_found(plant: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each fault alone lets somebody go before his turn, or never, within a few hundred runs."""
    plant(monkeypatch)
    search = settings(max_examples=2000, stateful_step_count=40, phases=[Phase.generate], report_multiple_bugs=False)

    with pytest.raises(AssertionError):
        run_state_machine_as_test(LanesMachine, settings=search)
