"""Everyone who was taken in and not told an outcome yet: whose time is up, and who is left. Nobody is told here."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from batchproxy.core.batch import Batch, Dispatch
from batchproxy.core.lanes import Lanes
from batchproxy.core.request import DONE, RUNNING, Entry


class Unanswered:
    """Those of one scheduler. Iterating gives the entries that are not done, wherever they are.

    Args:
        lanes: of the scheduler.
        front: its batches that go before those.
        running: its calls in flight; of two of the same batch, one.

    Attributes:
        late: entries that are done since their time is up, and were not told so yet.
    """

    def __init__(self, lanes: Lanes, front: Collection[Batch], running: Mapping[Batch, Dispatch]) -> None:
        self.late: list[Entry] = []
        self._lanes = lanes
        self._front = front
        self._running = running

    def overdue(self, now: float, call_timeout_s: float) -> list[Entry]:
        """Everyone whose time is up, queued or running.

        Args:
            now: the engine's clock, in seconds.
            call_timeout_s: how long a member without a deadline waits for a call in flight; 0: for ever.
        """
        found, self.late = self.late, []
        found += [entry for entry in self if entry.expired(now)]
        if call_timeout_s:
            for dispatch in self._running.values():
                if dispatch.started + call_timeout_s <= now:
                    members = dispatch.batch.entries
                    found += [e for e in members if e.state is RUNNING and e.request.deadline is None]
        return found

    def stranded(self) -> list[Entry]:
        """Everyone not yet answered, queued or running: for the end of a shutdown."""
        found, self.late = self.late, []
        return found + list(self)

    def wants(self, version: int) -> bool:
        """Whether anyone not yet answered means this version of a model."""
        return any(entry.request.key.version == version for entry in self)

    def __iter__(self) -> Iterator[Entry]:
        """Each once."""
        yield from self._lanes.entries()
        open_batches = (*self._front, *self._running)
        families = {batch.family: None for batch in open_batches if batch.family is not None}
        parked = [batch for family in families for batch in family.parked]
        for batch in (*open_batches, *parked):
            yield from (entry for entry in batch.entries if entry.state is not DONE)
