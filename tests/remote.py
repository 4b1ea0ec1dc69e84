"""What tests of the proxy in front of servers share: calls that surely share a batch, and PredictRequests. No tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy.typing as npt

from batchproxy.codecs import tensor_proto
from batchproxy.protos import tfs_pb2 as pb
from tests.proxy import Proxy
from tests.tfserving.fixture import Server

T = TypeVar("T")

PLUG = "half_plus_two"
"""The model whose call takes the only slot, so that everything else waits in its lane."""


def plug(proxy: Proxy) -> tuple[int, bytes]:
    """A call of one row that may share a batch."""
    return proxy.post(f"/v1/models/{PLUG}:predict", {"instances": [1.0]})


def until_merged(proxy: Proxy, model: str, ask: Callable[[], object]) -> None:
    """Ask until the proxy knows the model, so that what comes next may be merged."""
    while not proxy.metric("batchproxy_backend_calls_total", model=model):
        ask()


def in_one_call(server: Server, proxy: Proxy, asks: Sequence[Callable[[], T]], rows: int) -> list[T]:
    """Make calls that wait together for the proxy's only slot (``max_inflight: 1``), and so leave together.

    Args:
        server: the only one behind the proxy.
        proxy: knows the models by now (``until_merged``), ``PLUG`` among them.
        asks: the calls.
        rows: that they have together.
    """
    with ThreadPoolExecutor(len(asks) + 1) as callers:
        with server.held():
            plugged = callers.submit(plug, proxy)
            server.wait_for_running(1)
            waiting = [callers.submit(ask) for ask in asks]
            while proxy.metric("batchproxy_queued_rows") < rows:
                pass
        assert 200 == plugged.result()[0]
        return [one.result() for one in waiting]


def predict_message(
    model: str, inputs: Mapping[str, npt.NDArray[Any]], signature: str = "", extras: bytes = b""
) -> bytes:
    """A PredictRequest; ``extras`` are fields that follow."""
    request = pb.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    for name, array in inputs.items():
        tensor_proto.write(array, request.inputs[name])
    return request.SerializeToString() + extras
