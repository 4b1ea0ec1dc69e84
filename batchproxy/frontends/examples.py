"""Classify and Regress calls: of embedded models, where they become calls like Predict's, and of servers. No wire."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

from batchproxy.codecs import (
    tfs_calls,
    tfs_example_arrays,
    tfs_example_json,
    tfs_example_rows,
    tfs_example_texts,
    tfs_examples,
    tfs_rest,
)
from batchproxy.codecs.tfs_example_arrays import Outputs
from batchproxy.codecs.tfs_example_texts import TextsCall
from batchproxy.codecs.tfs_examples import MessageColumn
from batchproxy.core.errors import BatchProxyError, Code, RequestError
from batchproxy.core.raw import REST, RawCall
from batchproxy.core.request import Reply, Request, Version, build_request
from batchproxy.core.shapes import ModelInfo
from batchproxy.frontends import rest_bridge
from batchproxy.frontends.call import Call, Format
from batchproxy.frontends.directory import Directory, Served
from batchproxy.frontends.grpc_answers import GrpcAnswer, our_error
from batchproxy.frontends.heavy import Heavy
from batchproxy.frontends.remote import RemotePool, as_it_came
from batchproxy.frontends.rest_answers import RelayFormat, RestAnswer
from batchproxy.frontends.rest_answers import our_error as rest_error
from batchproxy.frontends.terms import Terms
from batchproxy.frontends.v2_bridge import InfoFormat

if TYPE_CHECKING:
    from batchproxy.frontends.grpc_answers import PredictFormat

Answer = TypeVar("Answer")

_JSON = ("content-type", "application/json")


class _Results(Generic[Answer]):
    """Makes results of a model's outputs, which ``writer`` then writes."""

    def __init__(self, method: str, outputs: Outputs, count: int, writer: Format[Answer]) -> None:
        self._method = method
        self._outputs = outputs
        self._count = count
        self._writer = writer

    def reply(self, reply: Reply) -> Answer:
        return self._writer.reply(tfs_example_arrays.results_of(self._method, self._outputs, reply, self._count))

    def error(self, error: BatchProxyError) -> Answer:
        return self._writer.error(error)


class _RestResults:
    """Writes results as JSON."""

    def __init__(self, verb: str) -> None:
        self._verb = verb

    def reply(self, reply: Reply) -> RestAnswer:
        return RestAnswer(200, tfs_example_json.write_results(self._verb, reply))

    def error(self, error: BatchProxyError) -> RestAnswer:
        return rest_error(error)


class _GrpcResults:
    """Writes results as a ClassificationResponse or a RegressionResponse, which differ in their names only."""

    def __init__(self, model: str, signature_name: str) -> None:
        self._model = model
        self._signature_name = signature_name

    def reply(self, reply: Reply) -> GrpcAnswer:
        return GrpcAnswer(Code.OK, "", tfs_examples.write_reply(reply, self._model, self._signature_name))

    def error(self, error: BatchProxyError) -> GrpcAnswer:
        return our_error(error)


# ---------------------------------------------------------------- embedded models


class RestExamples:
    """Answers Classify and Regress of embedded models over REST.

    Args:
        directory: the models.
        heavy: reads the long bodies.
        terms: of calls.
    """

    def __init__(self, directory: Directory, heavy: Heavy, terms: Terms) -> None:
        self._directory = directory
        self._heavy = heavy
        self._terms = terms

    def answer(
        self,
        call: Call[RestAnswer],
        target: tfs_rest.Target,
        headers: Mapping[str, str],
        body: bytes,
        started: float,
    ) -> Call[RestAnswer]:
        """Have ``call`` answered."""
        try:
            deadline, call.priority = self._terms.of(headers, started)
        except BatchProxyError as error:
            call.set_exception(error)
        else:
            self._read(call, target, body, deadline)
        return call

    def _read(self, call: Call[RestAnswer], target: tfs_rest.Target, body: bytes, deadline: float | None) -> None:
        def build() -> tuple[Served, Request, Format[RestAnswer]]:
            name, examples = rest_bridge.read_examples(target.verb, body)
            version = target.version if target.label is None else target.label
            return _build(self._directory, target.model, version, name, examples, _RestResults(target.verb))

        self._heavy.read(call, build, partial(self._start, call, target, body, deadline), len(body), deadline)

    def _start(
        self,
        call: Call[RestAnswer],
        target: tfs_rest.Target,
        body: bytes,
        deadline: float | None,
        built: tuple[Served, Request, Format[RestAnswer]],
    ) -> None:
        served, request, call.form = built
        if not self._directory.holds(served):  # another version was switched to while a long body was read
            self._read(call, target, body, deadline)
            return
        request.deadline = deadline
        call.start(served.engine, request)


def of_embedded(
    directory: Directory, raw: RawCall, deadline: float | None
) -> tuple[Served, Request, Format[GrpcAnswer]]:
    """The call that answers a gRPC request, and how its answer is written.

    Raises:
        BatchProxyError: as TF Serving says it, of the request; or as of `tfs_example_arrays`.
    """
    asked = tfs_examples.read_request(raw.method, raw.body)
    if asked is None:
        raise RequestError(
            "Input is empty. No model is named, or no example is sent, or there are fields that are not known here"
        )
    writer = _GrpcResults(asked.model, asked.signature_name)
    served, request, form = _build(directory, asked.model, asked.version, asked.signature_name, asked.column, writer)
    request.deadline = deadline
    return served, request, form


def _build(
    directory: Directory,
    model: str,
    version: Version,
    signature_name: str,
    examples: MessageColumn,
    writer: Format[Answer],
) -> tuple[Served, Request, Format[Answer]]:
    label = version if isinstance(version, str) else None
    served = directory.find(model, None if isinstance(version, str) else version, label)
    signature = served.info.signatures.get(signature_name)
    if signature is None:
        raise RequestError(_no_signature(signature_name))
    outputs = tfs_example_arrays.outputs_of(examples.method, signature)
    columns = tfs_example_arrays.read_inputs(examples, signature)
    request = build_request((model, served.info.version, signature_name), signature, columns)
    return served, request, _Results(examples.method, outputs, len(examples.messages), writer)


# ---------------------------------------------------------------- servers


def of_servers(pool: RemotePool, raw: RawCall, deadline: float | None, form: PredictFormat) -> Request:
    """The request of a gRPC call to servers: mergeable where all is known and well, else as it came (R5)."""
    call = tfs_examples.read_request(raw.method, raw.body)
    if call is None:
        return as_it_came(raw, deadline)
    model, version = call.model, call.version
    signature = pool.signature(model, version, call.signature_name)
    if signature is None or not tfs_examples.fits(raw.method, signature):
        return as_it_came(raw, deadline, pool.label(model, version), version)
    form.model, form.signature, form.asked = model, call.signature_name, (pool.catalogue, version)
    target = (model, version, call.signature_name)
    request = build_request(target, signature, {tfs_examples.INPUT: call.column}, deadline=deadline)
    request.key = request.key._replace(partition=pool.partition(model, raw), extras=call.extras)
    request.raw = raw
    return request


# ---------------------------------------------------------------- servers with a REST door only


class _RestTold:
    """Writes what a server said by REST: a whole answer, or the results that are a caller's own."""

    def __init__(self, verb: str, call: TextsCall) -> None:
        self._verb = verb
        self._version = call.version
        self._rest = RelayFormat()
        self._writer = _GrpcResults(call.model, call.signature_name)

    def reply(self, reply: Reply) -> GrpcAnswer:
        body = self._rest.reply(reply).body
        return self._writer.reply(tfs_example_texts.reply_of(self._verb, self._version, body))

    def error(self, error: BatchProxyError) -> GrpcAnswer:
        return our_error(error)


def of_rest_servers(pool: RemotePool, raw: RawCall, deadline: float | None) -> tuple[Request, Format[GrpcAnswer]]:
    """The REST call that a gRPC call becomes, mergeable with callers of REST where all is known and well.

    Raises:
        RequestError: TF Serving's text; or UNIMPLEMENTED: what JSON has no words for.
    """
    call = TextsCall(raw.method, raw.body)
    model, version, name = target = (call.model, call.version, call.signature_name)
    path, partition = tfs_calls.model_path(model, version), pool.partition(model, raw)
    if call.column is None:
        asked = RawCall(REST, "GET", path + "/metadata", partition, b"")
        return as_it_came(asked, deadline), InfoFormat(
            tfs_calls.decode_metadata_document, partial(_empty, name), our_error
        )
    verb = tfs_example_texts.VERB_OF[raw.method]
    form = _RestTold(verb, call)
    signature = pool.signature(model, version, name)
    if signature is None or not tfs_examples.fits(raw.method, signature):
        body = tfs_example_rows.write_request(call.column)
        asked = RawCall(REST, "POST", f"{path}:{verb}", (_JSON, *partition), body)
        return as_it_came(asked, deadline, pool.label(model, version), version), form
    request = build_request(target, signature, {tfs_example_rows.EXAMPLES: call.column}, deadline=deadline)
    request.key = request.key._replace(partition=partition)
    return request, form


def _empty(signature_name: str, info: ModelInfo) -> GrpcAnswer:
    """A request without examples is looked at once its model and its signature are found."""
    known = signature_name in info.signatures
    return our_error(RequestError("Input is empty." if known else _no_signature(signature_name)))


def _no_signature(name: str) -> str:
    return f"No signature was found with the name: {name}"  # TF Serving's, classifier.cc
