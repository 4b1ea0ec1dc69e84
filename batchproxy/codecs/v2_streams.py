"""ModelStreamInfer of the Open Inference Protocol: what its messages are beside those of ModelInfer. No transport.

A request of the stream is a ModelInferRequest; an answer holds a ModelInferResponse, or the text of an error.
"""

from __future__ import annotations

from google.protobuf.message import DecodeError as ProtobufDecodeError

from batchproxy.codecs.tensor_proto import varint
from batchproxy.codecs.v2_calls import SEQUENCE
from batchproxy.protos import v2_pb2 as pb

WANTS_FINAL = "triton_enable_empty_final_response"
"""A parameter of requests: their last answer is to say that it is the last one (triton-inference-server/server
``docs/customization_guide/inference_protocols.md``, decoupled models)."""

_FINAL = pb.ModelInferResponse(parameters={"triton_final_response": pb.InferParameter(bool_param=True)})
_SAYS_FINAL = _FINAL.SerializeToString()
_WANTS_FINAL, _SEQUENCE = WANTS_FINAL.encode(), SEQUENCE.encode()


def encode_answer(request: bytes, response: bytes) -> bytes:
    """The answer to a request, of which the ModelInferResponse is given."""
    if _WANTS_FINAL in request and _read(request).parameters[WANTS_FINAL].bool_param:
        response += _SAYS_FINAL  # an entry of a map may follow anywhere
    return b"".join((b"\x12", varint(len(response)), response))  # infer_response = 2


def encode_error(request: bytes, text: str) -> bytes:
    """The answer that a request failed; as Triton does, it carries the request's id."""
    failed = pb.ModelInferResponse(id=_read(request).id)
    return pb.ModelStreamInferResponse(error_message=text, infer_response=failed).SerializeToString()


def of_sequence(request: bytes) -> bool:
    """Whether a request may be one of a sequence, whose requests are run one after the other."""
    return _SEQUENCE in request


def _read(request: bytes) -> pb.ModelInferRequest:
    try:
        return pb.ModelInferRequest.FromString(request)
    except ProtobufDecodeError:
        return pb.ModelInferRequest()
