"""What calls came to: rows, requests, waits, sizes; a batch that is sent again is counted where that is decided."""

from __future__ import annotations

import pytest

from batchproxy.core.counts import Counted, Counts, Times
from batchproxy.core.outcome import Outcome
from batchproxy.core.raw import REST, RawCall
from tests.unit.test_metrics import a_dispatch


def test_calls_that_went_well() -> None:
    """Each request has waited, and took as long as its call."""
    counted = Counted()
    counted.ended(a_dispatch(3, [1.0, 2.0], 4.0), Outcome.OK, 0.25)
    counted.ended(a_dispatch(3, [5.0, 5.5], 6.0), Outcome.OK, 0.5)
    counted.ended(a_dispatch(1, [7.0], 7.0), Outcome.OK, 0.125)
    counts = counted.of("m", 1)

    assert (13, 3, 7.125) == (counts.rows, counts.calls, counts.last)
    assert (Times(5, 6.5), Times(5, 1.625)) == (counts.queued, counts.computed)
    assert {6: Times(2, 0.75), 1: Times(1, 0.125)} == counts.sizes
    assert Times() == counts.failed
    assert Counts() == counted.of("m", 2) == counted.of("n", 1)


@pytest.mark.parametrize(
    ("outcome", "arrivals", "failed"),
    [
        (Outcome.REJECTED, [1.0, 2.0], Times()),
        (Outcome.REJECTED, [1.0], Times(1, 3.5)),
        (Outcome.SAME_FOR_ALL, [1.0, 2.0], Times(2, 6.0)),
        (Outcome.LATE, [1.0, 2.0], Times(2, 6.0)),
    ],
)
def test_calls_that_did_not(outcome: Outcome, arrivals: list[float], failed: Times) -> None:
    """Only where nobody tries again."""
    counted = Counted()
    counted.ended(a_dispatch(1, arrivals, 4.0), outcome, 0.5)

    assert Counts(failed=failed) == counted.of("m", 1)


def test_a_name_that_means_another_version() -> None:
    """What was counted under it stays with the version that it meant."""
    counted = Counted()
    counted.ended(a_dispatch(1, [1.0], 2.0), Outcome.OK, 0.25)
    counted.ended(a_dispatch(2, [3.0], 3.5), Outcome.OK, 0.5)
    counted.settle("m", 1, 7)
    counted.settle("m", None, 7)
    counted.ended(a_dispatch(2, [4.0, 4.0], 5.0), Outcome.REJECTED, 0.5)
    counted.ended(a_dispatch(2, [6.0], 6.5), Outcome.OK, 0.25)
    first = counted.of("m", 7)
    counted.settle("m", 1, 7)
    both = counted.of("m", 7)

    assert (5, 3, 6.75) == (both.rows, both.calls, both.last)
    assert (Times(3, 2.0), Times(3, 1.0)) == (both.queued, both.computed)
    assert {1: Times(1, 0.25), 2: Times(2, 0.75)} == both.sizes
    assert first is both
    assert Counts() == counted.of("m", 1)


@pytest.mark.parametrize(("method", "rows"), [("GET", 0), ("POST", 1)])
def test_questions_are_no_calls_of_a_model(method: str, rows: int) -> None:
    """REST's, that were passed on as they came."""
    counted, dispatch = Counted(), a_dispatch(1, [1.0], 2.0)
    dispatch.batch.entries[0].request.raw = RawCall(REST, method, "/v1/models/m", (), b"")
    counted.ended(dispatch, Outcome.OK, 0.25)

    assert rows == counted.of("m", 1).rows
