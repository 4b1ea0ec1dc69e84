"""gRPC method -> what answers it. Bytes in, one answer out through ``respond``; no socket and no gRPC library here."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from batchproxy.codecs import tfs_grpc
from batchproxy.core.errors import BatchProxyError, Code, RequestError
from batchproxy.core.request import Reply, build_request
from batchproxy.frontends.call import Call
from batchproxy.frontends.directory import Directory
from batchproxy.observe import Observer

PROTOCOL = "grpc"


class GrpcAnswer(NamedTuple):
    """What goes back to the caller: ``body`` counts only where ``code`` is OK."""

    code: Code
    message: str = ""
    body: bytes = b""


Respond = Callable[[GrpcAnswer], None]


class PredictFormat:
    """Writes PredictResponses for one model and signature."""

    __slots__ = ("_model", "_signature")

    def __init__(self, model: str, signature: str) -> None:
        self._model = model
        self._signature = signature

    def reply(self, reply: Reply) -> GrpcAnswer:
        return GrpcAnswer(Code.OK, body=tfs_grpc.encode_predict(reply, self._model, self._signature))

    def error(self, error: BatchProxyError) -> GrpcAnswer:
        return error_answer(error)


def error_answer(error: BatchProxyError) -> GrpcAnswer:
    """A gRPC status: TF Serving's code, and its text cut as TF Serving cuts it."""
    return GrpcAnswer(error.code, tfs_grpc.status_text(error))


class GrpcRoutes:
    """Answers the methods of TF Serving's gRPC services that an embedded model can answer.

    Args:
        directory: the models.
        observer: told of each answered call.
        clock: monotonic seconds, the engines' own.
    """

    def __init__(self, directory: Directory, observer: Observer, clock: Callable[[], float]) -> None:
        self._directory = directory
        self._observer = observer
        self._clock = clock
        self._documents: dict[str, Callable[[bytes], tuple[str, bytes]]] = {
            tfs_grpc.GET_MODEL_STATUS: self._status,
            tfs_grpc.GET_MODEL_METADATA: self._metadata,
        }

    def handle(self, method: str, message: bytes, timeout_s: float | None, respond: Respond) -> Call[GrpcAnswer] | None:
        """Answer one unary call, now or later.

        Args:
            method: its full path, one of ``tfs_grpc.METHODS``.
            message: the request, without the five-byte prefix.
            timeout_s: what is left of the caller's deadline; None: no deadline.
            respond: gets the answer, exactly once.

        Returns:
            The call that is under way, to be cancelled when the caller leaves; None where it was answered.
        """
        started = self._clock()
        if method == tfs_grpc.PREDICT:
            return self._predict(message, started, timeout_s, respond)
        name, model = method.rpartition("/")[2], ""
        try:
            document = self._documents.get(method)
            if document is None:
                raise RequestError(f"{name} is not answered for embedded models: use Predict", code=Code.UNIMPLEMENTED)
            model, body = document(message)
            answer = GrpcAnswer(Code.OK, body=body)
        except BatchProxyError as error:
            answer = error_answer(error)
        self._observer.request_ended(model, name, PROTOCOL, answer.code, self._clock() - started)
        respond(answer)
        return None

    def _predict(self, message: bytes, started: float, timeout_s: float | None, respond: Respond) -> Call[GrpcAnswer]:
        model, signature_name = "", ""
        try:
            call = tfs_grpc.parse_predict(message)
            served = self._directory.find(*call.target)
            info, signature_name = served.info, call.signature_name
            model = info.name
            signature = tfs_grpc.signature_of(info, signature_name)
            request = build_request(
                (model, info.version, signature_name),
                signature,
                tfs_grpc.decode_inputs(call, signature),
                call.output_filter,
                None if timeout_s is None else started + timeout_s,
            )
        except BatchProxyError as error:
            refused = self._call(model, signature_name, started, respond)
            refused.set_exception(error)
            return refused
        waiting = self._call(model, signature_name, started, respond)
        waiting.start(served.engine, request)
        return waiting

    def _call(self, model: str, signature: str, started: float, respond: Respond) -> Call[GrpcAnswer]:
        return Call(PredictFormat(model, signature), respond, partial(self._ended, model, started))

    def _ended(self, model: str, started: float, code: Code) -> None:
        self._observer.request_ended(model, "Predict", PROTOCOL, code, self._clock() - started)

    def _status(self, message: bytes) -> tuple[str, bytes]:
        target = tfs_grpc.parse_status(message)
        info = self._directory.find_status(target.model, target.version).info
        return info.name, tfs_grpc.encode_status([tfs_grpc.VersionStatus(info.version)])

    def _metadata(self, message: bytes) -> tuple[str, bytes]:
        info = self._directory.find(*tfs_grpc.parse_metadata(message)).info
        return info.name, tfs_grpc.encode_metadata(info)
