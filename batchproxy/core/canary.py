"""Whether the rows of a model influence each other: who runs again, when, and what that proves. Sends nothing.

The member runs alone, after everybody was answered, and what it gets is held against what it got in company. Nearly
always they are the same, and that is all: one call in a thousand batches. Where they are not, other causes are ruled
out one by one before batching is blamed:

1. **alone again**. Another answer than the first time: the model draws lots, and nobody could tell. It stays batched.
2. **among copies** of itself, in the same place of a batch of the same size. The same answer as in company: the
   neighbours do not matter, but the number of rows does. Kernels for many rows round in another way than those for one
   (TF32, bfloat16), so up to ``compare.ROUNDING`` this is said once and the model stays batched; beyond, the
   model reads its place or the number of rows.
3. **all of it again**, alone and in company by turns, ``REPEATS`` times. One other answer, and something
   else is going on: weights that were replaced meanwhile, two versions behind one address. It stays batched.

What is left is proof, so one batch suffices: nobody has to get ten wrong answers before the model stops being batched.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from typing import NamedTuple, cast

from batchproxy.core.balancer import Endpoint
from batchproxy.core.batch import Dispatch
from batchproxy.core.columns import Columns
from batchproxy.core.compare import ROUNDING, Comparable
from batchproxy.core.policy import Policy
from batchproxy.core.request import BatchKey, Entry, Reply, Request, Target

EARLIER = 10
"""Until ``canary_every`` is reached: the 1st batch, then the 10th, the 100th: what is wrong at once is seen at once."""

REPEATS = 8
"""Of all that is held against each other. With two versions at an even chance behind one address the first calls blame
the model in one of four cases, and each repeat leaves a quarter of them: 4 in a million. So many calls are made once in
a model's life.
"""

STRIDE = 0.6180339887498949
"""Golden ratio: multiples of it, modulo 1, spread as evenly as can be, however many there are. The members are drawn
by it, the first never from the first place: what leaks from row to row often leaks forwards only."""

MAX_TARGETS = 1024
"""Models, versions and signatures that are counted; the oldest is forgotten for one more."""


class Verdict(enum.Enum):
    """What a canary says."""

    SAME = "same"
    """As in company."""
    FAILED = "failed"
    """Nothing: it was not answered, or the answers cannot be compared."""
    RANDOM = "random"
    """Nothing: the same call gave different answers."""
    ROUNDING = "rounding"
    """Batches of another size have other last digits."""
    INFLUENCE = "influence"
    """A row's answer depends on what it travels with."""


class Step(NamedTuple):
    """A call to be made.

    Attributes:
        members: to be merged, or the only one.
        place: whose part of the answer is wanted.
    """

    members: Sequence[Entry]
    place: int


class Trial:
    """One canary. ``step`` is made and its answer is told, until there is no step and a verdict.

    Args:
        dispatch: the batch, answered.
        members: as they were merged.
        index: of the member that runs again.
        answer: what it got.

    Attributes:
        step: the call to be made next; None: there is a verdict.
        verdict: see there; FAILED until it is known.
        reason: what the difference depends on, where there is one.
        apart: how far the answers were apart, as ``compare.arrays``.
    """

    def __init__(self, dispatch: Dispatch, members: Sequence[Entry], index: int, answer: Columns) -> None:
        self.key: BatchKey = dispatch.batch.key
        self.endpoint: Endpoint = dispatch.endpoint
        self.padded = dispatch.batch.padded
        self.rows = members[index].request.rows or 1
        self.verdict = Verdict.FAILED
        self.reason = ""
        self.apart = 0.0
        self._steps = self._course(members, index, answer)
        self.step: Step | None = next(self._steps)

    def tell(self, answer: Columns) -> None:
        """What the step's member got. May take long: every number is looked at."""
        try:
            self.step = self._steps.send(answer)
        except StopIteration as end:
            self.step = None
            self.verdict = end.value

    def _course(self, members: Sequence[Entry], index: int, merged: Columns) -> Generator[Step, Columns, Verdict]:
        whole, lonely = Step(members, index), Step([members[index]], 0)
        alone = yield lonely
        self.apart = _deviation(merged, alone)
        if not self.apart:
            return Verdict.SAME
        if _deviation(alone, (yield lonely)):
            return Verdict.RANDOM
        self.reason = "what is in the other rows"
        if not _deviation(merged, (yield Step(_among_copies(members, index), index))):
            self.reason = "the number of rows, or its place among them"
            if self.apart <= ROUNDING:
                return Verdict.ROUNDING
        for _ in range(REPEATS):
            if _deviation(merged, (yield whole)) or _deviation(alone, (yield lonely)):
                return Verdict.RANDOM
        return Verdict.INFLUENCE


def _among_copies(members: Sequence[Entry], index: int) -> list[Entry]:
    """The member in its place, with copies of its first row for all other rows."""
    member = members[index]
    row = {name: column.take(0, 1) for name, column in member.columns.items()}
    copy = Entry(Request(member.request.key, row, 1, 0), member.waiter, member.arrival)
    before, after = (sum(other.request.rows or 0 for other in part) for part in (members[:index], members[index + 1 :]))
    return [*[copy] * before, member, *[copy] * after]


def _deviation(one: Columns, other: Columns) -> float:
    if one.keys() != other.keys():
        return float("inf")
    return max(cast("Comparable", column).deviation(other[name]) for name, column in one.items())


class Canary:
    """Draws the members that run again, for one scheduler.

    Args:
        policies: model name to policy.
        stop: takes a model out of batching, and says why.
        notice: told what an operator should know, in one line.
        start: of the sequence that members are drawn by, from 0 up to 1.

    Attributes:
        verdicts: how many there were, by model and kind.
        calls: how many were made for them, by model.
    """

    def __init__(
        self,
        policies: Mapping[str, Policy],
        stop: Callable[[BatchKey, str], None],
        notice: Callable[[str], None],
        start: float = 0.0,
    ) -> None:
        self.verdicts: Counter[tuple[str, Verdict]] = Counter()
        self.calls: Counter[str] = Counter()
        self._policies = policies
        self._stop = stop
        self._notice = notice
        self._draw = start
        self._running = False
        self._batches: dict[Target, int] = {}
        self._due: dict[Target, int] = {}
        self._said: set[tuple[Target, Verdict]] = set()
        self._blamed: set[Target] = set()

    def draw(self, dispatch: Dispatch, members: Sequence[Entry], replies: Sequence[Reply]) -> Trial | None:
        """The canary of a batch, if it is to have one; it has a relay's place at the endpoint until it ``ended``.

        What is due while it may not be waits for the next batch: never two at once, never where an endpoint is
        drained or has more batches than partial ones may fill, never for a model that is not idempotent.

        Args:
            dispatch: was answered.
            members: as they were merged.
            replies: one for each.
        """
        key = dispatch.batch.key
        policy = self._policies[key.model]
        every = policy.canary_every
        if not every or not policy.idempotent or len(members) < 2 or dispatch.batch.family is not None:
            return None
        target = key.target
        count = self._count(target)
        if count < self._due.get(target, 1):
            return None
        endpoint = dispatch.endpoint
        limit = endpoint.limit
        saturated = limit.draining or limit.in_flight > limit.partial or endpoint.relayed >= endpoint.max_relayed
        if self._running or saturated or not endpoint.up:
            return None
        self._due[target] = min(EARLIER * count, count + every)
        self._draw = (self._draw + STRIDE) % 1.0
        index = int(self._draw * len(members))
        answer = replies[index].columns
        if not answer or not all(isinstance(column, Comparable) for column in answer.values()):
            return None
        trial = Trial(dispatch, members, index, answer)
        self._running = True
        endpoint.relayed += 1
        endpoint.rows += trial.rows
        return trial

    def _count(self, target: Target) -> int:
        if target not in self._batches and len(self._batches) >= MAX_TARGETS:
            oldest = next(iter(self._batches))
            del self._batches[oldest]
            self._due.pop(oldest, None)
            self._said -= {(oldest, verdict) for verdict in Verdict}
        count = self._batches[target] = self._batches.get(target, 0) + 1
        return count

    def forgiven(self) -> Collection[Target]:
        """Those that were taken out of batching, and whose policy says by now that such answers are good enough."""
        forgiven = {target for target in self._blamed if not self._policies[target[0]].canary_every}
        self._blamed -= forgiven
        return forgiven

    def ended(self, trial: Trial) -> None:
        """A canary has a verdict, or could not be made."""
        self._running = False
        trial.endpoint.relayed -= 1
        trial.endpoint.rows -= trial.rows
        verdict, target = trial.verdict, trial.key.target
        self.verdicts[trial.key.model, verdict] += 1
        if verdict is Verdict.INFLUENCE:
            self._stop(
                trial.key,
                f"a row's answer depends on {trial.reason} ({_how_far(trial.apart)} from that of the row alone), so "
                "callers got wrong answers. Make the model treat each row by itself, or set batching: false; if such "
                "answers are good enough, set canary_every: 0, and it is batched again. Both hold as soon as the "
                "configuration is read again",
            )
            self._blamed.add(target)
        elif verdict in _LINES and (target, verdict) not in self._said:
            self._said.add((target, verdict))
            model, version, signature = target
            line = _LINES[verdict].format(_how_far(trial.apart))
            self._notice(f"model {model!r}, version {version}, {signature!r}: {line}")


_LINES = {
    Verdict.RANDOM: (
        "it is not deterministic, or was changed meanwhile: the same row alone was answered differently. Whether its "
        "rows influence each other cannot be told; it stays batched. If they do, set batching: false"
    ),
    Verdict.ROUNDING: (
        "rows in batches are rounded in another way than alone ({}); what is in the other rows does not matter, so it "
        "stays batched. If its last digits must not depend on the load, set batching: false"
    ),
}


def _how_far(apart: float) -> str:
    return "nothing alike" if apart == float("inf") else f"{apart:.2g} of the largest number apart"
