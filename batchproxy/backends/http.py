"""The REST door of a remote server: an exact relay. What bodies mean is not known here.

The server sees the caller's request line, headers and body, and the caller the server's answer, but for what HTTP says
belongs to one hop (RFC 9110, section 7.6.1): ``Connection`` and what it names, and the framing. Nothing is unpacked,
added or followed. Header text is Latin-1, a character for each byte. Equal heads are written, and read, once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from urllib.parse import urlsplit

from batchproxy.backends.http_connections import BrokenError, Connection, Connections, NotConnectedError
from batchproxy.backends.tls import ClientTls
from batchproxy.codecs.tfs_calls import decode_error_document
from batchproxy.core.errors import (
    BackendError,
    BackendLost,
    BackendProtocolError,
    BackendRejected,
    BackendTooBig,
    BackendUnavailable,
    Code,
)
from batchproxy.core.raw import Header, RawReply
from batchproxy.wire.budget import Budget
from batchproxy.wire.http1_client import Answer, BadAnswer, Fields, NoRoom, request_head

_HOP = frozenset(
    {
        "connection", "content-length", "expect", "host", "keep-alive", "proxy-authenticate", "proxy-authorization",
        "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip
"""Headers of one hop. ``Expect`` was met by whoever read the body; the others are written anew where needed."""

_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""Methods of which a call may be sent again, once, if its connection broke before any answer (RFC 9110, 9.2.2)."""

MAX_KNOWN = 512
"""Heads of requests that are remembered, and of answers; a caller's are those of its own requests."""

MAX_KNOWN_BYTES = 1 << 10
"""A longer head is not worth remembering."""

Told = Callable[[RawReply | BackendError], None]

_NO_LENGTH = b"Content-Length: 0\r\n\r\n"

_DEFAULT_PORTS = {"http": 80, "https": 443}

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
        base: ``http://HOST:PORT`` or ``https://HOST:PORT``, or just ``HOST:PORT``.
        tls: for ``https``; left out, the system's CAs are trusted.
        budget: of the process, for large answers; left out, nobody counts them.

    Raises:
        ConfigError: a file of ``tls`` is not what it should be.
    """

    def __init__(self, base: str, tls: ClientTls | None = None, budget: Budget | None = None) -> None:
        url = urlsplit(base if "://" in base else f"http://{base}")
        if url.scheme not in _DEFAULT_PORTS or not url.hostname:
            raise ValueError(f"{base!r} is not an address like http://HOST:PORT")
        usual = _DEFAULT_PORTS[url.scheme]
        port = url.port or usual
        host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
        self._host = host if port == usual else f"{host}:{port}"
        self.name = f"{url.scheme}://{self._host}"
        tls = tls or ClientTls()
        context = tls.context(["http/1.1"]) if url.scheme == "https" else None
        self._connections = Connections(url.hostname, port, context, tls.server_name, budget)
        self._closed = False
        self._heads: dict[tuple[str, Sequence[Header]], bytes] = {}
        self._fields: dict[Fields, tuple[tuple[str, str], ...]] = {}

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
        if self._closed:
            raise BackendUnavailable(f"{self.name}: the connection was closed on our side")
        try:
            head = self._head(method, path, headers, len(body))
            answer = await self._answer(method, head, body, timeout_s)
        except (BadAnswer, NotConnectedError, BrokenError, TimeoutError, ValueError) as error:
            raise _translated(self.name, error) from error
        reply = self._reply(answer)
        if reply.status >= 400:
            raise _refused(self.name, reply)
        return reply

    def begin(
        self, method: str, path: str, headers: Sequence[Header], body: bytes, timeout_s: float | None, told: Told
    ) -> Begun | None:
        """As ``call``, over a connection that is free and without a task; None: there is none, nothing was sent.

        Args:
            method: POST; others may have to be sent twice.
            path: path and query as they are to be sent.
            headers: of the caller.
            body: as it is to be sent; empty for none.
            timeout_s: for the call as a whole.
            told: gets the answer, or what ``call`` would raise: once, later, and not after ``cancel()``.
        """
        connection = self._connections.kept() if method == "POST" and not self._closed else None
        if connection is None:
            return None
        begun = Begun(self, connection, told)
        until = None if timeout_s is None else connection.loop.time() + timeout_s
        try:
            head = self._head(method, path, headers, len(body))
        except ValueError:
            self._connections.keep(connection)
            return None
        connection.ask(method, head, body, until, begun)
        return begun

    def outcome(self, answer: Answer | Exception) -> RawReply | BackendError:
        """What becomes of a call that ended so."""
        if isinstance(answer, Exception):
            return _translated(self.name, answer)
        reply = self._reply(answer)
        return reply if reply.status < 400 else _refused(self.name, reply)

    def _reply(self, answer: Answer) -> RawReply:
        return RawReply(answer.status, answer.reason.decode("latin-1"), self._kept(answer.fields), answer.body)

    def _head(self, method: str, path: str, headers: Sequence[Header], size: int) -> bytes:
        """The head of a request; of those that differ in their length only, all but that is written once."""
        if method != "POST" or type(headers) is not tuple:
            return request_head(method, path, self._host, _forwarded(headers), size)
        begin = self._heads.get((path, headers))
        if begin is None:
            begin = request_head(method, path, self._host, _forwarded(headers), 0).removesuffix(_NO_LENGTH)
            if len(begin) <= MAX_KNOWN_BYTES:
                if len(self._heads) >= MAX_KNOWN:
                    self._heads.clear()
                self._heads[path, headers] = begin
        return b"%bContent-Length: %d\r\n\r\n" % (begin, size)

    def _kept(self, fields: Fields) -> tuple[tuple[str, str], ...]:
        """Those of an answer's fields that its caller is to see."""
        kept = self._fields.get(fields)
        if kept is None:
            kept = tuple(_own((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in fields))
            if sum(len(name) + len(value) for name, value in fields) <= MAX_KNOWN_BYTES:
                if len(self._fields) >= MAX_KNOWN:
                    self._fields.clear()
                self._fields[fields] = kept
        return kept

    async def _answer(self, method: str, head: bytes, body: bytes, timeout_s: float | None) -> Answer:
        until = None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s
        again = method in _IDEMPOTENT
        connection = self._connections.kept()
        while True:
            if connection is None:
                connection = await self._connections.new(until)
            waiter: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
            connection.ask(method, head, body, until, waiter)
            try:
                return await waiter
            except BrokenError as error:
                if not (again and error.silent) or self._closed:
                    raise
            finally:
                connection.leave(waiter)
            again, connection = False, None

    async def aclose(self) -> None:
        """Close the connections; calls under way are lost."""
        self._closed = True
        await self._connections.aclose()


class Begun:
    """A call under way that stands where a future would: its end is told in the turn in which it comes."""

    __slots__ = ("_connection", "_done", "_door", "_told")

    def __init__(self, door: RestDoor, connection: Connection, told: Told) -> None:
        self._door = door
        self._connection = connection
        self._told = told
        self._done = False

    def done(self) -> bool:
        """Whether it ended, or was cancelled."""
        return self._done

    def set_result(self, answer: Answer, /) -> None:
        """The server's."""
        self._done = True
        self._told(self._door.outcome(answer))

    def set_exception(self, error: Exception, /) -> None:
        """There will be no answer."""
        self._done = True
        self._told(self._door.outcome(error))

    def cancel(self) -> None:
        """Nobody waits for it any more: hang up."""
        if not self._done:
            self._done = True
            self._connection.leave(self)


def _own(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Headers that are not of one hop."""
    headers = list(headers)
    named = {name.strip().lower() for key, value in headers if key == "connection" for name in value.split(",")}
    return [(name, value) for name, value in headers if name not in _HOP and name not in named]


def _forwarded(headers: Sequence[Header]) -> list[tuple[str, str]]:
    return _own((name, value if isinstance(value, str) else value.decode("latin-1")) for name, value in headers)


def _translated(name: str, error: Exception) -> BackendError:
    """The one table from a connection's errors to ours."""
    match error:
        case NotConnectedError():
            return BackendUnavailable(f"{name}: {error}")
        case TimeoutError():
            return BackendRejected(f"{name}: no answer in time", code=Code.DEADLINE_EXCEEDED)
        case NoRoom():
            # the server has run it: a batch is halved, a lone call is not sent for as much once more
            return BackendTooBig(f"{name}: {error}", code=Code.UNAVAILABLE)
        case BadAnswer():
            return BackendProtocolError(f"{name}: the answer is no HTTP: {error}")
        case ValueError():
            return BackendRejected(f"{name}: the request cannot be sent: {error}")
        case _:
            return BackendLost(f"{name}: {error}")


def _refused(name: str, reply: RawReply) -> BackendError:
    text = decode_error_document(reply.body, f"{reply.status} {reply.message}")
    if reply.status == 503:
        return BackendUnavailable(text, raw=reply)
    if reply.status == 502:
        return BackendLost(f"{name}: {text}", raw=reply)
    by_class = Code.INVALID_ARGUMENT if reply.status < 500 else Code.INTERNAL
    return BackendRejected(text, code=_CODES.get(reply.status, by_class), raw=reply)
