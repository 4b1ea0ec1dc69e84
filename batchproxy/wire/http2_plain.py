"""Plain requests over HTTP/2, each being its stream. No frames are read here, and no gRPC."""

from __future__ import annotations

import re
from collections.abc import Mapping

from batchproxy.wire.gzip import inflated
from batchproxy.wire.headers import literal
from batchproxy.wire.http1_answers import PAGE, page
from batchproxy.wire.http1_head import Headers
from batchproxy.wire.http2_head import Refusal
from batchproxy.wire.http2_limits import Http2Limits
from batchproxy.wire.http2_streams import Stream
from batchproxy.wire.unpack import is_quick

_STATUS_INDEX = {200: 8, 204: 9, 206: 10, 304: 11, 400: 12, 404: 13, 500: 14}  # RFC 7541, appendix A
_NOT_SENT = frozenset(
    {"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "content-length"}
)
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


class Http2Exchange(Stream):
    """A plain request; see ``base.HttpExchange``."""

    __slots__ = ()

    @property
    def method(self) -> str:
        return self.head.method

    @property
    def path(self) -> str:
        return self.head.path

    @property
    def headers(self) -> Headers:
        return self.head.headers

    @property
    def body(self) -> bytes:
        return self.message or b""

    def answer(self, status: int, body: bytes, headers: Mapping[str, str], reason: str | None = None) -> None:
        """Say the answer; nothing happens where the caller is gone.

        Args:
            status: 200 to 599.
            body: not sent in answer to HEAD, nor with 204 and 304.
            headers: the answer's own; those that belong to a connection are left out.
            reason: HTTP/2 has none.

        Raises:
            RuntimeError: the answer was given before. This is a bug.
            ValueError: a header that HTTP does not allow. This is a bug.
        """
        index = _STATUS_INDEX.get(status)
        fields = [bytes((0x80 | index,)) if index else b"\x08\x03%03d" % status]
        fields += [_field(name, value) for name, value in headers.items() if name.lower() not in _NOT_SENT]
        if status not in {204, 304}:
            fields.append(literal(b"content-length", b"%d" % len(body)))
        silent = self.head.method == "HEAD" or status in {204, 304}
        carrier = self.release()
        if carrier is not None:
            carrier.respond(self, b"".join(fields), b"" if silent else body, None)

    def take(self, data: bytes, limits: Http2Limits) -> None:
        extra = self.extended(limits.window_bytes)
        extra.received += len(data)
        extra.parts.append(data)
        if max(extra.received, extra.wanted) > limits.message_bytes:
            raise Refusal(413, f"the body has more than {limits.message_bytes} bytes")

    def complete(self, limits: Http2Limits) -> None:
        extra = self.extra
        if extra is None:
            self.message = b""
            return
        self.message = b"".join(extra.parts)
        extra.parts = []
        if "gzip" in self.head.headers.get("content-encoding", ""):  # as TF Serving looks for it
            if is_quick(self.message):
                self.message = self.inflated(limits)
            else:
                extra.compressed = 1

    def inflated(self, limits: Http2Limits) -> bytes:
        return inflated(self.body, limits.inflated_bytes)

    def refuse(self, refusal: Refusal) -> None:
        self.answer(refusal.code, page(refusal.code, refusal.text), {**PAGE, **refusal.fields})


def _field(name: str, value: str) -> bytes:
    if _NAME.fullmatch(name) is None or _VALUE.fullmatch(value) is None:
        raise ValueError(f"{name!r}: {value!r} is no header field. This is a bug.")
    return literal(name.lower().encode("ascii"), value.strip().encode("latin-1"))
