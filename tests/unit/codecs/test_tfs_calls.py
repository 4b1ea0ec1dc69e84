"""Predict from the client's side, with the messages of the real ``tensorflow-serving-api`` at the other end."""

from __future__ import annotations

import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # before the import: TensorFlow writes to stderr otherwise
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tensorflow_serving.apis import predict_pb2

from batchproxy.codecs import tfs_calls, tfs_grpc
from batchproxy.core.columns import Array, ArrayColumn, ListColumn, TensorColumn
from batchproxy.core.errors import BackendProtocolError, Unsplittable
from batchproxy.core.request import BatchKey, Reply, Version
from batchproxy.core.shapes import Signature

UNKNOWN = b"\xa2\x06\x03odd"  # field 100, length-delimited
UNKNOWN_GROUP = b"\xab\x06\x08\x01\xac\x06"  # field 101, a group of one varint
CLIENT_ID = b"\x32\x02me"  # PredictRequest's field 6, which ours does not list

NUMBERS = hnp.scalar_dtypes().filter(lambda dtype: dtype.kind in "bif" and dtype.itemsize <= 8)
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
VERSIONS = st.one_of(st.none(), st.integers(0, 2**63 - 1), st.text(max_size=9))
NAMES = st.text(max_size=300)


def arrays() -> st.SearchStrategy[Array]:
    """Numbers of either byte order, and strings."""
    numbers = hnp.arrays(NUMBERS, SHAPES)
    strings = hnp.arrays(np.object_, SHAPES, elements=st.binary(max_size=200))
    return st.one_of(numbers, strings)


def same(expected: Array, actual: Array) -> bool:
    """Equal, whatever the byte order, and NaN where it is NaN."""
    if expected.dtype.hasobject:
        return expected.shape == actual.shape and expected.tolist() == actual.tolist()
    plain = expected.astype(expected.dtype.newbyteorder("="))
    return plain.dtype == actual.dtype and plain.shape == actual.shape and plain.tobytes() == actual.tobytes()


def read(message: bytes) -> Any:
    """As the stranger's server reads it."""
    return predict_pb2.PredictRequest.FromString(message)


def answer(outputs: dict[str, Any], version: int | None = 7, content: bool = False) -> Any:
    """A stranger's PredictResponse."""
    response = predict_pb2.PredictResponse()
    response.model_spec.name = "m"
    response.model_spec.signature_name = "serving_default"
    if version is not None:
        response.model_spec.version.value = version
    for alias, value in outputs.items():
        array = np.asarray(value)
        tensor = tf.make_tensor_proto(array)
        if not content:
            tensor.tensor_content = b""
            tensor.float_val[:] = array.ravel().tolist()
        response.outputs[alias].CopyFrom(tensor)
    return response


# ---------------------------------------------------------------- Predict, out


@given(
    model=NAMES,
    version=VERSIONS,
    signature=NAMES,
    inputs=st.dictionaries(NAMES, arrays(), max_size=3),
    outputs=st.one_of(st.none(), st.lists(NAMES, max_size=3).map(tuple)),
)
def test_a_stranger_reads_what_was_meant(
    model: str, version: Version, signature: str, inputs: dict[str, Array], outputs: tuple[str, ...] | None
) -> None:
    """Names, version or label or neither, filter, and every value."""
    key = BatchKey(model, version, signature, (), outputs)
    request = read(
        tfs_calls.encode_predict_request(key, {alias: ArrayColumn(array) for alias, array in inputs.items()})
    )
    spec = request.model_spec
    choice = {type(None): None, int: "version", str: "version_label"}[type(version)]

    assert (model, signature, choice) == (spec.name, spec.signature_name, spec.WhichOneof("version_choice"))
    assert version == {None: None, "version": spec.version.value, "version_label": spec.version_label}[choice]
    assert list(outputs or ()) == list(request.output_filter)
    assert inputs.keys() == request.inputs.keys()
    assert all(same(array, tf.make_ndarray(request.inputs[alias])) for alias, array in inputs.items())


@given(arrays())
def test_our_own_end_reads_it_too(array: Array) -> None:
    """``parse_predict`` is what a proxy before a proxy calls."""
    key = BatchKey("m", "stable", "s", (), ("y",))
    call = tfs_grpc.parse_predict(tfs_calls.encode_predict_request(key, {"x": ArrayColumn(array)}))
    columns = tfs_grpc.decode_inputs(call, Signature(declared=False))

    assert tfs_grpc.Target("m", label="stable") == call.target
    assert ("s", ("y",), b"", True) == (call.signature_name, call.output_filter, call.extras, call.mergeable)
    assert same(array, columns["x"].array)


def test_many_numbers_are_written_as_tensorflows_client_writes_them() -> None:
    """The raw buffer for numbers, the field for strings."""
    floats = np.array([[1.5, 2.5]], np.float32)
    strings = np.array([b"a", b"b"], object)
    request = read(
        tfs_calls.encode_predict_request(
            BatchKey("m", None, "s"), {"x": ArrayColumn(floats), "t": ArrayColumn(strings)}
        )
    )

    assert tf.make_tensor_proto(floats) == request.inputs["x"]
    assert tf.make_tensor_proto(strings) == request.inputs["t"]


def test_types_without_a_buffer_of_their_own() -> None:
    """numpy lends no memory of ml_dtypes' types; strides are straightened."""
    halves = np.array([[1, 2], [3, 4]], ml_dtypes.bfloat16).T
    request = read(tfs_calls.encode_predict_request(BatchKey("m", None, "s"), {"x": ArrayColumn(halves)}))

    assert halves.tolist() == tf.make_ndarray(request.inputs["x"]).tolist()


def test_fields_that_we_do_not_know_go_along() -> None:
    """What came in with each member of the batch goes out with the batch, whether the published API has it or not."""
    sent = tfs_calls.encode_predict_request(BatchKey("m", 1, "s"), {"x": ArrayColumn(np.zeros(2, np.float32))})
    call = tfs_grpc.parse_predict(UNKNOWN + sent + CLIENT_ID + UNKNOWN_GROUP)
    merged = tfs_calls.encode_predict_request(BatchKey("m", 1, "s", extras=call.extras), {})

    assert call.mergeable
    assert UNKNOWN + CLIENT_ID + UNKNOWN_GROUP == call.extras
    assert b"me" == read(merged).client_id
    assert merged.endswith(call.extras)


@pytest.mark.parametrize(
    ("column", "text"),
    [
        (ListColumn([1]), "input 'x' is no array"),
        (ArrayColumn(np.zeros(1, "M8[s]")), "input 'x': .*dtype datetime64"),
        (ArrayColumn(np.array([3], object)), "input 'x': .*type int"),
    ],
)
def test_columns_that_no_tensor_holds(column: Any, text: str) -> None:
    """Model and input are named."""
    with pytest.raises(BackendProtocolError, match=f"model 'm'.*{text}"):
        tfs_calls.encode_predict_request(BatchKey("m", 1, "s"), {"x": column})


# ---------------------------------------------------------------- Predict, back


@pytest.mark.parametrize("content", [False, True])
def test_an_answer_is_read_and_written_in_its_own_form(content: bool) -> None:
    """Typed fields stay typed fields, raw buffers raw buffers; each caller gets such an answer of its own rows."""
    values = np.arange(6, dtype=np.float32).reshape(3, 2)
    reply = tfs_calls.decode_predict_reply(answer({"y": values}, content=content).SerializeToString())
    mine = Reply({name: column.take(1, 3) for name, column in reply.columns.items()}, reply.version, reply.extras)
    written = predict_pb2.PredictResponse.FromString(tfs_grpc.encode_predict(mine, "m", "serving_default"))

    assert (7, b"") == (reply.version, reply.extras)
    assert answer({"y": values[1:3]}, content=content) == written


def test_strings_in_a_raw_buffer() -> None:
    """A server with ``--enable_serialization_as_tensor_content`` answers so: all lengths, then all bytes."""
    response = answer({})
    tensor = response.outputs["y"]
    tensor.dtype = 7
    tensor.tensor_shape.dim.add().size = 3
    tensor.tensor_content = b"\1\0\xac\2" + b"a" + b"b" * 300
    reply = tfs_calls.decode_predict_reply(response.SerializeToString())
    column = reply.columns["y"]
    written = tfs_grpc.encode_predict(reply, "m", "serving_default")

    assert isinstance(column, TensorColumn)
    assert [b"a", b"", b"b" * 300] == column.array.tolist()
    assert response == predict_pb2.PredictResponse.FromString(written)


def test_fields_of_an_answer_that_we_do_not_know_survive() -> None:
    """In the response, its model spec, its tensors and their shapes: each slice carries them."""
    response = answer({"y": np.zeros((2, 2))}, content=True)
    response.model_spec.MergeFromString(UNKNOWN)
    response.outputs["y"].MergeFromString(UNKNOWN_GROUP)
    response.outputs["y"].tensor_shape.MergeFromString(b"")
    response.outputs["y"].version_number = 3
    reply = tfs_calls.decode_predict_reply(response.SerializeToString() + CLIENT_ID)
    column = reply.columns["y"]
    merged = Reply({"y": column.take(0, 1).concat([column.take(1, 2)])}, reply.version, reply.extras)
    written = tfs_grpc.encode_predict(merged, "m", "serving_default")
    expected = predict_pb2.PredictResponse.FromString(response.SerializeToString() + CLIENT_ID)

    assert expected == predict_pb2.PredictResponse.FromString(written)
    assert 3 == predict_pb2.PredictResponse.FromString(written).outputs["y"].version_number


def test_a_label_in_an_answer_survives() -> None:
    """TF Serving does not echo it; a server that does names no version."""
    response = answer({}, version=None)
    response.model_spec.version_label = "stable"
    reply = tfs_calls.decode_predict_reply(response.SerializeToString())
    written = tfs_grpc.encode_predict(reply, "m", "serving_default")

    assert 0 == reply.version
    assert response == predict_pb2.PredictResponse.FromString(written)


@given(st.dictionaries(NAMES, hnp.arrays(np.float32, SHAPES), max_size=3), st.booleans(), st.integers(0, 2**63 - 1))
def test_answers_round_trip(outputs: dict[str, Array], content: bool, version: int) -> None:
    """What a stranger answers, a stranger reads again."""
    response = answer(outputs, version, content)
    reply = tfs_calls.decode_predict_reply(response.SerializeToString())
    written = tfs_grpc.encode_predict(reply, "m", "serving_default")
    again = predict_pb2.PredictResponse.FromString(written)

    assert response.model_spec == again.model_spec
    assert outputs.keys() == again.outputs.keys()
    assert all(same(array, tf.make_ndarray(again.outputs[alias])) for alias, array in outputs.items())


def test_no_predict_response() -> None:
    """Bytes that are no message are the server's fault."""
    with pytest.raises(BackendProtocolError, match="answer to Predict is no PredictResponse"):
        tfs_calls.decode_predict_reply(b"\xff")


def test_an_output_that_cannot_be_read_cannot_be_split() -> None:
    """A resource, or values that do not fit their shape."""
    response = answer({})
    response.outputs["y"].dtype = 20

    with pytest.raises(Unsplittable, match="output 'y' cannot be read: .*DT_RESOURCE"):
        tfs_calls.decode_predict_reply(response.SerializeToString())


def test_an_output_entry_with_more_in_it_cannot_be_split() -> None:
    """protobuf keeps such an entry whole: as unknown bytes it would go to every caller, all rows in it."""
    entry = b"\x0a\x01y" + UNKNOWN
    message = b"\x0a" + bytes([len(entry)]) + entry

    with pytest.raises(Unsplittable, match="fields that batchproxy does not know"):
        tfs_calls.decode_predict_reply(message)
