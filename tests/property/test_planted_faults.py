"""The test of the test: faults planted one at a time in the real scheduler, each of which the state machine finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from batchproxy.core.balancer import Balancer
from batchproxy.core.batch import Batch, Bisection, Dispatch
from batchproxy.core.ends import Ends, Failure
from batchproxy.core.errors import BatchProxyError
from batchproxy.core.lane import Lane
from batchproxy.core.lanes import Lanes
from batchproxy.core.outcome import Outcome
from batchproxy.core.policy import Policy
from batchproxy.core.request import BatchKey, Entry, State
from batchproxy.core.scheduler import Scheduler
from tests.property.faults import Fault, Faults
from tests.property.machine import SchedulerMachine

FAULTS = Faults()
fault = FAULTS.add


@fault
def _dead_entries_are_sent(patch: pytest.MonkeyPatch) -> None:
    def take(self: Lane, now: float, cap: int, lead: float = 0.0) -> tuple[list[Entry], list[Entry]]:
        entry = self.head()
        assert entry is not None
        self._entries.popleft()
        self.remove(entry)
        return [entry], []

    patch.setattr(Lane, "take", take)


@fault
def _batches_overflow(patch: pytest.MonkeyPatch) -> None:
    real = Lane.take

    patch.setattr(Lane, "take", lambda self, now, cap, *lead: real(self, now, cap + 1, *lead))


@fault
def _wake_up_for_a_delayed_lane_is_lost(patch: pytest.MonkeyPatch) -> None:
    real = Scheduler.wake_at

    def wake_at(self: Scheduler, now: float) -> float | None:
        wake = real(self, now)
        return None if wake is not None and wake > now else wake

    patch.setattr(Scheduler, "wake_at", wake_at)


@fault
def _submit_does_not_ask_to_be_polled(patch: pytest.MonkeyPatch) -> None:
    real = Scheduler.submit

    def submit(self: Scheduler, entry: Entry, now: float) -> bool:
        real(self, entry, now)
        return False

    patch.setattr(Scheduler, "submit", submit)


@fault
def _slot_of_an_abandoned_call_leaks(patch: pytest.MonkeyPatch) -> None:
    real = Scheduler._release

    def release(self: Scheduler, dispatch: Dispatch, now: float, *, answered: bool) -> None:
        real(self, dispatch, now, answered=answered)
        if not dispatch.batch.live and dispatch.batch.merged:
            dispatch.endpoint.limit.depart(now)

    patch.setattr(Scheduler, "_release", release)


@fault
def _relayed_call_is_retried_in_a_slot(patch: pytest.MonkeyPatch) -> None:
    """The fault this machine was first met with: the slot was never given back."""

    def try_elsewhere(self: Ends, dispatch: Dispatch, *arguments: Any) -> list[Failure]:
        dispatch.batch.adopt()
        self.front.appendleft(dispatch.batch)
        return []

    patch.setattr(Ends, "_try_elsewhere", try_elsewhere)


@fault
def _rows_are_counted_after_death(patch: pytest.MonkeyPatch) -> None:
    real = Scheduler.discard

    def discard(self: Scheduler, entry: Entry) -> Sequence[Dispatch]:
        home = entry.home
        abandoned = real(self, entry)
        if isinstance(home, Lane):
            home.book.rows += entry.request.rows or 0
        return abandoned

    patch.setattr(Scheduler, "discard", discard)


@fault
def _last_come_is_first_served(patch: pytest.MonkeyPatch) -> None:
    real = Lane.push

    def push(self: Lane, entry: Entry) -> bool:
        changed = real(self, entry)
        self._entries.rotate(1)
        return changed

    patch.setattr(Lane, "push", push)


@fault
def _shapes_are_mixed(patch: pytest.MonkeyPatch) -> None:
    class Mixed(dict[BatchKey, Lane]):
        def get(self, key: BatchKey, default: Any = None) -> Any:
            return super().get(key._replace(shapes=()), default)

        def __setitem__(self, key: BatchKey, lane: Lane) -> None:
            super().__setitem__(key._replace(shapes=()), lane)

        def __delitem__(self, key: BatchKey) -> None:
            super().__delitem__(key._replace(shapes=()))

    real = Lanes.__init__

    def init(self: Lanes, *arguments: Any) -> None:
        real(self, *arguments)
        self._lanes = Mixed()

    patch.setattr(Lanes, "__init__", init)


@fault
def _late_entries_are_told_twice(patch: pytest.MonkeyPatch) -> None:
    real = Scheduler.overdue

    def overdue(self: Scheduler, now: float) -> list[Entry]:
        late = list(self._unanswered.late)
        found = real(self, now)
        self._unanswered.late = late
        return found

    patch.setattr(Scheduler, "overdue", overdue)


@fault
def _members_that_left_are_answered_again(patch: pytest.MonkeyPatch) -> None:
    real = Scheduler.settle

    def settle(self: Scheduler, dispatch: Dispatch, *arguments: Any) -> list[Failure]:
        for entry in dispatch.batch.entries:
            entry.state = State.RUNNING
        return real(self, dispatch, *arguments)

    patch.setattr(Scheduler, "settle", settle)


@fault
def _bisecting_has_no_budget(patch: pytest.MonkeyPatch) -> None:
    real = Bisection.__init__

    def init(self: Bisection, entries: int) -> None:
        real(self, entries)
        self.calls_left *= 2

    patch.setattr(Bisection, "__init__", init)


@fault
def _first_piece_is_run_twice(patch: pytest.MonkeyPatch) -> None:
    real = Batch.cut
    patch.setattr(Batch, "cut", lambda self, sizes: [*real(self, sizes), *real(self, sizes[:1])])


@fault
def _parked_piece_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    def leave(self: Bisection, piece: Batch) -> None:
        self._claim(piece, 0)

    patch.setattr(Bisection, "leave", leave)


@fault
def _due_time_of_a_cancelled_head_stays(patch: pytest.MonkeyPatch) -> None:
    real = Lane.due

    def due(self: Lane) -> float:
        return min(entry.arrival for entry in self._entries) if len(self._entries) > self.live else real(self)

    patch.setattr(Lane, "due", due)
    patch.setattr(Lane, "ripe", lambda self, now: True)


@fault
def _lane_that_became_full_is_not_ranked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Lane, "full", lambda self: False)


@fault
def _dead_endpoints_are_used(patch: pytest.MonkeyPatch) -> None:
    def choose(self: Balancer, key: BatchKey, rows: int, cap: int, now: float, *avoid: Any, **barred: Any) -> Any:
        opens = {e: e.limit.opens(e.cost(key), rows, cap, now) for e in self.endpoints}
        chosen = next((endpoint for endpoint, when in opens.items() if when <= now), None)
        return chosen, min(opens.values())

    patch.setattr(Balancer, "choose", choose)


@fault
def _bounds_are_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Lanes, "_check_bounds", lambda self, book, request: None)


@fault
def _non_idempotent_models_are_run_again(patch: pytest.MonkeyPatch) -> None:
    real = Scheduler.__init__

    def init(self: Scheduler, policies: Mapping[str, Policy], *arguments: Any, **options: Any) -> None:
        real(self, policies, *arguments, **options)
        self._ends._policies = dict.fromkeys(policies, Policy())

    patch.setattr(Scheduler, "__init__", init)


@fault
def _merged_text_reaches_callers(patch: pytest.MonkeyPatch) -> None:
    def settle_rejected(
        self: Ends, batch: Batch, shared: bool, outcome: Outcome, error: BatchProxyError
    ) -> list[Failure]:
        return self._fail(batch.entries, error)

    patch.setattr(Ends, "_settle_rejected", settle_rejected)


@fault
def _unsplittable_model_is_merged_on(patch: pytest.MonkeyPatch) -> None:
    def stop_batching(self: Ends, key: BatchKey, why: str) -> None: ...

    patch.setattr(Ends, "stop_batching", stop_batching)


@pytest.mark.parametrize("plant", FAULTS, ids=lambda plant: plant.__name__.strip("_"))
def test_fault_is_found(plant: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each fault alone breaks an invariant within a few hundred runs."""
    plant(monkeypatch)
    search = settings(max_examples=2000, stateful_step_count=40, phases=[Phase.generate], report_multiple_bugs=False)

    with pytest.raises(AssertionError):
        run_state_machine_as_test(SchedulerMachine, settings=search)
