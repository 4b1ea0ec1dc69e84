"""REST for servers that only have a gRPC door: calls become gRPC's, answers TF Serving's JSON. Runs nothing itself."""

from __future__ import annotations

from typing import NamedTuple

from batchproxy.catalogue import Catalogue
from batchproxy.codecs import tfs_calls, tfs_documents, tfs_example_json, tfs_examples, tfs_grpc, tfs_rest
from batchproxy.core.errors import BatchProxyError, DecodeError
from batchproxy.core.raw import GRPC, RawCall
from batchproxy.core.request import BatchKey, Reply, Request, Share, Version, build_request
from batchproxy.core.shapes import ModelInfo
from batchproxy.frontends import tfs_to_v2
from batchproxy.frontends.call import Call, Format
from batchproxy.frontends.heavy import Heavy
from batchproxy.frontends.remote import RemotePool, as_it_came
from batchproxy.frontends.rest_answers import PredictFormat, RestAnswer, our_error


class Asked(NamedTuple):
    """A call of a remote pool's model, while its body is read."""

    call: Call[RestAnswer]
    pool: RemotePool
    target: tfs_rest.Target
    raw: RawCall
    deadline: float | None

    def start(self, bridged: tuple[Request, Format[RestAnswer]]) -> None:
        """Send it, as the request and with the format that were made of it."""
        request, self.call.form = bridged
        request.deadline = self.deadline
        self.call.start(self.pool.engine, request)


class BridgedFormat(PredictFormat):
    """Writes the answer of a gRPC call as JSON, and tells the catalogue which version it came from."""

    __slots__ = ("_asked", "_model")

    def __init__(self, row_form: bool, heavy: Heavy, model: str, asked: tuple[Catalogue, Version]) -> None:
        super().__init__(row_form, heavy)
        self._model = model
        self._asked = asked

    def reply(self, reply: Reply) -> RestAnswer:
        catalogue, version = self._asked
        whole = reply.whole if type(reply) is Share else reply  # a share would have to fetch what all have in common
        catalogue.answered(self._model, version, whole.version)
        return super().reply(reply)


class ResultsFormat:
    """Writes the answer of a Classify or Regress call as JSON, and tells the catalogue which version it came from."""

    __slots__ = ("_asked", "_model", "_verb")

    def __init__(self, verb: str, model: str, asked: tuple[Catalogue, Version]) -> None:
        self._verb = verb
        self._model = model
        self._asked = asked

    def reply(self, reply: Reply) -> RestAnswer:
        if reply.raw is not None:
            reply = tfs_examples.read_reply(reply.raw.body)
        catalogue, version = self._asked
        catalogue.answered(self._model, version, reply.version)
        return RestAnswer(200, tfs_example_json.write_results(self._verb, reply))

    def error(self, error: BatchProxyError) -> RestAnswer:
        return our_error(error)


class StatusFormat:
    """Writes a GetModelStatus answer as TF Serving's status document."""

    def reply(self, reply: Reply) -> RestAnswer:
        assert reply.raw is not None, "a relayed call has no raw answer. This is a bug."
        return RestAnswer(200, tfs_documents.encode_status(tfs_calls.decode_status_reply(reply.raw.body)))

    def error(self, error: BatchProxyError) -> RestAnswer:
        return our_error(error)


class MetadataFormat:
    """Writes a GetModelMetadata answer as TF Serving's metadata document."""

    def reply(self, reply: Reply) -> RestAnswer:
        assert reply.raw is not None, "a relayed call has no raw answer. This is a bug."
        return RestAnswer(200, tfs_documents.encode_metadata(tfs_calls.decode_metadata_reply(reply.raw.body)))

    def error(self, error: BatchProxyError) -> RestAnswer:
        return our_error(error)


def version_of(target: tfs_rest.Target) -> Version:
    """The version a path names: a number, a label, or neither."""
    return target.label if target.label is not None else target.version


def can_carry(target: tfs_rest.Target) -> bool:
    """Whether gRPC can name what a path names; no model is called what it cannot. Of a status the label counts not."""
    try:
        target.model.encode()
        if target.label is not None and target.verb != "status":
            target.label.encode()
    except UnicodeEncodeError:  # escaped bytes that are no UTF-8
        return False
    return True


def document_call(pool: RemotePool, target: tfs_rest.Target) -> tuple[Request, Format[RestAnswer]]:
    """The call that answers a status or metadata path, and the format that writes its answer."""
    if pool.v2:
        return tfs_to_v2.rest_document(pool, target)
    form: StatusFormat | MetadataFormat
    if target.verb == "status":
        method, form = tfs_grpc.GET_MODEL_STATUS, StatusFormat()
        message = tfs_calls.encode_status_request(target.model, target.version)  # a label changes nothing there
    else:
        method, form = tfs_grpc.GET_MODEL_METADATA, MetadataFormat()
        message = tfs_calls.encode_metadata_request(target.model, version_of(target))
    return as_it_came(RawCall(GRPC, method, "", (), message), None), form


def predict_request(
    pool: RemotePool,
    heavy: Heavy,
    target: tfs_rest.Target,
    envelope: tfs_rest.Envelope,
    info: ModelInfo,
    raw: RawCall,
) -> tuple[Request, BridgedFormat]:
    """The request that a predict body stands for, by the signature that the servers told us; in any thread.

    Raises:
        RequestError: TF Serving's text.
    """
    name, version = envelope.signature_name, version_of(target)
    signature = tfs_rest.signature_of(info, name)
    decoded = tfs_rest.decode_predict(envelope, name, signature)
    request = build_request((target.model, version, name), signature, decoded.columns)
    request.key = request.key._replace(partition=pool.partition(target.model, raw))
    if not pool.merges(target.model, signature):
        request.rows = None
    return request, BridgedFormat(decoded.row_form, heavy, target.model, (pool.catalogue, version))


def read_examples(verb: str, body: bytes) -> tuple[str, tfs_examples.MessageColumn]:
    """The signature's name and the examples of a classify or regress body, in any thread; it needs no signature.

    Raises:
        DecodeError: TF Serving's text.
    """
    envelope = tfs_rest.parse_body(body)
    name, column = envelope.signature_name, tfs_example_json.read_examples(verb, envelope.doc)
    try:
        name.encode()
    except UnicodeEncodeError:  # gRPC cannot carry it, and no signature is called so
        raise DecodeError(f"No signature was found with the name: {name}") from None
    return name, column


def examples_request(
    pool: RemotePool, target: tfs_rest.Target, read: tuple[str, tfs_examples.MessageColumn], raw: RawCall
) -> tuple[Request, ResultsFormat]:
    """The request of a classify or regress call.

    Args:
        pool: has the model.
        target: what the path asks for.
        read: what ``read_examples`` made of the body.
        raw: the call.
    """
    model, version, (name, column) = target.model, version_of(target), read
    form = ResultsFormat(target.verb, model, (pool.catalogue, version))
    partition = pool.partition(model, raw)
    signature = pool.signature(model, version, name)
    if signature is None or not tfs_examples.fits(column.method, signature):
        message = tfs_examples.write_request(BatchKey(model, version, name), column)
        call = RawCall(GRPC, column.method, "", partition, message)
        return as_it_came(call, None, pool.label(model, version), version), form
    request = build_request((model, version, name), signature, {tfs_examples.INPUT: column})
    request.key = request.key._replace(partition=partition)
    return request, form
