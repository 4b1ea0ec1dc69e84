"""The scheduler's invariants, under whatever may happen to it."""

from __future__ import annotations

from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from tests.property.machine import SchedulerMachine


def test_scheduler_keeps_its_invariants() -> None:
    """No order of arrivals, endings, cancellations, outages and waiting breaks an invariant."""
    run_state_machine_as_test(SchedulerMachine, settings=settings(max_examples=400, stateful_step_count=40))
