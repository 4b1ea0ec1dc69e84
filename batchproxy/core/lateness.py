"""Who cannot be answered in time, and what they are told. Nothing is sent or taken back here."""

from __future__ import annotations

from batchproxy.core.errors import BatchProxyError, DeadlineExceeded, TooLate
from batchproxy.core.lane import Lane
from batchproxy.core.request import DONE, Entry


def refuse_hopeless(lane: Lane, entry: Entry, now: float) -> None:
    """A late answer is dearer than a quick refusal.

    Args:
        lane: where the entry waits.
        entry: has a deadline.
        now: the engine's clock, in seconds.

    Raises:
        TooLate: those before it keep the pool busy beyond its deadline; it waits no longer.
    """
    deadline = entry.request.deadline
    wait = lane.row_s * lane.rows + lane.batch_s
    if deadline is None or now + wait <= deadline:
        return
    entry.state = DONE
    lane.remove(entry)
    raise TooLate(
        f"model {entry.request.key.model!r}: {lane.rows} rows wait before this request; it would be answered in "
        f"about {wait:.3f} s, but its deadline is in {deadline - now:.3f} s; try again, or add capacity"
    )


def why_late(entry: Entry, now: float) -> BatchProxyError:
    """What an entry is told that ``overdue`` named."""
    deadline = entry.request.deadline
    if deadline is None or deadline <= now:
        return DeadlineExceeded("Deadline Exceeded")
    return TooLate(
        f"model {entry.request.key.model!r}: this request's deadline is in {deadline - now:.3f} s, and an answer would "
        "take longer; try again, or add capacity"
    )
