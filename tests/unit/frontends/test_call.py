"""A call is its own waiter: one answer, or none when it was cancelled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from batchproxy.core.columns import ArrayColumn
from batchproxy.core.errors import BatchProxyError, Code, DecodeError, QueueFull
from batchproxy.core.request import Entry, Reply, Request, build_request
from batchproxy.core.shapes import UNDECLARED
from batchproxy.frontends.call import Call, Recorder, TooLong
from batchproxy.frontends.heavy import Heavy
from batchproxy.histograms import Answered

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

    def submit(self, request: Request, waiter: Any, arrival: float) -> Entry:
        if self.refusal is not None:
            raise self.refusal
        return Entry(request, waiter, arrival)

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
    answered = Answered()
    record = Recorder(answered, lambda: 7.5)
    record(5.0, Code.NOT_FOUND)
    record.all([6.5, 7.0])

    assert {Code.NOT_FOUND: 1, Code.OK: 2} == answered.codes
    assert 2.5 + 1.0 + 0.5 == answered.seconds.total


class Caller(list[Any]):
    """Remembers answers, each of which it may be told beside others."""

    __call__ = list.append

    @staticmethod
    def respond_all(callers: Sequence[Caller], answers: Sequence[Any]) -> None:
        """Each is told its own."""
        for caller, answer in zip(callers, answers, strict=True):
            caller.append(("together", answer))


class Together(Form):
    """Writes the answers to several, unless one of them cannot be written; not if there is a version 12."""

    def replies(self, replies: Sequence[Reply]) -> list[Any] | None:
        answers = [self.reply(reply) for reply in replies]
        return None if ("reply", 12) in answers else answers


def calls_of(*versions: int, forms: Sequence[Form]) -> tuple[list[Call[Any]], list[Caller], list[Reply], Answered]:
    """Calls with these forms, who made them, the replies to them, and their record."""
    record, callers = Recorder(answered := Answered(), lambda: 1.0), [Caller() for _ in versions]
    calls = [Call(form, caller, record, 0.0) for form, caller in zip(forms, callers, strict=True)]
    return calls, callers, [Reply({}, version) for version in versions], answered


def test_calls_of_one_form_are_told_together() -> None:
    """Those that are done already are not told again, those of another form and kind of caller by themselves."""
    form = Together()
    calls, callers, replies, answered = calls_of(1, 2, 3, 4, forms=[form, form, Form(), form])
    calls[1].cancel()
    other: list[Any] = []
    calls.append(Call(form, other.append, Recorder(answered, lambda: 1.0), 0.0))
    Call.set_results(calls, [*replies, Reply({}, 5)])

    assert [[("together", ("reply", 1))], [], [("reply", 3)], [("together", ("reply", 4))]] == callers
    assert [("reply", 5)] == other
    assert all(call.done() for call in calls)
    assert {Code.OK: 4, Code.CANCELLED: 1} == answered.codes


def test_each_has_its_own_record() -> None:
    """Whoever it is told together with."""
    form = Together()
    calls, _, replies, answered = calls_of(1, 2, forms=[form, form])
    codes: list[Code] = []
    calls[1].record = lambda started, code: codes.append(code)
    Call.set_results(calls, replies)
    calls, _, replies, _ = calls_of(1, 2, forms=[form, form])
    calls[0].record = lambda started, code: codes.append(code)
    Call.set_results(calls, replies)

    assert {Code.OK: 1} == answered.codes
    assert [Code.OK] * 2 == codes


@pytest.mark.parametrize(("version", "says"), [(12, ("reply", 12)), (13, ("error", "cannot be written"))])
def test_what_cannot_be_written_together_is_written_for_each(version: int, says: Any) -> None:
    """And who cannot be answered fails alone."""
    form = Together()
    calls, callers, replies, answered = calls_of(1, version, forms=[form, form])
    Call.set_results(calls, replies)

    assert [[("reply", 1)], [says]] == callers
    assert 2 == sum(answered.codes.values())


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
