"""Long arrays set aside: what is read is what a reader of the whole text would have read, or nothing is."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchproxy.codecs import v2_long_arrays, v2_rest
from batchproxy.codecs.v2_documents import Target
from batchproxy.codecs.v2_long_arrays import set_aside
from batchproxy.core.columns import ArrayColumn
from batchproxy.core.errors import DecodeError

NUMBERS = "[" + ", ".join(["1.5"] * 3000) + "]"
X = '{"name": "x", "shape": [3000], "datatype": "FP32", "data": ' + NUMBERS + "}"
TEXTS = """1 -2 3.5 0.1 1e3 9007199254740993 0.30000001192092896 -0.0 18446744073709551615 1e400
NaN 01 true null [] x"""
GOOD = st.sampled_from(["1", "-2", "3.5", "0.1", "1e3", "0.30000001192092896"])
DATATYPES = st.sampled_from(["FP32", "FP64", "INT64", "UINT8", "UINT64", "BOOL", "BYTES", "FP16", "none"])
ENDS = st.sampled_from(
    ["}", ' , "a": 1}', ',"data": [3]}', ',"parameters":{"data": [1,2,3]}}', ',"b":"\\u0031"}', "", "}]"]
)


@st.composite
def tensors(draw: st.DrawFn) -> str:
    """A tensor's text, with what is none among it."""
    rows, width = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    kinds = GOOD if draw(st.booleans()) else st.one_of(GOOD, st.sampled_from(TEXTS.split()))
    texts = [[draw(kinds) for _ in range(width)] for _ in range(rows)]
    nested = draw(st.booleans())
    data = ",".join("[" + ", ".join(row) + "]" if nested else ",".join(row) for row in texts)
    name = draw(st.sampled_from(["x", "y", "data", 'q"data":[1,2]', '\\"data\\":[1,2]']))
    shape = [rows, width if draw(st.integers(0, 9)) else 7]
    return f'{{"name":"{name}","shape":{shape},"datatype":"{draw(DATATYPES)}","data": [{data}]{draw(ENDS)}'


def read(body: bytes) -> object:
    """What a request says, or that it is refused, and why."""
    try:
        call = v2_rest.parse_infer(Target("infer", "m"), body, len(body))
    except DecodeError as error:
        return error.message
    return call.id, [
        (name, repr(column.array.dtype), repr(column.array.tolist())) for name, column in call.inputs.items()
    ]


@settings(deadline=None)
@given(
    st.lists(tensors(), min_size=1, max_size=2),
    st.sampled_from(["", '"id":"7",', '"data":[1,2],', '"id":"\\"data\\":[1,2]",']),
)
def test_what_is_read_is_what_all_of_the_text_says(texts: list[str], opening: str) -> None:
    """Inputs to the last bit, and each refusal word by word, were all arrays long ones."""
    body = ("{" + opening + '"inputs":[' + ",".join(texts) + "]}").encode()
    expected = read(body)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(v2_long_arrays, "LONG", 2)
        patch.setattr(v2_rest, "LONG", 2)

        assert expected == read(body)


def test_long_arrays_are_set_aside() -> None:
    """Several, with a mark each; of the answer of a server, too."""
    text = '{"inputs": [' + X + ", " + X.replace('"x"', '"y"') + "]}"
    found = set_aside(text.encode())

    assert found is not None
    short, arrays = found
    assert ["\0" + "0", "\0" + "1"] == [tensor["data"] for tensor in json.loads(short)["inputs"]]
    assert [[1.5] * 3000] * 2 == [array.tolist() for array in arrays.values()]
    (column,) = v2_rest.decode_reply(b'{"outputs": [' + X.encode() + b"]}").columns.values()
    assert isinstance(column, ArrayColumn)
    assert (np.dtype(np.float32), [1.5] * 3000) == (column.array.dtype, column.array.tolist())


@pytest.mark.parametrize(
    "text",
    [
        X.replace("1.5, ", "NaN, ", 1),
        X.replace('"x"', '"\\u0041"'),
        X + '"\\n"',
        X.replace(NUMBERS, '"' + "a" * 5000 + '"'),
        X.replace(NUMBERS, "[1.5]") + " " * 5000,
        X.replace('"data"', '"other"'),
        '"' + X,
    ],
)
def test_what_is_left_as_it_is(text: str) -> None:
    """Not of numbers alone, or with escapes, or in a string, or short."""
    assert set_aside(text.encode()) is None
