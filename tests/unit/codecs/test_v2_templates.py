"""ModelInferRequests told by comparing bytes: what is found is what protobuf reads, whatever was changed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.codecs import v2_grpc, v2_templates
from batchproxy.codecs.templates import Templates
from batchproxy.core.columns import ArrayColumn
from batchproxy.core.errors import DecodeError
from batchproxy.core.request import BatchKey
from batchproxy.protos import v2_pb2 as pb

KEY = BatchKey("m", 3, "serving_default", (), ("y",), (), b'[{"a":1},{"x":{"b":"c"}}]')
NUMBERS = {"x": ArrayColumn(np.arange(4, dtype=np.float32).reshape(2, 2)), "n": ArrayColumn(np.array([7, 8]))}


def message_of(call_id: str = "", **inputs: ArrayColumn) -> bytes:
    """A request."""
    request = pb.ModelInferRequest.FromString(v2_grpc.encode_infer_request(KEY, inputs or NUMBERS))
    request.id = call_id
    return request.SerializeToString()


def learnt(message: bytes) -> Templates[str]:
    """What two of a message teach."""
    templates: Templates[str] = Templates(v2_templates.plan_of)
    for _ in range(2):
        templates.learn(message, v2_grpc.parse_infer(message).inputs, "kind")
    return templates


@given(
    st.sampled_from(["", "a", "ab-1"]),
    st.integers(1, 3),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=4),
)
def test_whatever_is_found_is_what_protobuf_reads(call_id: str, rows: int, changes: list[tuple[int, int]]) -> None:
    """After any changes of bytes: the inputs, the id, and everything else as in the first message."""
    numbers = {"x": ArrayColumn(np.ones((rows, 2), np.float32)), "n": ArrayColumn(np.arange(rows, dtype=np.int16))}
    first = message_of(call_id, **numbers)
    templates = learnt(first)
    changed = bytearray(first)
    for at, byte in changes:
        changed[at % len(changed)] = byte
    message = bytes(changed)
    plan = templates.find(message)
    if plan is None:
        assert message != first
        return
    (start, stop), found = plan.own, plan.columns(message)
    try:
        call_id = message[start:stop].decode()
    except UnicodeDecodeError:  # whoever uses a plan looks at that
        with pytest.raises(DecodeError):
            v2_grpc.parse_infer(message)
        return
    read, like = v2_grpc.parse_infer(message), v2_grpc.parse_infer(first)

    assert (read.id, list(read.inputs)) == (call_id, list(found))
    assert [column.array.tobytes() for column in read.inputs.values()] == [
        column.array.tobytes() for column in found.values()
    ]
    assert (read.model, read.version, read.outputs, read.parameters, read.input_parameters) == (
        like.model,
        like.version,
        like.outputs,
        like.parameters,
        like.input_parameters,
    )


def test_other_numbers_and_another_id_are_of_the_kind() -> None:
    """Of equal length; with an id or without."""
    templates = learnt(message_of("one"))
    again = message_of("two", x=ArrayColumn(np.zeros((2, 2), np.float32)), n=NUMBERS["n"])
    plan = templates.find(again)

    assert plan is not None
    assert ("kind", b"two") == (plan.value, again[slice(*plan.own)])
    assert templates.find(message_of("three")) is None
    assert learnt(message_of()).find(message_of()) is not None


TYPED = pb.ModelInferRequest(
    model_name="m",
    inputs=[pb.InferTensor(name="x", datatype="FP32", shape=[1], contents=pb.InferTensorContents(fp32_contents=[1.0]))],
)


@pytest.mark.parametrize(
    "message",
    [
        message_of(x=ArrayColumn(np.array([True, False]))),
        message_of(x=ArrayColumn(np.array([b"text"], np.object_))),
        message_of(x=ArrayColumn(np.zeros((0, 2), np.float32))),
        message_of(x=ArrayColumn(np.array(1, np.float32))),
        TYPED.SerializeToString(),
        message_of() + b"\x0a\x01m",  # the model twice: the last one counts
        message_of() + b"\x80\x01\x00",  # a field that we do not know
        message_of() + b"\x81\x01" + bytes(8),  # likewise, of fixed width
        pb.ModelInferRequest(model_name="m").SerializeToString(),
    ],
)
def test_messages_that_teach_nothing(message: bytes) -> None:
    """Their values matter one by one, or they are of no usual build."""
    assert learnt(message).find(message) is None
