"""Questions about a model, put to the servers of a pool until one of them has it (R5). No wire format here.

The servers of a pool need not all have every model, and while they are replaced or load a new one, the one that was
asked may not have it yet. Its status and its metadata are asked for elsewhere then, and so are answers while no server
was seen to have the model; from then on `core.placement` knows who does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Protocol, TypeVar, cast

from batchproxy.core.errors import BackendError, BatchProxyError, Code
from batchproxy.core.raw import RawCall, RawReply
from batchproxy.core.request import Reply, Request, Version
from batchproxy.core.shapes import ModelInfo
from batchproxy.engine import Engine
from batchproxy.frontends.call import Call, Format, Record
from batchproxy.tasks import Tasks

T = TypeVar("T")
Answer = TypeVar("Answer")

_NO_LABEL = "Unrecognized servable version label"
"""How TF Serving's text begins where it has no such label, which it says of models that it does not have, too."""


class Server(Protocol):
    """What can be asked; see ``backends.base.Remote``."""

    async def relay(self, call: RawCall, timeout_s: float | None) -> RawReply: ...
    async def metadata(self, model: str, version: Version) -> ModelInfo: ...


def is_absent(error: BatchProxyError) -> bool:
    """Whether a server said that it does not have the model, its version or its label."""
    return isinstance(error, BackendError) and (error.code is Code.NOT_FOUND or error.message.startswith(_NO_LABEL))


async def ask_where_served(engine: Engine, ask: Callable[[Server], Awaitable[T]]) -> T:
    """Ask one server; where that does not have the model, the others, one after the other.

    Raises:
        BatchProxyError: what the first one said, where none has it; or why it could not be asked.
    """
    with engine.borrow() as server:
        try:
            return await ask(server)
        except BackendError as error:
            if not is_absent(error):
                raise
            for other in _others(engine, server):
                try:
                    return await ask(other)
                except BackendError:  # it has nothing to say, either
                    continue
            raise


def _others(engine: Engine, but: Server | None) -> Iterator[Server]:
    for endpoint in engine.scheduler.balancer.endpoints:
        if endpoint.up and (server := cast("Server", engine.backends[endpoint.name])) is not but:
            yield server


class Question(Call[Answer]):
    """A call about a model that is passed on: where the server does not have it, the others are asked.

    Args:
        form: as for ``Call``, and so are ``respond``, ``record`` and ``started``.
        respond: see there.
        record: see there.
        started: see there.
        tasks: of the owner.
    """

    __slots__ = ("_request", "_tasks")

    def __init__(
        self, form: Format[Answer], respond: Callable[[Answer], None], record: Record, started: float, tasks: Tasks
    ) -> None:
        super().__init__(form, respond, record, started)
        self._request: Request | None = None
        self._tasks = tasks

    def start(self, engine: Engine, request: Request) -> None:
        """See ``Call``."""
        self._request = request
        super().start(engine, request)

    def set_exception(self, exception: BatchProxyError, /) -> None:
        """What the first server said."""
        engine, request = self.engine, self._request
        if engine is None or request is None or not is_absent(exception) or len(engine.backends) == 1:
            super().set_exception(exception)
            return
        self._request = self.entry = None
        _ = self._tasks.spawn("elsewhere", self._ask_others(engine, request, exception))

    async def _ask_others(self, engine: Engine, request: Request, first: BatchProxyError) -> None:
        raw = request.raw
        assert raw is not None, "a question is passed on as it came. This is a bug."
        try:
            with engine.borrow(self._fail):  # so that a shutdown waits for it
                for server in _others(engine, None):  # the first one again: which one it was is not known
                    left_s = None if request.deadline is None else max(0.0, request.deadline - engine.clock())
                    try:
                        reply = Reply({}, 0, raw=await server.relay(raw, left_s))
                    except BackendError:
                        continue
                    if not self.done():
                        self.set_result(reply)
                    return
        except BatchProxyError:  # no server can be asked any more
            pass
        self._fail(first)

    def _fail(self, error: BatchProxyError) -> None:
        if not self.done():
            super().set_exception(error)


def call_or_question(
    request: Request,
    form: Format[Answer],
    respond: Callable[[Answer], None],
    record: Record,
    started: float,
    tasks: Tasks,
) -> Call[Answer]:
    """What carries a request: a question where nothing is known yet of who has its model."""
    if request.key.model:
        return Call(form, respond, record, started)
    return Question(form, respond, record, started, tasks)
