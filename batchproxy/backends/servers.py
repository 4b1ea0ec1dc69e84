"""A model server behind one or both of its doors: what holds whatever protocol it speaks. No messages are made here."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TypedDict, Unpack

from batchproxy.backends.base import Begun, Stream
from batchproxy.backends.grpc_wire import GrpcCalls, GrpcWireDoor
from batchproxy.backends.http import RestDoor
from batchproxy.backends.tls import ClientTls
from batchproxy.core.errors import BackendError, BackendRejected, Code
from batchproxy.core.raw import GRPC, REST, Header, RawCall, RawReply
from batchproxy.wire.budget import Budget
from batchproxy.wire.unpack import Message

ASK_S = 10.0
"""How long a question about a model may take: a server that is loading models answers late, not never."""

PROBE_S = 2.0
"""How long a server that is to be used again may take to say anything at all."""

AIO, WIRE = "aio", "wire"
"""The gRPC clients: ``grpc.aio``'s, and our own."""

JSON: tuple[Header, ...] = (("content-type", "application/json"),)


class Options(TypedDict, total=False):
    """How a server is reached.

    Attributes:
        grpc: ``HOST:PORT`` or ``unix:/PATH``; None for no such door.
        rest: ``HOST:PORT``, or ``http://HOST:PORT`` or ``https://HOST:PORT``; None for no such door.
        static_headers: sent with each call, as (name, value) pairs; a caller's own of that name count more.
        grpc_client: ``AIO`` or ``WIRE``.
        budget: of the process, for large answers; left out, its own.
        grpc_tls: for gRPC within TLS; None for plain text.
        rest_tls: for ``https``; left out, the system's CAs are trusted.
    """

    grpc: str | None
    rest: str | None
    static_headers: Sequence[Header]
    grpc_client: str
    budget: Budget | None
    grpc_tls: ClientTls | None
    rest_tls: ClientTls | None


class ServerBackend:
    """A server, as far as it is one.

    Args:
        options: see ``Options``.

    Raises:
        ConfigError: a file of those is not what it should be.
    """

    scheme = ""
    """What the URL schemes of such servers begin with."""

    def __init__(self, **options: Unpack[Options]) -> None:
        grpc, rest, budget = options.get("grpc"), options.get("rest"), options.get("budget")
        client, grpc_tls = options.get("grpc_client", WIRE), options.get("grpc_tls")
        self._grpc = None if grpc is None else _open_grpc(grpc, client, grpc_tls, budget)
        self._rest = None if rest is None else RestDoor(rest, options.get("rest_tls"), budget)
        self._static = tuple(options.get("static_headers", ()))
        self.name = ",".join(f"{self.scheme}{door.name}" for door in (self._grpc, self._rest) if door is not None)

    def has(self, protocol: str) -> bool:
        """Whether calls of this protocol (``GRPC`` or ``REST``) can be sent."""
        return (self._grpc if protocol == GRPC else self._rest) is not None

    async def relay(self, call: RawCall, timeout_s: float | None) -> RawReply:
        """Pass a call on through the door that it came by, with the static headers: they are this server's matter."""
        headers = self._with_static(call.headers)
        try:
            if call.protocol == GRPC:
                return await self._grpc_door().call(call.method, headers, call.body, timeout_s)
            return await self._rest_door().call(call.method, call.path, headers, call.body, timeout_s)
        except BackendError as error:
            self._refused(error)
            raise

    def begin(
        self, call: RawCall, timeout_s: float | None, told: Callable[[RawReply | BackendError], None]
    ) -> Begun | None:
        """As ``relay``, by REST over a connection that is free."""
        if call.protocol != REST or self._rest is None:
            return None
        headers = self._with_static(call.headers)
        return self._rest.begin(call.method, call.path, headers, call.body, timeout_s, partial(self._told, told))

    def relay_stream(
        self, method: str, headers: Sequence[Header], messages: AsyncIterable[Message], timeout_s: float | None = None
    ) -> AbstractAsyncContextManager[Stream]:
        """Pass on a gRPC call of any kind, both ways, as ``relay`` does; see ``GrpcDoor.stream``."""
        return self._grpc_door().stream(method, self._with_static(headers), messages, timeout_s)

    async def aclose(self) -> None:
        for door in (self._grpc, self._rest):
            if door is not None:
                await door.aclose()

    def _told(self, told: Callable[[RawReply | BackendError], None], answer: RawReply | BackendError) -> None:
        if isinstance(answer, BackendError):
            self._refused(answer)
        told(answer)

    def _refused(self, error: BackendError) -> BackendError:
        """Look at an error, and say which to go on with where the call was ours."""
        return error

    def _with_static(self, headers: Sequence[Header]) -> Sequence[Header]:
        if not self._static:
            return headers
        theirs = {name.lower() for name, _ in headers}
        return (*(header for header in self._static if header[0].lower() not in theirs), *headers)

    async def _get(self, path: str, timeout_s: float) -> RawReply:
        return await self._rest_door().call("GET", path, self._static, b"", timeout_s)

    def _grpc_door(self) -> GrpcCalls:
        if self._grpc is None:
            raise _no_door(self.name, GRPC, f"{self.scheme}grpc://HOST:PORT")
        return self._grpc

    def _rest_door(self) -> RestDoor:
        if self._rest is None:
            raise _no_door(self.name, REST, f"{self.scheme}http://HOST:PORT")
        return self._rest


def _open_grpc(target: str, client: str, tls: ClientTls | None, budget: Budget | None) -> GrpcCalls:
    if client == WIRE:
        return GrpcWireDoor(target, tls, budget)
    from batchproxy.backends.grpc import GrpcDoor  # noqa: PLC0415 - loads grpcio, which the other client does without

    if tls is not None:
        tls.context(["h2"])  # says what is wrong with its files, which grpcio does not
    return GrpcDoor(target, tls)


def _no_door(name: str, protocol: str, wanted: str) -> BackendRejected:
    text = f"the server {name} has no {protocol} door: add {wanted} to its --backend"
    return BackendRejected(text, code=Code.UNIMPLEMENTED)
