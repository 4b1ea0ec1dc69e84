"""Endpoints that go and come, as the scheduler takes it."""

from __future__ import annotations

import pytest

from batchproxy.core.balancer import NOT_PROBED, Endpoint
from batchproxy.core.errors import BackendUnavailable, Code, NoEndpoint
from batchproxy.core.outcome import Outcome
from batchproxy.core.policy import Policies, Policy
from batchproxy.core.request import Entry
from batchproxy.core.scheduler import Scheduler
from batchproxy.testing import StubWaiter, a_request


class World:
    """A scheduler over some endpoints, and what it noticed."""

    def __init__(self, *names: str) -> None:
        self.notices: list[str] = []
        self.endpoints = [Endpoint(name, max_inflight=1) for name in names]
        for endpoint in self.endpoints:
            endpoint.up = True
        policies = Policies({}, Policy())
        self.scheduler = Scheduler(policies, self.endpoints, notice=self.notices.append)

    def submit(self) -> Entry:
        """A request of a model that is not configured by name."""
        entry = Entry(a_request(model="any"), StubWaiter(), 0.0)
        self.scheduler.submit(entry, 0.0)
        return entry


def test_when_the_last_endpoint_goes_everyone_who_waits_is_told_why() -> None:
    """At once; what is in flight ends by itself."""
    world = World("a")
    running, waiting = world.submit(), world.submit()
    dispatch = world.scheduler.poll(0.0)
    assert dispatch is not None
    assert [running, waiting] == dispatch.batch.entries
    late = world.submit()
    failures = world.scheduler.take_out(world.endpoints[0], "connection refused")

    assert [late] == [entry for entry, _ in failures]
    assert "model 'any': no endpoint can be used (a: connection refused)" == failures[0][1].message
    with pytest.raises(NoEndpoint):
        world.submit()


def test_while_another_endpoint_is_left_nobody_is_told() -> None:
    """The queue goes on through it."""
    world = World("a", "b")
    world.submit()
    failures = world.scheduler.take_out(world.endpoints[0], "gone")
    dispatch = world.scheduler.poll(0.0)

    assert [] == failures
    assert dispatch is not None
    assert "b" == dispatch.endpoint.name


def test_a_call_whose_only_endpoint_went_is_not_tried_again() -> None:
    """There is nowhere to try it."""
    world = World("a")
    entry = world.submit()
    dispatch = world.scheduler.poll(0.0)
    assert dispatch is not None
    world.scheduler.take_out(dispatch.endpoint, "gone")
    failures = world.scheduler.settle(dispatch, 0.1, Outcome.NOT_RUN, BackendUnavailable("gone"))

    assert [(entry, Code.UNAVAILABLE)] == [(failed, error.code) for failed, error in failures]


def test_going_and_coming_is_noticed_once_each() -> None:
    """The first probe at start is no news."""
    world = World("a")
    endpoint = world.endpoints[0]
    endpoint.up, endpoint.last_error = False, NOT_PROBED
    world.scheduler.bring_back(endpoint)
    world.scheduler.take_out(endpoint, "gone")
    world.scheduler.take_out(endpoint, "still gone")
    world.scheduler.bring_back(endpoint)

    assert [
        "endpoint a: left out, and probed until it answers: gone",
        "endpoint a: answers again, and is used again",
    ] == world.notices
    assert endpoint.up
    assert "" == endpoint.last_error
