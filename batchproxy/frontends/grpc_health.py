"""The health service of the gRPC port (``grpc.health.v1``), for orchestrators and balancers. No sockets here."""

from __future__ import annotations

from collections.abc import Callable

from batchproxy.codecs import grpc_health
from batchproxy.core.errors import Code, DecodeError
from batchproxy.frontends.grpc_answers import GrpcAnswer, error_answer

SERVICES = frozenset(
    {
        "",  # the server as a whole
        "inference.GRPCInferenceService",
        "tensorflow.serving.ModelService",
        "tensorflow.serving.PredictionService",
    }
)
"""Services that can be asked for by name: all of them are as ready as the server."""


class HealthService:
    """Answers for the whole process, as ``/readyz`` does.

    Args:
        ready: whether calls should come now.
    """

    def __init__(self, ready: Callable[[], bool]) -> None:
        self._ready = ready

    def answer(self, method: str, message: bytes) -> GrpcAnswer:
        """Answer one call.

        ``Watch`` is a method that this server does not have: who watches takes the server for healthy then, as the
        protocol says, and finds out by calling it.

        Args:
            method: one of ``grpc_health.METHODS``.
            message: the request, without the five-byte prefix.
        """
        if method != grpc_health.CHECK:
            return GrpcAnswer(Code.UNIMPLEMENTED, "grpc.health.v1.Health/Watch is not served; ask by Check")
        try:
            service = grpc_health.decode_request(message)
        except DecodeError as error:
            return error_answer(error)
        if service not in SERVICES:
            return GrpcAnswer(Code.NOT_FOUND, f"unknown service {service!r}; there are {sorted(SERVICES - {''})}")
        return GrpcAnswer(Code.OK, body=grpc_health.encode_answer(serving=self._ready()))
