"""Calls of the Open Inference Protocol on their way to whatever has the model, however they came. No bytes here.

A server that speaks the protocol, by the door the caller came by, is asked in the caller's own words where the call
travels alone. Anything else (an embedded model, TF Serving, the other door) is bridged: through columns, by the
signature, so that these callers and TF Serving's share batches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Generic, NamedTuple, TypeVar

from batchproxy.catalogue import Catalogue
from batchproxy.codecs import tfs_calls, tfs_grpc, v2_calls, v2_documents, v2_grpc
from batchproxy.codecs.v2_calls import InferCall
from batchproxy.core.columns import Columns
from batchproxy.core.errors import BatchProxyError, Code, UnknownModel
from batchproxy.core.raw import GRPC, REST, RawCall
from batchproxy.core.request import Reply, Request, Version
from batchproxy.core.shapes import DEFAULT_SIGNATURE, ModelInfo, Signature
from batchproxy.engine import Engine
from batchproxy.frontends.call import Call, Format, Record
from batchproxy.frontends.directory import Directory, Served
from batchproxy.frontends.known import Known
from batchproxy.frontends.remote import RemotePool, as_it_came
from batchproxy.frontends.v2_sequences import ask_home
from batchproxy.tasks import Tasks

Answer = TypeVar("Answer")
Info = TypeVar("Info")

NAME = "batchproxy"
"""What the server is called in its own metadata."""


class Told(NamedTuple):
    """What a format has to know of a call, beside what the caller asked for.

    Attributes:
        call: that.
        own: whether a server of the protocol answers through the door that the caller came by: its errors are passed
            on as they came.
        asked: the catalogue that wants to know which version answered; None for embedded models.
    """

    call: InferCall
    own: bool = False
    asked: Catalogue | None = None

    def answered(self, version: int) -> None:
        """An answer came from this version; 0: it did not say."""
        if self.asked is not None:
            self.asked.answered(self.call.model, self.call.version, version)


class ErrorsOnly(Generic[Answer]):
    """The format of calls that are not read yet.

    Args:
        error: writes the door's own errors.
    """

    def __init__(self, error: Callable[[BatchProxyError], Answer]) -> None:
        self.error = error

    def reply(self, reply: Reply) -> Answer:
        """Never called."""
        raise AssertionError("a call was answered before it was read. This is a bug.")


class Kind(NamedTuple, Generic[Answer]):
    """What holds for all calls that differ from one in numbers and ids only.

    Attributes:
        known: what any such calls have.
        told: of the first one.
        timeout_s: in their parameters; None: none.
        priority: likewise.
    """

    known: Known[Answer]
    told: Told
    timeout_s: float | None
    priority: int | None

    def remembered(self, record: Record) -> Kind[Answer]:
        """What is to be kept of it: not the first call's tensors, and a record for calls that are many."""
        told = self.told._replace(call=replace(self.told.call, inputs={}, whole=None))
        return self._replace(known=replace(self.known, record=record), told=told)

    def holds(self) -> bool:
        """Whether the model and its servers are still what they were taken for."""
        known, told, _, _ = self
        pool = known.pool
        return pool is None or (known.holds() and not (told.own and told.call.buffers and not reads_buffers(pool)))

    def begin(
        self, waiting: Call[Answer], columns: Columns, raw: RawCall | None, deadline: float | None, now: float
    ) -> None:
        """Start a call of this kind, which ``holds``.

        Args:
            waiting: the call, with the priority that its headers ask for.
            columns: its inputs.
            raw: as it came; None for an embedded model.
            deadline: that its headers ask for, on the engine's clock in seconds.
            now: when it came, likewise.
        """
        known, told, timeout_s, priority = self
        engine, key, rows, nbytes, pool = known.engine, known.key, known.rows, known.nbytes, known.pool
        if waiting.priority is None:
            waiting.priority = priority
        if timeout_s is not None:
            deadline = now + timeout_s if deadline is None else min(deadline, now + timeout_s)
        if pool is None or raw is None:
            waiting.start(engine, Request(key, columns, rows, nbytes, deadline))
            return
        partition = pool.partition(key.model, raw)
        if partition != key.partition:
            key = key._replace(partition=partition)
        waiting.start(engine, Request(key, columns, rows, nbytes, deadline, raw if told.own else None))


class Calls(Generic[Answer]):
    """Starts the inference calls of one of the two doors.

    Args:
        directory: the models.
        form: makes what writes the answer of a call.
        record: told the model, the start and the code of each call.
        tasks: of the owner.
    """

    def __init__(
        self,
        directory: Directory,
        form: Callable[[Told], Format[Answer]],
        record: Callable[[str, float, Code], None],
        tasks: Tasks,
    ) -> None:
        self._directory = directory
        self._form = form
        self._record = record
        self._tasks = tasks

    def start(
        self, waiting: Call[Answer], call: InferCall, raw: RawCall, deadline: float | None, now: float
    ) -> Kind[Answer] | None:
        """Begin a call whose message is read; what is wrong with it is its answer.

        Returns:
            What holds for all calls that differ from it in numbers and ids only; None where it may not share a batch,
            or has to wait for its model's signature.
        """
        if waiting.priority is None:
            waiting.priority = call.priority
        if call.timeout_s is not None:
            limit = now + call.timeout_s
            deadline = limit if deadline is None else min(deadline, limit)
        pool = self._directory.remote(call.model)
        try:
            if pool is None:
                return self._embedded(waiting, call, deadline)
            if in_own_words(pool, raw.protocol) and (call.odd or not call.buffers or reads_buffers(pool)):
                request = as_sent(pool, call, raw, deadline)
                return self._begin(waiting, pool, request, Told(call, True, pool.catalogue))
            call.refuse_odd()
            info = pool.catalogue.look(call.model, call.version)
            if info is not None:
                return self._bridge(waiting, pool, call, raw, deadline, info)
            _ = self._tasks.spawn("bridge", self._bridge_when_known(waiting, pool, call, raw, deadline))
        except BatchProxyError as error:
            waiting.set_exception(error)
        return None

    def _embedded(self, waiting: Call[Answer], call: InferCall, deadline: float | None) -> Kind[Answer] | None:
        served, told = find(self._directory, call.model, call.version), Told(call)
        waiting.record = partial(self._record, served.info.name)
        waiting.form = self._form(told)
        call.refuse_odd()
        info = served.info
        signature = v2_calls.signature_of(info, call.signature_name)
        v2_calls.read_whole(call, info.name, signature)
        request = v2_calls.infer_request(call, info.name, info.version, signature, extras=call.extras())
        request.deadline = deadline
        waiting.start(served.engine, request)
        return _kind(served.engine, request, waiting, None, signature, told)

    def _bridge(
        self,
        waiting: Call[Answer],
        pool: RemotePool,
        call: InferCall,
        raw: RawCall,
        deadline: float | None,
        info: ModelInfo,
    ) -> Kind[Answer] | None:
        signature = v2_calls.signature_of(info, call.signature_name)
        v2_calls.read_whole(call, call.model, signature)
        extras = call.extras() if pool.v2 else pool.expected(signature)  # TF Serving has no words for parameters
        request = v2_calls.infer_request(call, call.model, call.version, signature, extras=extras)
        request.key = request.key._replace(partition=pool.partition(call.model, raw))
        if not pool.may_batch(call.model):
            request.rows = None
        request.deadline = deadline
        return self._begin(waiting, pool, request, Told(call, False, pool.catalogue))

    async def _bridge_when_known(
        self, waiting: Call[Answer], pool: RemotePool, call: InferCall, raw: RawCall, deadline: float | None
    ) -> None:
        """The first calls of a model wait here: without its signature nothing can be asked in other words."""
        try:
            info = await pool.catalogue.find(call.model, call.version)
            if not waiting.done():
                self._bridge(waiting, pool, call, raw, deadline, info)
        except BatchProxyError as error:
            if not waiting.done():
                waiting.set_exception(error)

    def _begin(self, waiting: Call[Answer], pool: RemotePool, request: Request, told: Told) -> Kind[Answer] | None:
        waiting.record = partial(self._record, request.key.model)
        waiting.form = self._form(told)
        if pool.v2 and told.call.sequence and len(pool.engine.backends) > 1:
            sequence = f"{told.call.model} {told.call.parameters[v2_calls.SEQUENCE]}"
            _ = self._tasks.spawn("sequence", ask_home(waiting, pool.engine, request, sequence))
            return None
        waiting.start(pool.engine, request)
        signature = pool.signature(told.call.model, told.call.version, told.call.signature_name)
        return _kind(pool.engine, request, waiting, pool, signature, told)


def _kind(
    engine: Engine,
    request: Request,
    waiting: Call[Answer],
    pool: RemotePool | None,
    signature: Signature | None,
    told: Told,
) -> Kind[Answer] | None:
    if request.rows is None or signature is None:
        return None
    known = Known(engine, request.key, request.rows, request.nbytes, waiting.form, waiting.record, pool, signature)
    return Kind(known, told, told.call.timeout_s, told.call.priority)


# ---------------------------------------------------------------- one call


def find(directory: Directory, model: str, version: Version) -> Served:
    """The embedded model that answers.

    Raises:
        UnknownModel: there is none.
    """
    try:
        if isinstance(version, str):
            return directory.find(model, None, version)
        return directory.find(model, version, None)
    except UnknownModel:
        which = "" if version is None else f" version {version}"
        raise UnknownModel(f"Request for unknown model: {model!r}{which} is not found") from None


def in_own_words(pool: RemotePool, protocol: str) -> bool:
    """Whether the pool's servers take calls as they come through the door called ``protocol``."""
    return pool.v2 and protocol in pool.doors


def reads_buffers(pool: RemotePool) -> bool:
    """Whether no server of the pool is known to lack the binary tensor data extension at its REST door."""
    return all(getattr(server, "buffers", None) is not False for server in pool.engine.backends.values())


def as_sent(pool: RemotePool, call: InferCall, raw: RawCall, deadline: float | None) -> Request:
    """The request for a server of the protocol: mergeable where all is known and well, else as it came (R5)."""
    signature = pool.signature(call.model, call.version, call.signature_name)
    if signature is None or call.odd or call.sequence or call.whole is not None:
        return as_it_came(raw, deadline, pool.label(call.model, call.version), call.version)
    try:
        request = v2_calls.infer_request(call, call.model, call.version, signature, extras=call.extras())
    except BatchProxyError:
        return as_it_came(raw, deadline, call.model)  # the server says it in its own words
    request.key = request.key._replace(partition=pool.partition(call.model, raw))
    request.deadline = deadline
    request.raw = raw
    return request


# ---------------------------------------------------------------- what is said of a model


def shown(info: ModelInfo) -> Signature:
    """The signature that metadata shows: that which is meant where none is named, else the first one.

    Raises:
        UnknownModel: the model has none at all.
    """
    signature = info.signatures.get(DEFAULT_SIGNATURE) or next(iter(info.signatures.values()), None)
    if signature is None:
        raise UnknownModel(f"model {info.name!r} has no signature")
    return signature


class InfoFormat(Generic[Info, Answer]):
    """Writes what a server said of a model, in whatever protocol, in one of ours.

    Args:
        read: makes of the server's message what it says.
        write: makes of that the answer.
        refuse: makes the answer of an error.
    """

    def __init__(
        self,
        read: Callable[[bytes], Info],
        write: Callable[[Info], Answer],
        refuse: Callable[[BatchProxyError], Answer],
    ) -> None:
        self._read = read
        self._write = write
        self._refuse = refuse

    def reply(self, reply: Reply) -> Answer:
        assert reply.raw is not None, "a relayed call has no raw answer. This is a bug."
        return self._write(self._read(reply.raw.body))

    def error(self, error: BatchProxyError) -> Answer:
        return self._refuse(error)


def question(pool: RemotePool, model: str, version: Version) -> tuple[RawCall, Callable[[bytes], ModelInfo]]:
    """The call that asks a pool's servers for a model's metadata, and what reads the answer."""
    if pool.v2:
        if GRPC in pool.doors:
            message = v2_grpc.encode_model(model, version)
            return RawCall(GRPC, v2_grpc.MODEL_METADATA, "", (), message), v2_grpc.decode_metadata
        path = v2_documents.model_path(model, version)
        return RawCall(REST, "GET", path, (), b""), v2_documents.decode_metadata
    if GRPC in pool.doors:
        message = tfs_calls.encode_metadata_request(model, version)
        return RawCall(GRPC, tfs_grpc.GET_MODEL_METADATA, "", (), message), tfs_calls.decode_metadata_reply
    path = tfs_calls.model_path(model, version) + "/metadata"
    return RawCall(REST, "GET", path, (), b""), tfs_calls.decode_metadata_document
