"""A call is its own waiter: one answer, or none when it was cancelled."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from batchproxy.core.columns import ArrayColumn
from batchproxy.core.errors import BatchProxyError, Code, DecodeError, QueueFull
from batchproxy.core.request import Entry, Reply, Request, build_request
from batchproxy.core.shapes import UNDECLARED
from batchproxy.frontends.call import Call, TooLong, recorder
from batchproxy.frontends.heavy import Heavy

REPLY = Reply({}, 1)
REQUEST = build_request(("m", 1, "s"), UNDECLARED, {"x": ArrayColumn(np.zeros(1))})


class Form:
    """Writes answers as tuples; refuses replies of version 13."""

    def reply(self, reply: Reply) -> Any:
        if reply.version == 13:
            raise DecodeError("cannot be written")
        if reply.version == 14:
            raise AttributeError("nobody foresaw this")
        return ("reply", reply.version)

    def error(self, error: BatchProxyError) -> Any:
        return ("error", error.message)


class LongForm(Form):
    """Has every answer written elsewhere."""

    def __init__(self, heavy: Heavy) -> None:
        self._heavy = heavy

    def reply(self, reply: Reply) -> Any:
        raise TooLong(self._heavy, lambda: ("long reply", reply.version))


class StubEngine:
    """Takes requests, or refuses them; remembers who left."""

    def __init__(self, refusal: BatchProxyError | None = None) -> None:
        self.refusal = refusal
        self.discarded: list[Entry] = []

    def submit(self, request: Request, waiter: Any) -> Entry:
        if self.refusal is not None:
            raise self.refusal
        return Entry(request, waiter, 0.0)

    def discard(self, entry: Entry) -> None:
        self.discarded.append(entry)


def a_call() -> tuple[Call[Any], list[Any], list[Code]]:
    """A call, its answers, and the codes it was recorded with."""
    answers: list[Any] = []
    codes: list[Code] = []

    def record(started: float, code: Code) -> None:
        assert started == 3.0
        codes.append(code)

    return Call(Form(), answers.append, record, 3.0), answers, codes


def test_a_reply_is_written_and_handed_over_once() -> None:
    """The engine's reply becomes the answer."""
    call, answers, codes = a_call()
    call.set_result(REPLY)

    assert call.done()
    assert [("reply", 1)] == answers
    assert [Code.OK] == codes


def test_a_reply_that_cannot_be_written_is_an_error() -> None:
    """A format's refusal is the caller's answer, not a crash."""
    call, answers, codes = a_call()
    call.set_result(Reply({}, 13))

    assert [("error", "cannot be written")] == answers
    assert [Code.INVALID_ARGUMENT] == codes


def test_a_format_that_breaks_leaves_nobody_waiting(caplog: pytest.LogCaptureFixture) -> None:
    """The caller is told that this is a bug, and the log where."""
    call, answers, codes = a_call()
    call.set_result(Reply({}, 14))

    assert [("error", "internal error: AttributeError. This is a bug.")] == answers
    assert [Code.INTERNAL] == codes
    assert "nobody foresaw this" in caplog.text


def test_a_refusal_by_the_engine_is_answered_at_once() -> None:
    """``start`` never raises."""
    call, answers, codes = a_call()
    call.start(StubEngine(QueueFull("full")), REQUEST)  # type: ignore[arg-type]

    assert [("error", "full")] == answers
    assert [Code.UNAVAILABLE] == codes


def test_a_cancelled_call_leaves_the_engine_and_answers_nobody() -> None:
    """The caller is gone: its entry is discarded, and the record says CANCELLED."""
    call, answers, codes = a_call()
    engine = StubEngine()
    call.start(engine, REQUEST)  # type: ignore[arg-type]
    call.cancel()
    call.cancel()

    assert call.done()
    assert 1 == len(engine.discarded)
    assert [] == answers
    assert [Code.CANCELLED] == codes


def test_cancelling_after_the_answer_does_nothing() -> None:
    """A connection that closes after its answer is no cancellation."""
    call, answers, codes = a_call()
    engine = StubEngine()
    call.start(engine, REQUEST)  # type: ignore[arg-type]
    call.set_result(REPLY)
    call.cancel()

    assert [] == engine.discarded
    assert [Code.OK] == codes
    assert 1 == len(answers)


def test_cancelling_before_the_start_is_remembered() -> None:
    """A call that never reached an engine can be cancelled, too."""
    call, answers, codes = a_call()
    call.cancel()

    assert call.done()
    assert [] == answers
    assert [Code.CANCELLED] == codes


def test_a_record_counts_the_code_and_the_time_since_the_start() -> None:
    """On the clock that it was given."""
    counted: list[tuple[Code, float]] = []
    record = recorder(lambda code, seconds: counted.append((code, seconds)), lambda: 7.5)
    record(5.0, Code.OK)

    assert [(Code.OK, 2.5)] == counted


@pytest.mark.parametrize("leaves", [True, False])
async def test_a_long_answer_is_written_elsewhere(leaves: bool) -> None:
    """A caller that leaves meanwhile is recorded as such, and the engine, which is through with it, hears nothing."""
    call, answers, codes = a_call()
    heavy, engine = Heavy(lambda: 0.0), StubEngine()
    call.form = LongForm(heavy)
    call.start(engine, REQUEST)  # type: ignore[arg-type]
    call.set_result(REPLY)
    before = list(answers)
    if leaves:
        call.cancel()
    await heavy.idle()
    heavy.close()

    assert [] == before
    assert ([] if leaves else [("long reply", 1)]) == answers
    assert [Code.CANCELLED if leaves else Code.OK] == codes
    assert [] == engine.discarded
