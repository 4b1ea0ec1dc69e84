"""HTTP/2 connections to one gRPC server: opened when needed, replaced when lost. What calls mean is not known here.

A ``Channel`` has one at a time, for all its calls. One that the server is about to close, or that has no stream left,
goes on beside its successor until its last call has ended.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Sequence
from typing import cast

from batchproxy.backends.connecting import connect
from batchproxy.tasks import Tasks
from batchproxy.wire import grpc
from batchproxy.wire.budget import Budget
from batchproxy.wire.http2_client import Http2Client
from batchproxy.wire.http2_client_call import Call
from batchproxy.wire.http2_client_stream import StreamCall

CONNECT_S = 2.0
"""How long connecting may take, the server's first words included; as in ``backends.grpc``."""

BACKOFF_S, MAX_BACKOFF_S, BACKOFF_FACTOR = 0.1, 1.0, 1.6
"""After a failure nobody tries again for so long; as in ``backends.grpc``, the factor being gRPC's own."""

UNACKNOWLEDGED_MS = 20_000
"""How long TCP waits for an acknowledgement; as gRPC sets it along with its keepalive."""

ONE_PIECE_BYTES = 64 << 10
"""Output up to this size is joined: one write, one packet where it is small."""

CLOSED = "the connection was closed on our side"

_NEVER = float("inf")


class NotConnectedError(Exception):
    """There is no connection, so nothing was sent."""


class Connection(asyncio.Protocol):
    """One connection.

    Args:
        owner: whose it is.
        authority: whom calls are for.
        tls: whether it is over TLS.
        budget: of the process.
        streams: whether it is for streamed calls.

    Attributes:
        ready: done when the server has greeted us; says why not, else None.
        wire: what is said and heard.
    """

    __slots__ = ("_at", "_loop", "_owner", "_slow", "_timer", "_transport", "_turn", "ready", "wire")

    def __init__(self, owner: Channel, authority: str, *, tls: bool, budget: Budget | None, streams: bool) -> None:
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._slow = False
        self._turn = False  # something was written in this turn of the loop: the rest goes together
        self._timer: asyncio.TimerHandle | None = None
        self._at = _NEVER
        self.ready: asyncio.Future[str | None] = self._loop.create_future()
        self.wire = Http2Client(
            authority,
            self._loop.time(),
            scheme="https" if tls else "http",
            budget=budget,
            streams=streams,
        )
        self.wire.on_room = self.push

    def ask(self, path: str, message: bytes, until: float | None, metadata: Sequence[grpc.Pair]) -> Call:
        """Begin a call; its ``waiter`` is done when its fate is known.

        Args:
            path: of the method.
            message: the request.
            until: its deadline, in the loop's seconds.
            metadata: of the call.

        Raises:
            ValueError: what cannot be sent.
        """
        now = self._loop.time()
        wire = self.wire
        call = wire.start(path, message, now, None if until is None else max(until - now, 0.0), metadata)
        call.waiter = self._loop.create_future()
        self.push()
        if wire.due() < self._at:
            self._arm()
        return call

    def stream(
        self, path: str, until: float | None, metadata: Sequence[grpc.Pair], encoding: bytes, accepts: bytes
    ) -> StreamCall:
        """As ``ask``, for a streamed call; what its owner does with it needs a ``push``."""
        now = self._loop.time()
        timeout_s = None if until is None else max(until - now, 0.0)
        call = self.wire.start_stream(path, now, timeout_s, metadata, encoding, accepts)
        call.waiter = self._loop.create_future()
        self.push()
        if self.wire.due() < self._at:
            self._arm()
        return call

    def push(self) -> None:
        """Send what there is: at once, but for what comes later in this turn of the loop, which goes together."""
        if not self._turn:
            self._turn = True
            self._loop.call_soon(self._end_turn)
            self._flush()

    def took(self) -> None:
        """Messages of a streamed call were taken, or dropped: its server may be told to send more."""
        self.wire.account()
        if self.wire.requests.outlet.out:
            self.push()

    def leave(self, call: Call) -> None:
        """Nobody waits for a call any longer."""
        self.wire.give_up(call)
        self._flush()

    def end(self, reason: str) -> None:
        """Close at once; calls under way are lost."""
        self._settle(self.wire.lost(reason))
        if self._transport is not None:
            self._transport.abort()

    # -- asyncio's side ----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        raw = transport.get_extra_info("socket")
        if raw is not None and raw.family != socket.AF_UNIX and hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux has it
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS)
        self._owner.made(self)
        self._flush()

    def data_received(self, data: bytes) -> None:
        wire = self.wire
        ended = wire.feed(data, self._loop.time())
        if ended:
            self._settle(ended)
        if not self.ready.done() and (wire.greeted or wire.closing):
            self.ready.set_result(wire.reason if wire.closing else None)
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.wire.on_room = None  # no circle of references stays behind
        if self._timer is not None:
            self._timer.cancel()
        reason = str(exc or "the connection was closed")
        self._settle(self.wire.lost(reason))
        if not self.ready.done():
            self.ready.set_result(self.wire.reason)
        self._owner.gone(self)

    def pause_writing(self) -> None:
        self._slow = True
        self.wire.pause(True)

    def resume_writing(self) -> None:
        self._slow = False
        self.wire.pause(False)
        self._flush()

    # ----------------------------------------------------------------------------------------------

    def _settle(self, ended: Sequence[Call]) -> None:
        for call in ended:
            if not call.waiter.done():
                call.waiter.set_result(None)

    def _end_turn(self) -> None:
        self._turn = False
        self._flush()

    def _flush(self) -> None:
        transport = self._transport
        if self._slow or transport is None:
            return
        pieces = self.wire.output()
        if len(pieces) == 1:
            transport.write(pieces[0])
        elif pieces:
            if sum(map(len, pieces)) <= ONE_PIECE_BYTES:
                transport.write(b"".join(pieces))
            else:
                transport.writelines(pieces)
        if self.wire.closing:
            transport.close()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._at = at = self.wire.due()
        if at != _NEVER:
            self._timer = self._loop.call_at(at, self._ticked)

    def _ticked(self) -> None:
        self._settle(
            self.wire.tick(max(self._at, self._loop.time()))
        )  # uvloop's timers may be half a millisecond early
        self._flush()
        self._arm()


class Channel:
    """The way to one server.

    Args:
        target: ``HOST:PORT`` or ``unix:/PATH``.
        tls: for TLS, with ``h2`` as its ALPN protocol; None for plain text.
        server_name: within TLS, of whom the server is to be, and whom calls are for; None: the target's host.
        budget: of the process, for answers; left out, its own.
        streams: whether it is for streamed calls.
    """

    def __init__(
        self,
        target: str,
        tls: ssl.SSLContext | None = None,
        server_name: str | None = None,
        *,
        budget: Budget | None = None,
        streams: bool = False,
    ) -> None:
        self._budget = budget
        self._streams = streams
        self._path = target.removeprefix("unix:") if target.startswith("unix:") else ""
        host, _, port = target.rpartition(":")
        self._host, self._port = host.strip("[]"), 0 if self._path else int(port)
        self._authority = server_name or ("localhost" if self._path else target)  # as grpcio, both
        self._server_name = None if tls is None else server_name or ("localhost" if self._path else self._host)
        self._tls = tls
        self._tasks = Tasks()
        self._all: set[Connection] = set()
        self._current: Connection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._failures = 0
        self._why = ""  # the last failure
        self._not_before = 0.0  # in the loop's seconds
        self._emptied: asyncio.Event | None = None
        self._closed = False

    @property
    def closed(self) -> bool:
        return self._closed

    def usable(self) -> Connection | None:
        """The connection that takes a call at once, if there is one."""
        current = self._current
        return current if current is not None and current.wire.usable else None

    async def connected(self, until: float | None) -> Connection:
        """The connection that takes a call, opened where there is none.

        Args:
            until: the call's deadline, in the loop's seconds; None: it has none.

        Raises:
            NotConnectedError: it cannot be opened, or could not a moment ago; or this is closed.
            TimeoutError: ``until`` is over.
        """
        loop = asyncio.get_running_loop()
        if self._connecting is None:
            if loop.time() < self._not_before:
                raise NotConnectedError(self._why)
            self._connecting = self._tasks.spawn("grpc-connect", self._connect())
        done, _ = await asyncio.wait([self._connecting], timeout=None if until is None else until - loop.time())
        if not done:
            raise TimeoutError
        connection = self.usable()
        if connection is None:
            raise NotConnectedError(CLOSED if self._closed else self._why or "the connection was lost at once")
        return connection

    async def _connect(self) -> None:
        """Open a connection, or say why not."""
        loop = asyncio.get_running_loop()
        connection = Connection(
            self, self._authority, tls=self._tls is not None, budget=self._budget, streams=self._streams
        )
        try:
            async with asyncio.timeout(CONNECT_S):  # noqa: TID251 - once a connection, not once a call
                await connect(
                    connection, self._host, self._port, path=self._path, tls=self._tls, server_name=self._server_name
                )
                why = await connection.ready
        except TimeoutError:
            why = f"no connection within {CONNECT_S:g} s"
        except (OSError, UnicodeError) as error:
            why = _words(error)
        finally:
            self._connecting = None
        self._why = "" if why is None else f"failed to connect: {why}"
        if why is None:
            self._failures, self._current = 0, connection
        else:
            self._not_before = loop.time() + min(BACKOFF_S * BACKOFF_FACTOR**self._failures, MAX_BACKOFF_S)
            self._failures = min(self._failures + 1, 16)
            connection.end(why)

    def made(self, connection: Connection) -> None:
        """One was opened."""
        self._all.add(connection)

    def gone(self, connection: Connection) -> None:
        """One was closed."""
        self._all.discard(connection)
        if self._current is connection:
            self._current = None
        if self._emptied is not None and not self._all:
            self._emptied.set()

    async def aclose(self) -> None:
        """Close all; calls under way are lost."""
        self._closed = True
        await self._tasks.aclose()
        if self._all:
            self._emptied = asyncio.Event()
            for connection in list(self._all):
                connection.end(f"{CLOSED} during the call")
            await self._emptied.wait()


def _words(error: OSError | UnicodeError) -> str:
    """An error in the system's own words: asyncio's do not say what went wrong."""
    number = error.errno if isinstance(error, OSError) and not isinstance(error, socket.gaierror) else None
    if isinstance(error, ssl.SSLError) or not number:
        return str(error) or type(error).__name__
    return os.strerror(number)
