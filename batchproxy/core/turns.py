"""Whose turn it is among the models and tenants that share a pool: deficit round robin. What waits is not kept here.

A **flow** is what one tenant asks of one model. Time is dealt out in rounds. In each round every flow that has a ripe
lane may send for one **quantum**, the cost of the dearest batch of the round before, so that each sends one batch at
least; what it sends beyond that it has less in the next rounds, two at most. Within a round the most urgent lane goes
first (``Lane.order``: priority, deadline, age), so a flow with something urgent is served at once while it has credit,
and waits for the others of its round where it has none.

A flow that has nothing ripe when a round begins gets no credit for it; what it owes, it owes. Flows that (re)appear
join the present round, but only as many as there were flows when it began, and a few: later ones join the next,
so that a round ends, however many new ones come.

A lane that is the only ripe one has nobody to share with: it goes, and is charged nothing.

While one flow waits, no other sends for more than four times the dearest batch: the rest of the round, the next two,
and what a batch that crossed the line took beyond it.
"""

from __future__ import annotations

from batchproxy.core.lane import Lane
from batchproxy.core.ranking import Ranking

NEWCOMERS = 8
"""Flows that may join a round at least, however few it began with: so many appear at once on an idle pool."""

_SWEEP_SLACK = 64  # flows that are never worth a sweep
_LEARNING = 1 / 16  # weight of a batch in the mean cost of a row, which stands in only where nothing better is known

Name = tuple[str, tuple[tuple[str, str], ...]]
"""A flow's: model, and the headers that its tenant's calls agree in (``BatchKey.partition``)."""


class Flow:
    """The ripe lanes of one tenant of one model.

    Attributes:
        lanes: those that are ripe, by urgency.
        round: the round in which it may send next.
        spent: what it has sent of that round's quantum already.
        ticket: which item of the ranking speaks for it; -1 while it has no ripe lane.
    """

    __slots__ = ("lanes", "round", "spent", "ticket")

    def __init__(self) -> None:
        self.lanes: Ranking[float, Lane] = Ranking()
        self.round = -1
        self.spent = 0.0
        self.ticket = -1


class Turns:
    """Flows with ripe lanes, by round and then by urgency."""

    def __init__(self) -> None:
        self._flows: dict[Name, Flow] = {}
        self._ranking: Ranking[tuple[int, float], Flow] = Ranking()
        self._tickets = 0
        self._present = 0
        self._sole: Lane | None = None
        self._sole_ticket = -1
        self._sweep_at = _SWEEP_SLACK
        self._round = 0
        self._room = NEWCOMERS
        self._quantum = 0.0
        self._dearest = 0.0
        self._row_cost: float | None = None

    def add(self, lane: Lane) -> None:
        """A lane is ripe, or its urgency changed; its ticket is new."""
        sole = self._sole
        if sole is lane or (not self._present and (sole is None or sole.ticket != self._sole_ticket)):
            self._sole, self._sole_ticket = lane, lane.ticket
            return
        if sole is not None:
            self._sole = None
            if sole.ticket == self._sole_ticket:
                self._add(sole)
        self._add(lane)

    def _add(self, lane: Lane) -> None:
        key = lane.key
        name = key[0], key[5]
        flow = self._flows.get(name)
        if flow is None:
            flow = self._flows[name] = Flow()
        if flow.ticket < 0:
            self._join(flow)
        flow.lanes.push(lane.order, lane)
        best = flow.lanes.first()
        if flow.ticket < 0 or (best is not None and best[2] is lane):
            self._place(flow, lane.order)

    def first(self) -> Lane | None:
        """The lane whose turn it is; asked again, the same one."""
        sole = self._sole
        if sole is not None:
            if sole.ticket == self._sole_ticket:
                return sole
            self._sole = None
        while (item := self._ranking.first()) is not None:
            rank, _, flow = item
            best = flow.lanes.first()
            if best is None:
                self._ranking.pop()
                flow.ticket = -1
                self._present -= 1
            elif rank != (flow.round, best[0]):  # it sent something, or its best lane left
                self._ranking.pop()
                self._place(flow, best[0])
            else:
                if flow.round > self._round:
                    self._begin(flow.round)
                return best[2]
        return None

    def charge(self, lane: Lane, rows: int, seconds: float | None = None) -> None:
        """A batch of a lane leaves.

        Args:
            lane: which ``first`` gave, here or in other turns.
            rows: of the batch.
            seconds: what it is predicted to cost; None: unknown, so that its rows are charged at the pool's mean.
        """
        if lane is self._sole or not self._flows:
            return
        key = lane.key
        flow = self._flows.get((key[0], key[5]))
        if flow is None:  # what it shares is not dealt out here
            return
        cost = self._cost(rows, seconds)
        if cost > self._dearest:
            self._dearest = cost
            self._quantum = max(self._quantum, cost)
        flow.spent += cost
        if flow.spent >= self._quantum:
            flow.spent = min(flow.spent - self._quantum, self._quantum)
            flow.round = min(flow.round, self._round + 1) + 1

    def _cost(self, rows: int, seconds: float | None) -> float:
        if seconds is None:
            return rows * (1.0 if self._row_cost is None else self._row_cost)
        mean = max(seconds, 1e-9) / rows
        if self._row_cost is None:  # what was charged so far were rows, and says nothing in seconds
            self._row_cost = mean
            self._quantum = self._dearest = 0.0
            for flow in self._flows.values():
                flow.spent = 0.0
        self._row_cost += _LEARNING * (mean - self._row_cost)
        return mean * rows

    def _join(self, flow: Flow) -> None:
        self._present += 1
        if flow.round < self._round:  # the credit of earlier rounds is lost
            flow.spent = 0.0
            flow.round = self._round if self._room > 0 else self._round + 1
            self._room -= 1

    def _place(self, flow: Flow, order: float) -> None:
        self._tickets += 1
        flow.ticket = self._tickets
        self._ranking.push((flow.round, order), flow)

    def _begin(self, number: int) -> None:
        """A new round: all who are present come from earlier ones, or could not join those any more."""
        self._round = number
        self._room = self._present + NEWCOMERS
        self._quantum = self._dearest or self._quantum
        self._dearest = 0.0
        if len(self._flows) > self._sweep_at:
            self._flows = {name: flow for name, flow in self._flows.items() if flow.ticket >= 0 or flow.round >= number}
            self._sweep_at = 2 * len(self._flows) + _SWEEP_SLACK
