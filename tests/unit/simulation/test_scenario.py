"""Backends, loads and contenders by name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from batchproxy.simulation.arrivals import Callers
from batchproxy.simulation.scenario import SHAPES, Backend, Scenario, ours, rivals, theirs
from batchproxy.simulation.servers import Change, Cores, Lanes, padded

A4 = Backend("A4", 4, 0.008, 0.00025, horizon_s=1.0)


def test_capacity_is_that_of_full_batches() -> None:
    """Every lane at work, no round trip; padding and the like count."""
    assert 8000 == pytest.approx(A4.capacity())
    assert 4 / 0.00825 == pytest.approx(A4.capacity(1))
    assert 4 * 33 / 0.024 == pytest.approx(replace(A4, shape=padded).capacity(33))


def test_servers_are_made_as_described() -> None:
    """Lanes or shared cores, with the changes that are due."""
    assert isinstance(A4.server(1), Lanes)
    assert isinstance(replace(A4, shared=True).server(1), Cores)
    server = replace(A4, changes=(Change(0.0, slower=10.0),), noise=0.0).server(1)
    server.send(0.0, 32, "m", "x")

    assert 0.161 == pytest.approx(server.due)


@pytest.mark.parametrize(
    ("scenario", "name"),
    [
        (Scenario(A4, 0.3), "30 %"),
        (Scenario(A4, 0.3, "bursty"), "bursty 30 %"),
        (Scenario(A4, 0.0, callers=Callers(8)), "8 callers"),
        (Scenario(A4, 0.0, callers=Callers(8, 0.05)), "8 callers, 50 ms thought"),
    ],
)
def test_names(scenario: Scenario, name: str) -> None:
    """As the columns of tables are called."""
    assert name == scenario.name


def test_bursty_runs_are_longer() -> None:
    """Three times; a factor shortens any."""
    assert (1.0, 3.0, 1.5) == (
        Scenario(A4, 0.3).horizon_s, Scenario(A4, 0.3, "bursty").horizon_s, Scenario(A4, 0.3, "bursty", 0.5).horizon_s
    )  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_requests_have_the_rate_of_the_load(shape: str) -> None:
    """On average over 40 s."""
    scenario = Scenario(replace(A4, horizon_s=40.0), 0.1, shape)

    assert 800 * scenario.horizon_s == pytest.approx(len(scenario.requests(1).times), rel=0.2)


def test_callers_have_no_times() -> None:
    """When they come depends on when they are answered."""
    callers = Callers(8)

    assert callers == Scenario(A4, 0.0, callers=callers).requests(1).callers


@pytest.mark.parametrize("name", rivals(32, 0.05))
def test_rivals_run(name: str) -> None:
    """Each on the same requests, none of which is lost; AIMD only where there is an objective."""
    scenario = Scenario(A4, 0.05)
    log = theirs(rivals(32, 0.05)[name](1), scenario, 1)

    assert len(scenario.requests(1).times) == log.requests == len(log.latency) + log.late
    assert "AIMD" not in rivals()


def test_ours_runs() -> None:
    """The scheduler answers everybody; what is watched is asked after each call."""
    scenario = Scenario(A4, 0.05)
    log = ours(scenario, 1, watch=lambda scheduler: lambda: float(scheduler.busy))

    assert len(scenario.requests(1).times) == len(log.latency)
    assert len(log.rows) == len(log.watched)


def test_an_objective_is_a_deadline() -> None:
    """Of an overloaded server's callers some are told that time is up, or refused, and nobody waits much longer."""
    log = ours(Scenario(A4, 3.0, objective_s=0.05), 1)

    assert log.late + log.refused > 0
    assert log.requests == log.late + log.refused + log.failed + len(log.latency)
    assert max(log.latency) < 0.3
