"""ModelStreamInfer: passed on to a server that has it, else each of its messages is one call of ours. No bytes here.

The stream belongs to the server that has the model of its first message, where that is one of the protocol with a gRPC
door: only that knows what a model of several answers to one request will say. Any other model is called once for each
message, as by ModelInfer, and so shares batches with everybody; answers leave in the order of their requests.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, Callable, Sequence
from typing import Protocol

from batchproxy.codecs import v2_grpc, v2_streams
from batchproxy.core.errors import BatchProxyError, Code
from batchproxy.core.raw import GRPC, Header, RawCall
from batchproxy.core.request import BatchKey
from batchproxy.engine import Engine
from batchproxy.frontends.call import Call
from batchproxy.frontends.directory import Directory
from batchproxy.frontends.grpc_answers import GrpcAnswer
from batchproxy.wire.http2_head import Refusal
from batchproxy.wire.unpack import Message

AHEAD = 64
"""Messages of one stream that are answered at a time: as many as fit a batch of the default size."""

AHEAD_BYTES = 8 << 20
"""And of how many bytes, at least one: the next ones stay where the caller's window holds them."""


class Unary(Protocol):
    """What answers one ModelInfer call; see ``V2Grpc.handle``."""

    def __call__(
        self, raw: RawCall, deadline: float | None, respond: Callable[[GrpcAnswer], None], started: float, /
    ) -> Call[GrpcAnswer] | None: ...


class InferStreams:
    """Tells which streams are passed on, and answers the others.

    Args:
        directory: the models.
        unary: answers one message.
        clock: monotonic seconds, the engines' own.
    """

    def __init__(self, directory: Directory, unary: Unary, clock: Callable[[], float]) -> None:
        self._directory = directory
        self._unary = unary
        self._clock = clock

    def home_of(self, first: bytes) -> tuple[Engine, BatchKey] | None:
        """The engine that passes on the stream which begins with this message, and for which model.

        None: it is answered here.
        """
        model = v2_grpc.model_named(first)
        pool = self._directory.remote(model)
        if pool is None or not pool.v2 or GRPC not in pool.doors:
            return None
        return pool.engine, BatchKey(model, v2_grpc.parse_model(first).version if model else None, "")

    async def answer(
        self,
        messages: AsyncIterable[Message],
        headers: Sequence[Header],
        timeout_s: float | None,
        turns: Turns,
    ) -> None:
        """Answer each message; returns when none will come any more, and all answers are sent.

        Args:
            messages: of the caller.
            headers: likewise, its own.
            timeout_s: what is left of its deadline.
            turns: takes the answers.
        """
        deadline = None if timeout_s is None else self._clock() + timeout_s
        try:
            async for packed in messages:
                message = await plain(packed)
                await turns.room(len(message), alone=v2_streams.of_sequence(message))
                turn = turns.begin(message)
                raw = RawCall(GRPC, v2_grpc.MODEL_INFER, "", headers, message)
                turn.call = self._unary(raw, deadline, turn.respond, self._clock())
            await turns.over()
        finally:
            turns.cancel()


class Turn:
    """A message that waits for its answer, and for those before it.

    Attributes:
        message: of the caller.
        call: what is under way for it.
        body: its answer; None: not yet.
    """

    __slots__ = ("_turns", "body", "call", "message")

    def __init__(self, turns: Turns, message: bytes) -> None:
        self._turns = turns
        self.message = message
        self.call: Call[GrpcAnswer] | None = None
        self.body: bytes | None = None

    def respond(self, answer: GrpcAnswer) -> None:
        """It is there."""
        if answer.code is Code.OK:
            self.body = v2_streams.encode_answer(self.message, answer.body)
        else:
            self.body = v2_streams.encode_error(self.message, answer.message)
        self._turns.go_on()


class Turns:
    """The answers of one stream on their way, in the order of their requests.

    Args:
        send: takes an answer; returns whether it takes another at once, else ``writable`` is called.
    """

    def __init__(self, send: Callable[[bytes], bool]) -> None:
        self._send = send
        self._waiting: deque[Turn] = deque()
        self._nbytes = 0
        self._held = False
        self._moved = asyncio.Event()

    def begin(self, message: bytes) -> Turn:
        """Its turn comes after all that have begun."""
        turn = Turn(self, message)
        self._waiting.append(turn)
        self._nbytes += len(message)
        return turn

    def go_on(self) -> None:
        """Send what may be sent."""
        waiting = self._waiting
        while waiting and not self._held and (body := waiting[0].body) is not None:
            self._nbytes -= len(waiting.popleft().message)
            self._held = not self._send(body)
        self._moved.set()

    def writable(self) -> None:
        """The caller takes more."""
        self._held = False
        self.go_on()

    async def room(self, nbytes: int, *, alone: bool = False) -> None:
        """Return when a message of so many bytes may begin; ``alone``: when nothing is under way."""
        while self._waiting and (alone or len(self._waiting) >= AHEAD or self._nbytes + nbytes > AHEAD_BYTES):
            await self._move()

    async def over(self) -> None:
        """Return when every answer is sent."""
        while self._waiting:
            await self._move()

    def cancel(self) -> None:
        """The caller is gone, or all is done: nothing more is sent."""
        while self._waiting:
            call = self._waiting.popleft().call
            if call is not None:
                call.cancel()

    async def _move(self) -> None:
        self._moved.clear()
        await self._moved.wait()


async def plain(message: Message) -> bytes:
    """A message that is to be read here.

    Raises:
        BatchProxyError: it cannot be inflated.
    """
    if isinstance(message, bytes):
        return message
    try:
        quick = message.quick()
        return quick if quick is not None else await asyncio.get_running_loop().run_in_executor(None, message.whole)
    except Refusal as refusal:
        raise BatchProxyError(refusal.text, code=Code(refusal.code)) from None
