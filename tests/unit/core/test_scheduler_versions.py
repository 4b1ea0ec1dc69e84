"""A server that answers as another version than before."""

from __future__ import annotations

from batchproxy.core.balancer import Endpoint
from batchproxy.core.outcome import Outcome
from batchproxy.core.policy import Policy
from batchproxy.core.request import Entry
from batchproxy.core.scheduler import Scheduler
from batchproxy.testing import StubWaiter, a_request


def test_what_was_learned_of_another_version_is_forgotten_and_said() -> None:
    """Once; an answer that names no version, or the same one, changes nothing."""
    said: list[str] = []
    endpoint = Endpoint("e")
    scheduler = Scheduler({"m": Policy()}, [endpoint], notice=said.append)
    scheduler.bring_back(endpoint)
    said.clear()
    known = []
    for now, version in enumerate((3, 0, 3, 4, 4)):
        scheduler.submit(Entry(a_request(), StubWaiter(), float(now)), float(now))
        dispatch = scheduler.poll(float(now))
        assert dispatch is not None
        scheduler.answered(dispatch, version)
        scheduler.settle(dispatch, now + 0.01, Outcome.OK)
        known.append(endpoint.cost(dispatch.batch.key).batches)

    assert [1, 2, 3, 1, 2] == known
    assert ["endpoint e: model 'm' answers as version 4: what its batches cost is learned anew"] == said
