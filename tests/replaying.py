"""A model server that says again, byte for byte, what a real TF Serving said (``tests/golden``). No tests live here.

It is told which recorded answer to give by a header that relayed calls carry, ``x-case``. Calls without it are of the
proxy's own making: merged ones, which are answered from the recorded answers of the members found in them, and
questions about models, which it refuses. Nothing of the proxy is used.
"""

from __future__ import annotations

import base64
import json
import re
import socketserver
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent import futures
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import unquote

import grpc

from tests.golden_cases import GOLDEN
from tests.tfserving import http_wire

CASE = "x-case"
PER_HOP = (("Connection", "X-Hop"), ("X-Hop", "mine"), ("Keep-Alive", "timeout=5"))
"""Fields that end at the proxy (RFC 9110, 7.6.1)."""

END_TO_END = (
    ("X-End", "one"), ("X-End", "two"), ("Retry-After", "7"), ("Set-Cookie", "a=1; Path=/"), ("Set-Cookie", "b=2"),
)  # fmt: skip
"""Fields that do not."""


class Recorded(NamedTuple):
    """A REST request, and the answer it was given.

    Attributes:
        name: unique over all files.
        method: of HTTP.
        path: with its query.
        headers: sent with it.
        body: sent.
        version: of HTTP.
        status: of the answer.
        reason: its phrase.
        fields: its headers, in their order.
        answer: its body.
    """

    name: str
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    version: str
    status: int
    reason: str
    fields: tuple[tuple[str, str], ...]
    answer: bytes


def recorded_rest() -> dict[str, Recorded]:
    """Every recorded REST answer by name; of requests that were sent at once those of one name are numbered."""
    found = {}
    for path in sorted(GOLDEN.glob("rest_*.json")):
        for item in json.loads(path.read_text())["cases"]:
            if "response" in item:
                found[item["name"]] = _recorded(item["name"], item["request"], item["response"])
            for number, one in enumerate(item.get("concurrent", ())):
                if "response" in one:
                    request = {"method": "POST", "path": f"/v1/models/{one['model']}:predict", "body": one["body"]}
                    reason = http_wire.REASONS[one["status"]]
                    fields = [["Content-Type", "application/json"]]
                    response = {"status": one["status"], "reason": reason, "headers": fields, "body": one["response"]}
                    name = f"{item['name']} {number}"
                    found[name] = _recorded(name, request, response)
    return found


def _recorded(name: str, request: Mapping[str, Any], response: Mapping[str, Any]) -> Recorded:
    return Recorded(
        name,
        request["method"],
        request["path"],
        request.get("headers", {}),
        _body(request),
        request.get("http_version", "1.1"),
        response["status"],
        response["reason"],
        tuple((field, value) for field, value in response["headers"]),
        _body(response),
    )


def _body(item: Mapping[str, Any]) -> bytes:
    return base64.b64decode(item["body_b64"]) if "body_b64" in item else str(item.get("body", "")).encode()


# ---------------------------------------------------------------- merged calls


class Rows(NamedTuple):
    """What a predict body asks: rows may share a call where ``kind`` is equal."""

    kind: tuple[Any, ...]
    rows: tuple[str, ...]


def rows_of(path: str, body: bytes) -> Rows | None:
    """The rows of a body, each as a text in which numbers stand as they were sent; None where it has none."""
    try:
        document = json.loads(body.decode(errors="surrogateescape"), parse_float=repr, parse_int=repr)
    except ValueError:
        return None
    place = re.sub(
        r"(?i)^/v1/models/|/versions/0*(?=\d)|/labels/", lambda found: found[0].lower().rstrip("0"), unquote(path)
    )
    kind = (place, document.get("signature_name") or "serving_default", "instances" in document)
    if isinstance(document.get("instances"), list):
        return Rows(kind, tuple(map(_text, document["instances"])))
    inputs = document.get("inputs")
    columns = inputs if isinstance(inputs, dict) else {"": inputs}
    if not all(isinstance(column, list) for column in columns.values()) or len({*map(len, columns.values())}) != 1:
        return None
    names = sorted(columns)
    rows = zip(*(columns[name] for name in names), strict=True)
    return Rows((*kind, *names), tuple(map(_text, map(list, rows))))


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def members(rows: Sequence[str], known: Mapping[tuple[str, ...], Recorded]) -> list[Recorded] | None:
    """Whose rows these are, one request after the other; None where they are not those of whole requests."""
    if not rows:
        return []
    for own, case in known.items():
        if own == tuple(rows[: len(own)]):
            rest = members(rows[len(own) :], known)
            if rest is not None:
                return [case, *rest]
    return None


_ROWS = re.compile(rb'(\{\n    "(?:predictions|outputs)": \[)(.*)(\n    \]\n\})', re.DOTALL)
_COLUMN = re.compile(rb'(\n {8}"[^"]*": \[)(.*?)(?=\n {8}\],?\n)', re.DOTALL)


def merged(answers: Sequence[bytes]) -> bytes:
    """One answer with the rows of all, in TF Serving's layout."""
    whole = _ROWS.fullmatch(answers[0])
    if whole is not None:
        inner = [found[2] for found in map(_ROWS.fullmatch, answers) if found is not None]
        between = b"," if inner[0].startswith(b"\n") else b", "
        return whole[1] + between.join(inner) + whole[3]
    columns = [dict(_COLUMN.findall(answer)) for answer in answers]
    return _COLUMN.sub(lambda found: found[1] + b",".join(each[found[1]] for each in columns), answers[0])


# ---------------------------------------------------------------- REST


class RestReplay:
    """The REST door.

    Attributes:
        rest: where it listens.
        grpc: nothing.
        cases: what it can say.
        asked: method, path and body of each relayed call, by the case's name.
        merged: for each merged call, how many requests were in it.
        strange: merged calls that are not made of whole recorded requests.
    """

    def __init__(self, cases: Mapping[str, Recorded]) -> None:
        self.rest = self.grpc = ""
        self.cases = cases
        self.asked: dict[str, tuple[str, str, bytes]] = {}
        self.merged: list[int] = []
        self.strange: list[tuple[str, bytes]] = []
        self._known: dict[tuple[Any, ...], dict[tuple[str, ...], Recorded]] = {}
        for case in cases.values():
            found = rows_of(case.path, case.body) if case.status == 200 and case.path.endswith(":predict") else None
            if found is not None and found.rows:
                self._known.setdefault(found.kind, {})[found.rows] = case

    def answer(self, request: http_wire.Request) -> tuple[bytes, bool]:
        """All bytes of the answer, and whether the connection is open afterwards."""
        case = self.cases.get(request.headers.get(CASE, ""))
        if case is not None:
            self.asked[case.name] = (request.method, request.target, request.body)
            closes = ("Connection", "close") in case.fields
            fields = [
                *(field for field in case.fields if field[0] not in {"Connection", "Content-Length"}),
                *END_TO_END,
            ]
            fields += [("Connection", "close")] if closes else PER_HOP
            return _written(case.status, case.reason, fields, case.answer), not closes
        found = rows_of(request.target, request.body) if request.method == "POST" else None
        if found is None:
            return _written(404, "Not Found", [("Content-Type", "application/json")], b'{"error": "not told"}'), True
        cases = members(found.rows, self._known.get(found.kind, {}))
        if not cases:
            self.strange.append((request.target, request.body))
            return _written(400, "Bad Request", [], b'{"error": "who asked this?"}'), True
        self.merged.append(len(cases))
        fields = [("Content-Type", "application/json"), *END_TO_END]
        return _written(200, "OK", fields, merged([case.answer for case in cases])), True


def _written(status: int, reason: str, fields: Sequence[tuple[str, str]], body: bytes) -> bytes:
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in fields)]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode("latin-1") + body


@contextmanager
def replaying_rest(cases: Mapping[str, Recorded]) -> Iterator[RestReplay]:
    """The REST door on a free port."""
    replay = RestReplay(cases)

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            open_still = True
            while open_still:
                try:
                    request = http_wire.read_request(self.rfile, lambda: None)
                except ConnectionError:
                    return
                if request is None:
                    return
                answer, open_still = replay.answer(request)
                self.request.sendall(
                    answer if request.method != "HEAD" else answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
                )

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True
        request_queue_size = 128

    with Server(("127.0.0.1", 0), Handler) as server:
        replay.rest = f"127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield replay
        finally:
            server.shutdown()
            thread.join()


# ---------------------------------------------------------------- gRPC

TRAILING = (
    ("x-trailing", "a"), ("x-trailing", "b"), ("x-trailing-bin", b"\xff\0"), ("x-trailing-bin", b"\1"),
    ("grpc-status-details-bin", b"\x08\x03\x12\x01x"),
)  # fmt: skip
INITIAL = (("x-initial", "c"),)


def recorded_grpc() -> dict[str, dict[str, Any]]:
    """Every recorded gRPC call by name."""
    return {case["name"]: case for case in json.loads((GOLDEN / "grpc_main.json").read_text())["cases"]}


class GrpcReplay(grpc.GenericRpcHandler):  # type: ignore[misc]
    """The gRPC door.

    Attributes:
        grpc: where it listens.
        rest: nothing.
        asked: the message of each relayed call, by the case's name.
    """

    def __init__(self, cases: Mapping[str, Mapping[str, Any]]) -> None:
        self.rest = self.grpc = ""
        self.asked: dict[str, bytes] = {}
        self._cases = cases

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        case = self._cases.get(dict(details.invocation_metadata).get(CASE, ""))

        def behave(message: bytes, context: grpc.ServicerContext) -> bytes:
            if case is None:
                context.abort(grpc.StatusCode.UNIMPLEMENTED, "not told")
                raise AssertionError
            self.asked[case["name"]] = message
            context.send_initial_metadata(INITIAL)
            context.set_trailing_metadata(TRAILING)
            if case["code"] != "OK":
                context.abort(grpc.StatusCode[case["code"]], case["message"])
            return base64.b64decode(case["response_b64"])

        return grpc.unary_unary_rpc_method_handler(behave)


@contextmanager
def replaying_grpc(cases: Mapping[str, Mapping[str, Any]]) -> Iterator[GrpcReplay]:
    """The gRPC door on a free port."""
    replay = GrpcReplay(cases)
    server = grpc.server(futures.ThreadPoolExecutor(8), handlers=(replay,), options=(("grpc.so_reuseport", 0),))
    replay.grpc = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield replay
    finally:
        server.stop(0).wait()
