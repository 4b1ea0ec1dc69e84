"""Examples to JSON and results back: our own end of that protocol, which reads REST requests, is the other side."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from math import isnan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorflow.core.example import example_pb2

from batchproxy.codecs import tfs_example_json, tfs_example_rows, tfs_examples, tfs_grpc, tfs_parse
from batchproxy.codecs.tfs_example_texts import TextsCall, read_results, reply_of
from batchproxy.codecs.tfs_examples import RESULTS, ExamplesClass, MessageColumn
from batchproxy.core.errors import BackendProtocolError, Code, RequestError
from batchproxy.core.request import BatchKey, Reply, Version
from batchproxy.protos import tfs_pb2 as pb

FLOATS = st.floats(width=32, allow_nan=False, allow_subnormal=False)
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)
VALUES = st.one_of(
    st.none(),
    st.lists(FLOATS, min_size=1, max_size=4),
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=4),
    st.lists(st.binary(max_size=5), min_size=1, max_size=4),
)
Features = dict[str, list[Any] | None]
FEATURES: st.SearchStrategy[Features] = st.dictionaries(NAMES, VALUES, max_size=4)


def an_example(features: Mapping[str, Sequence[Any] | None]) -> bytes:
    """A stranger's Example."""
    example = example_pb2.Example()
    for name, values in features.items():
        feature = example.features.feature[name]
        match values:
            case [float(), *_]:
                feature.float_list.value.extend(values)
            case [int(), *_]:
                feature.int64_list.value.extend(values)
            case [bytes(), *_]:
                feature.bytes_list.value.extend(values)
    return bytes(example.SerializeToString())


def a_message(*examples: bytes, context: bytes | None = None, signature: str = "s", version: Version = None) -> bytes:
    """A request for Regress."""
    column = MessageColumn(examples, ExamplesClass(tfs_grpc.REGRESS, context))
    return tfs_examples.write_request(BatchKey("m", version, signature), column)


def read_back(message: bytes) -> list[example_pb2.Example]:
    """The examples that TF Serving's REST door makes of the JSON; last, the context, if any."""
    column = TextsCall(tfs_grpc.REGRESS, message).column
    assert column is not None
    document = tfs_parse.parse(tfs_example_rows.write_request(column))
    assert isinstance(document, tfs_parse.Members)
    found = tfs_example_json.read_examples("regress", document)
    assert found.shape_class is not None
    context = [] if found.shape_class.context is None else [found.shape_class.context]
    return [example_pb2.Example.FromString(example) for example in [*found.messages, *context]]


@given(st.lists(FEATURES, min_size=1, max_size=3), st.one_of(st.none(), FEATURES))
def test_what_is_sent_is_read(features: list[Features], context: Features | None) -> None:
    """To the bit."""
    examples = [an_example(one) for one in features]
    extra = None if context is None else an_example(context)
    expected = [example_pb2.Example.FromString(one) for one in [*examples, *([] if extra is None else [extra])]]

    assert expected == read_back(a_message(*examples, context=extra))


def test_not_a_number_is_sent() -> None:
    """Which is equal to nothing."""
    (example,) = read_back(a_message(an_example({"x": [float("nan"), 1.0]})))
    first, second = example.features.feature["x"].float_list.value

    assert isnan(first)
    assert 1.0 == second


def test_of_features_of_one_name_the_last_one_counts() -> None:
    """As protobuf's maps have it."""
    (example,) = read_back(a_message(an_example({"x": [1.0]}) + an_example({"x": [2]})))

    assert [2] == list(example.features.feature["x"].int64_list.value)


def test_who_shares_a_call() -> None:
    """What REST's callers would have sent: the default signature is not named."""
    default = TextsCall(tfs_grpc.CLASSIFY, a_message(an_example({}), signature=""))
    named = TextsCall(tfs_grpc.REGRESS, a_message(an_example({}), context=an_example({"a": [1]}), version="canary"))
    assert default.column is not None
    assert named.column is not None

    assert ("classify", None, None) == default.column.shape_class
    assert ("regress", "s", b'{"a":[1]}') == named.column.shape_class
    assert ("m", None, "serving_default") == (default.model, default.version, default.signature_name)
    assert ("m", "canary", "s") == (named.model, named.version, named.signature_name)


def test_no_examples() -> None:
    """The server's matter."""
    assert TextsCall(tfs_grpc.REGRESS, a_message()).column is None
    assert TextsCall(tfs_grpc.REGRESS, a_message(context=b"")).column is None


@pytest.mark.parametrize(
    ("message", "code", "text"),
    [
        (b"\xff", Code.INTERNAL, ""),
        (b"", Code.INVALID_ARGUMENT, "Missing ModelSpec"),
        (a_message(b"\x0a\x07"), Code.INTERNAL, ""),
        (
            a_message(an_example({"a\0b": [1]})),
            Code.UNIMPLEMENTED,
            "model 'm': example 0 has a feature whose name 'a\\x00b'",
        ),
        (a_message(b"", b"\x0a\x07\x0a\x05\x0a\x01x\x12\x00"), None, ""),
        (
            a_message(b"", b"\x0a\x09\x0a\x07\x0a\x01x\x12\x02\x12\x00"),
            Code.UNIMPLEMENTED,
            "model 'm': example 1 has a feature 'x' ",
        ),
        (
            a_message(b"", context=an_example({"\0": [1]})),
            Code.UNIMPLEMENTED,
            "model 'm': the context has a feature whose name",
        ),
    ],
)
def test_what_is_refused(message: bytes, code: Code | None, text: str) -> None:
    """In TF Serving's words, or in ours where JSON has none."""
    if code is None:
        assert TextsCall(tfs_grpc.REGRESS, message).column is not None
        return
    with pytest.raises(RequestError) as caught:
        TextsCall(tfs_grpc.REGRESS, message)

    assert code is caught.value.code
    assert caught.value.message.startswith(text)


@given(st.lists(FLOATS, min_size=1))
def test_regressions(values: list[float]) -> None:
    """What our own writer of REST answers has written."""
    messages = [pb.Regression(value=value).SerializeToString() for value in values]
    body = tfs_example_json.write_results("regress", Reply({RESULTS: MessageColumn(messages)}, 1))

    assert messages == read_results("regress", body)[RESULTS].messages


@given(st.lists(st.lists(st.tuples(st.text(max_size=4).map(str.encode), FLOATS), max_size=3), min_size=1))
def test_classifications(rows: list[list[tuple[bytes, float]]]) -> None:
    """Labels that are not UTF-8 have a test of their own."""
    messages = [
        pb.Classifications(classes=[pb.Class(label=label, score=score) for label, score in row]).SerializeToString()
        for row in rows
    ]
    body = tfs_example_json.write_results("classify", Reply({RESULTS: MessageColumn(messages)}, 1))

    assert messages == read_results("classify", body)[RESULTS].messages


def test_odd_results() -> None:
    """Which TF Serving writes as they are."""
    (result,) = read_results("classify", b'{"results": [[["\xff", NaN], ["", -Infinity]]]}')[RESULTS].messages
    first, second = pb.Classifications.FromString(result).classes

    assert (b"\xff", b"") == (first.label, second.label)
    assert isnan(first.score)
    assert struct.pack("f", second.score) == struct.pack("f", -float("inf"))


@pytest.mark.parametrize(
    ("verb", "body"),
    [
        ("regress", b"no"),
        ("regress", b"[1]"),
        ("regress", b'{"result": [1]}'),
        ("regress", b'{"results": 1}'),
        ("regress", b'{"results": [true]}'),
        ("regress", b'{"results": ["1"]}'),
        ("classify", b'{"results": [1]}'),
        ("classify", b'{"results": [[["a"]]]}'),
        ("classify", b'{"results": [[[1, 1.0]]]}'),
    ],
)
def test_what_is_no_answer(verb: str, body: bytes) -> None:
    """It says so."""
    with pytest.raises(BackendProtocolError, match=f"answer to {verb} cannot be read"):
        read_results(verb, body)


def test_which_version_a_reply_names() -> None:
    """That which was asked for by number."""
    body = b'{"results": [1.0]}'

    assert [0, 0, 7] == [reply_of("regress", version, body).version for version in (None, "canary", 7)]
