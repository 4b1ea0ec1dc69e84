"""HTTP/1.1 as strangers and attackers send it: broken, smuggled, in any pieces: what is made of it is the same."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchproxy.wire.http1 import Http1Connection
from batchproxy.wire.http1_answers import Answers
from batchproxy.wire.http1_head import Head, Heads
from tests.http1_messages import BROKEN, JSON, SMALL, TEXTS, Event, connect, events, mutations, request, told

# ---------------------------------------------------------------- broken ones


@pytest.mark.parametrize(("status", "data"), BROKEN.values(), ids=list(BROKEN))
def test_a_broken_request_is_refused_with_a_page_and_the_connection_ends(status: int, data: bytes) -> None:
    """No request comes out, whatever follows; the page says why, or is libevent's own for a method that it refuses."""
    connection = connect()
    nothing = connection.feed(data + request(b"GET"), 0.0)
    answer = connection.output()
    later = connection.feed(request(), 0.0)

    assert [] == nothing + later
    assert connection.closing
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\nContent-Type: text/html\r\n" in answer
    assert b"\r\nConnection: close\r\n" in answer
    assert answer.endswith(b"</P>\n</BODY></HTML>\n" if b"<H1>Not Implemented" not in answer else b"</HTML>\n")


@pytest.mark.parametrize(("status", "data"), BROKEN.values(), ids=list(BROKEN))
def test_a_broken_request_is_refused_alike_however_it_is_cut(status: int, data: bytes) -> None:
    """In one piece, byte by byte, and cut in two anywhere, with two good ones around it."""
    data = request(b"{}") + data + request(b"[]")
    expected = events([data])

    assert expected == events([bytes([byte]) for byte in data])
    for cut in range(1, len(data)):
        assert expected == events([data[:cut], data[cut:]])


@pytest.mark.parametrize(("status", "data"), BROKEN.values(), ids=list(BROKEN))
def test_what_was_refused_is_refused_again(status: int, data: bytes) -> None:
    """Refused heads are not remembered as good ones, by connections that share what is remembered."""
    heads, answers = Heads(SMALL), Answers()
    found = []
    for _ in range(2):
        connection = Http1Connection(SMALL, heads, answers, 0.0)
        nothing = connection.feed(data + request(b"next"), 0.0)
        found.append((nothing, told(connection)[0]))

    assert [([], status)] * 2 == found


def test_libevents_reason_phrases() -> None:
    """A caller that reads them sees those of TF Serving."""
    first_lines = set()
    for name in ("a length over the limit", "a long line", "HTTP/2.0", "another expectation", "an unknown method"):
        connection = connect()
        _ = connection.feed(BROKEN[name][1], 0.0)
        first_lines.add(connection.output().partition(b"\r\n")[0])

    assert {
        b"HTTP/1.1 413 Request Entity Too Large",
        b"HTTP/1.1 414 Request-URI Too Large",
        b"HTTP/1.1 505 HTTP Version not supported",
        b"HTTP/1.1 417 Expectation Failed",
        b"HTTP/1.1 501 Not Implemented",
    } == first_lines


def test_an_offered_upgrade_is_passed_over() -> None:
    """curl offers h2c; the answer is HTTP/1.1, and the body is still a body."""
    fields = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")
    exchanges = connect().feed(request(b"body", *fields) + request(b"next"), 0.0)

    assert [b"body", b"next"] == [exchange.body for exchange in exchanges]


# ---------------------------------------------------------------- any bytes, cut anyhow


def test_two_thousand_messages_give_the_same_events_cut_at_every_byte() -> None:
    """In one piece, byte by byte, in random pieces, and in two pieces at each place."""
    dice = random.Random(4)
    good = 0
    for data in mutations(1, 2000):
        expected = events([data])
        cuts = sorted(dice.sample(range(len(data) + 1), min(4, len(data) + 1)))
        pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        good += len(expected) > 2

        assert expected == events([bytes([byte]) for byte in data])
        assert expected == events(pieces)
        for cut in range(1, len(data)):
            assert expected == events([data[:cut], data[cut:]])
    assert 500 < good < 1900  # both kinds were met


@given(st.lists(st.sampled_from(TEXTS) | st.binary(max_size=8), max_size=12), st.randoms(use_true_random=False))
@settings(max_examples=300, deadline=None)
def test_any_bytes_cut_anyhow_give_the_same_events(texts: list[bytes], dice: random.Random) -> None:
    """Nothing is raised, whatever comes; memory is bounded by the limits."""
    data = b"".join(texts)
    cuts = sorted(dice.sample(range(len(data) + 1), min(3, len(data) + 1)))
    pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]

    assert events([data]) == events(pieces) == events([bytes([byte]) for byte in data])


def test_without_its_memory_the_wire_makes_the_same_of_everything() -> None:
    """Remembered heads save time and change nothing."""

    class Forgetful(Heads):
        def parse(self, raw: bytes) -> Head:
            head = super().parse(raw)
            self.known.clear()
            return head

    remembering = Heads(SMALL)

    def made_by(heads: Heads, data: bytes) -> list[Event]:
        connection, found = Http1Connection(SMALL, heads, Answers(), 0.0), []
        for exchange in connection.feed(data, 0.0):
            found.append((exchange.method, exchange.path, dict(exchange.headers), exchange.body))
            exchange.answer(200, b"ok", JSON)
        return [*found, connection.output()]

    for data in list(mutations(2, 300)) * 2:
        assert made_by(Forgetful(SMALL), data) == made_by(remembering, data)
    assert remembering.known
