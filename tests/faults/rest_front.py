"""A bad server's REST door: HTTP/1.1 by hand, so that it can be wrong. What strikes is not decided here."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, cast

from batchproxy.codecs import tfs_documents, v2_documents
from batchproxy.codecs.tfs_grpc import VersionStatus
from tests.faults.script import POISON, ROWS, SIGNATURE, STATUSES, VERSION, Call, Fault, Outputs, info, outputs
from tests.faults.server import Site, reset

PAGE = b"<html><body>Welcome to the hotel's network</body></html>"
V2_TYPES = {"x": "INT64", "y": "INT64", "g": "INT64", "f": "FP32"}
NOISE = b"\x00\xff\x13garbage\x07" * 3


class RestFront(asyncio.Protocol):
    """One connection; requests are answered in order."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._buffer = b""
        self._busy = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._site.transports.add(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._site.transports.discard(self._transport)
        self._transport = None

    def eof_received(self) -> bool:
        return False

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._next()

    def _next(self) -> None:
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if self._busy or not found:
            return
        lines = head.decode("latin-1").split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        size = int(fields.get("content-length", 0))
        if len(rest) < size:
            return
        self._buffer, self._busy = rest[size:], True
        method, path, _ = lines[0].split(" ")
        self._site.spawn(self._answer(method, path, rest[:size]))

    async def _answer(self, method: str, path: str, body: bytes) -> None:
        if path.endswith(":predict"):
            model = path.removeprefix("/v1/models/").removesuffix(":predict").partition("/")[0]
            rows = [one["x"] if isinstance(one, dict) else one for one in json.loads(body)["instances"]]
            await self._predict(model, rows, _document_of)
        elif path.endswith("/infer"):
            model = path.removeprefix("/v2/models/").partition("/")[0]
            await self._predict(model, json.loads(body)["inputs"][0]["data"], lambda found: _v2_document(model, found))
        else:
            self._write(*self._document(path))
        self._busy = False
        if self._transport is not None:
            self._next()

    def _document(self, path: str) -> tuple[int, bytes]:
        if path.startswith("/v2"):
            return self._v2_document(path)
        model, _, rest = path.removeprefix("/v1/models/").partition("/")
        if not model:
            return 400, _error("Malformed request")
        if model in self._site.script.deaf:
            return 500, _error("the server's metadata is out of order")
        if rest.endswith("metadata"):
            return 200, tfs_documents.encode_metadata(info(model))
        return 200, tfs_documents.encode_status([VersionStatus(VERSION)])

    def _v2_document(self, path: str) -> tuple[int, bytes]:
        model, _, rest = path.removeprefix("/v2/models/").partition("/")
        if path == "/v2":
            return 200, v2_documents.encode_server_metadata("bad", "1", ())  # JSON only
        if model in self._site.script.deaf:
            return 500, _error("the server's metadata is out of order")
        if rest.endswith("ready") or path.startswith("/v2/health"):
            return 200, b""
        return 200, v2_documents.encode_metadata(info(model), SIGNATURE)

    async def _predict(self, model: str, sent: list[Any], encode: Callable[[Outputs], bytes]) -> None:
        rows = tuple(int(one) for one in sent)
        call = Call(model, rows)
        fault = self._site.script.take(call)
        await self._site.pause(call, fault)
        transport = self._transport
        if transport is None:
            return
        if fault is Fault.POISON_ROW:
            self._write(400, _error(f"row {POISON} is not among {rows}"))
        elif fault in STATUSES:
            self._write(STATUSES[fault][1], _error(f"cannot run {rows}" if fault is Fault.INTERNAL else "not now"))
        else:
            self._write_wrongly(transport, encode(outputs(rows, fault if fault in ROWS else None)), fault)

    def _write_wrongly(self, transport: asyncio.Transport, body: bytes, fault: Fault | None) -> None:
        half = len(body) // 2
        match fault:
            case Fault.RESET_BEFORE | Fault.DIES:
                reset(transport)
            case Fault.HANG_UP:
                transport.close()
            case Fault.RESET_WITHIN:
                transport.write(_head(200, len(body)) + body[:half])
                reset(transport)
            case Fault.HALF_CLOSE:
                transport.write(_head(200, len(body)) + body[:half])
                transport.write_eof()
            case Fault.DRIBBLE:
                for byte in _head(200, len(body)) + body:
                    transport.write(bytes((byte,)))
            case Fault.GARBAGE:
                self._write(200, NOISE)
            case Fault.NO_PROTOCOL:
                transport.write(NOISE)
            case Fault.SHORTER:
                transport.write(_head(200, len(body) + 9) + body)
                transport.close()
            case Fault.LONGER:
                transport.write(_head(200, len(body) - 9) + body)
            case Fault.TWICE:
                other = body.replace(b"1", b"9")
                transport.write(_head(200, len(body)) + body + _head(200, len(other)) + other)
            case Fault.WRONG_TYPE:
                transport.write(_head(200, len(PAGE), "text/html") + PAGE)
            case _:
                self._write(200, body)

    def _write(self, status: int, body: bytes) -> None:
        if self._transport is not None:
            self._transport.write(_head(status, len(body)) + body)


def _head(status: int, size: int, kind: str = "application/json") -> bytes:
    return f"HTTP/1.1 {status} So\r\nContent-Type: {kind}\r\nContent-Length: {size}\r\n\r\n".encode()


def _error(text: str) -> bytes:
    return json.dumps({"error": text}).encode()


def _v2_document(model: str, found: Outputs) -> bytes:
    tensors = [
        {"name": name, "datatype": V2_TYPES[name], "shape": [len(values)], "data": values}
        for name, values in found.items()
    ]
    return json.dumps({"model_name": model, "model_version": str(VERSION), "outputs": tensors}).encode()


def _document_of(found: Outputs) -> bytes:
    names = list(found)
    rows: list[Any] = [dict(zip(names, row, strict=True)) for row in zip(*found.values(), strict=True)]
    if len(names) == 1:  # a lone output goes without its name
        rows = list(found[names[0]])
    return json.dumps({"predictions": rows}).encode()
