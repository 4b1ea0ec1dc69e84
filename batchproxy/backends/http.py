"""The REST door of a remote server, on aiohttp: an exact relay. What bodies mean is not known here.

The server sees the caller's request line, headers and body, and the caller the server's answer, but for what HTTP says
belongs to one hop (RFC 9110, section 7.6.1): ``Connection`` and what it names, and the framing. Nothing is unpacked,
added, followed or remembered. Header text is Latin-1, a character for each byte.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from batchproxy.codecs.tfs_calls import decode_error_document
from batchproxy.core.errors import (
    BackendError,
    BackendLost,
    BackendProtocolError,
    BackendRejected,
    BackendUnavailable,
    Code,
)
from batchproxy.core.raw import Header, RawReply

CONNECT_S = 2.0
"""How long connecting may take; as for gRPC."""

IDLE_S = 15.0
"""A connection is kept so long without a call: well below the 50 s after which TF Serving (libevent) closes it. A call
into a connection just closed may have run, and only who knows the model may send it again."""

MAX_LINE_BYTES = 1 << 20
"""Of an answer's status line, and of each of its headers; aiohttp's 8 KiB would refuse what callers may take."""

_LARGE = 1 << 20
"""aiohttp warns of a larger body that comes as plain bytes, and writes any other in pieces."""

_HOP = frozenset(
    {
        "connection", "content-length", "expect", "host", "keep-alive", "proxy-authenticate", "proxy-authorization",
        "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip
"""Headers of one hop. ``Expect`` was met by whoever read the body; the others are written anew where needed."""

_AUTOMATIC = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")

_CODES = {
    400: Code.INVALID_ARGUMENT,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.NOT_FOUND,
    408: Code.DEADLINE_EXCEEDED,
    409: Code.ABORTED,
    413: Code.RESOURCE_EXHAUSTED,
    422: Code.INVALID_ARGUMENT,
    429: Code.RESOURCE_EXHAUSTED,
    499: Code.CANCELLED,
    500: Code.INTERNAL,
    501: Code.UNIMPLEMENTED,
    504: Code.DEADLINE_EXCEEDED,
}
"""R3's table, read backwards from TF Serving's own (``core.errors.HTTP_STATUS``). Others go by their class."""


class RestDoor:
    """Connections to one server, as many as there are calls under way.

    Args:
        base: ``http://HOST:PORT``, or just ``HOST:PORT``.
    """

    def __init__(self, base: str) -> None:
        url = URL(base if "://" in base else f"http://{base}")
        self.name = str(url.origin())
        self._url = url
        self._session: aiohttp.ClientSession | None = None  # made on the loop that uses it
        self._closed = False

    def _open(self) -> aiohttp.ClientSession:
        if self._closed:
            raise BackendUnavailable(f"{self.name}: the connection was closed on our side")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=_AUTOMATIC,
                auto_decompress=False,
                max_line_size=MAX_LINE_BYTES,
                max_field_size=MAX_LINE_BYTES,
            )
        return self._session

    async def call(
        self, method: str, path: str, headers: Sequence[Header], body: bytes, timeout_s: float | None
    ) -> RawReply:
        """Make one call; cancelling it closes its connection.

        Args:
            method: HTTP's.
            path: path and query as they are to be sent.
            headers: of the caller.
            body: as it is to be sent; empty for none.
            timeout_s: for the call as a whole.

        Raises:
            BackendUnavailable: it did not run: no connection, or 503.
            BackendLost: it may have run: the connection broke, or 502.
            BackendRejected: any other status from 400, and DEADLINE_EXCEEDED after ``timeout_s``.
            BackendProtocolError: the answer is no HTTP.
        """
        session = self._open()
        try:
            async with session.request(
                method,
                self._target(path),
                headers=CIMultiDict(_forwarded(headers)),
                data=(body if len(body) <= _LARGE else io.BytesIO(body)) if body else None,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_S),
            ) as response:
                answer = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise _translated(self.name, error) from error
        reason = (response.reason or "").encode("utf-8", "surrogateescape").decode("latin-1")
        kept = _own((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in response.raw_headers)
        reply = RawReply(response.status, reason, kept, answer)
        if reply.status >= 400:
            raise _refused(self.name, reply)
        return reply

    def _target(self, path: str) -> URL:
        """All of ``path`` as yarl's path, query and all: so it goes out as it is, down to a lone question mark."""
        url = self._url
        return URL.build(scheme=url.scheme, authority=url.raw_authority, path=_as_sent(path), encoded=True)

    async def aclose(self) -> None:
        """Close the connections; calls under way are lost."""
        self._closed = True
        if self._session is not None:
            await self._session.close()


def _own(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Headers that are not of one hop."""
    headers = list(headers)
    named = {name.strip().lower() for key, value in headers if key == "connection" for name in value.split(",")}
    return [(name, value) for name, value in headers if name not in _HOP and name not in named]


def _forwarded(headers: Sequence[Header]) -> list[tuple[str, str]]:
    texts = ((name, value if isinstance(value, str) else value.decode("latin-1")) for name, value in headers)
    return [(name, _as_sent(value)) for name, value in _own(texts)]


def _as_sent(text: str) -> str:
    """What aiohttp must be given, which encodes as UTF-8, so that the bytes are those of ``text`` in Latin-1.

    Bytes that are no UTF-8 cannot be had: then it is the same text in other bytes.
    """
    if text.isascii():
        return text
    try:
        return text.encode("latin-1").decode()
    except UnicodeError:
        return text


def _translated(name: str, error: Exception) -> BackendError:
    """The one table from aiohttp's errors to ours."""
    text = f"{name}: {str(error) or type(error).__name__}"
    match error:
        case aiohttp.ClientConnectorError() | aiohttp.ConnectionTimeoutError():
            return BackendUnavailable(text)
        case TimeoutError():
            return BackendRejected(f"{name}: no answer in time", code=Code.DEADLINE_EXCEEDED)
        case aiohttp.InvalidURL() | ValueError():
            return BackendRejected(f"{name}: the request cannot be sent: {error}")
        case aiohttp.ClientResponseError():
            return BackendProtocolError(f"{name}: the answer is no HTTP: {error.message}")
        case _:
            return BackendLost(text)


def _refused(name: str, reply: RawReply) -> BackendError:
    text = decode_error_document(reply.body, f"{reply.status} {reply.message}")
    if reply.status == 503:
        return BackendUnavailable(text, raw=reply)
    if reply.status == 502:
        return BackendLost(f"{name}: {text}", raw=reply)
    by_class = Code.INVALID_ARGUMENT if reply.status < 500 else Code.INTERNAL
    return BackendRejected(text, code=_CODES.get(reply.status, by_class), raw=reply)
