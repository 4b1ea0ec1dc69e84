"""gRPC and REST over HTTP/2, on the same address as HTTP/1.1; grpcio, curl and h2load on the other end."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import grpc
import grpc.aio
import numpy as np
import pytest

from batchproxy.codecs import tensor_proto, tfs_grpc
from batchproxy.core.errors import Code
from batchproxy.frontends.grpc_routes import METHODS, GrpcAnswer, GrpcRoutes
from batchproxy.frontends.listener import Listener
from batchproxy.frontends.rest_routes import RestRoutes
from batchproxy.protos import tfs_pb2 as pb
from tests.listening import PREDICT, TLS, answer_of, open_to, port, post, tls, until
from tests.serving import Recorder, a_directory

UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class HeldCalls:
    """gRPC routes that keep calls until the test answers them."""

    methods = METHODS

    def __init__(self) -> None:
        self.waiting: list[Callable[[GrpcAnswer], None]] = []
        self.metadata: list[Sequence[tuple[str, str | bytes]]] = []
        self.timeouts: list[float | None] = []
        self.cancelled = 0

    def handle(
        self,
        method: str,
        message: bytes,
        timeout_s: float | None,
        respond: Callable[[GrpcAnswer], None],
        metadata: Sequence[tuple[str, str | bytes]] = (),
    ) -> HeldCalls:
        if message == b"break":
            raise KeyError(message)
        self.waiting.append(respond)
        self.metadata.append(metadata)
        self.timeouts.append(timeout_s)
        return self

    def done(self) -> bool:
        return False

    def cancel(self) -> None:
        self.cancelled += 1


@asynccontextmanager
async def both(**arguments: Any) -> AsyncIterator[Listener]:
    """A listener before both real routes and one small model."""
    recorder = Recorder()
    async with a_directory(recorder) as directory:
        clock = asyncio.get_running_loop().time
        rest = RestRoutes(directory, recorder, clock, timeout_s=30, deadline_header=None)
        listener = Listener(rest, GrpcRoutes(directory, recorder, clock), "127.0.0.1", 0, **arguments)
        await listener.start()
        try:
            yield listener
        finally:
            await listener.aclose()


@asynccontextmanager
async def holding() -> AsyncIterator[tuple[Listener, HeldCalls]]:
    """A listener before held calls, without REST."""
    calls = HeldCalls()
    listener = Listener(None, cast("GrpcRoutes", calls), "127.0.0.1", 0)
    await listener.start()
    try:
        yield listener, calls
    finally:
        await listener.aclose()


def message(*numbers: float) -> bytes:
    """A PredictRequest."""
    request = pb.PredictRequest()
    request.model_spec.name = "half_plus_two"
    tensor_proto.write(np.asarray(numbers, np.float32), request.inputs["x"])
    return request.SerializeToString()


def rows(answer: bytes) -> list[float]:
    """A PredictResponse's numbers."""
    return list(pb.PredictResponse.FromString(answer).outputs["y"].float_val)


async def test_a_hundred_calls_at_once_get_their_own_answers() -> None:
    """Over one channel."""
    async with both() as listener, grpc.aio.insecure_channel(listener.address) as channel:
        predict = channel.unary_unary(tfs_grpc.PREDICT)
        found = await asyncio.gather(*(predict(message(number, number + 1)) for number in range(100)))

    assert [[number / 2 + 2, number / 2 + 2.5] for number in range(100)] == [rows(answer) for answer in found]


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
async def test_large_messages_both_ways(compression: grpc.Compression) -> None:
    """A million numbers; flow control in both directions."""
    numbers = np.arange(1 << 20, dtype=np.float32)
    async with both() as listener, grpc.aio.insecure_channel(listener.address, UNLIMITED) as channel:
        answer = await channel.unary_unary(tfs_grpc.PREDICT)(message(*numbers), compression=compression)

    assert np.array_equal(numbers / 2 + 2, np.array(rows(answer), np.float32))


@pytest.mark.parametrize(
    ("method", "request_bytes", "code", "text"),
    [
        ("/tensorflow.serving.SessionService/SessionRun", b"", grpc.StatusCode.UNIMPLEMENTED, "unknown method"),
        (tfs_grpc.MULTI_INFERENCE, b"", grpc.StatusCode.UNIMPLEMENTED, "MultiInference is not answered"),
        (tfs_grpc.PREDICT, message(-1.0), grpc.StatusCode.INVALID_ARGUMENT, "negative input: [-1.0]"),
    ],
)
async def test_refusals(method: str, request_bytes: bytes, code: grpc.StatusCode, text: str) -> None:
    """A status and a text."""
    async with both() as listener, grpc.aio.insecure_channel(listener.address) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            await channel.unary_unary(method)(request_bytes)

    assert code is caught.value.code()
    assert text in caught.value.details()


async def test_deadline_metadata_and_trailers_pass() -> None:
    """What the caller says reaches the routes, and what they say reaches the caller."""
    sent = (("authorization", "Bearer a"), ("x-bin", b"\0\xff"), ("x-twice", "1"), ("x-twice", "2"))
    async with holding() as (listener, calls), grpc.aio.insecure_channel(listener.address) as channel:
        call = channel.unary_unary(tfs_grpc.PREDICT)(b"", timeout=20, metadata=sent)
        asking = asyncio.ensure_future(call)
        await until(lambda: calls.waiting)
        calls.waiting[0](GrpcAnswer(Code.OK, "", b"answer", (("initial", "too"),), (("trailing", "yes"),)))
        answer = await asking
        headers, trailers = await call.initial_metadata(), await call.trailing_metadata()

    (timeout,) = calls.timeouts
    assert b"answer" == answer
    assert [("initial", "too")] == [(key, value) for key, value in headers]
    assert [("trailing", "yes")] == [(key, value) for key, value in trailers]
    assert set(sent) <= set(calls.metadata[0])
    assert timeout is not None
    assert 15 < timeout <= 20.5  # grpcio rounds it up to a coarser unit


async def test_metadata_that_cannot_be_sent_is_no_reason_to_leave_a_caller_waiting(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A server's answer is passed on as it came; where that cannot be done, its caller is told."""
    async with holding() as (listener, calls), grpc.aio.insecure_channel(listener.address) as channel:
        asking = asyncio.ensure_future(channel.unary_unary(tfs_grpc.PREDICT)(b"", timeout=20))
        await until(lambda: calls.waiting)
        calls.waiting[0](GrpcAnswer(Code.OK, "", b"answer", (), (("Not lower case", "x"),)))
        with pytest.raises(grpc.RpcError) as caught:
            await asking

    assert grpc.StatusCode.INTERNAL is caught.value.code()
    assert 1 == sum(one.levelno == logging.ERROR for one in caplog.records)


async def test_a_cancelled_call_is_cancelled_in_the_queue_alone() -> None:
    """Its neighbour on the same connection is answered."""
    async with holding() as (listener, calls), grpc.aio.insecure_channel(listener.address) as channel:
        predict = channel.unary_unary(tfs_grpc.PREDICT)
        leaving, staying = predict(b""), predict(b"")
        await until(lambda: len(calls.waiting) == 2)
        leaving.cancel()
        await until(lambda: calls.cancelled)
        for respond in calls.waiting:
            respond(GrpcAnswer(Code.OK, "", b"here"))
        answer = await staying

    assert (b"here", 1) == (answer, calls.cancelled)


async def test_a_route_that_breaks_is_internal(caplog: pytest.LogCaptureFixture) -> None:
    """And in the log."""
    async with holding() as (listener, _), grpc.aio.insecure_channel(listener.address) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            await channel.unary_unary(tfs_grpc.PREDICT)(b"break")

    assert grpc.StatusCode.INTERNAL is caught.value.code()
    assert ["a request failed in an unforeseen way. This is a bug."] == [
        one.message for one in caplog.records if one.levelno == logging.ERROR
    ]


async def test_one_port_takes_all() -> None:
    """HTTP/1.1, gRPC, and REST over HTTP/2 from curl."""
    body = b'{"instances":[1.0]}'
    async with both() as listener, grpc.aio.insecure_channel(listener.address) as channel:
        reader, writer = await open_to(listener)
        writer.write(post(PREDICT, body))
        by_rest = await answer_of(reader)
        writer.close()
        by_grpc = await channel.unary_unary(tfs_grpc.PREDICT)(message(1.0))
        curl = await asyncio.create_subprocess_exec(
            "curl", "-sS", "--http2-prior-knowledge", "--max-time", "20", "-w", " %{http_code} %{http_version}",
            "--data-binary", body.decode(), f"http://{listener.address}{PREDICT}", stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        by_curl, _ = await curl.communicate()

    assert (200, [2.5]) == (by_rest[0], json.loads(by_rest[1])["predictions"])
    assert [2.5] == rows(by_grpc)
    assert by_rest[1] + b" 200 2" == by_curl


async def test_within_tls() -> None:
    """gRPC insists on ALPN."""
    credentials = grpc.ssl_channel_credentials((TLS / "cert.pem").read_bytes())
    context = tls(ssl.PROTOCOL_TLS_SERVER, "h2", "http/1.1")
    async with (
        both(tls=context) as listener,
        grpc.aio.secure_channel(f"localhost:{port(listener)}", credentials) as channel,
    ):
        answer = await channel.unary_unary(tfs_grpc.PREDICT)(message(3.0))

    assert [3.5] == rows(answer)


async def test_draining_answers_what_was_taken_and_the_channel_goes_elsewhere() -> None:
    """GOAWAY: the call under way is answered, a later one finds nobody."""
    async with holding() as (listener, calls), grpc.aio.insecure_channel(listener.address) as channel:
        predict = channel.unary_unary(tfs_grpc.PREDICT)
        asking = asyncio.ensure_future(predict(b"first"))
        await until(lambda: calls.waiting)
        await listener.stop_listening()
        await until(lambda: channel.get_state() is not grpc.ChannelConnectivity.READY)
        calls.waiting[0](GrpcAnswer(Code.OK, "", b"answer"))
        answer = await asking
        with pytest.raises(grpc.RpcError) as caught:
            await predict(b"second")
        await until(lambda: not listener.connections)

    assert b"answer" == answer
    assert grpc.StatusCode.UNAVAILABLE is caught.value.code()
    assert 1 == len(calls.waiting)
