"""JSON examples become ``tensorflow.Example`` as TensorFlow reads it, and results TF Serving's JSON."""

from __future__ import annotations

import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # before the import: TensorFlow writes to stderr otherwise
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorflow.core.example import example_pb2
from tensorflow_serving.apis import classification_pb2, regression_pb2

from batchproxy.codecs import tfs_examples
from batchproxy.codecs.tfs_example_json import read_examples, write_results
from batchproxy.codecs.tfs_examples import ExamplesClass, MessageColumn
from batchproxy.codecs.tfs_grpc import CLASSIFY, REGRESS
from batchproxy.codecs.tfs_parse import parse
from batchproxy.core.errors import BackendProtocolError, DecodeError, RequestError
from batchproxy.core.request import Reply


def features_of(message: bytes) -> dict[str, tuple[str | None, list[Any]]]:
    """An Example as TensorFlow reads it: kind and values by name."""
    found = example_pb2.Example.FromString(message).features.feature
    return {
        name: (kind, list(getattr(feature, kind).value) if kind else [])
        for name, feature in found.items()
        for kind in [feature.WhichOneof("kind")]
    }


@pytest.mark.parametrize(
    ("text", "kind", "values"),
    [
        (b"1", "int64_list", [1]),
        (b"[-9223372036854775808, 9223372036854775807]", "int64_list", [-(2**63), 2**63 - 1]),
        (b"[true, 5, false]", "int64_list", [1, 5, 0]),
        (b"1.0", "float_list", [1.0]),
        (b"[0.1, 1e39, -Infinity]", "float_list", [float(np.float32(0.1)), math.inf, -math.inf]),
        (b"-9223372036854775809", "float_list", [-(2.0**63)]),
        (b'["a", {"b64": "//79AA=="}, "\xff"]', "bytes_list", [b"a", b"\xff\xfe\xfd\x00", b"\xff"]),
        (b"[]", None, []),
    ],
)
def test_a_feature(text: bytes, kind: str | None, values: list[Any]) -> None:
    """The first element says the kind; a lone value is a list of one; an empty list has no kind."""
    column = read_examples("regress", parse(b'{"examples": [{"f": ' + text + b"}]}"))

    assert {"f": (kind, values)} == features_of(column.messages[0])


def test_examples_and_their_context() -> None:
    """Names may be longer than a length byte holds; one ends at a NUL; the last of a name counts, of any kind."""
    name = b"n" * 300
    body = b'{"context": {"c": 1}, "examples": [{"' + name + b'": "x"}, {}, {"a": 1, "a\\u0000b": [2.5]}]}'
    column = read_examples("classify", parse(body))
    assert column.shape_class is not None
    assert column.shape_class.context is not None

    assert CLASSIFY == column.shape_class.method
    assert {"c": ("int64_list", [1])} == features_of(column.shape_class.context)
    assert [{name.decode(): ("bytes_list", [b"x"])}, {}, {"a": ("float_list", [2.5])}] == [
        features_of(message) for message in column.messages
    ]
    assert b"" == column.messages[1]


def test_without_a_context_there_is_none() -> None:
    """Which is another kind of input."""
    column = read_examples("regress", parse(b'{"examples": [{}]}'))

    assert ExamplesClass(REGRESS) == column.shape_class


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (
            b"{}",
            "JSON Value: {} When method is classify, key 'examples' is expected and was not found",
        ),
        (
            b'{"examples": 5}',
            "JSON Value: {\n    \"examples\": 5\n} Expecting 'examples' value to be an list/array",
        ),
        (b'{"examples": []}', "JSON Value: {\n    \"examples\": []\n} 'examples' value is an empty array"),
        (b'{"examples": [true]}', "Example must be JSON object but got JSON True"),
        (b'{"context": [], "examples": 5}', "Example must be JSON object but got JSON Array"),
        (b'{"examples": [{"f": null}]}', "Feature: f has element with unexpected JSON type: Null"),
        (b'{"examples": [{"f": [[1]]}]}', "Feature: f has element with unexpected JSON type: Array"),
        (b'{"examples": [{"f": {"b64": 1}}]}', "Feature: f has element with unexpected JSON type: Object"),
        (b'{"examples": [{"f": {"b64": "_"}}]}', "Unable to base64 decode"),
        (b'{"examples": [{"f": [1, 2.5]}]}', "Unexpected element type in feature: f expecting type: int64"),
        (b'{"examples": [{"f": [1.0, "a"]}]}', "Unexpected element type in feature: f expecting type: float"),
        (b'{"examples": [{"f": ["a", 2]}]}', "Unexpected element type in feature: f expecting type: bytes"),
        (
            b'{"examples": [{"f": 9223372036854775808}]}',
            "Feature: f has uint64_t element. Only int64_t is supported.",
        ),
        (b'{"examples": [{"f": [1, {"b64": "_"}]}]}', "Unexpected element type in feature: f expecting type: int64"),
        (
            b'{"examples": [{"f": [1.5, 9223372036854775808]}]}',
            "Unexpected element type in feature: f expecting type: float",
        ),
        (b'{"examples": [{"\xff": 1}]}', "Feature: \udcff has a name that is not UTF-8: gRPC cannot carry it"),
        (b'{"examples": [{"\xff": null}]}', "Feature: \udcff has element with unexpected JSON type: Null"),
    ],
)
def test_what_is_wrong_is_said_in_tf_servings_words(body: bytes, text: str) -> None:
    """Text by text, and the same for both verbs."""
    told = []
    for verb in ("classify", "regress"):
        with pytest.raises(DecodeError) as caught:
            read_examples(verb, parse(body))
        told.append(caught.value.message)

    assert [text] * 2 == told


@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_characters="\0")),
        st.one_of(
            st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1),
            st.lists(st.binary(), min_size=1),
            st.lists(st.floats(width=32, allow_nan=False, allow_subnormal=False), min_size=1),
        ),
    )
)
def test_any_example_is_read_back(features: dict[str, list[Any]]) -> None:
    """By TensorFlow's own message."""
    kinds: dict[type, str] = {int: "int64_list", bytes: "bytes_list", float: "float_list"}
    parsed = parse(b'{"examples": [{}]}')
    parsed.find(b"examples")[0].pairs.extend((name.encode(), values) for name, values in features.items())
    column = read_examples("regress", parsed)

    assert {name: (kinds[type(values[0])], values) for name, values in features.items()} == features_of(
        column.messages[0]
    )


def test_denormal_numbers_are_zeros_of_their_sign() -> None:
    """As everywhere in TF Serving's REST door; the least normal number stays, NaN too."""
    column = read_examples("regress", parse(b'{"examples": [{"f": [1e-40, -1e-300, 1.1754943508222875e-38, NaN]}]}'))

    assert "('float_list', [0.0, -0.0, 1.1754943508222875e-38, nan])" == str(features_of(column.messages[0])["f"])


def reply_of(response: Any) -> Reply:
    """As it comes from a server."""
    return tfs_examples.read_reply(response.SerializeToString())


def test_classes_are_written_as_tf_serving_does() -> None:
    """Label and score; what is missing is empty, or zero; a label's bytes go out as they came."""
    response = classification_pb2.ClassificationResponse()
    first = response.result.classifications.add().classes
    first.add(label="neg", score=0.268941402)
    first.add(label='"é\n', score=math.nan)
    response.result.classifications.add().classes.add()
    response.result.classifications.add()
    odd = Reply({"results": MessageColumn([b"\x0a\x03\x0a\x01\xff"])}, 1)

    expected = '{\n    "results": [[["neg", 0.268941402], ["\\"é\\n", NaN]], [["", 0.0]], []\n    ]\n}'
    assert expected.encode() == write_results("classify", reply_of(response))
    assert b'{\n    "results": [[["\xff", 0.0]]\n    ]\n}' == write_results("classify", odd)


def test_numbers_are_written_as_tf_serving_does() -> None:
    """On one line, with the bracket that closes them."""
    response = regression_pb2.RegressionResponse()
    for value in (2.5, 9e6, 1 / 3, 0.0):
        response.result.regressions.add(value=value)

    assert b'{\n    "results": [2.5, 9e+06, 0.333333343, 0.0]\n}' == write_results("regress", reply_of(response))


@pytest.mark.parametrize(
    ("verb", "text"),
    [
        ("classify", "Cannot convert empty ClassificationResults to JSON"),
        ("regress", "Cannot convert empty RegressionResults to JSON"),
    ],
)
def test_no_results_have_no_form(verb: str, text: str) -> None:
    """TF Serving refuses to write them."""
    with pytest.raises(RequestError) as caught:
        write_results(verb, Reply({"results": MessageColumn([])}, 1))

    assert text == caught.value.message


@pytest.mark.parametrize("verb", ["classify", "regress"])
def test_results_that_are_none(verb: str) -> None:
    """The server's fault."""
    with pytest.raises(BackendProtocolError, match=f"the server's results of {verb} cannot be read"):
        write_results(verb, Reply({"results": MessageColumn([b"\xff"])}, 1))
