"""How far full batches may go beyond the limit for partial ones: less far where they slow each other down by it. Pure.

Nearly everywhere they may go far: a full batch gains nothing by waiting here. But some endpoints thrash, as caches and
memory do that many calls share: each batch more makes all of them slower. So while more full batches wait than may go,
the next level down and the next one up are tried by turns, and the rows a second are compared.
"""

from __future__ import annotations

NONE, ONE, FREE = range(3)
"""Levels: no batch beyond the limit, one, and as many again."""

WINDOWS = 3
"""Full windows that a level is judged by: they are good to 2 %, where batches differ by 8 %."""

PAUSE = 6
"""Full windows before a try, and after one that changed nothing; doubled each time, up to 96."""

BETTER = (1.03, 1.08)
"""Rows a second, over those of the next level up, from which a level is better: of none, and of one. The last step is
long, and where nothing thrashes those beyond the limit make up for one that was learned too low."""


class Overflow:
    """Of one endpoint.

    Attributes:
        level: as it is now.
    """

    __slots__ = ("_down", "_gained", "_left", "_pause", "_rate", "_seen", "_settled", "level")

    def __init__(self) -> None:
        self.level = self._settled = FREE
        self._left = self._pause = PAUSE
        self._seen = 0
        self._rate = self._gained = 0.0
        self._down = False

    def judge(self, rate: float) -> bool:
        """A window of full batches ended, of which more waited; returns whether the level changed.

        Args:
            rate: rows that the endpoint worked off in a second.
        """
        if self._left:
            self._left -= 1
            return False
        self._seen += 1
        self._gained += rate
        if self._seen < WINDOWS:
            return False
        rate, self._seen, self._gained = self._gained / self._seen, 0, 0.0
        if self.level == self._settled:
            self._rate = rate
            self._down = not self._down
            self.level += -1 if self.level == FREE or (self._down and self.level > NONE) else 1
            return True
        lower, upper = (rate, self._rate) if self.level < self._settled else (self._rate, rate)
        if (lower >= BETTER[min(self.level, self._settled)] * upper) is (self.level < self._settled):
            self._settled, self._pause = self.level, PAUSE
        else:
            self._pause = min(96, 2 * self._pause)
        self._left = self._pause
        changed = self.level != self._settled
        self.level = self._settled
        return changed

    def full(self, base: int, partial: int) -> int:
        """Full batches in flight at most.

        Args:
            base: the limit for partial ones.
            partial: the same while more is tried.
        """
        return 2 * partial + 1 if self.level == FREE else base + self.level

    def __repr__(self) -> str:
        return f"Overflow(level={self.level})"
