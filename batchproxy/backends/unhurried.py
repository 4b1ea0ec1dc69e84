"""A gRPC door for servers that do not survive it when a call is given up: all are left to end. No messages here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Sequence
from contextlib import AbstractAsyncContextManager

from batchproxy.backends.base import Stream
from batchproxy.backends.grpc_wire import GrpcCalls
from batchproxy.core.errors import BackendError, BackendRejected, Code
from batchproxy.core.raw import Header, RawReply
from batchproxy.tasks import Tasks
from batchproxy.wire.unpack import Message

LINGER_S = 30.0
"""A call that nobody waits for has so long to end: it is given up then after all, for the server hangs."""


class UnhurriedDoor:
    """Makes the unary calls of another door so that the server is neither told a deadline nor that a call is given up.

    Streamed calls are that door's own.

    Args:
        door: is closed with this one, which ends what is left.
    """

    def __init__(self, door: GrpcCalls) -> None:
        self.name = door.name
        self.door = door
        self._tasks = Tasks()

    async def call(self, method: str, headers: Sequence[Header], body: bytes, timeout_s: float | None) -> RawReply:
        """As the other door's. When cancelled, it still waits for the call to end: the server is at work on it.

        Raises:
            BackendError: as there; BackendRejected of DEADLINE_EXCEEDED after ``timeout_s``.
        """
        work = self._tasks.spawn(f"unhurried call of {method}", self._ended(method, headers, body))
        try:
            done, _ = await asyncio.wait([work], timeout=timeout_s)
        except asyncio.CancelledError:
            _give_up_later(work)
            await asyncio.wait([work])
            raise
        if not done:
            _give_up_later(work)
            raise BackendRejected(f"{self.name}: no answer in time", code=Code.DEADLINE_EXCEEDED)
        said = work.result()
        if isinstance(said, BackendError):
            raise said
        return said

    async def _ended(self, method: str, headers: Sequence[Header], body: bytes) -> RawReply | BackendError:
        try:
            return await self.door.call(method, headers, body, None)
        except BackendError as error:  # perhaps nobody is there any more to be told
            return error

    def stream(
        self, method: str, headers: Sequence[Header], messages: AsyncIterable[Message], timeout_s: float | None = None
    ) -> AbstractAsyncContextManager[Stream]:
        """The other door's."""
        return self.door.stream(method, headers, messages, timeout_s)

    async def aclose(self) -> None:
        """Close the other door; calls under way are lost."""
        await self._tasks.aclose()
        await self.door.aclose()


def _give_up_later(work: asyncio.Task[RawReply | BackendError]) -> None:
    """Nobody waits for it any longer."""
    asyncio.get_running_loop().call_later(LINGER_S, work.cancel)
