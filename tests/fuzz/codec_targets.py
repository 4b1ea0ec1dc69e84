"""Fuzz targets for the codecs that read what strangers send: they say what is wrong by the errors of their docstrings.

A target is a hypothesis test without a name for pytest, as in ``wire_targets.py``.
"""

from __future__ import annotations

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.codecs import _dtypes, tensor_proto, tfs_columns, tfs_grpc, tfs_rest
from batchproxy.codecs.tfs_parse import Members, parse
from batchproxy.codecs.tfs_rows import read_request, write_request
from batchproxy.codecs.tfs_splice import read_answer, read_results, splice
from batchproxy.core.columns import ArrayColumn
from batchproxy.core.errors import BackendProtocolError, BatchProxyError, DecodeError
from batchproxy.core.request import BatchKey
from batchproxy.core.shapes import Signature, TensorSpec
from batchproxy.protos import tfs_pb2 as pb
from tests.fuzz.inputs import near, weight

HELD = 256 << 10
"""Of a request of a kilobyte: some hundred values, and Python's overhead."""

DTYPES = ["float32", "float64", "int32", "int64", "uint8", "bool", "string", "float16", "complex64"]


def spec(dtype: str, rank: int) -> TensorSpec:
    """An input or output of this rank, any size."""
    return TensorSpec(dtype, (None,) * rank)


SIGNATURES = [Signature({"x": spec(dtype, rank)}, {"y": spec("float32", 1)}) for dtype in DTYPES for rank in (1, 2)]
SIGNATURES += [
    Signature({"a": spec("float32", 1), "b_bytes": spec("string", 2)}, {"y": spec("int64", 1)}),
    Signature({}, {}),
]

# ---------------------------------------------------------------- REST

REQUESTS = [
    b'{"instances": [1.0, 2, -3e5]}', b'{"instances": [[1, 2], [3, 4]]}', b'{"inputs": [[1.5], [2.5]]}',
    b'{"signature_name": "serving_default", "instances": [{"x": 1}, {"x": 2}]}',
    b'{"inputs": {"a": [1, 2], "b_bytes": [["x"], [{"b64": "AA=="}]]}}', b'{"instances": [NaN, Infinity, -Infinity]}',
    b'{"instances": [true, false, null, "\\u00e9\\ud83d\\ude00", {"b64": "/w=="}]}', b'{"instances": []}',
    b'{"instances": ' + b"[" * 60 + b"]" * 60 + b"}", b'{"instances": [1e400, 1e-400, 9223372036854775808, -0]}',
    b'{"instances": [1], "inputs": [1]}', b"[]", b'"x"', b'{"a": {"instances": [1]}, "instances": [[]]}',
    b'{ "signature_name" : 5, "instances":[1]}', b'\xef\xbb\xbf{"instances": [1]}', b'{"instances": ["\xff\xfe"]}',
]  # fmt: skip
TOKENS = st.lists(
    st.sampled_from([*b'{}[],:" \n-+.eE0195', *b"\\u"]).map(lambda code: bytes((code,)))
    | st.sampled_from(
        [b'"instances":', b'"inputs":', b'"b64":', b"NaN", b"true", b"1.5", b"1e9999", b'"x"', b"\\ud800"]
    ),
    max_size=40,
).map(b"".join)


@given(near(REQUESTS) | TOKENS, st.sampled_from(SIGNATURES))
def rest_predict(body: bytes, signature: Signature) -> None:
    """A body is read, or its error says what is wrong with it; and what is read can be answered or refused."""
    try:
        envelope = tfs_rest.parse_body(body)
        call = tfs_rest.decode_predict(envelope, envelope.signature_name, signature)
    except BatchProxyError as error:
        status, document = tfs_rest.encode_error(error)

        assert 400 <= status < 600
        assert b"error" in document
        return
    columns = list(call.columns.values())

    assert all(isinstance(column, ArrayColumn) for column in columns)
    assert sum(column.array.size for column in columns) <= len(body)
    assert weight(envelope) <= HELD


def plain(value: object) -> object:
    """A value that can be compared: NaN equals itself, and 1 is not 1.0."""
    if isinstance(value, Members):
        return [(name, plain(member)) for name, member in value.pairs]
    if isinstance(value, list):
        return [plain(item) for item in value]
    return repr(value)


@given(near(REQUESTS) | TOKENS)
def rest_rows(body: bytes) -> None:
    """What is cut into rows unread means the same once written again; anything else is left alone."""
    found = read_request(body)
    if found is None:
        return
    again = write_request(found.columns, found.sent_signature, found.row_form)

    def meaning(text: bytes) -> object:
        try:
            top = parse(text)
        except DecodeError as error:  # a number that TF Serving has no room for
            return error.message.partition(" at offset")[0]
        assert isinstance(top, Members)
        return [plain(top.find(name)) for name in (b"instances", b"inputs", b"signature_name")]

    assert meaning(body) == meaning(again)


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda raw: raw.decode("latin-1")), st.booleans())
def rest_paths(path: str, get: bool) -> None:
    """Any path is one of ours, or malformed."""
    method = "GET" if get else "POST"
    for uri in (path, "/v1/models/" + path):
        try:
            target = tfs_rest.parse_target(method, uri)
        except DecodeError:
            continue

        assert target.model


RESULTS = [
    b'{"predictions": [1.0, 2.0, 3.0\n    ]\n}', b'{\n    "predictions": [[1, 2], [NaN, Infinity]\n    ]\n}',
    b'{"outputs": {"y": [1, 2], "z": [[1], [2]]}}', b'{"outputs": {"b64": "AA=="}}', b'{"outputs": [1, 2]}',
    b'{"results": [[["a", 0.5]], [["b", 0.5]]]}', b'{"predictions": 5}', b'{"error": "no"}', b'{"outputs": {}}',
    b'{"predictions": ["NaN", "],[", "\\"", {"b64": "/w=="}]}',
]  # fmt: skip


@given(near(RESULTS) | TOKENS, st.sampled_from(["rows", "columns", "results"]))
def rest_answers(body: bytes, form: str) -> None:
    """A server's answer is cut or refused; uncut it is itself, and pieces of it are JSON where it is."""
    try:
        columns = read_results(body) if form == "results" else read_answer(body, form == "rows")
    except BackendProtocolError:
        return
    rows = {column.rows for column in columns.values()}

    assert body == splice(columns)
    if len(rows) == 1 and (count := rows.pop()):
        first = splice({name: column.take(0, 1) for name, column in columns.items()})
        last = splice({name: column.take(count - 1, count) for name, column in columns.items()})

        assert len(first) <= len(body)
        assert len(last) <= len(body)
        for piece in (first, last):
            json.loads(piece.decode("latin-1"), strict=False)  # numbers of any size, strings of any bytes


@given(near(RESULTS) | TOKENS, st.sampled_from(sorted(tfs_columns.WORDS)), st.booleans())
def rest_columns(body: bytes, dtype: str, alone: bool) -> None:
    """A server's answer to tensors is read as tensors of the signature's types, or is none; nothing is made up."""
    outputs = [["y", dtype]] if alone else [["y", dtype], ["z", "float32"]]
    key = BatchKey("m", None, "s", extras=json.dumps(outputs).encode())
    try:
        columns = tfs_columns.read_answer(body, key)
    except BackendProtocolError:
        return

    assert [name for name, _ in outputs] == list(columns)
    assert sum(column.array.size for column in columns.values()) <= len(body) * len(columns)
    assert dtype == _dtypes.by_numpy(columns["y"].array.dtype).name


# ---------------------------------------------------------------- gRPC


def predict_request(*arrays: tuple[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]) -> bytes:
    """A PredictRequest."""
    request = pb.PredictRequest()
    request.model_spec.name = "m"
    for name, array in arrays:
        tensor_proto.write(array, request.inputs[name])
    return request.SerializeToString()


def claimed(**fields: object) -> bytes:
    """One whose tensor is made by hand."""
    request = pb.PredictRequest()
    request.model_spec.name = "m"
    tensor = request.inputs["x"]
    for size in fields.pop("shape", ()):  # type: ignore[attr-defined]
        tensor.tensor_shape.dim.add(size=size)
    for name, value in fields.items():
        if isinstance(value, list):
            getattr(tensor, name).extend(value)
        else:
            setattr(tensor, name, value)
    return request.SerializeToString()


CALLS = [
    predict_request(("x", np.ones((2, 3), np.float32))), predict_request(("x", np.array([b"a", b""], object))),
    predict_request(("a", np.ones(2, np.float32)), ("b_bytes", np.array([[b"x"], [b"y"]], object))),
    predict_request(("x", np.ones(2, bool))), predict_request(("x", np.ones((0, 3), np.int64))),
    claimed(dtype=1, shape=(1 << 40,)), claimed(dtype=1, shape=(1 << 25, 3), float_val=[1.0]),
    claimed(dtype=1, shape=(-1,)), claimed(dtype=1, shape=(2, 2), tensor_content=bytes(15)),
    claimed(dtype=9, shape=(3,), int64_val=[1, 2]), claimed(dtype=7, shape=(2,), string_val=[b"a", b"b", b"c"]),
    claimed(dtype=19, shape=(2,), half_val=[70000, 1]), claimed(dtype=10, shape=(2,), bool_val=[True]),
    claimed(dtype=99, shape=(1,)), claimed(dtype=8, shape=(2,), scomplex_val=[1.0, 2.0, 3.0]), b"",
]  # fmt: skip
ELEMENTS = tensor_proto.MAX_ELEMENTS


@given(near(CALLS), st.sampled_from(SIGNATURES))
def grpc_predict(message: bytes, signature: Signature) -> None:
    """A message is read, or its error says what is wrong; no more elements than may be claimed."""
    columns, text = {}, ""
    try:
        call = tfs_grpc.parse_predict(message)
        assert call.mergeable in {True, False}
        if _claims(call) < 1 << 20:  # larger ones take their time, and are another test's matter
            columns = tfs_grpc.decode_inputs(call, signature)
    except BatchProxyError as error:
        text = tfs_grpc.status_text(error)

    assert len(text.encode()) <= tfs_grpc.MAX_STATUS_BYTES + len("...TRUNCATED")
    assert sum(column.array.size for column in columns.values()) <= ELEMENTS


def _claims(call: tfs_grpc.PredictCall) -> int:
    claims = 0
    for tensor in call.inputs.values():
        size = 1
        for dim in tensor.tensor_shape.dim:
            size *= max(dim.size, 0)
        claims += size if size <= ELEMENTS else 0
    return claims


@given(near(CALLS))
def grpc_documents(message: bytes) -> None:
    """The other methods' requests, and what is read from answers."""
    for read in (tfs_grpc.parse_status, tfs_grpc.parse_metadata):
        try:
            read(message)
        except BatchProxyError as error:
            tfs_grpc.status_text(error)
    tfs_grpc.version_of(message)
    tfs_grpc.model_named(message)


CODECS = (rest_predict, rest_rows, rest_paths, rest_answers, rest_columns, grpc_predict, grpc_documents)
