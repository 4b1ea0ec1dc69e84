"""The shape that wire protocols share: the connections we have fit it, and the limits agree with each other."""

from __future__ import annotations

import dataclasses

import pytest

from batchproxy.wire.base import Connection, HttpExchange, Limits
from tests.http1_messages import connect, request


def test_an_http1_connection_is_a_connection() -> None:
    """The assignments are what is tested: by mypy."""
    http1 = connect()
    (found,) = http1.feed(request(b"body"), 0.0)
    connection: Connection = http1
    exchange: HttpExchange = found

    assert not connection.full
    assert b"body" == exchange.body


def test_limits_are_given_by_name_and_stay() -> None:
    """Nobody changes them under a connection."""
    limits = Limits(idle_s=1.5)

    assert 1.5 == limits.idle_s
    with pytest.raises(dataclasses.FrozenInstanceError):
        limits.idle_s = 2.0  # type: ignore[misc]


def test_limits_agree_with_each_other() -> None:
    """A line fits into a head, and no limit switches something off."""
    limits = Limits()

    assert limits.line_bytes < limits.head_bytes
    assert all(value > 0 for value in dataclasses.asdict(limits).values())
