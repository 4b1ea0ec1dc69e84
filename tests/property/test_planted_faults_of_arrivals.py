"""The test of the test, for requests that come together: planted faults, each of which the state machine finds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from batchproxy.core.ends import Failure
from batchproxy.core.lane import Lane
from batchproxy.core.request import Entry, State
from batchproxy.core.scheduler import Scheduler
from tests.property.faults import Fault, Faults
from tests.property.machine import SchedulerMachine

FAULTS = Faults()
fault = FAULTS.add
Pushed = tuple[Entry | None, bool]


@fault
def _they_do_not_ask_to_be_polled(patch: pytest.MonkeyPatch) -> None:
    real = Scheduler.submit_all

    def submit_all(self: Scheduler, entries: Sequence[Entry], now: float) -> tuple[bool, list[Failure]]:
        return False, real(self, entries, now)[1]

    patch.setattr(Scheduler, "submit_all", submit_all)


@fault
def _bounds_are_not_looked_at(patch: pytest.MonkeyPatch) -> None:
    real = Lane.push_all

    def push_all(self: Lane, entries: Iterable[Entry], now: float, most_rows: int, most_bytes: int) -> Pushed:
        return real(self, entries, now, most_rows + 1, most_bytes)

    patch.setattr(Lane, "push_all", push_all)


@fault
def _who_left_is_taken_in(patch: pytest.MonkeyPatch) -> None:
    real = Scheduler.submit_all

    def submit_all(self: Scheduler, entries: Sequence[Entry], now: float) -> tuple[bool, list[Failure]]:
        for entry in entries:
            entry.state = State.QUEUED
        return real(self, entries, now)

    patch.setattr(Scheduler, "submit_all", submit_all)


@fault
def _sums_forget_one(patch: pytest.MonkeyPatch) -> None:
    real = Lane.push_all

    def push_all(self: Lane, entries: Iterable[Entry], now: float, most_rows: int, most_bytes: int) -> Pushed:
        before = self.live
        pushed = real(self, entries, now, most_rows, most_bytes)
        self.book.rows -= self.live - before > 2
        return pushed

    patch.setattr(Lane, "push_all", push_all)


@fault
def _urgent_ones_do_not_overtake(patch: pytest.MonkeyPatch) -> None:
    real = Lane.push_all

    def push_all(self: Lane, entries: Iterable[Entry], now: float, most_rows: int, most_bytes: int) -> Pushed:
        pushed = real(self, entries, now, most_rows, most_bytes)
        self._sorted = True
        return pushed

    patch.setattr(Lane, "push_all", push_all)


@pytest.mark.parametrize("plant", FAULTS, ids=lambda plant: plant.__name__.strip("_"))
def test_fault_is_found(plant: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each fault alone breaks an invariant within a few hundred runs."""
    plant(monkeypatch)
    search = settings(max_examples=2000, stateful_step_count=40, phases=[Phase.generate], report_multiple_bugs=False)

    with pytest.raises(AssertionError):
        run_state_machine_as_test(SchedulerMachine, settings=search)
