"""TF Serving's column form from a client's side: arrays to a REST body, its answer to arrays. No rows of texts here.

For servers that only have a REST door, and callers that send tensors. Numbers come back bit for bit (nine digits tell
all float32 apart, seventeen all float64); those that are sent are read by TF Serving's own parser, which is a last
digit off for some float64 of many digits. ``tfs_rest`` is the same protocol's other end.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson

from batchproxy.codecs import _dtypes
from batchproxy.codecs.tfs_exact import INTEGER_RANGES
from batchproxy.core.columns import Array, ArrayColumn, Columns
from batchproxy.core.errors import BackendProtocolError, BackendRejected, Code
from batchproxy.core.request import BatchKey
from batchproxy.core.shapes import DEFAULT_SIGNATURE, Signature

WORDS = frozenset({"float32", "float64", "bool", "string", *INTEGER_RANGES})
"""Element types that TF Serving's REST API has words for (``util/json_tensor.cc``); in requests and answers alike."""

_FLOATS = frozenset({"float32", "float64"})
_NULL = re.compile(rb"null")
_KINDS = {"f": "f", "b": "b", "i": "i", "u": "i"}  # numpy's kind of a type to that of its numbers in JSON


def expected(signature: Signature) -> bytes:
    """What an answer's values are, for ``BatchKey.extras``: JSON does not say it, so the signature has to."""
    return orjson.dumps([[alias, spec.dtype] for alias, spec in signature.outputs.items()])


def write_request(key: BatchKey, columns: Columns) -> bytes:
    """The body of a predict request.

    Args:
        key: names the signature.
        columns: input alias to ``ArrayColumn``.

    Raises:
        BackendRejected: UNIMPLEMENTED: an element type that this API has no words for.

    >>> write_request(BatchKey("m", None, "sum"), {"x": ArrayColumn(np.array([[0.1, np.inf]], np.float32))})
    b'{"signature_name":"sum","inputs":{"x":[[0.1,Infinity]]}}'
    """
    parts = [b"{"]
    if key.signature != DEFAULT_SIGNATURE:
        parts.append(b'"signature_name":' + orjson.dumps(key.signature) + b",")
    inputs = [orjson.dumps(alias) + b":" + _text(key.model, alias, column) for alias, column in columns.items()]
    return b"".join((*parts, b'"inputs":{', b",".join(inputs), b"}}"))


def read_answer(body: bytes, key: BatchKey) -> dict[str, ArrayColumn]:
    """The outputs that an answer holds, but for those that nobody wants.

    Args:
        body: of an answer with status 200.
        key: its ``extras`` are ``expected``'s, its ``outputs`` those wanted.

    Raises:
        BackendProtocolError: it is no answer of this signature.

    >>> key = BatchKey("m", 1, "s", extras=b'[["y","int64"]]')
    >>> read_answer(b'{"outputs": [1, 2]}', key)["y"].array
    array([1, 2])
    """
    declared: dict[str, str] = dict(orjson.loads(key.extras))
    try:
        document = loaded(body)["outputs"]
        values = dict.fromkeys(declared, document) if len(declared) == 1 else document
        return {
            alias: ArrayColumn(_array(values[alias], dtype))
            for alias, dtype in declared.items()
            if key.outputs is None or alias in key.outputs
        }
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise BackendProtocolError(
            f"model {key.model!r}: the server's answer is none of signature {key.signature!r}: "
            f"{type(error).__name__}: {error}"
        ) from None


# ---------------------------------------------------------------- arrays to text


def _text(model: str, alias: str, column: object) -> bytes:
    assert isinstance(column, ArrayColumn), f"input {alias!r} is no array. This is a bug."
    array, row = column.array, _dtypes.by_numpy(column.array.dtype)
    if row.name not in WORDS:
        raise BackendRejected(
            f"model {model!r}: input {alias!r} is of type {row.name}, which TensorFlow Serving's REST API has no words "
            "for; name a gRPC door of the server (grpc://HOST:PORT)",
            code=Code.UNIMPLEMENTED,
        )
    if row.name == "string":
        return orjson.dumps(encoded(array.tolist()))
    if array.ndim == 0:
        array = array.reshape(1)
        return numbers(array, row)[1:-1]
    return numbers(array, row)


def numbers(array: Array, row: _dtypes.DType) -> bytes:
    """An array as JSON.

    Args:
        array: of one axis or more.
        row: its element type, which has words.
    """
    text = orjson.dumps(np.ascontiguousarray(array, row.numpy), option=orjson.OPT_SERIALIZE_NUMPY)
    if row.name not in _FLOATS or np.isfinite(array).all():
        return text
    odd = iter(array[~np.isfinite(array)].tolist())
    return _NULL.sub(lambda _: _WORDS_OF[str(next(odd))], text)


_WORDS_OF = {"nan": b"NaN", "inf": b"Infinity", "-inf": b"-Infinity"}
"""Python's words to rapidjson's, for numbers that JSON has none for."""


def encoded(value: Any) -> Any:
    """Strings, in lists or alone, as base64, which carries any."""
    if isinstance(value, list):
        return [encoded(item) for item in value]
    data = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
    return {"b64": base64.b64encode(data).decode()}


# ---------------------------------------------------------------- text to arrays


def loaded(body: bytes) -> Mapping[str, Any]:
    """The document of an answer; bytes of its strings that are not UTF-8 as surrogates.

    Raises:
        ValueError: it is no JSON.
        TypeError: it is no object.
    """
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:  # NaN, or a string that is not UTF-8, which TF Serving writes as it is
        found = json.loads(body.decode("utf-8", "surrogateescape"))
    if not isinstance(found, dict):
        raise TypeError("no JSON object")
    return found


def _array(value: Any, dtype: str) -> Array:
    row = _dtypes.by_name(dtype)
    if dtype == "string":
        shape: list[int] = []
        inner = value
        while isinstance(inner, list):
            shape.append(len(inner))
            inner = inner[0] if inner else None
        flat = _decoded(value, shape, [])
        strings: Array = np.empty(len(flat), np.object_)
        strings[:] = flat
        return strings.reshape(shape)
    if dtype not in WORDS:
        raise TypeError(f"no numbers of type {dtype} are known in JSON")
    if dtype == "uint64":
        return _whole(np.array(value, np.object_))
    found = np.array(value)
    if found.size and found.dtype.kind != _KINDS[row.numpy.kind]:
        raise TypeError(f"{found.dtype} for {dtype}")
    with np.errstate(over="ignore"):  # a float32's own text is never beyond its range
        cast_ = found.astype(row.numpy)
    if row.numpy.kind in "iu" and not np.array_equal(cast_, found):
        raise TypeError(f"a number that is no {dtype}")
    return cast_


def _whole(found: Array) -> Array:
    """uint64, of which numpy makes floats where it is not told otherwise."""
    if any(type(number) is not int for number in found.flat):
        raise TypeError("no whole number for uint64")
    return found.astype(np.uint64)


def _decoded(value: Any, shape: list[int], flat: list[bytes]) -> list[bytes]:
    """Strings, each of which is text or base64, in a list; all lists of one level are equally long."""
    if shape:
        if not isinstance(value, list) or len(value) != shape[0]:
            raise TypeError("lists of unequal lengths")
        for item in value:
            _decoded(item, shape[1:], flat)
    elif isinstance(value, str):
        flat.append(value.encode("utf-8", "surrogateescape"))
    elif isinstance(value, dict) and value.keys() == {"b64"}:
        try:
            flat.append(base64.b64decode(value["b64"], validate=True))
        except binascii.Error as error:
            raise TypeError(f"a string in base64: {error}") from None
    else:
        raise TypeError(f"a {type(value).__name__} for a string")
    return flat
