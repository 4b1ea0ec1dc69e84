"""What one HTTP/1.1 request says of itself, and that it is answered once."""

from __future__ import annotations

import gzip

import pytest

from tests.http1_messages import JSON, connect, request


def test_an_exchange_is_gone_once_it_is_answered_or_given_up() -> None:
    """What is said to a caller that left is not heard; a second answer is a bug."""
    connection = connect()
    (answered,) = connection.feed(request(b"{}"), 0.0)
    answered.answer(200, b"[1]", JSON)
    (left,) = connection.feed(request(b"{}"), 0.0)
    waited = left.gone()
    connection.lost()
    left.answer(200, b"[2]", JSON)

    assert (True, False, True) == (answered.gone(), waited, left.gone())
    assert b"" == connection.output()
    with pytest.raises(RuntimeError, match="POST /v1/x was answered twice"):
        answered.answer(200, b"[1]", JSON)


def test_a_body_is_inflated_in_place() -> None:
    """It is no longer compressed then."""
    (exchange,) = connect().feed(request(b"{}"), 0.0)
    exchange.body, exchange.compressed = gzip.compress(b"text"), True
    exchange.inflate(100)

    assert (b"text", False) == (exchange.body, exchange.compressed)
    assert "<Http1Exchange POST /v1/x, 4 bytes>" == repr(exchange)
