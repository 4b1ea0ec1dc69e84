"""The gRPC socket, on ``grpc.aio``: hands messages to the routes and their answers back. The wire issue replaces it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import grpc
import grpc.aio

from batchproxy.codecs.tfs_grpc import METHODS
from batchproxy.core.errors import Code, ConfigError
from batchproxy.frontends.address import host_port
from batchproxy.frontends.grpc_routes import GrpcAnswer, GrpcRoutes

MAX_MESSAGE_BYTES = 2**31 - 1
"""TF Serving's own limit (``model_servers/server.cc``: INT32_MAX), not gRPC's 4 MiB."""

_OPTIONS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.so_reuseport", 0),  # a second server on our port must fail, not share it in silence
]

_CODES = {code.value[0]: code for code in grpc.StatusCode}


class GrpcListener:
    """Serves the routes on one address.

    Args:
        routes: what answers.
        host: address to bind.
        port: port to bind; 0: any free one.
    """

    def __init__(self, routes: GrpcRoutes, host: str, port: int) -> None:
        self._routes = routes
        self._server = grpc.aio.server(options=_OPTIONS)
        self._server.add_generic_rpc_handlers((_Handler(routes),))
        address = host_port(host, port)
        try:
            self.address = host_port(host, self._server.add_insecure_port(address))
        except RuntimeError as error:
            raise ConfigError(
                f"cannot listen on {address} for gRPC (is the port taken?): choose another --port"
            ) from error

    async def start(self) -> None:
        """Begin to take calls."""
        await self._server.start()

    async def aclose(self, grace_s: float) -> None:
        """Take no new calls, and give those under way ``grace_s`` seconds."""
        await self._server.stop(grace_s)


class _Handler(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpcio carries no types
    """TF Serving's methods go to the routes; gRPC itself refuses the others as UNIMPLEMENTED."""

    def __init__(self, routes: GrpcRoutes) -> None:
        self._routes = routes

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        method = handler_call_details.method
        return grpc.unary_unary_rpc_method_handler(self._serve(method)) if method in METHODS else None

    def _serve(self, method: str) -> Callable[[bytes, grpc.aio.ServicerContext[bytes, bytes]], Awaitable[bytes]]:
        async def serve(message: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
            answered: asyncio.Future[GrpcAnswer] = asyncio.get_running_loop().create_future()
            call = self._routes.handle(method, message, context.time_remaining(), answered.set_result)
            try:
                answer = await answered
            except asyncio.CancelledError:
                if call is not None:
                    call.cancel()
                raise
            if answer.code is not Code.OK:
                trailers = (("grpc-retry-pushback-ms", "1000"),) if answer.code is Code.UNAVAILABLE else ()
                await context.abort(_CODES[answer.code], answer.message, trailers)
            return answer.body

        return serve
