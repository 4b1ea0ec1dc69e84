"""Classify and Regress over gRPC: examples cut out of requests, joined into one, and results cut out of its answer.

No example is read here, and results only to hold one against another (`core.canary`): each is a row of a column, as the
bytes that it was sent as. What a merged
request could not say again is not taken, and travels as it came. The two methods' messages differ in nothing but their
names, so ours of Classify serve both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from math import inf
from typing import NamedTuple

import numpy as np
from google.protobuf.message import DecodeError as ProtobufDecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from batchproxy.codecs.tfs_grpc import CLASSIFY, REGRESS
from batchproxy.core import compare
from batchproxy.core.columns import Columns
from batchproxy.core.errors import BackendProtocolError, Code, DecodeError
from batchproxy.core.request import BatchKey, Reply, Version
from batchproxy.core.shapes import DEFAULT_SIGNATURE, Signature
from batchproxy.protos import tfs_pb2 as pb

METHOD_OF = {"classify": CLASSIFY, "regress": REGRESS}
"""The gRPC methods that take examples, by REST's verb."""

METHODS = frozenset(METHOD_OF.values())
"""The same, without their verbs."""

INPUT = "inputs"
"""The one input of a signature that takes examples (``CLASSIFY_INPUTS`` and ``REGRESS_INPUTS`` of TensorFlow)."""

RESULTS = "results"
"""The one column of an answer."""

_CLASSIFY_OUTPUTS = {"classes", "scores"}  # TensorFlow's names of the outputs, too: saved_model/signature_constants.py
_REGRESS_OUTPUTS = {"outputs"}
_A_REGRESSION = {b"", b"\x0d"}  # how one begins: its only field is the number, left out where it is 0
_MESSAGE_OVERHEAD = 33  # bytes of CPython's own for each bytes object


class ExamplesClass(NamedTuple):
    """What must agree for two columns of examples to be joined.

    Attributes:
        method: Classify or Regress, as gRPC's path.
        context: the serialized Example that goes with each of them; None for none, which is another kind of request.
    """

    method: str
    context: bytes | None = None


class MessageColumn:
    """Serialized messages, one a row.

    Args:
        messages: the rows.
        shape_class: what all of them share; None for results.
    """

    __slots__ = ("messages", "shape_class")

    def __init__(self, messages: Sequence[bytes], shape_class: ExamplesClass | None = None) -> None:
        self.messages = messages
        self.shape_class = shape_class

    @property
    def rows(self) -> int | None:
        return len(self.messages)

    @property
    def method(self) -> str:
        """The gRPC method that examples are for."""
        assert self.shape_class is not None, "results have no method. This is a bug."
        return self.shape_class.method

    @property
    def rank(self) -> int | None:
        return None

    @property
    def nbytes(self) -> int:
        return sum(map(len, self.messages)) + _MESSAGE_OVERHEAD * len(self.messages)

    def take(self, start: int, stop: int) -> MessageColumn:
        return MessageColumn(self.messages[start:stop], self.shape_class)

    def concat(self, others: Sequence[MessageColumn]) -> MessageColumn:
        joined = [*self.messages, *chain.from_iterable(other.messages for other in others)]
        return MessageColumn(joined, self.shape_class)

    def deviation(self, other: MessageColumn) -> float:
        """How far apart two answers to the same examples are; as ``compare.arrays``."""
        if self.messages == other.messages:
            return 0.0
        return max(map(_apart, *zip(*zip_longest(self.messages, other.messages, fillvalue=b"?"), strict=True)))

    def __repr__(self) -> str:
        return f"MessageColumn({len(self.messages)} messages)"


def _apart(one: bytes, other: bytes) -> float:
    """Of two results: both a Regression, or both Classifications, which agree in their labels."""
    found = [_labels_and_numbers(result) for result in (one, other)]
    (labels, numbers), (other_labels, other_numbers) = found
    if labels != other_labels:
        return inf
    return compare.arrays(np.array(numbers, np.float32), np.array(other_numbers, np.float32))


def _labels_and_numbers(result: bytes) -> tuple[object, list[float]]:
    """A Regression has no labels; what is neither is its own label, so that it is equal to nothing else."""
    try:
        if result[:1] in _A_REGRESSION:
            return None, [pb.Regression.FromString(result).value]
        classes = pb.Classifications.FromString(result).classes
    except ProtobufDecodeError:
        return result, []
    return [entry.label for entry in classes], [entry.score for entry in classes]


@dataclass(slots=True, eq=False)
class ExamplesCall:
    """A ClassificationRequest or RegressionRequest that may be merged.

    Attributes:
        model: the model meant, never empty.
        version: its number, its label, or None.
        signature_name: after defaulting, so never empty.
        column: the examples, at least one.
        extras: fields of the request that we do not know, serialized.
    """

    model: str
    version: Version
    signature_name: str
    column: MessageColumn
    extras: bytes


def fits(method: str, signature: Signature) -> bool:
    """Whether a signature is one that TF Serving runs for ``method`` (``servables/tensorflow/classifier.cc``).

    Its ``method_name`` does not count: TensorFlow 2 calls every signature a predict signature.
    """
    if not signature.declared:
        return True
    examples = signature.inputs.get(INPUT)
    if examples is None or len(signature.inputs) != 1 or examples.dtype != "string":
        return False
    if examples.shape is not None and len(examples.shape) != 1:
        return False
    if method == REGRESS:
        return signature.outputs.keys() == _REGRESS_OUTPUTS
    return len(signature.outputs) <= 2 and not _CLASSIFY_OUTPUTS.isdisjoint(signature.outputs)


# ---------------------------------------------------------------- requests


def read_request(method: str, message: bytes) -> ExamplesCall | None:
    """Take a request apart; None where it must travel as it came.

    That is: no such message, no model, no examples; or written in a way that a merged request could not repeat, such as
    a field sent twice or an unknown one inside the model spec or the input.

    Args:
        method: ``CLASSIFY`` or ``REGRESS``.
        message: the request.
    """
    try:
        request = pb.ClassificationRequest.FromString(message)
    except ProtobufDecodeError:
        return None
    # What protobuf drops or joins makes a message shorter: fields sent twice, two kinds of input, defaults.
    if request.ByteSize() != len(message):
        return None
    spec, data = request.model_spec, request.input
    kind = data.WhichOneof("kind")
    if kind is None or not spec.name:
        return None
    held = data.example_list if kind == "example_list" else data.example_list_with_context
    if not held.examples or any(len(UnknownFieldSet(part)) for part in (spec, spec.version, data, held)):
        return None
    context = held.context if isinstance(held, pb.ExampleListWithContext) else None
    choice = spec.WhichOneof("version_choice")
    version: Version = None
    if choice is not None:
        version = spec.version.value if choice == "version" else spec.version_label
    column = MessageColumn(list(held.examples), ExamplesClass(method, context))
    extras = b""
    if len(UnknownFieldSet(request)):
        request.ClearField("model_spec")
        request.ClearField("input")
        extras = request.SerializeToString()
    return ExamplesCall(spec.name, version, spec.signature_name or DEFAULT_SIGNATURE, column, extras)


def features_of(example: bytes) -> dict[str, pb.Feature]:
    """The features of a serialized Example, by name.

    Our messages of lists have the same fields on the wire: Example and Features are one of bytes each, an entry of the
    map is a name (1) and a Feature (2).

    Raises:
        DecodeError: it is none: INTERNAL, with an empty text, as TF Serving says it of the request.
    """
    try:
        features = b"".join(pb.ExampleList.FromString(example).examples)
        entries = map(pb.ExampleListWithContext.FromString, pb.ExampleList.FromString(features).examples)
        return {(entry.examples or [b""])[-1].decode(): pb.Feature.FromString(entry.context) for entry in entries}
    except (ProtobufDecodeError, UnicodeDecodeError):
        raise DecodeError("", code=Code.INTERNAL) from None


def examples_of(columns: Columns) -> MessageColumn | None:
    """The examples among the columns of a merged call; None where it is a call of another method."""
    column = columns.get(INPUT)
    return column if isinstance(column, MessageColumn) else None


def write_request(key: BatchKey, examples: MessageColumn) -> bytes:
    """A request with these examples.

    Args:
        key: names the model and signature; its ``extras`` are fields of the request, and are appended.
        examples: with their kind.
    """
    assert examples.shape_class is not None, "examples without a method. This is a bug."
    context = examples.shape_class.context
    data = pb.Input()
    if context is None:
        data.example_list.examples.extend(examples.messages)
    else:
        data.example_list_with_context.examples.extend(examples.messages)
        data.example_list_with_context.context = context
    request = pb.ClassificationRequest(input=data)
    spec = request.model_spec
    spec.name = key.model
    spec.signature_name = key.signature
    if isinstance(key.version, str):
        spec.version_label = key.version
    elif key.version is not None:
        spec.version.SetInParent()  # version 0 is a version
        spec.version.value = key.version
    return request.SerializeToString() + key.extras


# ---------------------------------------------------------------- answers


def read_reply(message: bytes) -> Reply:
    """Take an answer apart.

    Returns:
        One column of results. ``extras`` is what else the server said, such that appending it to an answer says it
        again.

    Raises:
        BackendProtocolError: no ClassificationResponse or RegressionResponse.
    """
    try:
        response = pb.ClassificationResponse.FromString(message)
    except ProtobufDecodeError:
        raise BackendProtocolError("the server's answer to Classify or Regress is no such message") from None
    column = MessageColumn(list(response.result.classifications))
    version = response.model_spec.version.value
    response.result.ClearField("classifications")
    for name in ("name", "version", "signature_name"):
        response.model_spec.ClearField(name)
    for name in ("result", "model_spec"):
        if not getattr(response, name).ByteSize():
            response.ClearField(name)
    return Reply({RESULTS: column}, version, response.SerializeToString())


def write_reply(reply: Reply, model: str, signature_name: str) -> bytes:
    """The answer with these results, as the server would have written it.

    Args:
        reply: from ``read_reply``, its column cut.
        model: the name the caller used.
        signature_name: after defaulting.
    """
    column = reply.columns[RESULTS]
    assert isinstance(column, MessageColumn), "results that are no messages. This is a bug."
    response = pb.ClassificationResponse()
    response.result.SetInParent()
    response.result.classifications.extend(column.messages)
    spec = response.model_spec
    spec.name = model
    spec.version.value = reply.version
    spec.signature_name = signature_name
    return response.SerializeToString() + reply.extras  # a message may be written in pieces


def version_of(message: bytes) -> int:
    """The version that an answer says it came from; 0 where it does not say, or is none."""
    try:
        return pb.ClassificationResponse.FromString(message).model_spec.version.value
    except ProtobufDecodeError:
        return 0
