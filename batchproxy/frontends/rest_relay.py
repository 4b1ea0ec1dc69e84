"""REST requests for servers with a REST door: merged by the text of their rows, or passed on as they came."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from batchproxy.codecs import tfs_example_rows, tfs_examples, tfs_rest, tfs_rows
from batchproxy.codecs.json_templates import JsonTemplates, NumberPlan, number_plan
from batchproxy.codecs.row_templates import RowPlan, row_plan
from batchproxy.core.columns import Columns
from batchproxy.core.raw import REST, Header, RawCall
from batchproxy.core.request import Request, build_request
from batchproxy.frontends import rest_bridge
from batchproxy.frontends.call import Format, Record
from batchproxy.frontends.known import Known
from batchproxy.frontends.remote import RemotePool, as_it_came
from batchproxy.frontends.rest_answers import RelayFormat, RestAnswer
from batchproxy.wire.http1_head import Headers

HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "expect"}
)
"""Headers that end here (RFC 9110, 7.6.1); ``expect`` was answered, and the rest of framing is made anew."""

_OURS = HOP_BY_HOP | {"content-length", "content-encoding", "host"}  # the body was inflated, the host is another


RELAYED = RelayFormat()
"""Writes the answers of all of them."""

Found = tfs_rows.RawPredict | tfs_example_rows.RawExamples


Templates = JsonTemplates[NumberPlan[Known[RestAnswer]] | RowPlan[Known[RestAnswer]]]


class RestRelay:
    """Makes the requests of one listener for such servers.

    Args:
        templates: where requests of a kind are remembered; each was asked there before it comes here.
        recorder: makes the record of a model's calls, for a verb.
    """

    def __init__(self, templates: Templates, recorder: Callable[[str, str], Record]) -> None:
        self._templates = templates
        self._recorder = recorder

    def again(
        self,
        known: Known[RestAnswer],
        columns: Columns,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        deadline: float | None,
    ) -> Request | None:
        """The request to queue of one that is like an earlier one; None: what was known of that does not hold any more.

        Args:
            known: what they have in common.
            columns: its own.
            path: path and query, as sent.
            headers: as they came; of equal heads, what the servers want callers to share is found once.
            body: as it came.
            deadline: on the engine's clock, in seconds.
        """
        pool, key = known.pool, known.key
        assert pool is not None, "An embedded model was taken for one of a server. This is a bug."
        relayed = known.form is RELAYED
        if pool.passes_on("predict") is not relayed or not known.holds():
            self._templates.forget()
            return None
        raw = RawCall(REST, "POST", path, passed_on(headers), body)
        found = headers.partition if type(headers) is Headers else None
        if found is None or found[0] is not pool:
            found = pool, pool.partition(key.model, raw)
            if type(headers) is Headers:
                headers.partition = found
        if found[1] != key.partition:
            key = key._replace(partition=found[1])
        if not relayed:
            return Request(key, columns, known.rows, known.nbytes, deadline)
        return Request(key, columns, 1, len(body), deadline, raw)

    def bridged(self, asked: rest_bridge.Asked, request: Request, form: Format[RestAnswer]) -> None:
        """Remember a Predict request that became a call of another protocol: others of its kind need not be read.

        Args:
            asked: as it came.
            request: what it became.
            form: writes its answer.
        """
        call, pool, _, raw, _ = asked
        model, version, name = request.key.target
        call.record = self._recorder(model, "predict")
        signature = pool.signature(model, version, name)
        if request.rows is None or signature is None:
            return
        known = Known(pool.engine, request.key, request.rows, request.nbytes, form, call.record, pool, signature)
        plan = number_plan(raw.body, request.columns, known, declared=signature.declared)
        self._templates.learn(raw.path, raw.body, plan)

    def request(
        self, pool: RemotePool, target: tfs_rest.Target | None, raw: RawCall, deadline: float | None
    ) -> Request:
        """The request to queue: one that rides with others where all is known and well, else as it came (R5)."""
        if target is None:
            return as_it_came(raw, deadline)
        found = read(target.verb, raw.body) if pool.may_batch(target.model) else None
        return self.merged(pool, target, raw, deadline, found)

    def merged(
        self, pool: RemotePool, target: tfs_rest.Target, raw: RawCall, deadline: float | None, found: Found | None
    ) -> Request:
        """As ``request``, once ``read`` has found what is in the body."""
        request = None
        if isinstance(found, tfs_rows.RawPredict):
            request = self._predict(pool, target, raw, deadline, found)
        elif found is not None:
            request = _examples(pool, target, raw, deadline, found)
        version = rest_bridge.version_of(target)
        return request or as_it_came(raw, deadline, pool.label(target.model, version), version)

    def _predict(
        self,
        pool: RemotePool,
        target: tfs_rest.Target,
        raw: RawCall,
        deadline: float | None,
        found: tfs_rows.RawPredict,
    ) -> Request | None:
        version = rest_bridge.version_of(target)
        signature = pool.signature(target.model, version, found.signature_name)
        if signature is None or not signature.batchable or not found.fits(signature):
            return None
        names = (target.model, version, found.signature_name)
        request = build_request(names, signature, found.columns, deadline=deadline)
        request.key = request.key._replace(partition=pool.partition(target.model, raw))
        request.nbytes = len(raw.body)  # its rows keep all of it alive
        request.raw = raw
        if request.rows == 1:
            record = self._recorder(target.model, "predict")
            known = Known(pool.engine, request.key, 1, 0, RELAYED, record, pool, signature)
            self._templates.learn(raw.path, raw.body, row_plan(raw.body, found, known))
        return request


def may_merge(pool: RemotePool, target: tfs_rest.Target) -> bool:
    """Whether it is worth while to read a long body: not for a model whose requests all travel alone."""
    batchable = pool.models.get(target.model, pool.others).batchable
    info = pool.catalogue.look(target.model, rest_bridge.version_of(target))
    if batchable is False or info is None:
        return bool(batchable)
    return any(signature.batchable for signature in info.signatures.values())


def read(verb: str, body: bytes) -> Found | None:
    """What can be merged of a body, whose rows are not parsed (R4); in any thread."""
    if verb == "predict":
        return tfs_rows.read_request(body)
    return tfs_example_rows.read_request(verb, body) if verb in tfs_examples.METHOD_OF else None


def _examples(
    pool: RemotePool,
    target: tfs_rest.Target,
    raw: RawCall,
    deadline: float | None,
    found: tfs_example_rows.RawExamples,
) -> Request | None:
    """A classify or regress request."""
    version = rest_bridge.version_of(target)
    signature = pool.signature(target.model, version, found.signature_name)
    if signature is None or not tfs_examples.fits(tfs_examples.METHOD_OF[target.verb], signature):
        return None
    columns = {tfs_example_rows.EXAMPLES: found.column}
    request = build_request((target.model, version, found.signature_name), signature, columns, deadline=deadline)
    request.key = request.key._replace(partition=pool.partition(target.model, raw))
    request.raw = raw
    return request


def passed_on(headers: Mapping[str, str]) -> tuple[Header, ...]:
    """The headers of a request that its server is to see; those of equal heads are found once."""
    if isinstance(headers, Headers):
        if headers.passed_on is None:
            headers.passed_on = _passed_on(headers)
        return headers.passed_on
    return _passed_on(headers)


def _passed_on(headers: Mapping[str, str]) -> tuple[Header, ...]:
    dropped: Collection[str] = _OURS
    if connection := headers.get("Connection"):
        dropped = _OURS | {name.strip().lower() for name in connection.split(",")}
    return tuple((lower, value) for name, value in headers.items() if (lower := name.lower()) not in dropped)
