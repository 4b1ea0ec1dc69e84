"""What the live page and ``batchproxy explain`` are told: counts, endpoints, what was learned. No page is made here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import inf
from typing import Any

from batchproxy.core.balancer import NAMED, Endpoint
from batchproxy.core.learned import Learned, learned
from batchproxy.engine import Engine
from batchproxy.metrics import Metrics


def status(engines: Iterable[Engine], metrics: Metrics) -> Mapping[str, Any]:
    """Models and endpoints, as JSON-able values.

    Args:
        engines: one a pool.
        metrics: what they observed.
    """
    engines = list(engines)
    return {
        "models": [_model(name, rows, engine, metrics) for engine in engines for name, rows in _queued(engine).items()],
        "endpoints": [
            _endpoint(engine.name, endpoint) for engine in engines for endpoint in engine.scheduler.balancer.endpoints
        ],
    }


def _queued(engine: Engine) -> Mapping[str, int]:
    return engine.scheduler.queued_rows()


def _model(name: str, rows: int, engine: Engine, metrics: Metrics) -> Mapping[str, Any]:
    sizes = engine.scheduler.sizes
    objective_s = sizes.objective_s(name)
    return {
        "name": name,
        "pool": engine.name,
        "max_batch_rows": sizes.rows(name),
        "declared_rows": engine.policies[name].max_batch_rows,
        "rounded": sizes.rounded(name),
        "objective_ms": 1000 * objective_s if objective_s < inf else None,
        "queued_rows": rows,
        "quarantine": [
            {"signature": lane.key.signature, "max_rows": lane.cap, "clean_left": lane.clean_left}
            for lane in engine.scheduler.quarantined()
            if lane.key.model == name
        ][:NAMED],
        "released": metrics.released(name),
        **metrics.summary(name),
    }


def _endpoint(pool: str, endpoint: Endpoint) -> Mapping[str, Any]:
    limit = endpoint.limit
    return {
        "pool": pool,
        "name": endpoint.name,
        "up": endpoint.up,
        "ejected": endpoint.out,
        "last_error": endpoint.last_error,
        "in_flight": limit.in_flight,
        "max_inflight": limit.partial,
        "max_full": limit.full,
        "ceiling": limit.ceiling,
        "fixed": limit.fixed is not None,
        "draining": limit.draining,
        "relayed": endpoint.relayed,
        "rows": endpoint.rows,
        "learned": [_learned(known) for known in learned(endpoint)],
    }


def _learned(known: Learned) -> Mapping[str, Any]:
    """In milliseconds, as people read them."""
    return {
        "model": known.model,
        "batches": known.batches,
        "alone": known.samples,
        "mean_rows": known.rows,
        "alpha_ms": 1000 * known.alpha,
        "beta_ms": 1000 * known.beta,
        "one_ms": 1000 * known.seconds(1),
        "mean_ms": 1000 * known.seconds(known.rows),
        "noise": known.noise,
        "p95_ms": 1000 * known.seconds(known.rows) * known.p95,
        "unit": known.unit,
        "gain": known.gain,
        "gain_low": known.low,
        "gain_high": known.high,
    }
