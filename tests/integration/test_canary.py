"""A model whose rows influence each other behind a server: found by REST and by gRPC, and no longer batched."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import grpc
import numpy as np
import pytest

from batchproxy.codecs import tfs_grpc
from batchproxy.protos import tfs_pb2 as pb
from tests.proxy import Proxy, running, running_in_front_of
from tests.remote import predict_message

CALLERS = 8


@dataclass
class Upstream:
    """Where a proxy listens, which is a server to another one."""

    grpc: str
    rest: str


def by_rest(proxy: Proxy, model: str) -> Callable[[float], float]:
    """Asks for one row."""

    def ask(value: float) -> float:
        status, body = proxy.post(f"/v1/models/{model}:predict", {"instances": [value]})
        assert 200 == status, body
        return float(json.loads(body)["predictions"][0])

    return ask


def by_grpc(channel: grpc.Channel, model: str) -> Callable[[float], float]:
    """The same."""
    predict = channel.unary_unary(tfs_grpc.PREDICT)

    def ask(value: float) -> float:
        answer = predict(predict_message(model, {"x": np.array([value], np.float32)}), timeout=30)
        return float(pb.PredictResponse.FromString(answer).outputs["y"].float_val[0])

    return ask


@pytest.mark.parametrize("kind", ["rest", "grpc"])
def test_a_server_whose_model_mixes_rows(kind: str) -> None:
    """Callers are in company at first; once batching is off each gets what it gets alone, and the log has said why.

    The server is a proxy that does not batch. Another model of it, whose rows are their own, stays batched.
    """
    models = {name: {"endpoint": f"python:tests.models:{name}", "batching": False} for name in ("centred", "gated")}
    with (
        running(models) as upstream,
        running_in_front_of(
            [Upstream(upstream.grpc, upstream.rest.removeprefix("http://"))],
            models={"*": {"canary_every": 1}},
            pool={"max_inflight": 1},
        ) as proxy,
        grpc.insecure_channel(proxy.grpc) as channel,
        ThreadPoolExecutor(CALLERS) as callers,
    ):
        values = [float(value) for value in range(1, CALLERS + 1)]
        asks = {model: by_rest(proxy, model) if kind == "rest" else by_grpc(channel, model) for model in models}
        doubled = [list(callers.map(asks["gated"], values)) for _ in range(50)]
        while not any(callers.map(asks["centred"], values)):
            pass  # until some were merged
        alone = 0
        while alone < 10:
            alone = 0 if any(callers.map(asks["centred"], values)) else alone + 1
        calls = proxy.metric("batchproxy_batch_rows_count", model="gated")
        rows = proxy.metric("batchproxy_batch_rows_sum", model="gated")
        proxy.stop()
    said = [line for line in proxy.log if "batching is off" in line]

    assert [[2 * value for value in values]] * 50 == doubled
    assert rows > calls
    assert 1 == len(said)
    assert "model 'centred'" in said[0]
    assert "what is in the other rows" in said[0]
