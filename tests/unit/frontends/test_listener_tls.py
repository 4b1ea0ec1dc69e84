"""TLS on one port: ALPN chooses between HTTP/2 and HTTP/1.1; grpcio, curl, httpx and Python's ssl on the other end."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import grpc.aio
import httpx
import numpy as np
import pytest

from batchproxy.codecs import tensor_proto, tfs_grpc
from batchproxy.frontends.grpc_routes import GrpcRoutes
from batchproxy.frontends.listener import Listener
from batchproxy.frontends.rest_routes import RestRoutes
from batchproxy.protos import tfs_pb2 as pb
from batchproxy.wire.base import Limits
from tests.listening import PREDICT, TLS, answer_of, open_to, port, post, tls
from tests.serving import Recorder, a_directory

BODY = json.dumps({"instances": [1.0, 3.0]}).encode()
ANSWER = {"predictions": [2.5, 3.5]}


@asynccontextmanager
async def secured() -> AsyncIterator[Listener]:
    """A listener within TLS before both routes; its handshakes are given up after a moment."""
    recorder = Recorder()
    async with a_directory(recorder) as directory:
        clock = asyncio.get_running_loop().time
        rest = RestRoutes(directory, recorder, clock, timeout_s=30, deadline_header=None)
        grpc_routes = GrpcRoutes(directory, recorder, clock)
        context = tls(ssl.PROTOCOL_TLS_SERVER, "h2", "http/1.1")
        listener = Listener(rest, grpc_routes, "127.0.0.1", 0, tls=context, limits=Limits(handshake_s=0.2))
        await listener.start()
        try:
            yield listener
        finally:
            await listener.aclose()


@pytest.mark.parametrize(
    ("option", "version"), [("--http2", "2"), ("--http1.1", "1.1"), ("--http1.0", "1"), ("--no-alpn", "1.1")]
)
async def test_curl(option: str, version: str) -> None:
    """Each protocol it can agree upon, and none."""
    async with secured() as listener:
        url = f"https://localhost:{port(listener)}{PREDICT}"
        curl = await asyncio.create_subprocess_exec(
            "curl", "-sS", option, "--cacert", str(TLS / "cert.pem"), "--max-time", "20",
            "--data-binary", BODY.decode(), "-w", " %{http_code} %{http_version}", url,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        said, problems = await curl.communicate()
    answer, status, found = said.decode().rsplit(" ", 2)

    assert b"" == problems
    assert (ANSWER, "200", version) == (json.loads(answer), status, found)


@pytest.mark.parametrize("http2", [False, True])
async def test_httpx(http2: bool) -> None:
    """Several requests on one connection."""
    trusting = tls(ssl.PROTOCOL_TLS_CLIENT)
    async with secured() as listener, httpx.AsyncClient(http1=not http2, http2=http2, verify=trusting) as client:
        url = f"https://localhost:{port(listener)}{PREDICT}"
        found = [await client.post(url, content=BODY) for _ in range(3)]

    assert [ANSWER] * 3 == [answer.json() for answer in found]
    assert {"HTTP/2" if http2 else "HTTP/1.1"} == {answer.http_version for answer in found}


async def test_grpcio_beside_http_1_1() -> None:
    """Both at once, on the one port, with messages of a megabyte."""
    numbers = np.arange(1 << 18, dtype=np.float32)
    request = pb.PredictRequest()
    request.model_spec.name = "half_plus_two"
    tensor_proto.write(numbers, request.inputs["x"])
    credentials = grpc.ssl_channel_credentials((TLS / "cert.pem").read_bytes())
    options = [("grpc.max_receive_message_length", -1)]
    async with (
        secured() as listener,
        grpc.aio.secure_channel(f"localhost:{port(listener)}", credentials, options) as channel,
    ):
        asking = asyncio.ensure_future(channel.unary_unary(tfs_grpc.PREDICT)(request.SerializeToString()))
        client = tls(ssl.PROTOCOL_TLS_CLIENT, "http/1.1")
        reader, writer = await open_to(listener, ssl=client, server_hostname="localhost")
        writer.write(post(PREDICT, BODY) * 2)
        found = [await answer_of(reader), await answer_of(reader)]
        agreed = writer.get_extra_info("ssl_object").selected_alpn_protocol()
        writer.close()
        answer = pb.PredictResponse.FromString(await asking)

    assert [(200, ANSWER)] * 2 == [(status, json.loads(body)) for status, body in found]
    assert "http/1.1" == agreed
    assert np.array_equal(numbers / 2 + 2, np.array(answer.outputs["y"].float_val, np.float32))


@pytest.mark.parametrize("sent", [post(PREDICT, BODY), b""], ids=["in the clear", "nothing"])
async def test_who_does_not_speak_tls_is_cut_off(sent: bytes) -> None:
    """At once, or when its handshake takes too long; others are answered meanwhile."""
    async with secured() as listener:
        reader, writer = await open_to(listener)
        writer.write(sent)
        client = tls(ssl.PROTOCOL_TLS_CLIENT)
        good_reader, good_writer = await open_to(listener, ssl=client, server_hostname="localhost")
        good_writer.write(post(PREDICT, BODY))
        status, _ = await answer_of(good_reader)
        good_writer.close()
        rest = await reader.read()
        writer.close()

    assert 200 == status
    assert not rest.startswith(b"HTTP")
