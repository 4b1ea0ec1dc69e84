"""The server's end of one HTTP/1.1 or 1.0 connection: bytes in, requests out; answers in, bytes out. No socket here.

Requests are framed here: a head is looked for, parsed whole (``http1_head``), and its body counted off or unchunked.
So what comes out does not depend on how the bytes were cut. Several requests may be under way (pipelining); their
answers leave in the requests' order. Whatever is not clearly one well-formed request is refused with libevent's page,
and the connection ends: what follows a request whose end is in doubt must never be taken for another one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from batchproxy.wire.base import Limits
from batchproxy.wire.budget import Budget
from batchproxy.wire.http1_answers import CLOSE, CONTINUE, NO_BODY, OLD, PAGE, Answers, has_body, page
from batchproxy.wire.http1_body import NO_ROOM, Body
from batchproxy.wire.http1_exchange import Http1Exchange
from batchproxy.wire.http1_head import NEVER, NO_HEAD, Head, Heads, Refused, check_start
from batchproxy.wire.unpack import is_quick

MAX_BLANK_LINES = 4
"""Empty lines before a request; RFC 9112, 2.2, asks a server to overlook one."""

_END = b"\r\n\r\n"


class Http1Connection:
    """The server's end of a connection; see ``base.Connection``.

    Args:
        limits: what the peer may cost.
        heads: parses request heads; shared by connections with equal limits.
        answers: writes answer heads; shared likewise.
        now: monotonic seconds.
        budget: of the process; left out, its own.
        exchange: what its requests are.

    Attributes:
        answers: as given.
        open: the requests that are not answered yet, in their order.
    """

    __slots__ = (
        "_blank", "_body", "_budget", "_continue_later", "_draining", "_ended", "_exchange", "_heads", "_held_bytes",
        "_known", "_last", "_limits", "_out", "_paused", "_rest", "_since", "_untimed", "answers", "closing", "full",
        "on_room", "open", "owner",
    )  # fmt: skip

    def __init__(
        self,
        limits: Limits,
        heads: Heads,
        answers: Answers,
        now: float,
        budget: Budget | None = None,
        exchange: type[Http1Exchange] = Http1Exchange,
    ) -> None:
        self.closing = False
        self.full = False
        self.on_room: Callable[[], object] | None = None
        self.owner: Any = None
        self._exchange = exchange
        self._budget = budget or Budget()
        self._limits = limits
        self._heads = heads
        self._known = heads.known
        self._last = b"\0", NEVER  # the head of a request that took the short cut: a caller asks the same, mostly
        self.answers = answers
        self.open: deque[Http1Exchange] = deque()  # in the order of the requests
        self._held_bytes = 0  # of their bodies
        self._out: list[bytes] = []
        self._rest = b""  # the beginning of a head, or what is held back
        self._blank = 0
        self._body: Body | None = None  # that is being read
        self._continue_later = False
        self._ended = False  # no further request is taken in
        self._draining = False
        self._paused = False
        self._since = now  # when the wait for what comes next began
        self._untimed = False  # that wait begins with the next tick

    # -- in ----------------------------------------------------------------------------------------

    def take_known(self, data: bytes, now: float) -> Http1Exchange | None:
        """A short cut for one whole request with a known head, where nothing is under way; None: ``feed`` has to."""
        if self.open or self._rest or self._body or self._ended or self._paused or self._draining:
            return None
        raw, head = self._last
        end = len(raw)
        if not data.startswith(raw):
            end = data.find(_END) + 4
            raw = data[:end]
            known = self._known.get(raw)
            if known is None or not known.usual:
                return None
            head = known
            self._last = raw, head
        if end + head.length != len(data):
            return None
        exchange = self._exchange(self, head, data[end:], 0)
        self.open.append(exchange)
        self._held_bytes = exchange.held = head.length
        self._since = now
        self._untimed = self.full = False
        self._blank = 0
        return exchange

    def feed(self, data: bytes, now: float) -> list[Http1Exchange]:
        """See ``base.Connection``."""
        exchange = self.take_known(data, now)
        if exchange is not None:
            return [exchange]
        found: list[Http1Exchange] = []
        if self._ended:
            return found
        self.full = self._paused
        if self._body is not None:
            self._body.go_on(now)
        elif self._rest:
            data = self._rest + data
            self._rest = b""
        else:
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
            if self._body is None:
                if (self.open or self._paused) and self._busy():
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
            bool(self.open) and (len(self.open) >= limits.pipelined or self._held_bytes >= limits.pipelined_bytes)
        )

    def _is_full(self) -> bool:
        """Whether the peer is not to be read from."""
        if self._body is not None:
            return self._paused or self._body.waits
        return self._paused or (bool(self._rest) and self._busy())

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
        if self._budget.spent:
            raise Refused(503, NO_ROOM)
        self._body = Body(head, self._limits, self._budget, now)
        if head.awaits and nothing_yet:
            if self.open:
                self._continue_later = True
            else:
                self._out.append(CONTINUE)

    def _read_body(self, data: bytes, position: int, now: float, found: list[Http1Exchange]) -> int:
        """Take what belongs to the body; returns where it stopped."""
        body = self._body
        assert body is not None, "This is a bug."
        end = body.feed(data, position)
        if body.whole:
            self._body = None
            self._continue_later = False
            self._since = now
            exchange = self._take(body.head, body.text())
            exchange.claim = body.claim
            found.append(exchange)
        elif not body.may_go_on(self._go_on, now):
            self.full = True
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
        exchange = self._exchange(self, head, body, mode)
        if head.gzip:
            exchange.compressed = True
            if is_quick(body):
                exchange.inflate(self._limits.inflated_bytes)
        self.open.append(exchange)
        self._held_bytes += len(exchange.body)
        exchange.held = len(exchange.body)
        return exchange

    def _refuse(self, refused: Refused) -> None:
        """Say why, after the answers that are due before, and end."""
        self._forget_input()
        why = page(refused.status, refused.why)
        last = self._exchange(self, NO_HEAD, b"", CLOSE)
        self.open.append(last)
        last.answer(refused.status, why, {**PAGE, "Retry-After": "1"} if refused.status == 503 else PAGE)

    def _go_on(self) -> None:
        """There is room for more of the body."""
        self.full = self._paused
        if self.on_room is not None:
            self.on_room()

    def _forget_input(self) -> None:
        self._ended = True
        if self._body is not None:
            self._body.drop()
            self._body = None
        self._rest = b""
        self._continue_later = False

    # -- out ---------------------------------------------------------------------------------------

    def output(self) -> bytes:
        """See ``base.Connection``."""
        out = self._out
        if not out:
            return b""
        if len(out) == 1:
            return out.pop()
        data = b"".join(out)
        out.clear()
        return data

    def settle(
        self, exchange: Http1Exchange, status: int, body: bytes, headers: Mapping[str, str], reason: str | None
    ) -> None:
        """``Http1Exchange.answer``'s other half."""
        mode = exchange.mode
        head = self.answers.plain(status, len(body), headers, reason) if mode == 0 else b""
        if not head:
            if headers.get("Connection", "").lower() == "close":
                mode |= CLOSE
                exchange.mode = mode
            head = self.answers.head(status, len(body), headers, reason, mode)
            if not has_body(status, mode):
                body = b""
        if not mode & CLOSE and self.settle_alone(exchange):
            self._out.append(head + body)
            return
        exchange.connection = exchange.on_cancel = None
        if exchange.claim is not None:
            exchange.claim.end()
        exchange.ready = (head, body)
        if self.open[0] is exchange:
            self._write()

    def settle_alone(self, exchange: Http1Exchange) -> bool:
        """A short cut: whether this is the only request here, and counts as answered, which whoever asks now writes."""
        waiting = self.open
        if len(waiting) != 1 or self.full or self._continue_later:
            return False
        exchange.connection = exchange.on_cancel = None
        if exchange.claim is not None:
            exchange.claim.end()
        exchange.ready = ()
        waiting.clear()
        self._held_bytes = 0
        self._untimed = True
        return True

    def _write(self) -> None:
        """Move the answers whose turn it is into the output."""
        waiting = self.open
        while waiting and (ready := waiting[0].ready) is not None:
            exchange = waiting.popleft()
            self._held_bytes -= exchange.held
            self._out += ready
            if exchange.mode & CLOSE:
                self._end()
                return
        self._untimed = True
        if self.full:
            self.full = self._is_full()
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
        waiting, self.open = self.open, deque()
        self._held_bytes = 0
        for exchange in waiting:
            exchange.connection = None
            on_cancel, exchange.on_cancel = exchange.on_cancel, None
            if on_cancel is not None:
                on_cancel()

    # -- time and ends -----------------------------------------------------------------------------

    def due(self) -> float | None:
        """See ``base.Connection``."""
        if self.closing or self._paused or (self.full and self._body is None):
            return None
        if self._untimed:
            return self._since
        if self._body is not None:
            return self._body.due()
        limits = self._limits
        if self._rest:
            return self._since + limits.head_s
        return None if self.open else self._since + limits.idle_s

    def tick(self, now: float) -> None:
        """See ``base.Connection``."""
        if self._untimed:
            self._untimed = False
            self._since = now
            if self._body is not None:
                self._body.since = now
            return
        due = self.due()
        if due is None or now < due:
            return
        if self._body is not None:
            self._refuse(
                Refused(503, NO_ROOM) if self._body.waits else Refused(408, "the request's body came too slowly")
            )
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

    def held(self) -> int:
        """See ``base.Connection``."""
        return sum(
            (len(exchange.body) if exchange.claim is None else 0) + sum(map(len, exchange.ready or ()))
            for exchange in self.open
        )

    def drain(self, now: float) -> None:
        """See ``base.Connection``. A connection that waits for a request gets an answer to it, and then ends."""
        self._draining = True
        if self.open and self._body is None and not self._rest:
            self.open[-1].mode |= CLOSE
            self._ended = True

    def paused(self, yes: bool) -> None:
        """See ``base.Connection``."""
        self._paused = yes
        self.full = self._is_full()
        self._untimed = True
