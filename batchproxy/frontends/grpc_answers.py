"""gRPC answers as the routes make them, and what every protocol's make alike: relays and errors. No socket here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from batchproxy.codecs import tfs_grpc
from batchproxy.core.errors import BackendError, BatchProxyError, Code
from batchproxy.core.raw import Header, RawReply
from batchproxy.core.request import Reply
from batchproxy.frontends.heavy import LONG_ANSWER


class GrpcAnswer(NamedTuple):
    """What goes back to the caller: ``body`` counts only where ``code`` is OK, and is compressed where it may be."""

    code: Code
    message: str = ""
    body: bytes = b""
    headers: Sequence[Header] = ()
    trailers: Sequence[Header] = ()
    compress: bool = False


class RelayFormat:
    """Passes on what a server said."""

    def reply(self, reply: Reply) -> GrpcAnswer:
        assert reply.raw is not None, "a relayed call has no raw answer. This is a bug."
        return as_it_came(reply.raw)

    def error(self, error: BatchProxyError) -> GrpcAnswer:
        return error_answer(error)


def as_it_came(raw: RawReply) -> GrpcAnswer:
    """What a server said; compressed for the caller, too, if it was and that takes no time (``LONG_ANSWER``)."""
    compress = raw.compressed and len(raw.body) <= LONG_ANSWER
    return GrpcAnswer(Code.OK, "", raw.body, raw.headers, raw.trailers, compress)


def error_answer(error: BatchProxyError) -> GrpcAnswer:
    """A gRPC status: the server's own where it answered this caller alone, else ours, cut as TF Serving cuts it."""
    if isinstance(error, BackendError) and error.raw is not None:
        return GrpcAnswer(error.code, error.raw.message, b"", error.raw.headers, error.raw.trailers)
    return our_error(error)


def our_error(error: BatchProxyError) -> GrpcAnswer:
    """An error in our words, whatever a server said of it."""
    trailers = (("grpc-retry-pushback-ms", "1000"),) if error.code is Code.UNAVAILABLE else ()
    return GrpcAnswer(error.code, tfs_grpc.status_text(error), trailers=trailers)
