"""Request bodies to columns with TF Serving's texts; ``tests/conformance/test_rest_golden.py`` has those recorded."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.codecs.tensor_proto import MAX_RANK
from batchproxy.codecs.tfs_exact import exact_columns, is_base64, is_named, unbase64
from batchproxy.codecs.tfs_parse import Members, parse
from batchproxy.core.errors import Code, DecodeError
from batchproxy.core.shapes import UNDECLARED, Signature, TensorSpec

ONE = Signature({"x": TensorSpec("float32")})
TWO = Signature({"a": TensorSpec("float32"), "b": TensorSpec("int32")})
BOTH = (
    'JSON Value: {\n    "instances": 1,\n    "inputs": 1\n} '
    "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "
)
SEVERAL = "as multiple input tensors required as per tensorinfo_map"
OF_LIST = "of 'instances' list. Error: INVALID_ARGUMENT: "
IN_ROW = "Failed to process element: "
UNEQUAL = "input size does not match signature: "
ADVICE = "the model declares no inputs, so send one kind of value, or declare them with batchproxy.signature"
TEXT = Signature({"s": TensorSpec("string")})


def take(body: bytes, signature: Signature, name: str = "") -> dict[str, Any]:
    """The arrays of a body."""
    doc = parse(body)
    assert isinstance(doc, Members)
    arrays, _ = exact_columns(doc, signature, name)
    return arrays


def refusal(body: bytes, signature: Signature, name: str = "") -> str:
    """The text of a refusal."""
    with pytest.raises(DecodeError) as caught:
        take(body, signature, name)
    return caught.value.message


def one(dtype: str) -> Signature:
    """A signature with one input ``x``."""
    return Signature({"x": TensorSpec(dtype)})


def test_named_inputs_need_no_order() -> None:
    """In either form."""
    row = take(b'{"instances": [{"b": 1, "a": 2}]}', TWO)
    column = take(b'{"inputs": {"b": 1, "a": [2], "c": null}}', TWO)

    assert {"a": [2], "b": [1]} == {name: array.tolist() for name, array in row.items()}
    assert {"a": [2], "b": 1} == {name: array.tolist() for name, array in column.items()}


def test_the_form_that_was_used_is_told() -> None:
    """The answer takes the same form."""
    row = exact_columns(parse(b'{"instances": [1]}'), ONE, "")
    column = exact_columns(parse(b'{"inputs": 1}'), ONE, "")

    assert [True, False] == [row[1], column[1]]
    assert [(1,), ()] == [row[0]["x"].shape, column[0]["x"].shape]


@pytest.mark.parametrize(
    ("body", "signature", "text"),
    [
        (b'{"a": 1}', ONE, "Missing 'inputs' or 'instances' key"),
        (b'{"inputs": 1}', Signature(), "Failed to get input map for signature: DEFAULT"),
        (b'{"instances": 1, "inputs": 1}', ONE, BOTH),
        (b'{"instances": 1}', ONE, "JSON Value: {\n    \"instances\": 1\n} Expecting 'instances' to be an list/array"),
        (b'{"instances": [1]}', TWO, f"instances is a plain list, but expecting list of objects {SEVERAL}"),
        (b'{"inputs": [1]}', TWO, f"inputs is a plain value/list, but expecting an object {SEVERAL}"),
        (b'{"instances": [1, {"x": 1}]}', ONE, "Expecting value/list but got object at item 1 of input list"),
        (b'{"instances": [1, [1, 2]]}', ONE, f"{IN_ROW}1 {OF_LIST}Expecting tensor size: 1 but got: 2"),
        (b'{"instances": [[1], [[1]]]}', ONE, f"{IN_ROW}1 {OF_LIST}Expecting shape [1] but got: [1,1]"),
        (b'{"instances": [{"z": 1}]}', ONE, f"{IN_ROW}0 key: z {OF_LIST}JSON object: does not have named input: z"),
        (
            b'{"inputs": [[1], 2]}',
            ONE,
            "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2",
        ),
        (b'{"inputs": [1, [2]]}', ONE, "Encountered list at unexpected level: 1 expected < 1"),
        (b'{"inputs": [[1], [2, 3]]}', ONE, "Encountered list at unexpected size: 2 at level: 1 expected size: 1"),
        (b'{"inputs": ["1"]}', ONE, 'JSON Value: "1" Type: String is not of expected type: float'),
        (b'{"inputs": [1]}', TEXT, "JSON Value: 1 Type: Number is not of expected type: string"),
        (b'{"inputs": [true]}', ONE, "JSON Value: true Type: True is not of expected type: float"),
        (b'{"inputs": [1]}', one("bool"), "JSON Value: 1 Type: Number is not of expected type: bool"),
        (b'{"inputs": [true]}', one("int64"), "JSON Value: true Type: True is not of expected type: int64"),
        (
            b'{"inputs": [{"k": 1}]}',
            TEXT,
            'JSON Value: {\n    "k": 1\n} not formatted correctly for base64 data',
        ),
        (b'{"inputs": {"a": 1}}', TWO, "Missing named input: b in 'inputs' object."),
        (
            b'{"instances": [{"a": 1}]}',
            TWO,
            f"{IN_ROW}0 of 'instances' list. JSON object: {{\n    \"a\": 1\n}} keys must be equal to: a,b",
        ),
        (
            b'{"instances": [{"b64": "YQ=="}]}',
            Signature({"s": TensorSpec("string"), "r": TensorSpec("string")}),
            UNEQUAL + "1!=2 len({r}) != len({r,s}). Sent extra: {}. Missing but required: {s}.",
        ),
        (b'{"inputs": {"k": 1}}', Signature({"k": TensorSpec("float16")}), "Conversion of JSON Value: 1 to type: half"),
        (
            b'{"inputs": [{"k": 1}]}',
            one("float16"),
            'JSON Value: {\n    "k": 1\n} Type: Object is not of expected type: half',
        ),
        (
            b'{"inputs": ' + b"[" * 65 + b"1" + b"]" * 65 + b"}",
            ONE,
            "input 'x' is nested 65 lists deep; at most 64 can be taken",
        ),
    ],
)
def test_refusals(body: bytes, signature: Signature, text: str) -> None:
    """Each in TF Serving's words; the last in our own."""
    ours = refusal(body, signature)

    assert text == ours


def test_a_dtype_without_a_json_form_is_unimplemented_in_column_form_only() -> None:
    """Row form forgets the code."""
    with pytest.raises(DecodeError) as column:
        take(b'{"inputs": [1]}', one("bfloat16"))
    with pytest.raises(DecodeError) as row:
        take(b'{"instances": [1]}', one("bfloat16"))

    assert [Code.UNIMPLEMENTED, Code.INVALID_ARGUMENT] == [column.value.code, row.value.code]


def test_a_sent_signature_name_is_repeated() -> None:
    """Where there was none, it is DEFAULT."""
    ours = refusal(b'{"inputs": 1}', Signature(), "const")

    assert ours == "Failed to get input map for signature: const"


def test_a_name_repeated_within_rows_shifts_values() -> None:
    """As in TF Serving, which appends both values and cuts off the surplus."""
    arrays = take(b'{"instances": [{"x": 1, "x": 2}, {"x": 3}]}', ONE)

    assert [1, 2] == arrays["x"].tolist()


def test_a_row_s_name_ends_at_a_nul() -> None:
    """It is read as a C string; at the top level of columns it is not."""
    arrays = take(b'{"instances": [{"x\\u0000y": 1}]}', ONE)

    assert [1] == arrays["x"].tolist()
    assert refusal(b'{"inputs": {"x\\u0000y": 1}}', ONE) == "Missing named input: x in 'inputs' object."


@pytest.mark.parametrize(
    ("dtype", "number", "held"),
    [
        ("int8", 300, 44),
        ("uint8", -1, 255),
        ("int16", 32768, -32768),
        ("uint32", 2**32 - 1, 2**32 - 1),
        ("uint64", 2**64 - 1, 2**64 - 1),
        ("int64", -(2**63), -(2**63)),
        ("float32", 2**64 - 1, 2.0**64),
    ],
)
def test_integers_at_their_ends(dtype: str, number: int, held: float) -> None:
    """Narrow ones wrap."""
    arrays = take(b'{"inputs": [%d]}' % number, one(dtype))

    assert (dtype, [held]) == (arrays["x"].dtype.name, arrays["x"].tolist())


@pytest.mark.parametrize(
    ("dtype", "held"),
    [("float32", [0.0, -0.0, 0.0, 1.5]), ("float64", [2.0**-127, -0.0, 0.0, 1.5])],
)
def test_denormal_numbers_are_zeros_of_their_sign(dtype: str, held: list[float]) -> None:
    """As a running server showed (``number_format/float64_identity``)."""
    taken = take(b'{"instances": [5.877471754111438e-39, -1e-310, 5e-324, 1.5]}', one(dtype))["x"]

    assert np.array(held, dtype).tobytes() == taken.tobytes()


def test_more_lists_than_numpy_has_axes() -> None:
    """TensorFlow has up to 254; the text names the input and the limit."""
    body = b'{"instances": %b1.0%b}' % (b"[" * (MAX_RANK + 1), b"]" * (MAX_RANK + 1))

    assert f"input 'x' is nested {MAX_RANK + 1} lists deep; at most {MAX_RANK} can be taken" == refusal(body, ONE)
    assert MAX_RANK == take(body.replace(b"[[", b"[", 1).replace(b"]]", b"]", 1), ONE)["x"].ndim


def test_empty_lists_have_a_shape_in_any_dtype() -> None:
    """Even in those that JSON has no form for."""
    arrays = take(b'{"inputs": [[], []]}', one("complex64"))

    assert (np.dtype("complex64"), (2, 0)) == (arrays["x"].dtype, arrays["x"].shape)


@given(st.binary(), st.booleans(), st.booleans())
def test_base64_may_lack_its_padding_and_hold_white_space(data: bytes, padded: bool, spread: bool) -> None:
    """And a dot stands for an equals sign."""
    text = base64.b64encode(data)
    text = text.replace(b"=", b".") if padded else text.rstrip(b"=")
    text = b" \n".join(text[at : at + 3] for at in range(0, len(text), 3)) if spread else text

    assert data == unbase64(text)


@pytest.mark.parametrize(
    "text", [b"a", b"aGVsb", b"YQ=", b"YQ===", b"YWE==", b"YWFh=", b"Y-_h", b"Y=Q=", b"!" + b" " * 9999]
)
def test_other_base64_is_refused(text: bytes) -> None:
    """URL-safe letters, too much or too little padding, padding in the middle."""
    with pytest.raises(DecodeError, match=r"^Unable to base64 decode$"):
        unbase64(text)


@given(st.binary(max_size=12))
def test_strict_base64_is_read_as_python_reads_it(text: bytes) -> None:
    """The fast way relies on it."""
    try:
        strict = binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        return

    assert strict == unbase64(text)


@pytest.mark.parametrize(
    ("body", "base64_object", "named"),
    [
        (b'{"b64": "x"}', True, False),
        (b'{"b64": 1}', False, True),
        (b'{"b64": "x", "b64": "y"}', False, True),
        (b"[]", False, False),
    ],
)
def test_what_counts_as_base64_data(body: bytes, base64_object: bool, named: bool) -> None:
    """One member of that name, with a string."""
    value = parse(body)

    assert (base64_object, named) == (is_base64(value), is_named(value))


@pytest.mark.parametrize(
    ("body", "name", "dtype", "values"),
    [
        (b'{"instances": [1, 2]}', "x", "int64", [1, 2]),
        (b'{"instances": [1, 2.5]}', "x", "float32", [1, 2.5]),
        (b'{"inputs": {"q": [true]}}', "q", "bool", [True]),
        (b'{"instances": [{"q": "a"}, {"q": {"b64": "YQ=="}}]}', "q", "object", [b"a", b"a"]),
        (b'{"inputs": {"b64": "YQ=="}}', "x", "object", b"a"),
        (b'{"inputs": []}', "x", "float32", []),
    ],
)
def test_a_model_that_declares_nothing_takes_what_comes(body: bytes, name: str, dtype: str, values: Any) -> None:
    """Names as sent, else ``x``; dtypes by what was written."""
    arrays = take(body, UNDECLARED)

    assert {name: (dtype, values)} == {key: (item.dtype.name, item.tolist()) for key, item in arrays.items()}


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (
            b'{"inputs": [1, "a"]}',
            "input 'x' mixes int64 and string; " + ADVICE,
        ),
        (
            b'{"inputs": [null]}',
            "input 'x': JSON Value: null Type: Null is no number, boolean, string or base64 data",
        ),
        (b'{"inputs": {"\xff": 1}}', "an input's name is not UTF-8: b'\\xff'"),
        (b'{"instances": [{}]}', "Failed to get input map for signature: DEFAULT"),
        (b'{"instances": []}', "JSON Value: {\n    \"instances\": []\n} No values in 'instances' array"),
        (b'{"instances": [{"a": 1}, 2]}', "Expecting object but got list at item 1 of input list"),
        (b"{}", "Missing 'inputs' or 'instances' key"),
    ],
)
def test_refusals_of_a_model_that_declares_nothing(body: bytes, text: str) -> None:
    """Values of two kinds have no common dtype."""
    ours = refusal(body, UNDECLARED)

    assert text == ours
