"""gRPC method -> what answers it. Bytes in, one answer out through ``respond``; no socket and no gRPC library here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from batchproxy.codecs import grpc_health, tfs_examples, tfs_grpc, v2_grpc
from batchproxy.codecs.templates import Templates
from batchproxy.core.errors import BatchProxyError, Code, RequestError, TooLarge
from batchproxy.core.raw import GRPC, Header, RawCall
from batchproxy.core.request import Reply, Request, build_request
from batchproxy.core.shapes import Signature
from batchproxy.engine import Engine
from batchproxy.frontends import examples, tfs_to_v2
from batchproxy.frontends.call import Call, Recorder
from batchproxy.frontends.directory import Directory
from batchproxy.frontends.elsewhere import Question, call_or_question
from batchproxy.frontends.grpc_again import Again
from batchproxy.frontends.grpc_answers import GrpcAnswer as GrpcAnswer
from batchproxy.frontends.grpc_answers import PredictFormat
from batchproxy.frontends.grpc_answers import RelayFormat as RelayFormat
from batchproxy.frontends.grpc_answers import error_answer as error_answer
from batchproxy.frontends.grpc_health import HealthService
from batchproxy.frontends.known import Known
from batchproxy.frontends.reload import reload_everywhere
from batchproxy.frontends.remote import RemotePool, as_it_came
from batchproxy.frontends.terms import Terms
from batchproxy.frontends.v2_grpc import V2Grpc
from batchproxy.frontends.v2_streams import InferStreams
from batchproxy.observe import Observer
from batchproxy.tasks import Tasks

Respond = Callable[[GrpcAnswer], None]

METHODS = frozenset(tfs_grpc.METHODS) | v2_grpc.METHODS
"""The unary methods that we answer ourselves, or know how to pass on."""


class GrpcRoutes:
    """Answers the methods of TF Serving's gRPC services, from an embedded model or by servers, and Open Inference's.

    Args:
        directory: the models.
        observer: told of each answered call.
        clock: monotonic seconds, the engines' own.
        priority_header: metadata that names a priority; lower case.
        ready: whether calls should come now.

    Attributes:
        handle_all: ``handle`` for many at once, where they are like earlier ones; see ``Again.all``.
    """

    def __init__(
        self,
        directory: Directory,
        observer: Observer,
        clock: Callable[[], float],
        *,
        priority_header: str | None = None,
        ready: Callable[[], bool] = lambda: True,
        health: HealthService | None = None,
    ) -> None:
        self.methods = METHODS if health is None else METHODS | grpc_health.METHODS
        self._health = health
        self._directory = directory
        self._observer = observer
        self._clock = clock
        self._terms = None if priority_header is None else Terms(priority_header=priority_header)
        self._tasks = Tasks()
        self._v2 = V2Grpc(directory, observer, clock, self._terms, self._tasks, ready)
        self._infer_streams = InferStreams(directory, self._v2.handle, clock)
        self._documents: dict[str, Callable[[bytes], tuple[str, bytes]]] = {
            tfs_grpc.GET_MODEL_STATUS: self._status,
            tfs_grpc.GET_MODEL_METADATA: self._metadata,
        }
        self._templates: Templates[Known[GrpcAnswer]] = Templates()
        directory.on_change(self._templates.forget)
        self._again = Again(self._templates, self._terms)
        self.handle_all = self._again.all

    def streams(self, method: str) -> Engine | InferStreams | None:
        """What takes a method that is no unary one of ours, as a stream both ways; None: nobody does."""
        if method in self.methods:
            return None
        if method == v2_grpc.MODEL_STREAM_INFER:
            return self._infer_streams
        if method.startswith(v2_grpc.SERVICE) and (engine := self._v2.streams()) is not None:
            return engine
        default = self._directory.default
        if default is None or GRPC not in default.doors:
            return None
        return default.engine

    def handle(
        self,
        method: str,
        message: bytes,
        timeout_s: float | None,
        respond: Respond,
        metadata: Sequence[Header] = (),
    ) -> Call[GrpcAnswer] | None:
        """Answer one unary call, now or later.

        Args:
            method: its full path, one of ``methods``.
            message: the request, without the five-byte prefix.
            timeout_s: what is left of the caller's deadline; None: no deadline.
            respond: gets the answer, exactly once.
            metadata: the caller's own, without hop-by-hop fields.

        Returns:
            The call that is under way, to be cancelled when the caller leaves; None where it was answered.
        """
        started = self._clock()
        deadline = None if timeout_s is None else started + timeout_s
        if method == tfs_grpc.PREDICT:
            call = self._again.one(message, metadata, started, deadline, respond)
            if call is not None:
                return call
            raw = RawCall(GRPC, method, "", metadata, message)
            return self._predict(raw, started, deadline, respond)
        if self._health is not None and method in grpc_health.METHODS:
            respond(self._health.answer(method, message))
            return None
        raw = RawCall(GRPC, method, "", metadata, message)
        if method in v2_grpc.METHODS:
            return self._v2.handle(raw, deadline, respond, started)
        pool = self._directory.remote(tfs_grpc.model_named(message))
        if pool is not None and not pool.takes_grpc:
            return self._bridged(pool, raw, started, deadline, respond)
        if pool is not None:
            pass_on = self._reload if method == tfs_grpc.RELOAD_CONFIG else self._pass_on
            return pass_on(pool, raw, started, deadline, respond)
        if method in tfs_examples.METHODS:
            return self._examples(raw, started, deadline, respond)
        name, model = method.rpartition("/")[2], ""
        try:
            document = self._documents.get(method)
            if document is None:
                raise RequestError(f"{name} is not answered for embedded models: use Predict", code=Code.UNIMPLEMENTED)
            model, body = document(message)
            answer = GrpcAnswer(Code.OK, body=body)
        except BatchProxyError as error:
            answer = error_answer(error)
        self._observer.request_ended(model, name, GRPC, answer.code, self._clock() - started)
        respond(answer)
        return None

    async def aclose(self) -> None:
        """Stop what waits for several servers."""
        await self._tasks.aclose()

    # -- Predict -----------------------------------------------------------------------------------

    def _predict(self, raw: RawCall, started: float, deadline: float | None, respond: Respond) -> Call[GrpcAnswer]:
        form = PredictFormat()
        model = ""
        try:
            try:
                call = tfs_grpc.parse_predict(raw.body)
            except BatchProxyError:
                if self._directory.default is None or not self._directory.default.takes_grpc:
                    raise
                return self._pass_on(self._directory.default, raw, started, deadline, respond)
            pool = self._directory.remote(call.target.model)
            signature: Signature | None
            if pool is None:
                served = self._directory.find(*call.target)
                engine, info = served.engine, served.info
                model = form.model = info.name
                form.signature = call.signature_name
                signature = declared = tfs_grpc.signature_of(info, call.signature_name)
                columns = tfs_grpc.decode_inputs(call, declared)
                target = (model, info.version, call.signature_name)
                request = build_request(target, declared, columns, call.output_filter, deadline)
            elif not pool.takes_grpc:
                version = tfs_to_v2.version_of(call)
                form.model, form.signature = call.target.model, call.signature_name
                form.asked = (pool.catalogue, version)
                known_info = pool.catalogue.look(form.model, version)
                if known_info is None:
                    return self._predict_when_known(pool, call, raw, started, deadline, respond, form)
                engine, request = pool.engine, tfs_to_v2.predict_request(pool, call, known_info, raw, deadline)
                model, signature = form.model, known_info.signatures[form.signature]
            else:
                signature = pool.signature(call.target.model, tfs_to_v2.version_of(call), call.signature_name)
                engine, request = pool.engine, _remote_predict(pool, call, signature, raw, deadline, form)
                model = request.key.model
        except BatchProxyError as error:
            refused = Call(form, respond, partial(self._ended, model, "Predict"), started)
            refused.set_exception(error)
            return refused
        record = Recorder(self._observer.counter(model, "Predict", GRPC), self._clock)
        waiting = (
            Call(form, respond, record, started) if model else Question(form, respond, record, started, self._tasks)
        )
        self._start(waiting, engine, request, raw.headers)
        if request.rows is not None and signature is not None:
            known = Known(engine, request.key, request.rows, request.nbytes, form, record, pool, signature)
            self._templates.learn(raw.body, request.columns, known)
        return waiting

    def _predict_when_known(
        self,
        pool: RemotePool,
        call: tfs_grpc.PredictCall,
        raw: RawCall,
        started: float,
        deadline: float | None,
        respond: Respond,
        form: PredictFormat,
    ) -> Call[GrpcAnswer]:
        waiting = Call(form, respond, partial(self._ended, "", "Predict"), started)
        _ = self._tasks.spawn("bridge", tfs_to_v2.predict_when_known(waiting, pool, call, raw, deadline))
        return waiting

    def _examples(self, raw: RawCall, started: float, deadline: float | None, respond: Respond) -> Call[GrpcAnswer]:
        """Classify or Regress of an embedded model."""
        method = raw.method.rpartition("/")[2]
        try:
            served, request, form = examples.of_embedded(self._directory, raw, deadline)
        except BatchProxyError as error:
            call = Call(PredictFormat(), respond, partial(self._ended, "", method), started)
            call.set_exception(error)
        else:
            call = Call(form, respond, partial(self._ended, request.key.model, method), started)
            self._start(call, served.engine, request, raw.headers)
        return call

    # -- everything else ---------------------------------------------------------------------------

    def _bridged(
        self, pool: RemotePool, raw: RawCall, started: float, deadline: float | None, respond: Respond
    ) -> Call[GrpcAnswer]:
        """What else is asked of servers that gRPC calls of TF Serving's cannot be passed on to."""
        method = raw.method.rpartition("/")[2]
        reads_examples = raw.method in tfs_examples.METHODS and not pool.v2
        try:
            become = examples.of_rest_servers if reads_examples else tfs_to_v2.grpc_document
            request, form = become(pool, raw, deadline)
        except BatchProxyError as error:
            refused = Call(RelayFormat(), respond, partial(self._ended, "", method), started)
            refused.set_exception(error)
            return refused
        record = partial(self._ended, request.key.model, method)
        call = call_or_question(request, form, respond, record, started, self._tasks)
        self._start(call, pool.engine, request, raw.headers)
        return call

    def _pass_on(
        self, pool: RemotePool, raw: RawCall, started: float, deadline: float | None, respond: Respond
    ) -> Call[GrpcAnswer]:
        form: RelayFormat | PredictFormat = RelayFormat()
        if raw.method in tfs_examples.METHODS:
            form = PredictFormat(encode=tfs_examples.write_reply, version_of=tfs_examples.version_of)
            request = examples.of_servers(pool, raw, deadline, form)
        else:
            request = as_it_came(raw, deadline)
        record = partial(self._ended, request.key.model, raw.method.rpartition("/")[2])
        call = call_or_question(request, form, respond, record, started, self._tasks)
        self._start(call, pool.engine, request, raw.headers)
        return call

    def _reload(
        self, pool: RemotePool, raw: RawCall, started: float, deadline: float | None, respond: Respond
    ) -> Call[GrpcAnswer]:
        """To every server of the pool; the caller may leave, the reload goes on."""
        call = Call(RelayFormat(), respond, partial(self._ended, "", "HandleReloadConfigRequest"), started)
        timeout_s = None if deadline is None else deadline - started

        def fail(error: BatchProxyError) -> None:
            if not call.done():
                call.set_exception(error)

        async def ask() -> None:
            try:
                with pool.engine.borrow(fail):  # so that a shutdown waits for it
                    answer = await reload_everywhere(pool.engine, raw, timeout_s)
            except BatchProxyError as error:
                fail(error)
            else:
                if not call.done():
                    call.set_result(Reply({}, 0, raw=answer))

        _ = self._tasks.spawn(f"reload-{pool.engine.name}", ask())
        return call

    def _start(self, call: Call[GrpcAnswer], engine: Engine, request: Request, metadata: Sequence[Header]) -> None:
        if self._terms is not None:
            try:
                call.priority = self._terms.priority(metadata)
            except BatchProxyError as error:
                call.set_exception(error)
                return
        call.start(engine, request)

    def _ended(self, model: str, method: str, started: float, code: Code) -> None:
        self._observer.request_ended(model, method, GRPC, code, self._clock() - started)

    def _status(self, message: bytes) -> tuple[str, bytes]:
        target = tfs_grpc.parse_status(message)
        return target.model, tfs_grpc.encode_status(self._directory.find_status(target.model, target.version))

    def _metadata(self, message: bytes) -> tuple[str, bytes]:
        info = self._directory.find(*tfs_grpc.parse_metadata(message)).info
        return info.name, tfs_grpc.encode_metadata(info)


def _remote_predict(
    pool: RemotePool,
    call: tfs_grpc.PredictCall,
    signature: Signature | None,
    raw: RawCall,
    deadline: float | None,
    form: PredictFormat,
) -> Request:
    """The request to queue: mergeable where all is known and well, else as it came (R5)."""
    model, version = call.target.model, tfs_to_v2.version_of(call)
    if signature is None:
        return as_it_came(raw, deadline, pool.label(model, version), version)
    form.model, form.signature, form.asked = model, call.signature_name, (pool.catalogue, version)
    if not call.mergeable:
        return as_it_came(raw, deadline, model)
    try:
        columns = tfs_grpc.decode_inputs(call, signature)
    except TooLarge:
        raise
    except BatchProxyError:
        return as_it_came(raw, deadline, model)  # the server says it in its own words
    target = (model, version, call.signature_name)
    request = build_request(target, signature, columns, call.output_filter, deadline)
    partition = pool.partition(model, raw)
    if partition or call.extras:
        request.key = request.key._replace(partition=partition, extras=call.extras)
    request.raw = raw
    return request
