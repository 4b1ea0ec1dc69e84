"""What the live page and ``batchproxy explain`` are told."""

from __future__ import annotations

import orjson
import pytest

from batchproxy.core.policy import Policy
from batchproxy.core.request import BatchKey
from batchproxy.engine import build_engine
from batchproxy.metrics import Metrics
from batchproxy.status import status
from batchproxy.testing import FakeBackend


async def test_models_endpoints_and_what_was_learned() -> None:
    """As values that JSON has, times in milliseconds."""
    engine = build_engine(
        "p", {"e": FakeBackend(), "f": FakeBackend()}, {"m": Policy(max_batch_rows=8)}, max_inflight=3
    )
    metrics = Metrics(lambda: [engine])
    endpoint = engine.scheduler.balancer.endpoints[0]
    for rows in (1, 8):
        cost = endpoint.cost(BatchKey("m", 1, "s"))
        cost.seen(rows)
        cost.learn(rows, 0.010 + 0.001 * rows, 1)
    document = orjson.loads(orjson.dumps(status([engine], metrics)))
    await engine.aclose()

    [model] = document["models"]
    assert ("m", "p", 8, 0, {}) == tuple(
        model[key] for key in ("name", "pool", "max_batch_rows", "queued_rows", "released")
    )
    assert (8, False, None) == (model["declared_rows"], model["rounded"], model["objective_ms"])
    first, second = document["endpoints"]
    assert ("p", "e", False, False) == (first["pool"], first["name"], first["up"], first["ejected"])
    assert (0, 3, 3, 3.0) == tuple(first[key] for key in ("in_flight", "max_inflight", "max_full", "ceiling"))
    assert (True, False) == (first["fixed"], first["draining"])
    [known] = first["learned"]
    assert ("m", 2, 2) == (known["model"], known["batches"], known["alone"])
    assert pytest.approx(known["alpha_ms"] + known["beta_ms"]) == known["one_ms"]
    assert pytest.approx(known["alpha_ms"] + known["beta_ms"] * known["mean_rows"]) == known["mean_ms"]
    assert 10.0 < known["one_ms"] < known["mean_ms"] < 19.0
    assert known["mean_ms"] < known["p95_ms"] < 2 * known["mean_ms"]
    assert "rows" == known["unit"]
    assert known["gain_low"] <= known["gain"] <= known["gain_high"]
    assert [] == second["learned"]


async def test_quarantine_is_shown() -> None:
    """Which signature, how many rows still ride together, and for how long."""
    engine = build_engine("p", {"e": FakeBackend()}, {"m": Policy(max_batch_rows=8), "n": Policy()})
    lane = engine.scheduler._lanes.lane(BatchKey("m", 1, "s"))
    lane.note(bad=True)
    lane.note(bad=True)
    metrics = Metrics(lambda: [engine])
    models = status([engine], metrics)["models"]
    await engine.aclose()

    assert [[{"signature": "s", "max_rows": 4, "clean_left": 32}], []] == [model["quarantine"] for model in models]
    assert b'batchproxy_quarantined_lanes{model="m"} 1.0' in metrics.render()
