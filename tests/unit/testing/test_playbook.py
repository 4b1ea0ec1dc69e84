"""Tests of batchproxy.testing.playbook: its expectations hold where they should, and fail where they should."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from batchproxy.core.errors import BatchProxyError, Code
from batchproxy.core.outcome import Outcome
from batchproxy.core.policy import Policy
from batchproxy.testing import Playbook, a_request


def test_script_that_tells_what_happens() -> None:
    """Every step of a true story passes."""
    a, b, late = a_request(), a_request(first=1), a_request(deadline=0.5)
    play = Playbook({"m": Policy(max_batch_rows=2)}, endpoints=2, max_inflight=1)

    play.at(0.0).submit(a, b).expect_dispatch([a, b], to="e0").expect_wake(None).expect_waiting(a, b)
    play.at(0.1).settle(Outcome.REJECTED).expect_dispatch([a]).expect_dispatch([b])
    play.submit(late).settle(Outcome.REJECTED, of=b).expect_failed(b, Code.INVALID_ARGUMENT, "rows [1]")
    play.settle(Outcome.OK).expect_answered(a).cancel(late).sweep()
    play.at(0.2).submit(again := a_request(deadline=0.3)).at(0.3).sweep()

    play.expect_failed(again, Code.DEADLINE_EXCEEDED).expect_nothing()
    assert play.entry(a).waiter is play.waiter(a)
    assert [] == play.in_flight


def test_cancelled_callers_are_told_nothing() -> None:
    """As the engine does, the playbook asks before it tells."""
    a, b, c = a_request(), a_request(first=1), a_request(deadline=1.0)
    play = Playbook(max_inflight=1).submit(a, b).expect_dispatch([a, b]).submit(c)
    for request in (a, b, c):
        play.waiter(request).cancel()

    play.settle(Outcome.SAME_FOR_ALL, BatchProxyError("no")).at(2.0).sweep().expect_nothing()
    assert all(play.waiter(request).error is None for request in (a, b, c))


def test_cancelled_member_of_a_good_call_is_told_nothing() -> None:
    """The answer's slice is dropped."""
    a, b = a_request(), a_request()
    play = Playbook().submit(a, b).expect_dispatch([a, b]).cancel(a).settle(Outcome.OK).expect_answered(b)

    assert play.waiter(a).reply is None


REQUEST = a_request()


@pytest.mark.parametrize(
    "lie",
    [
        lambda play: play.expect_nothing(),
        lambda play: play.expect_dispatch([]),
        lambda play: play.expect_dispatch([REQUEST], to="e1"),
        lambda play: play.expect_dispatch([REQUEST]).expect_dispatch([REQUEST]),
        lambda play: play.expect_wake(None),
        lambda play: play.expect_answered(REQUEST),
        lambda play: play.expect_failed(REQUEST, Code.INTERNAL),
        lambda play: play.cancel(REQUEST).expect_waiting(REQUEST),
        lambda play: play.expect_dispatch([REQUEST]).settle(Outcome.LATE).expect_failed(REQUEST, Code.INTERNAL),
        lambda play: (
            play.expect_dispatch([REQUEST]).settle(Outcome.LATE).expect_failed(REQUEST, Code.INVALID_ARGUMENT, "other")
        ),
    ],
)
def test_script_that_lies(lie: Callable[[Playbook], object]) -> None:
    """Every expectation can fail."""
    play = Playbook().submit(REQUEST)

    with pytest.raises(AssertionError):
        lie(play)
