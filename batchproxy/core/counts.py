"""What the calls of each version of a model came to, as Triton's statistics count it. Writes no message."""

from __future__ import annotations

from dataclasses import dataclass, field

from batchproxy.core.batch import Dispatch
from batchproxy.core.outcome import Outcome
from batchproxy.core.request import Version

_FINAL = frozenset({Outcome.SAME_FOR_ALL, Outcome.LATE})


@dataclass(slots=True)
class Times:
    """How many of something there were, and their seconds together."""

    count: int = 0
    seconds: float = 0.0

    def add(self, count: int, seconds: float) -> None:
        """Some more, of so many seconds together."""
        self.count += count
        self.seconds += seconds


@dataclass(slots=True)
class Counts:
    """The calls of one version of a model.

    Attributes:
        rows: of calls that went well.
        queued: requests of these, and how long they waited.
        computed: the same requests, and how long their calls took: a call of two counts twice.
        failed: requests that were refused, from their arrival on. A batch that was refused is sent again in parts, and
            counted where that is decided.
        sizes: rows of a call to calls of that size, that went well.
        last: when the last one of these ended, on the engine's clock in seconds; None: there was none.
    """

    rows: int = 0
    queued: Times = field(default_factory=Times)
    computed: Times = field(default_factory=Times)
    failed: Times = field(default_factory=Times)
    sizes: dict[int, Times] = field(default_factory=dict)
    last: float | None = None

    @property
    def calls(self) -> int:
        """How many went well."""
        return sum(times.count for times in self.sizes.values())

    def add(self, other: Counts) -> None:
        """Those of the same version under another name."""
        self.rows += other.rows
        for mine, others in ((self.queued, other.queued), (self.computed, other.computed), (self.failed, other.failed)):
            mine.add(others.count, others.seconds)
        for rows, times in other.sizes.items():
            self.sizes.setdefault(rows, Times()).add(times.count, times.seconds)
        self.last = max((last for last in (self.last, other.last) if last is not None), default=None)


class Counted:
    """The counts of all models."""

    __slots__ = ("_models",)

    def __init__(self) -> None:
        self._models: dict[tuple[str, Version], Counts] = {}

    def of(self, model: str, version: Version) -> Counts:
        """Those of a version; nothing but zeros where it was not called yet."""
        return self._models.get((model, version)) or Counts()

    def settle(self, model: str, name: Version, version: int) -> None:
        """What was counted under a name (a label, or None) was of this version; the name means another one now."""
        counts = self._models.pop((model, name), None)
        if counts is not None:
            self._models.setdefault((model, version), Counts()).add(counts)

    def ended(self, dispatch: Dispatch, outcome: Outcome, seconds: float) -> None:
        """Count a call that ended ``seconds`` after it left; not a question about a model that was passed on."""
        key, entries = dispatch.batch.key, dispatch.batch.entries
        if len(entries) == 1 and (raw := entries[0].request.raw) is not None and raw.method == "GET":
            return
        counts = self._models.get((key.model, key.version))
        if counts is None:
            counts = self._models[key.model, key.version] = Counts()
        requests = len(entries)
        waited = requests * dispatch.started - sum([entry.arrival for entry in entries])
        if outcome is Outcome.OK:
            counts.rows += dispatch.rows
            counts.queued.add(requests, waited)
            counts.computed.add(requests, requests * seconds)
            times = counts.sizes.get(dispatch.rows)
            if times is None:
                times = counts.sizes[dispatch.rows] = Times()
            times.add(1, seconds)
            counts.last = dispatch.started + seconds
        elif requests == 1 or outcome in _FINAL:
            counts.failed.add(requests, waited + requests * seconds)
