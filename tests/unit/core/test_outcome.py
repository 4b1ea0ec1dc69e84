"""Tests of batchproxy.core.outcome."""

from __future__ import annotations

import pytest

from batchproxy.core.errors import (
    BackendLost,
    BackendProtocolError,
    BackendRejected,
    BackendTooBig,
    BackendUnavailable,
    Code,
    Unsplittable,
)
from batchproxy.core.outcome import Outcome, outcome_of


@pytest.mark.parametrize(
    ("codes", "outcome"),
    [
        ("INVALID_ARGUMENT FAILED_PRECONDITION OUT_OF_RANGE UNIMPLEMENTED INTERNAL", Outcome.REJECTED),
        ("UNKNOWN DATA_LOSS ABORTED ALREADY_EXISTS OK", Outcome.REJECTED),
        ("RESOURCE_EXHAUSTED", Outcome.TOO_BIG_OR_BUSY),
        ("UNAVAILABLE", Outcome.NOT_RUN),
        ("CANCELLED", Outcome.MAYBE_RUN),
        ("NOT_FOUND PERMISSION_DENIED UNAUTHENTICATED", Outcome.SAME_FOR_ALL),
        ("DEADLINE_EXCEEDED", Outcome.LATE),
    ],
)
def test_rulings_table(codes: str, outcome: Outcome) -> None:
    """Each status falls in its row of ruling R3's table; an error with status OK is an answer we cannot read."""
    found = {outcome_of(BackendRejected("no", code=Code[name])) for name in codes.split()}

    assert {outcome} == found


def test_classes_say_more_than_codes() -> None:
    """A refused connection ran nothing, a lost one may have, and an answer without rows is a case of its own."""
    assert Outcome.NOT_RUN is outcome_of(BackendUnavailable("refused"))
    assert Outcome.MAYBE_RUN is outcome_of(BackendLost("reset"))
    assert Outcome.TOO_BIG_OR_BUSY is outcome_of(BackendTooBig("64 rows"))
    assert Outcome.UNSPLITTABLE is outcome_of(Unsplittable("no rows"))
    assert Outcome.REJECTED is outcome_of(BackendProtocolError("not JSON"))
