"""Laws of seeded worlds: whatever the scheduler learns, nobody is lost or overtaken, and what can be stable is.

The servers and rivals are held to the figures of the study that the policy was designed with, so that both mean the
same by a load and a backend.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from batchproxy.simulation.arrivals import Callers
from batchproxy.simulation.log import Log
from batchproxy.simulation.scenario import Backend, Scenario, ours, rivals, theirs

A1 = Backend("A1", 1, 0.008, 0.00025, 4.0)
A4 = Backend("A4", 4, 0.008, 0.00025, 2.0)
B1 = Backend("B1", 1, 0.001, 0.004, 6.0)
B4 = Backend("B4", 4, 0.001, 0.004, 6.0)
D1 = Backend("D1", 1, 0.0004, 0.00002, 1.0)
D4 = Backend("D4", 4, 0.0004, 0.00002, 0.3)

WORLDS = [
    Scenario(A1, 0.03), Scenario(A1, 0.95), Scenario(A4, 0.3), Scenario(A4, 0.5, "bursty", 0.5), Scenario(B4, 0.7),
    Scenario(D4, 0.5), Scenario(replace(A4, shared=True, thrash=0.1), 0.5), Scenario(replace(A1, noise=0.25), 0.7),
    Scenario(replace(A4, compile_s=0.05), 0.2), Scenario(A1, 0.5, "diurnal"),
    Scenario(A4, 0.0, callers=Callers(40, 0.01)),
]  # fmt: skip


def _name(scenario: Scenario) -> str:
    return f"{scenario.backend.name} {scenario.name}"


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("scenario", WORLDS, ids=_name)
def test_everybody_is_answered_once(scenario: Scenario, seed: int) -> None:
    """In calls that are no larger than they may be, and not before a call of one row could be over."""
    log = ours(scenario, seed)
    backend = scenario.backend
    least_s = backend.rtt_s + 0.4 * (backend.alpha_s + backend.beta_s)  # four sigma of the noise of 25 %

    assert log.requests == len(log.latency) == sum(log.rows)
    assert (0, 0, 0) == (log.refused, log.late, log.failed)
    assert 1 <= min(log.rows) <= max(log.rows) <= scenario.max_rows
    assert min(log.latency) >= least_s


@pytest.mark.parametrize(
    "scenario", [Scenario(A1, 0.3), Scenario(A1, 0.95), Scenario(B1, 0.7), Scenario(D1, 0.7)], ids=_name
)
def test_nobody_is_overtaken(scenario: Scenario) -> None:
    """On a server that takes one call at a time, answers come in order of arrival."""
    arrived = list(ours(scenario, 3).arrived)

    assert sorted(arrived) == arrived


@pytest.mark.parametrize(
    "scenario",
    [
        Scenario(A1, 0.3),
        Scenario(A1, 0.7),
        Scenario(A1, 0.95),
        Scenario(B1, 0.5),
        Scenario(D1, 0.5),
        Scenario(D1, 0.95),
    ],
    ids=_name,
)
def test_what_can_be_stable_is(scenario: Scenario) -> None:
    """The queue does not grow, and the mean latency stays below three full calls."""
    found = ours(scenario, 4).figures()
    full_s = scenario.backend.cost()(scenario.max_rows) + scenario.backend.rtt_s

    assert not found.unstable
    assert found.mean_ms < 3000 * full_s


@pytest.mark.parametrize("scenario", [Scenario(A4, 0.5), Scenario(A1, 0.3, objective_s=0.02)], ids=_name)
def test_a_seed_decides_a_world(scenario: Scenario) -> None:
    """The same twice; another seed, another world."""

    def told(log: Log) -> tuple[list[float], list[float]]:
        return list(log.sent), list(log.latency)

    assert told(ours(scenario, 1)) == told(ours(scenario, 1))
    assert told(ours(scenario, 1)) != told(ours(scenario, 2))


def test_overload_is_seen() -> None:
    """A load of 3 on one lane: the queue grows."""
    log = ours(Scenario(A1, 3.0), 1)

    assert log.figures().unstable
    assert log.queue() > 0.5 * log.requests


@pytest.mark.parametrize(
    ("backend", "rival", "load", "mean_ms", "rows"),
    [
        (A1, "fixed 1", 0.3, 16.3, 6.3), (A1, "fixed 2", 0.5, 27.1, 10.7), (A1, "fixed 4", 0.7, 56.0, 17.2),
        (A4, "timer 5 ms, unbounded", 0.7, 18.7, 28.0), (A4, "slot + 5 ms, one slot", 0.1, 17.2, 9.0),
        (A4, "fixed 4", 0.5, 16.4, 12.0), (D1, "TF Serving adaptive", 0.3, 1.9, 4.8),
        (A1, "BentoML-like", 0.5, 18.7, 12.0), (B4, "no batching", 0.5, 6.6, 1.0), (B4, "fixed 4", 0.5, 8.4, 1.2),
        (D1, "fixed 2", 0.3, 2.1, 7.4), (D4, "fixed 4", 0.1, 2.1, 4.7),
    ],
)  # fmt: skip
def test_rivals_have_the_figures_of_the_study(
    backend: Backend, rival: str, load: float, mean_ms: float, rows: float
) -> None:
    """Mean latency and rows of a call that the study's own simulator had, within 6 %: its seeds were others."""
    runs = [theirs(rivals()[rival](seed), Scenario(backend, load), seed).figures() for seed in (1, 2, 3)]

    assert mean_ms == pytest.approx(sum(run.mean_ms for run in runs) / 3, rel=0.06)
    assert rows == pytest.approx(sum(run.mean_rows for run in runs) / 3, rel=0.06)
