"""Streamed calls of our client: messages both ways, and windows; by a scripted server."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from batchproxy.wire import frames, grpc
from batchproxy.wire.budget import Budget
from batchproxy.wire.frames import DATA, END_STREAM, HEADERS, RST_STREAM, ErrorCode
from batchproxy.wire.http2_client_call import Fate
from batchproxy.wire.http2_messages import HIGH_BYTES
from batchproxy.wire.unpack import Packed
from tests.http2_host import DONE, GOOD, METHOD, cuts
from tests.http2_peer import Frame, prefixed
from tests.http2_talks import SMALL, Talks, Told, end_of, taken

GZIPPED = (*GOOD, ("grpc-encoding", "gzip"))

# -- both ways -------------------------------------------------------------------------------------


def test_messages_pass_both_ways_as_they_come() -> None:
    """The head first; each message in a frame; an empty frame ends our side, trailers end the server's."""
    host = Talks()
    call = host.begin()
    told = Told(call)
    (head,) = host.hear()
    may_go_on = call.send(b"one")
    said = host.bodies()
    host.say(host.headers((*GOOD, ("i", "1"))), host.data(b"1"))
    first = call.first is not None, call.headers, taken(call), call.over
    call.finish()
    said += host.bodies()
    over = host.say(host.data(b"2"), host.headers((*DONE, ("t-bin", "AQ")), ends=True))
    before = call.over
    rest = taken(call)

    fields = host.fields(head.payload)
    assert (HEADERS, frames.END_HEADERS, 1) == head[:3]
    assert [(":path", METHOD), ("a", "b"), ("a-bin", "AA")] == [fields[2], *fields[-2:]]
    assert may_go_on
    assert [(0, prefixed(b"one")), (END_STREAM, b"")] == said
    assert (True, (("i", "1"),), [b"1"], False) == first
    assert ([call], False, [b"2"], True) == (over, before, rest, call.over)
    assert (Fate.STATUS, 0, "") == end_of(call)
    assert (("t-bin", b"\1"),) == call.trailers
    assert 4 == told.inputs  # head, two messages, end
    assert [] == host.hear()


def test_the_last_message_says_that_it_is() -> None:
    """Where the end is known before it is sent."""
    host = Talks(greet=[(frames.INITIAL_WINDOW_SIZE, 10)])
    call = host.begin(b"123456", finished=False)
    call.send(b"7")
    call.finish()
    said = host.bodies()
    host.say(frames.window_update(1, 100))
    said += host.bodies()
    other = host.begin(b"12345678", finished=True)
    last = host.bodies()
    host.say(frames.window_update(other.id, 3))
    last += host.bodies()

    assert [(0, prefixed(b"123456")[:10]), (0, b"6"), (END_STREAM, prefixed(b"7"))] == said
    assert [(0, prefixed(b"12345678")[:10]), (END_STREAM, b"678")] == last
    assert {} == host.client.requests.outlet.streams


def test_calls_wait_their_turn_with_what_was_sent() -> None:
    """MAX_CONCURRENT_STREAMS; a call that ends leaves its place."""
    host = Talks(greet=[(frames.MAX_CONCURRENT_STREAMS, 1)])
    first, second, third = host.begin(b"1"), host.begin(b"2", finished=True), host.begin(finished=True)
    before = host.bodies()
    host.say(host.headers((*GOOD, *DONE), ends=True))
    after = host.bodies()
    host.say(host.headers((*GOOD, *DONE), 3, ends=True))
    last = host.bodies()

    assert (1, 3, 5) == (first.id, second.id, third.id)
    assert [(0, prefixed(b"1"))] == before
    assert [(END_STREAM, prefixed(b"2"))] == after
    assert [(END_STREAM, b"")] == last


@given(
    messages=st.lists(st.binary(max_size=40), max_size=6),
    size=st.integers(1, 60),
    frame_size=st.integers(1, 60),
    packed=st.booleans(),
    eager=st.booleans(),
)
def test_cut_anywhere(messages: list[bytes], size: int, frame_size: int, packed: bool, eager: bool) -> None:
    """However frames and reads are cut, the messages are the same, and so is the end."""
    host = Talks(SMALL)
    call = host.begin()
    written = [grpc.compress(b"gzip", message) if packed else message for message in messages]
    payload = b"".join(prefixed(message, compressed=packed) for message in written)
    script = host.headers(GZIPPED if packed else GOOD)
    script += b"".join(frames.frame(DATA, 0, 1, piece) for piece in cuts(payload, frame_size))
    script += host.headers(DONE, ends=True)
    found: list[bytes | Packed] = []
    for piece in cuts(script, size):
        host.say(piece)
        found += taken(call) if eager else []
    found += taken(call)

    assert messages == [each.whole() if isinstance(each, Packed) else each for each in found]
    assert (True, (Fate.STATUS, 0, "")) == (call.over, end_of(call))
    assert (0, 0) == (host.client.requests.held, host.client.requests.intake.promised)


def test_a_compressed_message_is_sent_as_such() -> None:
    """By its flag; the head is the owner's affair."""
    host = Talks()
    call = host.begin()
    host.hear()
    call.send(b"packed", compressed=True)

    assert [(0, prefixed(b"packed", 1))] == host.bodies()


# -- back-pressure ---------------------------------------------------------------------------------


def test_a_slow_server_holds_its_caller_back() -> None:
    """Up to the mark messages are kept; its window lets it go on, and so does a connection that was slow."""
    host = Talks()
    call = host.begin()
    told = Told(call)
    flags = [call.send(bytes(HIGH_BYTES // 4)) for _ in range(6)]
    charged = host.budget.held
    waited = told.writable
    host.say(frames.window_update(0, 1 << 20), frames.window_update(1, 1 << 20))
    again = call.send(b"x")
    host.client.pause(True)
    slow = call.send(b"y"), told.writable
    host.client.pause(False)

    assert [True] * 4 + [False] * 2 == flags
    assert (0, HIGH_BYTES < charged < 2 * HIGH_BYTES) == (waited, True)
    assert (True, (False, 1), 2) == (again, slow, told.writable)
    assert 0 == host.budget.held
    assert 6 * (HIGH_BYTES // 4 + 5) + 12 == sum(len(payload) for _, payload in host.bodies())


def test_a_slow_owner_holds_the_server_back() -> None:
    """Its window is opened again as messages are taken, at half."""
    host = Talks(SMALL)
    call = host.begin()
    host.say(host.headers(GOOD), host.data(bytes(395)), host.data(bytes(395)))
    before = host.granted(1), host.budget.held
    taken_first = call.receive()
    host.client.account()
    one = host.granted(1), host.budget.held
    taken(call)
    host.client.account()
    both = host.granted(1), host.budget.held

    assert bytes(395) == taken_first
    assert ((0, 800), (0, 400), (800, 0)) == (before, one, both)


def test_more_than_the_window_is_a_fault() -> None:
    """The stream ends."""
    host = Talks(SMALL)
    call = host.begin()
    over = host.say(host.headers(GOOD), host.data(bytes(900)), host.data(bytes(900)))

    assert [call] == over
    assert (Fate.LOST, ErrorCode.FLOW_CONTROL_ERROR) == (call.fate, call.code)


def test_a_long_message_gets_the_window_that_it_needs() -> None:
    """Charged to the process; where that has no room, the server waits until there is."""
    host = Talks(SMALL, budget=Budget(10_000))
    told = []
    host.client.on_room = lambda: told.append(True)
    host.budget.charge(9_500)
    call = host.begin()
    other = host.begin()
    for stream in (1, 3):
        host.say(host.headers(GOOD, stream), frames.frame(DATA, 0, stream, prefixed(bytes(2000))[:900]))
    before = host.granted(1, 3)
    host.budget.charge(-9_000)
    later = host.granted(1, 3)
    host.say(*(frames.frame(DATA, 0, stream, prefixed(bytes(2000))[900:]) for stream in (1, 3)))
    charged = host.budget.held
    found = taken(call) + taken(other)
    host.client.account()

    assert before < 2 * 1105 <= before + later
    assert told
    assert 500 + 2 * 2000 <= charged
    assert ([bytes(2000)] * 2, 500) == (found, host.budget.held)


def test_what_nobody_takes_is_given_back() -> None:
    """A call that is dropped: cancelled, its messages gone, its room free for others."""
    host = Talks(SMALL)
    call = host.begin()
    told = Told(call)
    host.hear()
    host.say(host.headers(GOOD), host.data(bytes(500)), host.data(bytes(2000))[:1000])
    held = host.client.requests.held
    call.drop()
    host.client.account()
    cancelled = [frame for frame in host.hear() if frame.kind == RST_STREAM]
    call.send(b"late")
    call.finish()

    assert (True, 0, 0) == (held > 0, host.client.requests.held, host.budget.held)
    assert [Frame(RST_STREAM, 0, 1, int(ErrorCode.CANCEL).to_bytes(4, "big"))] == cancelled
    assert (None, None, True) == (call.on_input, call.receive(), call.over)
    assert told.inputs >= 1
    assert [] == host.hear()


def test_messages_that_came_before_the_end_may_be_taken_after_it() -> None:
    """They count until then."""
    host = Talks(SMALL)
    call = host.begin(finished=True)
    host.say(host.headers(GOOD), host.data(b"1"), host.data(bytes(300)), host.headers(DONE, ends=True))
    held, over = host.budget.held, call.over
    found = taken(call)
    host.client.account()

    assert (311, False) == (held, over)
    assert ([b"1", bytes(300)], True, 0) == (found, call.over, host.budget.held)
