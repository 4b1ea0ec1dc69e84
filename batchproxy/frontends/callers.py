"""Callers as the routes see them: something to be called with an answer, which it says and has written. No routes.

An answer on an HTTP/1.1 connection on which nothing else is asked is written at once, if it is the first of a turn of
the loop, or one of many that are told together; any other marks its connection (``door``), and one callback a loop turn
writes what all marked connections have to say, each once.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from batchproxy.core.errors import Code
from batchproxy.frontends.call import internal_error
from batchproxy.frontends.grpc_answers import GrpcAnswer, error_answer
from batchproxy.frontends.rest_answers import RestAnswer, RestAnswers, our_error
from batchproxy.wire.http1_exchange import Http1Exchange
from batchproxy.wire.http2_plain import Http2Exchange
from batchproxy.wire.http2_streams import GrpcCall

if TYPE_CHECKING:
    from batchproxy.frontends.door import Door
    from batchproxy.wire.base import HttpExchange

logger = logging.getLogger("batchproxy.callers")

UNFORESEEN = "a request failed in an unforeseen way. This is a bug."


class Http1Caller(Http1Exchange):
    """A request over HTTP/1.1, to be called with its answer. The owner of its connection is a ``Door``."""

    __slots__ = ()

    def __call__(self, answer: RestAnswer) -> None:
        connection = self.connection
        if connection is None:  # the caller is gone
            return
        try:
            connection.settle(self, *answer)
        except ValueError as error:
            _answer_unforeseen(self, error)
        door = connection.owner
        if not door.dirty:
            if connection.open:
                door.mark()
            else:
                door.speak()  # nothing else is asked for here, so nothing else can be said at the end of the turn

    @staticmethod
    def respond_all(callers: Sequence[Http1Caller], said: RestAnswers) -> None:
        """Call each with its answer; the head of answers that are alike is looked up once."""
        (status, _, headers, reason), bodies = said
        heads, size, head = None, -1, b""
        door: Door | None = None
        for caller, body in zip(callers, bodies, strict=True):
            connection = caller.connection
            if connection is None:
                continue
            if len(body) != size or connection.answers is not heads:
                heads, size = connection.answers, len(body)
                head = heads.plain(status, size, headers, reason)
            door = connection.owner
            if head and not caller.mode and not door.dirty and connection.settle_alone(caller):
                door.write(head + body)
            else:
                caller(said.like._replace(body=body))
        if door is not None:
            door.expect_crowd(len(callers))


class Http2Caller(Http2Exchange):
    """A plain request over HTTP/2, to be called with its answer. The owner of its connection is a ``Door``.

    Attributes:
        compressed: that is seen to before, for all that comes over HTTP/2.
    """

    __slots__ = ()

    compressed: ClassVar[bool] = False

    def __call__(self, answer: RestAnswer) -> None:
        carrier = self.carrier
        try:
            self.answer(*answer)
        except ValueError as error:
            _answer_unforeseen(self, error)
        self.on_cancel = None  # no circle of references stays behind
        if carrier is not None and not carrier.owner.dirty:
            carrier.owner.mark()


def _answer_unforeseen(exchange: HttpExchange, error: ValueError) -> None:
    """A server's answer has a field that HTTP has no room for."""
    logger.error(UNFORESEEN, exc_info=error)
    exchange.answer(*our_error(internal_error(error)))


class GrpcCaller(GrpcCall):
    """A unary gRPC call, to be called with its answer. The owner of its connection is a ``Door``."""

    __slots__ = ()

    def __call__(self, answer: GrpcAnswer) -> None:
        carrier = self.carrier
        try:
            code, message, body, headers, trailers, compress = answer
            self.answer(code, message, body, trailers, headers=headers, compress=compress)
        except ValueError as error:  # metadata of a server's answer that gRPC has no room for
            logger.exception(UNFORESEEN)
            ours = error_answer(internal_error(error))
            self.answer(ours.code, ours.message, ours.body, ours.trailers)
        self.on_cancel = None  # no circle of references stays behind
        if carrier is not None and not carrier.owner.dirty:
            carrier.owner.mark()

    @staticmethod
    def respond_all(callers: Sequence[GrpcCaller], bodies: Sequence[bytes]) -> None:
        """Call each with an answer that went well."""
        for caller, body in zip(callers, bodies, strict=True):
            carrier = caller.carrier
            if carrier is None:  # the caller is gone
                continue
            if not caller.answer_plain(body):
                caller(GrpcAnswer(Code.OK, "", body))
            elif not carrier.owner.dirty:
                carrier.owner.mark()
