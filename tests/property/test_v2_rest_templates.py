"""Templates of v2 REST requests against the general way: whatever is found, that reads the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.codecs import v2_rest
from batchproxy.codecs.v2_calls import InferCall
from batchproxy.codecs.v2_documents import Target
from batchproxy.codecs.v2_rest_answers import Wanted
from batchproxy.codecs.v2_rest_templates import RestTemplates
from batchproxy.core.errors import DecodeError

PATH = "/v2/models/m/infer"
TARGET = Target("infer", "m")
TEXTS = """0 -0 -0.0 1 2 3 1.0 2.5 -3.25 0.1 9999999 16777217 16777216 9007199254740993 9223372036854775808 3000000000
1e5 1E2 1e39 1e400 0.1234567890123456 0.30000001192092896 12345678901234567890 1e-46 01 1. .5 +1 - NaN true "1" []"""
NUMBERS = st.sampled_from(TEXTS.split())
GOOD = st.sampled_from(["1", "2", "3", "1.0", "2.5", "-3.25", "0.1", "-7", "16777216", "NaN"])
SPACES = st.sampled_from(["", "", " ", "\n"])
IDS = st.one_of(
    st.sampled_from(
        ["", "a", "7", "last", "data", '\\"', "\\u0031", "é", 'x","id":"y', '1","inputs":[],"a":"', "[1]", "NaN"]
    ),
    st.text("ab[1]{}:, ", max_size=6),
)
DATATYPES = st.sampled_from(["FP32", "FP32", "FP64", "INT64", "INT32", "UINT8", "INT16", "UINT64", "FP16", "BOOL"])
MEMBERS = st.sampled_from(
    [
        ['"parameters":{"priority":1}'],
        ['"parameters":{"id":"p"}'],
        ['"outputs":[{"name":"y"}]'],
        ['"outputs":[{"name":"y","parameters":{"binary_data":true}}]', '"parameters":{"a":[]}'],
        ['"id":"last"'],
        ['"\\u0069d":"last"'],
        ['"data":[1]'],
        [],
        [],
    ]
)


@st.composite
def arrays(draw: st.DrawFn, shape: list[int]) -> str:
    """The values of a tensor, flat or nested as its shape is, as text."""
    if draw(st.booleans()):
        shape = [int(np.prod(shape))]

    def array(axes: list[int]) -> str:
        if not axes:
            return draw(SPACES) + draw(GOOD) + draw(SPACES)
        return "[" + ",".join(array(axes[1:]) for _ in range(axes[0])) + "]"

    return array(shape)


@st.composite
def bodies(draw: st.DrawFn) -> list[str]:
    """A request's text in pieces, of which those at odd places can be exchanged: an id, and arrays."""
    pieces = [draw(SPACES) + '{"id":"', draw(IDS), '",'] if draw(st.booleans()) else ["{", "", ""]
    tensors = draw(st.integers(1, 2))
    pieces[-1] += '"inputs":['
    for number in range(tensors):
        shape = draw(st.lists(st.integers(1, 3), min_size=1, max_size=2))
        head = f'{{"name":"x{number}","shape":{shape},"datatype":"{draw(DATATYPES)}","data":' + draw(SPACES)
        pieces[-1] += head
        pieces += [draw(arrays(shape)), draw(SPACES) + "}" + "," * (number + 1 < tensors)]
    pieces[-1] += "".join("," + member for member in ["]", *draw(MEMBERS)])[1:] + "}"
    return pieces


def read(body: bytes, length: int) -> InferCall | None:
    """What the general way makes of a request; None: it is refused."""
    try:
        return v2_rest.parse_infer(TARGET, body, length)
    except DecodeError:
        return None


def meant(call: InferCall, inputs: Mapping[str, Any]) -> object:
    """All that a call says but for its id, with ``inputs`` for its own."""
    return (
        [(name, column.array.dtype, column.array.shape, column.array.tobytes()) for name, column in inputs.items()],
        [column.shape_class for column in inputs.values()],
        Wanted.of(call),
        call.parameters,
        call.input_parameters,
        (call.timeout_s, call.priority, call.buffers, call.odd),
    )


def agrees(templates: RestTemplates[InferCall], body: bytes, length: int) -> bool:
    """Whether a request was found; whatever was is what the general way reads."""
    found = templates.find(PATH, body, length)
    if found is None:
        return False
    general = read(body, length)
    assert general is not None, body
    assert meant(general, general.inputs) == meant(found.value, found.columns)
    assert general.id.encode() == found.id
    return True


def learnt(body: bytes, length: int, call: InferCall) -> RestTemplates[InferCall]:
    """What two of a request teach."""
    templates: RestTemplates[InferCall] = RestTemplates()
    for _ in range(2):
        templates.learn(PATH, body, length, call, call)
    return templates


@given(bodies(), st.data())
def test_numbers_as_json(pieces: list[str], data: st.DataObject) -> None:
    """After other ids, other numbers, and damage: inputs, id, parameters, outputs are what the general way finds."""
    body = "".join(pieces).encode()
    call = read(body, len(body))
    if call is None:
        return
    templates = learnt(body, len(body), call)
    agrees(templates, body, len(body))
    for _ in range(4):
        others = list(pieces)
        others[1] = data.draw(IDS) if pieces[2] else ""
        for at in range(3, len(pieces), 2):
            others[at] = "".join(
                str(data.draw(NUMBERS)) if part not in "[]," and data.draw(st.booleans()) else part
                for part in parts(pieces[at])
            )
        changed = bytearray("".join(others).encode())
        for _ in range(data.draw(st.integers(0, 2))):
            changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.sampled_from(b'0129.-e[],{}":\\ ai'))
        agrees(templates, bytes(changed), len(changed))


@given(
    st.sampled_from(["FP32", "FP64", "INT64", "INT32", "UINT64", "UINT8", "INT8", "UINT16"]),
    st.lists(
        st.one_of(st.integers(-(2**65), 2**65), st.integers(-(2**25), 2**25), st.floats()), min_size=2, max_size=2
    ),
)
def test_numbers_that_a_type_may_not_hold(datatype: str, numbers: list[float]) -> None:
    """Whole numbers beyond a type's reach, decimals for whole ones, overflow, NaN: decided as in the general way."""
    form = '{"inputs":[{"name":"x","shape":[2],"datatype":"%s","data":[%s]}]}'
    first = (form % (datatype, "1, 2")).encode()
    call = read(first, len(first))
    assert call is not None
    body = (form % (datatype, ",".join(str(number) for number in numbers))).encode()

    agrees(learnt(first, len(first), call), body, len(body))


def parts(text: str) -> list[str]:
    """An array's brackets, commas, and what is between them."""
    for mark in "[],":
        text = text.replace(mark, f"\0{mark}\0")
    return [part for part in text.split("\0") if part.strip()]


@given(
    st.lists(
        st.tuples(st.sampled_from(["FP32", "FP16", "BF16", "INT64", "BOOL", "BYTES", "UINT8"]), st.integers(0, 3)),
        min_size=1,
        max_size=2,
    ),
    st.booleans(),
    st.data(),
)
def test_buffers(tensors: list[tuple[str, int]], named: bool, data: st.DataObject) -> None:
    """After other ids, other bytes and other lengths."""
    sizes = {"FP32": 4, "FP16": 2, "BF16": 2, "INT64": 8, "BOOL": 1, "UINT8": 1, "BYTES": 5}
    described = [
        f'{{"name":"x{at}","shape":[{rows}],"datatype":"{datatype}",'
        f'"parameters":{{"binary_data_size":{rows * sizes[datatype]}}}}}'
        for at, (datatype, rows) in enumerate(tensors)
    ]
    rest = '"inputs":[' + ",".join(described) + '],"parameters":{"binary_data_output":true}}'
    buffers = b"".join(
        b"\x01\0\0\0a" * rows if kind == "BYTES" else bytes(rows * sizes[kind]) for kind, rows in tensors
    )
    head = (f'{{"id":"{data.draw(IDS)}",' if named else "{").encode() + rest.encode()
    call = read(head + buffers, len(head))
    if call is None:
        return
    templates = learnt(head + buffers, len(head), call)
    agrees(templates, head + buffers, len(head))
    for _ in range(3):
        changed = bytearray((f'{{"id":"{data.draw(IDS)}",' if named else "{").encode() + rest.encode())
        for _ in range(data.draw(st.integers(0, 1))):
            changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.sampled_from(b'01,{}":\\ ai'))
        more = data.draw(st.binary(min_size=len(buffers), max_size=len(buffers)))
        agrees(templates, bytes(changed) + more[: data.draw(st.sampled_from([None, -1]))], len(changed))


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=4), st.booleans(), st.booleans())
def test_usual_requests_are_found(row: list[float], named: bool, binary: bool) -> None:
    """With other numbers and another id, of another length, too; on another path they are not."""
    array = np.array([row], np.float32)

    def request(call_id: str, numbers: np.ndarray) -> tuple[bytes, int]:
        opening = f'{{"id": "{call_id}", ' if named else "{"
        how = f'"parameters": {{"binary_data_size": {array.nbytes}}}' if binary else f'"data": {numbers.tolist()}'
        text = f'"inputs": [{{"name": "x", "shape": [1, {len(row)}], "datatype": "FP32", {how}}}]}}'
        head = (opening + text).encode()
        return head + (numbers.tobytes() if binary else b""), len(head)

    first = request("1", array)
    call = read(*first)
    assert call is not None
    templates = learnt(*first, call)
    second = request("one-hundred", array * np.float32(0.5))

    assert agrees(templates, *second)
    assert templates.find("/another", *second) is None
