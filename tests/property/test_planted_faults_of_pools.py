"""The test of the test, for endpoints that come and go: faults planted one at a time, which the state machine finds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from batchproxy.core import outliers
from batchproxy.core.balancer import Balancer, Endpoint
from batchproxy.core.cost import Cost
from batchproxy.core.ends import Failure
from batchproxy.core.health import Health
from batchproxy.core.limit import Limit
from batchproxy.core.pace import EASE, Hurry
from batchproxy.core.scheduler import Scheduler
from tests.property.faults import Fault, Faults
from tests.property.machine import SchedulerMachine

FAULTS = Faults()
fault = FAULTS.add


@fault
def _removed_endpoints_get_more(patch: pytest.MonkeyPatch) -> None:
    real = Health.remove

    def remove(self: Health, endpoint: Endpoint) -> list[Failure]:
        failures = real(self, endpoint)
        self._balancer.add(endpoint)
        endpoint.up = True
        return failures

    patch.setattr(Health, "remove", remove)


@fault
def _probes_bring_removed_endpoints_back(patch: pytest.MonkeyPatch) -> None:
    real = Health.bring_back

    def bring_back(self: Health, endpoint: Endpoint) -> None:
        real(self, endpoint)
        endpoint.up = True

    patch.setattr(Health, "bring_back", bring_back)


@fault
def _added_endpoints_are_never_chosen(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Balancer, "add", lambda self, endpoint: None)


@fault
def _nobody_looks_again_when_an_endpoint_comes(patch: pytest.MonkeyPatch) -> None:
    real = Health.__init__

    def init(self: Health, *arguments: Any) -> None:
        real(self, *arguments)
        self._look_again = lambda: None

    patch.setattr(Health, "__init__", init)


@fault
def _nobody_is_told_that_the_last_endpoint_was_removed(patch: pytest.MonkeyPatch) -> None:
    real = Health.remove

    def remove(self: Health, endpoint: Endpoint) -> list[Failure]:
        real(self, endpoint)
        return []

    patch.setattr(Health, "remove", remove)


@fault
def _everybody_is_told_though_another_endpoint_is_left(patch: pytest.MonkeyPatch) -> None:
    real = Balancer.any_up
    patch.setattr(Balancer, "any_up", lambda self: real(self) and len(self.endpoints) > 1)


@fault
def _retries_wait_for_endpoints_that_are_gone(patch: pytest.MonkeyPatch) -> None:
    """Found while endpoints learned to go: pieces of a rejected batch waited for an endpoint that may never come."""
    real = Scheduler.settle

    def settle(self: Scheduler, *arguments: Any) -> list[Failure]:
        strand, self.health.strand = self.health.strand, list  # type: ignore[method-assign]
        try:
            return real(self, *arguments)
        finally:
            self.health.strand = strand  # type: ignore[method-assign]

    patch.setattr(Scheduler, "settle", settle)


@fault
def _calls_of_a_removed_endpoint_are_forgotten_too_soon(patch: pytest.MonkeyPatch) -> None:
    real = Health.remove

    def remove(self: Health, endpoint: Endpoint) -> list[Failure]:
        failures = real(self, endpoint)
        endpoint.rows = endpoint.relayed = 0
        return failures

    patch.setattr(Health, "remove", remove)


@fault
def _who_fails_is_used_on(patch: pytest.MonkeyPatch) -> None:
    real = Balancer.choose

    def choose(self: Balancer, *arguments: Any, **barred: Any) -> Any:
        out = [endpoint for endpoint in self.endpoints if endpoint.out]
        for endpoint in out:
            endpoint.out = False
        chosen = real(self, *arguments, **barred)
        for endpoint in out:
            endpoint.out = True
        return chosen

    patch.setattr(Balancer, "choose", choose)


@fault
def _full_batches_do_not_count_what_is_under_way(patch: pytest.MonkeyPatch) -> None:
    real = Limit.opens

    def opens(self: Limit, cost: Cost, rows: int, cap: int, now: float, hurry: Hurry = EASE) -> float:
        return now if rows >= cap and not self.draining else real(self, cost, rows, cap, now, hurry)

    patch.setattr(Limit, "opens", opens)


@fault
def _nobody_panics(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(outliers, "PANIC", 0.0)


@fault
def _all_may_be_left_out(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(outliers, "SHARE", 1.0)


@pytest.mark.parametrize("plant", FAULTS, ids=lambda plant: plant.__name__.strip("_"))
def test_fault_is_found(plant: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each fault alone breaks an invariant within a few hundred runs."""
    plant(monkeypatch)
    search = settings(max_examples=2000, stateful_step_count=40, phases=[Phase.generate], report_multiple_bugs=False)

    with pytest.raises(AssertionError):
        run_state_machine_as_test(SchedulerMachine, settings=search)
