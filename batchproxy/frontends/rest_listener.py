"""The REST socket, on ``aiohttp``: hands requests to the routes and their answers back. The wire issue replaces it."""

from __future__ import annotations

import asyncio

from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage

from batchproxy.frontends.address import bind
from batchproxy.frontends.rest_answers import RestAnswer
from batchproxy.frontends.rest_routes import MAX_BODY_BYTES, RestRoutes
from batchproxy.wire.gzip import inflated

LINGER_S = 1.0
"""How long a connection may take to carry its last answer, once that is given."""


class RestListener:
    """Serves the routes on one address.

    Args:
        routes: what answers.
        host: address to bind.
        port: port to bind; 0: any free one.
    """

    def __init__(self, routes: RestRoutes, host: str, port: int) -> None:
        self._routes = routes
        self._host, self._port = host, port
        self.address = ""
        self._closing = False
        server = web.Server(
            self._serve, handler_cancellation=True, request_factory=_request, access_log=None, auto_decompress=False
        )
        self._runner = web.ServerRunner(server, shutdown_timeout=LINGER_S)

    async def start(self) -> None:
        """Begin to take requests.

        Raises:
            ConfigError: the address cannot be bound.
        """
        await self._runner.setup()
        self.address = f"http://{await bind(self._runner, self._host, self._port, '--rest_api_port')}"

    async def stop_listening(self) -> None:
        """Take no new connections; those there are end with their next answer."""
        self._closing = True
        for site in list(self._runner.sites):
            await site.stop()

    async def aclose(self) -> None:
        """Close every connection, those with an answer under way after at most ``LINGER_S`` seconds."""
        await self._runner.cleanup()

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        answered: asyncio.Future[RestAnswer] = asyncio.get_running_loop().create_future()
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return _response(self._routes.too_large(), closing=True)
        if "gzip" in request.headers.get("Content-Encoding", ""):
            body = inflated(body, MAX_BODY_BYTES)  # aiohttp's own answer to a broken one is not TF Serving's
        call = self._routes.handle(request.method, request.raw_path, request.headers, body, answered.set_result)
        try:
            answer = await answered
        except asyncio.CancelledError:
            if call is not None:
                call.cancel()
            raise
        return _response(answer, self._closing)


def _request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: web.RequestHandler,
    writer: AbstractStreamWriter,
    task: asyncio.Task[None],
) -> web.BaseRequest:
    """A request that may be larger than aiohttp's 1 MiB."""
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=MAX_BODY_BYTES)


def _response(answer: RestAnswer, closing: bool) -> web.Response:
    response = web.Response(status=answer.status, reason=answer.reason, body=answer.body, headers=answer.headers)
    if closing:
        response.force_close()
    return response
