"""One TF Serving process behind one or both of its doors: which call goes through which, and as what.

Arrays go by gRPC where there is such a door, rows of JSON by REST, relayed calls through the door that they came by.
Turning one protocol into the other is not done here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, Unpack

from batchproxy.backends.grpc_wire import GrpcCalls
from batchproxy.backends.servers import AIO as AIO
from batchproxy.backends.servers import ASK_S, JSON, PROBE_S, Options, ServerBackend
from batchproxy.backends.servers import WIRE as WIRE
from batchproxy.codecs import grpc_health, tfs_calls, tfs_columns, tfs_example_rows, tfs_examples
from batchproxy.codecs.tfs_example_rows import ExampleTexts
from batchproxy.codecs.tfs_grpc import GET_MODEL_METADATA, GET_MODEL_STATUS, PREDICT, VersionStatus
from batchproxy.codecs.tfs_habits import Habits
from batchproxy.codecs.tfs_rows import INSTANCES, JsonRows, write_request
from batchproxy.codecs.tfs_splice import read_answer, read_results
from batchproxy.core.columns import Columns
from batchproxy.core.errors import BackendError, BackendProtocolError, BackendRejected, BackendUnavailable, Code
from batchproxy.core.raw import Header
from batchproxy.core.request import BatchKey, Reply, Version
from batchproxy.core.shapes import ModelInfo

_GATEWAY = frozenset({502, 503, 504})
"""What a gateway says of a server that it does not reach."""


class TfServingBackend(ServerBackend):
    """A TF Serving process.

    Args:
        habits: learns from its answers how it was started.
        options: as for ``ServerBackend``.

    Raises:
        ConfigError: a file of those is not what it should be.
    """

    def __init__(self, *, habits: Habits | None = None, **options: Unpack[Options]) -> None:
        super().__init__(**options)
        self._habits = habits or Habits()

    async def infer(self, key: BatchKey, columns: Columns, timeout_s: float | None = None) -> Reply:
        """Run a merged call: rows and examples that are texts of JSON by REST, anything else by gRPC, if it can be.

        Where there is no gRPC door, arrays are the columns of a REST call, whose key says in ``extras`` what comes back
        (``tfs_columns.expected``).

        The server sees the headers of ``key.partition`` and the static ones, no caller's own (R5); where both have a
        name, the callers' value. A REST answer does not say which version it is of.
        """
        try:
            reply = await self._infer(key, columns, timeout_s)
        except BackendError as error:
            raise self._refused(error) from None
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
        if self._grpc is None:
            body = tfs_columns.write_request(key, columns)
            by_rest = _RestCall("predict", body, partial(tfs_columns.read_answer, key=key))
            return await self._infer_rest(key, by_rest, headers, timeout_s)
        message = tfs_calls.encode_predict_request(key, columns)
        answer = await self._grpc_door().call(PREDICT, headers, message, timeout_s)
        return tfs_calls.decode_predict_reply(answer.body)

    async def _infer_rest(
        self, key: BatchKey, call: _RestCall, headers: Sequence[Header], timeout_s: float | None
    ) -> Reply:
        path = f"{tfs_calls.model_path(key.model, key.version)}:{call.verb}"
        answer = await self._rest_door().call("POST", path, (*JSON, *headers), call.body, timeout_s)
        if answer.status != 200:
            raise BackendProtocolError(f"{self.name}: HTTP status {answer.status} in answer to {path}")
        return Reply(call.read(answer.body), 0, headers=answer.headers)

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
        """Ask each door for the status of no model: a refusal is an answer, too. And for its health, by gRPC."""
        if self._grpc is not None:
            question = tfs_calls.encode_status_request("", None)
            try:
                await self._grpc.call(GET_MODEL_STATUS, self._static, question, PROBE_S)
            except BackendRejected as error:
                _alive(error)
            if not await self._healthy(self._grpc):
                raise BackendUnavailable(f"{self.name} says that it is not serving (grpc.health.v1)")
        if self._rest is not None:
            try:
                await self._get("/v1/models/", PROBE_S)
            except BackendError as error:
                _alive(error)

    async def _healthy(self, door: GrpcCalls) -> bool:
        """What it says of its health, where ``--enable_grpc_healthcheck_service`` makes it say anything."""
        try:
            answer = await door.call(grpc_health.CHECK, self._static, grpc_health.encode_request(), PROBE_S)
        except BackendRejected as error:
            _alive(error)
            return True
        return grpc_health.decode_answer(answer.body)

    def _refused(self, error: BackendError) -> BackendError:
        return self._habits.refused(self.name, error)


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


def _alive(error: BackendError) -> None:
    """Raise the error again unless it is an answer of the server's own."""
    if error.raw is None or error.code == Code.DEADLINE_EXCEEDED or error.raw.status in _GATEWAY:
        raise error
