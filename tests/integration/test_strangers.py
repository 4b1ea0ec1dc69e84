"""Strangers' clients before a running proxy: grpcio, httpx, requests, and curl, nghttp, h2load and wrk by command."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import grpc.aio
import httpx
import numpy as np
import pytest
import requests

from batchproxy.codecs import tensor_proto, tfs_grpc
from batchproxy.protos import tfs_pb2 as pb
from tests.proxy import Proxy, running

BODY = json.dumps({"instances": [1.0, 2.0]})
ANSWER = {"predictions": [2.5, 3.0]}
PREDICT = "/v1/models/picky:predict"
UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
LARGE = 64 << 20


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxy]:
    """One proxy for all."""
    with running(
        {name: f"python:tests.models:{name}" for name in ("picky", "gated", "open_gate", "undeclared")}
    ) as one:
        yield one


def port(url: str) -> str:
    """``host:port`` of a URL."""
    return url.removeprefix("http://")


def message(model: str, values: object, dtype: type = np.float32) -> bytes:
    """A PredictRequest with the input ``x``."""
    request = pb.PredictRequest()
    request.model_spec.name = model
    tensor_proto.write(np.asarray(values, dtype), request.inputs["x"])
    return request.SerializeToString()


def numbers(answer: bytes) -> list[float]:
    """A PredictResponse's ``y``."""
    return list(pb.PredictResponse.FromString(answer).outputs["y"].float_val)


def run(*command: str, text: str | None = None) -> str:
    """What a command says; it must end well."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=50, check=False)
    assert 0 == done.returncode, done.stderr + done.stdout
    return done.stdout


# ---------------------------------------------------------------- grpcio


@pytest.mark.parametrize("compression", list(grpc.Compression))
def test_grpcio(proxy: Proxy, compression: grpc.Compression) -> None:
    """The usual, blocking client, with and without compression, and with metadata and a deadline."""
    metadata = (("authorization", "Bearer a"), ("x-bin", b"\0\xff"))
    with grpc.insecure_channel(proxy.grpc, compression=compression) as channel:
        predict = channel.unary_unary(tfs_grpc.PREDICT)
        with ThreadPoolExecutor(8) as threads:
            found = list(
                threads.map(lambda x: predict(message("picky", [x]), timeout=30, metadata=metadata), range(40))
            )

    assert [[x / 2 + 2] for x in range(40)] == [numbers(answer) for answer in found]


def test_grpcio_deadlines_and_cancellation(proxy: Proxy) -> None:
    """Either ends a call that waits for its model; others on the channel are answered."""
    with grpc.insecure_channel(proxy.grpc) as channel:
        predict = channel.unary_unary(tfs_grpc.PREDICT)
        with pytest.raises(grpc.RpcError) as late:
            predict(message("gated", [0.0]), timeout=0.2)
        waiting = predict.future(message("gated", [0.0]), timeout=30)
        ended = threading.Event()
        waiting.add_done_callback(lambda _: ended.set())
        waiting.cancel()
        other = numbers(predict(message("picky", [4.0]), timeout=30))
        with pytest.raises(grpc.RpcError):
            predict(message("open_gate", [], np.float32), timeout=0.2)

    assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert ended.wait(10)
    assert waiting.cancelled()
    assert [4.0] == other


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_grpcio_sends_and_gets_64_mib(proxy: Proxy, compression: grpc.Compression) -> None:
    """In one message each way."""
    text = np.random.default_rng(1).bytes(1 << 20) * (LARGE >> 20)
    with grpc.insecure_channel(proxy.grpc, UNLIMITED, compression) as channel:
        answer = channel.unary_unary(tfs_grpc.PREDICT)(message("undeclared", [[text]], np.object_), timeout=50)

    assert [text] == list(pb.PredictResponse.FromString(answer).outputs["x"].string_val)


async def test_grpcio_for_asyncio_sends_and_gets_64_mib(proxy: Proxy) -> None:
    """The same, while small calls on the same channel are answered."""
    text = bytes(LARGE)
    async with grpc.aio.insecure_channel(proxy.grpc, UNLIMITED) as channel:
        predict = channel.unary_unary(tfs_grpc.PREDICT)
        large = predict(message("undeclared", [[text]], np.object_), timeout=50)
        small = await asyncio.gather(*(predict(message("picky", [x]), timeout=50) for x in range(20)))
        answer = await large

    assert [[x / 2 + 2] for x in range(20)] == [numbers(one) for one in small]
    assert [text] == list(pb.PredictResponse.FromString(answer).outputs["x"].string_val)


# ---------------------------------------------------------------- Python's HTTP clients


def test_requests(proxy: Proxy) -> None:
    """A session: several requests on one connection."""
    with requests.Session() as session:
        found = [session.post(proxy.rest + PREDICT, data=BODY, timeout=30) for _ in range(20)]
        status = session.get(f"{proxy.rest}/v1/models/picky", timeout=30)
        wrong = session.post(proxy.rest + PREDICT, data="{", timeout=30)

    assert [ANSWER] * 20 == [answer.json() for answer in found]
    assert "AVAILABLE" == status.json()["model_version_status"][0]["state"]
    assert 400 == wrong.status_code


@pytest.mark.parametrize("http2", [False, True], ids=["HTTP/1.1", "HTTP/2"])
def test_httpx(proxy: Proxy, http2: bool) -> None:
    """Either protocol on either port, chunked bodies, and compressed ones."""
    with httpx.Client(http1=not http2, http2=http2, timeout=30) as client:
        found = [client.post(url + PREDICT, content=BODY) for url in (proxy.rest, f"http://{proxy.grpc}") * 5]
        chunked = client.post(proxy.rest + PREDICT, content=iter([BODY[:9].encode(), BODY[9:].encode()]))
        head = client.head(f"{proxy.rest}/v1/models/picky")

    assert [ANSWER] * 11 == [answer.json() for answer in [*found, chunked]]
    assert {"HTTP/2" if http2 else "HTTP/1.1"} == {answer.http_version for answer in found}
    assert b"" == head.content


# ---------------------------------------------------------------- commands


@pytest.mark.parametrize("option", ["--http1.0", "--http1.1", "--http2", "--http2-prior-knowledge"])
@pytest.mark.parametrize("door", ["rest", "grpc"])
def test_curl(proxy: Proxy, option: str, door: str) -> None:
    """Each of its protocols, on either port; two requests, but where curl 7.88 cannot use a connection twice."""
    urls = [f"http://{port(getattr(proxy, door))}{PREDICT}"] * (1 if option == "--http2-prior-knowledge" else 2)
    said = run("curl", "-sS", option, "--max-time", "30", "--data-binary", BODY, "-w", "\n%{http_code}\n", *urls)

    assert len(urls) == said.count('"predictions": [2.5, 3.0')
    assert ["200"] * len(urls) == re.findall(r"^\d{3}$", said, re.MULTILINE)


def test_nghttp(proxy: Proxy, tmp_path: Path) -> None:
    """Many streams on one connection, padded frames, and a window of 1 KiB for a long answer."""
    (tmp_path / "body").write_text(json.dumps({"instances": [[float(number) for number in range(20_000)]]}))
    said = run(
        "nghttp", "--window-bits=10", "--padding=7", "--multiply=5", f"--data={tmp_path / 'body'}",
        f"{proxy.rest}/v1/models/undeclared:predict",
    )  # fmt: skip
    status = run("nghttp", "-v", f"{proxy.rest}/v1/models/picky")

    assert 5 == said.count('"predictions"')
    assert 5 == said.count("19999.0")
    assert ":status: 200" in status
    assert "AVAILABLE" in status


@pytest.mark.parametrize("protocol", ["gRPC", "HTTP/2", "HTTP/1.1"])
def test_h2load(proxy: Proxy, protocol: str, tmp_path: Path) -> None:
    """2,000 requests, 4 connections, 16 at a time on each: all succeed."""
    body = tmp_path / "body"
    options, url = [], f"{proxy.rest}{PREDICT}"
    if protocol == "gRPC":
        payload = message("picky", [1.0])
        body.write_bytes(b"\0" + len(payload).to_bytes(4, "big") + payload)
        options = ["-H", "content-type: application/grpc", "-H", "te: trailers"]
        url = f"http://{proxy.grpc}{tfs_grpc.PREDICT}"
    else:
        body.write_text(BODY)
        options = ["--h1"] if protocol == "HTTP/1.1" else []
    said = run("h2load", "-n", "2000", "-c", "4", "-m", "16", "-d", str(body), *options, url)

    assert "2000 succeeded, 0 failed, 0 errored, 0 timeout" in said
    assert "2000 2xx, 0 3xx, 0 4xx, 0 5xx" in said


def test_wrk(proxy: Proxy, tmp_path: Path) -> None:
    """A second of predict calls on 16 connections: none fails."""
    script = tmp_path / "predict.lua"
    script.write_text(f"wrk.method = 'POST'\nwrk.body = '{BODY}'\n")
    said = run("wrk", "-t1", "-c16", "-d1s", "-s", str(script), proxy.rest + PREDICT)
    (count,) = re.findall(r"(\d+) requests in", said)

    assert int(count) > 16
    assert "Socket errors" not in said
    assert "Non-2xx" not in said


# ---------------------------------------------------------------- a Unix socket


def test_the_unix_socket_takes_both_protocols(tmp_path: Path) -> None:
    """grpcio and curl over it; it goes with the proxy."""
    path = tmp_path / "socket"
    nowhere = {"rest": "127.0.0.1:0", "grpc": "127.0.0.1:0", "admin": "127.0.0.1:0", "grpc_socket_path": str(path)}
    with running({"picky": "python:tests.models:picky"}, listen=nowhere) as proxy:
        with grpc.insecure_channel(f"unix:{path}") as channel:
            answer = channel.unary_unary(tfs_grpc.PREDICT)(message("picky", [2.0]), timeout=30)
        said = [
            run("curl", "-sS", option, "--unix-socket", str(path), "--data-binary", BODY, f"http://localhost{PREDICT}")
            for option in ("--http1.1", "--http2-prior-knowledge")
        ]
        by_port = proxy.post(PREDICT, BODY.encode())
        status = proxy.stop()

    assert [3.0] == numbers(answer)
    assert [ANSWER] * 2 == [json.loads(text) for text in said]
    assert 200 == by_port[0]
    assert f"both on unix:{path}" in "".join(proxy.log)
    assert (0, False) == (status, path.exists())
