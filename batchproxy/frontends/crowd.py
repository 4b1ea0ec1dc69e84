"""What comes in one turn of the loop on many connections: kept until the turn ends, and read in one go. No routes here.

Callers who are answered together come back together. What is done for all of them then is done in tight loops, each
over all of them, instead of one chain of calls for each; and between two of them the kernel, which reads the next
connection, does not drive our code and data out of the processor's caches.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from batchproxy.engine import CROWD

if TYPE_CHECKING:
    from batchproxy.frontends.callers import Http1Caller
    from batchproxy.frontends.door import Door
    from batchproxy.wire.http1 import Http1Connection

logger = logging.getLogger("batchproxy.listener")

Serve = Callable[["Http1Caller"], None]
ServeAll = Callable[[Sequence["Http1Caller"], float, Serve], None]


class Crowd:
    """The connections of one listener that bring one plain request at a time.

    Args:
        serve_all: answers requests, now or later: those that it does not know by its last argument.
        serve: that.
        clock: monotonic seconds.

    Attributes:
        gathers: whether what comes is to be kept.
        kept: what came on which connection; before the first of a turn ``begin`` is to be called.
    """

    __slots__ = ("_clock", "_serve", "_serve_all", "gathers", "kept")

    def __init__(self, serve_all: ServeAll, serve: Serve, clock: Callable[[], float]) -> None:
        self.gathers = False
        self._serve_all = serve_all
        self._serve = serve
        self._clock = clock
        self.kept: list[tuple[Door, Http1Connection, bytes]] = []

    def expect(self, count: int) -> None:
        """So many were answered together."""
        if count >= CROWD:
            self.gathers = True

    def begin(self) -> None:
        """The turn is to end with ``take_in``."""
        asyncio.get_running_loop().call_soon(self.take_in)

    def take_in(self) -> None:
        """Read what was kept: to be called before anything else is done to one of these connections."""
        kept, self.kept = self.kept, []
        if not kept:
            return
        self.gathers = len(kept) >= CROWD
        now = self._clock()
        callers: list[Http1Caller] = []
        for door, wire, data in kept:
            caller = wire.take_known(data, now)
            if caller is not None:
                callers.append(caller)  # type: ignore[arg-type]  # what our listener has its wires make
                continue
            try:
                door.read(data)
            except Exception:
                logger.exception("what came on a connection could not be read. This is a bug.")
                door.abort()
        try:
            self._serve_all(callers, now, self._serve)
        except Exception:
            logger.exception("requests could not be begun together. This is a bug.")
            for caller in callers:
                if caller.on_cancel is None:  # nobody works on it; who is answered is passed over
                    self._serve(caller)
