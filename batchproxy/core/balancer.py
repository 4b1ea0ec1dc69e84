"""Endpoints as the core sees them, and the choice among them: least outstanding rows with a free slot."""

from __future__ import annotations

from collections.abc import Sequence

MAX_INFLIGHT = 2
"""Merged calls an endpoint may have at once, unless configured: one runs while the next is made ready."""

MAX_RELAYED = 256
"""Unmerged calls an endpoint may have at once (R2)."""


NOT_PROBED = "not probed yet"
"""Why an endpoint is not up before its first probe has ended."""


class Endpoint:
    """The book of one address: what it has in flight and whether it can be used.

    Args:
        name: the address, for logs and metrics.
        max_inflight: merged calls at once.
        max_relayed: unmerged calls at once.

    Attributes:
        up: answered its last probe.
        last_error: why it is not up.
        rows: outstanding rows over all its calls.
    """

    __slots__ = ("in_flight", "last_error", "max_inflight", "max_relayed", "name", "relayed", "rows", "turn", "up")

    def __init__(self, name: str, *, max_inflight: int = MAX_INFLIGHT, max_relayed: int = MAX_RELAYED) -> None:
        self.name = name
        self.max_inflight = max_inflight
        self.max_relayed = max_relayed
        self.up = False
        self.last_error = NOT_PROBED
        self.in_flight = 0
        self.relayed = 0
        self.rows = 0
        self.turn = 0

    def __repr__(self) -> str:
        state = "up" if self.up else "down"
        return f"Endpoint({self.name}, {state}, in_flight={self.in_flight}/{self.max_inflight}, rows={self.rows})"


class Balancer:
    """Chooses an endpoint. Ties go to the one that was used longest ago, so that equals take turns."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self.endpoints = tuple(endpoints)
        self._turn = 0

    def any_up(self) -> bool:
        """Whether any endpoint can be used at all."""
        for endpoint in self.endpoints:  # noqa: SIM110 - asked for every request; a generator takes twice as long
            if endpoint.up:
                return True
        return False

    def why_none(self, model: str) -> str:
        """Why no endpoint can be used, for whoever asked for ``model``."""
        reasons = "; ".join(f"{endpoint.name}: {endpoint.last_error}" for endpoint in self.endpoints)
        return f"model {model!r}: no endpoint can be used ({reasons})"

    def free_slot(self) -> bool:
        """Whether a merged call could leave now."""
        for endpoint in self.endpoints:  # noqa: SIM110 - as any_up
            if endpoint.up and endpoint.in_flight < endpoint.max_inflight:
                return True
        return False

    def acquire_slot(self, rows: int, avoid: Endpoint | None = None) -> Endpoint | None:
        """Take a slot for a merged call of ``rows`` rows; ``avoid`` is used only if it is the last choice."""
        free = [e for e in self.endpoints if e.up and e.in_flight < e.max_inflight]
        chosen = self._least_loaded(free, avoid)
        if chosen is not None:
            chosen.in_flight += 1
            chosen.rows += rows
        return chosen

    def acquire_relay(self, rows: int, avoid: Endpoint | None = None) -> Endpoint | None:
        """Take a place for an unmerged call; None where every endpoint has as many as it may."""
        chosen = self._least_loaded([e for e in self.endpoints if e.up and e.relayed < e.max_relayed], avoid)
        if chosen is not None:
            chosen.relayed += 1
            chosen.rows += rows
        return chosen

    def _least_loaded(self, candidates: list[Endpoint], avoid: Endpoint | None) -> Endpoint | None:
        others = [endpoint for endpoint in candidates if endpoint is not avoid] or candidates
        if not others:
            return None
        chosen = min(others, key=lambda endpoint: (endpoint.rows, endpoint.turn))
        self._turn += 1
        chosen.turn = self._turn
        return chosen
