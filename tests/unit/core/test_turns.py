"""Tests of batchproxy.core.turns. That turns are fair under any load is the lanes' machine's to show."""

from __future__ import annotations

from collections import Counter

from batchproxy.core.book import Book
from batchproxy.core.lane import Lane
from batchproxy.core.policy import Policy
from batchproxy.core.request import Entry
from batchproxy.core.turns import NEWCOMERS, Turns
from batchproxy.testing import StubWaiter, a_request


class _Flows:
    """Turns whose lanes hold one entry again as soon as it was sent.

    Args:
        costs: what a batch of each model takes, in seconds; None: nobody knows.
    """

    def __init__(self, costs: dict[str, float | None]) -> None:
        self.turns = Turns()
        self.costs = costs
        self._tickets = 0
        self._now = 0.0

    def come(self, model: str, tenant: str = "", *, width: int = 0, priority: int = 1) -> Lane:
        """A lane is ripe."""
        request = a_request(model=model, tenant=tenant, width=width, priority=priority)
        lane = Lane(request.key, Book(Policy()))
        self._fill(lane, priority)
        return lane

    def _fill(self, lane: Lane, priority: int) -> None:
        self._now += 1e-3
        lane.push(Entry(a_request(priority=priority), StubWaiter(), self._now))
        self._tickets += 1
        lane.ticket = self._tickets
        self.turns.add(lane)

    def leave(self, lane: Lane) -> None:
        """It holds nothing any more."""
        lane.take(self._now, 8)
        lane.ticket = -1

    def send(self, count: int = 1) -> list[str]:
        """Who has the next turns: model and tenant of each."""
        names = []
        for _ in range(count):
            lane = self.turns.first()
            assert lane is not None
            head = lane.head()
            assert head is not None
            lane.take(self._now, 8)
            self.turns.charge(lane, 1, self.costs[lane.key.model])
            self._fill(lane, head.request.priority or 0)
            names.append(lane.key.model + "".join(value for _, value in lane.key.partition))
        return names


def test_who_is_alone_goes_unless_it_left() -> None:
    """Nobody to share with, nothing to be counted."""
    flows = _Flows({"m": 1.0})
    first = flows.turns.first()
    lane = flows.come("m")

    assert first is None
    assert lane is flows.turns.first()
    assert ["m", "m"] == flows.send(2)

    flows.leave(lane)

    assert flows.turns.first() is None
    assert flows.come("m") is flows.turns.first()


def test_time_is_shared_not_batches() -> None:
    """A model whose batches take ten times as long has a tenth of the turns."""
    flows = _Flows({"m": 0.1, "n": 0.01})
    flows.come("m")
    flows.come("n")

    sent = Counter(flows.send(220))

    assert 18 <= sent["m"] <= 22


def test_tenants_share_alike_however_many_shapes_they_send() -> None:
    """A flow is a model and a tenant: more lanes are no more time."""
    flows = _Flows({"m": 0.1})
    for width in range(5):
        flows.come("m", "a", width=width)
    flows.come("m", "b")

    sent = Counter(flows.send(100))

    assert 49 <= sent["mb"] <= 51


def test_urgent_ones_go_first_while_they_have_credit() -> None:
    """High priority is first in its round, and no more than its share in the long run."""
    flows = _Flows({"m": 0.1, "n": 0.02})
    flows.come("m")
    flows.come("n", priority=0)
    flows.send()

    sent = flows.send(60)

    assert {("n",) * 5 + ("m",)} == {tuple(sent[start : start + 6]) for start in range(sent.index("m") + 1, 54, 6)}


def test_who_was_away_gets_no_credit_for_it() -> None:
    """After a hundred rounds of others it shares the time from then on."""
    flows = _Flows({"m": 0.1, "n": 0.1})
    flows.leave(flows.come("n"))
    flows.come("m", "a")
    flows.come("m", "b")
    flows.send(200)
    flows.come("n", priority=0)

    assert 10 <= Counter(flows.send(30))["n"] <= 11


def test_who_owes_pays_after_it_was_away() -> None:
    """Leaving and coming back within a round is no way to another quantum."""
    flows = _Flows({"m": 0.1, "n": 0.1})
    flows.come("n")
    lane = flows.come("m", priority=0)
    sent = flows.send()
    flows.leave(lane)
    flows.come("m", priority=0)

    assert ["m", "n"] == sent + flows.send()


def test_newcomers_without_end_do_not_keep_a_round_open() -> None:
    """Of those that come, so many join the round; who waits for the next one is not kept from it."""
    flows = _Flows({"m": 0.1})
    flows.come("m", "a")
    flows.come("m", "b")
    flows.send(2)
    others = 0
    for number in range(1000):
        lane = flows.come("m", f"new{number}", priority=0)
        (sent,) = flows.send()
        if sent == "ma":
            break
        others += 1
        flows.leave(lane)

    assert others <= 3 * (NEWCOMERS + 4)


def test_flows_of_the_past_are_forgotten() -> None:
    """Ten thousand tenants that each come once leave no more behind than a few."""
    flows = _Flows({"m": 0.1})
    flows.come("m", "a")
    for number in range(10_000):
        lane = flows.come("m", f"new{number}")
        flows.send(2)
        flows.leave(lane)

    assert len(flows.turns._flows) < 200


def test_rows_stand_in_for_unknown_costs() -> None:
    """At one each while nothing is known, and at the pool's mean thereafter: never rows against seconds."""
    flows = _Flows({"m": None, "n": None})
    flows.come("m")
    flows.come("n")

    assert {"m": 10, "n": 10} == Counter(flows.send(20))

    flows.costs["m"] = 0.001

    assert 9 <= Counter(flows.send(20))["n"] <= 11


def test_what_was_never_there_is_not_charged() -> None:
    """Turns of full lanes only hear of all batches."""
    turns = Turns()
    lane = Lane(a_request().key, Book(Policy()))
    turns.charge(lane, 1, 1.0)

    assert {} == turns._flows
