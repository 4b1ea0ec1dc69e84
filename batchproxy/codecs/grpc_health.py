"""gRPC's health checking protocol (``grpc.health.v1``) as bytes. Who is healthy is not decided here."""

from __future__ import annotations

from google.protobuf.message import DecodeError as BadMessage

from batchproxy.core.errors import BackendProtocolError, DecodeError
from batchproxy.protos import health_pb2 as pb

CHECK = "/grpc.health.v1.Health/Check"

WATCH = "/grpc.health.v1.Health/Watch"

METHODS = frozenset({CHECK, WATCH})


def encode_request(service: str = "") -> bytes:
    """Ask for a service, ``package.Service``; empty: the server as a whole."""
    return pb.HealthCheckRequest(service=service).SerializeToString()


def decode_request(message: bytes) -> str:
    """The service that is asked for.

    Raises:
        DecodeError: it is no ``HealthCheckRequest``.
    """
    try:
        return pb.HealthCheckRequest.FromString(message).service
    except BadMessage as error:
        raise DecodeError(f"the message is no HealthCheckRequest: {error}") from error


def encode_answer(*, serving: bool) -> bytes:
    """Whether calls should come."""
    status = pb.HealthCheckResponse.SERVING if serving else pb.HealthCheckResponse.NOT_SERVING
    return pb.HealthCheckResponse(status=status).SerializeToString()


def decode_answer(message: bytes) -> bool:
    """Whether calls may come: a server that does not know itself, or the service, does not say no.

    Raises:
        BackendProtocolError: it is no ``HealthCheckResponse``.
    """
    try:
        return pb.HealthCheckResponse.FromString(message).status != pb.HealthCheckResponse.NOT_SERVING
    except BadMessage as error:
        raise BackendProtocolError("the server's answer is no HealthCheckResponse") from error
