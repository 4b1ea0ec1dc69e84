"""The Open Inference Protocol's REST paths -> what answers them. Bytes in, one answer out; no socket here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import NamedTuple

import orjson

from batchproxy._version import __version__
from batchproxy.codecs import v2_documents, v2_rest, v2_rest_answers, v2_statistics
from batchproxy.codecs.v2_calls import InferCall
from batchproxy.codecs.v2_documents import Target
from batchproxy.codecs.v2_rest_answers import Wanted, Written
from batchproxy.codecs.v2_rest_templates import Found, RestTemplates
from batchproxy.codecs.v2_statistics import Statistics
from batchproxy.core.errors import BackendError, BatchProxyError, Code, DecodeError
from batchproxy.core.raw import REST, Header, RawCall
from batchproxy.core.request import Reply, Request, Share
from batchproxy.core.shapes import ModelInfo
from batchproxy.frontends import v2_bridge
from batchproxy.frontends.call import Call, Format, Recorder, TooLong
from batchproxy.frontends.directory import Directory
from batchproxy.frontends.elsewhere import Question
from batchproxy.frontends.heavy import LONG_ANSWER, Heavy
from batchproxy.frontends.remote import RemotePool, as_it_came
from batchproxy.frontends.rest_answers import RelayFormat, RestAnswer, retry_after
from batchproxy.frontends.rest_relay import passed_on
from batchproxy.frontends.terms import Terms
from batchproxy.frontends.v2_bridge import Calls, ErrorsOnly, Kind, Told
from batchproxy.frontends.v2_counts import OurCounts
from batchproxy.observe import Observer
from batchproxy.tasks import Tasks

Respond = Callable[[RestAnswer], None]

_JSON = {"Content-Type": "application/json"}
_OCTETS = "application/octet-stream"
_RELAYED = RelayFormat()
LONG_PRINT = 4 * LONG_ANSWER
"""As ``LONG_ANSWER``: orjson prints numbers three times as quickly as TF Serving's texts of them are made."""

_OF_SERVERS = frozenset({"server", "index", "stats"})
_parsed = lru_cache(maxsize=1024)(v2_documents.parse_target)  # an error is not kept


class InferFormat:
    """Writes columns as the protocol has them, in the form that the request asks for; or what a server said.

    Args:
        told: of the call.
        heavy: writes what is long.
        wanted: by the call, where that is known.
        call_id: the caller's id, where it is another than that call's: as JSON has it between quotation marks.
    """

    __slots__ = ("_heavy", "_id", "_told", "_wanted")

    def __init__(self, told: Told, heavy: Heavy, wanted: Wanted | None = None, call_id: bytes | None = None) -> None:
        self._told = told
        self._heavy = heavy
        self._wanted = Wanted.of(told.call) if wanted is None else wanted
        self._id = v2_rest_answers.quoted(told.call.id) if call_id is None else call_id

    def reply(self, reply: Reply) -> RestAnswer:
        said = reply.whole if type(reply) is Share else reply
        if said.raw is not None:
            self._told.answered(v2_rest.version_answered(said.raw.body, _length_of(said.raw.headers)))
            return _RELAYED.reply(reply)
        self._told.answered(said.version)
        written = v2_rest_answers.written(reply, self._wanted, self._id) if type(reply) is Share else None
        if written is not None:
            return _answer(written)
        if v2_rest_answers.to_print(reply, self._wanted) > LONG_PRINT:
            key = (self._wanted, id(reply.whole)) if type(reply) is Share else None
            raise TooLong(self._heavy, partial(self._write, reply), key)
        return self._write(reply)

    def _write(self, reply: Reply) -> RestAnswer:
        return _answer(v2_rest_answers.write(reply, self._wanted, self._id))

    def error(self, error: BatchProxyError) -> RestAnswer:
        return _RELAYED.error(error) if self._told.own and _has_raw(error) else error_answer(error)


def _answer(written: Written) -> RestAnswer:
    body, length = written
    return tuple.__new__(RestAnswer, (200, body, _JSON if length is None else _octets(length), None))


@lru_cache(maxsize=256)  # one object for answers of equal length, whose heads are then made once
def _octets(length: int) -> Mapping[str, str]:
    return {"Content-Type": _OCTETS, v2_rest.LENGTH_HEADER: str(length)}


class _Kind(NamedTuple):
    """What infer requests of one kind have in common, and how their answers are to look."""

    kind: Kind[RestAnswer]
    wanted: Wanted


class V2Rest:
    """Answers the protocol's REST API: from an embedded model, or by servers of any protocol.

    Args:
        directory: the models.
        observer: told of each answered call.
        clock: monotonic seconds, the engines' own.
        terms: reads deadlines and priorities.
        heavy: reads the long bodies and writes the long answers.
        tasks: of the owner.
        ready: whether calls should come now.
    """

    def __init__(
        self,
        directory: Directory,
        observer: Observer,
        clock: Callable[[], float],
        terms: Terms,
        heavy: Heavy,
        tasks: Tasks,
        ready: Callable[[], bool] = lambda: True,
    ) -> None:
        self._directory = directory
        self._observer = observer
        self._counts = OurCounts(directory, observer, clock)
        self._clock = clock
        self._terms = terms
        self._heavy = heavy
        self._tasks = tasks
        self._ready = ready
        self._templates: RestTemplates[_Kind] = RestTemplates()
        directory.on_change(self._templates.forget)
        self._calls: Calls[RestAnswer] = Calls(
            directory, partial(InferFormat, heavy=heavy), partial(self._ended, "infer"), tasks
        )

    def handle(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, respond: Respond, started: float
    ) -> tuple[bool, Call[RestAnswer] | None]:
        """Answer one request, now or later.

        Args:
            method: the HTTP method.
            path: path and query, as sent.
            headers: the request's, by case-insensitive name.
            body: the request's, inflated.
            respond: gets the answer, exactly once.
            started: when it came, on ``clock``.

        Returns:
            Whether it is one of the protocol's that we know; the call that is under way, to be cancelled when the
            caller leaves, or None where it was answered.
        """
        try:
            target = _parsed(method, path)
        except BatchProxyError as error:
            respond(error_answer(error))
            return True, None
        if target is None:
            return False, None
        if target.verb == "infer":
            return True, self._infer(target, method, path, headers, body, respond, started)
        raw = RawCall(REST, method, path, passed_on(headers), body)
        return True, self._document(target, raw, respond, started)

    # -- inference ---------------------------------------------------------------------------------

    def _infer(
        self,
        target: Target,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        respond: Respond,
        started: float,
    ) -> Call[RestAnswer]:
        try:
            length = v2_rest.json_length(headers.get(v2_rest.LENGTH_HEADER), body)
        except BatchProxyError as error:
            call = self._unread(respond, started)
            call.set_exception(error)
            return call
        found = self._templates.find(path, body, length)
        if found is not None:
            if found.value.kind.holds():
                return self._infer_again(found, method, path, headers, body, length, respond, started)
            self._templates.forget()
        call = self._unread(respond, started)
        try:
            deadline, call.priority = self._terms.of(headers, started)
        except BatchProxyError as error:
            call.set_exception(error)
            return call
        raw = _as_it_came(method, path, headers, body, length)
        pool = self._directory.remote(target.model)
        own = pool is not None and v2_bridge.in_own_words(pool, REST)
        work = partial(_read, target, body, length, own)
        self._heavy.read(call, work, partial(self._start, call, raw, length, deadline, started), length, deadline)
        return call

    def _infer_again(
        self,
        found: Found[_Kind],
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        length: int,
        respond: Respond,
        started: float,
    ) -> Call[RestAnswer]:
        """A request that is like an earlier one."""
        (kind, wanted), columns, call_id = found
        known = kind.known
        call = Call(InferFormat(kind.told, self._heavy, wanted, call_id), respond, known.record, started)
        try:
            deadline, call.priority = self._terms.of(headers, started)
        except BatchProxyError as error:
            call.set_exception(error)
            return call
        raw = None if known.pool is None else _as_it_came(method, path, headers, body, length)
        kind.begin(call, columns, raw, deadline, started)
        return call

    def _unread(self, respond: Respond, started: float) -> Call[RestAnswer]:
        return Call(_ERRORS_ONLY, respond, partial(self._ended, "infer", ""), started)

    def _start(
        self,
        call: Call[RestAnswer],
        raw: RawCall,
        length: int,
        deadline: float | None,
        started: float,
        asked: InferCall,
    ) -> None:
        kind = self._calls.start(call, asked, raw, deadline, started)
        if kind is not None:
            count = self._observer.counter(kind.known.key.model, "infer", REST)
            kind = kind.remembered(Recorder(count, self._clock))
            self._templates.learn(raw.path, raw.body, length, asked, _Kind(kind, Wanted.of(asked)))

    # -- what is said of servers and models --------------------------------------------------------

    def _document(self, target: Target, raw: RawCall, respond: Respond, started: float) -> Call[RestAnswer] | None:
        verb, model = target.verb, target.model
        pool = self._directory.remote(model) if model else self._directory.default
        own = pool is not None and v2_bridge.in_own_words(pool, REST)
        if pool is not None and own and (model or verb in _OF_SERVERS):
            request = as_it_came(raw, None, pool.label(model, target.version), target.version)
            return self._ask(pool, request, _RELAYED, verb, respond, started)
        if pool is not None and model and not (verb == "stats" and pool.v2):
            asking, read = v2_bridge.question(pool, model, target.version)
            count = partial(self._counts.on_servers, pool, model, target.version)
            describe = partial(_counted, count) if verb == "stats" else partial(_described, verb)
            form: Format[RestAnswer] = v2_bridge.InfoFormat(read, describe, error_answer)
            return self._ask(pool, as_it_came(asking, None), form, verb, respond, started)
        code, name = Code.OK, ""
        try:
            if verb == "stats":
                stats = self._counts.here(model, target.version)
                name = model
                answer = RestAnswer(200, v2_statistics.encode_document(stats), _JSON)
            elif model:
                info = v2_bridge.find(self._directory, model, target.version).info
                name = info.name
                answer = _described(verb, info)
            else:
                answer = self._of_the_server(verb)
        except BatchProxyError as error:
            code, answer = error.code, error_answer(error)
        self._ended(verb, name, started, code)
        respond(answer)
        return None

    def _of_the_server(self, verb: str) -> RestAnswer:
        if verb == "live":
            return RestAnswer(200, b'{"live":true}', _JSON)
        if verb == "ready":
            ready = self._ready()
            return RestAnswer(200 if ready else 503, b'{"ready":true}' if ready else b'{"ready":false}', _JSON)
        if verb == "index":
            models = [(served.info.name, served.info.version) for served in self._directory.models()]
            return RestAnswer(200, v2_documents.encode_index(models), _JSON)
        return RestAnswer(200, v2_documents.encode_server_metadata(v2_bridge.NAME, __version__), _JSON)

    def _ask(
        self, pool: RemotePool, request: Request, form: Format[RestAnswer], verb: str, respond: Respond, started: float
    ) -> Call[RestAnswer]:
        record = partial(self._ended, verb, request.key.model)
        call: Call[RestAnswer] = Question(form, respond, record, started, self._tasks)
        call.start(pool.engine, request)
        return call

    def _ended(self, verb: str, model: str, started: float, code: Code) -> None:
        self._observer.request_ended(model, verb, REST, code, self._clock() - started)


def error_answer(error: BatchProxyError) -> RestAnswer:
    """The protocol's error body."""
    status, body = v2_documents.encode_error(error)
    return RestAnswer(status, body, {**_JSON, **retry_after(error)})


_ERRORS_ONLY = ErrorsOnly(error_answer)


def _as_it_came(method: str, path: str, headers: Mapping[str, str], body: bytes, length: int) -> RawCall:
    fields = passed_on(headers)
    if "Content-Type" not in headers and length == len(body):  # tritonclient says nothing, and KServe takes it so
        fields = (*fields, ("content-type", "application/json"))
    return RawCall(REST, method, path, fields, body)


def _read(target: Target, body: bytes, length: int, own: bool) -> InferCall:
    """What a body asks for; ``own``: where it cannot be read, its server is to say so in its own words (R4)."""
    try:
        return v2_rest.parse_infer(target, body, length)
    except DecodeError:
        if not own:
            raise
        return InferCall(target.model, target.version, "", {}, odd="a body that cannot be read")


def _described(verb: str, info: ModelInfo) -> RestAnswer:
    """What is answered of a model that is there."""
    if verb == "ready":
        return RestAnswer(200, orjson.dumps({"name": info.name, "ready": True}), _JSON)  # KServe's client reads it
    encode = v2_documents.encode_config if verb == "config" else v2_documents.encode_metadata
    return RestAnswer(200, encode(info, v2_bridge.shown(info)), _JSON)


def _counted(count: Callable[[ModelInfo], list[Statistics]], info: ModelInfo) -> RestAnswer:
    """Statistics of a model that its servers have, and do not count."""
    return RestAnswer(200, v2_statistics.encode_document(count(info)), _JSON)


def _has_raw(error: BatchProxyError) -> bool:
    return isinstance(error, BackendError) and error.raw is not None


def _length_of(headers: Sequence[Header]) -> str | None:
    wanted = v2_rest.LENGTH_HEADER.lower()
    return next((str(value) for name, value in headers if name.lower() == wanted), None)
