"""What became of a call, as the few cases that decide what happens next (R3's table). Decides nothing itself."""

from __future__ import annotations

import enum

from batchproxy.core.errors import BackendLost, BackendTooBig, BatchProxyError, Code, Unsplittable


class Outcome(enum.Enum):
    """How a call ended, seen by the scheduler."""

    __hash__ = object.__hash__  # an enumeration's own is written in Python, and metrics ask for it with every call

    OK = "ok"
    REJECTED = "rejected"
    """Something in it was refused: bisect, so that only the culprit fails."""
    UNSPLITTABLE = "unsplittable"
    """Answered, but not row by row: send the members one by one, and never merge this signature again."""
    TOO_BIG_OR_BUSY = "too big or busy"
    """Halve it; if the halves pass, this lane sends smaller batches."""
    NOT_RUN = "not run"
    """It certainly did not run: another endpoint may have it."""
    MAYBE_RUN = "maybe run"
    """It may have run: as NOT_RUN where the model is idempotent."""
    SAME_FOR_ALL = "same for all"
    """The error depends on the batch key alone: every member gets it."""
    LATE = "late"
    """The time ran out: no retry."""


_BY_CODE = {
    Code.INVALID_ARGUMENT: Outcome.REJECTED,
    Code.FAILED_PRECONDITION: Outcome.REJECTED,
    Code.OUT_OF_RANGE: Outcome.REJECTED,
    Code.UNIMPLEMENTED: Outcome.REJECTED,
    Code.INTERNAL: Outcome.REJECTED,
    Code.UNKNOWN: Outcome.REJECTED,
    Code.DATA_LOSS: Outcome.REJECTED,
    Code.ABORTED: Outcome.REJECTED,
    Code.ALREADY_EXISTS: Outcome.REJECTED,
    Code.CANCELLED: Outcome.MAYBE_RUN,
    Code.RESOURCE_EXHAUSTED: Outcome.TOO_BIG_OR_BUSY,
    Code.UNAVAILABLE: Outcome.NOT_RUN,
    Code.NOT_FOUND: Outcome.SAME_FOR_ALL,
    Code.PERMISSION_DENIED: Outcome.SAME_FOR_ALL,
    Code.UNAUTHENTICATED: Outcome.SAME_FOR_ALL,
    Code.DEADLINE_EXCEEDED: Outcome.LATE,
}
"""R3's table by status code; ALREADY_EXISTS (HTTP 409, as ABORTED) and CANCELLED are not named there."""


def outcome_of(error: BatchProxyError) -> Outcome:
    """The row of R3's table that an error falls in."""
    if isinstance(error, Unsplittable):
        return Outcome.UNSPLITTABLE
    if isinstance(error, BackendTooBig):
        return Outcome.TOO_BIG_OR_BUSY
    if isinstance(error, BackendLost):
        return Outcome.MAYBE_RUN
    return _BY_CODE.get(error.code, Outcome.REJECTED)
