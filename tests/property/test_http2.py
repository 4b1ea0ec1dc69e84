"""Laws of a connection: neither how the bytes are cut nor the short way changes anything; windows are kept."""

from __future__ import annotations

import ast
import random
from pathlib import Path
from types import ModuleType

from hypothesis import example, given
from hypothesis import strategies as st

from batchproxy.wire import frames, http2
from batchproxy.wire.frames import END_HEADERS, END_STREAM, ErrorCode, frame
from batchproxy.wire.http2 import Http2Connection
from batchproxy.wire.http2_limits import Http2Limits
from batchproxy.wire.http2_plain import Http2Exchange
from batchproxy.wire.http2_streams import GrpcCall, Stream
from tests.http2_peer import CALL, GET, POST, Peer, data, prefixed, split

SMALL = Http2Limits(
    streams=4, message_bytes=400, window_bytes=300, connection_window_bytes=66_000, promised_bytes=500, allowance=30
)
GREETING = frames.PREFACE + frames.settings() + frame(frames.SETTINGS, frames.ACK, 0, b"")


class Slow(Http2Connection):
    """The server without the short way."""

    FAST = False


def script(seed: int, length: int) -> list[bytes]:
    """Frames of a client that is right most of the time, one piece each; equal calls abound."""
    draw = random.Random(seed)
    peer = Peer()

    def stream() -> int:
        return draw.choice([peer.next, peer.next, max(peer.next - 2, 1), max(peer.next - 4, 1), 9])

    pieces = [GREETING]
    for _ in range(length):
        kind = draw.random()
        if kind < 0.5:
            said = [("content-length", "35")] if draw.random() < 0.2 else []
            pieces += [peer.call(draw.randbytes(draw.choice([0, 1, 30, 30, 395, 401])), *said)]
        elif kind < 0.55:
            pieces += [peer.headers(CALL, peer.take())]
        elif kind < 0.6:
            pieces += [peer.headers(GET, peer.take(), END_HEADERS | END_STREAM)]
        elif kind < 0.64:
            pieces += [peer.headers((*CALL, ("x-id", str(draw.random()))), peer.take(), draw.choice([0, END_HEADERS]))]
        elif kind < 0.7:
            pieces += [data(stream(), prefixed(draw.randbytes(30), draw.choice([0, 0, 1])), draw.choice([0, 1, 9]))]
        elif kind < 0.8:
            pieces += [data(stream(), draw.randbytes(draw.choice([0, 5, 70])), draw.choice([0, 1]))]
        elif kind < 0.85:
            pieces += [frames.rst_stream(stream(), ErrorCode.CANCEL)]
        elif kind < 0.9:
            pieces += [frames.window_update(draw.choice([0, stream()]), draw.choice([0, 1, 70_000, 1 << 30]))]
        elif kind < 0.93:
            pieces += [frames.settings((4, draw.choice([0, 10, 70_000])), (1, draw.choice([0, 4096])))]
        elif kind < 0.96:
            pieces += [frame(frames.PING, 0, 0, bytes(8))]
        elif kind < 0.98:
            pieces += [peer.headers(POST, peer.take()) + data(peer.next - 2, draw.randbytes(500), 1)]
        else:
            pieces += [frame(draw.randrange(12), draw.randrange(64), stream(), draw.randbytes(draw.randrange(12)))]
    return pieces


def seen(exchange: Stream) -> tuple[object, ...]:
    """What can be seen of a request."""
    return type(exchange), exchange.id, exchange.head.path, dict(exchange.head.headers), exchange.message


def play(server: Http2Connection, pieces: list[bytes], answers: bool) -> tuple[list[tuple[object, ...]], bytes]:
    """Feed them; returns the requests that are still open at the end, and all that was said.

    Requests are answered at the end of the input only: answers between pieces would make the order of what is said
    depend on the cuts, and rightly so.
    """
    found = [exchange for piece in pieces for exchange in server.feed(piece, 0.0)]
    left = [exchange for exchange in found if exchange.carrier is not None]
    shown = [seen(exchange) for exchange in left]
    if answers:
        for number, exchange in enumerate(left):
            if isinstance(exchange, GrpcCall):
                exchange.answer(number % 3, "", b"r" * 17 * number)
            elif isinstance(exchange, Http2Exchange):
                exchange.answer(200, b"r" * 17 * number, {})
    return shown, server.output()


@given(st.integers(0, 1 << 30), st.lists(st.integers(1, 60), min_size=1, max_size=50), st.booleans())
def test_cuts_change_nothing(seed: int, cuts: list[int], fast: bool) -> None:
    """The same bytes in other pieces give the same requests and the same output."""
    pieces = script(seed, 25)
    raw = b"".join(pieces)
    kind = Http2Connection if fast else Slow
    shreds, at, turn = [], 0, 0
    while at < len(raw):
        shreds.append(raw[at : at + cuts[turn % len(cuts)]])
        at += cuts[turn % len(cuts)]
        turn += 1

    assert play(kind(SMALL, 0.0), [raw], answers=True) == play(kind(SMALL, 0.0), shreds, answers=True)


@given(st.integers(0, 1 << 30))
@example(1)
def test_the_short_way_changes_nothing(seed: int) -> None:
    """With and without it, the same bytes give the same requests and the same output, piece by piece."""
    fast, slow = Http2Connection(SMALL, 0.0), Slow(SMALL, 0.0)
    for piece in script(seed, 60):
        first, second = fast.feed(piece, 0.0), slow.feed(piece, 0.0)

        assert [seen(exchange) for exchange in second] == [seen(exchange) for exchange in first]
        for answered in (first, second):
            for exchange in answered:
                if exchange.id % 3 == 0 and isinstance(exchange, GrpcCall):
                    exchange.answer(0, "", exchange.message)
        assert slow.output() == fast.output()
        assert repr(slow.requests.outlet) == repr(fast.requests.outlet)
        assert repr(slow.requests.intake) == repr(fast.requests.intake)


def test_the_short_way_can_be_deleted() -> None:
    """Without its lines in the source, what is left is a whole server, and no other one."""
    tree = ast.parse(Path(http2.__file__).read_text())
    (read,) = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "_read")
    (loop,) = (node for node in read.body if isinstance(node, ast.While))
    kept = [node for node in loop.body if not (isinstance(node, ast.If) and ast.unparse(node.test) == "fast")]
    deleted, loop.body = len(loop.body) - len(kept), kept
    module = ModuleType("http2_without_the_short_way")
    exec(compile(tree, http2.__file__, "exec"), module.__dict__)  # noqa: S102  # our own source
    without: type[Http2Connection] = module.Http2Connection

    assert 1 == deleted
    for seed in range(200):
        pieces = script(seed, 30)

        assert play(without(SMALL, 0.0), pieces, answers=True) == play(
            Http2Connection(SMALL, 0.0), pieces, answers=True
        )


def test_two_thousand_scripts_give_the_same_cut_at_every_byte() -> None:
    """Right and spoilt frames: in one piece and byte by byte; a tenth of them in two pieces at each place, too."""
    draw = random.Random(9)
    ends = {True: 0, False: 0}
    for seed in range(2000):
        raw = bytearray(b"".join(script(seed, draw.randint(1, 5))))
        for _ in range(draw.choice([0, 0, 1, 2])):
            raw[draw.randrange(len(frames.PREFACE), len(raw))] = draw.randrange(256)
        sent = bytes(raw)
        kind = Http2Connection if seed % 2 else Slow
        server = kind(SMALL, 0.0)
        expected = play(server, [sent], answers=True)
        ends[server.closing] += 1

        assert expected == play(kind(SMALL, 0.0), [sent[at : at + 1] for at in range(len(sent))], answers=True)
        for cut in range(1, len(sent)) if seed % 10 == 0 else ():
            assert expected == play(kind(SMALL, 0.0), [sent[:cut], sent[cut:]], answers=True)
    assert min(ends.values()) > 300  # both kinds were met


def test_every_cut_of_two_calls() -> None:
    """Cut in two at every byte, two calls and what surrounds them are the same."""
    raw = b"".join((*script(3, 0), *(Peer().call(bytes(20)) for _ in range(1)))) + Peer().call(b"x", stream=3)
    expected = play(Http2Connection(SMALL, 0.0), [raw], answers=True)

    assert 2 == len(expected[0])
    for at in range(len(raw) + 1):
        assert expected == play(Http2Connection(SMALL, 0.0), [raw[:at], raw[at:]], answers=True)


@given(st.lists(st.binary(max_size=60), max_size=10), st.booleans())
def test_nothing_escapes(chunks: list[bytes], greeted: bool) -> None:
    """No bytes make the connection raise, nor keep more than a frame of them."""
    server = Http2Connection(SMALL, 0.0)
    if greeted:
        server.feed(GREETING, 0.0)
    for chunk in chunks:
        server.feed(chunk, 0.0)
        server.tick(0.0)

    split(server.output())
    assert sum(map(len, server._parts)) <= frames.FRAME_BYTES + 9


@given(st.integers(0, 1 << 30), st.integers(1, 8), st.integers(0, 400))
def test_nothing_escapes_from_spoilt_frames(seed: int, faults: int, size: int) -> None:
    """Nor do right frames with some wrong bytes in them."""
    draw = random.Random(seed)
    raw = bytearray(b"".join(script(seed, 20)))
    for _ in range(faults):
        raw[draw.randrange(len(GREETING), len(raw) + 1) - 1] = draw.randrange(256)
    server = Http2Connection(SMALL, 0.0)
    for at in range(0, len(raw), size + 1):
        for exchange in server.feed(bytes(raw[at : at + size + 1]), 0.0):
            if exchange.carrier is not None and isinstance(exchange, GrpcCall):
                exchange.answer(0, "", b"r" * 300)
    server.lost()

    assert 0 == len(server.requests.outlet.streams)
    assert 0 == server.requests.intake.promised


@given(
    st.lists(st.integers(0, 3000), min_size=1, max_size=4),
    st.integers(0, 2000),
    st.lists(st.tuples(st.sampled_from(["stream", "connection", "initial"]), st.integers(0, 900)), max_size=30),
)
def test_windows_are_kept(sizes: list[int], initial: int, steps: list[tuple[str, int]]) -> None:
    """No answer exceeds the peer's windows, whichever way it moves them; all of it comes once they are open."""
    peer = Peer()
    peer.send(frames.settings((4, initial)))
    window, windows, now_initial = 65535, {}, initial
    calls = []
    for _ in sizes:
        call = peer.ask()
        calls.append(call)
        windows[call.id] = initial
    bodies: dict[int, bytes] = {call.id: b"" for call in calls}
    ended: set[int] = set()
    peer.server.output()

    def read() -> None:
        nonlocal window
        for said in peer.read():
            if said.kind == frames.DATA:
                assert len(said.payload) <= min(window, max(windows[said.stream], 0))
                window -= len(said.payload)
                windows[said.stream] -= len(said.payload)
                bodies[said.stream] += said.payload
            if said.flags & END_STREAM and said.kind in {frames.DATA, frames.HEADERS}:
                ended.add(said.stream)

    for call, size in zip(calls, sizes, strict=True):
        call.answer(0, "", bytes(size))
        read()
    for what, amount in [*steps, ("initial", 20_000), ("connection", 60_000)]:
        if what == "initial":
            peer.send(frames.settings((4, amount)))
            windows = {stream: left + amount - now_initial for stream, left in windows.items()}
            now_initial = amount
        elif amount:
            stream = calls[amount % len(calls)].id if what == "stream" else 0
            peer.send(frames.window_update(stream, amount))
            if stream:
                windows[stream] += amount
            else:
                window += amount
        read()

    assert {call.id: prefixed(bytes(size)) for call, size in zip(calls, sizes, strict=True)} == bodies
    assert set(bodies) == ended
