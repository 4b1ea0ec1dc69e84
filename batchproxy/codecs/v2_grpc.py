"""The Open Inference Protocol over gRPC: messages to calls, replies to messages, and the other way round. No transport.

A message here is what follows gRPC's five-byte prefix. Tensors are read raw or typed, and always written raw: that is
one copy of a buffer, and the only form that FP16 and BF16 have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from google.protobuf.message import DecodeError as ProtobufDecodeError
from google.protobuf.message import Message

from batchproxy.codecs import _dtypes, v2_calls, v2_tensors
from batchproxy.codecs.v2_calls import InferCall, Parameters, Said, Value
from batchproxy.codecs.v2_responses import encode_reply as encode_reply
from batchproxy.codecs.v2_responses import write_parameters, write_tensors
from batchproxy.core.columns import ArrayColumn, Columns
from batchproxy.core.errors import BackendProtocolError, DecodeError
from batchproxy.core.request import BatchKey, Reply, Version
from batchproxy.core.shapes import DEFAULT_SIGNATURE, ModelInfo, Signature, TensorSpec
from batchproxy.protos import v2_pb2 as pb

SERVICE = "/inference.GRPCInferenceService/"
SERVER_LIVE = SERVICE + "ServerLive"
SERVER_READY = SERVICE + "ServerReady"
SERVER_METADATA = SERVICE + "ServerMetadata"
MODEL_READY = SERVICE + "ModelReady"
MODEL_METADATA = SERVICE + "ModelMetadata"
MODEL_CONFIG = SERVICE + "ModelConfig"
MODEL_STATISTICS = SERVICE + "ModelStatistics"
MODEL_INFER = SERVICE + "ModelInfer"
MODEL_STREAM_INFER = SERVICE + "ModelStreamInfer"
REPOSITORY_INDEX = SERVICE + "RepositoryIndex"

METHODS = frozenset({
    SERVER_LIVE, SERVER_READY, SERVER_METADATA, MODEL_READY, MODEL_METADATA, MODEL_CONFIG, MODEL_STATISTICS,
    MODEL_INFER, REPOSITORY_INDEX,
})  # fmt: skip
"""The unary methods that say which model they mean, or need none. Triton's others, and streams, are passed on."""

_CONTENTS: Mapping[str, np.dtype[Any]] = {
    "bool_contents": np.dtype(np.bool_),
    "int_contents": np.dtype(np.int32),
    "int64_contents": np.dtype(np.int64),
    "uint_contents": np.dtype(np.uint32),
    "uint64_contents": np.dtype(np.uint64),
    "fp32_contents": np.dtype(np.float32),
    "fp64_contents": np.dtype(np.float64),
}
"""What the repeated number fields hold."""

M = TypeVar("M", bound=Message)


class ModelTarget(NamedTuple):
    """Which model a question is about."""

    model: str
    version: Version


# ---------------------------------------------------------------- requests


def parse_infer(message: bytes) -> InferCall:
    """Read a ModelInferRequest.

    Raises:
        DecodeError: it is none, or its tensors are not what they say they are.
    """
    request = _parse(pb.ModelInferRequest, message)
    if not request.model_name:
        raise DecodeError("ModelInferRequest names no model")
    odd = ""
    of_inputs: dict[str, Parameters] = {}
    for tensor in request.inputs:
        if tensor.parameters:
            parameters = _read_parameters(tensor.parameters)
            odd = odd or v2_calls.oddity(parameters)
            if own := v2_calls.own_parameters(parameters):
                of_inputs[tensor.name] = own
    of_outputs: dict[str, Parameters] = {}
    for output in request.outputs:
        if output.parameters:
            parameters = of_outputs[output.name] = _read_parameters(output.parameters)
            odd = odd or v2_calls.oddity(parameters)
    return InferCall(
        request.model_name,
        v2_calls.version_of(request.model_version),
        request.id,
        {} if odd else _read_tensors(request.inputs, request.raw_input_contents),
        tuple([output.name for output in request.outputs]),
        _read_parameters(request.parameters),
        of_inputs,
        of_outputs,
        odd,
    )


def encode_infer_request(key: BatchKey, columns: Columns) -> bytes:
    """The ModelInferRequest of a merged call, with raw tensors.

    Args:
        key: names the model, its version, the signature, the outputs wanted, and the parameters.
        columns: input name to ``ArrayColumn``.

    Raises:
        RequestError: a tensor of a type that the protocol does not have.
    """
    request = pb.ModelInferRequest(model_name=key.model, model_version=v2_calls.version_text(key.version))
    parameters, of_inputs = v2_calls.read_extras(key.extras)
    write_parameters(parameters, request.parameters)
    if key.signature != DEFAULT_SIGNATURE:
        request.parameters[v2_calls.SIGNATURE_NAME].string_param = key.signature
    write_tensors(columns, of_inputs, request.inputs, request.raw_input_contents)
    for name in key.outputs or ():
        request.outputs.add(name=name)
    return request.SerializeToString()


def parse_model(message: bytes) -> ModelTarget:
    """Read the request of any method that is about one model, but ModelInfer.

    Raises:
        DecodeError: it is no such message.
    """
    request = _parse(pb.ModelRequest, message)
    return ModelTarget(request.name, v2_calls.version_of(request.version))


def encode_model(model: str, version: Version) -> bytes:
    """A ModelReadyRequest, ModelMetadataRequest or ModelConfigRequest."""
    return pb.ModelRequest(name=model, version=v2_calls.version_text(version)).SerializeToString()


def model_named(message: bytes) -> str:
    """The model that a message of any of these methods names: field 1 of each; empty where there is none."""
    try:
        return pb.ModelRequest.FromString(message).name
    except ProtobufDecodeError:
        return ""


# ---------------------------------------------------------------- answers


def decode_reply(message: bytes) -> Reply:
    """A server's ModelInferResponse.

    Raises:
        BackendProtocolError: it is none, or its tensors are not what they say they are.
    """
    try:
        response = _parse(pb.ModelInferResponse, message)
        columns = _read_tensors(response.outputs, response.raw_output_contents)
    except DecodeError as error:
        raise BackendProtocolError(f"the server's ModelInferResponse: {error.message}") from None
    text = response.model_version
    reply = Reply(columns, v2_calls.version_number(text))
    of_outputs = {
        tensor.name: own
        for tensor in response.outputs
        if (own := v2_calls.own_parameters(_read_parameters(tensor.parameters)))
    }
    reply.memo[Said] = Said(text, _read_parameters(response.parameters), of_outputs)
    return reply


def version_answered(message: bytes) -> int:
    """The version that a ModelInferResponse says it came from; 0 where it names no number."""
    try:
        return v2_calls.version_number(pb.ModelRequest.FromString(message).version)  # the same two fields
    except ProtobufDecodeError:
        return 0


# ---------------------------------------------------------------- what is said of servers and models


def encode_flag(value: bool) -> bytes:
    """A ServerLiveResponse, ServerReadyResponse or ModelReadyResponse."""
    return pb.TrueOrFalse(value=value).SerializeToString()


def decode_flag(message: bytes) -> bool:
    """What such an answer says.

    Raises:
        BackendProtocolError: it is none.
    """
    return _answer(pb.TrueOrFalse, message).value


def encode_server_metadata(name: str, version: str, extensions: Sequence[str] = v2_calls.EXTENSIONS) -> bytes:
    """A ServerMetadataResponse."""
    return pb.ServerMetadataResponse(name=name, version=version, extensions=extensions).SerializeToString()


def decode_server_metadata(message: bytes) -> tuple[str, str]:
    """A server's name and its version, out of its ServerMetadataResponse.

    Raises:
        BackendProtocolError: it is none.
    """
    response = _answer(pb.ServerMetadataResponse, message)
    return response.name, response.version


def encode_metadata(info: ModelInfo, signature: Signature, platform: str = v2_calls.PLATFORM) -> bytes:
    """A ModelMetadataResponse."""
    response = pb.ModelMetadataResponse(name=info.name, versions=[str(info.version)], platform=platform)
    for specs, field in ((signature.inputs, response.inputs), (signature.outputs, response.outputs)):
        for name, spec in specs.items():
            field.add(name=name, datatype=_dtypes.v2_name(spec.dtype), shape=v2_calls.sizes_of(spec))
    return response.SerializeToString()


def decode_metadata(message: bytes) -> ModelInfo:
    """What a server's ModelMetadataResponse says.

    Raises:
        BackendProtocolError: it is none.
    """
    response = _answer(pb.ModelMetadataResponse, message)
    try:
        inputs, outputs = _specs(response.inputs), _specs(response.outputs)
    except DecodeError as error:
        raise BackendProtocolError(f"metadata of model {response.name!r}: {error.message}") from None
    return v2_calls.info_of(response.name, response.versions, inputs, outputs)


def encode_config(info: ModelInfo, signature: Signature) -> bytes:
    """Triton's ModelConfigResponse. ``max_batch_size`` is 0, which means that shapes have all of their axes."""
    response = pb.ModelConfigResponse()
    config = response.config
    config.name, config.platform, config.backend = info.name, v2_calls.PLATFORM, v2_calls.PLATFORM
    for specs, field in ((signature.inputs, config.input), (signature.outputs, config.output)):
        for name, spec in specs.items():
            row = _dtypes.by_v2(_dtypes.v2_name(spec.dtype))
            field.add(name=name, data_type=row.triton if row else 0, dims=v2_calls.sizes_of(spec))
    return response.SerializeToString()


def encode_index(models: Sequence[tuple[str, int]]) -> bytes:
    """Triton's RepositoryIndexResponse of models that are ready: names and versions."""
    response = pb.RepositoryIndexResponse()
    for name, version in models:
        response.models.add(name=name, version=str(version), state="READY")
    return response.SerializeToString()


# ---------------------------------------------------------------- inside


def _parse(kind: type[M], message: bytes) -> M:
    try:
        return kind.FromString(message)
    except ProtobufDecodeError:
        raise DecodeError(f"the message is no {kind.__name__}") from None


def _answer(kind: type[M], message: bytes) -> M:
    try:
        return _parse(kind, message)
    except DecodeError as error:
        raise BackendProtocolError(f"the server's answer: {error.message}") from None


def _specs(tensors: Sequence[pb.TensorMetadata]) -> dict[str, TensorSpec]:
    return {tensor.name: v2_calls.spec_of(tensor.name, tensor.datatype, tensor.shape) for tensor in tensors}


def _read_tensors(tensors: Sequence[pb.InferTensor], raw: Sequence[bytes]) -> dict[str, ArrayColumn]:
    """All tensors of a message: raw ones for all of them, or typed ones."""
    if raw and len(raw) != len(tensors):
        raise DecodeError(f"{len(raw)} raw buffers for {len(tensors)} tensors; send all of them raw, or none")
    columns: dict[str, ArrayColumn] = {}
    for at, tensor in enumerate(tensors):
        name = tensor.name
        if name in columns:
            raise DecodeError(f"tensor {name!r} is there twice")
        if not raw:
            columns[name] = _read_typed(tensor)
        elif tensor.HasField("contents") and tensor.contents.ByteSize():  # MLServer sends an empty one beside raw
            raise DecodeError(f"tensor {name!r} is sent raw and typed")
        else:
            columns[name] = v2_tensors.read_raw(name, tensor.datatype, tensor.shape, raw[at])
    return columns


def _read_typed(tensor: pb.InferTensor) -> ArrayColumn:
    name = tensor.name
    row = v2_tensors.row_of(name, tensor.datatype)
    shape, count = v2_tensors.shape_of(name, tensor.shape)
    if not row.contents:
        if not count:
            return ArrayColumn(np.empty(shape, row.numpy))
        raise DecodeError(f"tensor {name!r} is of datatype {row.v2}, which the protocol only sends raw")
    values = getattr(tensor.contents, row.contents)
    if len(values) != count:
        raise DecodeError(
            f"tensor {name!r} has {len(values)} elements in {row.contents}, its shape {list(shape)} takes {count}"
        )
    if row.name == "string":
        strings = np.empty(count, np.object_)
        strings[:] = list(values)
        return ArrayColumn(strings.reshape(shape))
    wire = _CONTENTS[row.contents]
    numbers = np.array(values, wire) if count else np.empty(0, wire)
    cast_ = numbers.astype(row.numpy, copy=False)
    if cast_.dtype != wire and not np.array_equal(cast_, numbers):
        raise DecodeError(f"tensor {name!r} holds a number that is no {row.v2}")
    return ArrayColumn(cast_.reshape(shape))


def _read_parameters(parameters: Mapping[str, pb.InferParameter]) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for name in parameters:
        parameter = parameters[name]
        choice = parameter.WhichOneof("parameter_choice")
        if choice is not None:
            found[name] = getattr(parameter, choice)
    return found
