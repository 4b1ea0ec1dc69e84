"""Tests of batchproxy.answering."""

from __future__ import annotations

import pytest

from batchproxy.answering import answer
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
