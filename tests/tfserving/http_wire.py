"""HTTP/1.x on one connection, as libevent speaks it: reading requests, writing answers. Nothing about models."""

from __future__ import annotations

import email.utils
import re
import zlib
from collections.abc import Callable, Mapping
from io import BufferedIOBase
from typing import NamedTuple

METHODS = {"GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"}
"""Those that TF Serving lets through; others are answered 501 (facts 1.2)."""

TARGET = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?#-]|%[0-9A-Fa-f]{2})*")
"""What libevent takes for a URI."""

AUTHORITY = re.compile(r"^https?://[^/?#]*", re.IGNORECASE)
"""Of an absolute target, of which libevent's caller looks at the path alone."""

REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
    504: "Gateway Time-out",
}
"""libevent's phrases for the answers of this server; the 4xx outside its table are ``Client Error``."""


class Request(NamedTuple):
    """One request.

    Attributes:
        method: of HTTP.
        target: path and query, as sent.
        minor: of HTTP/1.x.
        headers: by lower-case name.
        body: inflated where it came compressed.
        raw: all bytes of head and body, as they came.
    """

    method: str
    target: str
    minor: int
    headers: Mapping[str, str]
    body: bytes
    raw: bytes


class Answer(NamedTuple):
    """One answer. Without a content type, libevent's own is added; an HTML page ends the connection."""

    status: int
    body: bytes
    content_type: str | None = "application/json"
    extra: tuple[tuple[str, str], ...] = ()


class NotHttp(Exception):
    """The request cannot be read at all."""


def page(status: int) -> Answer:
    """libevent's error page."""
    reason = REASONS[status]
    html = f"<HTML><HEAD>\n<TITLE>{status} {reason}</TITLE>\n</HEAD><BODY>\n<H1>{reason}</H1>\n</BODY></HTML>\n"
    return Answer(status, html.encode(), "text/html")


def read_request(stream: BufferedIOBase, go_on: Callable[[], None]) -> Request | None:
    """The next request; None at the end of the connection.

    Args:
        stream: what the client sends.
        go_on: tells a client that waits for it to send the body.

    Raises:
        NotHttp: it is none.
    """
    raw = bytearray()

    def line() -> str:
        found = stream.readline()
        raw.extend(found)
        return found.decode("latin-1").rstrip("\r\n")

    first = line()
    if not raw:
        return None
    parsed = re.fullmatch(r"(\S+) (\S+) HTTP/1\.([01])", first)
    if parsed is None:
        raise NotHttp(first)
    headers: dict[str, str] = {}
    while header := line():
        name, _, value = header.partition(":")
        headers[name.lower()] = value.strip()
    if headers.get("expect", "").lower() == "100-continue":
        go_on()
    if "chunked" in headers.get("transfer-encoding", "").lower():
        body = bytearray()
        while size := int(line().partition(";")[0], 16):
            chunk = stream.read(size)
            raw += chunk
            body += chunk
            line()
        while line():  # trailers
            pass
    else:
        body = bytearray(stream.read(int(headers.get("content-length", "0"))))
        raw += body
    content = _inflated(bytes(body)) if "gzip" in headers.get("content-encoding", "") else bytes(body)
    target = AUTHORITY.sub("", parsed[2]) or "/"
    return Request(parsed[1], target, int(parsed[3]), headers, content, bytes(raw))


def _inflated(body: bytes) -> bytes:
    """What cannot be inflated is empty (facts 1.11), and so is more than one file, or anything behind it."""
    inflater = zlib.decompressobj(wbits=31)
    try:
        text = inflater.decompress(body)
    except zlib.error:
        return b""
    return text if inflater.eof and not inflater.unused_data else b""


def stays_open(request: Request, answer: Answer) -> bool:
    """Whether another request may follow."""
    wish = request.headers.get("connection", "").lower()
    return answer.content_type != "text/html" and (wish != "close" if request.minor else wish == "keep-alive")


def written(request: Request, answer: Answer) -> bytes:
    """The bytes of an answer, its headers in libevent's order."""
    headers: list[tuple[str, str]] = []
    if answer.content_type is not None:
        headers.append(("Content-Type", answer.content_type))
    headers.extend(answer.extra)
    goes_on = stays_open(request, answer)
    if request.minor:
        headers.append(("Date", email.utils.formatdate(usegmt=True)))
    elif goes_on:
        headers.append(("Connection", "keep-alive"))
    if request.method != "HEAD" and (request.minor or goes_on):
        headers.append(("Content-Length", str(len(answer.body))))
    if answer.content_type is None:
        headers.append(("Content-Type", "text/html; charset=ISO-8859-1"))
    if request.minor and not goes_on:
        # On error pages it is set first, on others as libevent's last addition.
        headers.insert(1 if answer.content_type == "text/html" else len(headers), ("Connection", "close"))
    reason = REASONS.get(answer.status, "Client Error")
    lines = [f"HTTP/1.{request.minor} {answer.status} {reason}", *(f"{name}: {value}" for name, value in headers)]
    head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
    return head if request.method == "HEAD" else head + answer.body
