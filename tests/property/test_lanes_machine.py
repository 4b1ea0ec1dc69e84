"""Whose turn it is, under any mix of models, tenants, priorities, deadlines and costs."""

from __future__ import annotations

from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from tests.property.lanes_machine import LanesMachine


def test_everybody_gets_a_turn() -> None:
    """Entries leave in order, no flow takes more than its share while another waits, and nobody starves."""
    run_state_machine_as_test(LanesMachine, settings=settings(max_examples=300, stateful_step_count=40))
