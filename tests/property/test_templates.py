"""Templates against protobuf: whatever a plan is found for, the general way reads the same."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.codecs import tensor_proto, tfs_grpc
from batchproxy.codecs.templates import Templates
from batchproxy.core.columns import ArrayColumn, Columns
from batchproxy.core.errors import BatchProxyError
from batchproxy.core.request import BatchKey, Request, build_request
from batchproxy.core.shapes import UNDECLARED
from batchproxy.protos import tfs_pb2 as pb

KINDS = ("float32", "float64", "int32", "int64", "uint8", "float16", "complex64", "bool")


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """A PredictRequest with one to three tensors in either form."""
    request = pb.PredictRequest()
    request.model_spec.name = draw(st.sampled_from(["m", "n", "a model"]))
    if draw(st.booleans()):
        request.model_spec.version.value = draw(st.integers(0, 300))
    request.model_spec.signature_name = draw(st.sampled_from(["", "other"]))
    request.output_filter.extend(draw(st.lists(st.sampled_from("yz"), max_size=2)))
    for alias in draw(st.lists(st.sampled_from(["x", "input_2", "é"]), min_size=1, max_size=3, unique=True)):
        shape = draw(st.sampled_from([(1,), (2,), (1, 3), (3, 2), (), (0, 2)]))
        kind = np.dtype(draw(st.sampled_from(KINDS)))
        numbers = np.frombuffer(draw(st.binary(min_size=96, max_size=96)), np.uint8).view(kind)[: int(np.prod(shape))]
        array = (numbers if kind.kind != "b" else numbers.view(np.uint8) > 7).reshape(shape)
        tensor = request.inputs[alias]
        if draw(st.booleans()):
            tensor_proto.write(array, tensor)
        else:
            tensor_proto.write_head(array, tensor)
            tensor.tensor_content = bytes(tensor_proto.content_of(array))
    return request.SerializeToString()


@st.composite
def changed(draw: st.DrawFn, message: bytes) -> bytes:
    """The message with some bytes changed, and sometimes one more or one less."""
    data = bytearray(message)
    for _ in range(draw(st.integers(0, 4))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    if draw(st.integers(0, 9)) == 0:
        data.insert(draw(st.integers(0, len(data))), draw(st.integers(0, 255)))
        del data[draw(st.integers(0, len(data) - 1))]
    return bytes(data)


def read(message: bytes) -> tuple[tfs_grpc.Target, Request] | None:
    """What the general way makes of a message; None: an error."""
    try:
        call = tfs_grpc.parse_predict(message)
        columns = tfs_grpc.decode_inputs(call, UNDECLARED)
    except BatchProxyError:
        return None
    request = build_request(("m", 1, call.signature_name), UNDECLARED, columns, call.output_filter)
    if not call.mergeable:
        return None
    request.key = request.key._replace(extras=call.extras)
    return call.target, request


def packed(columns: Columns) -> list[tuple[str, str, tuple[int, ...], bytes]]:
    """Columns as values that can be compared, NaN included."""
    found = []
    for alias, column in columns.items():
        assert isinstance(column, ArrayColumn)
        found.append((alias, column.array.dtype.str, column.array.shape, column.array.tobytes()))
    return sorted(found)


@given(st.data())
def test_whatever_is_found_is_what_protobuf_reads(data: st.DataObject) -> None:
    """Target, key, rows, names, types, shapes and numbers; and a message that protobuf refuses is never found."""
    message = data.draw(messages())
    known = read(message)
    templates: Templates[tuple[tfs_grpc.Target, BatchKey, int | None]] = Templates()
    if known is None or known[1].rows is None:
        return
    for _ in range(2):  # a length that comes once is not worth a plan
        templates.learn(message, known[1].columns, (known[0], known[1].key, known[1].rows))

    for _ in range(8):
        other = data.draw(changed(message))
        plan = templates.find(other)
        if plan is None:
            continue
        general = read(other)
        assert general is not None
        target, request = general
        assert (target, request.key, request.rows) == plan.value
        assert packed(request.columns) == packed(plan.columns(other))
        assert [c.shape_class for _, c in sorted(request.columns.items())] == [
            c.shape_class for _, c in sorted(plan.columns(other).items())
        ]


@given(messages(), st.binary(min_size=96, max_size=96))
def test_other_numbers_are_found(message: bytes, noise: bytes) -> None:
    """A message that was learned is found, and with any other numbers, too."""
    known = read(message)
    if known is None or known[1].rows is None:
        return
    templates: Templates[None] = Templates()
    for _ in range(2):
        templates.learn(message, known[1].columns, None)
    plan = templates.find(message)
    if plan is None:
        return
    other = bytearray(message)
    for slot in plan.slots:
        other[slot.start : slot.stop] = noise[: slot.stop - slot.start]

    assert packed(known[1].columns) == packed(plan.columns(message))
    assert plan is templates.find(bytes(other))
