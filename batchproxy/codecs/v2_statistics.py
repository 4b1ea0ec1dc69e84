"""Triton's statistics of models, as JSON and as a message, out of our own counts. Nothing is counted here.

Inputs and outputs are not copied to a device and back here: their times are zeros, as are those of a cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson
from google.protobuf.json_format import ParseDict

from batchproxy.core.counts import Counts, Times
from batchproxy.protos import v2_pb2 as pb


class Statistics(NamedTuple):
    """One version of a model.

    Attributes:
        name: the model's.
        version: of it.
        counts: its calls.
        last_ms: when the last one ended, in milliseconds since 1970; 0: there was none.
    """

    name: str
    version: int
    counts: Counts
    last_ms: int


def encode_document(models: Sequence[Statistics]) -> bytes:
    """The document of ``/v2/models[/M[/versions/V]]/stats``."""
    return orjson.dumps(_described(models))


def encode_message(models: Sequence[Statistics]) -> bytes:
    """A ModelStatisticsResponse."""
    return ParseDict(_described(models), pb.ModelStatisticsResponse()).SerializeToString()


def _described(models: Sequence[Statistics]) -> dict[str, Any]:
    return {"model_stats": [_model(model) for model in models]}


def _model(model: Statistics) -> dict[str, Any]:
    counts = model.counts
    queued, computed = counts.queued, counts.computed
    none = _times(Times())
    return {
        "name": model.name,
        "version": str(model.version),
        "last_inference": model.last_ms,
        "inference_count": counts.rows,
        "execution_count": counts.calls,
        "inference_stats": {
            "success": _times(Times(computed.count, queued.seconds + computed.seconds)),
            "fail": _times(counts.failed),
            "queue": _times(queued),
            "compute_input": none,
            "compute_infer": _times(computed),
            "compute_output": none,
            "cache_hit": none,
            "cache_miss": none,
        },
        "batch_stats": [
            {"batch_size": rows, "compute_input": none, "compute_infer": _times(times), "compute_output": none}
            for rows, times in sorted(counts.sizes.items())
        ],
    }


def _times(times: Times) -> dict[str, int]:
    return {"count": times.count, "ns": max(0, round(1e9 * times.seconds))}
