"""The health service of the gRPC port, asked by grpcio over a socket."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from batchproxy.core.errors import Code
from batchproxy.frontends.grpc_health import SERVICES, HealthService
from batchproxy.frontends.grpc_routes import GrpcRoutes
from batchproxy.frontends.listener import Listener
from tests.serving import Recorder, a_directory, half_plus_two

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.mark.parametrize("ready", [True, False])
@pytest.mark.parametrize("service", sorted(SERVICES))
async def test_says_what_readyz_says(service: str, ready: bool) -> None:
    """Of the process as a whole, by whichever name it is asked for."""
    recorder = Recorder()
    async with a_directory(recorder, {"m": half_plus_two}) as directory:
        clock = asyncio.get_running_loop().time
        routes = GrpcRoutes(directory, recorder, clock, health=HealthService(lambda: ready))
        listener = Listener(None, routes, "127.0.0.1", 0)
        await listener.start()
        async with grpc.aio.insecure_channel(listener.address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
        await listener.aclose()

    assert (SERVING if ready else NOT_SERVING) == answer.status


async def test_without_it_the_method_is_unknown() -> None:
    """As it is to a TF Serving that was not told to have it."""
    recorder = Recorder()
    async with a_directory(recorder, {"m": half_plus_two}) as directory:
        routes = GrpcRoutes(directory, recorder, asyncio.get_running_loop().time)
        listener = Listener(None, routes, "127.0.0.1", 0)
        await listener.start()
        async with grpc.aio.insecure_channel(listener.address) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        await listener.aclose()

    assert grpc.StatusCode.UNIMPLEMENTED == refused.value.code()


@pytest.mark.parametrize(
    ("method", "message", "code", "text"),
    [
        ("Check", health_pb2.HealthCheckRequest(service="x.Y").SerializeToString(), Code.NOT_FOUND, "unknown service"),
        ("Check", b"\xff", Code.INVALID_ARGUMENT, "no HealthCheckRequest"),
        ("Watch", b"", Code.UNIMPLEMENTED, "ask by Check"),
    ],
)
def test_what_it_does_not_answer(method: str, message: bytes, code: Code, text: str) -> None:
    """A service that nobody knows, noise, and a watch, which the protocol lets a server do without."""
    answer = HealthService(lambda: True).answer(f"/grpc.health.v1.Health/{method}", message)

    assert code is answer.code
    assert text in answer.message
