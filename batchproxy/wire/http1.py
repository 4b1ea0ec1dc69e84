"""The server's end of one HTTP/1.1 or 1.0 connection: bytes in, requests out; answers in, bytes out. No socket here.

Requests are framed here: a head is looked for, parsed whole (``http1_head``), and its body counted off or unchunked.
So what comes out does not depend on how the bytes were cut. Several requests may be under way (pipelining); their
answers leave in the requests' order. Whatever is not clearly one well-formed request is refused with libevent's page,
and the connection ends: what follows a request whose end is in doubt must never be taken for another one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

from batchproxy.wire.base import Limits
from batchproxy.wire.gzip import inflated
from batchproxy.wire.http1_answers import CLOSE, CONTINUE, NO_BODY, OLD, PAGE, Answers, has_body, page
from batchproxy.wire.http1_chunks import Chunks
from batchproxy.wire.http1_head import CHUNKED, Head, Headers, Heads, Refused, check_start
from batchproxy.wire.unpack import is_quick

MAX_BLANK_LINES = 4
"""Empty lines before a request; RFC 9112, 2.2, asks a server to overlook one."""

_NO_HEAD = Head("", "", Headers({}))  # of a request that could not be read
_END = b"\r\n\r\n"


class Http1Exchange:
    """One request and the place for its answer; see ``base.HttpExchange``.

    Attributes:
        compressed: the body is as it was sent, and large: call ``inflate`` where nobody is kept waiting.
        connection: whose it is, until it is answered or given up. For the connection's use, as those below.
        held: bytes of its body that count as held.
        mode: flags of what the answer's head depends on.
        ready: the answer, head and body.
    """

    __slots__ = ("body", "compressed", "connection", "headers", "held", "method", "mode", "on_cancel", "path", "ready")

    def __init__(self, connection: Http1Connection, head: Head, body: bytes, mode: int) -> None:
        self.method = head.method
        self.path = head.path
        self.headers = head.headers
        self.body = body
        self.on_cancel: Callable[[], object] | None = None
        self.connection: Http1Connection | None = connection
        self.mode = mode
        self.compressed = False
        self.held = 0
        self.ready: list[bytes] | None = None

    def answer(self, status: int, body: bytes, headers: Mapping[str, str], reason: str | None = None) -> None:
        """Say the answer; nothing happens where the caller is gone.

        Raises:
            RuntimeError: it was said before. This is a bug.
            ValueError: a header that would end its line. This is a bug.
        """
        connection = self.connection
        if connection is None:
            if self.ready is None:
                return
            raise RuntimeError(f"{self.method} {self.path} was answered twice. This is a bug.")
        connection.settle(self, status, body, headers, reason)

    def inflate(self, limit: int) -> None:
        """Replace the body by what it is without its compression."""
        self.body = inflated(self.body, limit)
        self.compressed = False

    def gone(self) -> bool:
        """Whether the caller left, or was answered."""
        return self.connection is None

    def __repr__(self) -> str:
        return f"<Http1Exchange {self.method} {self.path}, {len(self.body)} bytes>"


class Http1Connection:
    """The server's end of a connection; see ``base.Connection``.

    Args:
        limits: what the peer may cost.
        heads: parses request heads; shared by connections with equal limits.
        answers: writes answer heads; shared likewise.
        now: monotonic seconds.
    """

    __slots__ = (
        "_answers", "_blank", "_chunks", "_continue_later", "_draining", "_ended", "_got", "_head", "_heads",
        "_held_bytes", "_known", "_known_answers", "_left", "_limits", "_open", "_out", "_parts", "_paused", "_rest",
        "_since", "_untimed", "closing", "full",
    )  # fmt: skip

    def __init__(self, limits: Limits, heads: Heads, answers: Answers, now: float) -> None:
        self.closing = False
        self.full = False
        self._limits = limits
        self._heads = heads
        self._answers = answers
        self._known, self._known_answers = heads.known, answers.known
        self._open: deque[Http1Exchange] = deque()  # in the order of the requests
        self._held_bytes = 0  # of their bodies
        self._out: list[bytes] = []
        self._rest = b""  # the beginning of a head, or what is held back
        self._blank = 0
        self._head: Head | None = None  # whose body is being read
        self._parts: list[bytes] = []
        self._left = 0
        self._got = 0
        self._chunks: Chunks | None = None
        self._continue_later = False
        self._ended = False  # no further request is taken in
        self._draining = False
        self._paused = False
        self._since = now  # when the wait for what comes next began
        self._untimed = False  # that wait begins with the next tick

    # -- in ----------------------------------------------------------------------------------------

    def feed(self, data: bytes, now: float) -> list[Http1Exchange]:
        """See ``base.Connection``."""
        found: list[Http1Exchange] = []
        if self._ended:
            return found
        self.full = self._paused
        if self._rest:
            data = self._rest + data
            self._rest = b""
        elif self._head is None:
            self._since = now
            self._untimed = False
        try:
            self._read(data, now, found)
        except Refused as refused:
            self._refuse(refused)
        return found

    def _read(self, data: bytes, now: float, found: list[Http1Exchange]) -> None:
        position, size = 0, len(data)
        while position < size and not self._ended:
            head = self._head
            if head is None:
                if (self._open or self._paused) and self._busy():
                    self._rest = data[position:]
                    self.full = True
                    return
                end = data.find(_END, position, position + self._limits.head_bytes) + 4
                raw = data if position == 0 and end == size else data[position:end]
                head = self._known.get(raw)
                if head is None:
                    if data[position] == 13:  # CR
                        position = self._blank_line(data, position)
                        continue
                    if end < 4:
                        self._rest = data[position:]
                        check_start(self._rest, self._limits)
                        return
                    head = self._heads.parse(raw)
                position = end
                left = head.length
                if left == 0 or 0 < left <= size - position:
                    end = position + left
                    found.append(self._take(head, data[position:end] if left else b""))
                    self._since = now
                    position = end
                    continue
                self._begin_body(head, position == size, now)
            position = self._read_body(data, position, now, found)

    def _busy(self) -> bool:
        """Whether the next request has to wait until we are done with those before."""
        limits = self._limits
        return self._paused or (
            bool(self._open) and (len(self._open) >= limits.pipelined or self._held_bytes >= limits.pipelined_bytes)
        )

    def _blank_line(self, data: bytes, position: int) -> int:
        """Pass over an empty line before a request."""
        if len(data) == position + 1:
            self._rest = b"\r"
            return position + 1
        self._blank += 1
        if data[position + 1] != 10 or self._blank > MAX_BLANK_LINES:
            raise Refused(400, "this is not an HTTP request")
        return position + 2

    def _begin_body(self, head: Head, nothing_yet: bool, now: float) -> None:
        self._head = head
        self._since = now
        self._got = 0
        if head.length == CHUNKED:
            self._chunks = Chunks(self._limits)
        else:
            self._left = head.length
        if head.awaits and nothing_yet:
            if self._open:
                self._continue_later = True
            else:
                self._out.append(CONTINUE)

    def _read_body(self, data: bytes, position: int, now: float, found: list[Http1Exchange]) -> int:
        """Take what belongs to the body; returns where it stopped."""
        head, chunks = self._head, self._chunks
        assert head is not None, "This is a bug."
        if chunks is not None:
            end = chunks.feed(data, position)
            whole = chunks.done
        else:
            end = min(len(data), position + self._left)
            self._parts.append(data[position:end])
            self._left -= end - position
            whole = self._left == 0
        self._got += end - position
        if whole:
            body = b"".join(self._parts) if chunks is None else chunks.body()
            self._parts.clear()
            self._head = self._chunks = None
            self._continue_later = False
            self._since = now
            found.append(self._take(head, body))
        return end

    def _take(self, head: Head, body: bytes) -> Http1Exchange:
        """A request is whole."""
        mode = 0
        if head.old or head.method == "HEAD":
            mode = (OLD if head.old else 0) | (NO_BODY if head.method == "HEAD" else 0)
        if self._draining or not head.keep_alive:
            mode |= CLOSE
            self._ended = True
        self._blank = 0
        exchange = Http1Exchange(self, head, body, mode)
        if head.gzip:
            exchange.compressed = True
            if is_quick(body):
                exchange.inflate(self._limits.inflated_bytes)
        self._open.append(exchange)
        self._held_bytes += len(exchange.body)
        exchange.held = len(exchange.body)
        return exchange

    def _refuse(self, refused: Refused) -> None:
        """Say why, after the answers that are due before, and end."""
        self._forget_input()
        why = page(refused.status, refused.why)
        last = Http1Exchange(self, _NO_HEAD, b"", CLOSE)
        self._open.append(last)
        last.answer(refused.status, why, PAGE)

    def _forget_input(self) -> None:
        self._ended = True
        self._head = self._chunks = None
        self._parts.clear()
        self._rest = b""
        self._continue_later = False

    # -- out ---------------------------------------------------------------------------------------

    def output(self) -> bytes:
        """See ``base.Connection``."""
        out = self._out
        if not out:
            return b""
        data = b"".join(out)
        out.clear()
        return data

    def settle(
        self, exchange: Http1Exchange, status: int, body: bytes, headers: Mapping[str, str], reason: str | None
    ) -> None:
        """``Http1Exchange.answer``'s other half."""
        mode = exchange.mode
        head = None
        if mode == 0 and reason is None and len(headers) == 1:
            head = self._known_answers.get((status, headers.get("Content-Type"), len(body)))
        if head is None:
            if headers.get("Connection", "").lower() == "close":
                mode |= CLOSE
                exchange.mode = mode
            head = self._answers.head(status, len(body), headers, reason, mode)
            if not has_body(status, mode):
                body = b""
        exchange.connection = exchange.on_cancel = None
        exchange.ready = [head, body]
        if self._open[0] is exchange:
            self._write()

    def _write(self) -> None:
        """Move the answers whose turn it is into the output."""
        waiting = self._open
        while waiting and (ready := waiting[0].ready) is not None:
            exchange = waiting.popleft()
            self._held_bytes -= exchange.held
            self._out += ready
            if exchange.mode & CLOSE:
                self._end()
                return
        self._untimed = True
        if self.full:
            self.full = self._busy()
        if self._continue_later and not waiting:
            self._continue_later = False
            self._out.append(CONTINUE)

    def _end(self) -> None:
        """The last answer is in the output: whoever else was asked for need not answer."""
        self._forget_input()
        self._cancel()
        self.closing = True
        self.full = False

    def _cancel(self) -> None:
        waiting, self._open = self._open, deque()
        self._held_bytes = 0
        for exchange in waiting:
            exchange.connection = None
            on_cancel, exchange.on_cancel = exchange.on_cancel, None
            if on_cancel is not None:
                on_cancel()

    # -- time and ends -----------------------------------------------------------------------------

    def due(self) -> float | None:
        """See ``base.Connection``."""
        if self.closing or self.full:
            return None
        if self._untimed:
            return self._since
        limits = self._limits
        if self._head is not None:
            return self._since + limits.body_s + self._got / limits.body_rate
        if self._rest:
            return self._since + limits.head_s
        return None if self._open else self._since + limits.idle_s

    def tick(self, now: float) -> None:
        """See ``base.Connection``."""
        if self._untimed:
            self._untimed = False
            self._since = now
            return
        due = self.due()
        if due is None or now < due:
            return
        if self._head is not None:
            self._refuse(Refused(408, "the request's body came too slowly"))
        elif self._rest:
            self._refuse(Refused(408, f"the request's head took longer than {self._limits.head_s:g} seconds"))
        else:
            self._end()

    def eof(self, now: float) -> None:
        """See ``base.Connection``. A caller that only shut its sending side cannot be told from one that is gone."""
        self._end()

    def lost(self) -> None:
        """See ``base.Connection``."""
        self._end()
        self._out.clear()

    def drain(self, now: float) -> None:
        """See ``base.Connection``. A connection that waits for a request gets an answer to it, and then ends."""
        self._draining = True
        if self._open and self._head is None and not self._rest:
            self._open[-1].mode |= CLOSE
            self._ended = True

    def paused(self, yes: bool) -> None:
        """See ``base.Connection``."""
        self._paused = yes
        self.full = yes or (bool(self._rest) and self._busy())
        self._untimed = True
