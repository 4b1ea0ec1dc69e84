"""One server of the Open Inference Protocol: calls as its messages, errors in our terms. No callers here.

Triton, MLServer, KServe and OpenVINO Model Server. Merged calls go by gRPC where there is such a door, as raw buffers;
else by REST, as buffers where the server has the binary tensor data extension, as JSON where it has not. What is passed
on goes through the door that it came by.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Unpack

from batchproxy.backends.grpc_wire import GrpcCalls
from batchproxy.backends.servers import ASK_S, JSON, PROBE_S, Options, ServerBackend
from batchproxy.backends.unhurried import UnhurriedDoor
from batchproxy.codecs import v2_config, v2_documents, v2_grpc, v2_rest
from batchproxy.codecs.tfs_grpc import VersionStatus
from batchproxy.core.columns import Columns
from batchproxy.core.errors import (
    BackendError,
    BackendProtocolError,
    BackendRejected,
    BackendTooBig,
    BackendUnavailable,
    Code,
    RequestError,
)
from batchproxy.core.raw import Header
from batchproxy.core.request import BatchKey, Reply, Version
from batchproxy.core.shapes import DEFAULT_SIGNATURE, UNDECLARED, ModelInfo, Signature, TensorSpec

BINARY = "binary_tensor_data"
"""The extension's name in a server's metadata."""

BINARY_BY_NAME = frozenset({"kserve", "openvino model server"})
"""Servers that have it and do not say so (KServe 0.21; OpenVINO Model Server's documentation), in lower case."""

_TOO_MANY = re.compile(r"inference request batch-size must be <= \d+")
"""What Triton says above a model's ``max_batch_size`` (triton-inference-server/core ``src/infer_request.cc``)."""

_NO_SUCH_THING = frozenset({Code.NOT_FOUND, Code.UNIMPLEMENTED, Code.INVALID_ARGUMENT, BackendProtocolError.code})
"""What MLServer and KServe say of the configuration of a model that they have: nothing of the kind is known there."""

_STEADY = (2, 57)
"""Triton's first version (25.04) that survives it when gRPC calls are given up: before, one that is cancelled, or whose
deadline passes, just as its answer is ready may end the server by SIGSEGV (triton-inference-server/server#7368, #8034,
mended by #8078). Seen with 2.51: minutes of load, a second where callers are impatient."""

_VERSION = re.compile(r"(\d+)\.(\d+)\.")

_LENGTH = v2_rest.LENGTH_HEADER.lower()
_OCTETS: Header = ("content-type", "application/octet-stream")


class V2Backend(ServerBackend):
    """A server of the Open Inference Protocol.

    Args:
        models: named in the configuration: it can be called as soon as it has one of them, whatever else it loads.
        options: as for ``ServerBackend``.

    Raises:
        ConfigError: see there.

    Attributes:
        buffers: whether its REST door has the binary tensor data extension; None: it was not asked yet.
        configured: whether it tells the configuration of models, an extension of Triton's; False: not as of late.
    """

    scheme = "v2+"

    def __init__(self, models: Sequence[str] = (), **options: Unpack[Options]) -> None:
        super().__init__(**options)
        self._models = tuple(models)
        self.buffers: bool | None = None
        self.configured = True

    async def infer(self, key: BatchKey, columns: Columns, timeout_s: float | None = None) -> Reply:
        """Run a merged call; the server sees the headers of ``key.partition`` and the static ones (R5)."""
        headers = self._with_static(key.partition)
        if key.version == 0:  # what we call a version that the server does not name
            key = key._replace(version=None)
        try:
            if self._grpc is None:
                return await self._infer_rest(key, columns, headers, timeout_s)
            message = v2_grpc.encode_infer_request(key, columns)
            answer = await self._grpc.call(v2_grpc.MODEL_INFER, headers, message, timeout_s)
            return v2_grpc.decode_reply(answer.body)
        except BackendError as error:
            raise self._refused(error) from None
        except RequestError as error:  # a tensor that the protocol cannot carry
            raise BackendRejected(f"model {key.model!r}: {error.message}", code=error.code) from None

    async def _infer_rest(
        self, key: BatchKey, columns: Columns, headers: Sequence[Header], timeout_s: float | None
    ) -> Reply:
        if self.buffers is None:
            await self._ask_extensions()
        body, length = v2_rest.encode_infer_request(key, columns, binary=self.buffers is True)
        kind = JSON if length is None else (_OCTETS, (_LENGTH, str(length)))
        path = v2_documents.model_path(key.model, key.version, "infer")
        answer = await self._rest_door().call("POST", path, (*kind, *headers), body, timeout_s)
        if answer.status != 200:
            raise BackendProtocolError(f"{self.name}: HTTP status {answer.status} in answer to {path}")
        said = next((value for name, value in answer.headers if name == _LENGTH), None)
        return v2_rest.decode_reply(answer.body, said if isinstance(said, str) else None)

    async def metadata(self, model: str, version: Version) -> ModelInfo:
        """Ask for a model's tensors: they are its one signature. Of several versions the highest one answers.

        Triton is asked for ``max_batch_size``, too. Where that is 0, it does not batch the model itself, and shapes are
        whole: an open first axis counts as for any model (R5). Where it is 1, so is the first axis of every tensor.
        """
        asked = version or None  # 0: as in ``infer``
        if self._grpc is not None:
            question = v2_grpc.encode_model(model, asked)
            answer = await self._grpc.call(v2_grpc.MODEL_METADATA, self._static, question, ASK_S)
            info = v2_grpc.decode_metadata(answer.body)
        else:
            path = v2_documents.model_path(model, asked)
            info = v2_documents.decode_metadata((await self._get(path, ASK_S)).body)
        signatures = info.signatures
        if not any(signature.inputs for signature in signatures.values()):  # MLServer and KServe, left to themselves
            signatures = {DEFAULT_SIGNATURE: UNDECLARED}
        most = await self._max_rows(model, asked)
        if most == 1:
            signatures = {name: _of_one_row(signature) for name, signature in signatures.items()}
        concrete = asked if isinstance(asked, int) else info.version  # Triton lists all versions all the same
        return ModelInfo(model, concrete, signatures, most)

    async def status(self, model: str, version: Version) -> tuple[VersionStatus, ...]:
        """The version that answers: the protocol tells of no others. Raises as ``metadata``."""
        return (VersionStatus((await self.metadata(model, version)).version),)

    async def _max_rows(self, model: str, version: Version) -> int | None:
        """Rows that a model of Triton's takes at most; None: any number, or it is none of Triton's."""
        if not self.configured:
            return None
        try:
            if self._grpc is not None:
                question = v2_grpc.encode_model(model, version)
                answer = await self._grpc.call(v2_grpc.MODEL_CONFIG, self._static, question, ASK_S)
                return v2_config.decode_max_rows(answer.body)
            return v2_config.read_max_rows(
                (await self._get(v2_documents.model_path(model, version, "config"), ASK_S)).body
            )
        except (BackendRejected, BackendProtocolError) as error:
            if error.code not in _NO_SUCH_THING:
                raise
            self.configured = False
            return None

    async def probe(self) -> None:
        """Ask for a model of the configuration, else whether the server is ready: with all its models, many mean."""
        ready = False
        for model in self._models:
            ready = ready or await self._model_ready(model)
        if not ready and not await self._server_ready():
            raise BackendUnavailable(f"{self.name} says that it is not ready")
        self.configured = True  # it may be another server now
        if self._grpc is not None:
            self._grpc = await self._steady(self._grpc)
        if self._rest is not None:
            with suppress(BackendError):  # it is asked again where it has to be known
                await self._ask_extensions()  # every time: it may be another server now

    async def _model_ready(self, model: str) -> bool:
        try:
            if self._grpc is not None:
                question = v2_grpc.encode_model(model, None)
                answer = await self._grpc.call(v2_grpc.MODEL_READY, self._static, question, PROBE_S)
                return v2_grpc.decode_flag(answer.body)
            await self._get(v2_documents.model_path(model, None, "ready"), PROBE_S)
        except BackendRejected:
            return False
        return True

    async def _server_ready(self) -> bool:
        if self._grpc is not None:
            answer = await self._grpc.call(v2_grpc.SERVER_READY, self._static, b"", PROBE_S)
            if not v2_grpc.decode_flag(answer.body):
                return False
        if self._rest is not None:
            try:
                await self._get("/v2/health/ready", PROBE_S)
            except BackendRejected:
                return False
        return True

    async def _steady(self, door: GrpcCalls) -> GrpcCalls:
        """A door that this server survives."""
        try:
            answer = await door.call(v2_grpc.SERVER_METADATA, self._static, b"", PROBE_S)
            frail = is_frail(*v2_grpc.decode_server_metadata(answer.body))
        except BackendError:  # it is asked again with the next probe
            return door
        if frail:
            return door if isinstance(door, UnhurriedDoor) else UnhurriedDoor(door)
        return door.door if isinstance(door, UnhurriedDoor) else door

    async def _ask_extensions(self) -> None:
        name, extensions = v2_documents.decode_server_metadata((await self._get("/v2", ASK_S)).body)
        self.buffers = BINARY in extensions or name.lower() in BINARY_BY_NAME

    def _refused(self, error: BackendError) -> BackendError:
        if _TOO_MANY.search(error.message):
            return BackendTooBig(error.message, code=error.code, raw=error.raw)
        return error


def is_frail(name: str, version: str) -> bool:
    """Whether a server of this name and version may end when a gRPC call is given up (``_STEADY``).

    >>> is_frail("triton", "2.51.0"), is_frail("triton", "2.57.0"), is_frail("mlserver", "1.7.1")
    (True, False, False)
    """
    found = _VERSION.match(version)
    return name == "triton" and found is not None and (int(found[1]), int(found[2])) < _STEADY


def _of_one_row(signature: Signature) -> Signature:
    """A signature of which nothing can be merged, for the first axis is 1."""

    def fixed(specs: Mapping[str, TensorSpec]) -> dict[str, TensorSpec]:
        return {name: replace(spec, shape=(1, *(spec.shape or ())[1:])) for name, spec in specs.items()}

    return Signature(fixed(signature.inputs), fixed(signature.outputs), signature.declared)
