"""What an endpoint has taught of each model, over all kinds of batch of it: to be shown. Decides nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from batchproxy.core.balancer import Endpoint
from batchproxy.core.cost import Cost


@dataclass(frozen=True, slots=True)
class Learned:
    """One model on one endpoint: means over its kinds of batch, each weighted by how many batches it had.

    Attributes:
        model: its name.
        batches: that were answered.
        samples: of them, those that had the endpoint to themselves.
        rows: of a batch.
        alpha: seconds that a batch takes whatever its rows.
        beta: seconds that a row adds.
        noise: mean of the absolute logarithm of time over prediction; 0.08 is 8 %.
        p95: time over prediction that 95 of 100 batches stay under.
        unit: what most batches are counted in: rows, bytes or padded (see `units`).
        gain: rows a second in batches of ``rows``, over rows a second one by one.
        low: what ``gain`` is at least, with 95 % confidence.
        high: what it is at most.
    """

    model: str
    batches: int
    samples: int
    rows: float
    alpha: float
    beta: float
    noise: float
    p95: float
    unit: str
    gain: float
    low: float
    high: float

    def seconds(self, rows: float) -> float:
        """Time of a batch of ``rows`` rows that has the endpoint to itself."""
        return self.alpha + self.beta * rows


def learned(endpoint: Endpoint) -> Iterator[Learned]:
    """What is known of each model there, by name; nothing of models without an answered batch."""
    models: dict[str, list[Cost]] = {}
    for model, cost in endpoint.known():
        models.setdefault(model, []).append(cost)
    for model in sorted(models):
        yield _together(model, models[model])


def _together(model: str, costs: Sequence[Cost]) -> Learned:
    batches = sum(cost.batches for cost in costs)
    weights = [cost.batches / batches for cost in costs] if batches else [1 / len(costs)] * len(costs)

    def mean(values: Iterable[float]) -> float:
        return sum(weight * value for weight, value in zip(weights, values, strict=True))

    rows, alpha, beta = (
        mean(cost.rows for cost in costs),
        mean(cost.alpha for cost in costs),
        mean(cost.beta for cost in costs),
    )
    gain = (alpha + beta) * rows / (alpha + beta * rows)
    bounds = [(cost.gain(cost.rows), *cost.gain_between(cost.rows)) for cost in costs]
    low = gain * mean(least / known for known, least, _ in bounds)
    high = gain * mean(most / known for known, _, most in bounds)
    samples = sum(cost.samples for cost in costs)
    noise, p95 = mean(cost.noise for cost in costs), mean(cost.p95 for cost in costs)
    unit = max(costs, key=lambda cost: cost.batches).units.unit.value
    return Learned(model, batches, samples, rows, alpha, beta, noise, p95, unit, gain, low, high)
