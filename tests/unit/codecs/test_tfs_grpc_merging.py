"""What of a gRPC message may be merged, what must go along, and what is read of a relayed one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.codecs import tfs_calls, tfs_grpc
from batchproxy.codecs.tensor_proto import varint
from batchproxy.core.request import BatchKey, Reply
from batchproxy.protos import tfs_pb2 as pb

UNKNOWN = b"\xa2\x06\x03odd"  # field 100


def request(tensor: bytes = b"", spec: bytes = b"", entry: bytes = b"", top: bytes = b"") -> bytes:
    """A PredictRequest for model m with one input, and more bytes in its parts."""
    tensor = pb.TensorProto(dtype=1, float_val=[1]).SerializeToString() + tensor
    entry = b"\x0a\x01x" + b"\x12" + bytes([len(tensor)]) + tensor + entry
    spec = b"\x0a\x01m" + spec
    return b"\x0a" + bytes([len(spec)]) + spec + b"\x12" + bytes([len(entry)]) + entry + top


@pytest.mark.parametrize(
    ("message", "extras", "mergeable"),
    [
        pytest.param(request(), b"", True, id="plain"),
        pytest.param(request(top=UNKNOWN), UNKNOWN, True, id="beside all"),
        pytest.param(request(spec=UNKNOWN), b"", False, id="in the spec"),
        pytest.param(request(spec=b"\x12\x06" + UNKNOWN), b"", False, id="in the version"),
        pytest.param(request(tensor=UNKNOWN), b"", False, id="in a tensor"),
        pytest.param(request(tensor=b"\x18\x03"), b"", False, id="version_number"),
        pytest.param(request(tensor=b"\x12\x06" + UNKNOWN), b"", False, id="in a shape"),
        pytest.param(request(tensor=b"\x12\x08\x12\x06" + UNKNOWN), b"", False, id="in a dimension"),
    ],
)
def test_only_what_a_merged_call_can_say_is_merged(message: bytes, extras: bytes, mergeable: bool) -> None:
    """Unknown fields beside ours go along; those inside ours have no place in a merged request."""
    call = tfs_grpc.parse_predict(message)

    assert (extras, mergeable) == (call.extras, call.mergeable)


@pytest.mark.parametrize("message", [request(entry=UNKNOWN), request(top=b"\x10\x01")])
def test_fields_of_ours_that_cannot_be_read(message: bytes) -> None:
    """protobuf keeps an input with more in it, and a field of another wire type, as unknown fields of our numbers."""
    assert not tfs_grpc.parse_predict(message).mergeable


@given(st.lists(st.tuples(st.integers(4, 2**29 - 1), st.binary(max_size=9)), max_size=4))
def test_extras_are_the_senders_bytes_in_order(fields: list[tuple[int, bytes]]) -> None:
    """Whatever their numbers; and they are read again from a merged request."""
    extras = b"".join(varint(number << 3 | 2) + varint(len(data)) + data for number, data in fields)
    call = tfs_grpc.parse_predict(request(top=extras))
    again = tfs_grpc.parse_predict(tfs_calls.encode_predict_request(BatchKey("m", 1, "s", extras=call.extras), {}))

    assert extras == call.extras == again.extras


def test_the_version_in_a_relayed_answer() -> None:
    """0 where there is none, or no message."""
    assert 7 == tfs_grpc.version_of(tfs_grpc.encode_predict(Reply({}, 7), "m", "s"))
    assert 0 == tfs_grpc.version_of(b"")
    assert 0 == tfs_grpc.version_of(b"\xff")


def test_the_model_that_a_relayed_request_names() -> None:
    """Field 1 of most; nothing where it is something else."""
    assert "m" == tfs_grpc.model_named(tfs_calls.encode_metadata_request("m", 3))
    assert "" == tfs_grpc.model_named(b"\x0a\x02\x0a\x05")
    assert "" == tfs_grpc.model_named(b"")
