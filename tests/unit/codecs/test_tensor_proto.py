"""TensorProto to numpy and back; the judge is TensorFlow's own C++ decoder, ``tf.io.parse_tensor``."""

from __future__ import annotations

import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # before the import: TensorFlow writes to stderr otherwise
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

import itertools
import math
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf.message import DecodeError as ProtobufDecodeError
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tensorflow.core.framework.tensor_pb2 import TensorProto as RealTensorProto

from batchproxy.codecs import _dtypes, tensor_proto
from batchproxy.core.columns import Array
from batchproxy.core.errors import BackendProtocolError, BatchProxyError, Code, DecodeError, TooLarge
from batchproxy.protos.tfs_pb2 import TensorProto

ROWS = pytest.mark.parametrize("row", _dtypes.TABLE, ids=lambda row: row.name)
CLIENT_ROWS = [row for row in _dtypes.TABLE if row.number not in {26, 27, 28}]  # make_tensor_proto lacks three float8s
UNPARSABLE = r"^tensor parsing error: x$"
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5)


def proto_of(row: _dtypes.DType, shape: tuple[int, ...], **fields: Any) -> TensorProto:
    """A message of our own with the given value fields."""
    proto = TensorProto(dtype=row.number, **fields)
    proto.tensor_shape.SetInParent()
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    return proto


def named(name: str, shape: tuple[int, ...] = (), **fields: Any) -> TensorProto:
    """As ``proto_of``, by the dtype's name."""
    return proto_of(_dtypes.by_name(name), shape, **fields)


def theirs(proto: TensorProto) -> Array | None:
    """What TensorFlow reads; None where it refuses."""
    dtype = tf.dtypes.as_dtype(proto.dtype)
    try:
        return np.asarray(tf.io.parse_tensor(proto.SerializeToString(), dtype).numpy(), dtype.as_numpy_dtype)
    except tf.errors.InvalidArgumentError:
        return None


def comparable(array: Array) -> tuple[str, tuple[int, ...], object]:
    """Equal for arrays of equal type, shape and bits; integers below a byte leave bits unused, so by value."""
    if array.dtype.hasobject:
        return "string", array.shape, array.tolist()
    narrow = array.dtype.name in {"int4", "uint4", "int2", "uint2"}
    return array.dtype.name, array.shape, (array.astype(np.int32) if narrow else array).tobytes()


def some_values(row: _dtypes.DType, shape: tuple[int, ...]) -> Array:
    """Small values that every type can hold, all different from their neighbours."""
    numbers = np.arange(math.prod(shape)) % 3
    if row.name == "string":
        return np.array([b"\xff\x00" * n for n in numbers], object).reshape(shape)
    if row.name in {"int2", "uint2", "bool"}:
        numbers %= 2
    values = numbers.astype(row.numpy)
    return (values * row.numpy.type(1 - 2j) if row.numpy.kind == "c" else values).reshape(shape)


@st.composite
def arrays(draw: st.DrawFn) -> Array:
    """Arrays of every type we carry: any bits, except that a bool is 0 or 1 and a narrow integer in its range."""
    row = draw(st.sampled_from(_dtypes.TABLE))
    shape = draw(SHAPES)
    count = math.prod(shape)
    if row.name == "string":
        items = draw(st.lists(st.binary(max_size=5), min_size=count, max_size=count))
        return np.array([*items, None], object)[:-1].reshape(shape)
    if row.name in {"bool", "int4", "uint4", "int2", "uint2"}:
        low, high = {"bool": (0, 1), "int4": (-8, 7), "uint4": (0, 15), "int2": (-2, 1), "uint2": (0, 3)}[row.name]
        return draw(hnp.arrays(np.int32, shape, elements=st.integers(low, high))).astype(row.numpy)
    size = count * row.numpy.itemsize
    return np.frombuffer(draw(st.binary(min_size=size, max_size=size)), row.numpy).reshape(shape)


@st.composite
def protos(draw: st.DrawFn) -> TensorProto:
    """Messages in any form: raw or typed, too few or too many values, values where they do not belong."""
    row = draw(st.sampled_from(_dtypes.TABLE))
    shape = draw(st.lists(st.integers(0, 3) | st.integers(-1, 4), max_size=3).map(tuple))
    fields: dict[str, Any] = {}
    int32 = st.integers(-(2**31), 2**31 - 1)
    elements: dict[str, st.SearchStrategy[Any]] = {
        "float_val": st.floats(width=32),
        "double_val": st.floats(),
        "int_val": int32,
        "string_val": st.binary(max_size=3),
        "scomplex_val": st.floats(width=32, allow_nan=False),
        "int64_val": st.integers(-(2**63), 2**63 - 1),
        "bool_val": st.booleans(),
        "dcomplex_val": st.floats(allow_nan=False),
        "half_val": int32,
        "uint32_val": st.integers(0, 2**32 - 1),
        "uint64_val": st.integers(0, 2**64 - 1),
    }
    for field in draw(st.sets(st.sampled_from([row.field, row.field, *elements, "float8_val"]), max_size=2)):
        if field == "float8_val":
            fields[field] = draw(st.binary(max_size=6))
        else:
            fields[field] = draw(st.lists(elements[field], max_size=9))
    if draw(st.booleans()):
        size = draw(st.sampled_from([math.prod(shape) * row.numpy.itemsize, 1, 4]))
        fields["tensor_content"] = draw(st.binary(min_size=max(size, 0), max_size=max(size, 0)))
    return proto_of(row, shape, **fields)


@given(protos())
@example(named("bool", (4,), tensor_content=b"\0\1\1\0"))
@example(named("bool", (1,), tensor_content=b"\2"))
@example(named("string", (3,), tensor_content=b"\1\0\2abb"))
@example(named("complex64", (2,), scomplex_val=[1, 2, 3]))
@example(named("complex64", (2,), scomplex_val=[1]))
@example(named("float32", (0, 3), tensor_content=b"abc"))
def test_any_form_reads_as_in_tensorflow(proto: TensorProto) -> None:
    """Whatever TensorFlow reads, we read the same; whatever it refuses, we refuse in its words."""
    expected = theirs(proto)

    if expected is None:
        with pytest.raises(DecodeError, match=UNPARSABLE):
            tensor_proto.to_array(proto, "x")
    else:
        assert comparable(expected) == comparable(tensor_proto.to_array(proto, "x"))


@given(arrays())
def test_what_is_written_reads_back(array: Array) -> None:
    """``to_array`` undoes ``from_array``, bit for bit, for every type and shape."""
    proto = TensorProto.FromString(tensor_proto.from_array(array).SerializeToString())

    assert comparable(array) == comparable(tensor_proto.to_array(proto, "x"))


@given(arrays())
def test_tensorflow_reads_what_is_written(array: Array) -> None:
    """Our messages mean the same to TensorFlow."""
    read = theirs(tensor_proto.from_array(array))

    assert read is not None
    assert comparable(array) == comparable(read)


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3), (0, 3), (100,)])
@pytest.mark.parametrize("row", CLIENT_ROWS, ids=lambda row: row.name)
def test_the_clients_own_messages(row: _dtypes.DType, shape: tuple[int, ...]) -> None:
    """``make_tensor_proto`` in, ``make_ndarray`` out: the functions that Python clients use."""
    array = some_values(row, shape)
    sent = tf.make_tensor_proto(array, dtype=tf.dtypes.as_dtype(row.number))
    read = tensor_proto.to_array(TensorProto.FromString(sent.SerializeToString()), "x")
    back = RealTensorProto.FromString(tensor_proto.from_array(read).SerializeToString())

    assert comparable(array) == comparable(read)
    assert comparable(array) == comparable(np.asarray(tf.make_ndarray(back), row.numpy))


@ROWS
def test_values_are_in_the_field_of_their_type(row: _dtypes.DType) -> None:
    """The server's default form: typed values, one for each element, no raw buffer."""
    proto = tensor_proto.from_array(some_values(row, (2, 2)))

    assert {"dtype", "tensor_shape", row.field} == {field.name for field, _ in proto.ListFields()}
    assert (8 if row.numpy.kind == "c" else 4) == len(getattr(proto, row.field))


@ROWS
def test_one_value_stands_for_all_and_none_for_zeros(row: _dtypes.DType) -> None:
    """The forms that ``make_tensor_proto(7.0, shape=[3])`` and a bare shape send."""
    one = some_values(row, (2,))[1:]
    repeated = tensor_proto.from_array(one)
    repeated.tensor_shape.dim[0].size = 100
    none = proto_of(row, (2, 50))
    zero = b"" if row.name == "string" else row.numpy.type(0)

    assert comparable(np.repeat(one, 100)) == comparable(tensor_proto.to_array(repeated, "x"))
    assert comparable(np.full((2, 50), zero, row.numpy)) == comparable(tensor_proto.to_array(none, "x"))


def test_the_last_value_repeats_and_extras_are_ignored() -> None:
    """As documented for TensorProto, and as servers do."""
    fewer = tensor_proto.to_array(named("float32", (2, 2), float_val=[1, 2]), "x")
    more = tensor_proto.to_array(named("int64", (2,), int64_val=range(100)), "x")

    assert [[1, 2], [2, 2]] == fewer.tolist()
    assert [0, 1] == more.tolist()


def test_a_raw_buffer_is_viewed() -> None:
    """No copy is made of the received bytes, and nobody can write into them."""
    array = tensor_proto.to_array(named("float32", (2,), tensor_content=bytes(8)), "x")

    assert not array.flags.writeable
    assert not array.flags.owndata


def test_no_shape_is_a_scalar_and_unknown_rank_is_not_looked_at() -> None:
    """A running server takes both."""
    bare = TensorProto(dtype=1, float_val=[4])
    unknown = TensorProto(dtype=1, float_val=[4, 5], tensor_shape={"unknown_rank": True})

    assert np.float32(4) == tensor_proto.to_array(bare, "x")
    assert () == tensor_proto.to_array(bare, "x").shape
    assert () == tensor_proto.to_array(unknown, "x").shape


@pytest.mark.parametrize("shape", [(-1,), (3, -2), (0, -1), (2**40, 2**40), (2**50,), (2**62, 2**62, 0), (1,) * 255])
def test_shapes_that_no_server_takes(shape: tuple[int, ...]) -> None:
    """Negative, unthinkably large or with too many axes: TensorFlow's text, at once."""
    with pytest.raises(DecodeError, match=UNPARSABLE):
        tensor_proto.to_array(named("float32", shape, float_val=[1]), "x")


@pytest.mark.parametrize("row", [_dtypes.by_name("float32"), _dtypes.by_name("string")], ids=["float32", "string"])
def test_a_claim_is_refused_before_it_is_allocated(row: _dtypes.DType) -> None:
    """The text names the input, the claim and the limit."""
    proto = proto_of(row, (2**39,), **{row.field: [b"a" if row.name == "string" else 1.0]})

    with pytest.raises(TooLarge, match=r"'x' claims 549755813888 elements and sends 1: .* at most 67108864") as caught:
        tensor_proto.to_array(proto, "x")
    assert Code.INVALID_ARGUMENT == caught.value.code


def test_values_that_were_sent_are_no_claim() -> None:
    """The limit counts what is filled in; what is in the message is as large as the message."""
    proto = named("bool", (100,), bool_val=[True] * 90)
    array, filled_in = tensor_proto.read(proto, "x", 10)

    assert 10 == filled_in
    assert 100 == array.size
    assert 0 == tensor_proto.read(named("bool", (90,), bool_val=[True] * 90), "x", 0)[1]
    with pytest.raises(TooLarge):
        tensor_proto.read(proto, "x", 9)


def test_more_axes_than_numpy_has() -> None:
    """TensorFlow has up to 254; the limit is named."""
    most = tensor_proto.MAX_RANK
    with pytest.raises(TooLarge, match=f"'x' has {most + 1} dimensions; batchproxy takes at most {most}"):
        tensor_proto.to_array(named("float32", (1,) * (most + 1), float_val=[1]), "x")

    assert most == tensor_proto.to_array(named("float32", (1,) * most, float_val=[1]), "x").ndim


@pytest.mark.parametrize("number", [0, 34, 101, 250, -1])
def test_numbers_that_are_no_type(number: int) -> None:
    """An unset, unknown or reference type is unparsable, as on the server."""
    with pytest.raises(DecodeError, match=UNPARSABLE):
        tensor_proto.to_array(TensorProto(dtype=number, float_val=[1]), "x")


@pytest.mark.parametrize(("number", "name"), _dtypes.UNSUPPORTED.items())
def test_types_that_we_do_not_carry_are_named(number: int, name: str) -> None:
    """Handles and quantized numbers are refused by name."""
    with pytest.raises(DecodeError, match=f"'x' is of type {name}, which batchproxy does not carry") as caught:
        tensor_proto.to_array(TensorProto(dtype=number), "x")
    assert Code.UNIMPLEMENTED == caught.value.code


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=5), st.integers(-2, 2))
def test_strings_in_a_raw_buffer(items: list[bytes], change: int) -> None:
    """All lengths, then all bytes; a byte too many or too few is refused."""
    lengths = b"".join(bytes([n]) if n < 128 else bytes([n & 127 | 128, n >> 7]) for n in map(len, items))
    content = lengths + b"".join(items)
    content = content[:change] if change < 0 else content + b"\0" * change
    proto = named("string", (len(items),), tensor_content=content)
    expected = theirs(proto) if content else np.full(len(items), b"", object)  # an empty buffer is none

    if expected is None:
        with pytest.raises(DecodeError, match=UNPARSABLE):
            tensor_proto.to_array(proto, "x")
    else:
        assert expected.tolist() == tensor_proto.to_array(proto, "x").tolist()


@pytest.mark.parametrize("content", [b"\x80", b"\x81\x80\x80\x80\x80\x00a", b"\xff" * 11])
def test_lengths_without_end(content: bytes) -> None:
    """A cut or overlong length is refused, as by TensorFlow."""
    proto = named("string", (1,), tensor_content=content)

    assert theirs(proto) is None
    with pytest.raises(DecodeError, match=UNPARSABLE):
        tensor_proto.to_array(proto, "x")


def test_a_claim_of_many_strings_in_a_small_buffer_is_refused() -> None:
    """A length takes a byte, so the buffer bounds the count before anything is allocated."""
    with pytest.raises(DecodeError):
        tensor_proto.to_array(named("string", (2**39,), tensor_content=b"\0"), "x")


@pytest.mark.parametrize("array", [np.array(["ä", ""]), np.array([b"a", b"bc"]), np.array(["ä", b"\xff"], object)])
def test_text_is_written_as_utf8(array: Array) -> None:
    """Models may give text or bytes, in any of numpy's containers."""
    expected = [item.encode() if isinstance(item, str) else item for item in array.tolist()]

    assert expected == list(tensor_proto.from_array(array).string_val)


def test_an_object_that_is_no_string_is_the_models_fault() -> None:
    """The text says what came and what should have."""
    with pytest.raises(BackendProtocolError, match="an object of type NoneType where a string is due"):
        tensor_proto.from_array(np.array([b"a", None], object))


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=">f4").reshape(2, 3),
        np.arange(12, dtype="f8").reshape(3, 4)[::2, ::-1],
        np.asfortranarray(np.arange(6, dtype="c8").reshape(2, 3)),
        np.broadcast_to(np.True_, (2, 3)),
        np.arange(1000, dtype="f4"),
    ],
)
def test_layout_in_memory_does_not_matter(array: Array) -> None:
    """Byte order, strides and views are undone; lengths of one and two bytes in the packed form."""
    read = theirs(tensor_proto.from_array(array))

    assert read is not None
    assert array.tolist() == read.tolist()


@given(arrays(), st.data())
def test_a_cut_or_mutated_message_never_raises_anything_else(array: Array, data: st.DataObject) -> None:
    """Parsed or not, hostile bytes end in an array or in one of our errors."""
    raw = bytearray(tensor_proto.from_array(array).SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    proto = TensorProto()
    try:
        proto.ParseFromString(bytes(raw[: data.draw(st.integers(0, len(raw)))]))
        read = tensor_proto.read(proto, "x", 2**16)[0]
    except (BatchProxyError, ProtobufDecodeError):
        return

    assert read.size <= max(2**16 + len(raw), 1)


def test_large_fields_are_read_and_written_whole() -> None:
    """The quick ways for many values give what the plain way gives."""
    for row, shape in itertools.product(_dtypes.TABLE, [(63,), (64,), (3000,)]):
        array = some_values(row, shape)

        assert comparable(array) == comparable(tensor_proto.to_array(tensor_proto.from_array(array), "x"))
