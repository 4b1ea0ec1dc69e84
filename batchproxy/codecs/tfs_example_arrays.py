"""Classify and Regress of models that take arrays: examples to inputs by their features' names, outputs to results.

TF Serving runs such calls on models that read serialized examples themselves. An ONNX model has no such input: here
each input is filled from the feature of its name, and outputs are told by their shapes and names. No protocol here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from batchproxy.codecs import _dtypes
from batchproxy.codecs.tfs_examples import RESULTS, MessageColumn, features_of
from batchproxy.codecs.tfs_grpc import REGRESS
from batchproxy.core.columns import Array, ArrayColumn
from batchproxy.core.errors import BackendProtocolError, DecodeError, RequestError
from batchproxy.core.request import Reply
from batchproxy.core.shapes import Shape, Signature, TensorSpec
from batchproxy.protos import tfs_pb2 as pb

_FLOATS = frozenset({"float32", "float64", "float16"})
_LABELS = frozenset({"string", "int64", "int32"})
_KINDS = {"f": ("float_list", "int64_list"), "i": ("int64_list",), "u": ("int64_list",), "b": ("int64_list",)}
"""Which features fill inputs of a kind: JSON writes 1.0 as 1 more often than not."""


class Outputs(NamedTuple):
    """The outputs that results are made of.

    Attributes:
        values: scores ``[n, k]``, or the numbers of a regression, ``[n]`` or ``[n, 1]``.
        labels: ``[n, k]``, one for each score; ``[n]``, of the highest score; None: there are none.
    """

    values: str
    labels: str | None = None


# ---------------------------------------------------------------- examples to inputs


def read_inputs(examples: MessageColumn, signature: Signature) -> dict[str, ArrayColumn]:
    """The inputs of a call with these examples; features that are no inputs do not matter.

    Raises:
        RequestError: an example is none, or lacks a feature, or has one of another type or length; in TensorFlow's
            words (``core/util/example_proto_fast_parsing.cc``).
    """
    context = examples.shape_class.context if examples.shape_class is not None else None
    found = [_features((context or b"") + message) for message in examples.messages]  # joined as protobuf joins them
    return {alias: ArrayColumn(_input(alias, spec, found)) for alias, spec in signature.inputs.items()}


def _features(example: bytes) -> dict[str, pb.Feature]:
    try:
        return features_of(example)
    except DecodeError:
        raise RequestError("Could not parse example input: an example is no tensorflow.Example") from None


def _input(alias: str, spec: TensorSpec, examples: Sequence[Mapping[str, pb.Feature]]) -> Array:
    row = _dtypes.by_name(spec.dtype)
    kinds = _KINDS.get(row.numpy.kind, ("bytes_list",))
    inner = (spec.shape or (None, None))[1:]
    rows = []
    shape: tuple[int, ...] | None = None
    for number, features in enumerate(examples):
        feature = features.get(alias)
        kind = None if feature is None else feature.WhichOneof("kind")
        if feature is None or kind is None:
            raise _wrong(f"Feature: {alias} (data type: {row.short_name}) is required but could not be found.")
        if kind not in kinds:
            sent = {"bytes_list": "string", "int64_list": "int64", "float_list": "float"}[kind]
            raise _wrong(
                f"Key: {alias}, Index: {number}.  Data types don't match. "
                f"Data type: {sent} but expected type: {row.short_name}"
            )
        values = list(getattr(feature, kind).value)
        its = _shape(len(values), inner)
        if its is None or shape not in {None, its}:
            due = list(shape or (-1 if size is None else size for size in inner))
            raise _wrong(
                f"Key: {alias}, Index: {number}.  Number of {row.short_name} values != expected.  "
                f"Values size: {len(values)} but output shape: {due}"
            )
        shape = its
        rows.append(values)
    return _array(alias, row.numpy, rows, shape or ())


def _shape(count: int, inner: Shape) -> tuple[int, ...] | None:
    """The shape of a row of so many values; one open axis takes what there is."""
    known = math.prod(size for size in inner if size is not None)
    left = inner.count(None)
    if left == 0:
        return tuple(size or 0 for size in inner) if count == known else None
    if left > 1 or not known or count % known:
        return None
    return tuple(count // known if size is None else size for size in inner)


def _array(alias: str, dtype: np.dtype[Any], rows: Sequence[Sequence[Any]], shape: tuple[int, ...]) -> Array:
    array: Array = np.empty((len(rows), math.prod(shape)), dtype)
    try:
        for place, values in zip(array, rows, strict=True):
            place[:] = values
    except OverflowError:
        raise _wrong(f"Key: {alias}.  A value does not fit {dtype.name}") from None
    return array.reshape(len(rows), *shape)


def _wrong(text: str) -> RequestError:
    return RequestError(f"Name: <unknown>, {text}")


# ---------------------------------------------------------------- outputs to results


def outputs_of(method: str, signature: Signature) -> Outputs:
    """The outputs that ``method`` tells.

    Regress: the one of floats with a number a row, called ``outputs`` where there are several. Classify: the one of
    floats with several numbers a row, called ``scores`` where there are several; and the one of labels, if any.

    Raises:
        RequestError: there are none, or too many.
    """
    regress = method == REGRESS
    numbers = [alias for alias, spec in signature.outputs.items() if spec.dtype in _FLOATS and _fits(spec, regress)]
    name = "outputs" if regress else "scores"
    values = name if name in numbers else numbers[0] if len(numbers) == 1 else None
    if values is None:
        wanted = "one number for each example" if regress else "scores for each example, [n, k]"
        raise RequestError(
            f"{method.rpartition('/')[2]} needs one output of {wanted}, of float type (called {name!r} where there are "
            f"several); this signature has {sorted(signature.outputs)}: use Predict"
        )
    if regress:
        return Outputs(values)
    labels = [alias for alias, spec in signature.outputs.items() if spec.dtype in _LABELS]
    chosen = "classes" if "classes" in labels else labels[0] if len(labels) == 1 else None
    return Outputs(values, chosen)


def _fits(spec: TensorSpec, regress: bool) -> bool:
    if spec.shape is None:
        return True
    if regress:
        return len(spec.shape) == 1 or (len(spec.shape) == 2 and spec.shape[1] == 1)
    return len(spec.shape) == 2


def results_of(method: str, outputs: Outputs, reply: Reply, count: int) -> Reply:
    """The results of an answer, a message for each of ``count`` examples.

    Raises:
        RequestError: TF Serving's text: the model gave other than one row an example.
        BackendProtocolError: outputs are no arrays, or labels and scores do not go together.
    """
    values = _array_of(reply, outputs.values)
    if not values.ndim or len(values) != count:
        got = len(values) if values.ndim else 0
        raise RequestError(f"Input batch size did not match output batch size: {count} vs. {got}")
    if method == REGRESS:
        numbers = values.reshape(count, -1)[:, 0].tolist() if values.size else []
        results = [pb.Regression(value=number).SerializeToString() for number in numbers]
    else:
        labels = None if outputs.labels is None else _array_of(reply, outputs.labels)
        results = [message.SerializeToString() for message in _classifications(values, labels)]
    return Reply({RESULTS: MessageColumn(results)}, reply.version)


def _classifications(scores: Array, labels: Array | None) -> list[pb.Classifications]:
    if scores.ndim != 2 or (labels is not None and labels.shape not in {scores.shape, scores.shape[:1]}):
        shown = None if labels is None else labels.shape
        raise BackendProtocolError(f"scores of shape {scores.shape} and labels of shape {shown} do not go together")
    if labels is None:
        return [pb.Classifications(classes=[pb.Class(score=score) for score in row]) for row in scores.tolist()]
    if labels.ndim == 1:  # the label of the class that was chosen
        labels, scores = labels[:, None], scores.max(axis=1, keepdims=True)
    rows = zip(labels.tolist(), scores.tolist(), strict=True)
    return [pb.Classifications(classes=map(_class, *row)) for row in rows]


def _class(label: object, score: float) -> pb.Class:
    return pb.Class(label=_text(label), score=score)


def _text(label: object) -> bytes:
    return label if isinstance(label, bytes) else str(label).encode()


def _array_of(reply: Reply, alias: str) -> Array:
    column = reply.columns.get(alias)
    if not isinstance(column, ArrayColumn):
        raise BackendProtocolError(f"output {alias!r} is no array")
    return column.array
