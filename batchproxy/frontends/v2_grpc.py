"""The Open Inference Protocol's gRPC methods -> what answers them. Bytes in, one answer out; no socket here."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from batchproxy._version import __version__
from batchproxy.codecs import v2_grpc, v2_statistics, v2_templates
from batchproxy.codecs.templates import Plan, Templates
from batchproxy.codecs.v2_statistics import Statistics
from batchproxy.core.errors import BatchProxyError, Code
from batchproxy.core.raw import GRPC, RawCall
from batchproxy.core.request import Reply, Request, Share
from batchproxy.core.shapes import ModelInfo
from batchproxy.engine import Engine
from batchproxy.frontends import v2_bridge
from batchproxy.frontends.call import Call, Format, Recorder
from batchproxy.frontends.directory import Directory
from batchproxy.frontends.elsewhere import Question
from batchproxy.frontends.grpc_answers import GrpcAnswer, RelayFormat, error_answer, our_error
from batchproxy.frontends.remote import RemotePool, as_it_came
from batchproxy.frontends.terms import Terms
from batchproxy.frontends.v2_bridge import Calls, ErrorsOnly, Kind, Told
from batchproxy.frontends.v2_counts import OurCounts
from batchproxy.observe import Observer
from batchproxy.tasks import Tasks

Respond = Callable[[GrpcAnswer], None]

_RELAYED = RelayFormat()
_OF_SERVERS = frozenset({v2_grpc.SERVER_METADATA, v2_grpc.REPOSITORY_INDEX, v2_grpc.MODEL_STATISTICS})


class InferFormat:
    """Writes columns as a ModelInferResponse with the caller's id; or what a server said.

    Args:
        told: of the call.
        call_id: the caller's id, where it is another than that call's.
    """

    __slots__ = ("_id", "_told")

    def __init__(self, told: Told, call_id: str | None = None) -> None:
        self._told = told
        self._id = told.call.id if call_id is None else call_id

    def reply(self, reply: Reply) -> GrpcAnswer:
        said = reply.whole if type(reply) is Share else reply
        if said.raw is not None:
            self._told.answered(v2_grpc.version_answered(said.raw.body))
            return _RELAYED.reply(reply)
        self._told.answered(said.version)
        call = self._told.call
        return GrpcAnswer(Code.OK, "", v2_grpc.encode_reply(reply, call.model, self._id, call.outputs))

    def error(self, error: BatchProxyError) -> GrpcAnswer:
        return error_answer(error) if self._told.own else our_error(error)


class V2Grpc:
    """Answers the protocol's unary methods: from an embedded model, or by servers of any protocol.

    Args:
        directory: the models.
        observer: told of each answered call.
        clock: monotonic seconds, the engines' own.
        terms: reads priorities; None: there are none to be read.
        tasks: of the owner.
        ready: whether calls should come now.
    """

    def __init__(
        self,
        directory: Directory,
        observer: Observer,
        clock: Callable[[], float],
        terms: Terms | None,
        tasks: Tasks,
        ready: Callable[[], bool] = lambda: True,
    ) -> None:
        self._directory = directory
        self._observer = observer
        self._counts = OurCounts(directory, observer, clock)
        self._clock = clock
        self._terms = terms
        self._tasks = tasks
        self._ready = ready
        self._templates: Templates[Kind[GrpcAnswer]] = Templates(v2_templates.plan_of)
        directory.on_change(self._templates.forget)
        self._calls: Calls[GrpcAnswer] = Calls(directory, InferFormat, partial(self._ended, "ModelInfer"), tasks)

    def streams(self) -> Engine | None:
        """The engine that passes on the protocol's other methods, as streams both ways; None: nobody does."""
        pool = self._directory.v2_pool()
        return None if pool is None or GRPC not in pool.doors else pool.engine

    def handle(self, raw: RawCall, deadline: float | None, respond: Respond, started: float) -> Call[GrpcAnswer] | None:
        """Answer one unary call, now or later.

        Args:
            raw: its method is one of ``v2_grpc.METHODS``.
            deadline: on ``clock``; None: none.
            respond: gets the answer, exactly once.
            started: when it came, on ``clock``.

        Returns:
            The call that is under way, to be cancelled when the caller leaves; None where it was answered.
        """
        if raw.method != v2_grpc.MODEL_INFER:
            return self._document(raw, deadline, respond, started)
        plan = self._templates.find(raw.body)
        if plan is not None:
            again = self._infer_again(plan, raw, deadline, respond, started)
            if again is not None:
                return again
        call = Call(_ERRORS_ONLY, respond, partial(self._ended, "ModelInfer", ""), started)
        try:
            if self._terms is not None:
                call.priority = self._terms.priority(raw.headers)
            asked = v2_grpc.parse_infer(raw.body)
        except BatchProxyError as error:
            call.set_exception(error)
        else:
            kind = self._calls.start(call, asked, raw, deadline, started)
            if kind is not None:
                count = self._observer.counter(kind.known.key.model, "ModelInfer", GRPC)
                self._templates.learn(raw.body, asked.inputs, kind.remembered(Recorder(count, self._clock)))
        return call

    def _infer_again(
        self, plan: Plan[Kind[GrpcAnswer]], raw: RawCall, deadline: float | None, respond: Respond, started: float
    ) -> Call[GrpcAnswer] | None:
        """A call that is like an earlier one; None: it has to be read."""
        kind, message = plan.value, raw.body
        if not kind.holds():
            self._templates.forget()
            return None
        start, stop = plan.own
        try:
            form = InferFormat(kind.told, message[start:stop].decode())
        except UnicodeDecodeError:
            return None
        call: Call[GrpcAnswer] = Call(form, respond, kind.known.record, started)
        try:
            if self._terms is not None:
                call.priority = self._terms.priority(raw.headers)
        except BatchProxyError as error:
            call.set_exception(error)
            return call
        kind.begin(call, plan.columns(message), raw, deadline, started)
        return call

    # -- what is said of servers and models --------------------------------------------------------

    def _document(
        self, raw: RawCall, deadline: float | None, respond: Respond, started: float
    ) -> Call[GrpcAnswer] | None:
        method = raw.method
        verb, name, code = method.rpartition("/")[2], "", Code.OK
        try:
            named = method in _OF_MODELS or method == v2_grpc.MODEL_STATISTICS
            model, version = v2_grpc.parse_model(raw.body) if named else ("", None)
            pool = self._directory.remote(model) if model else self._directory.default
            if pool is not None and v2_bridge.in_own_words(pool, GRPC) and (model or method in _OF_SERVERS):
                request = as_it_came(raw, deadline, pool.label(model, version), version)
                return self._ask(pool, request, _RELAYED, verb, respond, started)
            counts = method == v2_grpc.MODEL_STATISTICS
            if pool is not None and model and not (counts and pool.v2):
                asking, read = v2_bridge.question(pool, model, version)
                count = partial(self._counts.on_servers, pool, model, version)
                describe = partial(_counted, count) if counts else partial(_described, method)
                form = v2_bridge.InfoFormat(read, describe, partial(_refused, method))
                return self._ask(pool, as_it_came(asking, deadline), form, verb, respond, started)
            if counts:
                stats = self._counts.here(model, version)
                name = model
                answer = GrpcAnswer(Code.OK, "", v2_statistics.encode_message(stats))
            elif named:
                info = v2_bridge.find(self._directory, model, version).info
                name = info.name
                answer = _described(method, info)
            else:
                answer = self._of_the_server(method)
        except BatchProxyError as error:
            answer = _refused(method, error)
            code = answer.code
        self._ended(verb, name, started, code)
        respond(answer)
        return None

    def _of_the_server(self, method: str) -> GrpcAnswer:
        if method == v2_grpc.SERVER_LIVE:
            return GrpcAnswer(Code.OK, "", v2_grpc.encode_flag(True))
        if method == v2_grpc.SERVER_READY:
            return GrpcAnswer(Code.OK, "", v2_grpc.encode_flag(self._ready()))
        if method == v2_grpc.REPOSITORY_INDEX:
            models = [(served.info.name, served.info.version) for served in self._directory.models()]
            return GrpcAnswer(Code.OK, "", v2_grpc.encode_index(models))
        return GrpcAnswer(Code.OK, "", v2_grpc.encode_server_metadata(v2_bridge.NAME, __version__))

    def _ask(
        self, pool: RemotePool, request: Request, form: Format[GrpcAnswer], verb: str, respond: Respond, started: float
    ) -> Call[GrpcAnswer]:
        call: Call[GrpcAnswer] = Question(
            form, respond, partial(self._ended, verb, request.key.model), started, self._tasks
        )
        call.start(pool.engine, request)
        return call

    def _ended(self, method: str, model: str, started: float, code: Code) -> None:
        self._observer.request_ended(model, method, GRPC, code, self._clock() - started)


_ERRORS_ONLY = ErrorsOnly(our_error)
_OF_MODELS = frozenset({v2_grpc.MODEL_READY, v2_grpc.MODEL_METADATA, v2_grpc.MODEL_CONFIG})


def _described(method: str, info: ModelInfo) -> GrpcAnswer:
    """What is answered of a model that is there."""
    if method == v2_grpc.MODEL_READY:
        return GrpcAnswer(Code.OK, "", v2_grpc.encode_flag(True))
    encode = v2_grpc.encode_config if method == v2_grpc.MODEL_CONFIG else v2_grpc.encode_metadata
    return GrpcAnswer(Code.OK, "", encode(info, v2_bridge.shown(info)))


def _counted(count: Callable[[ModelInfo], list[Statistics]], info: ModelInfo) -> GrpcAnswer:
    """Statistics of a model that its servers have, and do not count."""
    return GrpcAnswer(Code.OK, "", v2_statistics.encode_message(count(info)))


def _refused(method: str, error: BatchProxyError) -> GrpcAnswer:
    """What is answered where a model is not there: whether it is ready is a question with an answer."""
    if method == v2_grpc.MODEL_READY and error.code is Code.NOT_FOUND:
        return GrpcAnswer(Code.OK, "", v2_grpc.encode_flag(False))
    return our_error(error)
