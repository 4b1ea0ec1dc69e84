"""Fuzz targets for our HTTP/2 client: whatever a server says, each call comes back once, and memory is bounded.

A target is a hypothesis test without a name for pytest, as in ``wire_targets.py``.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from batchproxy.wire import frames, grpc
from batchproxy.wire.frames import END_STREAM, ErrorCode
from batchproxy.wire.http2_client_call import Call, Fate
from batchproxy.wire.http2_client_stream import StreamCall
from batchproxy.wire.http2_limits import Http2Limits
from tests.fuzz.inputs import cut, near, weight
from tests.fuzz.wire_targets import KINDS, SIZES
from tests.http2_host import DONE, GOOD, Host, rst
from tests.http2_talks import Talks, taken

LIMITS = Http2Limits(
    message_bytes=400, window_bytes=300, connection_window_bytes=66_000, promised_bytes=500, allowance=300,
    list_bytes=2000, block_bytes=2000, ping_s=20, patience_s=10,
)  # fmt: skip
HELD = 768 << 10
"""What was sent of two frames of 64 KiB, some hundred calls with requests of a kilobyte, tables, Python's overhead."""

MAX_CALLS = 200
BODIES = [
    b"answer", bytes(300), grpc.compress(b"gzip", b"a" * 300), b"", b"x" * 401,
]  # fmt: skip
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("start"), st.integers(0, 1000), st.sampled_from([None, 5.0])),
        st.tuples(st.just("start"), st.integers(0, 20), st.none()),
        st.tuples(st.just("answer"), near(BODIES), st.integers(0, 3)),
        st.tuples(st.just("answer"), st.sampled_from(BODIES), st.just(0)),
        st.tuples(st.just("head"), st.sampled_from([GOOD, DONE, (*GOOD, *DONE), ((":status", "503"),)]), st.booleans()),
        st.tuples(st.just("piece"), near([b"\0\0\0\0\3abc", b"\1\0\0\0\2ab", b"\0\0\0\1"]), st.booleans()),
        st.tuples(st.just("frame"), KINDS, st.integers(1, 3)),
        st.tuples(st.sampled_from(["give up", "wait", "refuse", "leave", "open"]), st.integers(0, 40), st.none()),
    ),
    max_size=25,
)


@given(STEPS, SIZES, st.sampled_from([None, (), ((frames.MAX_CONCURRENT_STREAMS, 3),)]))
def http2_client(
    steps: list[tuple[str, Any, Any]], sizes: list[int], greet: tuple[tuple[int, int], ...] | None
) -> None:
    """Calls that are started, given up and run out of time; answers right, wrong, refused and cut anywhere."""
    host = Host(LIMITS, greet)
    client = host.client
    started: list[Call] = []
    given_up: set[Call] = set()
    over: list[Call] = []
    for step, what, more in steps:
        newest = max(client.requests.next - 2, 1)
        raw = b""
        if step == "start":
            if client.usable and len(started) < MAX_CALLS:
                started.append(client.start("/s.S/M", bytes(what), host.now, more))
        elif step == "answer":
            body = host.data(what, newest, compressed=more % 2)
            raw = host.headers(GOOD, newest) + body + host.headers(DONE, newest, ends=True)
        elif step == "head":
            raw = host.headers(what, newest, ends=more)
        elif step == "piece":
            raw = frames.frame(frames.DATA, END_STREAM if more else 0, newest, what)
        elif step == "frame":
            raw = what * more
        elif step == "give up":
            for call in started[what : what + 1]:
                if call not in given_up and call not in over:
                    given_up.add(call)
                    client.give_up(call)
        elif step == "wait":
            host.now += what
            over += client.tick(host.now)
        elif step == "refuse":
            raw = rst(ErrorCode.REFUSED_STREAM if what % 2 else ErrorCode.CANCEL, newest)
        elif step == "leave":
            raw = frames.goaway(what, ErrorCode.NO_ERROR, "leaving")
        else:
            raw = frames.window_update(0, what + 1) + frames.settings((frames.INITIAL_WINDOW_SIZE, what * 100))
        for piece in cut(raw, sizes):
            over += client.feed(piece, host.now)

        host.hear()
        assert weight(client) <= HELD
    over += client.lost("gone")

    assert {1} >= set(Counter(map(id, over)).values())
    assert {id(call) for call in started} == {id(call) for call in (*over, *given_up)}
    assert all(isinstance(call.fate, Fate) for call in over)


TALKS = Http2Limits(
    message_bytes=400, window_bytes=300, connection_window_bytes=66_000, promised_bytes=500, allowance=300,
    list_bytes=2000, block_bytes=2000, ping_s=20, patience_s=10,
)  # fmt: skip
TALK_HELD = 2 << 20
"""A hundred calls more of which each remembers a kilobyte or ten of what was sent; else as ``HELD``."""

TALK_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("start"), st.integers(0, 3), st.sampled_from([None, 5.0])),
        st.tuples(st.just("send"), st.integers(0, 2000), st.integers(0, 5)),
        st.tuples(st.sampled_from(["finish", "take", "take", "drop"]), st.integers(0, 5), st.none()),
        st.tuples(st.just("head"), st.sampled_from([GOOD, DONE, (*GOOD, *DONE), ((":status", "503"),)]), st.booleans()),
        st.tuples(st.just("piece"), near([b"\0\0\0\0\3abc\0\0", b"\0\0\0\0\0" * 9, b"\0\0\0\1"]), st.booleans()),
        st.tuples(st.just("frame"), KINDS, st.integers(1, 3)),
        st.tuples(st.sampled_from(["wait", "refuse", "leave", "open", "slow"]), st.integers(0, 40), st.none()),
    ),
    max_size=40,
)


@given(TALK_STEPS, SIZES, st.sampled_from([(), ((frames.MAX_CONCURRENT_STREAMS, 3),)]))
def http2_client_streams(
    steps: list[tuple[str, Any, Any]], sizes: list[int], greet: tuple[tuple[int, int], ...]
) -> None:
    """Streamed calls: messages sent, taken and left lying; heads, pieces and ends right, wrong and cut anywhere."""
    host = Talks(TALKS, greet)
    client = host.client
    calls: list[StreamCall] = []
    dropped: set[int] = set()
    finished: set[int] = set()
    over: list[Call] = []
    for step, what, more in steps:
        newest = max(client.requests.next - 2, 1)
        which = more if step == "send" else what
        chosen = calls[-1 - which % len(calls)] if calls and isinstance(which, int) else None
        raw = b""
        if step == "start":
            if client.usable and len(calls) < MAX_CALLS:
                calls.append(client.start_stream("/s.S/M", host.now, more))
        elif step == "send":
            if chosen is not None and id(chosen) not in finished:
                chosen.send(bytes(what))
        elif step == "finish":
            if chosen is not None and id(chosen) not in finished:
                finished.add(id(chosen))
                chosen.finish()
        elif step == "take":
            if chosen is not None:
                taken(chosen)
        elif step == "drop":
            if chosen is not None:
                dropped |= {id(chosen)} if chosen.fate is None else set()
                chosen.drop()
        elif step == "head":
            raw = host.headers(what, newest, ends=more)
        elif step == "piece":
            raw = frames.frame(frames.DATA, END_STREAM if more else 0, newest, what)
        elif step == "frame":
            raw = what * more
        elif step == "wait":
            host.now += what
            over += client.tick(host.now)
        elif step == "refuse":
            raw = rst(ErrorCode.REFUSED_STREAM if what % 2 else ErrorCode.CANCEL, newest)
        elif step == "leave":
            raw = frames.goaway(what, ErrorCode.NO_ERROR, "leaving")
        elif step == "slow":
            client.pause(bool(what % 2))
        else:
            raw = frames.window_update(0, what + 1) + frames.settings((frames.INITIAL_WINDOW_SIZE, what * 100))
        for piece in cut(raw, sizes):
            over += client.feed(piece, host.now)

        host.hear()
        assert weight(client) <= TALK_HELD
        assert client.requests.held <= sum(call.extra.held for call in calls)
    over += client.lost("gone")
    for call in calls:
        call.drop()
    client.account()

    assert {1} >= set(Counter(map(id, over)).values())
    assert {id(call) for call in calls} == {*map(id, over), *dropped}
    assert (0, 0, 0) == (client.requests.held, client.requests.intake.promised, host.budget.held)


CLIENT = (http2_client, http2_client_streams)
