"""Laws of raw rows: a merged request is the concatenation, a shape class is the structure, and the filter is safe.

Judges are ``json`` of the standard library and the exact parser (``tfs_parse``), which reads as TF Serving does.
"""

from __future__ import annotations

import json
import re
from typing import Any

from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from batchproxy.codecs.tfs_parse import MISSING, Members, parse
from batchproxy.codecs.tfs_rows import LONG, JsonRows, RawPredict, read_request, write_request
from batchproxy.core.errors import DecodeError

Structure = Any
"""The name of a kind of leaf, a tuple of structures (a list), or a frozenset of (name, structure) pairs (an object)."""

NAMES = st.sampled_from(["a", "b", "e1", "1", "a,b", "[]", "{", "false", "NaN", "", " ", 'a"', 'a":', "\\", "é", "b64"])
STRINGS = st.one_of(
    st.sampled_from(["", ",", "],[", '"', '\\"', "\\", "{}", '":', "NaN", "1", "-Infinity", "true", "é", "\n", "\0"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
)
NUMBERS = st.sampled_from(["0", "-0", "1.50", "-2e3", "1E+05", "0.1e-7", "12345678901234567890123", "3.4028235e38"])
SPACE = st.sampled_from(["", "", " ", "\n\t", "\r\n  "])

STRUCTURES = st.recursive(
    st.sampled_from(["number", "number", "string", "bool", "null"]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(tuple),
        st.tuples(inner, st.integers(1, 40)).map(lambda pair: (pair[0],) * pair[1]),
        st.dictionaries(NAMES, inner, max_size=3).map(lambda members: frozenset(members.items())),
    ),
    max_leaves=6,
)


@st.composite
def texts_of(draw: st.DrawFn, structure: Structure) -> str:
    """JSON of this structure: any numbers, strings, white space and order of members."""
    space = draw(SPACE)
    match structure:
        case "number":
            return draw(NUMBERS)
        case "string":
            return json.dumps(draw(STRINGS), ensure_ascii=draw(st.booleans()))
        case "bool":
            return draw(st.sampled_from(["true", "false"]))
        case "null":
            return "null"
        case tuple():
            items = [draw(texts_of(item)) for item in structure]
            return "[" + space + f"{space},{space}".join(items) + space + "]"
    members = draw(st.permutations(sorted(structure, key=lambda member: str(member[0]))))
    items = [json.dumps(name) + space + ":" + space + draw(texts_of(value)) for name, value in members]
    return "{" + space + f"{space},{space}".join(items) + space + "}"


@st.composite
def row_requests(draw: st.DrawFn, structure: Structure, signature: str | None) -> tuple[bytes, list[str]]:
    """A body in row form, and its rows."""
    rows = [draw(texts_of(structure)) for _ in range(draw(st.integers(1, 4)))]
    space = draw(SPACE)
    members = ['"instances"' + space + ": [" + space + f"{space},{space}".join(rows) + space + "]"]
    if signature is not None:
        members.append('"signature_name":' + space + json.dumps(signature, ensure_ascii=False))
    if draw(st.booleans()):
        members.append(f'"other"{space}: ' + draw(texts_of("string")))
    body = "{" + space + f"{space},{space}".join(draw(st.permutations(members))) + space + "}"
    return body.encode(), rows


def exact(text: str | bytes) -> Any:
    """JSON with each number as its text."""
    return json.loads(text, parse_float=str, parse_int=str)


def plain(value: Any) -> Any:
    """What ``tfs_parse`` read, comparable; names of objects in order, repeated ones, too."""
    if isinstance(value, Members):
        return ["object", [(name, plain(item)) for name, item in value.pairs]]
    if isinstance(value, list):
        return [plain(item) for item in value]
    return repr(value)


@st.composite
def families(draw: st.DrawFn) -> tuple[str | None, list[tuple[bytes, list[str]]]]:
    """Requests that may ride together, and the signature name that they send."""
    structure = draw(STRUCTURES)
    signature = draw(st.sampled_from([None, "", "serving_default", "é/b"]))
    return signature, draw(st.lists(row_requests(structure, signature), min_size=1, max_size=4))


@given(families())
def test_a_merged_request_is_the_concatenation(family: tuple[str | None, list[tuple[bytes, list[str]]]]) -> None:
    """Requests of one structure share a key, and joined they are all their rows, number for number, in order."""
    signature, sent = family
    requests = [read_request(body) for body, _ in sent]
    columns = [request.columns["instances"] for request in requests if request is not None]
    merged = columns[0].concat(columns[1:])
    body = write_request({"instances": merged}, signature, row_form=True)
    expected: dict[str, Any] = {} if signature is None else {"signature_name": signature}

    assert len(sent) == len(columns)
    assert 1 == len({column.shape_class for column in columns})
    assert expected | {"instances": [exact(row) for _, rows in sent for row in rows]} == exact(body)
    assert plain(parse(body).find(b"instances")) == [plain(parse(row.encode())) for _, rows in sent for row in rows]


@st.composite
def column_families(draw: st.DrawFn) -> list[tuple[bytes, dict[str, list[str]]]]:
    """Requests in column form that may ride together: each with its rows by input."""
    inputs = draw(
        st.dictionaries(st.sampled_from(["a", "b", "inputs", "é", "b64"]), STRUCTURES, min_size=1, max_size=3)
    )
    sent = []
    for _ in range(draw(st.integers(1, 3))):
        count = draw(st.integers(1, 3))
        rows = {
            name: [draw(texts_of(structure)) for _ in range(count)]
            for name, structure in draw(st.permutations(list(inputs.items())))
        }
        space = draw(SPACE)
        members = [json.dumps(name, ensure_ascii=False) + ": [" + ",".join(texts) + "]" for name, texts in rows.items()]
        body = '{"inputs":' + space + "{" + space + f"{space},{space}".join(members) + space + "}" + space + "}"
        sent.append((body.encode(), rows))
    return sent


@given(column_families())
def test_merged_columns_are_the_concatenation(sent: list[tuple[bytes, dict[str, list[str]]]]) -> None:
    """Each input by itself, whatever order they come in."""
    requests = [request for body, _ in sent if (request := read_request(body)) is not None]
    names = list(sent[0][1])
    merged = {
        name: requests[0].columns[name].concat([request.columns[name] for request in requests[1:]]) for name in names
    }
    body = write_request(merged, None, row_form=False)

    assert len(sent) == len(requests)
    assert {"inputs": {name: [exact(row) for _, rows in sent for row in rows[name]] for name in names}} == exact(body)
    for name in names:
        assert 1 == len({request.columns[name].shape_class for request in requests})


@st.composite
def pairs(draw: st.DrawFn) -> tuple[bool, str, str]:
    """Two rows, and whether they have one structure."""
    first = draw(STRUCTURES)
    second = draw(st.one_of(st.just(first), STRUCTURES))
    return first == second, draw(texts_of(first)), draw(texts_of(second))


@given(pairs())
def test_shape_class_is_structure(pair: tuple[bool, str, str]) -> None:
    """Rows share a shape class exactly if they differ in nothing but numbers, strings and booleans."""
    same, one, other = pair
    columns = [columns_of(f'{{"instances": [{row}]}}')["instances"] for row in (one, other)]
    together = read_request(f'{{"instances": [{one}, {other}]}}'.encode())
    event(f"same structure: {same}")

    assert same == (columns[0].shape_class == columns[1].shape_class)
    assert same == (together is not None)


def columns_of(body: str) -> dict[str, JsonRows]:
    """The columns of a body that must be taken."""
    request = read_request(body.encode())
    assert request is not None
    return request.columns


PIECES = st.sampled_from(
    [
        b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"\\u0061", b"\0", b" ", b"\n", b"1", b"-", b"0", b".", b"e5",
        b"NaN", b"Infinity", b"true", b"null", b'"a"', b'"a":', b'"b64":', b'"instances":', b'"inputs":', b"[1]",
        b'"signature_name":', b'"x"', b'"\\u0069nstances":', b',"instances":[2]', b',"inputs":[2]', b"\xef\xbb\xbf",
        b"\xff", b"//", b"1e400", b'\\"', b'"\\ud800"', b',"signature_name":"y"', b',"signature_name":7',
    ]
)  # fmt: skip
BODIES = st.sampled_from(
    [
        b'{"instances":[1,2]}',
        b'{"signature_name":"x","instances":[[1,2],[3,4]]}',
        b'{"instances":[{"a":[1],"b":"x"},{"b":"y","a":[2]}],"z":{"instances":[3]}}',
        b'{"instances":["a","b"]}',
        b'{"inputs":[[1],[2]]}',
        b'{"inputs":{"a":[1,2],"b":["x","y"]},"signature_name":""}',
        b'{"inputs":{"a":[{"b64":"QQ=="}]}}',
    ]
)


TOKEN = re.compile(rb'"[^"]*"|[0-9]+|.', re.DOTALL)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A request with some tokens put in, taken out, replaced or repeated."""
    tokens = TOKEN.findall(draw(BODIES))
    for _ in range(draw(st.integers(0, 2))):
        at, stop = sorted(draw(st.tuples(st.integers(0, len(tokens)), st.integers(0, len(tokens)))))
        match draw(st.integers(0, 3)):
            case 0:
                tokens.insert(at, draw(PIECES))
            case 1:
                tokens[at : at + 1] = [draw(PIECES)]
            case 2:
                tokens[at:stop] = []
            case _:
                tokens[stop:stop] = tokens[at:stop]
    return b"".join(tokens)


@settings(max_examples=500)  # each is quick, and few are taken
@given(damaged())
def test_the_filter_is_safe(body: bytes) -> None:
    """What is taken means to TF Serving what it means to us, or is refused there for its numbers alone."""
    request = read_request(body)
    event("taken" if request is not None else "relayed")
    if request is None:
        return
    try:
        doc = parse(body)
    except DecodeError as error:
        assert "Number too big" in error.message  # noqa: PT017 - whether there is an error is open
        return

    assert (doc.find(b"instances") is not MISSING) == request.row_form
    assert (doc.find(b"inputs") is not MISSING) == (not request.row_form)
    assert as_sent(request.sent_signature) == doc.find(b"signature_name")
    assert ours(request) == theirs(doc.find(b"instances" if request.row_form else b"inputs"), request)
    assert 1 == len({column.rows for column in request.columns.values()})


def as_sent(name: str | None) -> object:
    """A signature name as ``tfs_parse`` gives it."""
    return MISSING if name is None else name.encode()


def ours(request: RawPredict) -> dict[bytes, list[Any]]:
    """The rows that were cut, read exactly."""
    return {
        name.encode(): [plain(parse(bytes(text))) for text in column.texts] for name, column in request.columns.items()
    }


def theirs(value: Any, request: RawPredict) -> dict[bytes, list[Any]]:
    """The rows of the body, read exactly."""
    if isinstance(value, Members):
        return {name: plain(value.find(name)) for name, _ in value.pairs}
    return {b"instances" if request.row_form else b"inputs": plain(value)}


@settings(max_examples=500)
@given(damaged())
@example(b'{"instances":[[1,2],[3,4]]}')
@example(b'{"z":[[1,2]]}')
@example(b'{"z":[1],"inputs":5}')
@example(b'{"inputs":{"a":[1,2]}}')
@example(b'{"signature_name":"[1]","inputs":1}')
@example(b'{"signature_name":"{","instances":[1]}')
@example(b'{"instances":[1 2]}')
def test_a_long_body_is_read_as_a_short_one(body: bytes) -> None:
    """It has a way of its own, which looks for its only array."""
    short, long = read_request(body), read_request(b" " * LONG + body)

    assert (short is None) == (long is None)
    if short is not None and long is not None:
        assert (short.sent_signature, short.row_form, short.ranks) == (long.sent_signature, long.row_form, long.ranks)
        assert short.columns.keys() == long.columns.keys()
        for name, column in short.columns.items():
            assert column.shape_class == long.columns[name].shape_class
            assert list(map(bytes, column.texts)) == list(map(bytes, long.columns[name].texts))
