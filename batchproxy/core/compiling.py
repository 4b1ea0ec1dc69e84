"""Backends that compile each batch size when they meet first (XLA, TensorRT, autotuners), seen by its time.

A compile is no sample of what a batch costs: it is kept out of what is learned, and so is what was stuck behind it.
After the second one the model's batches are rounded up to powers of two, so that 7 sizes do for 1 to 64 rows.

Before anything is known there is no prediction to hold a compile against. But nothing is faster than alone: what
others took that had company bounds it. Where there were none, the first are learned from like any, and found out by the
first batch that takes a fraction of what was learned: all of it is forgotten then.

Nothing is sent or padded here.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from batchproxy.core.batch import Dispatch
from batchproxy.core.cost import Cost
from batchproxy.core.lanes import Lanes
from batchproxy.core.padding import Rounded

FACTOR = 5.0
"""Times the prediction that a batch of a size first met takes if it was a compile (R7)."""

LEAST_S = 0.1
"""Seconds that a compile takes at least: XLA and TensorRT take more, and a busy machine's hiccups less."""

KNOWN = 3
"""Samples from which a prediction is trusted so far."""

COMPILES = 2
"""Compiles after which batches are rounded (R7)."""

MEMORY = 8
"""Of so many sizes first met, one after another. A server that stalls now and then meets a new size at the wrong
moment, too, but a compiling one compiles each."""

MAX_SIZES = 1024
"""Sizes that are remembered for a kind of batch; the oldest is forgotten for one more."""

DEAR = 2.5
"""Times what others show a batch to take at most, from which it is not learned from while little is known: another
one's noise of 25 % makes 1.8 of it at two sigma, and what is left out by mistake costs no more than one sample."""

RELAX = 1.25
"""Grown by this factor each time, so that an endpoint which became slow meanwhile is learned from at last."""

JUDGED = 0.0
"""Stands for the time of a size of which is known whether it was compiled."""

_MASK = (1 << MEMORY) - 1


class Compiling:
    """Looks at each answered batch of a pool before anything is learned from it.

    Args:
        policies: are told which models to round.
        lanes: of the scheduler.
        notice: told what an operator should know, in one line.
    """

    def __init__(self, policies: Rounded, lanes: Lanes, notice: Callable[[str], None]) -> None:
        self._policies = policies
        self._lanes = lanes
        self._notice = notice
        self._latest: dict[str, int] = {}  # model: a bit for each of the latest sizes first met, 1 for a compile

    def teaches(self, dispatch: Dispatch, now: float) -> bool:
        """Whether the time of a batch that is answered now is one to learn from; to be asked before the limit is told.

        Args:
            dispatch: took a slot.
            now: the engine's clock, in seconds.
        """
        endpoint, flight, rows = dispatch.endpoint, dispatch.flight, dispatch.sent
        assert flight is not None, "teaches() of a batch that takes no slot. This is a bug."
        cost = endpoint.cost(dispatch.batch.key)
        whole = now - flight.sent
        seconds = least = endpoint.limit.alone(flight, now)
        behind = flight.sent < endpoint.last_compile
        if behind or cost.samples < KNOWN:  # who was stuck behind another is not to be taken for a compile, too
            least = min(seconds, now - endpoint.last_answer)
        endpoint.last_answer = now
        model = dispatch.batch.key.model
        first = cost.first.get(rows)
        bound = math.inf if cost.samples >= KNOWN else _bound(cost, dispatch.units, whole)
        predicted = cost.seconds(dispatch.units)
        if cost.known and FACTOR * whole < predicted:  # nothing is faster than alone
            self._refuted(dispatch, whole)
        elif first and FACTOR * whole < first:
            cost.first[rows] = JUDGED
            self._count(model, rows, first, whole)
        elif first and seconds == whole and not behind:
            cost.first[rows] = JUDGED
        trusted = cost.known and cost.samples >= (1 if cost.doubted else KNOWN)
        dear = not trusted and not flight.others and seconds > DEAR * bound
        if dear:
            _relax(cost)
        if first is None:
            if trusted:
                slow = least > FACTOR * max(1.0, cost.pace) * predicted
            else:
                slow, predicted, least = dear and not behind and seconds > FACTOR * bound, bound, seconds
            _remember(cost, rows, JUDGED if slow else least)
            if slow:
                endpoint.last_compile = now
                self._count(model, rows, least, predicted)
                return False
            if trusted:
                self._latest[model] = self._latest.get(model, 0) << 1 & _MASK
        elif trusted and not behind:
            cost.pace = seconds / predicted
        return not behind and not dear

    def _refuted(self, dispatch: Dispatch, seconds: float) -> None:
        """A batch took a fraction of what was predicted: what was learned so far were compiles."""
        rows, model = dispatch.sent, dispatch.batch.key.model
        cost = dispatch.endpoint.cost(dispatch.batch.key)
        cost.forget()
        cost.doubted = True
        dispatch.endpoint.limit.forget()
        for size, first in cost.first.items():
            most = seconds * max(1.0, size / rows)  # all that is known of other sizes: they are no dearer a row
            if first > FACTOR * most:
                cost.first[size] = JUDGED
                self._count(model, size, first, most)

    def _count(self, model: str, rows: int, seconds: float, expected: float) -> None:
        if seconds < LEAST_S:
            return
        latest = self._latest[model] = (self._latest.get(model, 0) << 1 | 1) & _MASK
        if latest.bit_count() >= COMPILES and self._policies.round(model):
            self._lanes.round(model)
            self._notice(
                f"model {model!r}: batch sizes seem to be compiled one by one (the first batch of {rows} rows took "
                f"{seconds:.3g} s, others like it {expected:.3g} s); from now on batches are rounded up to powers of "
                "two. If the backend knows some sizes from its start, list them in allowed_batch_sizes"
            )


def _remember(cost: Cost, rows: int, seconds: float) -> None:
    if len(cost.first) >= MAX_SIZES:
        del cost.first[next(iter(cost.first))]
    cost.first[rows] = seconds


def _bound(cost: Cost, units: float, whole: float) -> float:
    """Seconds that a batch takes at most, alone, as others show that had company; this one will be one of them."""
    bound = min((took * max(1.0, units / other) for other, took in cost.quickest.values()), default=math.inf)
    size = int(units).bit_length()
    if whole < cost.quickest.get(size, (units, math.inf))[1]:
        cost.quickest[size] = units, whole
    return bound


def _relax(cost: Cost) -> None:
    for size, (units, took) in cost.quickest.items():
        cost.quickest[size] = units, RELAX * took
