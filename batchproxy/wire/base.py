"""What every wire protocol offers its shell, and the limits all of them keep. No protocol, no socket, no clock here.

A connection is a value machine: bytes and ``now`` in, finished requests and bytes out. The shell's whole duty is::

    exchanges = connection.feed(data, now)      # whatever was read
    ...                                         # each exchange is answered once, now or later
    transport.write(connection.output())        # after feed, and once after every batch of answers
    if connection.full: transport.pause_reading()       # and feed(b"", now) once it no longer is
    if connection.closing: ...                          # after the output is written

Times are monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from batchproxy.wire.budget import Claim


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a peer may cost us. Numbers that TF Serving leaves open are those of widely used servers.

    Attributes:
        connections: open at once on one listener; 16,384 fit the usual 20,000 file descriptors.
        handshake_s: for TLS, 60 as asyncio.
        idle_s: a connection without a request under way is kept this long. nginx's ``keepalive_timeout`` of 75:
            longer than the 60 of common load balancers, which then never send into a connection just closed.
            (libevent under TF Serving: 50.)
        head_s: a request's head must be whole this long after its first byte; mod_reqtimeout's ``header=20``.
        body_s: so long may a body take, plus what ``body_rate`` grants; mod_reqtimeout's ``body=20``.
        body_rate: bytes a second that a slow body must keep up in the long run; mod_reqtimeout's ``MinRate=500``.
        write_s: a peer may leave our answer unread this long without taking a byte; libevent's 50.
        linger_s: after the last answer we go on discarding what the peer sends, so that no reset destroys that
            answer on its way; nginx's ``lingering_timeout`` is 5, this is per connection as a whole.
        line_bytes: of a request line; RFC 9112, section 3, asks for 8,000 at least.
        head_bytes: of a request's head as a whole, or of its trailers; nginx's ``large_client_header_buffers 4 8k``.
        head_fields: of a request; Apache's ``LimitRequestFields``.
        body_bytes: of a request, as sent. TF Serving sets no limit.
        inflated_bytes: of a compressed body; TF Serving's 100 MiB (``util/net_http/compression``).
        pipelined: requests of one HTTP/1.1 connection taken in and not answered.
        pipelined_bytes: their bodies together, beyond the first's.
    """

    connections: int = 16_384
    handshake_s: float = 60.0
    idle_s: float = 75.0
    head_s: float = 20.0
    body_s: float = 20.0
    body_rate: int = 500
    write_s: float = 50.0
    linger_s: float = 2.0
    line_bytes: int = 8 << 10
    head_bytes: int = 32 << 10
    head_fields: int = 100
    body_bytes: int = 256 << 20
    inflated_bytes: int = 100 << 20
    pipelined: int = 64
    pipelined_bytes: int = 1 << 20


class Exchange(Protocol):
    """One request and the place for its answer.

    Each protocol has its own ``answer``, to be called exactly once; after ``on_cancel`` it does nothing.

    Attributes:
        on_cancel: called when the caller is gone before its answer; set by whoever works on the request.
        claim: what is charged for it, if it is large. It is given back with the answer; where the caller is gone
            before, whoever works on the request keeps it until nothing of the request is left.
    """

    on_cancel: Callable[[], object] | None

    @property
    def claim(self) -> Claim | None: ...


class HttpExchange(Exchange, Protocol):
    """An HTTP request.

    Attributes:
        method: as sent.
        path: path and query as sent, undecoded.
        headers: by case-insensitive name; a field sent several times is joined by commas.
        body: without transfer and content coding.
    """

    @property
    def method(self) -> str: ...

    @property
    def path(self) -> str: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    @property
    def body(self) -> bytes: ...

    def answer(self, status: int, body: bytes, headers: Mapping[str, str], reason: str | None = None) -> None:
        """Say the answer.

        Args:
            status: 200 to 599.
            body: the answer's; not sent where HTTP forbids it.
            headers: the answer's own; length, date and connection are the wire's matter, but for ``Connection: close``.
            reason: None for the status's usual phrase.
        """


class GrpcExchange(Exchange, Protocol):
    """A unary gRPC call.

    Attributes:
        path: ``/package.Service/Method``.
        metadata: the call's, by lower-case name.
        message: without its five-byte prefix and uncompressed.
        timeout_s: the caller's ``grpc-timeout``; None: no deadline.
    """

    @property
    def path(self) -> str: ...

    @property
    def metadata(self) -> Mapping[str, str]: ...

    @property
    def message(self) -> bytes: ...

    @property
    def timeout_s(self) -> float | None: ...

    def answer(
        self,
        code: int,
        message: str,
        body: bytes,
        trailers: Sequence[tuple[str, str | bytes]] = (),
        *,
        headers: Sequence[tuple[str, str | bytes]] = (),
    ) -> None:
        """Say the outcome.

        Args:
            code: gRPC's number.
            message: the status text; empty where all is well.
            body: the reply; not sent where ``code`` is not 0.
            trailers: further metadata after the answer.
            headers: further metadata before it.
        """


class Connection(Protocol):
    """One end of one connection.

    Attributes:
        closing: nothing more will be taken in; close once the output is written and read.
        full: stop reading; what was read is kept. Call ``feed(b"", now)`` when it turns False.
        owner: whose it is: the shell's, which may set it.
        on_room: called when what waited for room in the budget goes on: ``full`` or the output has changed.
    """

    closing: bool
    owner: Any
    on_room: Callable[[], object] | None

    @property
    def full(self) -> bool: ...

    def feed(self, data: bytes, now: float) -> list[Any]:
        """Take in what was read; returns the exchanges that became complete, in order. Never raises."""

    def output(self) -> bytes:
        """Everything that is to be written now, joined once; empty for nothing."""

    def due(self) -> float | None:
        """When ``tick`` wants to be called; None for never."""

    def tick(self, now: float) -> None:
        """Time has passed: whoever is too slow, or idle for too long, is told so."""

    def eof(self, now: float) -> None:
        """The peer sends nothing more; callers that are not answered count as gone."""

    def lost(self) -> None:
        """The peer is gone."""

    def held(self) -> int:
        """Bytes of requests and answers that are not charged to the budget one by one."""

    def drain(self, now: float) -> None:
        """Take no new work where the protocol can say so; end with the answers under way."""

    def paused(self, yes: bool) -> None:
        """Whether the peer is slow to read our answers: if so, take no more of its requests."""
