"""The experiment with hand-overs, in small: its figures prove nothing about speed."""

from __future__ import annotations

import pytest

from benchmarks import handover


@pytest.mark.slow
def test_a_process_takes_over() -> None:
    """New connections all the while, by REST and by gRPC, and each is answered rightly."""
    told: list[str] = []
    found = handover.measure(1, told.append, rate=100.0, calm_s=0.2)

    assert ["hand-over 1 of 1"] == told
    assert (0, [], [0]) == (found.failed, found.faults, found.statuses)
    assert found.requests > 0
    assert "1 hand-overs" in "\n".join(found.lines())
