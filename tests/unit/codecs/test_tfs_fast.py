"""The fast way against the exact way: where it answers at all, it gives the very same arrays."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from batchproxy.codecs import tfs_fast
from batchproxy.codecs.tfs_exact import exact_columns
from batchproxy.codecs.tfs_fast import Quick
from batchproxy.codecs.tfs_parse import Members, parse
from batchproxy.core.columns import Array
from batchproxy.core.errors import DecodeError
from batchproxy.core.shapes import UNDECLARED, Signature, TensorSpec

DTYPES = (
    "float32",
    "float64",
    "int8",
    "uint8",
    "int16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "bool",
    "string",
    "float16",
)


DENORMAL = ("1e-40", "-1e-45", "1e-310", "-5e-324", "1.17549435e-38", f"0.{'0' * 39}1")
"""TF Serving takes these for zero, as float32 or as either; but for the fifth, which is the least that it keeps."""

LONG = " " * tfs_fast.LONG
"""What makes a body a long one, wherever it stands."""


def takes(*dtypes: str) -> Signature:
    """A signature with inputs ``x``, ``y``, ... of these dtypes."""
    return Signature({name: TensorSpec(dtype) for name, dtype in zip("xyz", dtypes, strict=False)})


def both(body: bytes, signature: Signature) -> tuple[Any, Any]:
    """What the two ways make of a body, comparable; None from the fast way where it is not sure."""
    quick = Quick.of(body)
    fast = quick.columns(signature) if quick is not None else None
    try:
        doc = parse(body)
        assert isinstance(doc, Members)
        exact: Any = exact_columns(doc, signature, "")
    except DecodeError as error:
        exact = error
    return fast and comparable(fast), exact if isinstance(exact, DecodeError) else comparable(exact)


def comparable(taken: tuple[dict[str, Array], bool]) -> Any:
    """Names, dtypes, shapes and values to the last bit."""
    arrays, row_form = taken
    return row_form, {
        name: (array.dtype.str, array.shape, array.tolist() if array.dtype.hasobject else array.tobytes())
        for name, array in arrays.items()
    }


WHOLE = st.integers(-(2**70), 2**70) | st.integers(-300, 300) | st.sampled_from([2**31, 2**32, 2**63, 2**64 - 1, 2**64])
DECIMAL = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.floats(width=32, allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(["-0.0", "16777217.0", "1e39", "1e400", "NaN", "-Infinity", "1e-05", "3.4028235e38", *DENORMAL]),
    st.decimals(allow_nan=False, allow_infinity=False, places=20, min_value=-1000, max_value=1000).map(str),
    st.builds(lambda m, e: f"{m}e{e}", st.integers(-(10**25), 10**25), st.integers(-340, 320)),
)
TEXT = st.text(max_size=4).map(json.dumps) | st.sampled_from(['"a:b"', '{"b64":"YQ=="}', '{"b64":"YQ"}', '{"b64":"!"}'])
LEAF = st.one_of(WHOLE.map(str), DECIMAL, TEXT, st.sampled_from(["true", "false", "null", "{}", '{"k":1,"k":2}']))


def grown(leaf: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """JSON lists, even ones more often than not, with leaves of one kind."""
    row = st.lists(leaf, max_size=3).map(lambda items: f"[{', '.join(items)}]")
    even = st.integers(0, 3).flatmap(lambda size: st.lists(st.lists(leaf, min_size=size, max_size=size), max_size=3))
    table = even.map(lambda rows: f"[{','.join('[' + ','.join(row) + ']' for row in rows)}]")
    return st.one_of(leaf, row, table, st.lists(row, max_size=3).map(lambda rows: f"[{','.join(rows)}]"))


VALUE = st.one_of(
    grown(WHOLE.map(str)), grown(DECIMAL), grown(TEXT), grown(st.sampled_from(["true", "false"])), grown(LEAF)
)
NAMED = st.lists(st.tuples(st.sampled_from(["x", "y", "b64"]), VALUE), max_size=3).map(
    lambda members: "{" + ", ".join(f'"{name}" : {value}' for name, value in members) + "}"
)
REST = st.sampled_from(
    ["", ',"signature_name":"s"', ',"more":{"a":[{"b":1}]}', ',"t":"u:v"', ',"e":"\\\\"', ',"inputs":1']
)
BODY = st.one_of(
    st.builds(lambda value, rest: f'{{"instances": {value}{rest}}}', VALUE, REST),
    st.builds(lambda value, rest: f'{{"inputs": {value}{rest}}}', VALUE | NAMED, REST),
    st.builds(
        lambda rows, rest: f'{{"instances": [{",".join(rows)}]{rest}}}', st.lists(NAMED | LEAF, max_size=3), REST
    ),
)
SIGNATURES = st.one_of(
    st.sampled_from(DTYPES).map(takes),
    st.tuples(*[st.sampled_from(DTYPES)] * 2).map(lambda two: takes(*two)),
    st.just(UNDECLARED),
)


@settings(max_examples=1500)
@given(BODY, SIGNATURES)
@example('{"instances": [1, true]}', takes("float32"))
@example('{"instances": [1, "long"]}', takes("float32"))
@example('{"instances": [16777217.0]}', takes("float32"))
@example('{"instances": [18446744073709551615, 1]}', UNDECLARED)
@example('{"instances": [123456789.123456789]}', takes("float64"))
@example('{"inputs": [[], [1]]}', takes("int64"))
@example('{"instances": [{"x": 1, "x": 2}]}', takes("int64"))
def test_where_the_fast_way_answers_it_answers_as_the_exact_way(body: str, signature: Signature) -> None:
    """For any body and any dtype."""
    fast, exact = both(body.encode(), signature)

    assert fast is None or fast == exact


@settings(max_examples=500)
@given(BODY, SIGNATURES)
@example('{"instances": [1 2]}', takes("float32"))
@example('{"signature_name": "[1]", "instances": 1}', takes("float32"))
@example('{"signature_name": "\\"", "instances": [1]}', takes("float32"))
@example('{"instances": [1], "inputs": 1}', takes("float32"))
@example('{"inputs": {"x": [1], "y": 1.5}}', takes("int64", "float32"))
def test_long_bodies_are_taken_the_same_way(body: str, signature: Signature) -> None:
    """They have a way of their own, which looks for one array of numbers."""
    fast, exact = both((LONG + body).encode(), signature)

    assert fast is None or fast == exact


@pytest.mark.parametrize(
    ("body", "signature"),
    [
        ('{"instances": [[0.1, 2], [1e-05, 0.30000001192092896]]}', takes("float32")),
        ('{"instances": [[0.1, 0.3176470588235294], [1, 7]], "signature_name": "s"}', takes("float64")),
        ('{"inputs": {"x": [300, -1]}}', takes("uint8")),
        ('{"inputs": {"x": [[300, -1]], "y": "text"}}', takes("uint8", "string")),
        ('{"instances": [1, 2.5]}', UNDECLARED),
    ],
)
def test_long_bodies_of_numbers_are_taken_the_fast_way(body: str, signature: Signature) -> None:
    """Whatever model they are for."""
    fast, exact = both((LONG + body).encode(), signature)

    assert fast is not None
    assert exact == fast


def test_a_long_body_that_is_broken_is_found_out_at_once() -> None:
    """A parse error comes before whatever else may be wrong."""
    assert Quick.of((LONG + '{"instances": [1.5, 2 3]}').encode()) is None
    assert Quick.of((LONG + '{"instances": [1.5, 2, 3]}').encode()) is not None


@given(
    st.lists(
        st.binary(min_size=8, max_size=8).map(lambda raw: struct.unpack("<d", raw)[0]).filter(np.isfinite), min_size=1
    )
)
def test_any_doubles_are_the_same_as_float32(values: list[float]) -> None:
    """Whatever they are rounded to."""
    fast, exact = both(json.dumps({"instances": values}).encode(), takes("float32"))

    assert fast is None or fast == exact


@pytest.mark.parametrize(
    ("body", "signature"),
    [
        ('{"instances": [0.1, 2, 1e-05, 0.30000001192092896]}', takes("float32")),
        ('{"inputs": [[1.5, 2.25], [1e3, -0.5]]}', takes("float64")),
        ('{"inputs": [[300, -1]]}', takes("uint8")),
        ('{"inputs": 7}', takes("float64")),
        ('{"inputs": [[], []]}', takes("float16")),
        ('{"inputs": {"x": [1], "y": ["a:b"], "z": {"n": 1}}}', takes("int64", "string")),
        ('{"instances": [{"y": "\\u00e9", "x": [1]}, {"x": [2], "y": {"b64": "YQ=="}}]}', takes("int32", "string")),
        ('{"instances": [true, false]}', takes("bool")),
        ('{"instances": ["true", "1"], "signature_name": "s"}', takes("string")),
        ('{"instances": [{"x": 1, "y": true}]}', UNDECLARED),
        ('{"inputs": ["a"]}', UNDECLARED),
        ('{"inputs": [1, 2.5]}', UNDECLARED),
        ('{"inputs": []}', UNDECLARED),
    ],
)
def test_the_usual_bodies_are_taken_the_fast_way(body: str, signature: Signature) -> None:
    """Otherwise it would be of no use."""
    fast, exact = both(body.encode(), signature)

    assert fast is not None
    assert exact == fast


@pytest.mark.parametrize(
    ("body", "signature"),
    [
        ("[1]", takes("float32")),
        ('{"instances": [1]} more', takes("float32")),
        ('{"instances": ["\\u0000"]}', takes("string")),
        ('{"instances": [1], "instances": [2]}', takes("float32")),
        ('{"instances": ["\\\\:"]}', takes("string")),
        ('{"instances": [1.0], "deep": ' + '{"a":' * 80 + "1" + "}" * 81, takes("float32")),
        ('{"instances": []}', takes("float32")),
        ('{"instances": [1], "inputs": [1]}', takes("float32")),
        ('{"instances": [1]}', takes("float32", "float32")),
        ('{"instances": [{"b64": 1}]}', Signature({"b64": TensorSpec("int64")})),
        ('{"instances": [{}]}', UNDECLARED),
        ('{"inputs": {}}', UNDECLARED),
        ('{"inputs": {"y": 1}}', takes("float32")),
        ('{"instances": [{"x": 1}, 5]}', takes("float32")),
        ('{"instances": [{"x": 1}, {"y": 1}]}', takes("float32")),
        ('{"instances": [{"x": 1}, {"x": 1, "y": 1}]}', takes("float32")),
        ('{"instances": [1, "a"]}', takes("float32")),
        ('{"instances": [[1], "a"]}', takes("float32")),
        ('{"instances": [[1], [2, 3]]}', takes("float32")),
        ('{"instances": [' + "[" * 70 + "]" * 70 + "]}", takes("string")),
        ('{"instances": ["a", 1]}', takes("string")),
        ('{"instances": [["a"], ["b", "c"]]}', takes("string")),
        ('{"instances": [{"b64": "YQ"}]}', takes("string")),
        ('{"instances": [{"b64": "YWJj="}]}', takes("string")),
        ('{"instances": [{"b64": "YWJj===="}]}', takes("string")),
        ('{"instances": [{"b64": "YQ==YQ=="}]}', takes("string")),
        ('{"instances": [1.0]}', takes("int64")),
        ('{"instances": [2147483648]}', takes("int8")),
        ('{"instances": [0.1234567890123456]}', takes("float64")),
        ('{"instances": [1e-08]}', takes("float64")),
        ('{"instances": [0.1000000000000000000001]}', takes("float32")),
        ('{"instances": [1e39]}', takes("float32")),
        ('{"instances": [0.5, 0e309]}', takes("float32")),
        ('{"instances": [null]}', takes("float32")),
        ('{"instances": [9223372036854775808, 1]}', UNDECLARED),
    ],
)
def test_whatever_is_not_sure_is_left_to_the_exact_way(body: str, signature: Signature) -> None:
    """Refusals included: the fast way words none."""
    quick = Quick.of(body.encode())

    assert quick is None or quick.columns(signature) is None
