"""One connection of a listener: its transport on one side, its wire on the other. No requests are understood here.

Nothing is decided about bytes, either: that is the wire's matter (``batchproxy.wire``). What is decided is when to
read, write and close, from what the wire says of itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, cast

from batchproxy.frontends.crowd import Crowd
from batchproxy.wire.base import Connection, Limits
from batchproxy.wire.budget import Budget
from batchproxy.wire.http1_answers import CLOSE, Answers


class Wire(NamedTuple):
    """How connections of one protocol are made, and their requests served."""

    connect: Callable[[float], Connection]
    serve: Callable[[Door, Any], None]
    crowd: Crowd | None = None
    serve_all: Callable[[Sequence[Any], float], None] | None = None


class House(Protocol):
    """What a connection needs of its listener."""

    budget: Budget
    clock: Callable[[], float]
    limits: Limits
    loop: asyncio.AbstractEventLoop
    draining: bool

    def enter(self, door: Door) -> bool:
        """Count a new connection in; False where there are too many."""

    def leave(self, door: Door) -> None:
        """Count a connection out."""

    def wire_for(self, data: bytes, alpn: str | None) -> Wire | None:
        """Whose connection it is, by its first bytes; None: too few to tell."""

    def mark(self, door: Door) -> None:
        """``door`` has something to say, at the end of this turn of the loop."""

    def speaks_first(self) -> bool:
        """Whether nobody had anything to say in this turn of the loop before; somebody has from now on."""


class Door(asyncio.Protocol):
    """One connection: its transport on one side, its wire on the other.

    Attributes:
        dirty: whether a flush is to come anyhow.
        write: writes bytes, as the transport does; for whoever knows that the wire has nothing to say before or with
            them.
    """

    __slots__ = (
        "_backlog",
        "_crowd",
        "_first",
        "_goodbye",
        "_house",
        "_progress",
        "_reading",
        "_sample",
        "_serve",
        "_serve_all",
        "_transport",
        "_wire",
        "_writable",
        "dirty",
        "write",
    )

    def __init__(self, house: House) -> None:
        self.dirty = False
        self._house = house
        self._transport: asyncio.Transport | None = None
        self.write: Callable[[bytes], object] = len  # nobody is there
        self._crowd: Crowd | None = None
        self._wire: Connection | None = None
        self._serve: Callable[[Door, Any], None] | None = None
        self._serve_all: Callable[[Sequence[Any], float], None] | None = None
        self._first = b""
        self._reading = True
        self._writable = True
        self._goodbye = False  # the last answer is written; what comes now is discarded
        self._sample = 0  # bytes that we held when we last looked, but for what is charged
        self._backlog = 0  # bytes that were not written when we last looked
        self._progress = house.clock()  # when that last changed, or anything began

    # -- what the loop tells us --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.write = self._transport.write
        if not self._house.enter(self):
            self._transport.write(Answers().head(503, 0, {"Retry-After": "1"}, None, CLOSE))
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        crowd = self._crowd
        if crowd is not None and crowd.gathers:
            if not crowd.kept:
                crowd.begin()
            crowd.kept.append((self, self._wire, data))  # type: ignore[arg-type]  # only HTTP/1.1 comes in crowds
        else:
            self.read(data)

    def read(self, data: bytes) -> None:
        """Take in what came."""
        wire, house = self._wire, self._house
        now = house.clock()
        if wire is None:
            data = self._first + data
            wire = self._begin(data, now)
            if wire is None:
                return
        if self._goodbye or self._transport is None:
            return
        self.dirty = True  # answers given at once need no mark
        serve, found = self._serve, wire.feed(data, now)
        if self._serve_all is not None and len(found) > 1:
            self._serve_all(found, now)
        else:
            for exchange in found:
                serve(self, exchange)  # type: ignore[misc]  # set together with the wire
        self.dirty = False  # as ``flush``: this is done for every request
        out = wire.output()
        if out:
            self._transport.write(out)
        if wire.closing or wire.full is self._reading:
            self._follow(self._transport, wire)

    def expect_crowd(self, count: int) -> None:
        """So many were answered together, on this connection and others."""
        if self._crowd is not None:
            self._crowd.expect(count)

    def _catch_up(self) -> None:
        """Take in what was kept, before anything else happens here."""
        if self._crowd is not None:
            self._crowd.take_in()

    def eof_received(self) -> None:
        self._catch_up()
        if self._wire is not None:
            self._wire.eof(self._house.clock())
            self.flush()

    def pause_writing(self) -> None:
        self._catch_up()
        self._writable = False
        if self._wire is not None:
            self._wire.paused(True)

    def resume_writing(self) -> None:
        self._writable = True
        if self._wire is not None:
            self._wire.paused(False)
            self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._catch_up()
        self._house.leave(self)
        self._transport = None
        self.write = len
        self._sample = self._house.budget.sample(self._sample, 0)
        if self._wire is not None:
            self._wire.on_room = None
            self._wire.lost()
            self._wire.owner = None

    # -- what we do --------------------------------------------------------------------------------

    def _begin(self, data: bytes, now: float) -> Connection | None:
        """Find out what is spoken; None: too early to tell, or refused."""
        tls = self._transport.get_extra_info("ssl_object") if self._transport else None
        found = self._house.wire_for(data, tls.selected_alpn_protocol() if tls else None)
        if found is None:
            self._first = data
            return None
        self._first = b""
        self._wire = found.connect(now)
        self._serve, self._serve_all, self._crowd = found.serve, found.serve_all, found.crowd
        self._wire.owner, self._wire.on_room = self, self._on_room
        if self._house.draining:
            self._wire.drain(now)
        return self._wire

    def _on_room(self) -> None:
        if not self.dirty:
            self.mark()

    def mark(self) -> None:
        """Ask for a flush at the end of this turn of the loop."""
        self.dirty = True
        self._house.mark(self)

    def speak(self) -> None:
        """Have written what the wire has to say, no more in this turn of the loop: the first is heard at once.

        Others are at its end: callers are on other cores, mostly, and to wake each by itself costs more than all do.
        """
        if self._house.speaks_first():
            self.flush()
        else:
            self.mark()

    def flush(self) -> None:
        """Write what the wire has to say, then do what it wants of the transport."""
        self.dirty = False
        transport, wire = self._transport, self._wire
        if transport is None or wire is None:
            return
        data = wire.output()
        if data:
            transport.write(data)
        if wire.closing or wire.full is self._reading:
            self._follow(transport, wire)

    def _follow(self, transport: asyncio.Transport, wire: Connection) -> None:
        """Do what the wire wants of the transport."""
        if wire.closing:
            self._say_goodbye(transport)
        elif not transport.is_closing():
            self._reading = not wire.full
            if self._reading:
                transport.resume_reading()
                self._house.loop.call_soon(self.data_received, b"")
            else:
                transport.pause_reading()

    def _say_goodbye(self, transport: asyncio.Transport) -> None:
        """Nothing will follow what was written. What the peer is sending is read and forgotten for a while."""
        if self._goodbye or transport.is_closing():
            return
        self._goodbye, self._progress = True, self._house.clock()
        if not self._reading:
            transport.resume_reading()
        if transport.can_write_eof():
            transport.write_eof()
        else:
            transport.close()

    def look_after(self, now: float) -> None:
        """Time has passed."""
        self._catch_up()
        transport, wire, limits = self._transport, self._wire, self._house.limits
        if transport is None:
            return
        backlog = transport.get_write_buffer_size()
        self._sample = self._house.budget.sample(self._sample, backlog + (wire.held() if wire is not None else 0))
        if backlog != self._backlog:
            self._backlog, self._progress = backlog, now
        if wire is None:
            if now - self._progress >= (limits.head_s if self._first else limits.idle_s):
                transport.abort()
        elif self._goodbye or not self._writable:
            if now - self._progress >= (limits.write_s if backlog else limits.linger_s):
                transport.abort()
        else:
            due = wire.due()
            if due is not None and due <= now:
                wire.tick(now)
                self.flush()

    @property
    def silent(self) -> bool:
        """Whether nothing came yet."""
        return self._wire is None

    def drain(self, now: float) -> None:
        """End with the answers under way."""
        self._catch_up()
        if self._wire is not None:
            self._wire.drain(now)
            self.flush()

    def close(self) -> None:
        """End once what is written has left."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """End now."""
        if self._transport is not None:
            self._transport.abort()
