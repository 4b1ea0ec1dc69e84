"""A model server that does as a test tells it, on the test's loop: grpcio's server around our codec. No tests here."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import numpy as np

from batchproxy import Client
from batchproxy.codecs import tfs_grpc
from batchproxy.core.columns import ArrayColumn, Columns
from batchproxy.core.errors import BatchProxyError, Code, RequestError
from batchproxy.core.request import Reply
from batchproxy.core.shapes import DEFAULT_SIGNATURE, ModelInfo, Signature, TensorSpec

FLOATS = Signature({"x": TensorSpec("float32", (None,))}, {"y": TensorSpec("float32", (None,))})


def doubled(columns: Columns) -> Columns:
    """``y = 2 * x``."""
    column = columns["x"]
    assert isinstance(column, ArrayColumn)
    return {"y": ArrayColumn(column.array * 2)}


class Scripted(grpc.GenericRpcHandler):  # type: ignore[misc]
    """One model called ``m``.

    Attributes:
        seen: the inputs of each Predict that could be read, as ``{alias: (dtype, list of values)}``.
        calls: the Predict calls, as parsed.
        metadata: of the last call.
        script: an error for each Predict to come; None for none.
        predict_gate: calls of Predict wait for it, once they are in ``seen``.
        metadata_gate: as ``predict_gate``, for questions about the model.
        entered: set whenever a Predict has come in.
        asked: released whenever a question about the model has come in; ``questions`` counts them.
        model: what it says of the model; None: ``refusal``.
    """

    def __init__(self, signature: Signature = FLOATS, answer: Callable[[Columns], Columns] = doubled) -> None:
        self.model: ModelInfo | None = ModelInfo("m", 3, {DEFAULT_SIGNATURE: signature})
        self.refusal: BatchProxyError = RequestError("no metadata here", code=Code.UNIMPLEMENTED)
        self.signature = signature
        self.answer = answer
        self.seen: list[Mapping[str, tuple[str, list[Any]]]] = []
        self.calls: list[tfs_grpc.PredictCall] = []
        self.metadata: list[tuple[str, Any]] = []
        self.script: deque[BatchProxyError | None] = deque()
        self.predict_gate, self.metadata_gate = asyncio.Event(), asyncio.Event()
        self.predict_gate.set()
        self.metadata_gate.set()
        self.entered = asyncio.Event()
        self.questions = 0
        self.asked = asyncio.Semaphore(0)
        self.port = 0

    @property
    def sizes(self) -> list[int]:
        """Rows of ``x`` in each Predict."""
        return [len(inputs["x"][1]) for inputs in self.seen]

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        method = {
            tfs_grpc.PREDICT: self.predict,
            tfs_grpc.GET_MODEL_METADATA: self.describe,
            tfs_grpc.GET_MODEL_STATUS: self.status,
        }[details.method]

        async def answer(body: bytes, context: Any) -> bytes:
            self.metadata = [tuple(pair) for pair in context.invocation_metadata()]
            try:
                return await method(body)
            except BatchProxyError as error:
                await context.abort(list(grpc.StatusCode)[error.code], error.message)
                raise

        return grpc.unary_unary_rpc_method_handler(answer)

    async def predict(self, body: bytes) -> bytes:
        call = tfs_grpc.parse_predict(body)
        self.calls.append(call)
        undeclared = tfs_grpc.decode_inputs(call, Signature(declared=False))
        self.seen.append({name: (c.array.dtype.name, c.array.tolist()) for name, c in undeclared.items()})
        self.entered.set()
        await self.predict_gate.wait()
        if self.script and (error := self.script.popleft()) is not None:
            raise error
        outputs = self.answer(tfs_grpc.decode_inputs(call, self.signature))
        version = 3 if call.target.version is None else call.target.version
        return tfs_grpc.encode_predict(Reply(outputs, version), "m", call.signature_name)

    async def describe(self, body: bytes) -> bytes:
        self.questions += 1
        self.asked.release()
        await self.metadata_gate.wait()
        if self.model is None:
            raise self.refusal
        return tfs_grpc.encode_metadata(self.model)

    async def status(self, body: bytes) -> bytes:
        if tfs_grpc.parse_status(body).model != "m":
            raise RequestError("no such model", code=Code.NOT_FOUND)
        lines = [tfs_grpc.VersionStatus(3), tfs_grpc.VersionStatus(4, tfs_grpc.State.LOADING, Code.UNKNOWN, "slow")]
        return tfs_grpc.encode_status(lines)

    @property
    def url(self) -> str:
        """For a client."""
        return f"grpc://127.0.0.1:{self.port}"


@asynccontextmanager
async def serving(scripted: Scripted) -> AsyncIterator[Scripted]:
    """Serve for as long as the block lasts: on a port of its own, the same one again the next time."""
    server = grpc.aio.server(handlers=(scripted,), options=(("grpc.so_reuseport", 0),))
    scripted.port = server.add_insecure_port(f"127.0.0.1:{scripted.port}")
    await server.start()
    try:
        yield scripted
    finally:
        await server.stop(None)


async def known(client: Client, server: Scripted) -> None:
    """The client learns the model's signature; the server forgets the calls that it took."""
    await client.predict("m", {"x": [0.0]})
    server.seen.clear()
    server.calls.clear()
    server.entered.clear()


def floats(*values: float) -> dict[str, Any]:
    """Inputs that need no conversion."""
    return {"x": np.array(values, np.float32)}
