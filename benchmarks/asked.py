"""What became of single requests, where a benchmark looks at each of them. Nothing is sent here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

GUARD_S = 30.0
"""After so long a request counts as lost."""


@dataclass(frozen=True)
class Asked:
    """One request: when, for how long, and how it ended; ``fault`` is empty for the right answer."""

    at: float
    seconds: float
    fault: str


def p99_ms(found: Sequence[Asked]) -> float:
    """The 99th percentile of what they took; NaN for none."""
    return 1000 * float(np.percentile([asked.seconds for asked in found], 99)) if found else float("nan")


async def load(waits: Iterator[float], ask: Callable[[int], Coroutine[Any, Any, Asked]]) -> list[Asked]:
    """Requests whose times depend on no answer, and what became of them.

    Args:
        waits: seconds from each to the next; it ends the load.
        ask: makes one, by its number.
    """
    loop = asyncio.get_running_loop()
    tasks: list[asyncio.Task[Asked]] = []
    due = loop.time()
    for wait in waits:
        due += wait
        if (left := due - loop.time()) > 0:
            await asyncio.sleep(left)
        tasks.append(loop.create_task(ask(len(tasks))))
    return list(await asyncio.gather(*tasks))
