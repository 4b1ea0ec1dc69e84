"""Answers as JSON: number texts and layout; ``tests/conformance/test_rest_golden.py`` has the recorded ones."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from batchproxy.codecs.tfs_json import document, float_texts, outputs, predictions, row_texts
from batchproxy.core.columns import Array
from batchproxy.core.errors import BackendProtocolError, RequestError

SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
ROW_SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4)
NORMAL = {"allow_subnormal": False}
FLOATS = st.sampled_from([np.float32, np.float64])
NUMBERS = st.sampled_from(
    [np.float32, np.float64, np.int8, np.uint8, np.int16, np.int32, np.int64, np.uint32, np.uint64, np.bool_]
)


def slow_text(value: float, digits: int, read: Any) -> str:
    """The rule as it is written down, for one number."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if abs(value) < np.finfo(read).tiny:
        return "-0.0" if math.copysign(1, value) < 0 else "0.0"
    text = f"{value:g}"
    if read(float(text)) != value:
        text = f"{value:.{digits}g}"
    return text if "." in text or "e" in text else text + ".0"


@given(FLOATS.flatmap(lambda kind: hnp.arrays(kind, st.integers(0, 40))))
@example(np.array([3.4028235e38, 1.1754944e-38, 1.1754942e-38, -1e-45, -0.0, 16777216, 67108896, 9e6], np.float32))
@example(
    np.array([1.7976931348623157e308, 5e-324, 2.2250738585072014e-308, math.nan, math.inf, -math.inf] * 4, np.float64)
)
def test_numbers_are_written_by_the_rule(values: Array) -> None:
    """In a loop or all at once."""
    single = values.dtype == np.float32
    texts = [slow_text(value, 9 if single else 17, values.dtype.type) for value in values.tolist()]

    assert texts == [text.decode() for text in float_texts(values)]


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_numbers_of_every_size_are_written_by_the_rule(kind: Any) -> None:
    """On either side of each power of ten, and with 1 to 9 digits; from before the smallest without an exponent."""
    draws = np.random.default_rng(5)
    spread = 10.0 ** draws.uniform(-6, 8, 4000)
    rounded = [float(f"{value:.{digits}g}") for value, digits in zip(spread, draws.integers(1, 10, 4000), strict=True)]
    powers = np.array([10.0**power for power in range(-6, 9)], kind)
    steps = np.arange(-200, 201, dtype=np.int64)
    bits: Array = powers.view(np.int32 if kind is np.float32 else np.int64)
    near = (bits[:, None] + steps).astype(bits.dtype).view(kind).ravel()
    values = np.concatenate([spread.astype(kind), np.array(rounded, kind), near, -near])
    texts = [slow_text(value, 9 if kind is np.float32 else 17, kind) for value in values.tolist()]

    assert texts == [text.decode() for text in float_texts(values)]


@given(FLOATS.flatmap(lambda kind: hnp.arrays(kind, st.integers(0, 40), elements=NORMAL)))
def test_numbers_read_back_as_the_same_bits(values: Array) -> None:
    """NaN aside, whose bits have no text, and denormal numbers, which are written as zeros."""
    texts = float_texts(values)
    back = np.array([float(text) for text in texts], values.dtype)

    assert np.where(np.isnan(values), 0, values).tobytes() == np.where(np.isnan(back), 0, back).tobytes()


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (9000000, np.float32, b"9e+06"),
        (999999, np.float32, b"999999.0"),
        (1234567, np.float32, b"1234567.0"),
        (0.1, np.float32, b"0.1"),
        (1 / 3, np.float32, b"0.333333343"),
        (1 / 3, np.float64, b"0.33333333333333331"),
        (1e-5, np.float32, b"1e-05"),
        (-0.0, np.float32, b"-0.0"),
        (1e6, np.float64, b"1e+06"),
        (1e-45, np.float32, b"0.0"),
        (-5e-324, np.float64, b"-0.0"),
    ],
)
@pytest.mark.parametrize("count", [1, 50])
def test_texts_that_are_written_down(value: float, kind: Any, text: bytes, count: int) -> None:
    """The samples of the facts, alone and in a crowd."""
    texts = float_texts(np.full(count, value, kind))

    assert [text] * count == texts


@given(NUMBERS.flatmap(lambda kind: hnp.arrays(kind, ROW_SHAPES, elements=NORMAL)))
def test_rows_read_back(array: Array) -> None:
    """Whatever the shape; empty ones lose what stands behind the zero."""
    read = json.loads(predictions({"y": array}))

    assert array.size == 0 or np.array_equal(
        array, np.array(read["predictions"], array.dtype), equal_nan=array.dtype.kind == "f"
    )
    assert len(array) == len(read["predictions"])


@given(NUMBERS.flatmap(lambda kind: hnp.arrays(kind, SHAPES, elements=NORMAL)), st.booleans())
def test_columns_read_back(array: Array, several: bool) -> None:
    """One output loses its name, several keep theirs."""
    arrays = {"y": array, "z": np.zeros((), np.int32)} if several else {"y": array}
    read = json.loads(outputs(arrays))["outputs"]
    value = read["y"] if several else read

    assert several == isinstance(read, dict)
    assert array.size == 0 or np.array_equal(array, np.array(value, array.dtype), equal_nan=array.dtype.kind == "f")


@given(
    st.sampled_from([np.float32, np.float64, np.int8, np.int64, np.uint64, np.bool_]).flatmap(
        lambda kind: hnp.arrays(kind, hnp.array_shapes(min_dims=2, max_dims=4, min_side=2, max_side=5))
    ),
    st.booleans(),
)
@example(np.arange(60, dtype=np.float32).reshape(3, 4, 5) / 8, True)
def test_rows_are_written_by_the_rule(array: Array, short: bool) -> None:
    """Number by number, or many at once, turned about or not: between brackets stand the same texts."""
    if short and array.dtype.kind == "f":
        array = np.round(np.nan_to_num(array) % 1000, 2)
    array = array.swapaxes(0, 1)
    floats = array.dtype.kind == "f"
    texts = iter(
        float_texts(array.ravel()) if floats else [str(item).lower().encode() for item in array.ravel().tolist()]
    )

    def written(shape: tuple[int, ...]) -> bytes:
        return b"[" + b", ".join(written(shape[1:]) for _ in range(shape[0])) + b"]" if shape else next(texts)

    assert [written(array.shape[1:]) for _ in array] == row_texts({"y": array}).texts


def test_the_layout_of_rows() -> None:
    """Rows on one line each; with several outputs, an object a row."""
    two = np.array([[2.5, 3], [2.5, 3]], np.float32)

    assert predictions({"y": two[:, 0]}) == b'{\n    "predictions": [2.5, 2.5\n    ]\n}'
    assert predictions({"y": two}) == b'{\n    "predictions": [[2.5, 3.0], [2.5, 3.0]\n    ]\n}'
    assert (
        b'{\n    "predictions": [\n        {\n            "a": [2.5, 3.0],\n            "b": 2.5\n        }\n    ]\n}'
    ) == predictions({"a": two[:1], "b": two[:1, 0]})
    assert predictions({"y": two[:0]}) == b'{\n    "predictions": []\n}'
    assert predictions({"a": two[:0], "b": two[:0]}) == b'{\n    "predictions": []\n}'


def test_the_layout_of_columns() -> None:
    """Every element on a line of its own."""
    column = np.array([1, 2], np.int64)

    assert outputs({"y": column}) == b'{\n    "outputs": [\n        1,\n        2\n    ]\n}'
    assert outputs({"y": column[0]}) == b'{\n    "outputs": 1\n}'
    assert (
        b'{\n    "outputs": {\n        "a": [\n            1,\n            2\n        ],\n        "b": []\n    }\n}'
    ) == outputs({"a": column, "b": column[:0]})


@given(st.lists(st.binary(max_size=4), min_size=1, max_size=4))
def test_strings_go_out_as_they_are_and_bytes_as_base64(values: list[bytes]) -> None:
    """By the output's name."""
    array = np.empty(len(values), object)
    array[:] = values
    strings = outputs({"s": array})
    coded = json.loads(outputs({"s_bytes": array}))["outputs"]

    assert len(values) == strings.count(b"\n        ")
    assert values == [base64.b64decode(item["b64"]) for item in coded]


@pytest.mark.parametrize(
    "array",
    [np.array(["caf\u00e9"]), np.array(["caf\u00e9".encode()]), np.array(["caf\u00e9"], object)],
    ids=["text", "bytes", "object"],
)
def test_numpy_s_own_strings_are_strings(array: Array) -> None:
    """Models answer with them, too."""
    body = predictions({"s": array})

    assert json.loads(body) == {"predictions": ["caf\u00e9"]}


def test_foreign_byte_order() -> None:
    """Digits are those of the type, whatever its order."""
    body = predictions({"y": np.array([1 / 3], ">f4")})

    assert b"0.333333343" in body


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({}, "Cannot convert empty tensor map to JSON"),
        ({"y": np.float32(1)}, "Tensor name: y has no shape information "),
        ({"a": np.zeros(2), "b": np.zeros(3)}, "Tensor name: b has inconsistent batch size: 3 expecting: 2"),
        ({"y": np.zeros(1, np.float16)}, "Failed to write JSON value for tensor type: half"),
        ({"y": np.zeros(1, ml_dtypes.bfloat16)}, "Failed to write JSON value for tensor type: bfloat16"),
        ({"y": np.zeros(1, np.complex64)}, "Failed to write JSON value for tensor type: complex64"),
        ({"y": np.zeros(1, np.uint16)}, "Failed to write JSON value for tensor type: uint16"),
    ],
)
def test_answers_that_have_no_row_form(arrays: Any, text: str) -> None:
    """TF Serving's words; an empty tensor of any type is fine."""
    with pytest.raises(RequestError) as caught:
        predictions({name: np.asarray(array) for name, array in arrays.items()})

    assert text == caught.value.message
    assert outputs({"y": np.zeros(0, np.float16)}) == b'{\n    "outputs": []\n}'


def test_objects_that_are_no_strings() -> None:
    """The model is to blame."""
    with pytest.raises(BackendProtocolError, match=r"^output 'y' holds a NoneType; only str and bytes are strings$"):
        outputs({"y": np.array([None])})


def test_a_document() -> None:
    """One space a level; empty ones in short; tags that would end a script are escaped."""
    text = document({"a": {}, "b": ["<c>", []], "d": True})

    assert text == b'{\n "a": {},\n "b": [\n  "\\u003cc\\u003e",\n  []\n ],\n "d": true\n}\n'
