"""Tests of batchproxy.lending: servers lent to calls that the engine does not carry. Streams are in test_streams."""

from __future__ import annotations

from typing import cast

import pytest

from batchproxy.core.errors import BackendUnavailable, Draining, NoEndpoint, QueueFull
from batchproxy.testing import FakeBackend
from tests.unit.engines import an_engine


async def test_a_loan_is_counted_while_it_lasts() -> None:
    """As one unmerged call, which bounds how many there are."""
    engine = an_engine(backend := FakeBackend())
    (endpoint,) = engine.scheduler.balancer.endpoints
    endpoint.max_relayed = 1
    with engine.borrow() as server:
        assert server is cast("object", backend)
        assert (1, 1) == (endpoint.relayed, endpoint.rows)
        with pytest.raises(QueueFull, match="pool 'pool': every endpoint has max_relayed unmerged calls"):
            engine.borrow().__enter__()

    assert (0, 0) == (endpoint.relayed, endpoint.rows)


async def test_a_server_that_cannot_be_reached_is_left_out() -> None:
    """Whoever borrows next is told so."""
    engine = an_engine(FakeBackend())
    with pytest.raises(BackendUnavailable), engine.borrow():
        raise BackendUnavailable("connection refused")

    with pytest.raises(NoEndpoint, match="connection refused"):
        engine.borrow().__enter__()
    await engine.aclose()


async def test_nothing_is_lent_by_a_closed_engine() -> None:
    """Those that a shutdown waits for are counted until they end."""
    engine = an_engine(FakeBackend())
    told: list[object] = []
    with engine.borrow(told.append):
        assert 1 == engine.unanswered()
        assert 1 == engine.strand()
        with pytest.raises(Draining):
            engine.borrow().__enter__()

    assert [Draining] == [type(why) for why in told]
    assert 0 == engine.unanswered()
    await engine.drain()
