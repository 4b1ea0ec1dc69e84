"""A server whose REST door garbles its answers is found out by its gRPC answers, and then asked by gRPC only."""

from __future__ import annotations

import json
from functools import partial

import grpc
import numpy as np

from batchproxy.codecs import tfs_grpc
from tests.proxy import running_in_front_of
from tests.remote import PLUG, in_one_call, plug, predict_message, until_merged
from tests.tfserving.fixture import running_server


def test_serialization_as_tensor_content() -> None:
    """REST callers get the numbers once it is known, and the log says once what to do."""
    path, body = f"/v1/models/{PLUG}:predict", {"instances": [1.0, 2.0]}
    message = predict_message(PLUG, {"x": np.array([1.0], np.float32)})
    with (
        running_server("--enable_serialization_as_tensor_content=true", models=[PLUG]) as server,
        running_in_front_of([server], pool={"max_inflight": 1}) as proxy,
        grpc.insecure_channel(proxy.grpc) as channel,
    ):
        until_merged(proxy, PLUG, partial(plug, proxy))
        garbled = json.loads(proxy.post(path, body)[1])
        predict = partial(channel.unary_unary(tfs_grpc.PREDICT), message, timeout=30)
        in_one_call(server, proxy, [predict, predict], 2)
        right = [json.loads(proxy.post(path, body)[1]) for _ in range(3)]
        proxy.stop()
    lines = [line for line in proxy.log if "--enable_serialization_as_tensor_content" in line]

    assert {"predictions": [0.0, 0.0]} == garbled
    assert [{"predictions": [2.5, 3.0]}] * 3 == right
    assert 1 == len(lines)
