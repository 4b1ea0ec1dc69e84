"""What an answer is worth: right, an honest error, or one of the things that must never be. No sockets."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence

from tests.faults.grpc_front import read_response
from tests.faults.script import POISON, right

FIRST_ROW = 1_000_000
"""Rows are counted from here, so that no port or length in a text looks like one."""

NEVER = ("wrong", "crossed", "lost", "hanging")
HONEST = {2, 4, 8, 13, 14, 429, 500, 502, 503, 504}
"""What a caller may be told while servers fail: late, busy, failed and not there, of either protocol."""

BUG = "This is a bug"
"""No caller is to read it, and no log."""

_NUMBERS = re.compile(r"\d+")
_MANY_DIGITS = re.compile(r"\d{7,}")


class Judge:
    """Counts.

    Attributes:
        counts: how many of each kind: ``right``, ``error CODE``, ``cancelled``, ``poison`` and those of ``NEVER``.
        examples: a few of those that must never be.
        texts: what honest errors said, without their numbers.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.examples: list[str] = []
        self.texts: Counter[str] = Counter()

    @property
    def bad(self) -> int:
        """How many there were that must never be."""
        return sum(self.counts[kind] for kind in NEVER)

    def never(self, kind: str, why: str) -> None:
        """Something that must not be."""
        self.counts[kind] += 1
        if len(self.examples) < 20:
            self.examples.append(f"{kind}: {why[:300]}")

    def rest(self, rows: Sequence[int], status: int, body: bytes) -> None:
        """An answer by REST."""
        if status != 200:
            self._error(rows, status, body.decode("latin-1"))
            return
        try:
            found = [(one["y"], one["f"]) for one in json.loads(body)["predictions"]]
        except (ValueError, KeyError, TypeError):
            self._unread(rows, body)
            return
        self._values(rows, found)

    def grpc(self, rows: Sequence[int], status: int, text: str, message: bytes) -> None:
        """An answer by gRPC."""
        if status:
            self._error(rows, status, text)
            return
        found = read_response(message)
        if found is None:
            self._unread(rows, message)
        else:
            self._values(rows, found)

    def _values(self, rows: Sequence[int], found: Sequence[tuple[float, float]]) -> None:
        due = [right(row) for row in rows]
        if len(found) == len(due) and all(
            y == due_y and (f == due_f or math.isnan(f)) for (y, f), (due_y, due_f) in zip(found, due, strict=True)
        ):
            self.counts["right" if not any(math.isnan(f) for _, f in found) else "right, NaN as the server said"] += 1
            return
        mine = {y for y, _ in due}
        others = [y for y, _ in found if y not in mine]
        kind = "crossed" if any(y % 3 == 1 and (y - 1) // 3 >= FIRST_ROW for y in others) else "wrong"
        self.never(kind, f"{rows} got {found}")

    def _unread(self, rows: Sequence[int], body: bytes) -> None:
        self.never("wrong", f"{rows} got {body!r}")

    def _error(self, rows: Sequence[int], code: int, text: str) -> None:
        others = {int(digits) for digits in _MANY_DIGITS.findall(text)} - set(rows)
        if BUG in text:
            self.never("wrong", f"{rows} were told {code}: {text}")
        elif others:
            self.never("crossed", f"{rows} were told {code}: {text}")
        elif POISON in rows and code in {3, 400}:
            self.counts["poison refused"] += 1
        elif code in HONEST:
            self.counts[f"error {code}"] += 1
            self.texts[f"{code}: {_NUMBERS.sub('N', text)[:200]}"] += 1
        else:
            self.never("wrong", f"{rows} were told {code}: {text}")
