"""One inference call of a network caller: its own waiter, answered exactly once. No wire format is known here.

Calls that rode together are told their answers together, and what is alike in them is done once (``Call.set_results``).
What that takes of a form, a record and a responder they need not have: then each call is told its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from itertools import compress
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from batchproxy.core.errors import BatchProxyError, Code
from batchproxy.core.request import Entry, Reply, Request
from batchproxy.engine import Engine
from batchproxy.observe import Counter

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


class Recorder:
    """The record of calls that are counted by ``counter``: their code, and the seconds since they came.

    Args:
        counter: of their kind.
        clock: monotonic seconds, that of their starts.
    """

    __slots__ = ("_clock", "_counter")

    def __init__(self, counter: Counter, clock: Callable[[], float]) -> None:
        self._counter = counter
        self._clock = clock

    def __call__(self, started: float, code: Code) -> None:
        self._counter.count(code, self._clock() - started)

    def all(self, started: Sequence[float]) -> None:
        """As ``__call__``, of calls that went well."""
        self._counter.count_all(_OK, started, self._clock())


class Call(Generic[Answer]):
    """A request on its way through the engine; its outcome is written by ``form`` and handed to ``respond``.

    Args:
        form: writes the outcome.
        respond: gets the answer; called exactly once, unless the call is cancelled before.
        record: told when it came (``started``) and its status code, for the records; as ``form``, it may be replaced.
        started: on the engine's clock, in seconds.

    Attributes:
        engine: what is to answer it; to be set before that, as the next one is, by whoever submits several at once.
        entry: what the engine has of it; None before that, and after its end.
        over: whether it was answered or cancelled.
        priority: what the caller asked for, one of ``policy.PRIORITIES``; None: nothing.
    """

    __slots__ = ("engine", "entry", "form", "over", "priority", "record", "respond", "started")

    def __init__(self, form: Format[Answer], respond: Callable[[Answer], None], record: Record, started: float) -> None:
        self.form = form
        self.respond = respond
        self.record = record
        self.started = started
        self.priority: int | None = None
        self.over = False
        self.engine: Engine | None = None
        self.entry: Entry | None = None

    def start(self, engine: Engine, request: Request) -> None:
        """Submit to the engine; that it is shutting down is answered at once, any other refusal in this turn."""
        if self.priority is not None:
            request.priority = self.priority
        try:
            self.entry = engine.submit(request, self, self.started)
            self.engine = engine
        except BatchProxyError as error:
            self.set_exception(error)

    def done(self) -> bool:
        """Whether it was answered or cancelled."""
        return self.over

    def set_result(self, result: Reply, /) -> None:
        """The engine's answer."""
        try:
            answer = self.form.reply(result)
        except BatchProxyError as error:
            self.set_exception(error)
        except TooLong as postponed:
            deadline = self.entry.request.deadline if self.entry is not None else None
            self.entry = None
            heavy, work, key = postponed.heavy, postponed.work, postponed.key
            if key is None:
                heavy.run(self, work, self._written, 0, deadline)
            else:
                heavy.write(key, self, work, self._written, partial(self.set_result, result), deadline)
        except Exception as error:
            logger.exception("an answer could not be written. This is a bug.")
            self.set_exception(internal_error(error))
        else:
            self.over = True
            self.entry = None  # as ``_finish``
            self.record(self.started, _OK)
            self.respond(answer)

    @staticmethod
    def set_results(calls: Sequence[Call[Answer]], results: Sequence[Reply], /) -> None:
        """``set_result`` of each.

        Args:
            calls: of one batch; those that are done are passed over.
            results: one for each.
        """
        if not Call._set_together(calls, results):
            for call, result in zip(calls, results, strict=True):
                if not call.over:
                    call.set_result(result)

    @staticmethod
    def _set_together(calls: Sequence[Call[Answer]], results: Sequence[Reply]) -> bool:
        """``set_result`` of those that are like the first one, if that can be done together; whether these are all."""
        first = calls[0]
        form, record, kind = first.form, first.record, type(first.respond)
        write, respond = getattr(form, "replies", None), getattr(kind, "respond_all", None)
        if write is None or respond is None:
            return False
        alike = [
            call.form is form and call.record is record and type(call.respond) is kind and not call.over
            for call in calls
        ]
        whole = all(alike)
        if not whole:
            calls, results = list(compress(calls, alike)), list(compress(results, alike))
        try:
            answers = write(results) if calls else None
        except Exception:  # noqa: BLE001  # whose fault that is will be found out one by one
            return False
        if answers is None:
            return False
        for call in calls:
            call.over = True
            call.entry = None  # as ``_finish``
        started = [call.started for call in calls]
        if isinstance(record, Recorder):
            record.all(started)
        else:
            for then in started:
                record(then, _OK)
        respond([call.respond for call in calls], answers)
        return whole

    def _written(self, answer: Answer) -> None:
        self._finish(answer, Code.OK)

    def set_exception(self, exception: BatchProxyError, /) -> None:
        """The engine's refusal, or ours."""
        self._finish(self.form.error(exception), exception.code)

    def _finish(self, answer: Answer, code: Code) -> None:
        self.over = True
        self.entry = None  # which knows us: apart, both go at once, and no garbage is left to collect
        self.record(self.started, code)
        self.respond(answer)

    def cancel(self, keep: object = None) -> None:
        """The caller is gone: nothing will be answered.

        Args:
            keep: is to live as long as the request, which may be part of a call under way.
        """
        if not self.over:
            self.over = True
            self.record(self.started, Code.CANCELLED)
            entry, self.entry = self.entry, None
            if entry is not None and keep is not None:
                entry.keep = keep
            if self.engine is not None and entry is not None:
                self.engine.discard(entry)


def internal_error(error: Exception) -> BatchProxyError:
    """What a caller is told of an error that nobody foresaw."""
    return BatchProxyError(f"internal error: {type(error).__name__}. This is a bug.", code=Code.INTERNAL)
