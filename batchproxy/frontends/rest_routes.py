"""REST path -> what answers it. Bytes in, one answer out through ``respond``; no socket and no HTTP library here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import TypeVar

from batchproxy.codecs import tfs_examples, tfs_rest
from batchproxy.codecs.json_templates import JsonTemplates, number_plan
from batchproxy.codecs.tfs_examples import MessageColumn
from batchproxy.core.errors import BatchProxyError, Code, DecodeError
from batchproxy.core.raw import REST, RawCall
from batchproxy.core.request import Request, build_request
from batchproxy.core.shapes import ModelInfo, Signature
from batchproxy.engine import Engine
from batchproxy.frontends import rest_bridge, rest_relay, tfs_to_v2
from batchproxy.frontends.call import Call, Format, Record, Recorder
from batchproxy.frontends.directory import Directory, Served
from batchproxy.frontends.elsewhere import Question
from batchproxy.frontends.examples import RestExamples
from batchproxy.frontends.heavy import LONG_BODY, Heavy
from batchproxy.frontends.known import Known
from batchproxy.frontends.remote import RemotePool
from batchproxy.frontends.rest_again import Again
from batchproxy.frontends.rest_answers import PredictFormat, RestAnswer, below_the_api, our_error
from batchproxy.frontends.rest_relay import RELAYED, RestRelay, Templates, passed_on
from batchproxy.frontends.terms import Terms
from batchproxy.frontends.v2_rest import V2Rest
from batchproxy.observe import Observer
from batchproxy.tasks import Tasks

Respond = Callable[[RestAnswer], None]
_Body = tuple[tfs_rest.Target, str, bytes, float | None]  # what is asked, path, body, deadline
T = TypeVar("T")


class RestRoutes:
    """Answers TF Serving's REST API: from an embedded model, by servers with a REST door, or by bridging to gRPC.

    Args:
        directory: the models.
        observer: told of each answered call.
        clock: monotonic seconds, the engines' own.
        timeout_s: how long an inference call may take; 0: for ever.
        deadline_header: request header that may shorten that, in milliseconds; lower case.
        priority_header: request header that names a priority; lower case.
        ready: whether calls should come now.

    Attributes:
        heavy: reads the long bodies and writes the long answers.
        handle_all: ``handle`` for many at once, where they are like earlier ones; see ``Again.all``.
    """

    def __init__(
        self,
        directory: Directory,
        observer: Observer,
        clock: Callable[[], float],
        *,
        timeout_s: float,
        deadline_header: str | None,
        priority_header: str | None = None,
        ready: Callable[[], bool] = lambda: True,
    ) -> None:
        self._directory = directory
        self._observer = observer
        self._clock = clock
        self._terms = Terms(timeout_s=timeout_s, deadline_header=deadline_header, priority_header=priority_header)
        self.heavy = Heavy(clock)
        self._examples = RestExamples(directory, self.heavy, self._terms)
        self._templates: Templates = JsonTemplates()
        directory.on_change(self._templates.forget)
        self._relay = RestRelay(self._templates, self._recorder)
        self._again = Again(self._templates, self._terms, self._relay)
        self.handle_all = self._again.all
        self._records: dict[tuple[str, str], Record] = {}
        self._tasks = Tasks()
        self._v2 = V2Rest(directory, observer, clock, self._terms, self.heavy, self._tasks, ready)

    def handle(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, respond: Respond
    ) -> Call[RestAnswer] | None:
        """Answer one request, now or later.

        Args:
            method: the HTTP method.
            path: path and query, as sent.
            headers: the request's, by case-insensitive name.
            body: the request's, inflated.
            respond: gets the answer, exactly once.

        Returns:
            The call that is under way, to be cancelled when the caller leaves; None where it was answered.
        """
        started = self._clock()
        if method == "POST":
            again = self._again.one(path, headers, body, started, respond)
            if again is not None:
                return again
        if path.startswith("/v2"):
            known, call = self._v2.handle(method, path, headers, body, respond, started)
            if known:
                return call
        target, fault = _target(method, path)
        if target is None:  # without a slash it is no path on any server
            pool = self._directory.default if path.startswith("/") else None
        else:
            pool = self._directory.remote(target.model)
        if pool is not None and pool.passes_on("" if target is None else target.verb):
            raw = RawCall(REST, method, path, passed_on(headers), body)
            return self._relayed(pool, target, raw, headers, started, respond)
        answer = None
        if target is None or not _is_inside(method, path):
            answer = below_the_api(method, path, headers.get("Origin"))
        if answer is not None:
            respond(answer)
            return None
        if target is None:
            self._recorder("", "")(started, fault.code)
            respond(our_error(fault))
            return None
        if pool is not None and rest_bridge.can_carry(target):
            return self._bridged(pool, target, path, headers, body, started, respond)
        if target.verb == "predict":
            return self._predict(target, path, headers, body, started, respond)
        if target.verb in tfs_examples.METHOD_OF:
            model = "" if self._directory.embedded(target.model) is None else target.model
            call = self._call(_ROWS, model, target.verb, started, respond)
            return self._examples.answer(call, target, headers, body, started)
        self._document(target, started, respond)
        return None

    async def aclose(self) -> None:
        """Stop what waits for metadata, and what is too long to have been read or written yet."""
        self.heavy.close()
        await self._tasks.aclose()

    # -- embedded models ---------------------------------------------------------------------------

    def _predict(
        self,
        target: tfs_rest.Target,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        started: float,
        respond: Respond,
    ) -> Call[RestAnswer]:
        served = self._directory.embedded(target.model)
        call = self._call(_ROWS, "" if served is None else target.model, "predict", started, respond)
        try:
            deadline, call.priority = self._terms.of(headers, started)
        except BatchProxyError as error:
            call.set_exception(error)
            return call
        self._read_embedded(call, (target, path, body, deadline))
        return call

    def _read_embedded(self, call: Call[RestAnswer], asked: _Body) -> None:
        target, _, body, deadline = asked
        then = partial(self._predict_read, call, asked)
        self.heavy.read(call, partial(_read, self._directory, target, body), then, len(body), deadline)

    def _predict_read(
        self,
        call: Call[RestAnswer],
        asked: _Body,
        read: tuple[Served, Signature, bool, Request],
    ) -> None:
        (_, path, body, deadline), (served, signature, row_form, request) = asked, read
        if not self._directory.holds(served):  # a long body, and another version was switched to while it was read
            self._read_embedded(call, asked)
            return
        call.form = PredictFormat(row_form, self.heavy)
        if request.rows is not None:
            call.record = self._recorder(request.key.model, "predict")
            known = Known(
                served.engine, request.key, request.rows, request.nbytes, call.form, call.record, None, signature
            )
            plan = number_plan(body, request.columns, known, declared=signature.declared)
            self._templates.learn(path, body, plan)
        request.deadline = deadline
        call.start(served.engine, request)

    def _document(self, target: tfs_rest.Target, started: float, respond: Respond) -> None:
        model, code = "", Code.OK
        try:
            if target.verb == "status":
                body = tfs_rest.encode_status(self._directory.find_status(target.model, target.version))
            else:
                body = tfs_rest.encode_metadata(self._directory.find(target.model, target.version, target.label).info)
            model, answer = target.model, RestAnswer(200, body)
        except BatchProxyError as error:
            code, answer = error.code, our_error(error)
        self._recorder(model, target.verb)(started, code)
        respond(answer)

    # -- servers -----------------------------------------------------------------------------------

    def _relayed(
        self,
        pool: RemotePool,
        target: tfs_rest.Target | None,
        raw: RawCall,
        headers: Mapping[str, str],
        started: float,
        respond: Respond,
    ) -> Call[RestAnswer]:
        """Pass a request on: merged with others where all is known of its model, else as it came."""
        verb = target.verb if target is not None else ""
        try:
            deadline, priority = self._terms.of(headers, started)
        except BatchProxyError as error:
            return self._refuse(error, "", verb, started, respond)
        if target is None or len(raw.body) <= LONG_BODY:
            request = self._relay.request(pool, target, raw, deadline)
        elif rest_relay.may_merge(pool, target):
            call = self._call(RELAYED, "", verb, started, respond)
            call.priority = priority
            asked = rest_bridge.Asked(call, pool, target, raw, deadline)
            self._read(asked, partial(rest_relay.read, verb, raw.body), partial(self._relay_long, asked))
            return call
        else:
            request = self._relay.merged(pool, target, raw, deadline, None)
        request.priority = priority
        return self._start(pool.engine, request, RELAYED, verb, started, respond)

    def _relay_long(self, asked: rest_bridge.Asked, found: rest_relay.Found | None) -> None:
        call, pool, target, raw, deadline = asked
        request = self._relay.merged(pool, target, raw, deadline, found)
        call.record = self._recorder(request.key.model, target.verb)
        call.start(pool.engine, request)

    def _bridged(
        self,
        pool: RemotePool,
        target: tfs_rest.Target,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        started: float,
        respond: Respond,
    ) -> Call[RestAnswer]:
        try:
            deadline, priority = self._terms.of(headers, started)
        except BatchProxyError as error:
            return self._refuse(error, "", target.verb, started, respond)
        if pool.v2 and target.verb in tfs_examples.METHOD_OF:
            return self._refuse(tfs_to_v2.only_predict(target.verb), "", target.verb, started, respond)
        if target.verb in _DOCUMENTS:
            document, form = rest_bridge.document_call(pool, target)
            document.deadline = deadline
            return self._start(pool.engine, document, form, target.verb, started, respond)
        call = self._call(_ROWS, "", target.verb, started, respond)
        call.priority = priority
        raw = RawCall(REST, "POST", path, passed_on(headers), body)
        asked = rest_bridge.Asked(call, pool, target, raw, deadline)
        if target.verb == "predict":
            self._read(asked, partial(tfs_rest.parse_body, body), partial(self._bridge, asked))
        else:
            work = partial(rest_bridge.read_examples, target.verb, body)
            self._read(asked, work, partial(self._bridge_examples, asked))
        return call

    def _bridge(self, asked: rest_bridge.Asked, envelope: tfs_rest.Envelope) -> None:
        info = asked.pool.catalogue.look(asked.target.model, rest_bridge.version_of(asked.target))
        if info is not None:
            self._bridge_known(asked, envelope, info)
        else:
            _ = self._tasks.spawn("bridge", self._bridge_when_known(asked, envelope))

    async def _bridge_when_known(self, asked: rest_bridge.Asked, envelope: tfs_rest.Envelope) -> None:
        """The first requests of a model wait here: JSON cannot be read without its signature."""
        call = asked.call
        try:
            info = await asked.pool.catalogue.find(asked.target.model, rest_bridge.version_of(asked.target))
        except BatchProxyError as error:
            if not call.done():
                call.set_exception(error)
        else:
            if not call.done():
                self._bridge_known(asked, envelope, info)

    def _bridge_known(self, asked: rest_bridge.Asked, envelope: tfs_rest.Envelope, info: ModelInfo) -> None:
        _, pool, target, raw, _ = asked
        work = partial(rest_bridge.predict_request, pool, self.heavy, target, envelope, info, raw)
        self._read(asked, work, partial(self._start_bridged, asked))

    def _start_bridged(self, asked: rest_bridge.Asked, bridged: tuple[Request, Format[RestAnswer]]) -> None:
        self._relay.bridged(asked, *bridged)
        asked.start(bridged)

    def _bridge_examples(self, asked: rest_bridge.Asked, read: tuple[str, MessageColumn]) -> None:
        request, form = rest_bridge.examples_request(asked.pool, asked.target, read, asked.raw)
        asked.call.record = self._recorder(request.key.model, asked.target.verb)
        asked.start((request, form))

    def _read(self, asked: rest_bridge.Asked, work: Callable[[], T], then: Callable[[T], None]) -> None:
        self.heavy.read(asked.call, work, then, len(asked.raw.body), asked.deadline)

    # -- inside ------------------------------------------------------------------------------------

    def _call(
        self, form: Format[RestAnswer], model: str, verb: str, started: float, respond: Respond
    ) -> Call[RestAnswer]:
        return Call(form, respond, self._recorder(model, verb), started)

    def _start(
        self,
        engine: Engine,
        request: Request,
        form: Format[RestAnswer],
        verb: str,
        started: float,
        respond: Respond,
    ) -> Call[RestAnswer]:
        if verb in _DOCUMENTS or (verb and not request.key.model):  # nothing is known yet of who has that model
            record = self._recorder(request.key.model, verb)
            call: Call[RestAnswer] = Question(form, respond, record, started, self._tasks)
        else:
            call = self._call(form, request.key.model, verb, started, respond)
        call.start(engine, request)
        return call

    def _refuse(
        self, error: BatchProxyError, model: str, verb: str, started: float, respond: Respond
    ) -> Call[RestAnswer]:
        call = self._call(PredictFormat(row_form=True), model, verb, started, respond)
        call.set_exception(error)
        return call

    def _recorder(self, model: str, verb: str) -> Record:
        """The record of the calls of a model that is known, or of all others (no name)."""
        record = self._records.get((model, verb))
        if record is None:
            record = self._records[model, verb] = Recorder(self._observer.counter(model, verb, REST), self._clock)
        return record


def _target(method: str, path: str) -> tuple[tfs_rest.Target | None, BatchProxyError]:
    """What a path asks for, or why it asks for nothing."""
    try:
        return _parsed(method, path), _NO_FAULT
    except BatchProxyError as error:
        return None, error


_DOCUMENTS = frozenset({"status", "metadata"})
_NO_FAULT = DecodeError("")
_ROWS = PredictFormat(row_form=True)  # until the body is read; errors have one form
_parsed = lru_cache(maxsize=1024)(tfs_rest.parse_target)  # an error is not kept


@lru_cache(maxsize=1024)
def _is_inside(method: str, path: str) -> bool:
    """Whether a path that asks for something gets past TF Serving's HTTP layer."""
    return tfs_rest.outside(method, path) is None


def _read(directory: Directory, target: tfs_rest.Target, body: bytes) -> tuple[Served, Signature, bool, Request]:
    """What a predict body asks of an embedded model, and whether in row form; in any thread.

    Raises:
        BatchProxyError: TF Serving's text.
    """
    envelope = tfs_rest.parse_body(body)
    served = directory.find(target.model, target.version, target.label)
    info, name = served.info, envelope.signature_name
    signature = tfs_rest.signature_of(info, name)
    decoded = tfs_rest.decode_predict(envelope, name, signature)
    request = build_request((info.name, info.version, name), signature, decoded.columns)
    return served, signature, decoded.row_form, request
