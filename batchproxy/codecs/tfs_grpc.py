"""TF Serving's gRPC messages: bytes to calls, answers to bytes, with its checks in its order and its words.

No framing, no transport: a message here is what follows gRPC's five-byte prefix. Texts and their order are those of
tensorflow/serving ``servables/tensorflow/predict_util.cc``, ``get_model_metadata_impl.cc`` and
``model_servers/get_model_status_impl.cc``, and of tensorflow/tensorflow ``cc/saved_model/util.cc``.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from google.protobuf.any_pb2 import Any as AnyProto
from google.protobuf.message import DecodeError as ProtobufDecodeError
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from batchproxy.codecs import _dtypes, tensor_proto
from batchproxy.codecs.tfs_responses import encode_each as encode_each
from batchproxy.codecs.tfs_responses import encode_predict as encode_predict
from batchproxy.core.columns import ArrayColumn
from batchproxy.core.errors import BatchProxyError, Code, DecodeError, RequestError
from batchproxy.core.shapes import DEFAULT_SIGNATURE, ModelInfo, Signature, TensorSpec
from batchproxy.protos import tfs_pb2 as pb

PREDICT = "/tensorflow.serving.PredictionService/Predict"
CLASSIFY = "/tensorflow.serving.PredictionService/Classify"
REGRESS = "/tensorflow.serving.PredictionService/Regress"
MULTI_INFERENCE = "/tensorflow.serving.PredictionService/MultiInference"
GET_MODEL_METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
GET_MODEL_STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
RELOAD_CONFIG = "/tensorflow.serving.ModelService/HandleReloadConfigRequest"

METHODS = (PREDICT, CLASSIFY, REGRESS, MULTI_INFERENCE, GET_MODEL_METADATA, GET_MODEL_STATUS, RELOAD_CONFIG)
"""Every method of TF Serving's two services; all are unary. We answer Predict, GetModelMetadata and GetModelStatus."""

SIGNATURE_DEF = "signature_def"
"""The one metadata field there is."""

SIGNATURE_DEF_MAP_URL = "type.googleapis.com/tensorflow.serving.SignatureDefMap"
"""The real message's name, not our own: clients unpack the Any by it."""

MAX_STATUS_BYTES = 1024
"""A longer error text is cut (``model_servers/grpc_status_util.cc``): it travels in a header."""

M = TypeVar("M", bound=Message)


class Target(NamedTuple):
    """Which model a call means. At most one of ``version`` and ``label`` is set; 0 and "" are set, too.

    Attributes:
        model: its name; never empty, except for GetModelStatus, which finds no such model.
        version: the exact version asked for; None for none.
        label: the version label asked for; None for none.
    """

    model: str
    version: int | None = None
    label: str | None = None


@dataclass(slots=True, eq=False)
class PredictCall:
    """A PredictRequest; its tensors are still protobuf.

    Attributes:
        target: the model meant.
        signature_name: after defaulting, so never empty.
        output_filter: output aliases asked for, as sent; empty for all.
        inputs: input alias to TensorProto.
        spec: the model spec as sent.
        extras: fields of the request that are none of the above, unknown ones included, serialized; they may be
            appended to any request that is to say the same.
        odd: whether one of our own fields came with something in it that could not be read, and is in ``extras``.
    """

    target: Target
    signature_name: str
    output_filter: tuple[str, ...]
    inputs: Mapping[str, pb.TensorProto]
    spec: pb.ModelSpec
    extras: bytes = b""
    odd: bool = False

    @property
    def mergeable(self) -> bool:
        """Whether a merged request can say all that this one says: nothing unknown inside the spec or a tensor."""
        if self.odd or len(UnknownFieldSet(self.spec)) or len(UnknownFieldSet(self.spec.version)):
            return False
        return not any(map(has_unknown_fields, self.inputs.values()))


class State(enum.IntEnum):
    """``ModelVersionStatus.State``: where a version is in its life."""

    UNKNOWN = 0
    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


class VersionStatus(NamedTuple):
    """One version's line of a GetModelStatus answer; ``code`` and ``message`` say why a load failed."""

    version: int
    state: State = State.AVAILABLE
    code: Code = Code.OK
    message: str = ""


# ---------------------------------------------------------------- Predict


def parse_predict(message: bytes) -> PredictCall:
    """Read a PredictRequest.

    Raises:
        DecodeError: not a PredictRequest: INTERNAL, with an empty text, as gRPC's C++ server says it.
        RequestError: no model spec, or no model name.
    """
    request = _parse(pb.PredictRequest, message)
    target = _target(request)
    name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    extras, odd = (b"", False) if not len(UnknownFieldSet(request)) else _extras_of(message)
    return PredictCall(target, name, tuple(request.output_filter), request.inputs, request.model_spec, extras, odd)


def has_unknown_fields(proto: pb.TensorProto) -> bool:
    """Whether a tensor, or its shape, holds fields that we do not know."""
    shape = proto.tensor_shape
    return bool(
        len(UnknownFieldSet(proto)) or len(UnknownFieldSet(shape)) or any(len(UnknownFieldSet(d)) for d in shape.dim)
    )


def signature_of(info: ModelInfo, name: str) -> Signature:
    """The signature called ``name``; an empty name means ``serving_default``.

    Raises:
        RequestError: FAILED_PRECONDITION (REST answers another code and text).
    """
    name = name or DEFAULT_SIGNATURE
    signature = info.signatures.get(name)
    if signature is None:
        raise RequestError(f'Serving signature key "{name}" not found.', code=Code.FAILED_PRECONDITION)
    return signature


def decode_inputs(call: PredictCall, signature: Signature) -> dict[str, ArrayColumn]:
    """Check a call against its signature and turn its tensors into columns.

    In TF Serving's order: the inputs' count, then names and values, then the output filter, then dtypes. Shapes are
    left to the model. A signature that declares nothing takes any input, dtype and output name.

    Raises:
        RequestError: the first thing that is wrong.
        TooLarge: the inputs together claim more elements than ``tensor_proto.MAX_ELEMENTS`` without sending them.
    """
    sent = set(call.inputs)
    expected = set(signature.inputs) if signature.declared else sent
    if len(sent) != len(expected):
        raise RequestError(_size_mismatch(sent, expected))
    columns: dict[str, ArrayColumn] = {}
    left = tensor_proto.MAX_ELEMENTS
    for alias in sorted(expected):
        if alias not in sent:
            feed = signature.inputs[alias].name or alias
            raise RequestError(
                f"Signature input alias: {alias}(feed name: {feed}) not found in request and no default value "
                f"provided. Inputs expected to be in the request {{{_listed(sent)}}}, or default input alias set: "
            )
        array, filled_in = tensor_proto.read(call.inputs[alias], alias, left)
        left -= filled_in
        columns[alias] = ArrayColumn(array)
    if signature.declared:
        _check_filter(call.output_filter, signature)
        _check_dtypes(columns, signature)
    return columns


def version_of(message: bytes) -> int:
    """The version that a PredictResponse says it came from; 0 where it does not say, or is none."""
    try:
        return pb.PredictResponse.FromString(message).model_spec.version.value
    except ProtobufDecodeError:
        return 0


def model_named(message: bytes) -> str:
    """The model that a request of any method but Predict names; empty where it names none, or is no message.

    Classify, Regress, GetModelStatus and GetModelMetadata all have their model spec in field 1. MultiInference has
    tasks there, and a reload a configuration: they name no model that could be read so.
    """
    try:
        return pb.GetModelStatusRequest.FromString(message).model_spec.name
    except ProtobufDecodeError:
        return ""


# ---------------------------------------------------------------- GetModelStatus and GetModelMetadata


def parse_status(message: bytes) -> Target:
    """Read a GetModelStatusRequest. The real server looks at no label here, and takes an empty name for unknown.

    Raises:
        DecodeError: not a GetModelStatusRequest: INTERNAL, with an empty text.
        RequestError: no model spec.
    """
    return _target(_parse(pb.GetModelStatusRequest, message), named=False)


def encode_status(versions: Iterable[VersionStatus]) -> bytes:
    """A GetModelStatusResponse, newest version first."""
    response = pb.GetModelStatusResponse()
    for line in sorted(versions, reverse=True):
        entry = response.model_version_status.add(version=line.version, state=int(line.state))
        entry.status.SetInParent()  # there, and empty, where all is well
        entry.status.error_code = line.code
        entry.status.error_message = line.message
    return response.SerializeToString()


def parse_metadata(message: bytes) -> Target:
    """Read a GetModelMetadataRequest, which must ask for ``signature_def`` and nothing else.

    Raises:
        DecodeError: not a GetModelMetadataRequest: INTERNAL, with an empty text.
        RequestError: no model spec, no or unknown metadata fields, or no model name; in this order.
    """
    request = _parse(pb.GetModelMetadataRequest, message)
    target = _target(request, named=False)
    if not request.metadata_field:
        raise RequestError("GetModelMetadataRequest must specify at least one metadata_field")
    for field in request.metadata_field:
        if field != SIGNATURE_DEF:
            raise RequestError(f"Metadata field {field} is not supported")
    return _target(request) if not target.model else target


def encode_metadata(info: ModelInfo) -> bytes:
    """A GetModelMetadataResponse with all signatures, under the name and version that answer."""
    signatures = pb.SignatureDefMap()
    for name, signature in info.signatures.items():
        definition = signatures.signature_def[name]
        definition.method_name = signature.method_name
        for alias, spec in signature.inputs.items():
            _write_spec(alias, spec, definition.inputs[alias])
        for alias, spec in signature.outputs.items():
            _write_spec(alias, spec, definition.outputs[alias])
    response = pb.GetModelMetadataResponse()
    response.model_spec.name = info.name
    response.model_spec.version.value = info.version
    packed = AnyProto(type_url=SIGNATURE_DEF_MAP_URL, value=signatures.SerializeToString())
    response.metadata[SIGNATURE_DEF].CopyFrom(packed)
    return response.SerializeToString()


# ---------------------------------------------------------------- Classify and Regress


def parse_examples(message: bytes) -> tuple[Target, pb.ClassificationRequest]:
    """Read a ClassificationRequest or a RegressionRequest, which have the same fields.

    Raises:
        DecodeError: neither: INTERNAL, with an empty text.
        RequestError: no model spec, or no model name.
    """
    request = _parse(pb.ClassificationRequest, message)
    return _target(request), request


# ---------------------------------------------------------------- errors


def status_text(error: BatchProxyError) -> str:
    """The text of a gRPC status, cut as TF Serving cuts it; never in the middle of a character.

    >>> status_text(RequestError("Missing ModelSpec"))
    'Missing ModelSpec'
    """
    data = error.message.encode("utf-8", "replace")
    if len(data) <= MAX_STATUS_BYTES:
        return data.decode()
    return data[:MAX_STATUS_BYTES].decode("utf-8", "ignore") + "...TRUNCATED"


# ---------------------------------------------------------------- inside


def _parse(kind: type[M], message: bytes) -> M:
    try:
        return kind.FromString(message)
    except ProtobufDecodeError:
        raise DecodeError("", code=Code.INTERNAL) from None


def _extras_of(message: bytes) -> tuple[bytes, bool]:
    """The fields of a PredictRequest that ours does not have; whether a broken one of ours is among them."""
    rest = pb.PredictRequest.FromString(message)
    unread = UnknownFieldSet(rest)
    odd = any(unread[at].field_number in rest.DESCRIPTOR.fields_by_number for at in range(len(unread)))
    for field in rest.DESCRIPTOR.fields:
        rest.ClearField(field.name)
    return rest.SerializeToString(), odd


def _target(
    request: pb.PredictRequest | pb.ClassificationRequest | pb.GetModelStatusRequest | pb.GetModelMetadataRequest,
    *,
    named: bool = True,
) -> Target:
    if not request.HasField("model_spec"):
        raise RequestError("Missing ModelSpec")
    spec = request.model_spec
    if named and not spec.name:
        raise RequestError("ModelSpec has no name specified.")
    choice = spec.WhichOneof("version_choice")
    if choice == "version":
        return Target(spec.name, version=spec.version.value)
    if choice == "version_label":
        return Target(spec.name, label=spec.version_label)
    return Target(spec.name)


def _listed(names: Iterable[str]) -> str:
    return ",".join(sorted(names))


def _size_mismatch(sent: set[str], expected: set[str]) -> str:
    return (
        f"input size does not match signature: {len(sent)}!={len(expected)} len({{{_listed(sent)}}}) != "
        f"len({{{_listed(expected)}}}). Sent extra: {{{_listed(sent - expected)}}}. "
        f"Missing but required: {{{_listed(expected - sent)}}}."
    )


def _check_filter(output_filter: tuple[str, ...], signature: Signature) -> None:
    seen: set[str] = set()
    for alias in output_filter:
        if alias not in signature.outputs:
            raise RequestError(
                f"output tensor alias not found in signature: {alias} "
                f"Outputs expected to be in the set {{{_listed(signature.outputs)}}}."
            )
        if alias in seen:
            raise RequestError(f"duplicate output tensor alias: {alias}")
        seen.add(alias)


def _check_dtypes(columns: Mapping[str, ArrayColumn], signature: Signature) -> None:
    """TensorFlow's words for a wrong dtype; its argument numbers follow the sorted aliases of a TF 2 signature."""
    for index, (alias, column) in enumerate(columns.items()):
        sent = _dtypes.by_numpy(column.array.dtype)
        expected = signature.inputs[alias].dtype
        if sent.name != expected:
            wanted = _dtypes.short_name(expected)
            raise RequestError(f"Expects arg[{index}] to be {wanted} but {sent.short_name} is provided")


def _write_spec(alias: str, spec: TensorSpec, info: pb.TensorInfo) -> None:
    info.name = spec.name or alias
    info.dtype = _dtypes.declared_number(spec.dtype)
    shape = info.tensor_shape
    shape.SetInParent()
    if spec.shape is None:
        shape.unknown_rank = True
        return
    for size in spec.shape:
        shape.dim.add().size = -1 if size is None else size
