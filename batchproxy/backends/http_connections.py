"""HTTP/1.1 connections to one server, kept and handed out one call at a time. What calls mean is not known here."""

from __future__ import annotations

import asyncio
import ssl
from typing import Protocol, cast

from batchproxy.backends.connecting import connect
from batchproxy.wire.budget import Budget
from batchproxy.wire.http1_client import Answer, AnswerHeads, BadAnswer

CONNECT_S = 2.0
"""How long connecting may take; as for gRPC."""

IDLE_S = 15.0
"""A connection is kept so long without a call: well below the 50 s after which TF Serving (libevent) closes it. A call
into a connection just closed may have run, and only who knows the model may send it again."""

SWEEP_S = 1.0
"""The timer that closes idle connections runs no more often."""

LATE_S = 0.05
"""How late a call may learn that its time is over: one timer for all connections instead of one a call."""

ONE_PIECE_BYTES = 64 << 10
"""Head and body of a request up to this size are joined: one write, one packet where it is small."""


class NotConnectedError(Exception):
    """There was no connection, so nothing was sent."""


FAILED = 500
"""A server that failed is not trusted to keep its connection: uvicorn (MLServer, KServe) closes it behind such an
answer, without a word before, and the next call would be lost."""


class BrokenError(Exception):
    """The connection broke after a request was written.

    Attributes:
        silent: no byte of an answer had come.
    """

    def __init__(self, why: str, *, silent: bool) -> None:
        super().__init__(why)
        self.silent = silent


class Waiter(Protocol):
    """Who wants an answer: a future will do."""

    def done(self) -> bool: ...
    def set_result(self, result: Answer, /) -> None: ...
    def set_exception(self, exception: Exception, /) -> None: ...


class Connection(asyncio.Protocol):
    """One connection; at most one call is under way.

    Args:
        owner: who hands it out.

    Attributes:
        loop: that it runs in; to ask who is running costs a system call each time.
        since: when it was last given back, in the loop's seconds.
    """

    __slots__ = ("_answer", "_owner", "_transport", "_until", "_waiter", "loop", "since")

    def __init__(self, owner: Connections) -> None:
        self.since = 0.0
        self._owner = owner
        self.loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._answer: Answer | None = None
        self._waiter: Waiter | None = None
        self._until: float | None = None

    def ask(self, method: str, head: bytes, body: bytes, until: float | None, waiter: Waiter) -> None:
        """Send a request.

        Args:
            method: HTTP's.
            head: all that precedes the body.
            body: empty for none.
            until: when its time is over, in the loop's seconds; None: never.
            waiter: gets the answer, or BadAnswer, BrokenError or TimeoutError.
        """
        self._until = until
        if until is not None:
            self._owner.watch()
        self._answer = Answer(method, heads=self._owner.heads, budget=self._owner.budget)
        self._waiter = waiter
        transport = self._transport
        if transport is None:
            raise RuntimeError("a connection was used after its end. This is a bug.")
        if len(body) <= ONE_PIECE_BYTES:
            transport.write(head + body if body else head)
        else:
            transport.writelines((head, body))

    def look_after(self, now: float) -> bool:
        """End the call under way if its time is over; whether there is one whose time may yet be."""
        if self._waiter is None or self._until is None:
            return False
        if self._until > now:
            return True
        self._fail(TimeoutError())
        return False

    def leave(self, waiter: Waiter) -> None:
        """Nobody waits for the call any longer: if it is still under way, hang up, as HTTP/1.1 has no other word."""
        if self._waiter is waiter:
            if self._answer is not None:
                self._answer.drop()
            self._waiter = self._answer = None
            self.end()

    def usable(self) -> bool:
        """Whether another call may be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def end(self) -> None:
        """Close at once; a call under way is lost."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._owner.made(self)

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        if answer is None:  # it speaks unasked
            self.end()
            return
        try:
            answer.feed(data)
        except BadAnswer as error:
            self._fail(error)
            return
        if answer.done:
            self._settle(answer)

    def eof_received(self) -> None:
        answer = self._answer
        if answer is None:
            self.end()
            return
        answer.eof()
        if answer.done:
            self._settle(answer)
        else:
            self._break("the server hung up")

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._owner.gone(self)
        self._break(str(exc or "the connection was closed"))

    def _settle(self, answer: Answer) -> None:
        waiter, self._waiter, self._answer = self._waiter, None, None
        transport = self._transport
        if (
            answer.keep
            and answer.status != FAILED
            and transport is not None
            and not transport.is_closing()
            and not transport.get_write_buffer_size()
        ):
            self._owner.keep(self)
        else:
            self.end()  # it is not to be kept, or was answered before the request was out
        if waiter is not None and not waiter.done():
            waiter.set_result(answer)

    def _break(self, why: str) -> None:
        if self._answer is not None:
            self._fail(BrokenError(why, silent=not self._answer.started))

    def _fail(self, error: Exception) -> None:
        if self._answer is not None:
            self._answer.drop()
        waiter, self._waiter, self._answer = self._waiter, None, None
        self.end()
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)


class Connections:
    """All connections to one server: as many as there are calls at once. The one used last is used next.

    Args:
        host: name or address.
        port: of TCP.
        tls: for TLS; None for plain text.
        server_name: within TLS, of whom the server is to be; None: the host.
        budget: of the process, for large answers; None: nobody counts them.

    Attributes:
        heads: of the server's answers.
        budget: as given.
    """

    def __init__(
        self,
        host: str,
        port: int,
        tls: ssl.SSLContext | None = None,
        server_name: str | None = None,
        budget: Budget | None = None,
    ) -> None:
        self._host, self._port, self._tls = host, port, tls
        self._server_name = None if tls is None else server_name or host
        self.heads = AnswerHeads()
        self.budget = budget
        self._all: set[Connection] = set()
        self._idle: list[Connection] = []  # by the time they were given back; closed ones are found out when taken
        self._sweep: asyncio.TimerHandle | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Event | None = None
        self._closed = False

    def kept(self) -> Connection | None:
        """One that is free, if there is one."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable():
                return connection
        return None

    async def new(self, until: float | None) -> Connection:
        """Open one.

        Args:
            until: the call's deadline, in the loop's seconds; None: it has none.

        Raises:
            NotConnectedError: refused, no such host, ``CONNECT_S`` over, or closed on our side.
            TimeoutError: ``until`` is over.
        """
        loop = asyncio.get_running_loop()
        limit = CONNECT_S if until is None else min(CONNECT_S, until - loop.time())
        connection = Connection(self)
        try:
            async with asyncio.timeout(limit):  # noqa: TID251 - once a connection, not once a call
                await connect(connection, self._host, self._port, tls=self._tls, server_name=self._server_name)
        except TimeoutError:
            if limit < CONNECT_S:
                raise
            raise NotConnectedError(f"no connection within {CONNECT_S:g} s") from None
        except (OSError, UnicodeError) as error:
            raise NotConnectedError(str(error) or type(error).__name__) from error
        if not connection.usable():
            raise NotConnectedError("the connection was closed")
        return connection

    def made(self, connection: Connection) -> None:
        """One was opened."""
        self._all.add(connection)
        if self._closed:
            connection.end()

    def keep(self, connection: Connection) -> None:
        """Take one back that is free again."""
        connection.since = connection.loop.time()
        self._idle.append(connection)
        if self._sweep is None:
            self._sweep = connection.loop.call_later(IDLE_S, self._swept)

    def watch(self) -> None:
        """A call has begun whose time will be over."""
        if self._watch is None:
            self._watch = asyncio.get_running_loop().call_later(LATE_S, self._watched)

    def _watched(self) -> None:
        self._watch = None
        now = asyncio.get_running_loop().time()
        if sum([connection.look_after(now) for connection in tuple(self._all)]):
            self.watch()

    def expire(self, now: float) -> None:
        """Close those that were free for ``IDLE_S``."""
        old = sum(connection.since + IDLE_S <= now for connection in self._idle)
        for connection in self._idle[:old]:
            connection.end()
        del self._idle[:old]

    def gone(self, connection: Connection) -> None:
        """One was closed."""
        self._all.discard(connection)
        if self._emptied is not None and not self._all:
            self._emptied.set()

    async def aclose(self) -> None:
        """Close them; calls under way are lost."""
        self._closed = True
        self._idle.clear()
        for timer in (self._sweep, self._watch):
            if timer is not None:
                timer.cancel()
        if self._all:
            self._emptied = asyncio.Event()
            for connection in list(self._all):
                connection.end()
            await self._emptied.wait()

    def _swept(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        self.expire(now)
        self._sweep = None
        if self._idle:
            self._sweep = loop.call_later(max(SWEEP_S, self._idle[0].since + IDLE_S - now), self._swept)
