"""Messages of a stream: whole however they are cut, and told when there are too many to be sent."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.wire.http2_head import Refusal
from batchproxy.wire.http2_messages import HIGH_BYTES, LOW_BYTES, Inbox, Outbox
from batchproxy.wire.http2_streams import Extra
from tests.http2_peer import prefixed


@given(
    messages=st.lists(st.tuples(st.binary(max_size=30), st.integers(0, 1)), max_size=6),
    cuts=st.sets(st.integers(0, 200)),
    eager=st.booleans(),
)
def test_messages_cut_anywhere_are_the_same(messages: list[tuple[bytes, int]], cuts: set[int], eager: bool) -> None:
    """Whether they are taken as they come or at the end; what is held is what was not taken."""
    inbox, extra = Inbox(100), Extra(1000, -1)
    payload = b"".join(prefixed(message, compressed) for message, compressed in messages)
    edges = sorted({0, len(payload), *(cut for cut in cuts if cut < len(payload))})
    found = []

    def take() -> None:
        while (message := inbox.receive(extra)) is not None:
            found.append((message[1], message[0]))

    for start, end in pairwise(edges):
        before = inbox.whole
        became = inbox.take(extra, payload[start:end], b"gzip")

        assert (inbox.whole > before) is became
        if eager:
            take()
    inbox.complete(extra)
    take()

    assert messages == found
    assert (len(payload), 0, 0) == (extra.received, extra.held, inbox.whole)


def test_a_long_message_says_how_much_is_missing() -> None:
    """So that its window can be opened; not while whole ones wait to be taken."""
    inbox, extra = Inbox(100), Extra(1000, -1)
    first = inbox.take(extra, prefixed(b"x") + prefixed(bytes(50))[:20], b"")
    waiting = extra.wanted
    taken = inbox.receive(extra)

    assert (True, -1, (0, b"x")) == (first, waiting, taken)
    assert (61, 20) == (extra.wanted, extra.held)
    assert "<Inbox 0 whole, 20 bytes>" == repr(inbox)


@pytest.mark.parametrize(
    ("payload", "encoding", "code"),
    [(prefixed(bytes(101)), b"gzip", 8), (prefixed(b"x", 1), b"", 13)],
    ids=["too long", "compressed in nobody knows what"],
)
def test_what_is_refused(payload: bytes, encoding: bytes, code: int) -> None:
    """As soon as its prefix came."""
    with pytest.raises(Refusal) as caught:
        Inbox(100).take(Extra(1000, -1), payload[:5], encoding)

    assert code == caught.value.code


def test_an_end_within_a_message() -> None:
    """It is not whole."""
    inbox, extra = Inbox(100), Extra(1000, -1)
    inbox.take(extra, prefixed(b"abc")[:-1], b"")
    with pytest.raises(Refusal, match="before its announced length"):
        inbox.complete(extra)
    inbox.clear()

    assert "<Inbox 0 whole, 0 bytes>" == repr(inbox)


def test_what_is_to_be_sent_is_counted() -> None:
    """With what the outlet has in hand; who waits is told once that it may go on."""
    outbox, extra = Outbox(), Extra(0, -1)
    piece = outbox.add(bytes(HIGH_BYTES), 1)
    outbox.add(b"x")
    before = outbox.backlog(extra), len(outbox), repr(outbox)
    outbox.waiting = True
    extra.body, extra.sent = memoryview(outbox.take()), 5
    told = [outbox.relieved(LOW_BYTES), outbox.relieved(LOW_BYTES - 1), outbox.relieved(0)]
    outbox.add(b"y")
    outbox.clear()

    assert b"\1" == piece[:1]
    assert (HIGH_BYTES + 11, 2, f"<Outbox {HIGH_BYTES + 11} bytes>") == before
    assert HIGH_BYTES + 6 == outbox.backlog(extra)
    assert [False, True, False] == told
    assert b"" == outbox.take()
