"""The operator's door, on ``aiohttp.web``: health, readiness, metrics and the live page. No inference here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any

import orjson
from aiohttp import web

from batchproxy.frontends.address import bind

Readiness = Callable[[], list[str]]


class Admin:
    """Serves ``/``, ``/healthz``, ``/readyz``, ``/metrics`` and ``/status.json``.

    Args:
        host: address to bind.
        port: port to bind; 0: any free one.
        not_ready: why the proxy should get no traffic now, a line a reason; empty when ready.
        metrics: renders the metrics in Prometheus' text format.
        status: what the live page shows, as JSON-able values.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        not_ready: Readiness,
        metrics: Callable[[], bytes],
        status: Callable[[], Mapping[str, Any]],
    ) -> None:
        self._host, self._port = host, port
        self.address = ""
        self._not_ready = not_ready
        self._metrics = metrics
        self._status = status
        self._page = files("batchproxy.frontends").joinpath("status.html").read_bytes()
        app = web.Application()
        app.add_routes(
            [
                web.get("/", self._show_page),
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._show_metrics),
                web.get("/status.json", self._show_status),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None)

    async def start(self) -> None:
        """Bind and serve.

        Raises:
            ConfigError: the address cannot be bound.
        """
        await self._runner.setup()
        self.address = f"http://{await bind(self._runner, self._host, self._port, '--admin_port')}/"

    async def aclose(self) -> None:
        """Stop serving."""
        await self._runner.cleanup()

    async def _show_page(self, request: web.Request) -> web.Response:
        return web.Response(body=self._page, content_type="text/html", charset="utf-8")

    async def _healthz(self, request: web.Request) -> web.Response:
        """200 while the loop turns."""
        return _json(200, {"status": "ok"})

    async def _readyz(self, request: web.Request) -> web.Response:
        reasons = self._not_ready()
        return _json(503 if reasons else 200, {"ready": not reasons, "reasons": reasons})

    async def _show_metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=self._metrics(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def _show_status(self, request: web.Request) -> web.Response:
        return _json(200, self._status())


def _json(status: int, value: Mapping[str, Any]) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(value), content_type="application/json")
