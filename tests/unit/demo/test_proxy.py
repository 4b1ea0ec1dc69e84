"""Tests of ``batchproxy.demo.proxy``: ports, configuration, metrics. `tests/integration/test_demo.py` starts it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from batchproxy.config import Config
from batchproxy.demo import proxy
from batchproxy.demo.data import Workload
from batchproxy.demo.proxy import HOST, Ports, Proxy, ProxyError, by_model, choose_ports, config

WORKLOAD = Workload("m", Path("models/m"), "x", np.zeros(1, np.float32), {})


@pytest.fixture
def busy() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.create_server((HOST, 0)) as server:
        yield server.getsockname()[1]


def test_free_ports() -> None:
    """Three different ones, all of which can be bound."""
    ports, taken = choose_ports(free=True)

    assert [] == taken
    assert 3 == len({ports.grpc, ports.rest, ports.admin})
    for port in (ports.grpc, ports.rest, ports.admin):
        socket.create_server((HOST, port)).close()


def test_taken_ports(busy: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a port that is taken is replaced, and it is told."""
    free, _ = choose_ports(free=True)
    monkeypatch.setattr(Ports, "grpc", free.grpc)
    monkeypatch.setattr(Ports, "rest", busy)
    monkeypatch.setattr(Ports, "admin", free.admin)
    ports, taken = choose_ports(free=False)

    assert [busy] == taken
    assert (free.grpc, free.admin) == (ports.grpc, ports.admin)
    assert busy != ports.rest


def test_no_port_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a free port is told so."""
    monkeypatch.setattr(proxy, "_bound", lambda port: None)
    with pytest.raises(ProxyError, match="no free port on 127.0.0.1"):
        choose_ports(free=True)


def test_config() -> None:
    """It is a valid configuration: each model twice, batched and not, with room for all callers."""
    found = msgspec.convert(config([WORKLOAD], Ports(1, 2, 3), callers=500), Config)

    assert [("m", True), ("m_unbatched", False)] == [(model.name, model.batching) for model in found.models]
    assert {("onnx:models/m",)} == {pool.endpoints for pool in found.pools}
    assert {500} == {pool.max_relayed for pool in found.pools}
    assert ("127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3") == (found.listen.grpc, found.listen.rest, found.listen.admin)


def test_metrics_are_summed_over_other_labels() -> None:
    """Comments are skipped, labels may come in any order and hold anything."""
    text = """# HELP calls_total Calls, {model="no"} 1.0
calls_total{endpoint="a,b",model="m"} 2.0
calls_total{model="m",endpoint="\\"}"} 3.5
rows_bucket{model="m",le="+Inf"} 7
up 1.0
"""

    assert {("calls_total", "m"): 5.5, ("rows_bucket", "m"): 7.0, ("up", ""): 1.0} == by_model(text)


def test_a_proxy_that_does_not_start(tmp_path: Path) -> None:
    """Its exit status and its own words are in the error."""
    ports, _ = choose_ports(free=True)
    proxy = Proxy([WORKLOAD], Ports(ports.grpc, ports.grpc, ports.admin), 2, tmp_path)
    with pytest.raises(ProxyError, match=r"ended with status 2:\n.*every door needs its own"):
        proxy.start()
    proxy.stop()

    assert 2 == proxy.wait()


def test_a_proxy_that_was_never_started(tmp_path: Path) -> None:
    """There is nothing to stop or to wait for."""
    proxy = Proxy([], Ports(1, 2, 3), 2, tmp_path)
    proxy.stop()

    assert 0 == proxy.wait()
