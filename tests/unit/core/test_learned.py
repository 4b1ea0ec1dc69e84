"""What is shown of an endpoint's costs: a line a model."""

from __future__ import annotations

import pytest

from batchproxy.core.balancer import Endpoint
from batchproxy.core.learned import learned
from batchproxy.core.request import BatchKey, KindName


def teach(endpoint: Endpoint, key: BatchKey, alpha: float, beta: float, batches: int) -> None:
    """So many lone batches each of one and of 16 rows, of a kind."""
    cost = endpoint.cost(key)
    for turn in range(batches):
        for rows in (1, 16):
            cost.seen(rows)
            cost.learn(rows, alpha + beta * rows, turn)


def test_an_endpoint_that_saw_nothing_has_nothing_to_show() -> None:
    """Asking for a cost teaches nothing."""
    endpoint = Endpoint("e")
    endpoint.cost(BatchKey("m", 1, "s"))

    assert [] == list(learned(endpoint))


def test_a_model_is_shown_with_its_line_and_gain() -> None:
    """Of one kind: exactly what its cost says."""
    endpoint, key = Endpoint("e"), BatchKey("m", 1, "s")
    teach(endpoint, key, 0.008, 0.001, 40)
    [shown] = learned(endpoint)
    cost = endpoint.cost(key)

    assert ("m", 80, 80) == (shown.model, shown.batches, shown.samples)
    assert (cost.rows, cost.alpha, cost.beta, cost.noise) == (shown.rows, shown.alpha, shown.beta, shown.noise)
    assert pytest.approx(cost.seconds(5)) == shown.seconds(5)
    assert pytest.approx(cost.gain(cost.rows)) == shown.gain
    assert pytest.approx(cost.gain_between(cost.rows)) == (shown.low, shown.high)


def test_kinds_of_a_model_are_weighed_by_their_batches() -> None:
    """Three times as many of the slow kind; models by name."""
    endpoint = Endpoint("e")
    teach(endpoint, BatchKey("n", 1, "s"), 0.001, 0.0, 1)
    teach(endpoint, BatchKey("m", 1, "fast"), 0.010, 0.0, 10)
    teach(endpoint, BatchKey("m", 2, "slow"), 0.050, 0.0, 30)
    shown = list(learned(endpoint))

    assert ["m", "n"] == [one.model for one in shown]
    assert 80 == shown[0].batches
    assert pytest.approx(0.040) == shown[0].alpha
    assert shown[0].low <= shown[0].gain <= shown[0].high


def test_what_was_learned_of_the_crowd_alone_is_shown_too() -> None:
    """A cost that was told of batches before any was answered, as after a restart."""
    endpoint, other = Endpoint("e"), Endpoint("f")
    other.cost(BatchKey("m", 1, "s")).shape(4.0, 0.01, 1.0)
    endpoint.recalled[KindName.of(("m", 1, "s", ()))] = other.cost(BatchKey("m", 1, "s"))
    [shown] = learned(endpoint)

    assert (0, 0) == (shown.batches, shown.samples)
    assert pytest.approx(0.01) == shown.seconds(4)
