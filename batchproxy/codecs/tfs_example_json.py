"""REST classify and regress for a gRPC server: JSON to serialized Examples, results to JSON. No transport, no merging.

The order of checks, every text and the layout are those of tensorflow/serving ``util/json_tensor.cc``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from google.protobuf.message import DecodeError as ProtobufDecodeError

from batchproxy.codecs import _dtypes
from batchproxy.codecs.tensor_proto import varint
from batchproxy.codecs.tfs_echo import echo, quoted, type_name
from batchproxy.codecs.tfs_exact import is_base64, unbase64
from batchproxy.codecs.tfs_examples import METHOD_OF, RESULTS, ExamplesClass, MessageColumn
from batchproxy.codecs.tfs_json import float_texts
from batchproxy.codecs.tfs_parse import MISSING, Members, Value
from batchproxy.core.errors import BackendProtocolError, DecodeError, RequestError
from batchproxy.core.request import Reply
from batchproxy.protos import tfs_pb2 as pb

_INT64_END = 1 << 63
_RESULTS_OF = {"classify": "ClassificationResults", "regress": "RegressionResults"}


def read_examples(verb: str, doc: Members) -> MessageColumn:
    """The examples of a request, at least one, with their context.

    Args:
        verb: ``classify`` or ``regress``.
        doc: the request's top level.

    Raises:
        DecodeError: as TF Serving says it.
    """
    found, examples = doc.find(b"context"), doc.find(b"examples")
    context = None if found is MISSING else _example(found)
    if examples is MISSING:  # the text is the same for regress
        raise DecodeError(
            f"JSON Value: {echo(doc)} When method is classify, key 'examples' is expected and was not found"
        )
    if not isinstance(examples, list):
        raise DecodeError(f"JSON Value: {echo(doc)} Expecting 'examples' value to be an list/array")
    if not examples:
        raise DecodeError(f"JSON Value: {echo(doc)} 'examples' value is an empty array")
    return MessageColumn([_example(example) for example in examples], ExamplesClass(METHOD_OF[verb], context))


def write_results(verb: str, reply: Reply) -> bytes:
    """The answer to a request.

    Args:
        verb: as it was asked.
        reply: from ``tfs_examples.read_reply``.

    Raises:
        RequestError: TF Serving's text: there are none.
        BackendProtocolError: results that cannot be read.
    """
    column = reply.columns[RESULTS]
    assert isinstance(column, MessageColumn), "results that are no messages. This is a bug."
    if not column.messages:
        raise RequestError(f"Cannot convert empty {_RESULTS_OF[verb]} to JSON")
    try:
        if verb == "regress":
            values = [pb.Regression.FromString(message).value for message in column.messages]
            return b'{\n    "results": [' + b", ".join(_floats(values)) + b"]\n}"
        rows = [pb.Classifications.FromString(message).classes for message in column.messages]
    except ProtobufDecodeError:
        raise BackendProtocolError(f"the server's results of {verb} cannot be read") from None
    scores = iter(_floats([one.score for row in rows for one in row]))
    texts = [
        b"[" + b", ".join(b"[" + quoted(one.label) + b", " + next(scores) + b"]" for one in row) + b"]" for row in rows
    ]
    return b'{\n    "results": [' + b", ".join(texts) + b"\n    ]\n}"


def _floats(values: Sequence[float]) -> list[bytes]:
    return float_texts(np.array(values, np.float32))


# ---------------------------------------------------------------- examples


def _example(value: Value) -> bytes:
    """A serialized ``tensorflow.Example``: features = 1; in it a map, field 1, of names (1) to Features (2)."""
    if not isinstance(value, Members):
        raise DecodeError(f"Example must be JSON object but got JSON {type_name(value)}")
    features: dict[bytes, pb.Feature] = {}
    for key, member in value.pairs:
        name = key.partition(b"\0")[0]  # read as a C string
        feature = pb.Feature()
        for element in member if isinstance(member, list) else [member]:
            _add(name, feature, element)
        _need_text(name)
        features[name] = feature  # the last one of a name counts, unlike everywhere else
    entries = []
    for name, feature in features.items():
        entries.append(_field(1, _field(1, name) + _field(2, feature.SerializeToString())))
    return _field(1, b"".join(entries)) if entries else b""


def _need_text(name: bytes) -> None:
    try:
        name.decode()
    except UnicodeDecodeError:
        shown = name.decode("utf-8", "surrogateescape")
        raise DecodeError(f"Feature: {shown} has a name that is not UTF-8: gRPC cannot carry it") from None


def _field(number: int, held: bytes) -> bytes:
    return bytes((number << 3 | 2,)) + varint(len(held)) + held


def _add(name: bytes, feature: pb.Feature, element: Value) -> None:
    """Append to a feature, of which the first element says the kind."""
    shown = name.decode("utf-8", "surrogateescape")
    if isinstance(element, bytes) or is_base64(element):
        _same_kind(shown, feature, "bytes")
        feature.bytes_list.value.append(element if isinstance(element, bytes) else unbase64(element.pairs[0][1]))
    elif isinstance(element, int):  # booleans, too
        _same_kind(shown, feature, "int64")
        if element >= _INT64_END:
            raise DecodeError(f"Feature: {shown} has uint64_t element. Only int64_t is supported.")
        feature.int64_list.value.append(int(element))
    elif isinstance(element, float):
        _same_kind(shown, feature, "float")
        if abs(element) < _dtypes.LEAST_NORMAL["float32"]:
            element = math.copysign(0.0, element)
        feature.float_list.value.append(element)  # beyond float32's range it becomes infinite
    else:
        raise DecodeError(f"Feature: {shown} has element with unexpected JSON type: {type_name(element)}")


def _same_kind(shown: str, feature: pb.Feature, kind: str) -> None:
    known = feature.WhichOneof("kind")
    if known not in {None, f"{kind}_list"}:
        raise DecodeError(f"Unexpected element type in feature: {shown} expecting type: {known.removesuffix('_list')}")
