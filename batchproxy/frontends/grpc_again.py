"""gRPC Predict calls that are like earlier ones but for their numbers: one, or many at once. Learns nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from batchproxy.codecs import tfs_grpc
from batchproxy.codecs.templates import Plan, Templates
from batchproxy.core.errors import BatchProxyError
from batchproxy.core.raw import GRPC, Header, RawCall
from batchproxy.core.request import Request
from batchproxy.frontends.call import Call
from batchproxy.frontends.callers import GrpcCaller
from batchproxy.frontends.grpc_answers import GrpcAnswer
from batchproxy.frontends.known import CallTerms, Known, begin_all
from batchproxy.frontends.terms import Terms
from batchproxy.wire.http2_head import Head

_Known = Known[GrpcAnswer]
_NO_TERMS: CallTerms = (None, None)


class Again:
    """Starts such calls.

    Args:
        templates: knows them.
        terms: reads what their metadata ask for; None: nothing.
    """

    def __init__(self, templates: Templates[_Known], terms: Terms | None) -> None:
        self._templates = templates
        self._terms = terms

    def one(
        self,
        message: bytes,
        metadata: Sequence[Header],
        started: float,
        deadline: float | None,
        respond: Callable[[GrpcAnswer], None],
    ) -> Call[GrpcAnswer] | None:
        """Begin to answer a call; None: nobody is answered, since it is not, or not any more, like another.

        Args:
            message: the PredictRequest.
            metadata: the caller's own.
            started: when it came, on the engines' clock, in seconds.
            deadline: on the same clock.
            respond: gets the answer.
        """
        plan = self._templates.find(message)
        if plan is None:
            return None
        known = plan.value
        key, pool, raw = known.key, known.pool, None
        if pool is not None:
            if not known.holds():
                self._templates.forget()
                return None
            raw = RawCall(GRPC, tfs_grpc.PREDICT, "", metadata, message)
            partition = pool.partition(key.model, raw)
            if partition != key.partition:
                key = key._replace(partition=partition)
            if not pool.takes_grpc:
                raw = None  # a message that its servers do not know
        call = Call(known.form, respond, known.record, started)
        if self._terms is not None:
            try:
                call.priority = self._terms.priority(metadata)
            except BatchProxyError as error:
                call.set_exception(error)
                return call
        call.start(known.engine, Request(key, plan.columns(message), known.rows, known.nbytes, deadline, raw))
        return call

    def all(self, callers: Sequence[GrpcCaller], started: float, otherwise: Callable[[GrpcCaller], None]) -> None:
        """Begin to answer calls of embedded models that are like earlier ones: ``one`` for many, in one loop.

        Args:
            callers: with their messages as they are, not compressed. Who shares a head asks on the same terms.
            started: when they came, on the engines' clock, in seconds.
            otherwise: answers any other call.
        """
        last: Head | None = None
        like: Plan[_Known] | None = None
        find, usual, terms = self._templates.find, False, _NO_TERMS
        kinds: dict[tuple[int, int], tuple[Plan[_Known], CallTerms, list[GrpcCaller]]] = {}
        for caller in callers:
            if caller.head is not last:
                last, like = caller.head, None
                usual, terms = self._read(last, started)
            plan = find(caller.message) if usual else None
            if plan is None or plan.value.pool is not None:
                otherwise(caller)
                continue
            if plan is not like:
                like = plan
                theirs = kinds.setdefault((id(last), id(plan)), (plan, terms, []))[2]
            theirs.append(caller)
        for plan, terms, alike in kinds.values():
            begin_all(plan.value, alike, [plan.columns(caller.message) for caller in alike], terms, started)

    def _read(self, head: Head, started: float) -> tuple[bool, CallTerms]:
        """Whether calls with this head may be of the usual ones, and then on what terms."""
        if head.path != tfs_grpc.PREDICT:
            return False, _NO_TERMS
        deadline = None if head.timeout_s is None else started + head.timeout_s
        try:
            return True, (deadline, None if self._terms is None else self._terms.priority(head.own()))
        except BatchProxyError:
            return False, _NO_TERMS
