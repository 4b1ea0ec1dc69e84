"""What a batch costs: its time on an endpoint that has nothing else to do, learned from batches as they happen.

Decides nothing and knows no clock: it is told how many rows took how many seconds.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any

from batchproxy.core.gain import Worth
from batchproxy.core.saved import number, whole
from batchproxy.core.units import Unit, Units, Weight

HEAVIEST = 16.0
"""Samples a bucket's mean may stand for: beyond it each new one counts a sixteenth, so that it follows a drift."""

CROSS_TALK = 24
"""A sample moves the means of the other sizes by its surprise over this: one kind of slowness hits all sizes."""

SHRINKAGE = 0.02
"""What the slope is told before any sample: that there is none, with this weight relative to the samples' own.
Two noisy sizes next to each other would otherwise draw a line that is absurd at 64 rows."""

RECOVERED = -0.5
"""Logarithm of time over prediction below which it is no noise: the endpoint is faster than was thought, 1.6 times."""

RESIDUALS = 64
"""Latest surprises that quantiles are read from."""

FEW = 16
"""Surprises below which quantiles are those of a normal distribution as wide as ``noise``: 1.28 and 1.64 sigma."""

OFTEN = 4
"""Surprises between two looks at all of them."""

MEAN_OVER = 16
"""Batches that the mean size is taken over."""


SHORTEST, LONGEST, LIGHTEST = 1e-9, 1e6, 1e-3
"""Seconds of a batch, and the weight of a size, as they may stand in a file: what else is there, nobody learned."""


class Cost:
    """``T(b) = alpha + beta*b`` of one kind of batch on one endpoint, both at least 0.

    Means of the time by powers of two of the rows, and a line through them by least relative squares: sizes that were
    last seen long ago still hold the line.

    Attributes:
        alpha: seconds that a batch takes whatever its rows.
        beta: seconds that a row adds.
        known: whether anything was learned yet; before, ``alpha`` and ``beta`` are 0.
        samples: how many batches that had the endpoint to themselves were learned from.
        noise: mean of the absolute logarithm of time over prediction; 0.08 is 8 %.
        p90: time over prediction that 90 of 100 batches stay under, of those that had the endpoint to themselves.
        p95: that 95 do.
        rows: rows of a batch, a running mean.
        batches: how many were answered.
        version: of the model that answered last; 0 where none said.
        first: row counts sent so far: seconds that the first batch took; kept by `compiling`, as are the next three.
        doubted: whether it was learned from batches whose size was being compiled, and forgotten.
        pace: time over prediction of the last batch of a size met before.
        quickest: bit length of the units: units and seconds of the fastest batch while little was known.
        worth: whether merging gains enough to be done at all.
        units: what its rows are counted in: ``rows`` are rows of mean length where theirs differ, here and below.
        tried: turn of the pool in which such a batch was last sent here; kept by the balancer, as is the next.
        trials: how often in a row it was sent only to see whether it still costs so much.
    """

    __slots__ = (
        "_alone", "_buckets", "_drift", "_introduced", "_residuals", "alpha", "batches", "beta", "doubted", "first",
        "known", "noise", "p90", "p95", "pace", "quickest", "rows", "samples", "trials", "tried", "units", "version",
        "worth",
    )  # fmt: skip

    def __init__(self) -> None:
        self.batches = 0
        self.version = 0
        self.rows = 1.0
        self.first: dict[int, float] = {}
        self.doubted = False
        self.pace = 1.0
        self.quickest: dict[int, tuple[float, float]] = {}
        self.worth = Worth()
        self.units = Units()
        self.tried = self.trials = 0
        self.forget()

    def forget(self) -> None:
        """What was learned of times was wrong."""
        self.alpha = self.beta = 0.0
        self.known = False
        self.samples = 0
        self.noise = 0.1
        self.p90, self.p95 = math.exp(1.28 * self.sigma), math.exp(1.64 * self.sigma)
        self._drift = 0.0
        self._buckets: dict[int, list[float]] = {}  # bit length of the rows: mean rows, mean seconds, weight
        self._alone: dict[int, int] = {}
        self._introduced: dict[int, int] = {}
        self._residuals: deque[float] = deque(maxlen=RESIDUALS)
        self.units.forget()

    def seconds(self, rows: float) -> float:
        """Predicted time of a batch of ``rows`` rows, in seconds."""
        return self.alpha + self.beta * rows

    def seen(self, rows: int) -> None:
        """A batch of this size was answered, fast or slow."""
        self.batches += 1
        self.rows += (rows - self.rows) / MEAN_OVER

    def weigh(self, weight: Weight, seconds: float) -> None:
        """The same batch, by all that its time may depend on; where that is not its rows, all is counted anew."""
        line = self.units.learn(weight, seconds)
        if line is None:
            return
        kept = [(size, entry[0], entry[2]) for size, entry in self._buckets.items()]
        scale = 1.0 if self.units.unit is Unit.ROWS else self.units.scale
        self._buckets = {size: [rows, line.seconds(rows * scale), weight] for size, rows, weight in kept}
        self._residuals.clear()
        self._fit()

    def learn(self, rows: float, seconds: float, turn: int) -> None:
        """A batch had the endpoint to itself.

        Args:
            rows: of the batch.
            seconds: it took; more than 0.
            turn: a number that grows, which ``covers`` looks back by.
        """
        if not self.samples:  # what is known was guessed from batches that had company
            self._buckets.clear()
            self.known = False
        elif self._drift:
            self._rescale(math.exp(-self._drift))
            self._fit()
        self._drift = 0.0
        if self.known:
            surprise = math.log(seconds / self.seconds(rows))
            self._residuals.append(surprise)
            if surprise < RECOVERED:
                self.trials = 0
            surprise = max(-1.0, min(1.0, surprise))
            self.noise += (abs(surprise) - self.noise) / MEAN_OVER
            self._rescale(1.0 + self._change(rows, seconds) / CROSS_TALK)
        self.samples += 1
        if not self.samples % OFTEN:
            self._measure()
        self._alone[int(rows).bit_length()] = turn
        self.shape(rows, seconds, 1.0)

    def _change(self, rows: float, seconds: float) -> float:
        """By what part a batch took longer than those of its size do, within bounds; 0: none of them was met.

        On average that is 0 while nothing changes. Its logarithm is less, and so may be what it is by the line: with
        those, sizes that are rare would be learned to be ever cheaper.
        """
        bucket = self._buckets.get(int(rows).bit_length())
        if bucket is None:
            return 0.0
        expected = bucket[1] + self.beta * (rows - bucket[0])
        return max(-0.6, min(1.7, seconds / expected - 1.0)) if expected > 0.0 else 0.0

    def outlasted(self, rows: float, seconds: float) -> None:
        """A batch that had the endpoint to itself was given up then: it would have taken longer, which is as much as is
        learned, unless that was to be expected.
        """
        if self.known and seconds > self.seconds(rows):
            self.learn(rows, seconds, max(self._alone.values(), default=0))

    def shape(self, rows: float, seconds: float, weight: float) -> None:
        """Batches of about ``rows`` rows took ``seconds`` on average: evidence beside that of lone ones."""
        bucket = self._buckets.setdefault(int(rows).bit_length(), [rows, seconds, 0.0])
        bucket[2] = min(bucket[2] + weight, HEAVIEST)
        step = min(1.0, weight / bucket[2])
        bucket[0] += (rows - bucket[0]) * step
        bucket[1] += (seconds - bucket[1]) * step
        self._fit()

    def introduce(self, rows: float, seconds: float, count: float, turn: int) -> None:
        """``count`` batches of a size that never had the endpoint to itself took so long, as others were not slowed.

        Args:
            rows: of each, on average.
            seconds: each took.
            count: of batches; what one of them took is noise, but better than nothing.
            turn: as in ``learn``.
        """
        self.shape(rows, seconds, count)
        if count > 1:
            self._introduced[int(rows).bit_length()] = turn

    def fade(self) -> None:
        """What was learned is old: all of it weighs no more than the next batch will."""
        for bucket in self._buckets.values():
            bucket[2] = min(1.0, bucket[2])

    def scale(self, factor: float) -> None:
        """The endpoint is slower by this factor than was thought, at every size."""
        self._drift = 0.0
        self._rescale(factor)
        self._fit()

    def bend(self, factor: float) -> None:
        """The same from weaker evidence: a little of it, within the noise, until the next lone batch says better."""
        room = max(0.05, min(0.2, 0.75 * self.noise))
        step = max(-room - self._drift, min(room - self._drift, 0.2 * math.log(factor)))
        self._drift += step
        self._rescale(math.exp(step))
        self._fit()

    def _rescale(self, factor: float) -> None:
        for bucket in self._buckets.values():
            bucket[1] *= factor

    def _fit(self) -> None:
        weights = x_mean = y_mean = 0.0
        for rows, seconds, weight in self._buckets.values():
            relative = weight / (seconds * seconds)
            weights += relative
            x_mean += relative * rows
            y_mean += relative * seconds
        x_mean /= weights
        y_mean /= weights
        xx = SHRINKAGE * weights * max(1.0, x_mean) ** 2
        xy = 0.0
        for rows, seconds, weight in self._buckets.values():
            relative = weight / (seconds * seconds)
            xx += relative * (rows - x_mean) ** 2
            xy += relative * (rows - x_mean) * (seconds - y_mean)
        beta = max(0.0, xy / xx)
        alpha = y_mean - beta * x_mean
        if alpha < 0.0:
            alpha, beta = 0.0, y_mean / x_mean
        self.alpha, self.beta, self.known = alpha, beta, True

    def covers(self, rows: float, since: int) -> bool:
        """Whether batches of about this size, smaller and larger, alone or as good as that, were seen since a turn."""
        seen = (*self._alone.items(), *self._introduced.items())
        sizes = [self._buckets[size][0] for size, turn in seen if turn >= since]
        return any(size >= 0.6 * rows for size in sizes) and any(size <= 1.7 * rows for size in sizes)

    def timed(self, length: int) -> bool:
        """Whether a batch whose rows have so many bits had the endpoint to itself."""
        return length in self._alone

    def sizes_alone(self) -> tuple[float, float]:
        """Mean rows of the smallest and of the largest batches that had the endpoint to themselves; 0: none had."""
        sizes = [self._buckets[length][0] for length in self._alone]
        return min(sizes, default=0.0), max(sizes, default=0.0)

    @property
    def sigma(self) -> float:
        """Standard deviation of the logarithm of time over prediction, by its mean absolute deviation."""
        return 1.25 * self.noise

    @property
    def unshared(self) -> float:
        """The part of a lone row's time that merging cannot save: 0 on an accelerator, near 1 on a busy CPU."""
        whole = self.alpha + self.beta
        return self.beta / whole if whole > 0.0 else 0.0

    @property
    def unsaved(self) -> float:
        """The part of a batch's time that merging with more rows cannot save, at the sizes that come.

        Where merging saves little, rows are better off side by side than in one batch, until so many come that they
        must share: then batches grow, and this shrinks.
        """
        return self.unshared * min(1.0, 2.0 / self.rows)

    def gain(self, rows: float) -> float:
        """Rows a second in batches of ``rows``, over rows a second one by one; 1 where nothing is known."""
        return self.seconds(1) * rows / self.seconds(rows) if self.known else 1.0

    def gain_between(self, rows: float) -> tuple[float, float]:
        """Bounds that ``gain(rows)`` lies between with 95 % confidence; 1 and ``rows`` where one size was seen only.

        The variance is that of the line at 1 and at ``rows``, as ``noise`` and the batches seen make it. How far the
        line is less steep than the sizes alone would have it (``SHRINKAGE``) comes on top.
        """
        rows = max(1.0, rows)
        weights = sum(weight / (seconds * seconds) for _, seconds, weight in self._buckets.values())
        if not self.known or rows == 1.0 or not weights:
            return 1.0, rows
        points = [(x, weight / (seconds * seconds)) for x, seconds, weight in self._buckets.values()]
        mean = sum(x * weight for x, weight in points) / weights
        spread = sum(weight * (x - mean) ** 2 for x, weight in points)
        one, many = self.seconds(1), self.seconds(rows)
        level = (1.0 / one - 1.0 / many) ** 2 / weights
        if not spread:
            return 1.0, rows
        tilt = abs((1.0 - mean) / one - (rows - mean) / many)
        error = self.sigma * math.sqrt(level + tilt**2 / spread)
        flattened = tilt * self.beta * SHRINKAGE * weights * max(1.0, mean) ** 2 / spread
        factor = math.exp(min(2.0 * error + flattened, 700.0))
        gain = self.gain(rows)
        return min(gain, max(1.0, gain / factor)), max(gain, min(rows, gain * factor))

    # -- over a restart ----------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """What was learned, as plain numbers; the line is drawn anew from its points."""
        points = [
            {"rows": rows, "seconds": seconds, "weight": weight, "turn": self._alone.get(length, -1)}
            for length, (rows, seconds, weight) in self._buckets.items()
        ]
        return {
            "version": self.version,
            "batches": self.batches,
            "samples": self.samples,
            "noise": self.noise,
            "rows": self.rows,
            "units": self.units.state(),
            "surprises": list(self._residuals),
            "points": points,
        }

    def restore(self, state: object) -> None:
        """Know what another one's ``state()`` told, and nothing else.

        Raises:
            ValueError: it is not what ``state`` gives; nothing has changed then.
        """
        version, batches = whole(state, "version", 0, 2**63), whole(state, "batches", 0, 2**53)
        samples = whole(state, "samples", 0, 2**53)
        noise, mean_rows = number(state, "noise", 0.0, 1.0), number(state, "rows", 1.0, 2**31)
        points = state.get("points") if isinstance(state, dict) else None
        if not isinstance(points, list) or not points:
            raise ValueError("points is no list of points")
        units, surprises = (state.get(key) if isinstance(state, dict) else None for key in ("units", "surprises"))
        if not isinstance(surprises, list) or len(surprises) > RESIDUALS:
            raise ValueError("surprises is no list of so many numbers")
        surprises = [number({"surprise": found}, "surprise", -50.0, 50.0) for found in surprises]
        buckets, alone = {}, {}
        for point in points:
            rows, seconds = number(point, "rows", LIGHTEST, 2**31), number(point, "seconds", SHORTEST, LONGEST)
            length = int(rows).bit_length()
            buckets[length] = [rows, seconds, number(point, "weight", LIGHTEST, HEAVIEST)]
            turn = whole(point, "turn", -1, 2**53)
            if turn >= 0:
                alone[length] = turn
        self.units.restore(units)
        self._buckets, self._alone, self._introduced, self._drift = buckets, alone, {}, 0.0
        self._residuals = deque(surprises, maxlen=RESIDUALS)
        self.version, self.batches, self.samples = version, batches, samples
        self.noise, self.rows = noise, mean_rows
        self._measure()
        self._fit()

    def _measure(self) -> None:
        """Read the quantiles off the latest surprises."""
        count = len(self._residuals)
        if count < FEW:
            self.p90, self.p95 = math.exp(1.28 * self.sigma), math.exp(1.64 * self.sigma)
            return
        ordered = sorted(self._residuals)
        self.p90, self.p95 = (math.exp(max(0.0, ordered[int(share * count)])) for share in (0.9, 0.95))

    def __repr__(self) -> str:
        return f"Cost({self.alpha * 1e3:.3f} ms + {self.beta * 1e3:.4f} ms a row, noise={self.noise:.0%})"
