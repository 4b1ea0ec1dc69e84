"""The seam to whatever runs a model: one merged call in, one answer out. No batching decisions here."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from batchproxy.core.columns import Columns
from batchproxy.core.errors import BackendError
from batchproxy.core.raw import Header, RawCall, RawReply
from batchproxy.core.request import BatchKey, Reply, Version
from batchproxy.core.shapes import ModelInfo, Signature
from batchproxy.wire.unpack import Message


class Backend(Protocol):
    """One endpoint's transport."""

    async def infer(self, key: BatchKey, columns: Columns, timeout_s: float | None = None) -> Reply:
        """Run one call.

        Args:
            key: names the model, the signature and the outputs wanted.
            columns: the inputs, merged.
            timeout_s: how long its callers will wait; servers are told, embedded models are cancelled.

        When cancelled, it returns only once the work has really stopped, so that a slot is never
        given away while its call still runs.

        Raises:
            BackendError: whatever went wrong, in our terms; nothing else escapes.
        """

    async def probe(self) -> None:
        """Return if the model can be called, else raise ``BackendError``."""

    async def aclose(self) -> None:
        """Free threads, files and connections. Calls in flight are finished by the engine before."""


class Embedded(Backend, Protocol):
    """A model in our own process."""

    @property
    def version(self) -> int:
        """The concrete model version that answers; the highest of several."""

    @property
    def signatures(self) -> Mapping[str, Signature]:
        """Signature name to what the model says of it."""


class Stream(Protocol):
    """The server's side of a relayed gRPC call: metadata, then messages, then a status, which there always is."""

    @property
    def encoding(self) -> bytes:
        """Of compressed messages, known with the metadata; empty where there will be none."""

    async def headers(self) -> Sequence[Header]: ...
    def messages(self) -> AsyncIterator[Message]: ...
    async def status(self) -> tuple[int, str, Sequence[Header]]: ...


class Begun(Protocol):
    """A call under way."""

    def cancel(self) -> None:
        """Nobody waits for it any more: its server is told, if it can be."""


class Remote(Backend, Protocol):
    """A model server."""

    async def relay(self, call: RawCall, timeout_s: float | None) -> RawReply:
        """Pass a call on as it came, and its answer as it comes; returns only what the server called a success.

        Raises:
            BackendRejected: the server refused; ``raw`` is its answer.
            BackendUnavailable: it did not run; ``raw`` is the server's answer, if it was that which said so.
            BackendLost: it may have run.
        """

    def begin(
        self, call: RawCall, timeout_s: float | None, told: Callable[[RawReply | BackendError], None]
    ) -> Begun | None:
        """As ``relay``, where nothing has to be waited for before the call is sent.

        Args:
            call: as it came.
            timeout_s: how long its caller will wait.
            told: gets the answer, or what ``relay`` would raise: once, later, and not after ``cancel()``.

        Returns:
            None: something has to be waited for, and nothing was sent.
        """

    def relay_stream(
        self, method: str, headers: Sequence[Header], messages: AsyncIterable[Message], timeout_s: float | None = None
    ) -> AbstractAsyncContextManager[Stream]:
        """Pass on a gRPC call of any kind, both ways.

        Args:
            method: full path.
            headers: the caller's own, and ``grpc-encoding`` and ``grpc-accept-encoding`` where it has said such.
            messages: the caller's, compressed where they came so.
            timeout_s: how long it may take in all.
        """

    async def metadata(self, model: str, version: Version) -> ModelInfo:
        """What the server says of a model.

        Raises:
            BackendError: it does not have it, or cannot say.
        """
