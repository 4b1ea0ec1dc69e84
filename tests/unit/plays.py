"""Scenes that tests of the scheduler begin with."""

from __future__ import annotations

from batchproxy.core.policy import Policy
from batchproxy.core.request import Request
from batchproxy.testing import Playbook, a_request


def requests(count: int, model: str = "m") -> list[Request]:
    """Requests of one row, told apart by its number."""
    return [a_request(model=model, first=place) for place in range(count)]


def one_slot(policy: Policy | None = None, *, endpoints: int = 1) -> Playbook:
    """A playbook whose endpoints take one call at a time."""
    return Playbook({"m": policy or Policy()}, max_inflight=1, endpoints=endpoints)


def running(*sent: Request, policy: Policy | None = None, endpoints: int = 1) -> Playbook:
    """A playbook with these requests in flight as one batch."""
    return one_slot(policy, endpoints=endpoints).submit(*sent).expect_dispatch(sent)
