"""Every kind of caller, as a function: a model's inputs in, its outputs out. The clients are the standard library's and
grpcio; messages are written by our codecs, which tests of their own hold against foreign ones.
"""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Callable, Mapping
from typing import Any

import grpc
import ml_dtypes
import numpy as np

from batchproxy.codecs import _dtypes, tfs_calls, tfs_grpc, tfs_rest, v2_documents, v2_grpc, v2_rest
from batchproxy.core.columns import Array, ArrayColumn
from batchproxy.core.request import BatchKey, Reply
from batchproxy.core.shapes import DEFAULT_SIGNATURE
from tests.servers.zoo import BF16, DTYPES

Inputs = Mapping[str, Array]
Outputs = dict[str, Array]


class Refused(Exception):
    """An answer that is none; the status of HTTP, or gRPC's code, and the text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status = status
        self.text = text


def post(place: str, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[bytes, Mapping[str, str]]:
    """The body and the headers (in lower case) of a good answer; ``place`` is ``host:port``."""
    connection = http.client.HTTPConnection(place, timeout=30)
    try:
        connection.request("POST" if body else "GET", path, body or None, dict(headers))
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise Refused(answer.status, text.decode())
        return text, {name.lower(): value for name, value in answer.getheaders()}
    finally:
        connection.close()


def call(channel: grpc.Channel, method: str, message: bytes) -> bytes:
    """One unary gRPC call."""
    try:
        return bytes(channel.unary_unary(method)(message, timeout=30))
    except grpc.RpcError as error:
        raise Refused(error.code().value[0], error.details()) from None


class Place:
    """Where a server or a proxy listens; close it.

    Args:
        rest: ``host:port``.
        grpc_: likewise.
    """

    def __init__(self, rest: str, grpc_: str) -> None:
        self.rest = rest
        self.channel = grpc.insecure_channel(grpc_, options=[("grpc.use_local_subchannel_pool", 1)])

    def close(self) -> None:
        self.channel.close()


def v2_grpc_call(place: Place, model: str, inputs: Inputs, signature: str = DEFAULT_SIGNATURE) -> Outputs:
    """ModelInfer with raw tensors."""
    message = v2_grpc.encode_infer_request(key_of(model, signature), columns_of(inputs))
    answer = call(place.channel, v2_grpc.MODEL_INFER, message)
    return _arrays(v2_grpc.decode_reply(answer))


def v2_binary(place: Place, model: str, inputs: Inputs, signature: str = DEFAULT_SIGNATURE) -> Outputs:
    """REST with the binary tensor data extension, both ways."""
    return _v2_rest(place, key_of(model, signature), inputs, binary=True)


def v2_json(place: Place, model: str, inputs: Inputs, signature: str = DEFAULT_SIGNATURE) -> Outputs:
    """REST with JSON only."""
    return _v2_rest(place, key_of(model, signature), inputs, binary=False)


def _v2_rest(place: Place, key: BatchKey, inputs: Inputs, *, binary: bool) -> Outputs:
    body, length = v2_rest.encode_infer_request(key, columns_of(inputs), binary=binary)
    headers = {"content-type": "application/json"}
    if length is not None:
        headers = {"content-type": "application/octet-stream", v2_rest.LENGTH_HEADER: str(length)}
    text, said = post(place.rest, v2_documents.model_path(key.model, None, "infer"), body, headers)
    return _arrays(v2_rest.decode_reply(text, said.get(v2_rest.LENGTH_HEADER.lower())))


def tfs_grpc_call(place: Place, model: str, inputs: Inputs, signature: str = DEFAULT_SIGNATURE) -> Outputs:
    """TF Serving's Predict."""
    message = tfs_calls.encode_predict_request(key_of(model, signature), columns_of(inputs))
    return _arrays(tfs_calls.decode_predict_reply(call(place.channel, tfs_grpc.PREDICT, message)))


def tfs_rows(place: Place, model: str, inputs: Inputs, signature: str = DEFAULT_SIGNATURE) -> bytes:
    """TF Serving's REST, row form."""
    return _tfs_rest(place, model, signature, {"instances": _tfs_document(inputs, row_form=True)})


def tfs_columns(place: Place, model: str, inputs: Inputs, signature: str = DEFAULT_SIGNATURE) -> bytes:
    """TF Serving's REST, column form."""
    return _tfs_rest(place, model, signature, {"inputs": _tfs_document(inputs, row_form=False)})


def _tfs_rest(place: Place, model: str, signature: str, body: dict[str, Any]) -> bytes:
    if signature != DEFAULT_SIGNATURE:
        body = {"signature_name": signature, **body}
    return post(place.rest, f"/v1/models/{model}:predict", json.dumps(body).encode(), {})[0]


def wanted(caller: str, outputs: Outputs) -> Outputs | bytes:
    """What a caller is to get where these are the values: over TF Serving's REST the very text that it writes."""
    form = _ROW_FORM.get(caller)
    return outputs if form is None else tfs_rest.encode_predict(Reply(columns_of(outputs), 0), row_form=form)


def read(answer: Outputs | bytes) -> Outputs:
    """The values of an answer that is a text of TF Serving's, numbers by Python's types; of others themselves."""
    if not isinstance(answer, bytes):
        return answer
    found = json.loads(answer)
    if "outputs" in found:
        return {name: np.array(values) for name, values in found["outputs"].items()}
    rows = found["predictions"]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _tfs_document(inputs: Inputs, *, row_form: bool) -> Any:
    columns = {name: _values(array) for name, array in inputs.items()}
    if not row_form:
        return columns
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _values(array: Array) -> Any:
    if array.dtype != object:
        return array.tolist()
    return _encoded(array.tolist())


def _encoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_encoded(item) for item in value]
    return {"b64": base64.b64encode(value).decode()}


def key_of(model: str, signature: str = DEFAULT_SIGNATURE) -> BatchKey:
    """What names a model and its signature."""
    return BatchKey(model, None, signature)


def columns_of(arrays: Inputs) -> dict[str, ArrayColumn]:
    """Arrays as our codecs take them."""
    return {name: ArrayColumn(array) for name, array in arrays.items()}


def _arrays(reply: Reply) -> Outputs:
    found = {}
    for name, column in reply.columns.items():
        assert isinstance(column, ArrayColumn), name
        found[name] = column.array
    return found


_ROW_FORM = {"tfs-rest-rows": True, "tfs-rest-columns": False}

CALLERS: dict[str, Callable[..., Any]] = {
    "tfs-rest-rows": tfs_rows,
    "tfs-rest-columns": tfs_columns,
    "tfs-grpc": tfs_grpc_call,
    "v2-rest-json": v2_json,
    "v2-rest-binary": v2_binary,
    "v2-grpc": v2_grpc_call,
}
"""A caller's name, and how it calls: a place, a model, its inputs, and a signature where that is another one."""


def some_inputs(datatype: str, rows: int, first: int) -> Inputs:
    """Inputs of an ``echo`` model: any values of the type, and row numbers from ``first``."""
    draw = np.random.default_rng(first)
    if datatype == "BYTES":
        x = np.empty((rows, 2), object)
        for at in range(rows):
            x[at] = [f"row {first + at} é".encode(), draw.bytes(3).hex().encode()]
    elif datatype == "BOOL":
        x = draw.integers(0, 2, (rows, 2)).astype(np.bool_)
    elif datatype == BF16:
        x = draw.standard_normal((rows, 2)).astype(ml_dtypes.bfloat16)
    elif datatype == "FP64":  # TF Serving's reader, and Triton's, are a last digit off where there are many digits
        x = draw.integers(-(2**20), 2**20, (rows, 2)) / 1024
    elif datatype.startswith("FP"):
        x = draw.standard_normal((rows, 2)).astype(DTYPES[datatype])
    else:
        limits = np.iinfo(DTYPES[datatype])
        x = draw.integers(limits.min, limits.max, (rows, 2), DTYPES[datatype], endpoint=True)
    return {"x": x, "row": np.arange(first, first + rows).reshape(rows, 1)}


def same(expected: Inputs | bytes, actual: Outputs | bytes) -> bool:
    """Bit for bit: names, types, shapes, values; or the text."""
    if isinstance(expected, bytes) or isinstance(actual, bytes):
        return expected == actual
    return expected.keys() == actual.keys() and all(
        _dtypes.by_numpy(array.dtype) == _dtypes.by_numpy(actual[name].dtype)
        and array.shape == actual[name].shape
        and array.tolist() == actual[name].tolist()
        for name, array in expected.items()
    )
