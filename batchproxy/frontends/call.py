"""One inference call of a network caller: its own waiter, answered exactly once. No wire format is known here."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from batchproxy.core.errors import BatchProxyError, Code
from batchproxy.core.request import Entry, Reply, Request
from batchproxy.engine import Engine

if TYPE_CHECKING:
    from batchproxy.frontends.heavy import Heavy

logger = logging.getLogger("batchproxy.call")

_OK = Code.OK  # an enumeration's members are found in Python, 50 ns a time

Answer = TypeVar("Answer")
Record = Callable[[float, Code], None]


class TooLong(Exception):  # no error: it says who goes on
    """An answer is too long to be written in one turn of the loop.

    Args:
        heavy: who has the time.
        work: writes the answer; raises ``BatchProxyError`` where it cannot be written.
        key: equal for answers of which most of the work is the same; None: for no other.
    """

    def __init__(self, heavy: Heavy, work: Callable[[], Any], key: Hashable = None) -> None:
        super().__init__()
        self.heavy = heavy
        self.work = work
        self.key = key


class Format(Protocol[Answer]):  # type: ignore[misc]  # a protocol class may be invariant in what it makes
    """How one protocol writes the outcome of a call."""

    def reply(self, reply: Reply) -> Answer:
        """The answer of a call that went well.

        Raises:
            BatchProxyError: it cannot be written.
            TooLong: not here and now.
        """

    def error(self, error: BatchProxyError) -> Answer:
        """The answer of a call that did not."""


class Call(Generic[Answer]):
    """A request on its way through the engine; its outcome is written by ``form`` and handed to ``respond``.

    Args:
        form: writes the outcome.
        respond: gets the answer; called exactly once, unless the call is cancelled before.
        record: told when it came (``started``) and its status code, for the records; as ``form``, it may be replaced.
        started: on the engine's clock, in seconds.

    Attributes:
        priority: what the caller asked for, one of ``policy.PRIORITIES``; None: nothing.
    """

    __slots__ = ("_done", "_engine", "_entry", "_respond", "_started", "form", "priority", "record")

    def __init__(self, form: Format[Answer], respond: Callable[[Answer], None], record: Record, started: float) -> None:
        self.form = form
        self._respond = respond
        self.record = record
        self._started = started
        self.priority: int | None = None
        self._done = False
        self._engine: Engine | None = None
        self._entry: Entry | None = None

    def start(self, engine: Engine, request: Request) -> None:
        """Submit to the engine; a refusal is answered at once."""
        if self.priority is not None:
            request.priority = self.priority
        try:
            self._entry = engine.submit(request, self)
            self._engine = engine
        except BatchProxyError as error:
            self.set_exception(error)

    def done(self) -> bool:
        """Whether it was answered or cancelled."""
        return self._done

    def set_result(self, result: Reply, /) -> None:
        """The engine's answer."""
        try:
            answer = self.form.reply(result)
        except BatchProxyError as error:
            self.set_exception(error)
        except TooLong as postponed:
            deadline = self._entry.request.deadline if self._entry is not None else None
            self._entry = None
            heavy, work, key = postponed.heavy, postponed.work, postponed.key
            if key is None:
                heavy.run(self, work, self._written, 0, deadline)
            else:
                heavy.write(key, self, work, self._written, partial(self.set_result, result), deadline)
        except Exception as error:
            logger.exception("an answer could not be written. This is a bug.")
            self.set_exception(internal_error(error))
        else:
            self._done = True
            self._entry = None  # as ``_finish``
            self.record(self._started, _OK)
            self._respond(answer)

    def _written(self, answer: Answer) -> None:
        self._finish(answer, Code.OK)

    def set_exception(self, exception: BatchProxyError, /) -> None:
        """The engine's refusal, or ours."""
        self._finish(self.form.error(exception), exception.code)

    def _finish(self, answer: Answer, code: Code) -> None:
        self._done = True
        self._entry = None  # which knows us: apart, both go at once, and no garbage is left to collect
        self.record(self._started, code)
        self._respond(answer)

    def cancel(self, keep: object = None) -> None:
        """The caller is gone: nothing will be answered.

        Args:
            keep: is to live as long as the request, which may be part of a call under way.
        """
        if not self._done:
            self._done = True
            self.record(self._started, Code.CANCELLED)
            entry, self._entry = self._entry, None
            if entry is not None and keep is not None:
                entry.request.keep = keep
            if self._engine is not None and entry is not None:
                self._engine.discard(entry)


def recorder(count: Callable[[Code, float], None], clock: Callable[[], float]) -> Record:
    """A record of calls that are counted by ``count``: their code, and the seconds since they came."""

    def record(started: float, code: Code) -> None:
        count(code, clock() - started)

    return record


def internal_error(error: Exception) -> BatchProxyError:
    """What a caller is told of an error that nobody foresaw."""
    return BatchProxyError(f"internal error: {type(error).__name__}. This is a bug.", code=Code.INTERNAL)
