"""Tests of batchproxy.core.lanes."""

from __future__ import annotations

from math import inf

import pytest

from batchproxy.core import lanes as module
from batchproxy.core.errors import QueueFull
from batchproxy.core.lane import Lane
from batchproxy.core.lanes import Lanes
from batchproxy.core.padding import Rounded
from batchproxy.core.policy import Policies, Policy
from batchproxy.core.request import Entry, Request
from batchproxy.testing import StubWaiter, a_request


def _lanes(*, max_queued_bytes: int = 1 << 20, **policy: float) -> Lanes:
    return Lanes({"m": Policy(**policy), "n": Policy()}, max_queued_bytes)  # type: ignore[arg-type]


def _push(lanes: Lanes, request: Request, arrival: float = 0.0) -> Entry:
    entry = Entry(request, StubWaiter(), arrival)
    lanes.push(entry)
    return entry


def test_one_lane_a_key() -> None:
    """Requests that may ride together share a lane; others have their own."""
    lanes = _lanes()
    a, b, c = (_push(lanes, request) for request in (a_request(), a_request(2), a_request(width=3)))

    assert a.home is b.home
    assert a.home is not c.home
    assert a.home is lanes.find(a.request.key)
    assert lanes.find(a_request(model="n").key) is None
    assert 2 == len(lanes)
    assert [a, b, c] == list(lanes.entries())
    assert (4, 8 * (1 + 2 + 3)) == (lanes.rows, lanes.nbytes)


def test_most_urgent_is_served_first() -> None:
    """Whichever model it belongs to; one that still waits for company has no turn, however urgent."""
    lanes = _lanes(max_delay_s=0.5)
    m = _push(lanes, a_request(), arrival=0.0)
    n = _push(lanes, a_request(model="n"), arrival=0.2)

    assert -inf == lanes.next_due()
    assert n.home is lanes.next_ripe(0.2)
    assert m.home is lanes.next_ripe(0.6)
    assert m.home is lanes.next_ripe(0.6)


def test_urgent_request_hurries_its_lane() -> None:
    """It is the lane's order that changes; where it is cancelled, it changes back."""
    lanes = _lanes()
    a = _push(lanes, a_request())
    b, urgent = _push(lanes, a_request(width=3), arrival=0.1), _push(lanes, a_request(width=3, priority=0), arrival=0.2)
    lane = lanes.lane(b.request.key)

    assert lane is lanes.next_ripe(0.2)

    lane.remove(urgent)

    assert a.home is lanes.next_ripe(0.2)


def test_full_lanes_have_turns_of_their_own() -> None:
    """For when nothing but full batches may leave: the most urgent of them, until it is full no more."""
    lanes = _lanes(max_batch_rows=2)
    _push(lanes, a_request(priority=0))
    a, b = _push(lanes, a_request(3, width=3), arrival=0.1), _push(lanes, a_request(2, width=4), arrival=0.2)
    first, second = lanes.lane(a.request.key), lanes.lane(b.request.key)

    assert first is lanes.next_full()

    first.remove(a)
    lanes.rank(first)

    assert second is lanes.next_full()

    second.cap = 3

    assert lanes.next_full() is None


def test_models_take_turns_by_what_their_batches_cost() -> None:
    """One that pays tenfold gets every eleventh turn, however it hurries; the full lanes' turns are paid alike."""
    lanes = Lanes(dict.fromkeys("mn", Policy(max_batch_rows=1)), 1 << 20)
    for number in range(100):
        _push(lanes, a_request(priority=0), number / 100)
        _push(lanes, a_request(model="n"), number / 100)
    sent = []
    for number in range(40):
        lane = lanes.next_full() if number % 2 else lanes.next_ripe(1.0)
        assert lane is not None
        lane.take(1.0, 1)
        lanes.charge(lane, 1, 0.1 if lane.key.model == "m" else 0.01)
        lanes.rank(lane)
        sent.append(lane.key.model)

    assert 3 <= sent.count("m") <= 5


def test_lane_that_fills_is_ripe_at_once() -> None:
    """Company is complete: there is nothing to wait for."""
    lanes = _lanes(max_delay_s=9.0, max_batch_rows=2)
    a = _push(lanes, a_request())
    assert lanes.next_ripe(0.0) is None
    _push(lanes, a_request())

    assert a.home is lanes.next_ripe(0.0)


def test_due_time_follows_the_head() -> None:
    """Where the head was cancelled, the next one has its own time to wait."""
    lanes = _lanes(max_delay_s=1.0)
    a, b = _push(lanes, a_request(), 0.0), _push(lanes, a_request(), 0.4)
    lane = lanes.lane(a.request.key)
    lane.remove(a)

    assert lanes.next_ripe(1.0) is None
    assert 1.4 == lanes.next_due()
    assert b.home is lanes.next_ripe(1.4)


def test_models_that_are_not_configured_have_a_book_too() -> None:
    """It is opened with their first request."""
    lanes = Lanes(Policies({}, Policy()), 1 << 20)
    _push(lanes, a_request())

    assert {"m": 1} == {name: book.rows for name, book in lanes.books.items()}


def test_empty_lane_is_dropped_unless_it_remembers() -> None:
    """R7: empty lanes are dropped at once; what is known of bad batches is kept."""
    lanes = _lanes()
    a, b = _push(lanes, a_request()), _push(lanes, a_request(width=3))
    first, second = lanes.lane(a.request.key), lanes.lane(b.request.key)
    second.note(bad=True)
    for lane, entry in ((first, a), (second, b)):
        lane.remove(entry)
        lanes.rank(lane)

    assert lanes.find(a.request.key) is None
    assert second is lanes.find(b.request.key)
    assert lanes.next_due() is None


def test_rows_are_bounded_but_never_refuse_the_only_one() -> None:
    """The bound is on what waits; a request above it passes where nothing does."""
    lanes = _lanes(max_queued_rows=4)
    _push(lanes, a_request(9))

    with pytest.raises(QueueFull, match=r"'m': 9 rows are waiting and 1 more would pass max_queued_rows \(4\)"):
        _push(lanes, a_request(1))
    _push(lanes, a_request(1, model="n"))  # the bound is the model's


def test_bytes_are_bounded_but_never_refuse_the_only_one() -> None:
    """The bound is on all lanes together."""
    lanes = _lanes(max_queued_bytes=30)
    _push(lanes, a_request(9))

    with pytest.raises(QueueFull, match=r"'n': 72 bytes are waiting and 8 more would pass max_queued_bytes \(30\)"):
        _push(lanes, a_request(1, model="n"))


def test_lanes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound lanes that only remember give way, then new shapes are refused; known ones are not."""
    monkeypatch.setattr(module, "MAX_LANES", 2)
    lanes = _lanes()
    lanes.lane(a_request(width=1).key).note(bad=True)
    _push(lanes, a_request(width=2))
    _push(lanes, a_request(width=3))

    with pytest.raises(QueueFull, match="2 different shapes of request are waiting already"):
        _push(lanes, a_request(width=4))
    _push(lanes, a_request(width=3))
    assert lanes.find(a_request(width=1).key) is None


def test_rounding_changes_the_caps_of_one_model() -> None:
    """Lanes that are full now are known as such; those of other models stay as they are."""
    policies = Rounded({"m": Policy(max_batch_rows=12), "n": Policy(max_batch_rows=12)})
    lanes = Lanes(policies, 1 << 20)
    m, n = (_push(lanes, a_request(9, model=model)).home for model in ("m", "n"))
    policies.round("m")
    full = [lanes.next_full()]
    lanes.round("m")
    full.append(lanes.next_full())

    assert [None, m] == full
    assert [8, 12] == [lane.cap for lane in (m, n) if isinstance(lane, Lane)]
    assert [True, False] == [lanes.books[model].rounded for model in ("m", "n")]
