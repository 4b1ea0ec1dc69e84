"""Tests of batchproxy.answering."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import pytest

from batchproxy.answering import answer, answer_all
from batchproxy.core.errors import Draining
from batchproxy.core.request import Entry, Reply
from batchproxy.testing import StubWaiter, a_request


@pytest.mark.parametrize("said", [Reply({}, 1), Draining("bye")])
def test_a_waiter_is_told_once(said: Reply | Draining) -> None:
    """And not at all once it knows, or has gone."""
    entry = Entry(a_request(), waiter := StubWaiter(), 0.0)
    answer(entry, said)
    answer(entry, said)

    assert said in (waiter.reply, waiter.error)
    assert entry.home is None


def test_one_that_breaks_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Others come after it."""

    class Broken(StubWaiter):
        def set_result(self, result: Reply, /) -> None:
            raise RuntimeError("no")

    answer(Entry(a_request(), Broken(), 0.0), Reply({}, 1))

    assert ["model 'm': a caller could not be answered. This is a bug."] == [r.getMessage() for r in caplog.records]


def test_each_is_told_its_own(caplog: pytest.LogCaptureFixture) -> None:
    """One that breaks, and one that knows already, do not keep those after them from it."""

    class Broken(StubWaiter):
        def set_result(self, result: Reply, /) -> None:
            raise RuntimeError("no")

    waiters = [Broken(), StubWaiter(), StubWaiter()]
    members = [Entry(a_request(), waiter, 0.0) for waiter in waiters]
    earlier, replies = Reply({}, 1), [Reply({}, version) for version in (2, 3, 4)]
    answer(members[1], earlier)
    answer_all(members, replies)
    answer_all(members, ())

    assert [None, earlier, replies[2]] == [waiter.reply for waiter in waiters]
    assert [None] * 3 == [member.home for member in members]
    assert 1 == len(caplog.records)


class Joint(StubWaiter):
    """A kind that can be told together; raises where the first reply is of version 0."""

    together: ClassVar[list[int]] = []

    @staticmethod
    def set_results(waiters: Sequence[Joint], results: Sequence[Reply], /) -> None:
        Joint.together.append(len(waiters))
        for waiter, result in zip(waiters, results, strict=True):
            if not result.version:
                raise RuntimeError("no")
            if not waiter.done():
                waiter.set_result(result)


def test_those_of_a_kind_are_told_together() -> None:
    """Others, and those who know already, as ever; a lone one by itself."""
    waiters = [Joint(), StubWaiter(), Joint(), Joint()]
    members = [Entry(a_request(), waiter, 0.0) for waiter in waiters]
    replies = [Reply({}, version) for version in (1, 2, 3, 4)]
    answer(members[2], earlier := Reply({}, 9))
    Joint.together.clear()
    answer_all(members, replies)
    answer_all([Entry(a_request(), alone := Joint(), 0.0)], replies[:1])

    assert [replies[0], replies[1], earlier, replies[3]] == [waiter.reply for waiter in waiters]
    assert replies[0] is alone.reply
    assert [3] == Joint.together
    assert [None] * 4 == [member.home for member in members]


def test_a_kind_that_breaks_strands_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """Each is told by itself, then."""
    waiters = [Joint(), Joint()]
    replies = [Reply({}, 0), Reply({}, 1)]
    answer_all([Entry(a_request(), waiter, 0.0) for waiter in waiters], replies)

    assert replies == [waiter.reply for waiter in waiters]
    assert ["model 'm': a caller could not be answered. This is a bug."] == [r.getMessage() for r in caplog.records]
