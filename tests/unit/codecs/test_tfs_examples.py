"""Classify and Regress taken apart and put together, with ``tensorflow-serving-api`` at the other end."""

from __future__ import annotations

import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # before the import: TensorFlow writes to stderr otherwise
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

from typing import Any

import pytest
from tensorflow.core.example import example_pb2
from tensorflow_serving.apis import classification_pb2, input_pb2, regression_pb2

from batchproxy.codecs import tfs_examples
from batchproxy.codecs.tfs_examples import ExamplesCall, ExamplesClass, MessageColumn
from batchproxy.codecs.tfs_grpc import CLASSIFY, REGRESS
from batchproxy.core.columns import ArrayColumn, Columns
from batchproxy.core.compare import Comparable
from batchproxy.core.errors import BackendProtocolError
from batchproxy.core.request import BatchKey, Reply, build_request
from batchproxy.core.shapes import UNDECLARED, Signature, TensorSpec
from batchproxy.protos import tfs_pb2 as pb

UNKNOWN = b"\xa2\x06\x03odd"  # field 100, length-delimited


def an_example(value: float) -> Any:
    """One feature."""
    example = example_pb2.Example()
    example.features.feature["x"].float_list.value.append(value)
    return example


def a_request(*values: float, context: float | None = None, **spec: Any) -> Any:
    """A stranger's RegressionRequest."""
    request = regression_pb2.RegressionRequest()
    request.model_spec.name = "m"
    if isinstance(version := spec.pop("version", None), int):
        request.model_spec.version.value = version
    for name, value in spec.items():
        setattr(request.model_spec, name, value)
    if context is None:
        request.input.example_list.examples.extend(map(an_example, values))
    else:
        request.input.example_list_with_context.examples.extend(map(an_example, values))
        request.input.example_list_with_context.context.CopyFrom(an_example(context))
    return request


def taken(message: bytes, method: str = REGRESS) -> ExamplesCall:
    """A request that must be taken."""
    call = tfs_examples.read_request(method, message)
    assert call is not None
    return call


@pytest.mark.parametrize(
    ("request_", "model", "version", "signature", "context"),
    [
        (a_request(1.0, 2.0), "m", None, "serving_default", None),
        (a_request(1.0, name="n", signature_name="s", version=7), "n", 7, "s", None),
        (a_request(1.0, version=0), "m", 0, "serving_default", None),
        (a_request(1.0, version_label="stable"), "m", "stable", "serving_default", None),
        (a_request(1.0, context=9.0), "m", None, "serving_default", an_example(9.0).SerializeToString()),
    ],
    ids=["plain", "signature", "version 0", "label", "context"],
)
def test_a_request_is_taken_apart(
    request_: Any, model: str, version: int | str | None, signature: str, context: bytes | None
) -> None:
    """Examples are the bytes that were sent."""
    call = taken(request_.SerializeToString())
    data = request_.input
    sent = [example.SerializeToString() for example in getattr(data, data.WhichOneof("kind")).examples]

    assert (model, version, signature, b"") == (call.model, call.version, call.signature_name, call.extras)
    assert sent == call.column.messages
    assert len(sent) == call.column.rows
    assert ExamplesClass(REGRESS, context) == call.column.shape_class


def test_a_context_that_is_not_there_is_an_empty_one() -> None:
    """So it is to the server, which puts its bytes before those of each example."""
    request = a_request(1.0, context=1.0)
    request.input.example_list_with_context.ClearField("context")

    assert ExamplesClass(CLASSIFY, b"") == taken(request.SerializeToString(), CLASSIFY).column.shape_class


def test_unknown_fields_of_the_request_are_part_of_what_must_agree() -> None:
    """They are kept, and sent again."""
    call = taken(a_request(1.0).SerializeToString() + UNKNOWN)

    assert UNKNOWN == call.extras


def _appended(part: str) -> bytes:
    """A request with an unknown field inside one of its parts."""
    request = a_request(1.0, version=3)
    inner = request
    for name in part.split("."):
        inner = getattr(inner, name)
    inner.MergeFromString(UNKNOWN)
    return bytes(request.SerializeToString())


ONE, TWO = a_request(1.0).SerializeToString(), a_request(2.0, context=1.0).SerializeToString()


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\xff",
        a_request().SerializeToString(),
        a_request(name="", version=1).SerializeToString(),
        a_request(1.0, name="").SerializeToString(),
        regression_pb2.RegressionRequest(input=input_pb2.Input()).SerializeToString(),
        a_request(context=1.0).SerializeToString(),
        ONE + ONE,
        ONE + TWO,
        ONE + b"\x0a\x00",
        _appended("model_spec"),
        _appended("model_spec.version"),
        _appended("input"),
        _appended("input.example_list"),
    ],
    ids=range(14),
)
def test_what_a_merged_request_could_not_say_is_not_taken(message: bytes) -> None:
    """Broken, empty, sent twice, or with unknown fields inside."""
    assert tfs_examples.read_request(CLASSIFY, message) is None


@pytest.mark.parametrize("version", [None, 0, 7, "stable"])
@pytest.mark.parametrize("context", [None, b"", an_example(5.0).SerializeToString()])
def test_a_merged_request_is_one_to_the_server(version: int | str | None, context: bytes | None) -> None:
    """Model, version, signature, kind, context, examples in order, and what we do not know."""
    columns = [MessageColumn([an_example(v).SerializeToString()], ExamplesClass(CLASSIFY, context)) for v in (1, 2)]
    key = BatchKey("m", version, "s", extras=UNKNOWN)
    message = tfs_examples.write_request(key, columns[0].concat(columns[1:]))
    request = classification_pb2.ClassificationRequest.FromString(message)
    spec, kind = request.model_spec, request.input.WhichOneof("kind")
    held = getattr(request.input, kind)

    assert ("m", "s") == (spec.name, spec.signature_name)
    assert (
        version
        == {"version": spec.version.value, "version_label": spec.version_label, None: None}[
            spec.WhichOneof("version_choice")
        ]
    )
    assert [an_example(1), an_example(2)] == list(held.examples)
    assert ("example_list" if context is None else "example_list_with_context") == kind
    assert context is None or context == held.context.SerializeToString()
    assert message.endswith(UNKNOWN)


def test_the_examples_among_columns() -> None:
    """Only a call of these methods has any; a Predict call may have an input of that name."""
    column = MessageColumn([b""], ExamplesClass(CLASSIFY))
    others: Columns = {"inputs": ArrayColumn.__new__(ArrayColumn), "x": column}

    assert tfs_examples.examples_of({"inputs": column}) is column
    assert tfs_examples.examples_of(others) is None
    assert tfs_examples.examples_of({}) is None


def test_requests_ride_together_only_if_method_and_context_agree() -> None:
    """Both are in the key, beside what a Predict request has there."""
    signature = Signature({"inputs": TensorSpec("string", (None,))}, {"outputs": TensorSpec("float32", (None, 1))})

    def key(method: str, context: bytes | None = None) -> BatchKey:
        column = MessageColumn([b"a", b"b"], ExamplesClass(method, context))
        request = build_request(("m", None, "s"), signature, {tfs_examples.INPUT: column})
        assert 2 == request.rows
        return request.key

    assert key(CLASSIFY) == key(CLASSIFY)
    assert 4 == len({key(CLASSIFY), key(REGRESS), key(CLASSIFY, b""), key(CLASSIFY, b"c")})


def test_a_column_is_cut_and_measured() -> None:
    """Bytes, and what CPython adds to each object."""
    column = MessageColumn([b"abc", b"d", b""], ExamplesClass(CLASSIFY))
    part = column.take(1, 3)

    assert ([b"d", b""], 2) == (part.messages, part.rows)
    assert column.shape_class == part.shape_class
    assert column.rank is None
    assert 4 + 3 * 33 == column.nbytes
    assert "MessageColumn(3 messages)" == repr(column)


EXAMPLES = TensorSpec("string", (None,))
FLOATS = TensorSpec("float32", (None, None))


@pytest.mark.parametrize(
    ("method", "inputs", "outputs", "fits"),
    [
        (CLASSIFY, {"inputs": EXAMPLES}, ["classes", "scores"], True),
        (CLASSIFY, {"inputs": EXAMPLES}, ["scores"], True),
        (CLASSIFY, {"inputs": EXAMPLES}, ["classes", "more"], True),
        (CLASSIFY, {"inputs": TensorSpec("string")}, ["classes"], True),
        (CLASSIFY, {"inputs": EXAMPLES}, ["classes", "scores", "more"], False),
        (CLASSIFY, {"inputs": EXAMPLES}, ["outputs"], False),
        (CLASSIFY, {"x": EXAMPLES}, ["scores"], False),
        (CLASSIFY, {"inputs": EXAMPLES, "x": EXAMPLES}, ["scores"], False),
        (CLASSIFY, {"inputs": FLOATS}, ["scores"], False),
        (CLASSIFY, {"inputs": TensorSpec("string", (None, 1))}, ["scores"], False),
        (REGRESS, {"inputs": EXAMPLES}, ["outputs"], True),
        (REGRESS, {"inputs": EXAMPLES}, ["outputs", "more"], False),
        (REGRESS, {"inputs": EXAMPLES}, ["scores"], False),
    ],
)
def test_signatures_that_a_method_can_run(
    method: str, inputs: dict[str, TensorSpec], outputs: list[str], fits: bool
) -> None:
    """By their inputs and outputs, as the server looks at them."""
    assert fits is tfs_examples.fits(method, Signature(inputs, dict.fromkeys(outputs, FLOATS)))


def test_a_model_without_metadata_is_taken_at_the_word_of_the_configuration() -> None:
    """``batchable: true``."""
    assert tfs_examples.fits(REGRESS, UNDECLARED)


def an_answer(*scores: float) -> Any:
    """A stranger's ClassificationResponse."""
    response = classification_pb2.ClassificationResponse()
    response.model_spec.name = "m"
    response.model_spec.version.value = 7
    response.model_spec.signature_name = "s"
    for score in scores:
        response.result.classifications.add().classes.add(label=f"{score}", score=score)
    return response


def test_an_answer_is_cut_into_answers() -> None:
    """Each of them is, byte for byte, the one to fewer examples; a result of nothing but defaults is one, too."""
    reply = tfs_examples.read_reply(an_answer(1.0, 2.0, 3.0).SerializeToString())
    results = reply.columns[tfs_examples.RESULTS]
    slices = [
        tfs_examples.write_reply(Reply({tfs_examples.RESULTS: results.take(*at)}, reply.version), "m", "s")
        for at in ((0, 1), (1, 3))
    ]
    zeros = regression_pb2.RegressionResponse()
    zeros.result.regressions.add(value=0.0)
    zeros.result.regressions.add(value=1.0)

    assert (3, 7, b"") == (results.rows, reply.version, reply.extras)
    assert [an_answer(1.0).SerializeToString(), an_answer(2.0, 3.0).SerializeToString()] == slices
    assert 2 == tfs_examples.read_reply(zeros.SerializeToString()).columns[tfs_examples.RESULTS].rows


@pytest.mark.parametrize("part", ["model_spec", "result", None])
def test_what_we_do_not_know_of_an_answer_reaches_everybody(part: str | None) -> None:
    """Wherever it stood."""
    response = an_answer(1.0, 2.0)
    (getattr(response, part) if part else response).MergeFromString(UNKNOWN)
    expected = an_answer(2.0)
    (getattr(expected, part) if part else expected).MergeFromString(UNKNOWN)
    reply = tfs_examples.read_reply(response.SerializeToString())
    results = reply.columns[tfs_examples.RESULTS].take(1, 2)
    message = tfs_examples.write_reply(Reply({tfs_examples.RESULTS: results}, 7, reply.extras), "m", "s")

    assert expected == classification_pb2.ClassificationResponse.FromString(message)


def test_the_version_of_an_answer() -> None:
    """Nothing where it says nothing."""
    assert 7 == tfs_examples.version_of(an_answer(1.0).SerializeToString())
    assert 0 == tfs_examples.version_of(b"")
    assert 0 == tfs_examples.version_of(b"\xff")


def test_no_answer() -> None:
    """What is no message is said to be none."""
    with pytest.raises(BackendProtocolError, match="the server's answer to Classify or Regress is no such message"):
        tfs_examples.read_reply(b"\xff")


Result = pb.Regression | pb.Classifications


def _results(*results: Result) -> MessageColumn:
    return MessageColumn([result.SerializeToString() for result in results])


def _classes(*classes: tuple[bytes, float]) -> pb.Classifications:
    return pb.Classifications(classes=[pb.Class(label=label, score=score) for label, score in classes])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pb.Regression(value=2.0), pb.Regression(value=2.000001)),
        (pb.Regression(value=0.0), pb.Regression(value=1e-8)),
        (_classes((b"a", 0.5), (b"b", 0.25)), _classes((b"a", 0.5000003), (b"b", 0.25))),
        (_classes(), _classes()),
    ],
)
def test_results_that_differ_in_last_digits_are_the_same(one: Result, other: Result) -> None:
    """As TensorFlow's kernels for one row and for many make them differ."""
    assert isinstance(_results(one), Comparable)
    assert 0.0 == _results(one, one).deviation(_results(one, other))


@pytest.mark.parametrize(
    ("one", "other", "apart"),
    [
        (pb.Regression(value=2.0), pb.Regression(value=1.0), 0.5),
        (pb.Regression(value=0.0), pb.Regression(value=4.0), 1.0),
        (_classes((b"a", 0.5), (b"b", 0.25)), _classes((b"a", 0.5), (b"b", 0.125)), 0.25),
        (_classes((b"a", 0.5)), _classes((b"b", 0.5)), float("inf")),
        (_classes((b"a", 0.5)), _classes(), float("inf")),
        (_classes((b"a", 0.5)), pb.Regression(value=1.0), float("inf")),
    ],
)
def test_results_that_differ(one: Result, other: Result, apart: float) -> None:
    """By as much, as a part of the largest number; not at all alike where labels or kinds differ."""
    assert apart == _results(one, one).deviation(_results(one, other))


def test_results_that_cannot_be_read_are_like_themselves_only() -> None:
    """Or where there are fewer of them."""
    broken = MessageColumn([b"\xff\xff"])

    assert 0.0 == broken.deviation(MessageColumn([b"\xff\xff"]))
    assert float("inf") == broken.deviation(MessageColumn([b"\xff\xfe"]))
    assert float("inf") == broken.deviation(MessageColumn([]))
