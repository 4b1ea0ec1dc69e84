"""Which classify and regress requests are taken apart, and what is made of them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.codecs.tfs_example_rows import ExampleTextsClass, RawExamples, read_request, write_request
from batchproxy.codecs.tfs_parse import parse


def taken(body: bytes) -> RawExamples:
    """A request that must be taken."""
    request = read_request("classify", body)
    assert request is not None
    return request


@pytest.mark.parametrize(
    ("body", "texts", "sent", "context"),
    [
        (b'{"examples":[{"x":1.0}, {}]}', [b'{"x":1.0}', b"{}"], None, None),
        (b' {"examples" : [ {"x" : [1e0]} ],"signature_name":"s","instances":5} ', [b'{"x" : [1e0]}'], "s", None),
        (b'{"context":{"y":"\xff"},"signature_name":"","examples":[{"x":null}]}', [b'{"x":null}'], "", b'{"y":"\xff"}'),
    ],
)
def test_examples(body: bytes, texts: list[bytes], sent: str | None, context: bytes | None) -> None:
    """They are the texts as sent, of whatever shape."""
    request = taken(body)
    column = request.column

    assert texts == [bytes(text) for text in column.texts]
    assert ExampleTextsClass("classify", sent, context) == column.shape_class
    assert (sent or "serving_default") == request.signature_name
    assert (len(texts), None, len(body)) == (column.rows, column.rank, column.nbytes)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"instances": [1]}',
        b'{"examples": []}',
        b'{"examples": [{}], "more": 1e400}',
        b'{"examples": {}}',
        b'{"examples": [{}, 1]}',
        b'{"examples": [{"x": NaN}]}',
        b'{"examples": [{}]} and more',
        b'{"examples": [{}], "examples": [{}]}',
        b'{"ex\\u0061mples": [{}], "examples": [{}]}',
        b'{"examples": [{}], "signature_name": 5}',
        b'{"examples": [{}], "signature_name": "\\n"}',
        b'{"examples": [{}], "context": 5}',
        b"\xef\xbb\xbf" + b'{"examples": [{}]}',
        b'{"examples": [{"x": ' + b"[" * 2000 + b"]" * 2000 + b"}]}",
    ],
    ids=range(17),
)
def test_what_is_not_certain_is_not_taken(body: bytes) -> None:
    """It is relayed, and the server says what is wrong with it."""
    assert read_request("regress", body) is None


SCALARS = st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.text())
EXAMPLES = st.dictionaries(st.text(), st.one_of(SCALARS, st.lists(SCALARS, max_size=3)), max_size=3)


@given(
    st.lists(st.lists(EXAMPLES, min_size=1, max_size=3), min_size=1, max_size=3),
    st.one_of(st.none(), st.text(st.characters(codec="utf-8", exclude_characters='"\\', min_codepoint=32))),
    st.one_of(st.none(), EXAMPLES),
    st.sampled_from([None, 2]),
)
def test_merged_requests_say_what_each_said(
    requests: list[list[dict[str, object]]], sent: str | None, context: dict[str, object] | None, indent: int | None
) -> None:
    """As TF Serving's own parser reads them: signature, context, and all examples in order."""
    common: dict[str, object] = {} if sent is None else {"signature_name": sent}
    if context is not None:
        common["context"] = context
    columns = [
        taken(json.dumps({"examples": examples, **common}, ensure_ascii=False, indent=indent).encode("utf-8")).column
        for examples in requests
    ]
    whole = columns[0].concat(columns[1:])
    body = write_request(whole)
    expected = {**common, "examples": [example for examples in requests for example in examples]}

    assert repr_of(json.dumps(expected).encode()) == repr_of(body)
    assert sum(map(len, requests)) == whole.rows
    assert f"ExampleTexts({whole.rows} examples, classify)" == repr(whole)
    assert write_request(columns[0]) == write_request(whole.take(0, len(requests[0])))


def repr_of(body: bytes) -> object:
    """What a body means."""
    return _plain(parse(body))


def _plain(value: object) -> object:
    if hasattr(value, "pairs"):
        return [(name, _plain(member)) for name, member in value.pairs]
    return [_plain(item) for item in value] if isinstance(value, list) else repr(value)
