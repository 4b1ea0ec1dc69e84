"""What a running proxy has loaded: no library that what it serves does not need."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest

from batchproxy.codecs import tfs_grpc
from batchproxy.protos import tfs_pb2
from tests.proxy import Proxy, ask, started

HEAVY = frozenset({"aiohttp", "grpc", "onnx", "onnxruntime", "tensorflow", "tensorflow_serving", "yarl"})
"""Each takes 8 MB and more, or a tenth of a second and more."""

MODEL = ["--model", "picky=python:tests.models:picky"]
BODY = {"instances": [1.0, 2.0]}


@contextmanager
def watched(flags: list[str], loaded: set[str]) -> Iterator[Proxy]:
    """A proxy; ``loaded`` gets the names of the top-level packages that it imported in its life."""
    with started(flags, interpreter=["-X", "importtime"]) as proxy:
        yield proxy
        assert 0 == proxy.stop()
        names = [line.rpartition("|")[2].strip() for line in proxy.log if line.startswith("import time:")]
        loaded |= {name.partition(".")[0] for name in names}


def used(proxy: Proxy) -> None:
    """Each kind of call once: REST, gRPC, a stream, the operator's pages."""
    assert 200 == proxy.post("/v1/models/picky:predict", BODY)[0]
    request = tfs_pb2.GetModelStatusRequest(model_spec=tfs_pb2.ModelSpec(name="picky"))
    with grpc.insecure_channel(proxy.grpc) as channel:
        call = channel.unary_unary(tfs_grpc.GET_MODEL_STATUS).future(request.SerializeToString(), timeout=30)
        assert call.code() in {grpc.StatusCode.OK, grpc.StatusCode.UNIMPLEMENTED}  # of a server without a gRPC door
        streamed = channel.stream_stream("/no.such.Service/Method")(iter((b"x",)), timeout=30)
        assert streamed.code() is grpc.StatusCode.UNIMPLEMENTED
    for page in ("", "healthz", "readyz", "metrics", "status.json"):
        assert http.client.OK == ask(f"{proxy.admin}/{page}")[0]


def test_an_embedded_function_needs_none_of_them() -> None:
    """Only the modules of a server of its own."""
    loaded: set[str] = set()
    with watched(MODEL, loaded) as proxy:
        used(proxy)

    assert {"batchproxy", "numpy", "uvloop"} <= loaded
    assert set() == HEAVY & loaded


@pytest.mark.parametrize("doors", [("http",), ("grpc", "http"), ("grpc",)], ids="+".join)
@pytest.mark.slow
def test_a_server_behind_needs_none_of_them(doors: tuple[str, ...]) -> None:
    """By REST, by gRPC, by both: the clients are our own, too."""
    loaded: set[str] = set()
    with started(MODEL) as server:
        addresses = {"http": server.rest, "grpc": f"grpc://{server.grpc}"}
        with watched(["--backend", ",".join(addresses[door] for door in doors)], loaded) as proxy:
            used(proxy)

    assert {"batchproxy", "httptools"} <= loaded
    assert set() == HEAVY & loaded


def test_grpcios_client_is_loaded_where_it_is_wanted() -> None:
    """So that the tests above would see it."""
    loaded: set[str] = set()
    with started(MODEL) as server, watched(["--backend", f"grpc://{server.grpc}", "--grpc_client=aio"], loaded):
        pass

    assert {"grpc"} == HEAVY & loaded
