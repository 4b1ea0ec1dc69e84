"""The head of an HTTP/1.1 request: request line and fields, from bytes to one checked object. No bodies, no state.

``httptools`` (llhttp, in its strict setting) judges the syntax; what it has no opinion about is judged here. A head
is parsed in one piece, once it is whole, so that no cut of the input can change what is made of it. Equal bytes make
equal heads, and callers repeat themselves: ``Heads`` remembers them, so that most requests cost one look-up.
Refused heads are never remembered.

Sources: RFC 9112 (HTTP/1.1), RFC 9110 (HTTP); statuses as libevent gives them under TF Serving, where it has them.
"""

from __future__ import annotations

import re
from collections.abc import ItemsView, Iterator, Mapping
from typing import NoReturn, TypeVar, overload

from httptools import HttpParserError, HttpParserInvalidMethodError, HttpParserUpgrade, HttpRequestParser

from batchproxy.wire.base import Limits

CHUNKED = -1
"""A head's ``length`` where the body comes in chunks."""

MAX_KNOWN = 512
"""Heads that are remembered."""

MAX_SEEN = 4096
"""Heads whose hash is kept: one is remembered when it comes again. A number in each head would flood us otherwise."""

MAX_KNOWN_BYTES = 1 << 10
"""A longer head is not worth remembering; both limits together bound the memory to about 2 MiB."""

T = TypeVar("T")

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_FIRST = re.compile(_TOKEN)
_AUTHORITY = re.compile(rb"https?://[^/?#]*", re.IGNORECASE)
_METHOD = re.compile(_TOKEN + rb"+ \S")
_VERSION = re.compile(rb" HTTP/(\d)\.(\d)\r\n")


class Refused(Exception):
    """The peer's request is answered by the wire itself, and the connection closed.

    Args:
        status: HTTP's.
        why: what was wrong; shown to the caller.
    """

    def __init__(self, status: int, why: str) -> None:
        super().__init__(status, why)
        self.status = status
        self.why = why


class Headers(Mapping[str, str]):
    """Fields by case-insensitive name; decoded when somebody asks. Latin-1, as RFC 9110, 5.5 has it.

    Args:
        fields: lower-case name to value.

    Attributes:
        passed_on: the owner's: what goes on to a server; requests with equal heads share it. None: not asked yet.
        partition: the owner's, likewise: what calls with this head must share to ride together, and for whom.
        terms: the owner's, likewise: how long a call with this head may take, and its priority; None: not asked yet.
    """

    __slots__ = ("_fields", "_text", "partition", "passed_on", "terms")

    def __init__(self, fields: Mapping[bytes, bytes]) -> None:
        self._fields = fields
        self.passed_on: tuple[tuple[str, str | bytes], ...] | None = None
        self.partition: tuple[object, tuple[tuple[str, str], ...]] | None = None
        self.terms: tuple[float | None, int | None] | None = None
        self._text: dict[str, str] | None = None

    def __getitem__(self, name: str) -> str:
        return self._fields[name.lower().encode("latin-1")].decode("latin-1")

    @overload
    def get(self, key: str, /) -> str | None: ...

    @overload
    def get(self, key: str, /, default: str | T) -> str | T: ...

    def get(self, key: str, /, default: str | T | None = None) -> str | T | None:
        """As a dict's."""
        value = self._fields.get(key.lower().encode("latin-1", "replace"))
        return default if value is None else value.decode("latin-1")

    def items(self) -> ItemsView[str, str]:
        """As a dict's; for whoever passes all of them on."""
        if self._text is None:
            self._text = {name.decode("latin-1"): value.decode("latin-1") for name, value in self._fields.items()}
        return self._text.items()

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self.items())

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        return f"Headers({dict(self)!r})"


class Head:
    """A request's head; equal requests share one.

    Attributes:
        method: as sent.
        path: path and query as sent, undecoded.
        headers: the fields.
        length: of the body, in bytes; ``CHUNKED`` where only its end will tell.
        keep_alive: whether the caller wants to send another request.
        old: whether it speaks HTTP/1.0.
        awaits: whether it waits for ``100 Continue`` before it sends the body.
        gzip: whether the body is compressed.
        usual: whether none of this matters: HTTP/1.1, to go on, a body of known length as it is, and not a HEAD.
    """

    __slots__ = ("awaits", "gzip", "headers", "keep_alive", "length", "method", "old", "path", "usual")

    def __init__(self, method: str, path: str, headers: Headers) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        self.length = 0
        self.keep_alive = True
        self.old = False
        self.awaits = False
        self.gzip = False
        self.usual = False


NO_HEAD = Head("", "", Headers({}))
"""Of a request that could not be read."""

NEVER = Head("", "", Headers({}))
"""Of no request at all: one byte long, it would make it shorter than nothing."""
NEVER.length = -2


class Heads:
    """Parses heads, and remembers them.

    Args:
        limits: of line, head, fields and body.
    """

    def __init__(self, limits: Limits) -> None:
        self.known: dict[bytes, Head] = {}
        self._seen: set[int] = set()
        self._limits = limits

    def parse(self, raw: bytes) -> Head:
        """The head in these bytes, its empty line included.

        Raises:
            Refused: this head is not served.
        """
        head = parse_head(raw, self._limits)
        number = hash(raw)
        if number in self._seen:
            if len(raw) <= MAX_KNOWN_BYTES:
                if len(self.known) >= MAX_KNOWN:
                    self.known.clear()
                self.known[raw] = head
        else:
            if len(self._seen) >= MAX_SEEN:
                self._seen.clear()
            self._seen.add(number)
        return head


class _Seen:
    """What httptools tells of one head."""

    __slots__ = ("pairs", "url", "whole")

    def __init__(self) -> None:
        self.url = b""
        self.pairs: list[tuple[bytes, bytes]] = []
        self.whole = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.pairs.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.whole = True


def check_start(data: bytes, limits: Limits) -> None:
    """Look at the beginning of a head that is not whole, or not right: what can be refused without waiting for more?

    What is found depends on where in the bytes it is, not on how many of them are there already.

    Args:
        data: from the head's first byte on, not empty; what follows a whole head is left out.
        limits: of line and head.

    Raises:
        Refused: 400, 414 or 431.
    """
    if _FIRST.match(data) is None:
        raise Refused(400, "this is not an HTTP request")
    data = data[: limits.head_bytes]
    bare = _bare_line_feed(data)
    line_end = limits.line_bytes + 2
    if len(data) >= line_end and data.find(b"\r\n", 0, line_end) < 0 and not 0 <= bare < line_end:
        raise Refused(414, f"the request line is longer than {limits.line_bytes} bytes")
    if bare >= 0:
        raise Refused(400, "a line ends with a bare line feed")
    if len(data) >= limits.head_bytes and not data.endswith(b"\r\n\r\n"):
        raise Refused(431, f"the request's head is longer than {limits.head_bytes} bytes")


def _bare_line_feed(data: bytes) -> int:
    """Where the first line feed is that follows no carriage return; -1 for nowhere."""
    if data.count(b"\n") == data.count(b"\r\n"):
        return -1
    at = data.find(b"\n")
    while data[at - 1 : at] == b"\r":
        at = data.find(b"\n", at + 1)
    return at


def parse_head(raw: bytes, limits: Limits) -> Head:
    """The head in these bytes, which end with its empty line.

    Raises:
        Refused: 400, 413, 414, 417, 431, 501 or 505.
    """
    line_end = raw.find(b"\r\n", 0, limits.line_bytes + 2)
    if line_end < 0 or raw.count(b"\n") != raw.count(b"\r\n"):
        check_start(raw, limits)
    seen = _Seen()
    parser = HttpRequestParser(seen)
    try:
        parser.feed_data(raw)
    except HttpParserUpgrade:
        pass  # an offer that we may pass over (RFC 9110, 7.8)
    except HttpParserError as error:
        _refuse_broken(raw, error, limits)
    method = parser.get_method()
    if not (seen.whole and raw.startswith(method)):  # llhttp stops at PRI, and passes over a line feed before a method
        _refuse_broken(raw, HttpParserError("the request's head is malformed"), limits)
    if len(seen.pairs) > limits.head_fields:
        raise Refused(431, f"the request has more than {limits.head_fields} header fields")
    fields: dict[bytes, bytes] = {}
    hosts = 0
    for name, value in seen.pairs:
        known = fields.get(name)
        comma = b"; " if name == b"cookie" else b", "  # RFC 6265, 4.2.1
        fields[name] = value if known is None else known + comma + value
        hosts += name == b"host"
    head = Head(method.decode("latin-1"), _origin_form(seen.url).decode("latin-1"), Headers(fields))
    version = raw[line_end - 8 : line_end]
    if version == b"HTTP/1.0":
        head.old = True
    elif version != b"HTTP/1.1":
        raise Refused(505, "this server speaks HTTP/1.1, HTTP/1.0 and HTTP/2")
    if hosts > 1 or (hosts == 0 and not head.old):
        raise Refused(400, "a request has exactly one Host")  # RFC 9112, 3.2
    if head.method == "CONNECT":
        raise Refused(501, "")  # libevent's page says no more
    head.keep_alive = _keep_alive(fields.get(b"connection"), head.old)
    head.length = body_length(fields, head.old, limits)
    expectation = fields.get(b"expect")
    if expectation is not None and not head.old:
        if expectation.lower() != b"100-continue":
            raise Refused(417, "the only expectation that can be met is 100-continue")
        head.awaits = head.length != 0
    head.gzip = b"gzip" in fields.get(b"content-encoding", b"")  # as TF Serving looks for it
    head.usual = not (head.old or head.gzip or head.length == CHUNKED or head.method == "HEAD") and head.keep_alive
    return head


def _origin_form(target: bytes) -> bytes:
    """A target without scheme and authority: a server must take it with them, too (RFC 9112, 3.2.2)."""
    if target[:1] == b"/" or (authority := _AUTHORITY.match(target)) is None:
        return target
    path = target[authority.end() :]
    return path if path[:1] == b"/" else b"/" + path


def _refuse_broken(raw: bytes, error: HttpParserError, limits: Limits) -> NoReturn:
    """Say what is wrong with a head that llhttp refuses.

    Raises:
        Refused: always.
    """
    check_start(raw, limits)  # what was to be refused before the head was whole stays the answer
    if isinstance(error, HttpParserInvalidMethodError) and _METHOD.match(raw) is not None:
        raise Refused(501, "") from error
    version = _VERSION.search(raw)
    if version is not None and raw.find(b"\r\n") == version.end() - 2 and version[1] + version[2] not in {b"10", b"11"}:
        raise Refused(505, "this server speaks HTTP/1.1, HTTP/1.0 and HTTP/2") from error
    raise Refused(400, str(error) or "the request's head is malformed") from error


def _keep_alive(connection: bytes | None, old: bool) -> bool:
    """Whether a ``Connection`` field asks for another request (RFC 9112, 9.3)."""
    if connection is None:
        return not old
    options = {option.strip() for option in connection.lower().split(b",")}
    return b"close" not in options and (not old or b"keep-alive" in options)


def body_length(fields: Mapping[bytes, bytes], old: bool, limits: Limits) -> int:
    """How long the body is (RFC 9112, 6.3); ``CHUNKED`` where only its end will tell.

    Args:
        fields: lower-case name to value. llhttp has refused what contradicts itself; it is refused here again.
        old: whether the request is HTTP/1.0.
        limits: of the body.

    Raises:
        Refused: 400, 413 or 501.
    """
    coding, length = fields.get(b"transfer-encoding"), fields.get(b"content-length")
    if coding is not None:
        if length is not None:
            raise Refused(400, "Content-Length and Transfer-Encoding contradict each other")
        if old:
            raise Refused(400, "HTTP/1.0 has no Transfer-Encoding")
        if coding.strip().lower() != b"chunked":
            raise Refused(501, "the only transfer coding that is known is chunked")
        return CHUNKED
    if length is None:
        return 0
    if not length.strip().isdigit():
        raise Refused(400, "Content-Length is not a number")
    if int(length) > limits.body_bytes:
        raise Refused(413, f"the request's body is longer than {limits.body_bytes} bytes")
    return int(length)
