"""Arrays to TF Serving's column form and back: what our own end of that protocol reads and writes is the other side."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from batchproxy.codecs import _dtypes, tfs_columns, tfs_rest
from batchproxy.codecs.tfs_columns import expected, read_answer, write_request
from batchproxy.core.columns import Array, ArrayColumn
from batchproxy.core.errors import BackendProtocolError, BackendRejected, Code
from batchproxy.core.request import BatchKey, Reply
from batchproxy.core.shapes import Signature, TensorSpec

SHAPES = arrays_of.array_shapes(min_dims=0, max_dims=3, max_side=4)


def key_of(outputs: dict[str, str], wanted: tuple[str, ...] | None = None) -> BatchKey:
    """A key whose answers have these outputs."""
    signature = Signature({}, {alias: TensorSpec(dtype) for alias, dtype in outputs.items()})
    return BatchKey("m", None, "serving_default", outputs=wanted, extras=expected(signature))


@st.composite
def tensors(draw: st.DrawFn) -> tuple[str, Array]:
    """An element type of the API's, and an array of it."""
    name = draw(st.sampled_from(sorted(tfs_columns.WORDS)))
    shape = draw(SHAPES)
    if name == "string":
        flat = draw(st.lists(st.binary(max_size=5), min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
        array: Array = np.empty(len(flat), object)
        array[:] = flat
        return name, array.reshape(shape)
    numpy = _dtypes.by_name(name).numpy
    elements: dict[str, Any] = {"allow_subnormal": False} if numpy.kind == "f" else {}
    if name == "float64":  # TF Serving's reader is a last digit off where there are many
        halves = draw(arrays_of.arrays(np.int32, shape))
        return name, np.asarray(halves / 2.0)
    return name, draw(arrays_of.arrays(numpy, shape, elements=arrays_of.from_dtype(numpy, **elements)))


def same(one: Array, other: Array) -> bool:
    """Bit for bit, but for which not-a-number it is."""
    if one.dtype.kind != "f":
        return one.dtype == other.dtype and one.shape == other.shape and one.tolist() == other.tolist()
    signs = np.array_equal(np.signbit(one[~np.isnan(one)]), np.signbit(other[~np.isnan(other)]))
    return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=True) and signs


@given(st.lists(tensors(), min_size=1, max_size=3))
def test_what_is_sent_is_read(sent: list[tuple[str, Array]]) -> None:
    """TF Serving's reader makes the same arrays of it."""
    inputs = {f"x{at}": tensor for at, tensor in enumerate(sent)}
    signature = Signature({alias: TensorSpec(name) for alias, (name, _) in inputs.items()})
    body = write_request(key_of({}), {alias: ArrayColumn(array) for alias, (_, array) in inputs.items()})
    found = tfs_rest.decode_predict(tfs_rest.parse_body(body), "serving_default", signature).columns

    assert all(same(array, found[alias].array) for alias, (_, array) in inputs.items())


@given(st.lists(tensors(), min_size=1, max_size=3), st.booleans())
def test_what_is_answered_comes_back(sent: list[tuple[str, Array]], as_bytes: bool) -> None:
    """One output or several, text or base64, infinities and numbers that are none."""
    outputs = {f"y{at}{'_bytes' * as_bytes}": tensor for at, tensor in enumerate(sent)}
    answer = tfs_rest.encode_predict(
        Reply({alias: ArrayColumn(array) for alias, (_, array) in outputs.items()}, 0), row_form=False
    )
    found = read_answer(answer, key_of({alias: name for alias, (name, _) in outputs.items()}))

    assert outputs.keys() == found.keys()
    assert all(same(array, found[alias].array) for alias, (_, array) in outputs.items())


@given(arrays_of.arrays(np.float64, SHAPES, elements={"allow_subnormal": False}))
def test_answers_of_float64_keep_every_bit(array: Array) -> None:
    """Seventeen digits."""
    answer = tfs_rest.encode_predict(Reply({"y": ArrayColumn(array)}, 0), row_form=False)

    assert same(array, read_answer(answer, key_of({"y": "float64"}))["y"].array)


def test_a_signature_is_named_where_it_is_another() -> None:
    """And the caller's choice of outputs is made here: this API has no words for it."""
    body = write_request(BatchKey("m", 1, 'a"b'), {"x": ArrayColumn(np.array([1]))})
    found = read_answer(b'{"outputs": {"a": [1], "b": [2]}}', key_of({"a": "int8", "b": "int8"}, ("b",)))

    assert b'{"signature_name":"a\\"b","inputs":{"x":[1]}}' == body
    assert ["b"] == list(found)


@pytest.mark.parametrize("kind", [np.float16, np.uint16, np.complex64])
def test_types_without_words(kind: type[Any]) -> None:
    """They are refused by name, with what to do."""
    with pytest.raises(BackendRejected, match="input 'x' is of type .* name a gRPC door") as caught:
        write_request(BatchKey("m", 1, "s"), {"x": ArrayColumn(np.zeros(1, kind))})

    assert Code.UNIMPLEMENTED is caught.value.code


@pytest.mark.parametrize(
    ("dtype", "body"),
    [
        ("float32", b""),
        ("float32", b"[]"),
        ("float32", b'{"predictions": [1.0]}'),
        ("float32", b'{"outputs": [[1.0], [1.0, 2.0]]}'),
        ("float32", b'{"outputs": [1]}'),
        ("float32", b'{"outputs": ["a"]}'),
        ("float16", b'{"outputs": [1.0]}'),
        ("int8", b'{"outputs": [300]}'),
        ("int64", b'{"outputs": [1.0]}'),
        ("int64", b'{"outputs": [true]}'),
        ("uint64", b'{"outputs": [1.0]}'),
        ("uint64", b'{"outputs": [-1]}'),
        ("bool", b'{"outputs": [1]}'),
        ("string", b'{"outputs": [1]}'),
        ("string", b'{"outputs": [["a"], "b"]}'),
        ("string", b'{"outputs": [["a"], ["b", "c"]]}'),
        ("string", b'{"outputs": [{"b64": "?"}]}'),
        ("string", b'{"outputs": [{"b64": 1}]}'),
    ],
)
def test_answers_that_are_none_of_the_signature(dtype: str, body: bytes) -> None:
    """Another version's, or another server's: nobody gets numbers of another type by surprise."""
    with pytest.raises(BackendProtocolError, match="the server's answer is none of signature 'serving_default'"):
        read_answer(body, key_of({"y": dtype}))


def test_an_output_that_is_missing() -> None:
    """Of several."""
    with pytest.raises(BackendProtocolError, match="KeyError: 'b'"):
        read_answer(b'{"outputs": {"a": [1]}}', key_of({"a": "int8", "b": "int8"}))


def test_text_for_bytes() -> None:
    """What a Python function gave as text is sent as UTF-8."""
    body = write_request(BatchKey("m", 1, "serving_default"), {"x": ArrayColumn(np.array(["é"], object))})

    assert b'{"inputs":{"x":[{"b64":"w6k="}]}}' == body


def test_nothing_at_all() -> None:
    """No rows: an array of its type."""
    array = read_answer(b'{"outputs": []}', key_of({"y": "int64"}))["y"].array

    assert ((0,), "int64") == (array.shape, array.dtype.name)
