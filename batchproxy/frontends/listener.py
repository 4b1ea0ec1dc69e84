"""One address for both protocols: connections in, requests to the routes, answers out together. No bytes here.

A connection's first bytes, or ALPN, tell which protocol it speaks; any port takes any. Per request there is no task,
no future and no timer. Who asks is a caller (``callers``), and one callback a loop turn writes what all connections
have to say that are marked by one (``door``), each once.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import resource
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from email.utils import formatdate
from functools import partial
from socket import socket
from typing import Protocol, cast

from batchproxy.core.errors import Code, ConfigError
from batchproxy.frontends.binding import Binding
from batchproxy.frontends.call import Call, internal_error
from batchproxy.frontends.callers import UNFORESEEN, GrpcCaller, Http1Caller, Http2Caller
from batchproxy.frontends.crowd import Crowd
from batchproxy.frontends.door import Door, Wire
from batchproxy.frontends.grpc_answers import GrpcAnswer, error_answer
from batchproxy.frontends.grpc_routes import GrpcRoutes
from batchproxy.frontends.rest_answers import RestAnswer, our_error
from batchproxy.frontends.streams import Streams
from batchproxy.wire.base import Limits
from batchproxy.wire.budget import Budget, Claim
from batchproxy.wire.frames import PREFACE
from batchproxy.wire.gzip import inflated_size
from batchproxy.wire.http1 import Http1Connection
from batchproxy.wire.http1_answers import PAGE, Answers, page
from batchproxy.wire.http1_body import NO_ROOM
from batchproxy.wire.http1_head import Heads
from batchproxy.wire.http2 import Http2Connection
from batchproxy.wire.http2_calls import GrpcStreamCall
from batchproxy.wire.http2_head import Refusal
from batchproxy.wire.http2_limits import Http2Limits
from batchproxy.wire.http2_requests import no_room
from batchproxy.wire.http2_streams import Extra

logger = logging.getLogger("batchproxy.listener")

SWEEP_S = 0.25
SHARDS = 4
"""Every ``SWEEP_S`` one of the ``SHARDS`` is asked what is due: each connection once a second, in no long pause."""

SPARE_FILES = 128
"""File descriptors kept free of callers: model servers, the admin page, logs."""

CLOSE_S = 1.0
"""How long a connection may take to carry its last answer, once the listener closes."""


Http2Call = GrpcCaller | GrpcStreamCall | Http2Caller

_NO_MEMORY = "there is no memory to decompress what was sent; send less at a time"


class HttpRoutes(Protocol):
    """What answers HTTP requests; see ``RestRoutes``."""

    def handle(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, respond: Callable[[RestAnswer], None]
    ) -> Call[RestAnswer] | None:
        """Answer one request, now or later; what is under way is returned, to be cancelled when the caller leaves."""


class Listener:
    """Serves both routes on one address.

    Args:
        rest: what answers HTTP requests; None: nothing does.
        grpc: what answers gRPC calls; None: nothing does.
        host: address to bind.
        port: port to bind; 0: any free one.
        unix_path: a socket's path, instead of both.
        inherited: sockets that listen there already, instead of new ones.
        tls: for connections within TLS; its ALPN offer decides between the protocols.
        limits: what a peer may cost.
        http2_limits: what it may cost over HTTP/2, beside that.
        budget: what all peers of the process together may cost in memory; left out, this listener's own.
        flag: what chooses another address, for an error's text.
        clock: monotonic seconds.

    Attributes:
        address: ``host:port`` or ``unix:path``, once started.
        connections: how many are open.
        draining: whether no new ones are taken.
    """

    def __init__(
        self,
        rest: HttpRoutes | None,
        grpc: GrpcRoutes | None,
        host: str = "",
        port: int = 0,
        *,
        unix_path: str | None = None,
        inherited: Sequence[socket] = (),
        tls: ssl.SSLContext | None = None,
        limits: Limits | None = None,
        http2_limits: Http2Limits | None = None,
        budget: Budget | None = None,
        flag: str = "--port",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.address = ""
        self.connections = 0
        self.clock = clock
        self.limits = limits = limits or Limits()
        self.budget = budget = budget or Budget()
        self._rest, self._grpc = rest, grpc
        self.binding = Binding(host, port, unix_path, inherited)
        self._tls, self._flag = tls, flag
        self._max_connections = min(limits.connections, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE_FILES)
        self._said_full = False
        heads, self._answers = Heads(limits), Answers()
        answers, serve_all = self._answers, getattr(rest, "handle_all", None)
        self.http1 = Wire(
            lambda now: Http1Connection(limits, heads, answers, now, budget, Http1Caller),
            self._serve_http,
            None if serve_all is None else Crowd(serve_all, self._serve_one, clock),
        )
        self._http2_limits = http2_limits = http2_limits or Http2Limits()
        calls_at_once = getattr(grpc, "handle_all", None)
        self.wires = {
            PREFACE: Wire(
                lambda now: Http2Connection(http2_limits, now, self._is_streamed, budget, GrpcCaller, Http2Caller),
                self._serve_http2,
                serve_all=None if calls_at_once is None else partial(self._serve_calls, calls_at_once),
            )
        }
        self._streams = Streams()
        self._shards: list[set[Door]] = [set() for _ in range(SHARDS)]
        self._turn = 0
        self._dirty: list[Door] = []
        self._flushing = False  # at the end of this turn
        self._timer: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()
        self.draining = False

    # -- life --------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to take connections.

        Raises:
            ConfigError: the address cannot be bound.
        """
        self.loop = asyncio.get_running_loop()
        handshake_s = self.limits.handshake_s if self._tls else None
        try:
            await self.binding.open(partial(Door, self), self._tls, handshake_s)
        except OSError as error:
            why = error.strerror or os.strerror(error.errno or errno.EINVAL)
            at = self.binding.address
            raise ConfigError(f"cannot listen on {at}: {why}; choose another {self._flag}") from error
        self.address = self.binding.address
        self._sweep()

    async def stop_listening(self) -> None:
        """Take no new connections; those there are end with the answers under way."""
        for _ in range(2):
            await asyncio.sleep(0)  # a turn of the loop accepts what the kernel has taken for us
        self.draining = True
        self.binding.close()
        now = self.clock()
        for door in self._doors():
            door.drain(now)

    async def aclose(self) -> None:
        """Close every connection, those with an answer on its way after at most ``CLOSE_S`` seconds."""
        await self.stop_listening()
        await self._streams.aclose()
        for door in self._doors():
            door.close()
        late = self.loop.call_later(CLOSE_S, self._empty.set)
        if self.connections:
            self._empty.clear()
            await self._empty.wait()
        late.cancel()
        for door in self._doors():
            door.abort()
        if self._timer is not None:
            self._timer.cancel()

    def silent(self) -> int:
        """How many connections have not said anything yet: what they are about to ask is waited for."""
        return sum(door.silent for door in self._doors())

    def _doors(self) -> list[Door]:
        return [door for shard in self._shards for door in shard]

    # -- connections -------------------------------------------------------------------------------

    def enter(self, door: Door) -> bool:
        """Count a new connection in; False where there are too many."""
        if self.connections >= self._max_connections:
            if not self._said_full:
                self._said_full = True
                logger.warning(
                    "%s: %d connections are open and more are refused, until some of them close; the limit is the "
                    "lower one of limits.connections and the open files allowed (ulimit -n)",
                    self.address,
                    self.connections,
                )
            return False
        self.connections += 1
        min(self._shards, key=len).add(door)
        return True

    def leave(self, door: Door) -> None:
        """Count a connection out."""
        for shard in self._shards:
            if door in shard:
                shard.remove(door)
                self.connections -= 1
        if self.connections == 0:
            self._empty.set()
        if self.connections < self._max_connections * 0.9:
            self._said_full = False

    def wire_for(self, data: bytes, alpn: str | None) -> Wire | None:
        """Whose connection it is, by its first bytes; None: too few to tell.

        Args:
            data: all that came so far, not empty.
            alpn: what was agreed upon within TLS; None for nothing.
        """
        if alpn == "http/1.1":
            return self.http1
        for preface, wire in self.wires.items():
            if alpn == "h2" or data.startswith(preface):
                return wire
            if preface.startswith(data):
                return None
        return self.http1

    def _sweep(self) -> None:
        """Look after a part of the connections, and after the date of our answers."""
        self._timer = self.loop.call_later(SWEEP_S, self._sweep)
        self._answers.set_date(formatdate(usegmt=True))
        self._turn = (self._turn + 1) % SHARDS
        self.budget.collect()
        now = self.clock()
        for door in list(self._shards[self._turn]):
            door.look_after(now)

    # -- answers -----------------------------------------------------------------------------------

    def mark(self, door: Door) -> None:
        """``door`` has something to say, at the end of this turn of the loop."""
        self.speaks_first()
        self._dirty.append(door)

    def speaks_first(self) -> bool:
        """Whether nobody had anything to say in this turn of the loop before; somebody has from now on."""
        if self._flushing:
            return False
        self._flushing = True
        self.loop.call_soon(self._flush)
        return True

    def _flush(self) -> None:
        self._flushing = False
        dirty, self._dirty = self._dirty, []
        for door in dirty:
            door.flush()

    def _serve_http(self, _: Door, exchange: Http1Caller | Http2Caller) -> None:
        if exchange.compressed:
            self._inflate(cast("Http1Caller", exchange))
            return
        if self._rest is None:
            exchange(RestAnswer(404, page(404, "this port serves gRPC only"), PAGE))
            return
        try:
            head = exchange.head
            call = self._rest.handle(head.method, head.path, head.headers, exchange.body, exchange)
        except Exception as error:
            logger.exception(UNFORESEEN)
            exchange(our_error(internal_error(error)))
            return
        if call is not None and not call.done():
            exchange.on_cancel = call.cancel if exchange.claim is None else partial(call.cancel, exchange.claim)

    def _serve_one(self, exchange: Http1Caller) -> None:
        connection = exchange.connection
        if connection is not None:
            self._serve_http(connection.owner, exchange)

    def _inflate(self, exchange: Http1Caller) -> None:
        if self.budget.spent:
            exchange.answer(503, page(503, NO_ROOM), {**PAGE, "Retry-After": "1"})
            return
        exchange.claim = exchange.claim or Claim(self.budget)
        exchange.claim.resize(exchange.claim.size + inflated_size(exchange.body, self.limits.inflated_bytes))
        inflating = self.loop.run_in_executor(None, exchange.inflate, self.limits.inflated_bytes)
        inflating.add_done_callback(partial(self._serve_inflated, exchange))

    def _serve_inflated(self, exchange: Http1Caller, inflating: asyncio.Future[None]) -> None:
        if inflating.cancelled() or inflating.exception() is not None:  # out of memory, or of threads
            exchange.body, exchange.compressed = b"", False
        self._serve_one(exchange)

    def _serve_http2(self, door: Door, exchange: Http2Call) -> None:
        extra = exchange.extra
        if extra is not None and extra.compressed:
            if self.budget.spent:
                exchange.refuse(no_room(exchange.head))
                return
            unpacking = self.loop.run_in_executor(None, exchange.inflated, self._http2_limits)
            unpacking.add_done_callback(partial(self._serve_unpacked, door, exchange, extra))
        elif isinstance(exchange, GrpcCaller):
            self._serve_grpc(exchange)
        elif isinstance(exchange, GrpcStreamCall):
            target = self._grpc.streams(exchange.path) if self._grpc is not None else None
            assert target is not None, "a streamed call that nobody takes. This is a bug."
            self._streams.serve(door, exchange, target)
        else:
            self._serve_http(door, exchange)

    def _serve_unpacked(self, door: Door, exchange: Http2Call, extra: Extra, unpacking: asyncio.Future[bytes]) -> None:
        error = asyncio.CancelledError() if unpacking.cancelled() else unpacking.exception()
        if exchange.carrier is None:
            return
        if error is None:
            exchange.message, extra.compressed = unpacking.result(), 0
            extra.claim = extra.claim or Claim(self.budget)
            extra.claim.resize(extra.claim.size + len(exchange.message))
            self._serve_http2(door, exchange)
            return
        if not isinstance(error, Refusal):  # out of memory, or of threads
            error = Refusal(Code.UNAVAILABLE if isinstance(exchange, GrpcCaller) else 503, _NO_MEMORY)
        exchange.refuse(error)
        if not door.dirty:
            door.mark()

    def _is_streamed(self, path: str) -> bool:
        return self._grpc is not None and path not in self._grpc.methods and self._grpc.streams(path) is not None

    def _serve_calls(
        self,
        at_once: Callable[[Sequence[GrpcCaller], float, Callable[[GrpcCaller], None]], None],
        exchanges: Sequence[Http2Call],
        now: float,
    ) -> None:
        """``_serve_http2`` of each, which came together: the unary calls among them in one go."""
        calls = []
        for exchange in exchanges:
            if type(exchange) is GrpcCaller and exchange.extra is None:
                calls.append(exchange)
            elif exchange.carrier is not None:
                self._serve_http2(exchange.carrier.owner, exchange)
        if calls:
            try:
                at_once(calls, now, self._serve_grpc)
            except Exception:
                logger.exception("calls could not be begun together. This is a bug.")
                for call in calls:
                    if call.on_cancel is None and call.carrier is not None:  # nobody works on it
                        self._serve_grpc(call)

    def _serve_grpc(self, exchange: GrpcCaller) -> None:
        head = exchange.head
        if self._grpc is None or head.path not in self._grpc.methods:
            exchange(GrpcAnswer(Code.UNIMPLEMENTED, f"unknown method {head.path}"))
            return
        try:
            call = self._grpc.handle(head.path, exchange.message, head.timeout_s, exchange, head.own())
        except Exception as error:
            logger.exception(UNFORESEEN)
            exchange(error_answer(internal_error(error)))
            return
        if call is not None and not call.done():
            exchange.on_cancel = call.cancel if exchange.claim is None else partial(call.cancel, exchange.claim)
