"""A body on its way in: counted off or unchunked, charged when it is large, held back where there is no room."""

from __future__ import annotations

import pytest

from batchproxy.wire.base import Limits
from batchproxy.wire.budget import LARGE_BYTES, Budget
from batchproxy.wire.http1_body import Body
from batchproxy.wire.http1_head import CHUNKED, Head, Headers

LIMITS = Limits(body_s=10.0, body_rate=1000)
MIB = 1 << 20


def a_body(length: int, budget: Budget) -> Body:
    """One that begins at second 0."""
    head = Head("POST", "/", Headers({}))
    head.length = length
    return Body(head, LIMITS, budget, 0.0)


def chunk(size: int) -> bytes:
    """So many zeros, framed."""
    return b"%x\r\n%b\r\n" % (size, bytes(size))


@pytest.mark.parametrize("length", [5, CHUNKED])
def test_a_small_body_is_not_charged(length: int) -> None:
    """It is collected up to its end, wherever that is in what was read."""
    budget = Budget(1)
    body = a_body(length, budget)
    raw = b"hello" if length == 5 else b"5\r\nhello\r\n0\r\n\r\n"
    first = body.feed(raw[:3], 0)
    may = body.may_go_on(lambda: None, 0.0)
    end = body.feed(b"--" + raw[3:] + b"POST", 2)

    assert (3, True, len(raw) - 1) == (first, may, end)
    assert (True, b"hello", None) == (body.whole, body.text(), body.claim)


@pytest.mark.parametrize("length", [2 * LARGE_BYTES, CHUNKED])
def test_a_large_body_is_charged_as_it_comes(length: int) -> None:
    """Where its length is known, from the beginning; else once it is large. Dropped, it is given back."""
    budget = Budget()
    body = a_body(length, budget)
    held = []
    for size in (1000, LARGE_BYTES):
        body.feed(chunk(size) if length == CHUNKED else bytes(size), 0)
        assert body.may_go_on(lambda: None, 0.0)
        held.append(budget.held)
    body.drop()
    framing = sum(len(chunk(size)) - size for size in (1000, LARGE_BYTES))

    assert ([0, 1000 + LARGE_BYTES + framing] if length == CHUNKED else [1000, 1000 + LARGE_BYTES]) == held
    assert 0 == budget.held
    assert f"<Body of /, {held[-1]} bytes>" == repr(body)


def test_waiting_is_not_held_against_the_peer() -> None:
    """It waits for room as long as a body may take; afterwards its clock goes on where it stood."""
    budget = Budget(4 * MIB)
    budget.charge(4 * MIB)
    body, woken = a_body(2 * MIB, budget), []
    body.feed(bytes(5000), 0)
    may = body.may_go_on(lambda: woken.append(1), 3.0)
    waits, until = body.waits, body.due()
    budget.charge(-4 * MIB)
    body.go_on(10.0)
    body.go_on(11.0)

    assert (False, True, 13.0) == (may, waits, until)
    assert ([1], False, 7.0 + 10.0 + 5.0) == (woken, body.waits, body.due())
