"""The REST door: routes, status codes and headers over the inference (facts 1.2-1.4, 1.11).

Written plainly from the facts and from nothing of the proxy: it is the stranger that the proxy is measured against.
"""

from __future__ import annotations

import re
import socket
import socketserver
import threading
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from tensorflow_serving.apis import model_pb2

from tests.tfserving import http_wire, rest_documents, rest_examples, rest_predict
from tests.tfserving.faults import HTTP_STATUS, Fault, invalid
from tests.tfserving.http_wire import Answer, Request, page
from tests.tfserving.inference import Inference
from tests.tfserving.json_read import ParseError, parse
from tests.tfserving.json_write import error_body
from tests.tfserving.ledger import Ledger

_VERSION = r"(?:(?:/versions/(\d+))|(?:/labels/([^/:]+)))?"
INFERENCE = re.compile(rf"(?i)/v1/models/([^/:]+){_VERSION}:(classify|regress|predict)", re.ASCII)
ABOUT = re.compile(rf"(?i)/v1/models(?:/([^/:]+))?{_VERSION}(?:/(metadata))?", re.ASCII)

CORS = (
    ("Access-Control-Allow-Origin", "*"),
    ("Access-Control-Allow-Methods", "POST, GET"),
    ("Access-Control-Allow-Headers", "Content-Type"),
)


class Rest(NamedTuple):
    """Answers requests.

    Attributes:
        inference: runs models.
        ledger: is told of each call.
        timeout_ms: ``--rest_api_timeout_in_ms``.
        cors: ``--rest_api_enable_cors_support``.
        content: ``--enable_serialization_as_tensor_content``.
    """

    inference: Inference
    ledger: Ledger
    timeout_ms: int
    cors: bool
    content: bool

    def answer(self, request: Request) -> Answer:
        """One request, one answer."""
        if request.method not in http_wire.METHODS:
            return page(501)
        if not http_wire.TARGET.fullmatch(request.target):
            return page(400)
        command = self.ledger.command(request.target)
        if command is not None:
            return Answer(200, command)
        if not re.match(r"(?i)/v1/", request.target):
            return page(404)
        extra = CORS if self.cors else ()
        if request.method == "OPTIONS":
            origin = request.headers.get("origin", "")
            right = "http://" in origin or "https://" in origin
            return Answer(200 if right else 400, b"", None, extra)
        try:
            return Answer(200, self._body(request), extra=extra)
        except _VersionTooBig:
            return Answer(400, b"", extra=extra)
        except ParseError as error:
            return Answer(400, error_body(str(error)), extra=extra)
        except Fault as fault:
            return Answer(HTTP_STATUS[fault.code], error_body(fault.message), extra=extra)

    def _body(self, request: Request) -> bytes:
        route = {"POST": INFERENCE, "GET": ABOUT}.get(request.method)
        found = route.fullmatch(request.target) if route is not None else None
        if found is None:
            raise _malformed(request)
        name, version, label, last = found.groups()
        spec = _spec(name, version, label)
        if request.method == "GET":
            return self._about(spec, is_metadata=last == "metadata")
        if last not in {"predict", "classify", "regress"}:  # matched in another case
            raise _malformed(request)
        self.ledger.called("rest", last, spec.name)
        document = parse(request.body)
        if last == "predict":
            return rest_predict.predict(
                self.inference, spec, document, timeout_ms=self.timeout_ms, content=self.content
            )
        return rest_examples.score(self.inference, last, spec, document, self.timeout_ms)

    def _about(self, spec: Any, *, is_metadata: bool) -> bytes:
        if not spec.name:
            raise invalid("Missing model name in request.")
        self.ledger.called("rest", "metadata" if is_metadata else "status", spec.name)
        repository = self.inference.repository
        return (
            rest_documents.metadata(repository.find(spec))
            if is_metadata
            else rest_documents.status(repository.states(spec))
        )


class _VersionTooBig(Exception):
    pass


def _malformed(request: Request) -> Fault:
    return invalid(f"Malformed request: {request.method} {request.target}")


def _spec(name: str | None, version: str | None, label: str | None) -> Any:
    spec = model_pb2.ModelSpec(name=_unquoted(name or ""))
    if version is not None:
        if int(version) >= 1 << 63:
            raise _VersionTooBig
        spec.version.value = int(version)
    if label is not None:
        spec.version_label = _unquoted(label)
    return spec


def _unquoted(text: str) -> str:
    return unquote_to_bytes(text).decode(errors="replace")


# ---------------------------------------------------------------- sockets


class _Handler(socketserver.StreamRequestHandler):
    rbufsize = 1 << 16
    rest: Rest

    def setup(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().setup()

    def handle(self) -> None:
        try:
            while self._one():
                pass
        except ConnectionError:
            pass

    def _one(self) -> bool:
        try:
            request = http_wire.read_request(self.rfile, self._go_on)
        except (http_wire.NotHttp, ValueError):
            broken = Request("GET", "", 1, {}, b"", b"")
            self.request.sendall(http_wire.written(broken, page(400)))
            return False
        if request is None:
            return False
        answer = self.rest.answer(request)
        raw = http_wire.written(request, answer)
        if not request.target.startswith("/test/"):
            self.rest.ledger.captured("rest", f"{request.method} {request.target}", request.raw, raw)
        self.request.sendall(raw)
        return http_wire.stays_open(request, answer)

    def _go_on(self) -> None:
        self.request.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 1024


def serve(rest: Rest, port: int) -> int:
    """Starts the REST server on the loopback, for as long as the process lives; returns its port."""
    handler = type("Handler", (_Handler,), {"rest": rest})
    server = _Server(("127.0.0.1", port), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return int(server.server_address[1])
