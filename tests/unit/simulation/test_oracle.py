"""The search among static settings."""

from __future__ import annotations

from batchproxy.simulation.oracle import Setting, best, best_for_all, grid, means
from batchproxy.simulation.rivals import INF
from batchproxy.simulation.scenario import Backend, Scenario

A2 = Backend("A2", 2, 0.008, 0.00025, horizon_s=2.0)


def test_grid() -> None:
    """12 limits, 24 above 8 lanes, each with three overflows."""
    assert (36, 72) == (len(grid(8)), len(grid(9)))


def test_two_lanes_are_found() -> None:
    """At 50 % the best setting has two calls in flight; the hopeless ones are tried on the first seed only."""
    found = means(Scenario(A2, 0.5), (1, 2))
    lengths = {setting: len(values) for setting, values in found.items()}

    assert 2 == best(found).limit
    assert 36 == len(found)
    assert 1 == lengths[Setting(12, 0)]
    assert 2 == lengths[Setting(2, 0)]


def test_requests_may_be_given() -> None:
    """They are those of the seed."""
    scenario = Scenario(A2, 0.1)
    given = means(scenario, (1,), {1: scenario.requests(1)})

    assert given == means(scenario, (1,))


def test_best_for_all_is_near_everywhere() -> None:
    """Not the best of the first load, nor of the second, where each is far off at the other."""
    one, two, both = Setting(1, 0), Setting(2, 0), Setting(3, 0)
    found = best_for_all([{one: [10.0, 10.0], two: [30.0], both: [12.0]}, {one: [30.0], two: [10.0], both: [12.0]}])

    assert both == found


def test_settings_in_words() -> None:
    """As tables have them."""
    assert ["k=4, +1", "k=4, +inf"] == [str(Setting(4, 1)), str(Setting(4, INF))]
