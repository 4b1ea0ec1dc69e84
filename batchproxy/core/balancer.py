"""Endpoints as the core sees them, and the choice among them: who would answer this batch first. Sends nothing."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence

from batchproxy.core.cost import Cost
from batchproxy.core.limit import Limit
from batchproxy.core.pace import EASE, Hurry
from batchproxy.core.placement import Placement
from batchproxy.core.request import BatchKey, KindName
from batchproxy.core.sharing import FREE, Sharing

MAX_RELAYED = 256
"""Unmerged calls an endpoint may have at once (R2)."""

MAX_KINDS = 1024
"""Kinds of batch whose costs an endpoint remembers; the oldest is forgotten for one more."""

LOOKED_AT = 16
"""Endpoints that are compared for one batch: of more, the next ones in turn. Two would do nearly as well as all."""

STALE = 64
"""Turns of a pool in which what an endpoint is known to cost loses half its weight, while it gets no batch. One that is
k times as slow is so tried once in 64*(k - 1) rounds, at (k - 1) times a batch's time: a 64th of it for each. At first
it is tried sooner, after 64 rounds, 128, 256 and so on: one bad moment is no proof."""

TRIALS = 4
"""Batches that an endpoint gets when it comes back, whatever it is said to cost: its last answers were slow."""

SLOW_START_S = 10.0
"""Seconds in which an endpoint that comes back gets to its share. Envoy has the same, off unless configured."""

LEAST_SHARE = 0.1
"""What it begins with. Envoy: ``min_weight_percent``."""

UNPROVEN = 2
"""Merged calls at an endpoint that has not answered any since it came, where there are others: it may hang."""

NAMED = 8
"""Endpoints whose reasons are told to whoever finds none that can be used."""

_LAST = (MAX_KINDS, math.inf, 0, 0)
"""Behind every endpoint's rank: no batch failed at so many."""

NOT_PROBED = "not probed yet"
"""Why an endpoint is not up before its first probe has ended."""


class Endpoint:
    """The book of one address: what it has in flight, what it is known to cost, and whether it can be used.

    Args:
        name: the address, for logs and metrics.
        max_inflight: merged calls at once, where a user knows; None: learned.
        max_relayed: unmerged calls at once.

    Attributes:
        limit: how many merged calls it may have, and how many it has.
        trials: batches that it still gets whatever it is said to cost.
        up: answered its last probe.
        out: answers its probes, but is left out for how its calls end; kept by `outliers`, as are the next four.
        ejected_until: when it is taken back, on the engine's clock.
        times: how often it was left out lately.
        failures: calls in a row that failed.
        answers: calls since the last sweep that did not; ``faults``: those that did.
        warm_at: until when it gets less than its share; ``inf``: for ``SLOW_START_S`` from now on.
        gone: was removed from its pool; what is in flight there ends, and nothing more is sent.
        last_error: why it is not up.
        rows: outstanding rows over all its calls.
        last_answer: when a batch was last answered, on the engine's clock; kept by `compiling`, as is the next.
        last_compile: when one was last answered whose size was being compiled.
        recalled: costs from before a restart, until a batch of their kind is asked about.
    """

    __slots__ = (
        *("answers", "ejected_until", "failures", "faults", "out", "times", "warm_at"),
        *("_costs", "gone", "last_answer", "last_compile", "last_error", "limit", "max_relayed", "name", "recalled"),
        *("relayed", "rows", "trials", "turn", "up"),
    )

    def __init__(self, name: str, *, max_inflight: int | None = None, max_relayed: int = MAX_RELAYED) -> None:
        self.name = name
        self.limit = Limit(max_inflight)
        self.max_relayed = max_relayed
        self.up = self.gone = self.out = False
        self.answers = self.faults = self.failures = self.times = 0
        self.ejected_until = self.warm_at = -math.inf
        self.last_error = NOT_PROBED
        self.relayed = 0
        self.rows = 0
        self.turn = 0
        self.trials = 0
        self.last_answer = self.last_compile = -math.inf
        self.recalled: dict[KindName, Cost] = {}
        self._costs: dict[tuple[object, ...], Cost] = {}

    @property
    def in_flight(self) -> int:
        """Merged calls under way."""
        return self.limit.in_flight

    @property
    def busy(self) -> bool:
        """Whether any call is under way, merged or not."""
        return self.relayed > 0 or self.limit.in_flight > 0

    def cost(self, key: BatchKey) -> Cost:
        """What batches of this kind cost here: one cost per model, version, signature and shape class (R2)."""
        kind = key[:4]
        cost = self._costs.get(kind)
        if cost is None:
            if len(self._costs) >= MAX_KINDS:
                del self._costs[next(iter(self._costs))]
            cost = self.recalled.pop(KindName.of(kind), None) if self.recalled else None
            cost = self._costs[kind] = cost or Cost()
        return cost

    def answered(self, key: BatchKey, version: int) -> bool:
        """Which version of the model answered, 0 where it did not say; whether costs of another one were forgotten."""
        cost = self.cost(key)
        if not version or version == cost.version:
            return False
        other = cost.version != 0
        if other:
            cost = self._costs[key[:4]] = Cost()
        cost.version = version
        return other

    def known_cost(self, kind: tuple[object, ...]) -> Cost | None:
        """What is known of one kind of batch; None: nothing is."""
        cost = self._costs.get(kind)
        return cost if cost is not None and cost.known else None

    def doubt(self) -> None:
        """What is known is old: the next batches weigh as much."""
        for cost in self._costs.values():
            cost.fade()

    def known(self) -> Iterator[tuple[str, Cost]]:
        """(model, what a kind of batch of it costs here), of each kind that anything is known of."""
        for (model, *_), cost in (*self._costs.items(), *self.recalled.items()):
            if cost.known:
                yield str(model), cost

    def costs(self) -> dict[tuple[object, ...], Cost]:
        """(model, version, signature, shapes) to what it costs here, for whoever explains."""
        return dict(self._costs)

    def __repr__(self) -> str:
        state = ("out" if self.out else "up") if self.up else "down"
        return f"Endpoint({self.name}, {state}, {self.limit!r}, rows={self.rows})"


class Balancer:
    """Chooses an endpoint. Ties go to the one that was used longest ago, so that equals take turns."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self.endpoints = tuple(endpoints)
        self.placement = Placement()
        self._turn = 0
        self._turns: dict[tuple[object, ...], int] = {}
        self._next = 0
        self._freed: Endpoint | None = None
        self._next_relay = 0
        self._up: Endpoint | None = None
        self._idle: OrderedDict[Endpoint, None] = OrderedDict.fromkeys(self.endpoints)
        """All that are up and have nothing to do are in it, among others; used in large pools only."""

    def add(self, endpoint: Endpoint) -> None:
        """One more to choose from."""
        self.endpoints = (*self.endpoints, endpoint)
        self._idle[endpoint] = None

    def remove(self, endpoint: Endpoint) -> None:
        """One less to choose from; what is in flight there is still counted."""
        self.endpoints = tuple(other for other in self.endpoints if other is not endpoint)
        self._idle.pop(endpoint, None)
        self.placement.forget(endpoint)
        if self._freed is endpoint:
            self._freed = None

    def any_up(self) -> bool:
        """Whether any endpoint can be used at all."""
        if self._up is not None and self._up.up:
            return True
        for endpoint in self.endpoints:
            if endpoint.up:
                self._up = endpoint
                return True
        return False

    def kinds(self, count: int) -> Sequence[tuple[object, ...]]:
        """Kinds of batch that were chosen for, the newest ones."""
        return tuple(self._turns)[-count:]

    def why_none(self, model: str) -> str:
        """Why no endpoint can be used, for whoever asked for ``model``."""
        reasons = [f"{endpoint.name}: {endpoint.last_error}" for endpoint in self.endpoints[:NAMED]]
        if len(self.endpoints) > NAMED:
            reasons.append(f"and {len(self.endpoints) - NAMED} more")
        return f"model {model!r}: no endpoint can be used ({'; '.join(reasons) or 'the pool has none at present'})"

    def choose(
        self,
        key: BatchKey,
        rows: int,
        cap: int,
        now: float,
        avoid: Sequence[Endpoint] = (),
        hurry: Hurry = EASE,
        barred: Sequence[Endpoint] = (),
    ) -> tuple[Endpoint | None, float]:
        """The endpoint that may have a merged call now and would answer it first.

        Args:
            key: of the batch.
            rows: that wait.
            cap: rows of a batch at most.
            now: the engine's clock, in seconds.
            avoid: used only where no other may have it, the last one last of all.
            hurry: of the most urgent caller.
            barred: not used at all.

        Returns:
            The endpoint, or None and from when one may have it; ``inf``: not before another call has ended.
        """
        best: Endpoint | None = None
        free: Endpoint | None = None
        best_rank = free_rank = _LAST
        opens = math.inf
        size, kind = min(rows, cap), key[:4]
        sharing = Sharing(size, cap, now, hurry) if 1 < len(self.endpoints) <= LOOKED_AT else None
        turn = self._turns.get(kind, 0)
        without: Collection[Endpoint] = barred
        if self.placement.absent:
            without = {*barred, *self.placement.without(key.model, key.version, self.endpoints)}
        for endpoint in self.endpoints if without else self._candidates():
            if endpoint in without:
                continue
            if not endpoint.up or endpoint.out or (endpoint.last_answer == -math.inf and self._is_unproven(endpoint)):
                continue
            cost, limit = endpoint.cost(key), endpoint.limit
            when = limit.opens(cost, rows, cap, now, hurry)
            if sharing is not None and cost.known:
                sharing.add(limit, cost, when)
            if when > now:
                opens = min(opens, when)
                continue
            if len(self.endpoints) == 1:  # there is nothing to compare it with
                return endpoint, opens
            age = (turn - cost.tried) / (STALE * len(self.endpoints))  # costs change unseen
            trial = endpoint.trials > 0 or age > 1 << cost.trials
            finish = 0.0 if trial else limit.finish(cost, size) / (1.0 + age)
            if endpoint.warm_at > now:
                finish /= _warmth(endpoint, now)
            tried = avoid.index(endpoint) + 1 if avoid and endpoint in avoid else 0
            rank = (tried, finish, endpoint.rows, endpoint.turn)
            if rank < best_rank:
                best, best_rank = endpoint, rank
            if rank < free_rank and limit.in_flight + FREE <= limit.ceiling:
                free, free_rank = endpoint, rank
        if best is None:
            return None, opens
        limit, cost = best.limit, best.cost(key)
        if sharing is not None and best_rank[1] and limit.fixed is None and not limit.draining:  # neither new nor tried
            if rows < cap:
                when = sharing.opens(limit, cost, best_rank[1])
                if when > now:
                    return None, min(opens, when)
            elif free is not None and sharing.is_dense():
                best, cost = free, free.cost(key)
        self._try(best, cost, kind, turn)
        return best, opens

    def _is_unproven(self, endpoint: Endpoint) -> bool:
        """Whether it has as many calls as one may that never answered."""
        limit = endpoint.limit
        return limit.in_flight >= UNPROVEN and limit.fixed is None and len(self.endpoints) > 1

    def _try(self, endpoint: Endpoint, cost: Cost, kind: tuple[object, ...], turn: int) -> None:
        age = (turn - cost.tried) / (STALE * len(self.endpoints))
        cost.tried = turn + 1
        if age > 1.0:
            cost.fade()
            cost.trials += 1
        else:
            cost.trials = 0
        if endpoint.trials:
            endpoint.trials -= 1
        if len(self._turns) >= MAX_KINDS and kind not in self._turns:
            del self._turns[next(iter(self._turns))]
        self._turns[kind] = turn + 1

    def _candidates(self) -> Sequence[Endpoint]:
        """All endpoints of a small pool; of a large one the next few, the one that became free last, and an idle one.

        The idle one is what makes sure that no batch waits while nothing is in flight whose end would have it sent.
        """
        if len(self.endpoints) <= LOOKED_AT:
            return self.endpoints
        start = self._next
        self._next = (start + LOOKED_AT) % len(self.endpoints)
        chosen = [*self.endpoints[start : start + LOOKED_AT]]
        chosen += self.endpoints[: LOOKED_AT - len(chosen)]
        if self._freed is not None:
            chosen.append(self._freed)
        while self._idle:
            endpoint = next(iter(self._idle))
            if endpoint.up and not endpoint.out and not endpoint.in_flight:
                chosen.append(endpoint)
                break
            del self._idle[endpoint]
        return chosen

    def take(self, endpoint: Endpoint, rows: int) -> None:
        """A call of ``rows`` rows goes there."""
        endpoint.rows += rows
        self._turn += 1
        endpoint.turn = self._turn

    def freed(self, endpoint: Endpoint) -> None:
        """A merged call ended there, or it can be used again."""
        if endpoint.gone:
            return
        self._freed = endpoint
        if not endpoint.in_flight:
            self._idle[endpoint] = None

    def acquire_relay(self, rows: int, avoid: Sequence[Endpoint] = (), key: BatchKey | None = None) -> Endpoint | None:
        """Take a place for an unmerged call; None where every endpoint has as many as it may.

        Args:
            rows: of the call.
            avoid: used only where no other has a place.
            key: of the call; None: any endpoint can take it.
        """
        endpoints, chosen = self.endpoints, None
        if key is not None and self.placement.absent:
            without = self.placement.without(key.model, key.version, endpoints)
            endpoints = tuple(each for each in endpoints if each not in without) if without else endpoints
        count = len(endpoints)
        if count > LOOKED_AT:
            start = self._next_relay
            self._next_relay = (start + LOOKED_AT) % count
            chosen = _idlest(endpoints[start : start + LOOKED_AT], avoid)
        if chosen is None or chosen in avoid:
            chosen = _idlest(endpoints, avoid)
        if chosen is None:
            return None
        chosen.relayed += 1
        self.take(chosen, rows)
        return chosen


def _idlest(endpoints: Sequence[Endpoint], avoid: Sequence[Endpoint]) -> Endpoint | None:
    """The one with the fewest rows that has a place for an unmerged call, rather not one to be avoided."""
    best: Endpoint | None = None
    for endpoint in endpoints:
        if not endpoint.up or endpoint.out or endpoint.relayed >= endpoint.max_relayed:
            continue
        if best is None or _before(endpoint, best, avoid):
            best = endpoint
    return best


def _before(endpoint: Endpoint, other: Endpoint, avoid: Sequence[Endpoint]) -> bool:
    if avoid and (endpoint in avoid or other in avoid):
        return endpoint not in avoid or (other in avoid and avoid.index(endpoint) < avoid.index(other))
    return (endpoint.rows, endpoint.turn) < (other.rows, other.turn)


def _warmth(endpoint: Endpoint, now: float) -> float:
    """The part of its share that an endpoint gets that has just come back."""
    if endpoint.warm_at == math.inf:
        endpoint.warm_at = now + SLOW_START_S
    return max(LEAST_SHARE, 1.0 - (endpoint.warm_at - now) / SLOW_START_S)
