"""Servers of one pool that do not all have every model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import model_management_pb2

from batchproxy.codecs import tfs_grpc
from batchproxy.protos import tfs_pb2 as pb
from tests.proxy import Proxy, running_in_front_of
from tests.remote import PLUG, predict_message
from tests.tfserving.fixture import Server, running_server

OTHER = "m"


@pytest.fixture(scope="module")
def servers() -> Iterator[list[Server]]:
    """Two of them; each test configures both."""
    with running_server(models=[PLUG]) as one, running_server(models=[PLUG]) as other:
        yield [one, other]


def configure(server: Server, *models: str) -> None:
    """Let a server have these models, all of them half plus two."""
    request = model_management_pb2.ReloadConfigRequest()
    for name in models:
        request.config.model_config_list.config.add(name=name, base_path=PLUG, model_platform="tensorflow")
    with grpc.insecure_channel(server.grpc) as channel:
        channel.unary_unary(tfs_grpc.RELOAD_CONFIG)(request.SerializeToString(), timeout=30)


def rest(proxy: Proxy, model: str, number: int) -> Any:
    """Half of it plus two, or what went wrong."""
    status, body = proxy.post(f"/v1/models/{model}:predict", {"instances": [float(number)]})
    return json.loads(body)["predictions"][0] if status == 200 else (status, body)


@pytest.mark.parametrize("doors", [["grpc", "rest"], ["grpc"]], ids="+".join)
def test_each_call_finds_a_server_that_has_its_model(servers: list[Server], doors: list[str]) -> None:
    """From the first one on, over REST and gRPC, of both models; and while the models change places."""
    numbers = [*range(24)]
    found: list[Any] = []
    configure(servers[0], PLUG)
    configure(servers[1], OTHER)
    with (
        running_in_front_of(servers, doors=doors) as proxy,
        grpc.insecure_channel(proxy.grpc) as channel,
        ThreadPoolExecutor(8) as callers,
    ):
        predict = channel.unary_unary(tfs_grpc.PREDICT)

        def by_grpc(model: str, number: int) -> float:
            message = predict(predict_message(model, {"x": np.array([number], np.float32)}), timeout=30)
            return float(pb.PredictResponse.FromString(message).outputs["y"].float_val[0])

        def ask_all() -> None:
            for ask in (lambda m, n: rest(proxy, m, n), by_grpc):
                for model in (PLUG, OTHER):
                    found.extend(zip(callers.map(ask, [model] * len(numbers), numbers), numbers, strict=True))

        ask_all()
        configure(servers[0], PLUG, OTHER)
        configure(servers[1], PLUG)
        ask_all()
        configure(servers[1], PLUG, OTHER)
        nobodys = rest(proxy, "nobodys", 1)
        servers[1].reset()
        while OTHER not in json.dumps(servers[1].counters()["calls"]):  # it says so, and gets calls again
            rest(proxy, OTHER, 1)
        proxy.stop()

    assert [] == [(answer, number) for answer, number in found if answer != number / 2 + 2]
    assert 404 == nobodys[0]
    assert any("does not have model" in line for line in proxy.log)
