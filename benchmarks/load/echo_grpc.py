"""The yardstick of gRPC: grpc.aio on uvloop, any method, messages sent back. ``... echo_grpc PORT``.

Methods whose name ends in ``Stream`` take and send any number of them, others are unary.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import uvloop


class _Echo(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpcio carries no types
    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        if handler_call_details.method.endswith("Stream"):
            return grpc.stream_stream_rpc_method_handler(_echoes)
        return grpc.unary_unary_rpc_method_handler(_echo)


async def _echo(message: bytes, context: object) -> bytes:
    return message


async def _echoes(messages: AsyncIterator[bytes], context: object) -> AsyncIterator[bytes]:
    async for message in messages:
        yield message


async def main(port: int) -> None:
    """Serve until killed."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_Echo(),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
