"""Tests of batchproxy.answering."""

from __future__ import annotations

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
