"""gRPC answers as the routes make them, and the formats that write them: of columns, or as they came. No socket."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

from batchproxy.catalogue import Catalogue
from batchproxy.codecs import tfs_grpc
from batchproxy.core.errors import BackendError, BatchProxyError, Code
from batchproxy.core.raw import Header, RawReply
from batchproxy.core.request import Reply, Share, Version
from batchproxy.frontends.heavy import LONG_ANSWER

_OK = Code.OK  # an enumeration's members are found in Python, 50 ns a time


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


@dataclass(slots=True, eq=False)
class PredictFormat:
    """Writes PredictResponses for one model and signature; or answers to Classify and Regress.

    Attributes:
        model: the name the caller used.
        signature: after defaulting.
        asked: the version asked for, and the catalogue that wants to know which one answered; None for embedded models.
        encode: makes the message of a reply, a model's name and a signature's.
        version_of: the version that such a message tells.
    """

    model: str = ""
    signature: str = ""
    asked: tuple[Catalogue, Version] | None = None
    encode: Callable[[Reply, str, str], bytes] = tfs_grpc.encode_predict
    version_of: Callable[[bytes], int] = tfs_grpc.version_of

    def reply(self, reply: Reply) -> GrpcAnswer:
        said = reply.whole if type(reply) is Share else reply  # a share would have to fetch what all have in common
        if said.raw is None:
            answer = GrpcAnswer(_OK, "", self.encode(reply, self.model, self.signature))
            version = said.version
        else:
            answer = as_it_came(said.raw)
            version = self.version_of(said.raw.body) if self.asked else 0
        if self.asked:
            self.asked[0].answered(self.model, self.asked[1], version)
        return answer

    def replies(self, replies: Sequence[Reply]) -> Sequence[bytes] | None:
        """The messages for the members of one call; None: each is to be answered by itself."""
        first = replies[0]
        if type(first) is not Share or first.whole.raw is not None:
            return None
        if self.asked:
            self.asked[0].answered(self.model, self.asked[1], first.whole.version)
        encode, model, signature = self.encode, self.model, self.signature
        if encode is tfs_grpc.encode_predict:
            return tfs_grpc.encode_each(cast("Sequence[Share]", replies), model, signature)
        return [encode(reply, model, signature) for reply in replies]

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
