"""REST Predict requests that are like earlier ones but for their numbers: one, or many at once. Learns nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeGuard

from batchproxy.codecs.json_templates import MAX_BODY, NumberPlan
from batchproxy.codecs.row_templates import RowPlan
from batchproxy.core.columns import Columns
from batchproxy.core.errors import BatchProxyError
from batchproxy.core.request import Request
from batchproxy.frontends.call import Call
from batchproxy.frontends.callers import Http1Caller
from batchproxy.frontends.known import CallTerms, Known, begin_all, begin_each
from batchproxy.frontends.rest_answers import RestAnswer
from batchproxy.frontends.rest_relay import RestRelay, Templates
from batchproxy.frontends.terms import Terms
from batchproxy.wire.http1_head import Head

Respond = Callable[[RestAnswer], None]
_Plan = NumberPlan[Known[RestAnswer]] | RowPlan[Known[RestAnswer]]


class Again:
    """Starts the calls of such requests.

    Args:
        templates: knows them.
        terms: reads what else their headers ask for.
        relay: makes the requests of those that go to a server.
    """

    def __init__(self, templates: Templates, terms: Terms, relay: RestRelay) -> None:
        self._templates = templates
        self._terms = terms
        self._relay = relay

    def one(
        self, path: str, headers: Mapping[str, str], body: bytes, started: float, respond: Respond
    ) -> Call[RestAnswer] | None:
        """Begin to answer a POST request; None: nobody is answered, since it is not, or not any more, like another.

        Args:
            path: path and query, as sent.
            headers: the request's, by case-insensitive name.
            body: the request's, inflated.
            started: when it came, on the engines' clock, in seconds.
            respond: gets the answer.
        """
        plan = self._templates.find(path, body)
        if plan is None or (columns := plan.read(body)) is None:
            return None
        return self._start(plan.value, columns, path, headers, body, started, respond)

    def _start(
        self,
        known: Known[RestAnswer],
        columns: Columns,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        started: float,
        respond: Respond,
    ) -> Call[RestAnswer] | None:
        call = Call(known.form, respond, known.record, started)
        try:
            deadline, call.priority = self._terms.of(headers, started)
        except BatchProxyError as error:
            call.set_exception(error)
            return call
        if known.pool is None:
            request = Request(known.key, columns, known.rows, known.nbytes, deadline)
        else:
            again = self._relay.again(known, columns, path, headers, body, deadline)
            if again is None:
                return None
            request = again
        call.start(known.engine, request)
        return call

    def all(self, callers: Sequence[Http1Caller], started: float, otherwise: Callable[[Http1Caller], None]) -> None:
        """Begin to answer requests that are like earlier ones: ``one`` for many, in one loop.

        Args:
            callers: the requests. Who shares a head asks for the same, of the same, on the same terms.
            started: when they came, on the engines' clock, in seconds.
            otherwise: answers any other request.
        """
        last: Head | None = None
        theirs: list[Http1Caller] = []
        unusual: list[Http1Caller] = []
        asks: dict[tuple[str, CallTerms], list[Http1Caller]] = {}
        for caller in callers:
            if caller.head is not last:
                last, ask = caller.head, self._ask(caller.head, started)
                theirs = asks.setdefault(ask, []) if ask is not None else unusual
            theirs.append(caller)
        for caller in unusual:
            otherwise(caller)
        for (path, terms), theirs in asks.items():
            self._begin(path, terms, theirs, started, otherwise)

    def _ask(self, head: Head, started: float) -> tuple[str, CallTerms] | None:
        """What is asked for, on which terms; None: ``one`` has to find out."""
        if head.method != "POST" or head.length > MAX_BODY:
            return None
        try:
            return head.path, self._terms.of(head.headers, started)
        except BatchProxyError:
            return None

    def _begin(
        self,
        path: str,
        terms: CallTerms,
        callers: Sequence[Http1Caller],
        started: float,
        otherwise: Callable[[Http1Caller], None],
    ) -> None:
        """``all`` for those who ask for the same, on the same terms; most of them have bodies of one kind."""
        bodies = [caller.body for caller in callers]
        plan = self._templates.find(path, bodies[0])
        if _is_ours(plan) and (whole := plan.read_alike(bodies)) is not None:
            begin_all(plan.value, callers, whole, terms, started)
            return
        kinds: dict[int, tuple[_Plan, list[Http1Caller]]] = {}
        for caller in callers:
            plan = self._templates.find(path, caller.body)
            if plan is not None:
                kinds.setdefault(id(plan), (plan, []))[1].append(caller)
            else:
                otherwise(caller)
        for plan, alike in kinds.values():
            if not _is_ours(plan):
                self._pass_on(plan, path, terms, alike, started, otherwise)
                continue
            bodies = [caller.body for caller in alike]
            # what was tried with all of them is not tried again
            read = plan.read_each(bodies) if len(alike) < len(callers) else map(plan.read, bodies)
            theirs, found = [], []
            for caller, columns in zip(alike, read, strict=True):
                if columns is None:
                    otherwise(caller)
                else:
                    theirs.append(caller)
                    found.append(columns)
            if theirs:
                begin_all(plan.value, theirs, found, terms, started)

    def _pass_on(
        self,
        plan: _Plan,
        path: str,
        terms: CallTerms,
        callers: Sequence[Http1Caller],
        started: float,
        otherwise: Callable[[Http1Caller], None],
    ) -> None:
        """``_begin`` for those of one kind whose model a server has."""
        deadline, priority = terms
        theirs, requests = [], []
        for caller in callers:
            body, request = caller.body, None
            if (columns := plan.read(body)) is not None:
                request = self._relay.again(plan.value, columns, path, caller.head.headers, body, deadline)
            if request is None:
                otherwise(caller)
            else:
                request.priority = priority
                theirs.append(caller)
                requests.append(request)
        if theirs:
            begin_each(plan.value, theirs, requests, started)


def _is_ours(plan: _Plan | None) -> TypeGuard[NumberPlan[Known[RestAnswer]]]:
    """Whether it is known, and of an embedded model."""
    return isinstance(plan, NumberPlan) and plan.value.pool is None
