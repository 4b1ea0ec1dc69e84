"""The gRPC door: TF Serving's official servicer classes over the inference. It also keeps each call's raw bytes.

An interceptor stands between gRPC and the servicers and handles messages as bytes: so a call can be captured as it was,
and a message that cannot be parsed is answered as TF Serving does (INTERNAL, no text), not as Python's gRPC does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from tests.tfserving.faults import Fault, invalid
from tests.tfserving.inference import Inference, Predicted, fill_spec
from tests.tfserving.ledger import Ledger
from tests.tfserving.tensors import to_proto

LONGEST_TEXT = 1024
"""Bytes of a status text before TF Serving cuts it (facts 2.6)."""

FAR_OFF_S = 1e9
"""A deadline that is none."""

THREADS = 64
"""Calls at a time; the others wait, unless ``--max_threads`` refuses them."""


class Prediction(prediction_service_pb2_grpc.PredictionServiceServicer):  # type: ignore[misc]
    """PredictionService."""

    def __init__(self, inference: Inference, *, content: bool) -> None:
        self._inference = inference
        self._content = content

    def Predict(self, request: Any, context: Any) -> Any:  # noqa: N802
        _need_spec(request)
        predicted = self._inference.predict(
            request.model_spec,
            request.inputs,
            output_filter=request.output_filter,
            timeout_ms=_timeout_ms(context),
        )
        response = predict_pb2.PredictResponse()
        fill_spec(response.model_spec, predicted)
        for alias, array in predicted.outputs.items():
            response.outputs[alias].CopyFrom(to_proto(array, content=self._content))
        return response

    def Classify(self, request: Any, context: Any) -> Any:  # noqa: N802
        _need_spec(request)
        result, predicted = self._inference.classify(request.model_spec, request.input, _timeout_ms(context))
        return _with_spec(classification_pb2.ClassificationResponse(result=result), predicted)

    def Regress(self, request: Any, context: Any) -> Any:  # noqa: N802
        _need_spec(request)
        result, predicted = self._inference.regress(request.model_spec, request.input, _timeout_ms(context))
        return _with_spec(regression_pb2.RegressionResponse(result=result), predicted)

    def MultiInference(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._inference.multi(request, _timeout_ms(context))

    def GetModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        _need_spec(request)
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != "signature_def":
                raise invalid(f"Metadata field {field} is not supported")
        servable = self._inference.repository.find(request.model_spec)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.model_spec.name = servable.name
        response.model_spec.version.value = servable.version
        signatures = get_model_metadata_pb2.SignatureDefMap(signature_def=servable.signatures)
        response.metadata["signature_def"].Pack(signatures)
        return response


class Model(model_service_pb2_grpc.ModelServiceServicer):  # type: ignore[misc]
    """ModelService."""

    def __init__(self, inference: Inference) -> None:
        self._repository = inference.repository

    def GetModelStatus(self, request: Any, context: Any) -> Any:  # noqa: N802
        _need_spec(request)
        response = get_model_status_pb2.GetModelStatusResponse()
        for state in self._repository.states(request.model_spec):
            one = response.model_version_status.add(version=state.version, state=state.state)
            one.status.error_code = state.code
            one.status.error_message = state.message
        return response

    def HandleReloadConfigRequest(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._repository.configure(request.config)
        response = model_management_pb2.ReloadConfigResponse()
        response.status.SetInParent()
        return response


def _need_spec(request: Any) -> None:
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")


def _with_spec(response: Any, predicted: Predicted) -> Any:
    fill_spec(response.model_spec, predicted)
    return response


def _timeout_ms(context: Any) -> int | None:
    remaining_s = context.time_remaining()
    # Without a deadline, grpcio tells the time that remains until the end of its clock.
    return None if remaining_s is None or remaining_s > FAR_OFF_S else int(remaining_s * 1000)


class _Wire(grpc.ServerInterceptor):  # type: ignore[misc]
    def __init__(self, ledger: Ledger, max_threads: int) -> None:
        self._ledger = ledger
        self._slots = threading.BoundedSemaphore(max_threads) if max_threads else None

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        handler = continuation(details)
        if handler is None:
            return grpc.stream_stream_rpc_method_handler(_unknown)
        metadata = [
            [key, value if isinstance(value, str) else value.hex()] for key, value in details.invocation_metadata
        ]

        def behaviour(raw: bytes, context: Any) -> bytes:
            if self._slots is not None and not self._slots.acquire(blocking=False):
                context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "Server Threadpool Exhausted")
            try:
                answer = self._answer(handler, details.method, raw, context)
            finally:
                if self._slots is not None:
                    self._slots.release()
            self._ledger.captured("grpc", details.method, raw, answer, metadata=metadata)
            return answer

        return grpc.unary_unary_rpc_method_handler(behaviour)  # without codecs: bytes in, bytes out

    def _answer(self, handler: Any, method: str, raw: bytes, context: Any) -> bytes:
        try:
            request = handler.request_deserializer(raw)
        except Exception:
            context.abort(grpc.StatusCode.INTERNAL, "")
        spec = request.tasks[0].model_spec if getattr(request, "tasks", None) else getattr(request, "model_spec", None)
        self._ledger.called("grpc", method.rpartition("/")[2], getattr(spec, "name", ""))
        try:
            return bytes(handler.response_serializer(handler.unary_unary(request, context)))
        except Fault as fault:
            self._ledger.captured("grpc", method, raw, b"", code=fault.code)
            context.abort(grpc.StatusCode[fault.code], _cut(fault.message))
        raise AssertionError("abort() returned. This is a bug.")


def _unknown(requests: Iterator[bytes], context: Any) -> None:
    context.abort(grpc.StatusCode.UNIMPLEMENTED, "")


def _cut(text: str) -> str:
    raw = text.encode()
    return text if len(raw) <= LONGEST_TEXT else raw[:LONGEST_TEXT].decode(errors="replace") + "...TRUNCATED"


def serve(inference: Inference, ledger: Ledger, port: int, *, content: bool, max_threads: int) -> tuple[Any, int]:
    """Starts the gRPC server on the loopback; returns it and its port."""
    server = grpc.server(
        # Those above the limit need a thread, too, to be refused.
        futures.ThreadPoolExecutor(max(THREADS, 2 * max_threads)),
        interceptors=[_Wire(ledger, max_threads)],
        options=[
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
        ],
    )
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Prediction(inference, content=content), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(Model(inference), server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    return server, bound
