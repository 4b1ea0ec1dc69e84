"""Examples to arrays and arrays to results; TensorFlow's own parser and its words are the judge."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tensorflow.core.example import example_pb2

from batchproxy.codecs.tfs_example_arrays import Outputs, outputs_of, read_inputs, results_of
from batchproxy.codecs.tfs_examples import RESULTS, ExamplesClass, MessageColumn
from batchproxy.codecs.tfs_grpc import CLASSIFY, REGRESS
from batchproxy.core.columns import ArrayColumn, ListColumn
from batchproxy.core.errors import BackendProtocolError, RequestError
from batchproxy.core.request import Reply
from batchproxy.core.shapes import Shape, Signature, TensorSpec
from batchproxy.protos import tfs_pb2 as pb


def example(**features: Any) -> bytes:
    """A tensorflow.Example, written by TensorFlow's own messages."""
    made = example_pb2.Example()
    for name, values in features.items():
        feature = made.features.feature[name]
        if isinstance(values[0], bytes):
            feature.bytes_list.value.extend(values)
        elif isinstance(values[0], int):
            feature.int64_list.value.extend(values)
        else:
            feature.float_list.value.extend(values)
    return bytes(made.SerializeToString())


def read(spec: TensorSpec, *examples: bytes, context: bytes | None = None) -> Any:
    """The array that fills input ``x``."""
    column = MessageColumn(examples, ExamplesClass(CLASSIFY, context))
    return read_inputs(column, Signature({"x": spec}))["x"].array


@pytest.mark.parametrize(
    ("dtype", "shape", "values", "expected"),
    [
        ("float32", (None,), [[1.5], [2.5]], [1.5, 2.5]),
        ("float32", (None,), [[1], [2.5]], [1.0, 2.5]),
        ("float64", (None, 2), [[1.5, 2.0], [3.0, 4.0]], [[1.5, 2.0], [3.0, 4.0]]),
        ("float32", (None, None), [[1.0, 2.0, 3.0]], [[1.0, 2.0, 3.0]]),
        ("float32", (None, None, 2), [[1.0, 2.0, 3.0, 4.0]], [[[1.0, 2.0], [3.0, 4.0]]]),
        ("float32", None, [[1.0, 2.0]], [[1.0, 2.0]]),
        ("int64", (None,), [[2**53 + 1], [-5]], [2**53 + 1, -5]),
        ("uint8", (None, 1), [[255]], [[255]]),
        ("bool", (None,), [[1], [0]], [True, False]),
        ("string", (None,), [[b"a"], [b"\xff"]], [b"a", b"\xff"]),
    ],
)
def test_examples_fill_inputs(dtype: str, shape: Shape | None, values: list[list[Any]], expected: list[Any]) -> None:
    """By name; the shape of a row is the model's, one open axis takes what there is."""
    array = read(TensorSpec(dtype, shape), *(example(x=row, more=[1]) for row in values))

    assert expected == array.tolist()
    assert (dtype if dtype != "string" else "object") == array.dtype.name


def test_the_context_is_part_of_each_example() -> None:
    """What an example says itself wins."""
    found = read(TensorSpec("float32", (None,)), example(y=[9.0]), example(x=[2.0]), context=example(x=[1.0]))

    assert [1.0, 2.0] == found.tolist()


@pytest.mark.parametrize(
    ("examples", "text"),
    [
        ([example(y=[1.0])], "Feature: x (data type: float) is required but could not be found."),
        ([b""], "Feature: x (data type: float) is required but could not be found."),
        (
            [example(x=[1.0])],
            "Key: x, Index: 0.  Number of float values != expected.  Values size: 1 but output shape: [3]",
        ),
        (
            [example(x=[1.0, 2.0, 3.0]), example(x=[b"a"])],
            "Key: x, Index: 1.  Data types don't match. Data type: string but expected type: float",
        ),
    ],
)
def test_wrong_examples_in_tensorflows_words(examples: list[bytes], text: str) -> None:
    """As ``tf.io.parse_example`` says it."""
    with pytest.raises(RequestError) as caught:
        read(TensorSpec("float32", (None, 3)), *examples)

    assert f"Name: <unknown>, {text}" == caught.value.message


@pytest.mark.parametrize(
    ("spec", "examples", "text"),
    [
        (TensorSpec("float32", (None, None)), [example(x=[1.0]), example(x=[1.0, 2.0])], "Values size: 2 but"),
        (TensorSpec("float32", (None, None, None)), [example(x=[1.0])], "output shape: [-1, -1]"),
        (TensorSpec("float32", (None, None, 2)), [example(x=[1.0])], "output shape: [-1, 2]"),
        (TensorSpec("uint8", (None,)), [example(x=[300])], "A value does not fit uint8"),
        (TensorSpec("float32", (None,)), [b"\xff\xff"], "an example is no tensorflow.Example"),
    ],
)
def test_examples_that_do_not_fit(spec: TensorSpec, examples: list[bytes], text: str) -> None:
    """Unequal lengths, two open axes, numbers out of range, no example at all."""
    with pytest.raises(RequestError) as caught:
        read(spec, *examples)

    assert text in caught.value.message


def signature(**outputs: tuple[str, Shape | None]) -> Signature:
    """A signature with these outputs."""
    return Signature({}, {alias: TensorSpec(dtype, shape) for alias, (dtype, shape) in outputs.items()})


FLAT, WIDE = ("float32", (None,)), ("float32", (None, 3))


@pytest.mark.parametrize(
    ("method", "outputs", "expected"),
    [
        (REGRESS, {"y": FLAT}, Outputs("y")),
        (REGRESS, {"y": ("float64", (None, 1))}, Outputs("y")),
        (REGRESS, {"y": ("float32", None), "n": ("int64", (None,))}, Outputs("y")),
        (REGRESS, {"outputs": FLAT, "y": FLAT}, Outputs("outputs")),
        (CLASSIFY, {"p": WIDE}, Outputs("p")),
        (CLASSIFY, {"probabilities": WIDE, "label": ("int64", (None,))}, Outputs("probabilities", "label")),
        (CLASSIFY, {"scores": WIDE, "other": WIDE, "classes": ("string", (None, 3))}, Outputs("scores", "classes")),
        (CLASSIFY, {"p": WIDE, "a": ("int64", (None,)), "b": ("int64", (None,))}, Outputs("p")),
    ],
)
def test_which_outputs_are_told(method: str, outputs: dict[str, Any], expected: Outputs) -> None:
    """By shape and type; by TensorFlow's name where several would do."""
    assert expected == outputs_of(method, signature(**outputs))


@pytest.mark.parametrize(
    ("method", "outputs"),
    [(REGRESS, {}), (REGRESS, {"y": WIDE}), (REGRESS, {"a": FLAT, "b": FLAT}), (CLASSIFY, {"y": FLAT})],
)
def test_outputs_that_do_not_suit(method: str, outputs: dict[str, Any]) -> None:
    """The text says what would."""
    with pytest.raises(RequestError, match=r"(Regress|Classify) needs one output of .*: use Predict"):
        outputs_of(method, signature(**outputs))


def classes(labels: Any, scores: Any) -> list[list[tuple[bytes, float]]]:
    """What Classify tells of these outputs."""
    columns = {"s": ArrayColumn(np.array(scores, np.float32))}
    if labels is not None:
        columns["l"] = ArrayColumn(np.array(labels, object if isinstance(np.ravel(labels)[0], bytes) else np.int64))
    outputs = Outputs("s", None if labels is None else "l")
    column = results_of(CLASSIFY, outputs, Reply(dict(columns), 7), len(scores)).columns[RESULTS]
    assert isinstance(column, MessageColumn)
    return [
        [(one.label, one.score) for one in pb.Classifications.FromString(message).classes]
        for message in column.messages
    ]


def test_classes() -> None:
    """Scores alone have no labels; a label each; or the one label that the model chose, with the highest score."""
    assert [[(b"", 0.25), (b"", 0.75)]] == classes(None, [[0.25, 0.75]])
    assert [[(b"a", 0.25), (b"\xff", 0.75)]] == classes([[b"a", b"\xff"]], [[0.25, 0.75]])
    assert [[(b"3", 0.75)], [(b"1", 0.5)]] == classes([3, 1], [[0.25, 0.75], [0.5, 0.5]])


def test_regressions() -> None:
    """A number each, from one axis or two."""
    for values in ([0.5, 1.5], [[0.5], [1.5]]):
        reply = Reply({"y": ArrayColumn(np.array(values, np.float32))}, 7)
        found = results_of(REGRESS, Outputs("y"), reply, 2)
        column = found.columns[RESULTS]

        assert isinstance(column, MessageColumn)
        assert [0.5, 1.5] == [pb.Regression.FromString(message).value for message in column.messages]
        assert 7 == found.version


def test_answers_that_do_not_fit() -> None:
    """Other rows than examples, other labels than scores, no arrays."""
    for values, got in ((np.zeros(3), 3), (np.array(1.0), 0)):
        with pytest.raises(RequestError, match=f"^Input batch size did not match output batch size: 2 vs. {got}$"):
            results_of(REGRESS, Outputs("y"), Reply({"y": ArrayColumn(values)}, 1), 2)
    with pytest.raises(BackendProtocolError, match=r"scores of shape \(1, 2\) and labels of shape \(1, 3\)"):
        classes([[1, 2, 3]], [[0.5, 0.5]])
    with pytest.raises(BackendProtocolError, match="labels of shape None"):
        classes(None, [0.5])
    with pytest.raises(BackendProtocolError, match="output 'y' is no array"):
        results_of(REGRESS, Outputs("y"), Reply({"y": ListColumn([1])}, 1), 1)
