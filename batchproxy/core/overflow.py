"""From how many in flight on full batches slow each other down, by what each takes of the endpoint's time. Pure.

Nearly everywhere they may go far beyond the limit for partial ones: a full batch gains nothing by waiting here. But
some endpoints thrash, as caches and memory do that many calls share: each batch more makes all of them slower. A full
batch has a fair share of the endpoint's time, and while none is in another's way, that share does not grow with the
number in flight. Where it seems to, the number at which it was least is tried, and so on downwards as long as that
pays. What was seen by the way only raises the question, since shares also grow where an endpoint slows down.
"""

from __future__ import annotations

import math

OPENING = 6
"""Full batches in flight at first; twice as many as there are, and one, while their share does not grow."""

LOOK = 8
"""Full batches between two looks at what they took."""

FEWEST, ENOUGH = 6, 20
"""Full batches that a number is judged by: where the difference is plain, and where it is not."""

HELD = 5
"""Looks after which a number that was hardly ever reached is no more tried."""

SEEMS = 1.06
"""Share of the endpoint's time, over the least, from which there may be something in it, noise apart."""

SURE = 1.5
"""Standard errors that count as noise."""

FIRST = 1.05
"""Share at what seemed too many, over that at the number tried, from which batches are known to slow each other."""

BETTER = 1.03
"""The same for one more, where they are known to."""

EQUAL = 1.0
"""The same for one less: fewer hold less memory."""

CARE = 0.15
"""Part of the error by which fewer must be better, and more may be worse: too few is what callers suffer most from.
With none, noise of 25 % now and then leaves fewer in flight than there are lanes; with a half, thrashing lasts."""

LESS = 0.8
"""Part of as many as may be that is tried where nothing was seen of fewer."""

PAUSE, LONGEST = 6, 64
"""Looks between two tries; doubled each time that one changed nothing, up to the second."""

HEAVIEST = 32.0
"""Batches that a mean may stand for."""

BOUND = 4.0
"""Batches that a mean must stand for to raise the question."""


class Overflow:
    """Of one endpoint.

    Attributes:
        most: full batches in flight at most; ``inf``: as many as may be.
        opening: the same while nothing else is known.
    """

    __slots__ = (
        *("_differed", "_down", "_from", "_kind", "_left", "_looks", "_others", "_pause", "_seen", "_shares"),
        *("_sides", "_spread"),
        *("most", "opening"),
    )

    def __init__(self) -> None:
        self.most = math.inf
        self.opening = OPENING
        self._from: float | None = None  # what ``most`` was before the number that is being tried
        self._sides: tuple[int, ...] = ()  # of ``most``, yet to be tried
        self._down = False
        self._left = 0
        self._pause = PAUSE
        self._looks = self._seen = self._others = 0
        self._kind: object = None
        self._spread = self._differed = 0.0  # of shares about their means, and how many it was seen by
        self._shares: dict[int, list[float]] = {}  # number in flight: mean share, weight, look of the last one

    def ended(self, kind: object, crowd: float, share: float, noise: float, free: int) -> bool:
        """A full batch was answered; returns whether ``most`` changed.

        Args:
            kind: of batch, and its size: those of one kind are compared.
            crowd: batches in flight while it was, on average.
            share: seconds of the endpoint's time that it had to itself.
            noise: standard deviation of the logarithm of a batch's time.
            free: full batches that may be in flight where none is in another's way.
        """
        if kind != self._kind:
            self._others += 1
            if self._kind is not None and self._others < LOOK:
                return False
            self._kind, self._shares = kind, {}
            self._spread = self._differed = 0.0
        self._others = 0
        noise = self._noise(noise, share, round(crowd))
        mean = self._shares.setdefault(round(crowd), [0.0, 0.0, 0.0])
        mean[1] = min(HEAVIEST, mean[1] + 1.0)
        mean[0] += (share - mean[0]) / mean[1]
        mean[2] = self._looks
        if free < self.most < math.inf:  # more cannot be in flight, anyway
            self.most, self._from = math.inf if self._from == math.inf else free, None
        if self._from is not None and self._weight(self.most) >= FEWEST:
            return self._judge(noise, free)
        if share <= BETTER * min(each[0] for each in self._shares.values()):
            self.opening = max(self.opening, round(2.0 * crowd) + 1)
        self._seen += 1
        return self._seen >= LOOK and self._look(noise, free)

    def _noise(self, noise: float, share: float, number: int) -> float:
        """What is known of it from lone batches, or by what shares were seen to differ, if that is more."""
        mean = self._shares.get(number)
        if mean is not None and mean[1] >= BOUND:
            self._differed = min(HEAVIEST, self._differed + 1.0)
            self._spread += (abs(share / mean[0] - 1.0) - self._spread) / self._differed
        return max(noise, 1.25 * self._spread) if self._differed >= FEWEST else noise

    def _look(self, noise: float, free: int) -> bool:
        """Some more were answered; returns whether a number is to be tried, or is no more."""
        self._seen = 0
        self._looks += 1
        self._left -= 1
        if self._left > 0:
            return False
        if self._from is not None:
            return self._end(changed=False)
        if self.most < math.inf:
            if self._weight(self.most) < BOUND:
                return False
            self._down = not self._down
            self._sides = (-1,) if self._down else (1,)
            return self._go_on()
        number = self._least(noise)
        if number is None and free > 1 and self._weight(free) >= BOUND and self._shares[free][2] >= self._looks - 1:
            number = max(1, int(LESS * free))
        return number is not None and self._try(number)

    def _weight(self, number: float) -> float:
        mean = self._shares.get(int(number)) if number < math.inf else None
        return mean[1] if mean else 0.0

    def _least(self, noise: float) -> int | None:
        """The number at which batches took least, if they take more at one that is in flight now."""
        known = {number: mean for number, mean in self._shares.items() if mean[1] >= BOUND}
        if not known:
            return None
        least = min(known, key=lambda number: known[number][0])
        seconds, weight, _ = known[least]
        for number, (more, count, look) in known.items():
            plain = SEEMS + SURE * noise * math.sqrt(1.0 / count + 1.0 / weight)
            if number > least and look >= self._looks - 1 and more > plain * seconds:
                return least
        return None

    def _try(self, number: float) -> bool:
        self._from, self.most = self.most, number
        self._left = HELD
        self._shares.pop(int(number), None)
        return True

    def _judge(self, noise: float, free: int) -> bool:
        """Something was seen of the number that is being tried; returns whether that was the end of it."""
        before, tried = self._from, self.most
        assert before is not None, "nothing is being tried. This is a bug."
        share, count, _ = self._shares[int(tried)]
        if before < math.inf:
            other, weight, _ = self._shares.get(int(before), (share, 1.0, 0.0))
        else:  # those that raised the question
            above = [mean for number, mean in self._shares.items() if number > tried and mean[2] >= self._looks - HELD]
            weight = sum(mean[1] for mean in above)
            other = sum(mean[0] * mean[1] for mean in above) / weight if weight else share
        ratio = other / share
        least = FIRST if before == math.inf else EQUAL if tried < before else BETTER
        error = 2.0 * noise * math.sqrt(1.0 / count + 1.0 / max(1.0, weight))
        if count < ENOUGH and abs(ratio - least) < error:
            return False
        if ratio < least + (CARE * error if tried < before else -CARE * error):
            self._end(changed=False)
            return self._go_on()
        if before == math.inf:
            self._sides = (-1, 1)
        else:
            self._sides = (1,) if tried > before else (-1,)
        self._end(changed=True)
        if tried > free:
            self.most = math.inf
        return self._go_on()

    def _go_on(self) -> bool:
        """Try what is left to be tried beside ``most``."""
        while self._sides and self.most < math.inf:
            number, self._sides = self.most + self._sides[0], self._sides[1:]
            if number >= 1:
                return self._try(number)
        return True

    def _end(self, *, changed: bool) -> bool:
        """The number that was tried stays, or does not."""
        if changed:
            self._pause = PAUSE
        else:
            self.most = self._from if self._from is not None else math.inf
            self._pause = min(LONGEST, 2 * self._pause)
        self._from = None
        self._left = self._pause
        return True

    def __repr__(self) -> str:
        return f"Overflow(most={self.most})"
