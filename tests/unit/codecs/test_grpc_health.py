"""gRPC's health checking protocol: what we write, grpcio's own package reads, and the other way round."""

from __future__ import annotations

import pytest
from grpc_health.v1 import health_pb2
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.codecs import grpc_health
from batchproxy.core.errors import BackendProtocolError, DecodeError


@given(st.text(max_size=40))
def test_requests(service: str) -> None:
    """The service's name, and nothing else."""
    theirs = health_pb2.HealthCheckRequest.FromString(grpc_health.encode_request(service))
    ours = grpc_health.decode_request(health_pb2.HealthCheckRequest(service=service).SerializeToString())

    assert (service, service) == (theirs.service, ours)


@pytest.mark.parametrize("serving", [False, True])
def test_answers(serving: bool) -> None:
    """Of the states that there are, two are ours; a server may say any, and one is a no."""
    status = health_pb2.HealthCheckResponse.FromString(grpc_health.encode_answer(serving=serving)).status

    assert ("SERVING" if serving else "NOT_SERVING") == health_pb2.HealthCheckResponse.ServingStatus.Name(status)
    for name, number in health_pb2.HealthCheckResponse.ServingStatus.items():
        said = health_pb2.HealthCheckResponse(status=number).SerializeToString()
        assert (name != "NOT_SERVING") == grpc_health.decode_answer(said)


def test_noise_is_told_to_whose_fault_it_is() -> None:
    """The caller's, or the server's."""
    with pytest.raises(DecodeError, match="no HealthCheckRequest"):
        grpc_health.decode_request(b"\xff")
    with pytest.raises(BackendProtocolError, match="no HealthCheckResponse"):
        grpc_health.decode_answer(b"\xff")
