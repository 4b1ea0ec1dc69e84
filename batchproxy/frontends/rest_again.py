"""REST Predict requests that are like earlier ones but for their numbers: one, or many at once. Learns nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from batchproxy.codecs.json_templates import LEFT_OUT, MAX_BODY, NumberPlan
from batchproxy.codecs.row_templates import RowPlan
from batchproxy.core.columns import Columns
from batchproxy.core.errors import BatchProxyError
from batchproxy.core.raw import REST, RawCall
from batchproxy.core.request import Request
from batchproxy.frontends.call import Call
from batchproxy.frontends.callers import Http1Caller
from batchproxy.frontends.known import Known, begin_all
from batchproxy.frontends.rest_answers import RestAnswer
from batchproxy.frontends.rest_relay import RestRelay, Templates, passed_on
from batchproxy.frontends.terms import Terms
from batchproxy.wire.http1_head import Head

Respond = Callable[[RestAnswer], None]
_Plan = NumberPlan[Known[RestAnswer]] | RowPlan[Known[RestAnswer]]
_NONE: Sequence[_Plan] = ()
_Terms = tuple[float | None, int | None]  # deadline, priority


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
            raw = RawCall(REST, "POST", path, passed_on(headers), body)
            again = self._relay.again(known, columns, raw, headers, deadline)
            if again is None:
                return None
            request = again
        call.start(known.engine, request)
        return call

    def all(self, callers: Sequence[Http1Caller], started: float, otherwise: Callable[[Http1Caller], None]) -> None:
        """Begin to answer requests for embedded models that are like earlier ones: ``one`` for many, in one loop.

        Args:
            callers: the requests. Who shares a head asks for the same, of the same, on the same terms.
            started: when they came, on the engines' clock, in seconds.
            otherwise: answers any other request.
        """
        last: Head | None = None
        like: _Plan | None = None
        kinds: dict[tuple[int, int], tuple[_Plan, _Terms, list[Http1Caller]]] = {}
        for caller in callers:
            if caller.head is not last:
                last, like = caller.head, None
                usual = last.method == "POST" and last.length <= MAX_BODY
                plans = self._templates.plans(last.path) if usual else {}
                try:
                    terms = self._terms.of(last.headers, started)
                except BatchProxyError:
                    plans = {}
            body = caller.body
            for plan in plans.get(body.translate(None, LEFT_OUT), _NONE):  # as ``JsonTemplates.find``
                if body.startswith(plan.before) and body.endswith(plan.after):
                    if plan is not like:
                        like = plan
                        theirs = kinds.setdefault((id(last), id(plan)), (plan, terms, []))[2]
                    theirs.append(caller)
                    break
            else:
                otherwise(caller)
        for kind in kinds.values():
            _begin(*kind, started, otherwise)


def _begin(
    plan: _Plan,
    terms: _Terms,
    callers: Sequence[Http1Caller],
    started: float,
    otherwise: Callable[[Http1Caller], None],
) -> None:
    """Begin to answer requests of one kind, on the same terms."""
    if not isinstance(plan, NumberPlan) or plan.value.pool is not None:
        for caller in callers:
            otherwise(caller)
        return
    found = plan.read_each([caller.body for caller in callers])
    for caller, columns in zip(callers, found, strict=True):
        if columns is None:
            otherwise(caller)
    whole = [columns for columns in found if columns is not None]
    if len(whole) < len(callers):
        callers = [caller for caller, columns in zip(callers, found, strict=True) if columns is not None]
    if callers:
        begin_all(plan.value, callers, whole, terms, started)
