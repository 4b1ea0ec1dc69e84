"""Fuzz targets for the codecs of the Open Inference Protocol: requests of strangers, and answers of servers.

A target is a hypothesis test without a name for pytest, as in ``wire_targets.py``.
"""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.codecs import v2_config, v2_documents, v2_grpc, v2_rest, v2_streams
from batchproxy.codecs.v2_calls import InferCall
from batchproxy.core.columns import ArrayColumn
from batchproxy.core.errors import BackendProtocolError, DecodeError
from batchproxy.core.request import BatchKey, Reply
from batchproxy.protos import v2_pb2 as pb
from tests.fuzz.inputs import near, weight

HELD = 256 << 10
"""Of a request of a kilobyte: as in ``codec_targets.py``."""

COLUMNS = {
    "x": ArrayColumn(np.array([[0.5, -1]], np.float32)),
    "s": ArrayColumn(np.array([b"", b"text"], np.object_)),
    "b": ArrayColumn(np.array([True, False])),
    "u": ArrayColumn(np.array([0, 2**64 - 1], np.uint64)),
}
KEY = BatchKey("m", 3, "other", (), ("y",), (), b'[{"a":1.5,"sequence_id":7},{"x":{"c":"d"}}]')
TARGET = v2_documents.Target("infer", "m")

_BODIES = [v2_rest.encode_infer_request(KEY, COLUMNS, binary=binary) for binary in (True, False)]
REQUESTS = [
    *(body for body, _ in _BODIES),
    b'{"inputs": [{"name": "x", "shape": [2], "datatype": "FP64", "data": [NaN, -Infinity]}]}',
    b'{"inputs": [{"name": "x", "shape": [1, 1], "datatype": "BYTES", "data": [["\\ud83d\\ude00"]]}], "id": "7"}',
    b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "parameters": {"shared_memory_region": "r"}}]}',
    b'{"outputs": [{"name": "y", "parameters": {"classification": 2}}], "inputs": []}',
    b'{"inputs": [{"name": "x", "shape": [0, 4611686018427387904], "datatype": "FP32", "data": []}]}',
]
MESSAGES = [v2_grpc.encode_infer_request(KEY, COLUMNS), v2_grpc.encode_model("m", 3)]
_CALL = InferCall("m", None, "7", {}, (), {"binary_data_output": True})
_REPLY = Reply(COLUMNS, 3)
ANSWERS = [v2_rest.encode_reply(_REPLY, _CALL)[0], v2_rest.encode_reply(_REPLY, InferCall("m", None, "", {}))[0]]
MESSAGES_OF_SERVERS = [v2_grpc.encode_reply(_REPLY, "m", "7")]
_FINAL = pb.ModelInferRequest(
    id="an id", parameters={v2_streams.WANTS_FINAL: pb.InferParameter(bool_param=True)}
).SerializeToString()
LENGTHS = st.sampled_from([str(length) for _, length in _BODIES if length]) | st.integers(0, 400).map(str) | st.none()


def _whole(columns: dict[str, ArrayColumn], nbytes: int) -> None:
    """Nothing was made up: no more elements than bytes came, and all of them can be looked at."""
    assert sum(column.array.size for column in columns.values()) <= nbytes


@given(near(REQUESTS), LENGTHS)
def v2_rest_requests(body: bytes, header: str | None) -> None:
    """A body is read, or its error says what is wrong with it."""
    try:
        call = v2_rest.parse_infer(TARGET, body, v2_rest.json_length(header, body))
    except DecodeError as error:
        v2_documents.encode_error(error)
        return
    call.extras()

    _whole(call.inputs, len(body))
    assert weight(call) <= HELD


@given(near(MESSAGES))
def v2_grpc_requests(message: bytes) -> None:
    """A message is read, or its error says what is wrong with it."""
    v2_grpc.model_named(message)
    try:
        v2_grpc.parse_model(message)
        call = v2_grpc.parse_infer(message)
    except DecodeError:
        return
    call.extras()

    _whole(call.inputs, len(message))


@given(near(ANSWERS), near(MESSAGES_OF_SERVERS), LENGTHS)
def v2_answers(body: bytes, message: bytes, header: str | None) -> None:
    """What servers say is read, or called what it is; of errors something is always told."""
    assert isinstance(v2_documents.decode_error(body), str)
    v2_rest.version_answered(body, header)
    v2_grpc.version_answered(message)
    for read in (
        lambda: v2_rest.decode_reply(body, header),
        lambda: v2_grpc.decode_reply(message),
        lambda: v2_documents.decode_metadata(body),
        lambda: v2_documents.decode_server_metadata(body),
        lambda: v2_grpc.decode_metadata(message),
        lambda: v2_grpc.decode_flag(message),
        lambda: v2_config.read_max_rows(body),
        lambda: v2_config.decode_max_rows(message),
    ):
        try:
            read()
        except BackendProtocolError:
            continue


@given(near([*MESSAGES, MESSAGES[0] + _FINAL]), st.binary(max_size=20))
def v2_stream_messages(message: bytes, response: bytes) -> None:
    """Whatever a caller of a stream sends, it can be told something, under an id that it sent."""
    v2_streams.of_sequence(message)
    v2_streams.encode_answer(message, response)
    failed = pb.ModelStreamInferResponse.FromString(v2_streams.encode_error(message, "no"))

    assert "no" == failed.error_message
    assert failed.infer_response.id.encode() in message


@given(st.text(max_size=60), st.sampled_from(["GET", "POST"]))
def v2_paths(path: str, method: str) -> None:
    """Any path is one of the protocol's that we know, or none."""
    for line in (path, "/v2" + path, "/v2/models/m" + path):
        try:
            v2_documents.parse_target(method, line)
        except DecodeError:
            continue


V2 = (v2_rest_requests, v2_grpc_requests, v2_answers, v2_stream_messages, v2_paths)
