"""The shape that wire protocols share: the connections we have fit it, and the limits agree with each other."""

from __future__ import annotations

import dataclasses

import pytest

from batchproxy.wire.base import Connection, GrpcExchange, HttpExchange, Limits
from batchproxy.wire.http1_exchange import Http1Exchange
from batchproxy.wire.http2 import Http2Connection
from batchproxy.wire.http2_limits import Http2Limits
from batchproxy.wire.http2_plain import Http2Exchange
from batchproxy.wire.http2_streams import GrpcCall
from tests.fuzz.inputs import weight
from tests.http1_messages import connect
from tests.http2_peer import Peer


def test_both_protocols_fit_the_shape() -> None:
    """The assignments are what is tested: by mypy."""
    connections: list[Connection] = [connect(), Http2Connection(Http2Limits(), 0.0)]
    exchanges: list[type[HttpExchange]] = [Http1Exchange, Http2Exchange]
    call: type[GrpcExchange] = GrpcCall

    assert [False, False] == [connection.full for connection in connections]
    assert [False, False] == [connection.closing for connection in connections]
    assert {"answer"} == {kind.answer.__name__ for kind in exchanges} | {call.answer.__name__}


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


def test_an_idle_connection_holds_next_to_nothing() -> None:
    """10,000 of them are 100 MB at the most, sockets apart; what connections share is counted for each here."""
    old, new = connect(Limits()), Peer()
    (exchange,) = old.feed(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", 0.0)
    exchange.answer(200, b"x", {})
    old.output()
    for _ in range(20):
        new.ask().answer(0, "", b"x" * 1000)
        new.server.output()

    assert weight(old) < 5_000
    assert weight(new.server) < 10_000
