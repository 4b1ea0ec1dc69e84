"""The Open Inference Protocol over REST: inference requests and answers, both ways. No HTTP connection, no look-up.

A body is JSON; with Triton's binary tensor data extension, the buffers of some tensors follow it, and the header
``Inference-Header-Content-Length`` says where the JSON ends.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import orjson

from batchproxy.codecs import arrays, v2_calls, v2_tensors
from batchproxy.codecs.v2_calls import BINARY_DATA, BINARY_DATA_OUTPUT, BINARY_DATA_SIZE, InferCall, Parameters, Said
from batchproxy.codecs.v2_documents import Target
from batchproxy.codecs.v2_long_arrays import LONG, set_aside
from batchproxy.codecs.v2_rest_answers import encode_reply as encode_reply
from batchproxy.codecs.v2_rest_answers import write_tensors
from batchproxy.core.columns import Array, ArrayColumn, Columns
from batchproxy.core.errors import BackendProtocolError, DecodeError, ShapeMismatch
from batchproxy.core.request import BatchKey, Reply
from batchproxy.core.shapes import DEFAULT_SIGNATURE, TensorSpec

LENGTH_HEADER = "Inference-Header-Content-Length"
"""Bytes of JSON before the buffers."""


class _Output(msgspec.Struct):
    """What a request says of an output."""

    name: str
    parameters: dict[str, Any] | None = None


class _Tensor(msgspec.Struct):
    """A tensor of a request or an answer; ``data`` is the text of its values."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] | None = None
    data: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)


class _LooseTensor(msgspec.Struct):
    """The same, where values had to be read by Python's own reader, which knows NaN."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] | None = None
    data: Any = None


class _Request(msgspec.Struct):
    inputs: list[_Tensor]
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: list[_Output] | None = None


class _LooseRequest(msgspec.Struct):
    inputs: list[_LooseTensor]
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: list[_Output] | None = None


class _Answer(msgspec.Struct):
    outputs: list[_Tensor]
    model_version: str | None = None
    parameters: dict[str, Any] | None = None


class _LooseAnswer(msgspec.Struct):
    outputs: list[_LooseTensor]
    model_version: str | None = None
    parameters: dict[str, Any] | None = None


class _Version(msgspec.Struct):
    model_version: str | None = None


_DECODERS: Mapping[type, msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(kind)
    for kind in (_Output, _Tensor, _LooseTensor, _Request, _LooseRequest, _Answer, _LooseAnswer, _Version)
}
"""Made here and now: where two threads are the first to need a struct, msgspec crashes the process (0.22, seen)."""

_VALUES = (bool, int, float, str)
_NOT_NUMBERS = (b"NaN", b"Infinity")

# ---------------------------------------------------------------- requests


def json_length(text: str | None, body: bytes) -> int:
    """Where the JSON of a body ends, by its ``LENGTH_HEADER``; all of it is JSON without one.

    Raises:
        DecodeError: no number, or more than there is.
    """
    if text is None:
        return len(body)
    if not (text.isascii() and text.isdigit()) or int(text[:20]) > len(body):
        raise DecodeError(f"header {LENGTH_HEADER}: {text[:32]!r} is no length within the body of {len(body)} bytes")
    return int(text[:20])


def parse_infer(target: Target, body: bytes, length: int) -> InferCall:
    """Read an inference request.

    Args:
        target: what its path says.
        body: all of it.
        length: where its JSON ends, from ``json_length``.

    Raises:
        DecodeError: it is none, or its tensors are not what they say they are.
    """
    if not length and body:  # Triton's raw binary request, whose outputs are buffers
        asks = {BINARY_DATA_OUTPUT: True}
        return InferCall(target.model, target.version, "", {}, parameters=asks, buffers=True, whole=body)
    request = _read(_Request, _LooseRequest, body, length, "request")
    odd = ""
    of_inputs: dict[str, Parameters] = {}
    for tensor in request.inputs:
        if tensor.parameters:
            odd = odd or v2_calls.oddity(_checked(tensor.parameters))
            if own := v2_calls.own_parameters(tensor.parameters):
                of_inputs[tensor.name] = own
    of_outputs: dict[str, Parameters] = {}
    for output in request.outputs or ():
        if output.parameters:
            of_outputs[output.name] = _checked(output.parameters)
            odd = odd or v2_calls.oddity(output.parameters)
    call = InferCall(
        target.model,
        target.version,
        request.id or "",
        {} if odd else _read_tensors(request.inputs, body, length),
        tuple([output.name for output in request.outputs or ()]),
        _checked(request.parameters or {}),
        of_inputs,
        of_outputs,
        odd,
    )
    wants = call.parameters.get(BINARY_DATA_OUTPUT) is True or any(
        parameters.get(BINARY_DATA) is True for parameters in of_outputs.values()
    )
    call.buffers = wants or length != len(body)
    return call


def encode_infer_request(key: BatchKey, columns: Columns, *, binary: bool) -> tuple[bytes, int | None]:
    """The request of a merged call.

    Args:
        key: names the signature, the outputs wanted, and the parameters; model and version are in the path.
        columns: input name to ``ArrayColumn``.
        binary: whether the server has the binary extension: then tensors go and come as buffers.

    Returns:
        The body, and the length of its JSON for ``LENGTH_HEADER``; None: it is JSON only.

    Raises:
        RequestError: a tensor that the protocol cannot carry so.
    """
    own, of_inputs = v2_calls.read_extras(key.extras)
    parameters = dict(own)
    if key.signature != DEFAULT_SIGNATURE:
        parameters[v2_calls.SIGNATURE_NAME] = key.signature
    if binary and key.outputs is None:
        parameters[BINARY_DATA_OUTPUT] = True
    head: dict[str, Any] = {"parameters": parameters} if parameters else {}
    if key.outputs is not None:
        wanted = {"parameters": {BINARY_DATA: True}} if binary else {}
        head["outputs"] = [{"name": name, **wanted} for name in key.outputs]
    names = frozenset(columns) if binary else frozenset[str]()
    return write_tensors(head, "inputs", columns, of_inputs, names)


# ---------------------------------------------------------------- answers


def version_answered(body: bytes, header: str | None) -> int:
    """The version that a server's answer says it came from; 0 where it names no number.

    Args:
        body: all of it.
        header: its ``LENGTH_HEADER``; None: it is JSON only.
    """
    try:
        answer = _DECODERS[_Version].decode(body[: json_length(header, body)])
    except (msgspec.DecodeError, UnicodeDecodeError, DecodeError):
        return 0
    return v2_calls.version_number(answer.model_version)


def decode_reply(body: bytes, header: str | None = None) -> Reply:
    """A server's answer.

    Args:
        body: all of it.
        header: its ``LENGTH_HEADER``; None: it is JSON only.

    Raises:
        BackendProtocolError: it is none, or its tensors are not what they say they are.
    """
    try:
        length = json_length(header, body)
        answer = _read(_Answer, _LooseAnswer, body, length, "answer")
        columns = _read_tensors(answer.outputs, body, length)
        of_outputs = {
            tensor.name: own
            for tensor in answer.outputs
            if tensor.parameters and (own := v2_calls.own_parameters(tensor.parameters))
        }
    except DecodeError as error:
        raise BackendProtocolError(f"the server's answer: {error.message}") from None
    text = answer.model_version or ""
    reply = Reply(columns, v2_calls.version_number(text))
    reply.memo[Said] = Said(text, answer.parameters or {}, of_outputs)
    return reply


# ---------------------------------------------------------------- inside


def _read(kind: Any, loose: Any, body: bytes, length: int, what: str) -> Any:
    """The JSON of a body as one of our structs."""
    text = body if length == len(body) else body[:length]
    if length >= LONG and (short := set_aside(text)) is not None and (read := _read_short(kind, *short)) is not None:
        return read
    try:
        if not any(token in text for token in _NOT_NUMBERS):
            return _DECODERS[kind].decode(text)
        return msgspec.convert(json.loads(text), loose)
    except RecursionError:
        raise DecodeError(f"the JSON of the {what} is nested too deep") from None
    except (ValueError, msgspec.DecodeError) as error:
        raise DecodeError(f"the JSON of the {what} is not what the protocol says: {error}") from None


def _read_short(kind: Any, text: bytes, found: Mapping[bytes, Array]) -> Any:
    """What a text says of which the long arrays were set aside; None: they are not all of them those of tensors."""
    try:
        read = _DECODERS[kind].decode(text)
    except (ValueError, RecursionError):  # msgspec's own is one, and whoever reads all of the text words it
        return None
    left = dict(found)
    for tensor in read.outputs if kind is _Answer else read.inputs:
        array = left.pop(bytes(tensor.data), None)
        if array is not None:
            tensor.data = array
    return None if left else read


def _checked(parameters: dict[str, Any]) -> Parameters:
    for name, value in parameters.items():
        if not isinstance(value, _VALUES):
            raise DecodeError(f"parameter {name!r} is no number, string or boolean")
    return parameters


def _read_tensors(tensors: Sequence[Any], body: bytes, length: int) -> dict[str, ArrayColumn]:
    columns: dict[str, ArrayColumn] = {}
    at = length
    for tensor in tensors:
        name = tensor.name
        if name in columns:
            raise DecodeError(f"tensor {name!r} is there twice")
        size = (tensor.parameters or {}).get(BINARY_DATA_SIZE)
        if size is None:
            columns[name] = _read_json(tensor)
            continue
        if not isinstance(size, int) or not 0 <= size <= len(body) - at:
            raise DecodeError(f"tensor {name!r}: {BINARY_DATA_SIZE} {size!r} is not what is left of the body")
        data = v2_tensors.cut(body, at, at + size, tensor.datatype)
        columns[name] = v2_tensors.read_raw(name, tensor.datatype, tensor.shape, data)
        at += size
    if at != len(body):
        raise DecodeError(f"{len(body) - at} bytes are left over behind the last tensor")
    return columns


def _read_json(tensor: _Tensor | _LooseTensor) -> ArrayColumn:
    """Values as JSON, flat or nested as their shape is."""
    name = tensor.name
    row = v2_tensors.row_of(name, tensor.datatype)
    shape, count = v2_tensors.shape_of(name, tensor.shape)
    data = memoryview(tensor.data) if isinstance(tensor.data, msgspec.Raw) else tensor.data
    if data is None or (isinstance(data, memoryview) and not data):
        raise DecodeError(f"tensor {name!r} has neither data nor {BINARY_DATA_SIZE}")
    if isinstance(data, memoryview):
        try:
            data = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise DecodeError(f"the data of tensor {name!r} cannot be read: {error}") from None
    try:
        if row.name == "string":
            array = _strings(name, data)
        else:
            array, guessed = arrays.read(name, data)
            if row.name == "uint64" and array.dtype == np.float64:
                array = _large(array, data)
            array = arrays.fit(name, array, TensorSpec(row.name), guessed=guessed)
    except ShapeMismatch as error:
        raise DecodeError(error.message) from None
    if array.size != count:
        raise DecodeError(f"tensor {name!r} has {array.size} elements, its shape {list(shape)} takes {count}")
    return ArrayColumn(array.reshape(shape))


def _large(array: Array, data: Any) -> Array:
    """Whole numbers on both sides of 2^63, which numpy takes for fractions if it is not told."""
    exact = np.array(data, np.object_)
    whole = all(isinstance(item, int) and item >= 0 for item in exact.ravel().tolist())
    return exact.astype(np.uint64) if whole else array


def _strings(name: str, data: Any) -> Array:
    flat: list[bytes] = []
    left = [data]
    while left:
        item = left.pop()
        if isinstance(item, list):
            left.extend(reversed(item))
        elif isinstance(item, str):
            flat.append(item.encode("utf-8", "surrogatepass"))
        else:
            raise DecodeError(f"tensor {name!r} is of datatype BYTES and holds something that is no string")
    array = np.empty(len(flat), np.object_)
    array[:] = flat
    return array
