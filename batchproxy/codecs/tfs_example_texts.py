"""gRPC's Classify and Regress for a server with a REST door only: examples to JSON, results of JSON to messages.

The other way round than ``tfs_example_json``. The texts are columns of ``tfs_example_rows``, so that these callers
share batches with REST's. Messages are read as leniently as TF Serving reads them. No transport, no merging here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson

from batchproxy.codecs import _dtypes, tfs_columns
from batchproxy.codecs.tfs_example_rows import ExampleTexts, ExampleTextsClass
from batchproxy.codecs.tfs_examples import METHOD_OF, RESULTS, MessageColumn, features_of
from batchproxy.codecs.tfs_grpc import parse_examples
from batchproxy.core.errors import BackendProtocolError, Code, RequestError
from batchproxy.core.request import Reply, Version
from batchproxy.core.shapes import DEFAULT_SIGNATURE
from batchproxy.protos import tfs_pb2 as pb

VERB_OF = {method: verb for verb, method in METHOD_OF.items()}
"""REST's verb of each gRPC method that takes examples."""

_FLOAT = _dtypes.by_name("float32")
_NEEDS_GRPC = "which TensorFlow Serving's REST API has no words for; name a gRPC door of the server (grpc://HOST:PORT)"


class TextsCall:
    """A ClassificationRequest or RegressionRequest, as REST's texts.

    Args:
        method: ``CLASSIFY`` or ``REGRESS``.
        message: the request; fields that are not known here are left out, as TF Serving leaves them.

    Attributes:
        model: the model meant, never empty.
        version: its number, its label, or None.
        signature_name: after defaulting, so never empty.
        column: the examples; None where there are none, which the server refuses once it has found the model.

    Raises:
        RequestError: TF Serving's text; or UNIMPLEMENTED: a feature that JSON has no words for.
    """

    __slots__ = ("column", "model", "signature_name", "version")

    column: ExampleTexts | None
    model: str
    signature_name: str
    version: Version

    def __init__(self, method: str, message: bytes) -> None:
        target, request = parse_examples(message)
        self.model = target.model
        self.version = target.label if target.label is not None else target.version
        self.signature_name = request.model_spec.signature_name or DEFAULT_SIGNATURE
        data, where = request.input, f"model {self.model!r}: "
        with_context = data.WhichOneof("kind") == "example_list_with_context"
        held = data.example_list_with_context if with_context else data.example_list
        context = _text(f"{where}the context", held.context) if isinstance(held, pb.ExampleListWithContext) else None
        texts = [_text(f"{where}example {number}", example) for number, example in enumerate(held.examples)]
        sent = None if self.signature_name == DEFAULT_SIGNATURE else self.signature_name
        kind = ExampleTextsClass(VERB_OF[method], sent, context)
        self.column = ExampleTexts(texts, kind, sum(map(len, texts)) + len(context or b"")) if texts else None


def read_results(verb: str, body: bytes) -> dict[str, MessageColumn]:
    """The results of an answer, as serialized Classifications or Regressions.

    Args:
        verb: ``classify`` or ``regress``.
        body: of an answer with status 200, or a part of it.

    Raises:
        BackendProtocolError: it is no such answer.

    >>> read_results("regress", b'{"results": [0.0, 2.5]}')["results"]
    MessageColumn(2 messages)
    """
    make = _regression if verb == "regress" else _classifications
    try:
        results = tfs_columns.loaded(body)["results"]
        if not isinstance(results, list):
            raise TypeError("its results are no list")
        return {RESULTS: MessageColumn([make(result) for result in results])}
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise BackendProtocolError(
            f"the server's answer to {verb} cannot be read: {type(error).__name__}: {error}"
        ) from None


def reply_of(verb: str, version: Version, body: bytes) -> Reply:
    """The same as a reply, with the version that was asked for: REST does not say which one answered; 0: any."""
    return Reply(read_results(verb, body), version if isinstance(version, int) else 0)


# ---------------------------------------------------------------- examples to JSON


def _text(what: str, example: bytes) -> bytes:
    members = [_member(what, name, feature) for name, feature in features_of(example).items()]
    return b"{" + b",".join(members) + b"}"


def _member(what: str, name: str, feature: pb.Feature) -> bytes:
    if "\0" in name:  # which TF Serving's REST door would cut there
        raise RequestError(
            f"{what} has a feature whose name {name!r} has a NUL in it, {_NEEDS_GRPC}", code=Code.UNIMPLEMENTED
        )
    kind = feature.WhichOneof("kind")
    values: Sequence[Any] = () if kind is None else getattr(feature, kind).value
    if kind is not None and not values:  # an empty list is a feature without a kind
        raise RequestError(
            f"{what} has a feature {name!r} that is an empty {kind}, {_NEEDS_GRPC}", code=Code.UNIMPLEMENTED
        )
    return orjson.dumps(name) + b":" + _values(kind, values)


def _values(kind: str | None, values: Sequence[Any]) -> bytes:
    if kind == "float_list":
        return tfs_columns.numbers(np.array(values, np.float32), _FLOAT)
    return orjson.dumps(tfs_columns.encoded(list(values)) if kind == "bytes_list" else list(values))


# ---------------------------------------------------------------- results


def _number(value: object) -> float:
    if type(value) is not float and type(value) is not int:
        raise TypeError(f"a {type(value).__name__} for a number")
    return float(value)


def _regression(result: object) -> bytes:
    return pb.Regression(value=_number(result)).SerializeToString()


def _classifications(result: Sequence[tuple[object, object]]) -> bytes:
    found = pb.Classifications()
    for label, score in result:
        if not isinstance(label, str):
            raise TypeError(f"a {type(label).__name__} for a label")
        found.classes.add(label=label.encode("utf-8", "surrogateescape"), score=_number(score))
    return found.SerializeToString()
