"""What the Open Inference Protocol's codecs write, they read again: any tensors, either protocol, either direction."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from batchproxy.codecs import _dtypes, v2_documents, v2_grpc, v2_rest
from batchproxy.codecs.v2_calls import InferCall, Said, Value
from batchproxy.core.columns import Array, ArrayColumn, Columns
from batchproxy.core.errors import DecodeError
from batchproxy.core.request import BatchKey, Reply

ROWS = [row for row in _dtypes.TABLE if row.v2]
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
TEXT = st.text(st.characters(codec="utf-8"), max_size=5)
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=5)
INTEGERS = st.integers(-(2**63), 2**64 - 1)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
VALUES: st.SearchStrategy[Value] = st.one_of(st.booleans(), INTEGERS, TEXT, FLOATS)
PARAMETERS = st.dictionaries(NAMES.map("own_{}".format), VALUES, max_size=2)


@st.composite
def arrays(draw: st.DrawFn, *, text: bool = False) -> Array:
    """A tensor of any type; ``text``: its strings are UTF-8, as JSON has them."""
    row = draw(st.sampled_from(ROWS))
    shape = draw(SHAPES)
    if row.name == "string":
        strings = st.text(st.characters(codec="utf-8"), max_size=3).map(str.encode) if text else st.binary(max_size=3)
        flat = draw(st.lists(strings, min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
        array = np.empty(len(flat), np.object_)
        array[:] = flat
        return array.reshape(shape)
    if row.name == "bfloat16":
        return draw(hnp.arrays(np.float16, shape)).astype(row.numpy)
    return draw(hnp.arrays(row.numpy, shape))


def columns(*, text: bool = False) -> st.SearchStrategy[dict[str, ArrayColumn]]:
    """Named tensors."""
    return st.dictionaries(NAMES, arrays(text=text).map(ArrayColumn), max_size=3)


def same(expected: Columns, got: Columns) -> None:
    """The same names, types, shapes and values; NaN is NaN."""
    assert list(expected) == list(got)
    for name, column in expected.items():
        ours, theirs = column.array, got[name].array  # type: ignore[attr-defined]
        assert ours.shape == theirs.shape
        assert ours.dtype == theirs.dtype
        assert repr(ours.tolist()) == repr(theirs.tolist())


KEYS = st.builds(
    BatchKey,
    NAMES,
    st.one_of(st.none(), st.integers(0, 2**62), st.just("stable")),
    st.sampled_from(["serving_default", "other"]),
    st.just(()),
    st.one_of(st.none(), st.lists(NAMES, min_size=1, max_size=2, unique=True).map(tuple)),
    st.just(()),
    st.builds(
        lambda own, of_inputs: InferCall("", None, "", {}, (), own, of_inputs).extras() or b"",
        PARAMETERS,
        st.just({}),
    ),
)


@settings(deadline=None)
@given(KEYS, columns())
def test_a_grpc_request_is_read_as_it_was_meant(key: BatchKey, inputs: dict[str, ArrayColumn]) -> None:
    """Model, version, signature, outputs, parameters, tensors."""
    call = v2_grpc.parse_infer(v2_grpc.encode_infer_request(key, inputs))

    same(inputs, call.inputs)
    assert (key.model, key.version, key.signature) == (call.model, call.version, call.signature_name)
    assert (key.outputs or (), key.extras) == (call.outputs, call.extras())


@settings(deadline=None)
@given(KEYS, st.data(), st.booleans())
def test_a_rest_request_is_read_as_it_was_meant(key: BatchKey, data: st.DataObject, binary: bool) -> None:
    """As JSON and as buffers."""
    inputs = data.draw(columns(text=not binary))
    body, length = v2_rest.encode_infer_request(key, inputs, binary=binary)
    target = v2_documents.parse_target("POST", v2_documents.model_path(key.model, key.version, "infer"))
    assert target is not None
    call = v2_rest.parse_infer(target, body, len(body) if length is None else length)

    same(inputs, call.inputs)
    assert (key.model, key.version, key.signature) == (call.model, call.version, call.signature_name)
    assert (key.outputs or (), key.extras) == (call.outputs, call.extras())


@settings(deadline=None)
@given(columns(), PARAMETERS, st.integers(0, 2**40), TEXT)
def test_a_grpc_answer_is_read_as_it_was_meant(
    outputs: dict[str, ArrayColumn], parameters: dict[str, Value], version: int, call_id: str
) -> None:
    """Tensors, version, parameters of the answer and of its outputs."""
    of_outputs = {name: parameters for name in outputs if parameters}
    reply = Reply(outputs, version)
    reply.memo[Said] = Said(str(version), parameters, of_outputs)
    message = v2_grpc.encode_reply(reply, "m", call_id)
    again = v2_grpc.decode_reply(message)

    same(outputs, again.columns)
    assert (version, Said(str(version), parameters, of_outputs)) == (again.version, again.memo[Said])
    assert version == v2_grpc.version_answered(message)


@settings(deadline=None)
@given(st.data(), PARAMETERS, st.integers(0, 2**40), st.booleans())
def test_a_rest_answer_is_read_as_it_was_meant(
    data: st.DataObject, parameters: dict[str, Value], version: int, binary: bool
) -> None:
    """As JSON and as buffers, in the order that was asked for."""
    outputs = data.draw(columns(text=not binary))
    order = data.draw(st.permutations(list(outputs)))
    reply = Reply(outputs, version)
    reply.memo[Said] = Said(str(version), parameters)
    call = InferCall("m", None, "", {}, tuple(order), {"binary_data_output": binary})
    body, length = v2_rest.encode_reply(reply, call)
    header = None if length is None else str(length)
    again = v2_rest.decode_reply(body, header)

    same({name: outputs[name] for name in order}, again.columns)
    assert (version, Said(str(version), parameters)) == (again.version, again.memo[Said])
    assert version == v2_rest.version_answered(body, header)


@settings(deadline=None)
@given(KEYS, columns(), st.data())
def test_damaged_requests_are_refused_or_read(
    key: BatchKey, inputs: dict[str, ArrayColumn], data: st.DataObject
) -> None:
    """Whatever is cut off or changed: a call, or a ``DecodeError``; nothing else."""
    target = v2_documents.Target("infer", "m")
    body, length = v2_rest.encode_infer_request(key, inputs, binary=True)
    message = v2_grpc.encode_infer_request(key, inputs)
    for original in (body, message):
        at = data.draw(st.integers(0, len(original)))
        damaged = original[:at] + data.draw(st.binary(max_size=3)) + original[at + data.draw(st.integers(0, 3)) :]
        try:
            if original is message:
                v2_grpc.parse_infer(damaged)
            else:
                v2_rest.parse_infer(target, damaged, min(length or 0, len(damaged)))
        except DecodeError:
            pass
