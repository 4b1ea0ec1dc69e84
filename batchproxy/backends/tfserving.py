"""One TF Serving process behind one or both of its doors: which call goes through which, and as what.

Arrays go by gRPC, rows of JSON by REST, relayed calls through the door that they came by. Turning one protocol into the
other is not done here.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import NamedTuple, Protocol

from batchproxy.backends.base import Begun, Stream
from batchproxy.backends.grpc_wire import GrpcWireDoor, StreamDoor
from batchproxy.backends.http import RestDoor
from batchproxy.backends.tls import ClientTls
from batchproxy.codecs import tfs_calls, tfs_example_rows, tfs_examples
from batchproxy.codecs.tfs_example_rows import ExampleTexts
from batchproxy.codecs.tfs_grpc import GET_MODEL_METADATA, GET_MODEL_STATUS, PREDICT, VersionStatus
from batchproxy.codecs.tfs_habits import Habits
from batchproxy.codecs.tfs_rows import INSTANCES, JsonRows, write_request
from batchproxy.codecs.tfs_splice import read_answer, read_results
from batchproxy.core.columns import Columns
from batchproxy.core.errors import BackendError, BackendProtocolError, BackendRejected, Code
from batchproxy.core.raw import GRPC, REST, Header, RawCall, RawReply
from batchproxy.core.request import BatchKey, Reply, Version
from batchproxy.core.shapes import ModelInfo
from batchproxy.wire.budget import Budget

ASK_S = 10.0
"""How long a question about a model may take: a server that is loading models answers late, not never."""

PROBE_S = 2.0
"""How long a server that is to be used again may take to say anything at all."""

AIO, WIRE = "aio", "wire"
"""The gRPC clients: ``grpc.aio``'s, and our own."""

_JSON: tuple[Header, ...] = (("content-type", "application/json"),)

_GATEWAY = frozenset({502, 503, 504})
"""What a gateway says of a server that it does not reach."""


class _GrpcDoor(StreamDoor, Protocol):
    """What makes gRPC calls; see ``GrpcDoor`` and ``GrpcWireDoor``."""

    name: str

    async def call(self, method: str, headers: Sequence[Header], body: bytes, timeout_s: float | None) -> RawReply: ...


class TfServingBackend:
    """A TF Serving process.

    Args:
        grpc: ``HOST:PORT`` or ``unix:/PATH``; None for no such door.
        rest: ``HOST:PORT``, or ``http://HOST:PORT`` or ``https://HOST:PORT``; None for no such door.
        static_headers: sent with each call, as (name, value) pairs; a caller's own of that name count more.
        grpc_client: ``AIO`` or ``WIRE``.
        habits: learns from its answers how it was started.
        budget: of the process, for large answers; left out, its own.
        grpc_tls: for gRPC within TLS; None for plain text.
        rest_tls: for ``https``; left out, the system's CAs are trusted.

    Raises:
        ConfigError: a file of those is not what it should be.
    """

    def __init__(
        self,
        *,
        grpc: str | None = None,
        rest: str | None = None,
        static_headers: Sequence[Header] = (),
        grpc_client: str = WIRE,
        habits: Habits | None = None,
        budget: Budget | None = None,
        grpc_tls: ClientTls | None = None,
        rest_tls: ClientTls | None = None,
    ) -> None:
        self._grpc = None if grpc is None else _open_grpc(grpc, grpc_client, grpc_tls, budget)
        self._rest = None if rest is None else RestDoor(rest, rest_tls, budget)
        self._static = tuple(static_headers)
        self._habits = habits or Habits()
        self.name = ",".join(door.name for door in (self._grpc, self._rest) if door is not None)

    def has(self, protocol: str) -> bool:
        """Whether calls of this protocol (``GRPC`` or ``REST``) can be sent."""
        return (self._grpc if protocol == GRPC else self._rest) is not None

    async def infer(self, key: BatchKey, columns: Columns, timeout_s: float | None = None) -> Reply:
        """Run a merged call: rows and examples that are texts of JSON by REST, anything else by gRPC.

        The server sees the headers of ``key.partition`` and the static ones, no caller's own (R5); where both have a
        name, the callers' value. A REST answer does not say which version it is of.
        """
        try:
            reply = await self._infer(key, columns, timeout_s)
        except BackendError as error:
            raise self._habits.refused(self.name, error) from None
        self._habits.answered(self.name, reply.columns)
        return reply

    async def _infer(self, key: BatchKey, columns: Columns, timeout_s: float | None) -> Reply:
        headers = self._with_static(key.partition)
        by_rest = _by_rest(columns)
        if by_rest is not None:
            return await self._infer_rest(key, by_rest, headers, timeout_s)
        examples = tfs_examples.examples_of(columns)
        if examples is not None:
            message = tfs_examples.write_request(key, examples)
            answer = await self._grpc_door().call(examples.method, headers, message, timeout_s)
            return tfs_examples.read_reply(answer.body)
        message = tfs_calls.encode_predict_request(key, columns)
        answer = await self._grpc_door().call(PREDICT, headers, message, timeout_s)
        return tfs_calls.decode_predict_reply(answer.body)

    async def _infer_rest(
        self, key: BatchKey, call: _RestCall, headers: Sequence[Header], timeout_s: float | None
    ) -> Reply:
        path = f"{tfs_calls.model_path(key.model, key.version)}:{call.verb}"
        answer = await self._rest_door().call("POST", path, (*_JSON, *headers), call.body, timeout_s)
        if answer.status != 200:
            raise BackendProtocolError(f"{self.name}: HTTP status {answer.status} in answer to {path}")
        return Reply(call.read(answer.body), 0, headers=answer.headers)

    async def relay(self, call: RawCall, timeout_s: float | None) -> RawReply:
        """Pass a call on through the door that it came by, with the static headers: they are this server's matter."""
        headers = self._with_static(call.headers)
        try:
            if call.protocol == GRPC:
                return await self._grpc_door().call(call.method, headers, call.body, timeout_s)
            return await self._rest_door().call(call.method, call.path, headers, call.body, timeout_s)
        except BackendError as error:
            self._habits.refused(self.name, error)
            raise

    def begin(
        self, call: RawCall, timeout_s: float | None, told: Callable[[RawReply | BackendError], None]
    ) -> Begun | None:
        """As ``relay``, by REST over a connection that is free."""
        if call.protocol != REST or self._rest is None:
            return None
        headers = self._with_static(call.headers)
        return self._rest.begin(call.method, call.path, headers, call.body, timeout_s, partial(self._told, told))

    def _told(self, told: Callable[[RawReply | BackendError], None], answer: RawReply | BackendError) -> None:
        if isinstance(answer, BackendError):
            self._habits.refused(self.name, answer)
        told(answer)

    def relay_stream(
        self, method: str, headers: Sequence[Header], messages: AsyncIterable[bytes], timeout_s: float | None = None
    ) -> AbstractAsyncContextManager[Stream]:
        """Pass on a gRPC call of any kind, both ways, as ``relay`` does; see ``GrpcDoor.stream``."""
        return self._grpc_door().stream(method, self._with_static(headers), messages, timeout_s)

    async def metadata(self, model: str, version: Version) -> ModelInfo:
        """Ask for a model's signatures and the version that answers: by gRPC where there is such a door."""
        if self._grpc is not None:
            question = tfs_calls.encode_metadata_request(model, version)
            answer = await self._grpc.call(GET_MODEL_METADATA, self._static, question, ASK_S)
            return tfs_calls.decode_metadata_reply(answer.body)
        path = tfs_calls.model_path(model, version) + "/metadata"
        return tfs_calls.decode_metadata_document((await self._get(path, ASK_S)).body)

    async def status(self, model: str, version: Version) -> tuple[VersionStatus, ...]:
        """Ask which versions of a model there are, and how they are; raises as ``metadata``."""
        if self._grpc is not None:
            question = tfs_calls.encode_status_request(model, version)
            answer = await self._grpc.call(GET_MODEL_STATUS, self._static, question, ASK_S)
            return tfs_calls.decode_status_reply(answer.body)
        return tfs_calls.decode_status_document((await self._get(tfs_calls.model_path(model, version), ASK_S)).body)

    async def probe(self) -> None:
        """Ask each door for the status of no model: a refusal is an answer, too."""
        if self._grpc is not None:
            question = tfs_calls.encode_status_request("", None)
            try:
                await self._grpc.call(GET_MODEL_STATUS, self._static, question, PROBE_S)
            except BackendRejected as error:
                _alive(error)
        if self._rest is not None:
            try:
                await self._get("/v1/models/", PROBE_S)
            except BackendError as error:
                _alive(error)

    async def aclose(self) -> None:
        for door in (self._grpc, self._rest):
            if door is not None:
                await door.aclose()

    def _with_static(self, headers: Sequence[Header]) -> Sequence[Header]:
        if not self._static:
            return headers
        theirs = {name.lower() for name, _ in headers}
        return (*(header for header in self._static if header[0].lower() not in theirs), *headers)

    async def _get(self, path: str, timeout_s: float) -> RawReply:
        return await self._rest_door().call("GET", path, self._static, b"", timeout_s)

    def _grpc_door(self) -> _GrpcDoor:
        if self._grpc is None:
            raise _no_door(self.name, GRPC, "grpc://HOST:PORT")
        return self._grpc

    def _rest_door(self) -> RestDoor:
        if self._rest is None:
            raise _no_door(self.name, REST, "http://HOST:PORT")
        return self._rest


class _RestCall(NamedTuple):
    """A merged call by REST: what is asked, with which body, and how the answer to it is taken apart."""

    verb: str
    body: bytes
    read: Callable[[bytes], Columns]


def _by_rest(columns: Columns) -> _RestCall | None:
    """The call for these columns; None where they are no texts."""
    first = next(iter(columns.values()), None)
    if isinstance(first, ExampleTexts):
        return _RestCall(first.shape_class.verb, tfs_example_rows.write_request(first), read_results)
    if not isinstance(first, JsonRows):
        return None
    rows = {name: column for name, column in columns.items() if isinstance(column, JsonRows)}
    row_form = first.shape_class.form == INSTANCES
    body = write_request(rows, first.shape_class.sent_signature, row_form)
    return _RestCall("predict", body, partial(read_answer, row_form=row_form))


def _open_grpc(target: str, client: str, tls: ClientTls | None, budget: Budget | None) -> _GrpcDoor:
    if client == WIRE:
        return GrpcWireDoor(target, tls, budget)
    from batchproxy.backends.grpc import GrpcDoor  # noqa: PLC0415 - loads grpcio, which the other client does without

    if tls is not None:
        tls.context(["h2"])  # says what is wrong with its files, which grpcio does not
    return GrpcDoor(target, tls)


def _alive(error: BackendError) -> None:
    """Raise the error again unless it is an answer of the server's own."""
    if error.raw is None or error.code == Code.DEADLINE_EXCEEDED or error.raw.status in _GATEWAY:
        raise error


def _no_door(name: str, protocol: str, wanted: str) -> BackendRejected:
    text = f"the server {name} has no {protocol} door: add {wanted} to its --backend"
    return BackendRejected(text, code=Code.UNIMPLEMENTED)
