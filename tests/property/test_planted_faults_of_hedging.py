"""The test of the test, for hedges and for who keeps its last try: faults planted one at a time, which are found."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from batchproxy.core.balancer import Balancer, Endpoint
from batchproxy.core.batch import Dispatch, Race
from batchproxy.core.ends import Failure
from batchproxy.core.front import Front
from batchproxy.core.hedging import Hedging
from batchproxy.core.outcome import Outcome
from batchproxy.core.retries import Retries
from batchproxy.core.scheduler import Scheduler
from tests.property.faults import Fault, Faults
from tests.property.hedge_machine import is_lost
from tests.property.machine import SchedulerMachine

FAULTS = Faults()
fault = FAULTS.add


@fault
def _a_failure_of_the_first_call_is_the_outcome(patch: pytest.MonkeyPatch) -> None:
    def end(self: Hedging, dispatch: Dispatch, race: Race, outcome: Outcome, now: float) -> bool:
        decided = race.winner is not None
        race.winner = dispatch
        return not decided

    patch.setattr(Hedging, "end", end)


@fault
def _what_the_loser_says_is_an_outcome_too(patch: pytest.MonkeyPatch) -> None:
    real = Scheduler.settle

    def settle(self: Scheduler, dispatch: Dispatch, now: float, outcome: Outcome, error: Any = None) -> list[Failure]:
        lost = is_lost(dispatch)
        failures = real(self, dispatch, now, outcome, error)
        return [(entry, error) for entry in dispatch.batch.entries] if lost else failures

    patch.setattr(Scheduler, "settle", settle)


@fault
def _nobody_is_told_when_both_fail(patch: pytest.MonkeyPatch) -> None:
    real = Race.end

    def end(self: Race, dispatch: Dispatch, answered: bool) -> bool:
        return real(self, dispatch, answered) and answered

    patch.setattr(Race, "end", end)


@fault
def _one_call_of_the_two_is_left_running(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Race, "under_way", lambda self: (self.first,))


@fault
def _hedges_have_no_budget(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Retries, "may_hedge", lambda self, now: True)


@fault
def _models_that_may_not_run_twice_are_hedged(patch: pytest.MonkeyPatch) -> None:
    real = Hedging.__init__

    def init(self: Hedging, policies: Any, *arguments: Any) -> None:
        class Lenient:
            def __getitem__(self, model: str) -> Any:
                policy = policies[model]
                return type(policy)(hedging=policy.hedging, hedging_delay_s=policy.hedging_delay_s)

        real(self, Lenient(), *arguments)  # type: ignore[arg-type]

    patch.setattr(Hedging, "__init__", init)


@fault
def _a_batch_is_hedged_where_it_is(patch: pytest.MonkeyPatch) -> None:
    real = Balancer.choose

    def choose(self: Balancer, *arguments: Any, barred: Sequence[Endpoint] = ()) -> Any:
        return real(self, *arguments)

    patch.setattr(Balancer, "choose", choose)


@fault
def _nobody_wakes_up_for_a_hedge(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Hedging, "wake_at", lambda self: inf)


@fault
def _late_batches_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Hedging, "_is_wanted", lambda self, dispatch, now: False)


@fault
def _hedges_leave_at_once(patch: pytest.MonkeyPatch) -> None:
    real = Hedging.watch

    def watch(self: Hedging, dispatch: Dispatch) -> None:
        real(self, dispatch)
        if dispatch in self.watched:
            self._late[dispatch] = None

    patch.setattr(Hedging, "watch", watch)


@fault
def _slots_of_losers_are_not_given_back(patch: pytest.MonkeyPatch) -> None:
    real = Hedging.end

    def end(self: Hedging, dispatch: Dispatch, race: Race, *arguments: Any) -> bool:
        lost = race.winner is not None
        decides = real(self, dispatch, race, *arguments)
        if lost:
            dispatch.endpoint.limit.depart(0.0)
        return decides

    patch.setattr(Hedging, "end", end)


@fault
def _a_batch_keeps_its_last_try_for_ever(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Front, "barred", lambda self, batch: batch.avoid)


@pytest.mark.parametrize("plant", FAULTS, ids=lambda plant: plant.__name__.strip("_"))
def test_fault_is_found(plant: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each fault alone breaks an invariant within a few hundred runs."""
    plant(monkeypatch)
    search = settings(max_examples=2000, stateful_step_count=40, phases=[Phase.generate], report_multiple_bugs=False)

    with pytest.raises(AssertionError):
        run_state_machine_as_test(SchedulerMachine, settings=search)
