"""The experiment with kills, in small: its figures prove nothing about speed."""

from __future__ import annotations

import pytest

from benchmarks import kill


@pytest.mark.slow
def test_a_server_is_killed() -> None:
    """A capacity is found, a server dies and comes back at half of it, and nobody gets a wrong answer."""
    told: list[str] = []
    found = kill.measure(0.5, 1, told.append, dead_s=0.5, every_s=1.0)

    assert "a lone caller" == told[0]
    assert found.one_ms > 1000 * kill.ALPHA_S
    assert found.capacity / 2 == found.rate
    assert found.requests > 0
    assert not any("another answer" in fault for fault in found.faults)
    assert "1 kills" in "\n".join(found.lines())
