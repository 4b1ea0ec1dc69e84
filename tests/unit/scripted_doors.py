"""A model server with both doors, each of which answers as a test told it to. No tests here."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterable
from concurrent import futures
from contextlib import asynccontextmanager
from typing import Any

import grpc
from aiohttp import web


class Scripted:
    """Both doors of one server.

    Attributes:
        grpc_answers: method to message, or to a status and its text.
        rest_answers: method and path to status and body, and headers where there are some.
        seen: what came in, as (method, headers, body).
    """

    def __init__(self) -> None:
        self.grpc_answers: dict[str, bytes | tuple[grpc.StatusCode, str]] = {}
        self.rest_answers: dict[str, tuple[int, bytes] | tuple[int, bytes, dict[str, str]]] = {}
        self.seen: list[tuple[str, dict[str, Any], bytes]] = []
        self.grpc = self.rest = ""

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        def serve(body: bytes, context: Any) -> bytes:
            self.seen.append((details.method, joined(context.invocation_metadata()), body))
            answer = self.grpc_answers.get(details.method, (grpc.StatusCode.UNIMPLEMENTED, "unknown method"))
            if isinstance(answer, bytes):
                return answer
            context.abort(*answer)
            raise AssertionError("abort() returned. This is a bug.")

        def chat(messages: Any, context: Any) -> Any:
            return messages

        if details.method == "/s/chat":
            return grpc.stream_stream_rpc_method_handler(chat)
        return grpc.unary_unary_rpc_method_handler(serve)

    async def handle(self, request: web.BaseRequest) -> web.Response:
        line = f"{request.method} {request.raw_path}"
        self.seen.append((line, joined(request.headers.items()), await request.read()))
        status, body, *headers = self.rest_answers[line]
        return web.Response(status=status, body=body, headers=headers[0] if headers else None)


def joined(headers: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """By lower-case name; a name that comes twice has both values."""
    found: dict[str, Any] = {}
    for name, value in headers:
        found[name.lower()] = f"{found[name.lower()]}, {value}" if name.lower() in found else value
    return found


@asynccontextmanager
async def scripted() -> AsyncIterator[Scripted]:
    """A server on two ports."""
    script = Scripted()
    handler = type("Handler", (grpc.GenericRpcHandler,), {"service": lambda _, details: script.service(details)})()
    server = grpc.server(futures.ThreadPoolExecutor(2), handlers=(handler,))
    script.grpc = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    runner = web.ServerRunner(web.Server(script.handle), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    script.rest = f"127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield script
    finally:
        await runner.cleanup()
        server.stop(0).wait()


def nobody() -> str:
    """An address where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{taken.getsockname()[1]}"
