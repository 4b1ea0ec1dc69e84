"""REST for servers that only have a gRPC door: calls become gRPC's, answers TF Serving's JSON. Runs nothing itself."""

from __future__ import annotations

from batchproxy.catalogue import Catalogue
from batchproxy.codecs import tfs_calls, tfs_documents, tfs_grpc, tfs_rest
from batchproxy.core.errors import BatchProxyError, Code, RequestError
from batchproxy.core.raw import GRPC, RawCall
from batchproxy.core.request import Reply, Request, Version, build_request
from batchproxy.core.shapes import ModelInfo
from batchproxy.frontends.remote import RemotePool, as_it_came
from batchproxy.frontends.rest_answers import PredictFormat, RestAnswer, our_error


class BridgedFormat(PredictFormat):
    """Writes the answer of a gRPC call as JSON, and tells the catalogue which version it came from."""

    __slots__ = ("_asked", "_model")

    def __init__(self, row_form: bool, model: str, asked: tuple[Catalogue, Version]) -> None:
        super().__init__(row_form)
        self._model = model
        self._asked = asked

    def reply(self, reply: Reply) -> RestAnswer:
        catalogue, version = self._asked
        catalogue.answered(self._model, version, reply.version)
        return super().reply(reply)


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


def document_call(target: tfs_rest.Target) -> tuple[Request, StatusFormat | MetadataFormat]:
    """The gRPC call that answers a status or metadata path, and the format that writes its answer.

    Raises:
        RequestError: UNIMPLEMENTED: classify and regress need a REST door.
    """
    form: StatusFormat | MetadataFormat
    if target.verb == "status":
        method, form = tfs_grpc.GET_MODEL_STATUS, StatusFormat()
        message = tfs_calls.encode_status_request(target.model, version_of(target))
    elif target.verb == "metadata":
        method, form = tfs_grpc.GET_MODEL_METADATA, MetadataFormat()
        message = tfs_calls.encode_metadata_request(target.model, version_of(target))
    else:
        raise RequestError(
            f"{target.verb} over REST needs a server with a REST door: give it one "
            "(--backend grpc://HOST:PORT,http://HOST:PORT), or call over gRPC",
            code=Code.UNIMPLEMENTED,
        )
    return as_it_came(RawCall(GRPC, method, "", (), message), None), form


def predict_request(
    pool: RemotePool, target: tfs_rest.Target, envelope: tfs_rest.Envelope, info: ModelInfo, raw: RawCall
) -> tuple[Request, BridgedFormat]:
    """The request that a predict body stands for, by the signature that the servers told us.

    Raises:
        RequestError: TF Serving's text.
    """
    name, version = envelope.signature_name, version_of(target)
    signature = tfs_rest.signature_of(info, name)
    decoded = tfs_rest.decode_predict(envelope, name, signature)
    request = build_request((target.model, version, name), signature, decoded.columns)
    request.key = request.key._replace(partition=pool.partition(target.model, raw))
    return request, BridgedFormat(decoded.row_form, target.model, (pool.catalogue, version))
