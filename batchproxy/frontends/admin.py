"""The operator's pages by path: health, readiness, metrics and the live page. No inference and no sockets here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from importlib.resources import files
from typing import Any
from urllib.parse import unquote

import orjson

from batchproxy.frontends.rest_answers import RestAnswer
from batchproxy.wire.base import Limits

LIMITS = Limits(connections=64, body_bytes=64 << 10)
"""What those who look on may cost: fewer connections than the listeners keep files free, and no body matters here."""

Readiness = Callable[[], list[str]]

_HTML = {"Content-Type": "text/html; charset=utf-8"}
_TEXT = {"Content-Type": "text/plain; charset=utf-8"}
_METRICS = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}


class AdminRoutes:
    """Answers ``/``, ``/healthz``, ``/readyz``, ``/metrics`` and ``/status.json``, to GET and HEAD.

    Args:
        not_ready: why the proxy should get no traffic now, a line a reason; empty when ready.
        metrics: renders the metrics in Prometheus' text format.
        status: what the live page shows, as JSON-able values.
    """

    def __init__(
        self,
        *,
        not_ready: Readiness,
        metrics: Callable[[], bytes],
        status: Callable[[], Mapping[str, Any]],
    ) -> None:
        self._not_ready = not_ready
        self._metrics = metrics
        self._status = status
        page = RestAnswer(200, files("batchproxy.frontends").joinpath("status.html").read_bytes(), _HTML)
        self._pages: dict[str, Callable[[], RestAnswer]] = {
            "/": lambda: page,
            "/healthz": _healthz,
            "/readyz": self._readyz,
            "/metrics": lambda: RestAnswer(200, self._metrics(), _METRICS),
            "/status.json": lambda: RestAnswer(200, orjson.dumps(self._status())),
        }

    def handle(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, respond: Callable[[RestAnswer], None]
    ) -> None:
        """Answer one request at once; see ``RestRoutes.handle``."""
        page = self._pages.get(_place(path))
        if page is None:
            respond(_refusal(404, {}))
        elif method not in {"GET", "HEAD"}:
            respond(_refusal(405, {"Allow": "GET,HEAD"}))
        else:
            respond(page())

    def _readyz(self) -> RestAnswer:
        reasons = self._not_ready()
        return RestAnswer(503 if reasons else 200, orjson.dumps({"ready": not reasons, "reasons": reasons}))


def _healthz() -> RestAnswer:
    """200 while the loop turns."""
    return RestAnswer(200, b'{"status":"ok"}')


def _place(path: str) -> str:
    """The path alone: decoded, without query, and without the host of a request that was written for a proxy.

    >>> _place("/%68ealthz?x=1"), _place("http://host:8502/healthz"), _place("*")
    ('/healthz', '/healthz', '*')
    """
    if not path.startswith("/") and "://" in path:
        path = "/" + path.partition("://")[2].partition("/")[2]
    return unquote(path.partition("?")[0])


def _refusal(status: int, more: Mapping[str, str]) -> RestAnswer:
    return RestAnswer(status, f"{status}: {HTTPStatus(status).phrase}".encode(), {**_TEXT, **more})
