"""What befalls calls in a soak: faults by a seed, and servers of which some are slow. No sockets here."""

from __future__ import annotations

import asyncio
import random

from tests.faults.script import POISON, Call, Fault
from tests.faults.server import Site

MAX_ROWS = 3
"""Rows of one request: a call of more is surely merged."""

RAGGED = "ragged"
"""The model that answers with other rows than it was sent; batching is switched off for it, so no other may be."""

SERVICE_S = 0.003
"""What each call takes: long enough for others to gather meanwhile."""

SLOW_S = 0.2
HANG_S = 15.0
"""Longer than the proxy's patience (``BACKEND_TIMEOUT_S``)."""

BACKEND_TIMEOUT_S = 4.0

ANY = (
    Fault.SLOW, Fault.DRIBBLE, Fault.RESET_BEFORE, Fault.HANG_UP, Fault.RESET_WITHIN, Fault.HALF_CLOSE,
    Fault.EXTRA_OUTPUT, Fault.NAN, Fault.NO_PROTOCOL, Fault.SHORTER, Fault.INTERNAL, Fault.UNAVAILABLE, Fault.GATEWAY,
    Fault.GOAWAY, Fault.GOAWAY_AFTER, Fault.REFUSED_STREAM, Fault.RST_STREAM, Fault.NO_STATUS,
)  # fmt: skip
MERGED = (Fault.GARBAGE, Fault.LONGER, Fault.TWICE, Fault.WRONG_TYPE)
"""Of a lone call the caller would get them as they are; of a merged one nobody may notice."""


class Storm:
    """Decides by a seed; which call a draw falls on is up to the traffic.

    Args:
        seed: of the draws.
        rate: share of calls that meet a fault.
    """

    def __init__(self, seed: int, rate: float) -> None:
        self.deaf: set[str] = set()
        self._lots = random.Random(seed)
        self._rate = rate

    def take(self, call: Call) -> Fault | None:
        """What befalls a call."""
        if POISON in call.rows:
            return Fault.POISON_ROW
        lot = self._lots.random()
        if lot < self._rate / 200:
            return Fault.HANG
        if lot > self._rate:
            return None
        if call.model == RAGGED and len(call.rows) > MAX_ROWS:
            return self._lots.choice((Fault.FEWER_ROWS, Fault.MORE_ROWS))
        if len(call.rows) > 8 * MAX_ROWS and self._lots.random() < 0.1:
            return Fault.EXHAUSTED
        return self._lots.choice(ANY + MERGED if len(call.rows) > MAX_ROWS else ANY)


class SlowSite(Site):
    """A site with a clock: calls take their time."""

    async def pause(self, call: Call, fault: Fault | None) -> None:
        await asyncio.sleep({Fault.SLOW: SLOW_S, Fault.HANG: HANG_S}.get(fault, SERVICE_S) if fault else SERVICE_S)


class LaneSite(Site):
    """A site that runs one call at a time, which takes ``alpha_s + beta_s * rows``.

    Args:
        script: as of ``Site``.
        alpha_s: of a call.
        beta_s: of a row.
    """

    def __init__(self, script: Storm, alpha_s: float, beta_s: float) -> None:
        super().__init__(script)
        self._cost = alpha_s, beta_s
        self._lane = asyncio.Lock()

    async def pause(self, call: Call, fault: Fault | None) -> None:
        alpha_s, beta_s = self._cost
        async with self._lane:
            await asyncio.sleep(alpha_s + beta_s * len(call.rows))
