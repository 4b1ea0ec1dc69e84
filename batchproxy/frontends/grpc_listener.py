"""The gRPC socket, on ``grpc.aio``: hands messages to the routes and their answers back. The wire issue replaces it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

import grpc
import grpc.aio

from batchproxy.codecs.tfs_grpc import METHODS
from batchproxy.core.errors import BatchProxyError, Code, ConfigError
from batchproxy.engine import Engine
from batchproxy.frontends.address import host_port
from batchproxy.frontends.grpc_routes import GrpcAnswer, GrpcRoutes

MAX_MESSAGE_BYTES = 2**31 - 1
"""TF Serving's own limit (``model_servers/server.cc``: INT32_MAX), not gRPC's 4 MiB."""

_OPTIONS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.so_reuseport", 0),  # a second server on our port must fail, not share it in silence
]

Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"

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
    """TF Serving's methods go to the routes; others are passed on as streams, or refused as UNIMPLEMENTED by gRPC."""

    def __init__(self, routes: GrpcRoutes) -> None:
        self._routes = routes

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        method = handler_call_details.method
        if method in METHODS:
            return grpc.unary_unary_rpc_method_handler(self._serve(method))
        engine = self._routes.streams(method)
        return grpc.stream_stream_rpc_method_handler(self._stream(method, engine)) if engine is not None else None

    def _serve(self, method: str) -> Callable[[bytes, Context], Awaitable[bytes]]:
        async def serve(message: bytes, context: Context) -> bytes:
            answered: asyncio.Future[GrpcAnswer] = asyncio.get_running_loop().create_future()
            metadata = tuple(context.invocation_metadata() or ())
            call = self._routes.handle(method, message, context.time_remaining(), answered.set_result, metadata)
            try:
                answer = await answered
            except asyncio.CancelledError:
                if call is not None:
                    call.cancel()
                raise
            if answer.headers:
                await context.send_initial_metadata(tuple(answer.headers))
            if answer.code is not Code.OK:
                await context.abort(_CODES[answer.code], answer.message, tuple(answer.trailers))
            context.set_trailing_metadata(tuple(answer.trailers))
            return answer.body

        return serve

    def _stream(self, method: str, engine: Engine) -> Callable[[AsyncIterator[bytes], Context], AsyncIterator[bytes]]:
        async def stream(messages: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
            metadata = tuple(context.invocation_metadata() or ())
            try:
                with engine.borrow() as server:
                    async with server.relay_stream(method, metadata, messages, context.time_remaining()) as call:
                        await context.send_initial_metadata(await call.headers())
                        async for message in call.messages():
                            yield message
                        code, text, trailers = await call.status()
            except BatchProxyError as error:
                code, text, trailers = error.code, error.message, ()
            if code:
                await context.abort(_CODES[Code(code)], text, trailers)
            context.set_trailing_metadata(trailers)

        return stream
