"""What waits, as totals: of a pool, of a model, of a tenant. None of them holds requests."""

from __future__ import annotations

from math import inf

from batchproxy.core.cap import CEILING, Cap
from batchproxy.core.objective import Objective
from batchproxy.core.pace import Hurry
from batchproxy.core.policy import Policy


class Waiting:
    """What a pool has waiting, over all its models: kept as totals, since every request asks for them."""

    __slots__ = ("nbytes", "rows")

    def __init__(self) -> None:
        self.rows = 0
        self.nbytes = 0


class Book:
    """What one model has waiting, over all its lanes.

    Args:
        policy: the model's.
        waiting: the pool's totals; left out, its own.

    Attributes:
        ahead_s: seconds of work that an endpoint may have in flight beyond its places; ``inf``: as it learned; kept by
            `overload`, as ``max_rows`` is.
        cap: rows of a batch at most, as learned.
        configured: the policy before its batches were rounded.
        most: rows that its server says it takes at most; None: it does not say.
        objective: how long answers may take.
        rounded: whether its batches are rounded up to powers of two, so that caps are such, too.
        tried: whether other caps are tried out: not where the sizes of batches were configured.
    """

    __slots__ = (
        *("ahead_s", "cap", "configured", "max_rows", "most", "objective", "policy", "rounded", "rows", "tried"),
        "waiting",
    )

    def __init__(self, policy: Policy, waiting: Waiting | None = None) -> None:
        self.rows = 0
        self.most: int | None = None
        self.waiting = waiting or Waiting()
        self.begin(policy)

    def begin(self, policy: Policy) -> None:
        """The policy is another one now, so what was learned of the cap counts no more; what waits stays."""
        self.configured = self.policy = policy
        self.cap = self._new_cap()
        self.objective = Objective(policy.slo_s)
        self.rounded = False
        self.tried = not policy.allowed_batch_sizes
        self.max_rows = policy.max_queued_rows
        self.ahead_s = inf

    def kept(self, hurry: Hurry) -> Hurry:
        """That of a caller, or of an endpoint that is to have less in flight."""
        return hurry if self.ahead_s == inf else Hurry(min(hurry.patience, self.ahead_s), hurry.deadline)

    def declare(self, most: int | None) -> bool:
        """The server says how many rows it takes at most; returns whether that is news.

        A batch may have as many from now on, unless the configuration names fewer.
        """
        if most == self.most:
            return False
        self.most = most
        before, self.cap = self.cap, self._new_cap()
        if before.learned:
            self.cap.restore(**before.state())
        if self.rounded:
            self.cap.round()
        return True

    def _new_cap(self) -> Cap:
        policy, most = self.configured, self.most
        rows, ceiling = policy.max_batch_rows, CEILING if policy.grows else policy.max_batch_rows
        if most is None:
            return Cap(rows, ceiling)
        ceiling = min(most, ceiling)
        return Cap(ceiling, ceiling)

    @property
    def learned(self) -> bool:
        """Whether its batches may have other rows than was configured."""
        return self.rounded or (self.tried and self.cap.learned)

    def add(self, rows: int, nbytes: int) -> None:
        """More of this model waits, or less."""
        self.rows += rows
        self.waiting.rows += rows
        self.waiting.nbytes += nbytes


class Share:
    """What one tenant has waiting of one model, over all its lanes.

    Attributes:
        rows: of its requests.
        lanes: how many it has.
    """

    __slots__ = ("lanes", "rows")

    def __init__(self) -> None:
        self.rows = 0
        self.lanes = 0
