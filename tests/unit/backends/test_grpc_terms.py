"""What goes to a server as metadata, and what does not."""

from __future__ import annotations

import pytest

from batchproxy.backends.grpc_terms import metadata_of
from batchproxy.core.errors import BackendRejected, Code


@pytest.mark.parametrize(("name", "value"), [("x y", "1"), ("X", "1"), ("x", "é"), ("x", "a\nb"), ("", "1")])
def test_headers_that_grpc_cannot_carry(name: str, value: str) -> None:
    """They are refused by name, before grpcio writes of them to stderr."""
    with pytest.raises(BackendRejected, match="cannot be sent as gRPC metadata") as caught:
        metadata_of([(name, value)])

    assert Code.INVALID_ARGUMENT == caught.value.code


def test_headers_of_one_hop_stay_behind() -> None:
    """What is the callers' own is passed on, in order."""
    mine = (("authorization", "x"), ("b-bin", b"\0"), ("a", ""))
    others = ((":authority", "x"), ("connection", "a"), ("proxy-authorization", "x"), ("grpc-timeout", "1S"))

    assert mine == metadata_of([*others, *mine])
