"""TF Serving's messages from a client's side: merged calls to bytes, answers to values. No transport, no callers here.

``tfs_grpc`` is the same protocol's other end. A request is written as TensorFlow's own client writes it: numbers as the
raw buffer, strings in their field. REST documents that tell of models are read here, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar
from urllib.parse import quote

import orjson
from google.protobuf.message import DecodeError as ProtobufDecodeError
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from batchproxy.codecs import _dtypes, tensor_proto
from batchproxy.codecs.tensor_proto import varint
from batchproxy.codecs.tfs_grpc import SIGNATURE_DEF, State, VersionStatus, has_unknown_fields
from batchproxy.core.columns import ArrayColumn, Column, Columns, TensorColumn
from batchproxy.core.errors import BackendProtocolError, Code, RequestError, Unsplittable
from batchproxy.core.request import BatchKey, Reply, Version
from batchproxy.core.shapes import ModelInfo, Signature, TensorSpec
from batchproxy.protos import tfs_pb2 as pb

MAX_TEXT = 1024
"""Characters kept of an error body that is no TF Serving document: enough to see whose page it is."""

M = TypeVar("M", bound=Message)
Buffer = bytes | memoryview

# ---------------------------------------------------------------- Predict


def encode_predict_request(key: BatchKey, columns: Columns) -> bytes:
    """A PredictRequest: the bytes of the tensors are joined once, here.

    Args:
        key: names the model, signature and outputs; its ``extras`` are fields of a PredictRequest, and are appended.
        columns: input alias to array.

    Raises:
        BackendProtocolError: a column that no TensorFlow type holds.
    """
    spec = _spec(key.model, key.version, key.signature).SerializeToString()
    parts: list[Buffer] = [b"\x0a", varint(len(spec)), spec]  # model_spec = 1
    for alias, column in columns.items():
        parts += _input(key, alias, column)
    for name in key.outputs or ():
        data = name.encode()
        parts += (b"\x1a", varint(len(data)), data)  # output_filter = 3
    parts.append(key.extras)
    return b"".join(parts)


def decode_predict_reply(message: bytes) -> Reply:
    """Read a PredictResponse.

    Returns:
        ``TensorColumn``s, views of the message where that holds raw buffers. ``extras`` is what else the server said,
        such that appending it to a response says it again; a model spec in it has no name, version or signature.

    Raises:
        BackendProtocolError: not a PredictResponse.
        Unsplittable: an output that we cannot read, so that each caller must get the server's own bytes.
    """
    response = _parse(pb.PredictResponse, message, "Predict")
    columns: dict[str, TensorColumn] = {}
    left = tensor_proto.MAX_ELEMENTS
    for alias, proto in response.outputs.items():
        try:
            array, filled_in = tensor_proto.read(proto, alias, left)
        except RequestError as error:
            raise Unsplittable(f"output {alias!r} cannot be read: {error.message}") from None
        left -= filled_in
        extras = _tensor_extras(proto) if has_unknown_fields(proto) else b""
        columns[alias] = TensorColumn(array, bool(proto.tensor_content), extras)
    version = response.model_spec.version.value
    return Reply(columns, version, _reply_extras(response))


# ---------------------------------------------------------------- metadata and status, gRPC


def encode_metadata_request(model: str, version: Version) -> bytes:
    """A GetModelMetadataRequest for the signatures, all that there is to ask for."""
    request = pb.GetModelMetadataRequest(model_spec=_spec(model, version))
    request.metadata_field.append(SIGNATURE_DEF)
    return request.SerializeToString()


def decode_metadata_reply(message: bytes) -> ModelInfo:
    """Read a GetModelMetadataResponse; a dtype that we do not carry keeps TensorFlow's name, such as DT_RESOURCE.

    Raises:
        BackendProtocolError: no such message, or none that tells of signatures.
    """
    response = _parse(pb.GetModelMetadataResponse, message, "GetModelMetadata")
    if SIGNATURE_DEF not in response.metadata:
        raise BackendProtocolError(f"the server's answer to GetModelMetadata has no {SIGNATURE_DEF!r}")
    definitions = _parse(pb.SignatureDefMap, response.metadata[SIGNATURE_DEF].value, "GetModelMetadata").signature_def
    signatures = {
        name: Signature(
            {alias: _tensor_spec(info) for alias, info in definition.inputs.items()},
            {alias: _tensor_spec(info) for alias, info in definition.outputs.items()},
            method_name=definition.method_name,
        )
        for name, definition in definitions.items()
    }
    return ModelInfo(response.model_spec.name, response.model_spec.version.value, signatures)


def encode_status_request(model: str, version: Version) -> bytes:
    """A GetModelStatusRequest; without a version it asks for all of them."""
    return pb.GetModelStatusRequest(model_spec=_spec(model, version)).SerializeToString()


def decode_status_reply(message: bytes) -> tuple[VersionStatus, ...]:
    """Read a GetModelStatusResponse: one line a version, in the server's order.

    Raises:
        BackendProtocolError: no such message.
    """
    lines = _parse(pb.GetModelStatusResponse, message, "GetModelStatus").model_version_status
    return tuple(
        VersionStatus(line.version, _state(line.state), _code(line.status.error_code), line.status.error_message)
        for line in lines
    )


# ---------------------------------------------------------------- the same, REST


def model_path(model: str, version: Version) -> str:
    """The path of a model; ``:predict`` or ``/metadata`` may follow. TF Serving splits it before it unquotes it.

    >>> model_path("a/b", 3), model_path("m", "stable"), model_path("m", None)
    ('/v1/models/a%2Fb/versions/3', '/v1/models/m/labels/stable', '/v1/models/m')
    """
    path = f"/v1/models/{quote(model, safe='')}"
    if version is None:
        return path
    return f"{path}/versions/{version}" if isinstance(version, int) else f"{path}/labels/{quote(version, safe='')}"


def decode_metadata_document(body: bytes) -> ModelInfo:
    """Read the answer to ``GET .../metadata``; as ``decode_metadata_reply``."""
    try:
        found = orjson.loads(body)
        definitions = found["metadata"]["signature_def"]["signature_def"]
        signatures = {
            name: Signature(
                _tensor_specs(definition["inputs"]),
                _tensor_specs(definition["outputs"]),
                method_name=definition["method_name"],
            )
            for name, definition in definitions.items()
        }
        return ModelInfo(found["model_spec"]["name"], int(found["model_spec"]["version"]), signatures)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise _no_document("metadata", error) from None


def decode_status_document(body: bytes) -> tuple[VersionStatus, ...]:
    """Read the answer to ``GET /v1/models/M``; as ``decode_status_reply``."""
    try:
        return tuple(
            VersionStatus(
                int(line["version"]),
                State[line["state"]],
                _code_named(line["status"]["error_code"]),
                line["status"]["error_message"],
            )
            for line in orjson.loads(body)["model_version_status"]
        )
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise _no_document("status", error) from None


def decode_error_document(body: bytes, otherwise: str) -> str:
    """The text of ``{"error": "..."}``; of any other body its beginning, or ``otherwise`` where it is empty.

    >>> decode_error_document(b'{"error": "no"}', "Bad Request"), decode_error_document(b"", "Bad Request")
    ('no', 'Bad Request')
    """
    try:
        text = orjson.loads(body)["error"]
    except (ValueError, LookupError, TypeError):
        text = None
    return text if isinstance(text, str) else body[:MAX_TEXT].decode("utf-8", "replace") or otherwise


# ---------------------------------------------------------------- inside


def _parse(kind: type[M], message: bytes, method: str) -> M:
    try:
        return kind.FromString(message)
    except ProtobufDecodeError:
        raise BackendProtocolError(f"the server's answer to {method} is no {kind.DESCRIPTOR.name}") from None


def _spec(model: str, version: Version, signature: str = "") -> pb.ModelSpec:
    spec = pb.ModelSpec(name=model, signature_name=signature)
    if isinstance(version, str):
        spec.version_label = version
    elif version is not None:
        spec.version.SetInParent()  # version 0 is a version
        spec.version.value = version
    return spec


def _input(key: BatchKey, alias: str, column: Column) -> list[Buffer]:
    """One entry of ``inputs``, field 2: its name is field 1 of the entry, its tensor field 2."""
    if not isinstance(column, ArrayColumn):
        raise BackendProtocolError(f"model {key.model!r}: input {alias!r} is no array. This is a bug.")
    head = pb.TensorProto()
    tensor: list[Buffer]
    try:
        if column.array.dtype.kind in "OSU":
            tensor_proto.write(column.array, head)
            tensor = [head.SerializeToString()]
        else:
            tensor_proto.write_head(column.array, head)
            content = tensor_proto.content_of(column.array)
            tensor = [head.SerializeToString(), b"\x22", varint(len(content)), content]  # tensor_content = 4
    except BackendProtocolError as error:
        raise BackendProtocolError(f"model {key.model!r}, input {alias!r}: {error.message}") from None
    name = alias.encode()
    entry = [b"\x0a", varint(len(name)), name, b"\x12", varint(sum(map(len, tensor))), *tensor]
    return [b"\x12", varint(sum(map(len, entry))), *entry]


def _tensor_extras(proto: pb.TensorProto) -> bytes:
    """What a tensor holds beside what we read of it, as a TensorProto of its own."""
    rest = pb.TensorProto()
    rest.CopyFrom(proto)
    for field in rest.DESCRIPTOR.fields:
        rest.ClearField(field.name)
    return rest.SerializeToString()


def _reply_extras(response: pb.PredictResponse) -> bytes:
    """What a response holds beside outputs, name, version and signature. Takes ``response`` apart."""
    response.ClearField("outputs")
    spec = response.model_spec
    for name in ("name", "version", "signature_name"):
        spec.ClearField(name)
    if not spec.ByteSize():
        response.ClearField("model_spec")
    extras = response.SerializeToString()
    if extras:
        unread = UnknownFieldSet(response)
        if any(unread[at].field_number in response.DESCRIPTOR.fields_by_number for at in range(len(unread))):
            raise Unsplittable("an output of the server's answer holds fields that batchproxy does not know")
    return extras


def _tensor_spec(info: pb.TensorInfo) -> TensorSpec:
    unknown_rank = info.tensor_shape.unknown_rank or not info.HasField("tensor_shape")
    return _spec_of(_dtypes.declared(info.dtype), (dim.size for dim in info.tensor_shape.dim), unknown_rank, info.name)


_NAMES = {row.tf_name: row.name for row in _dtypes.TABLE}


def _tensor_specs(tensors: Mapping[str, Any]) -> dict[str, TensorSpec]:
    specs = {}
    for alias, info in tensors.items():
        shape = info.get("tensor_shape", {"unknown_rank": True})
        sizes = () if shape["unknown_rank"] else tuple(int(dim["size"]) for dim in shape["dim"])
        specs[alias] = _spec_of(
            _NAMES.get(info["dtype"], info["dtype"]), sizes, shape["unknown_rank"], info.get("name")
        )
    return specs


def _spec_of(dtype: str, sizes: Iterable[int], unknown_rank: bool, name: str | None) -> TensorSpec:
    return TensorSpec(dtype, None if unknown_rank else tuple(None if size < 0 else size for size in sizes), name or "")


def _state(number: int) -> State:
    try:
        return State(number)
    except ValueError:
        return State.UNKNOWN


def _code(number: int) -> Code:
    try:
        return Code(number)
    except ValueError:
        return Code.UNKNOWN


def _code_named(name: str) -> Code:
    return Code.__members__.get(name, Code.UNKNOWN)


def _no_document(what: str, error: Exception) -> BackendProtocolError:
    return BackendProtocolError(f"the server's {what} cannot be read ({type(error).__name__}: {error})")
