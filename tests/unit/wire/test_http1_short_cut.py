"""The short cut of HTTP/1.1: a request whose head is known is taken, and answered, as it would be without it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.wire.http1 import Http1Connection
from batchproxy.wire.http1_answers import Answers
from batchproxy.wire.http1_exchange import Http1Exchange
from batchproxy.wire.http1_head import Heads
from tests.http1_messages import JSON, SMALL, request

REQUESTS = [
    request(b"{}"), request(), request(b"{}", method="HEAD"), request(b"{}", version="1.0"), request(method="GET"),
    request(b"{}", "Connection: close"), request(b"{}", "Content-Encoding: gzip"),
    request(b"{}", "Expect: 100-continue"),
    request(b"", "Transfer-Encoding: chunked") + b"2\r\n{}\r\n0\r\n\r\n", request(b"x" * 65),
]  # fmt: skip
STEPS = st.lists(
    st.one_of(
        st.sampled_from(REQUESTS),
        st.sampled_from(
            [b"\r\n", b"\0", b"", b"POST", REQUESTS[0] + REQUESTS[1], REQUESTS[0][:-1], b"}", REQUESTS[0] + b"P"]
        ),
        st.sampled_from(["first", "last", "pause", "resume", "drain", "tick"]),
    ),
    max_size=12,
)


def learned() -> Heads:
    """What is known once all of the requests were met twice."""
    heads = Heads(SMALL)
    for data in REQUESTS * 2:
        _ = Http1Connection(SMALL, heads, Answers(), 0.0).feed(data, 0.0)
    return heads


WITH, WITHOUT = learned(), learned()
for head in WITHOUT.known.values():
    head.usual = False


def story(heads: Heads, steps: list[bytes | str]) -> list[object]:
    """All that is seen of a connection while this is done to it."""
    connection = Http1Connection(SMALL, heads, Answers(), 0.0)
    waiting: list[Http1Exchange] = []
    seen: list[object] = []
    doings: dict[str, Callable[[float], object]] = {
        "pause": lambda _: connection.paused(True),
        "resume": lambda _: connection.paused(False),
        "drain": connection.drain,
        "tick": connection.tick,
    }
    for now, step in enumerate(steps):
        if isinstance(step, bytes):
            found: list[Http1Exchange] = connection.feed(step, float(now)) if not connection.full else []
            waiting += found
            seen.append([(exchange.method, exchange.body, exchange.mode, exchange.held) for exchange in found])
        elif step in doings:
            doings[step](float(now))
        elif waiting:
            waiting.pop(0 if step == "first" else -1).answer(200, b"[%d]" % now, JSON)
        seen.append((connection.output(), connection.full, connection.closing, connection.due(), len(connection.open)))
    return seen


@given(STEPS)
def test_nothing_is_different_without_it(steps: list[bytes | str]) -> None:
    """Whatever comes, in whatever order it is answered, paused, drained and looked after."""
    assert story(WITHOUT, steps) == story(WITH, steps)


def test_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a request whose head was met twice; the general way is not asked then."""
    monkeypatch.setattr(Http1Connection, "_read", None)
    found = Http1Connection(SMALL, WITH, Answers(), 0.0).feed(request(b"{}"), 1.0)

    assert [b"{}"] == [exchange.body for exchange in found]
