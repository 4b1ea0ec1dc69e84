"""Calls and answers as they came off the wire: what a relay passes on untouched. Nothing is parsed here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Header = tuple[str, str | bytes]
"""A header field or a piece of gRPC metadata: name in lower case; bytes only under names that end in ``-bin``."""

GRPC = "grpc"
REST = "rest"


@dataclass(slots=True, eq=False)
class RawCall:
    """One unary call as its caller sent it.

    Attributes:
        protocol: ``GRPC`` or ``REST``.
        method: gRPC: the full method path. REST: the HTTP method.
        path: REST: path and query, undecoded. gRPC: empty.
        headers: without hop-by-hop ones.
        body: gRPC: the message, without its prefix. REST: the body as sent, still compressed if it was.
    """

    protocol: str
    method: str
    path: str
    headers: Sequence[Header]
    body: bytes


@dataclass(slots=True, eq=False)
class RawReply:
    """The answer to one, as the server sent it.

    Attributes:
        status: gRPC: the status code's number. REST: the HTTP status.
        message: gRPC: the status text. REST: the reason phrase.
        headers: gRPC: initial metadata. REST: headers without hop-by-hop ones.
        body: gRPC: the message; empty unless OK. REST: the body.
        trailers: gRPC: trailing metadata. REST: empty.
        compressed: gRPC: whether the message was compressed on its way, which ``body`` is not any more.
    """

    status: int
    message: str
    headers: Sequence[Header]
    body: bytes
    trailers: Sequence[Header] = ()
    compressed: bool = False
