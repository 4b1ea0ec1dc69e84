"""Arrays that callers give, and the one law of their conversion: no number changes but by rounding to fewer digits."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from batchproxy.codecs import _dtypes, arrays
from batchproxy.core.errors import ShapeMismatch
from batchproxy.core.shapes import TensorSpec

PLAIN = [row.numpy for row in _dtypes.TABLE if row.numpy.isbuiltin == 1 and row.name != "string"]
"""numpy's own: hypothesis can make them."""


def spec(dtype: str) -> TensorSpec:
    """Of any rank."""
    return TensorSpec(dtype, None)


# ---------------------------------------------------------------- read


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, (np.dtype("int64"), (), True)),
        (True, (np.dtype("bool"), (), True)),
        ([1.0, 2.0], (np.dtype("float64"), (2,), True)),
        ((1j,), (np.dtype("complex128"), (1,), True)),
        ([[], []], (np.dtype("float64"), (2, 0), True)),
        (np.ones(2, np.float16), (np.dtype("float16"), (2,), False)),
        (np.float32(1), (np.dtype("float32"), (), False)),
        (np.ones((2, 1), ml_dtypes.bfloat16), (np.dtype(ml_dtypes.bfloat16), (2, 1), False)),
    ],
)
def test_numbers_are_read_as_numpy_reads_them(value: Any, expected: tuple[Any, ...]) -> None:
    """An array says its own dtype; that of Python's numbers is a guess."""
    array, guessed = arrays.read("x", value)

    assert expected == (array.dtype, array.shape, guessed)


def test_an_array_is_not_copied() -> None:
    """It is looked at only."""
    given_array = np.ones(3, np.float32)

    assert given_array is arrays.read("x", given_array)[0]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("é", b"\xc3\xa9"),
        (b"\xff\0", b"\xff\0"),
        (["a", b"b\0"], [b"a", b"b\0"]),
        ([["a"], ["bc"]], [[b"a"], [b"bc"]]),
        (np.array(["a", "bc"]), [b"a", b"bc"]),
        (np.array([b"a", b"bc"]), [b"a", b"bc"]),
        (np.array([b"a", "b"], object), [b"a", b"b"]),
    ],
)
def test_text_is_bytes(value: Any, expected: Any) -> None:
    """Text as UTF-8, bytes as they are, zeros at the end included; never a guess."""
    array, guessed = arrays.read("x", value)

    assert (np.dtype(object), expected, False) == (array.dtype, array.tolist(), guessed)
    assert {bytes} == {type(item) for item in array.flat}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([[1], [1, 2]], "input 'x' cannot be made an array: setting an array element with a sequence"),
        (["a", 1], "input 'x' holds an object of type int; give numbers of a numpy dtype, or bytes or str"),
        ([None], "input 'x' holds an object of type NoneType; give numbers of a numpy dtype, or bytes or str"),
        ([2**70], "input 'x' holds an object of type int; give numbers of a numpy dtype, or bytes or str"),
        (np.array(["2020-01-01"], "M8[D]"), "input 'x' is of dtype datetime64[D], which no TensorFlow type holds"),
        (["\ud800"], "input 'x' holds text that UTF-8 cannot write: "),
    ],
)
def test_what_is_no_tensor_is_refused(value: Any, text: str) -> None:
    """Which input, and why."""
    with pytest.raises(ShapeMismatch) as caught:
        arrays.read("x", value)

    assert caught.value.message.startswith(text)


# ---------------------------------------------------------------- fit


@pytest.mark.parametrize("row", _dtypes.TABLE, ids=lambda row: row.name)
def test_an_array_of_the_right_dtype_is_passed_on(row: _dtypes.DType) -> None:
    """The very same one, whatever the dtype."""
    array = np.zeros(2, row.numpy)

    assert array is arrays.fit("x", array, spec(row.name))


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (np.array([1, 255]), "uint8"),
        (np.array([-128, 127]), "int8"),
        (np.array([True, False]), "float32"),
        (np.array([True]), "int64"),
        (np.array([1, 2**24]), "float32"),
        (np.array([0.1, -np.inf, np.nan]), "float32"),
        (np.array([0.1]), "bfloat16"),
        (np.array([0.1], np.float16), "float64"),
        (np.array([1.5]), "complex64"),
        (np.array([7, -8]), "int4"),
        (np.array([0.5], ml_dtypes.bfloat16), "float32"),
        (np.array([1.5, 2.5], ">f4"), "float32"),
        (np.array([1, 2], np.uint64), "complex128"),
    ],
)
def test_what_fits_is_converted(array: Any, dtype: str) -> None:
    """Towards more general kinds, and within one where the values allow it."""
    fitted = arrays.fit("x", array, spec(dtype))

    assert _dtypes.numpy_dtype(dtype) == fitted.dtype
    np.testing.assert_array_equal(array.astype(dtype if dtype != "int4" else ml_dtypes.int4), fitted)


@pytest.mark.parametrize(
    ("array", "dtype", "text"),
    [
        (np.array([1.0]), "int64", "is of dtype float64, the model takes int64"),
        (np.array([1]), "bool", "is of dtype int64, the model takes bool"),
        (np.array([1j]), "float32", "is of dtype complex128, the model takes float32"),
        (np.array([b"a"], object), "float32", "is of dtype string, the model takes float32"),
        (np.array([1.0]), "string", "is of dtype float64, the model takes string"),
        (np.array([1, 256]), "uint8", "is of dtype int64, the model takes uint8: 256 does not fit"),
        (np.array([0, -1]), "uint64", "is of dtype int64, the model takes uint64: -1 does not fit"),
        (np.array([2**63], np.uint64), "int64", "is of dtype uint64, the model takes int64: 9223372036854775808 does"),
        (np.array([2**24 + 1]), "float32", "is of dtype int64, the model takes float32: 16777217 does not fit"),
        (np.array(1e300), "float32", "is of dtype float64, the model takes float32: 1e+300 does not fit"),
    ],
)
def test_what_does_not_fit_is_named(array: Any, dtype: str, text: str) -> None:
    """The input, what it is, what the model takes, and the first value that is in the way."""
    with pytest.raises(ShapeMismatch) as caught:
        arrays.fit("x", array, spec(dtype))

    assert caught.value.message.startswith(f"input 'x' {text}")


@pytest.mark.parametrize("dtype", ["int64", "string", "bool"])
def test_an_empty_list_has_any_type(dtype: str) -> None:
    """But an empty array has its own."""
    array, guessed = arrays.read("x", [])
    fitted = arrays.fit("x", array, spec(dtype), guessed=guessed)

    assert (_dtypes.numpy_dtype(dtype), (0,)) == (fitted.dtype, fitted.shape)
    with pytest.raises(ShapeMismatch):
        arrays.fit("x", array, spec(dtype))


def test_a_type_that_we_do_not_carry_is_the_servers_to_refuse() -> None:
    """Signatures may name types that are no numpy ones."""
    array = np.ones(1)

    assert array is arrays.fit("x", array, spec("DT_RESOURCE"))


@given(data=st.data())
def test_a_conversion_keeps_every_number(data: st.DataObject) -> None:
    """Whole numbers are the same; fractions differ by rounding only; nothing becomes infinite, or stops being so."""
    source, target = data.draw(st.sampled_from(PLAIN)), data.draw(st.sampled_from(PLAIN))
    array = data.draw(arrays_of.arrays(source, arrays_of.array_shapes(max_dims=2, max_side=3)))
    before = array.copy()
    try:
        fitted = arrays.fit("x", array, spec(target.name))
    except ShapeMismatch:
        return
    pairs = list(zip(before.flat, fitted.flat, strict=True))

    assert (target, array.shape) == (fitted.dtype, fitted.shape)
    for old, new in pairs:
        if source.kind in "biu":
            assert old.item() == new.item()
        else:
            assert np.isfinite(old) == np.isfinite(new)
            if np.isfinite(old):
                close = max(np.finfo(target).eps, np.finfo(source).eps)
                assert abs(complex(old) - complex(new)) <= close * abs(complex(old)) + float(np.finfo(target).tiny)


# ---------------------------------------------------------------- own


def test_an_answer_is_copied_only_where_it_is_a_view_or_locked() -> None:
    """So that it can be written to, and keeps nobody else's rows in memory."""
    whole = np.arange(4)
    locked = np.arange(2)
    locked.flags.writeable = False

    assert whole is arrays.own(whole)
    for view in (whole[1:3], locked, np.frombuffer(bytes(8), np.int64)):
        copy = arrays.own(view)
        assert copy.base is None
        assert copy.flags.writeable
        assert view.tolist() == copy.tolist()
