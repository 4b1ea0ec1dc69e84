"""TF Serving's callers of servers that do not take their calls: what these become. Nothing is sent here.

Servers of the Open Inference Protocol, and TF Serving without a gRPC door for callers of gRPC. Only columns cross over,
by the signature that the servers tell, or that is made of their metadata: never a message.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from batchproxy.codecs import tfs_calls, tfs_documents, tfs_grpc, tfs_rest
from batchproxy.core.errors import BackendError, BatchProxyError, Code, RequestError
from batchproxy.core.raw import REST, RawCall
from batchproxy.core.request import Request, Version, build_request
from batchproxy.core.shapes import ModelInfo
from batchproxy.frontends.call import Call, Format
from batchproxy.frontends.grpc_answers import GrpcAnswer, our_error
from batchproxy.frontends.remote import RemotePool, as_it_came
from batchproxy.frontends.rest_answers import RestAnswer
from batchproxy.frontends.rest_answers import our_error as our_rest_error
from batchproxy.frontends.v2_bridge import InfoFormat, question

Answer = TypeVar("Answer")


def grpc_document(pool: RemotePool, raw: RawCall, deadline: float | None) -> tuple[Request, Format[GrpcAnswer]]:
    """The question that answers GetModelStatus or GetModelMetadata, and what writes its answer.

    Raises:
        RequestError: TF Serving's text; UNIMPLEMENTED for other methods.
    """
    parse = {tfs_grpc.GET_MODEL_STATUS: tfs_grpc.parse_status, tfs_grpc.GET_MODEL_METADATA: tfs_grpc.parse_metadata}
    if raw.method not in parse:
        method = raw.method.rpartition("/")[2]
        raise only_predict(method) if pool.v2 else _no_door(pool, method)
    target = parse[raw.method](raw.body)
    version = target.label if target.label is not None else target.version
    if raw.method == tfs_grpc.GET_MODEL_STATUS and not pool.v2:
        asked = RawCall(REST, "GET", tfs_calls.model_path(target.model, version), (), b"")
        return as_it_came(asked, deadline), InfoFormat(tfs_calls.decode_status_document, _status, our_error)

    def write(info: ModelInfo) -> GrpcAnswer:
        if raw.method == tfs_grpc.GET_MODEL_STATUS:
            return GrpcAnswer(Code.OK, body=tfs_grpc.encode_status([tfs_grpc.VersionStatus(info.version)]))
        return GrpcAnswer(Code.OK, body=tfs_grpc.encode_metadata(info))

    return _question(pool, target.model, version, deadline, write, our_error)


def rest_document(pool: RemotePool, target: tfs_rest.Target) -> tuple[Request, InfoFormat[ModelInfo, RestAnswer]]:
    """The question that answers a status or metadata path, and what writes its answer."""
    version = target.label if target.label is not None else target.version

    def write(info: ModelInfo) -> RestAnswer:
        if target.verb == "status":
            return RestAnswer(200, tfs_documents.encode_status([tfs_grpc.VersionStatus(info.version)]))
        return RestAnswer(200, tfs_documents.encode_metadata(info))

    return _question(pool, target.model, version, None, write, our_rest_error)


def _question(
    pool: RemotePool,
    model: str,
    version: Version,
    deadline: float | None,
    write: Callable[[ModelInfo], Answer],
    refuse: Callable[[BatchProxyError], Answer],
) -> tuple[Request, InfoFormat[ModelInfo, Answer]]:
    asked, read = question(pool, model, version or None)  # 0: of a server that names no version

    def renamed(info: ModelInfo) -> Answer:
        return write(replace(info, name=model, version=version if isinstance(version, int) else info.version))

    return as_it_came(asked, deadline), InfoFormat(read, renamed, refuse)


def _status(versions: Sequence[tfs_grpc.VersionStatus]) -> GrpcAnswer:
    return GrpcAnswer(Code.OK, body=tfs_grpc.encode_status(versions))


def _no_door(pool: RemotePool, method: str) -> RequestError:
    return RequestError(
        f"pool {pool.engine.name!r} has no gRPC door, through which {method} could be passed on: add "
        "grpc://HOST:PORT to its endpoints",
        code=Code.UNIMPLEMENTED,
    )


def only_predict(method: str) -> RequestError:
    """Why the other calls of TF Serving are not answered."""
    return RequestError(
        f"{method} is not answered by servers of the Open Inference Protocol: use Predict", code=Code.UNIMPLEMENTED
    )


def predict_request(
    pool: RemotePool, call: tfs_grpc.PredictCall, info: ModelInfo, raw: RawCall, deadline: float | None
) -> Request:
    """The request that a PredictRequest stands for.

    Raises:
        RequestError: TF Serving's text.
    """
    model, version = call.target.model, version_of(call)
    signature = tfs_grpc.signature_of(info, call.signature_name)
    columns = tfs_grpc.decode_inputs(call, signature)
    target = (model, version, call.signature_name)
    request = build_request(target, signature, columns, call.output_filter, deadline)
    request.key = request.key._replace(partition=pool.partition(model, raw), extras=pool.expected(signature))
    if not pool.merges(model, signature):
        request.rows = None
    return request


async def predict_when_known(
    waiting: Call[GrpcAnswer], pool: RemotePool, call: tfs_grpc.PredictCall, raw: RawCall, deadline: float | None
) -> None:
    """The first requests of a model wait here: their checks are by its signature."""
    try:
        info = await pool.catalogue.find(call.target.model, version_of(call))
        if not waiting.done():
            waiting.start(pool.engine, predict_request(pool, call, info, raw, deadline))
    except BatchProxyError as error:
        if isinstance(error, BackendError):
            error.raw = None  # the answer to a question of ours is nobody's to be passed on
        if not waiting.done():
            waiting.set_exception(error)


def version_of(call: tfs_grpc.PredictCall) -> Version:
    """The version a request names: a number, a label, or neither."""
    return call.target.label if call.target.label is not None else call.target.version
