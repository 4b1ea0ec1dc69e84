"""Fuzz targets for the wire protocols: whatever comes, nothing is raised but what is said, and memory is bounded.

A target is a hypothesis test without a name for pytest; ``test_smoke.py`` runs each of them briefly, ``make fuzz`` for
as long as it is told.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import hpack
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.wire import frames, grpc, huffman
from batchproxy.wire.base import Limits
from batchproxy.wire.frames import END_HEADERS, END_STREAM, ErrorCode, frame
from batchproxy.wire.headers import Decoder, HeaderError, HeadersTooLarge
from batchproxy.wire.http1 import Http1Connection
from batchproxy.wire.http1_answers import Answers
from batchproxy.wire.http1_client import Answer, AnswerHeads, BadAnswer
from batchproxy.wire.http1_exchange import Http1Exchange
from batchproxy.wire.http1_head import Heads
from batchproxy.wire.http2 import Http2Connection
from batchproxy.wire.http2_calls import GrpcStreamCall
from batchproxy.wire.http2_head import Refusal
from batchproxy.wire.http2_limits import Http2Limits
from batchproxy.wire.http2_plain import Http2Exchange
from batchproxy.wire.http2_streams import GrpcCall, Stream
from batchproxy.wire.unpack import Packed
from tests.fuzz.inputs import cut, near, weight
from tests.http1_messages import BROKEN, JSON, TEXTS, request
from tests.http2_peer import CALL, GET, POST, Peer, data, prefixed, split
from tests.streamed import CHAT, HEAD

SIZES = st.lists(st.integers(1, 200), max_size=3)

# ---------------------------------------------------------------- HTTP/1.1, server

HTTP1_LIMITS = Limits(
    line_bytes=100, head_bytes=400, head_fields=6, body_bytes=64, inflated_bytes=100, pipelined=4, pipelined_bytes=100
)
HTTP1_HELD = 64 << 10
"""Four requests, a head and a body of the limits above, a read of 8 KiB, remembered heads, and Python's overhead."""

CHUNKED = request(b"", "Transfer-Encoding: chunked")
HTTP1_GOOD = [
    request(b"{}"), request(b"x" * 64, "Expect: 100-continue"), request(method="HEAD"), request(version="1.0"),
    request(grpc.compress(b"gzip", b"text"), "Content-Encoding: gzip"), CHUNKED + b"2\r\nab\r\n0\r\n\r\n",
    CHUNKED + b"a;b=c\r\n0123456789\r\n1\r\nx\r\n0\r\nT: t\r\n\r\n", b"\r\n" + request(),
    request(b"", "Connection: close"),
]  # fmt: skip
HTTP1_CORPUS = [*HTTP1_GOOD, *[data for _, data in BROKEN.values()]]
HTTP1_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("feed"), st.sampled_from(HTTP1_GOOD), st.integers(1, 40)),
        st.tuples(st.just("feed"), near([*HTTP1_CORPUS, *TEXTS]), st.integers(1, 3)),
        st.tuples(st.sampled_from(["answer", "wait", "pause", "go on"]), st.just(b""), st.integers(0, 30)),
        st.tuples(st.just("answer"), st.just(b""), st.integers(0, 9)),
        st.tuples(st.sampled_from(["drain", "eof", "lost"]), st.just(b""), st.just(0)),
    ),
    max_size=20,
)


@given(HTTP1_STEPS, SIZES)
def http1_server(steps: list[tuple[str, bytes, int]], sizes: list[int]) -> None:
    """Requests that are pipelined, answered late or never, by callers that are slow, or leave."""
    now = 0.0
    connection = Http1Connection(HTTP1_LIMITS, Heads(HTTP1_LIMITS), Answers(), now)
    waiting: list[Http1Exchange] = []
    gone: list[int] = []
    taken = 0
    for step, text, amount in steps:
        if step == "feed":
            for piece in cut((text * amount)[:8192], sizes):
                if not connection.full:
                    waiting += connection.feed(piece, now)
        elif step == "answer":
            for exchange in waiting[: amount + 1]:
                exchange.answer((200, 204, 404)[amount % 3], b"ok", JSON)
            del waiting[: amount + 1]
            waiting += connection.feed(b"", now)
        elif step == "wait":
            now += amount
            connection.tick(now)
        elif step in {"pause", "go on"}:
            connection.paused(step == "pause")
        else:
            {"drain": connection.drain, "eof": connection.eof}.get(step, lambda _: connection.lost())(now)
        taken = max(taken, len(connection.open))
        said = connection.output()

        assert not said or said.startswith(b"HTTP/1.")
        assert weight(connection) <= HTTP1_HELD
        assert len(connection.open) <= HTTP1_LIMITS.pipelined + 1
    for exchange in waiting:
        exchange.on_cancel = lambda: gone.append(1)
    left = sum(not exchange.gone() for exchange in waiting)
    connection.lost()

    assert left == len(gone)
    assert [] == connection.feed(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", now)


# ---------------------------------------------------------------- HTTP/1.1, client

ANSWERS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nok\r\n0\r\nT: t\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 304 Not Modified\r\nA: b\r\nA: c\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
    b"Content-Length: 1\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Connection: close\r\n",
    b"\r\n",
]
ANSWER_HEAD, ANSWER_BYTES = 300, 500
ANSWER_HEADS = AnswerHeads()
ANSWER_HELD = 32 << 10


@given(st.lists(near(ANSWERS), max_size=8), SIZES, st.sampled_from(["GET", "POST", "HEAD"]), st.integers(1, 40))
def http1_client(texts: list[bytes], sizes: list[int], method: str, times: int) -> None:
    """An answer is whole, broken or not yet there, and that does not depend on how it was cut."""
    raw = b"".join(texts) * times

    def outcome(pieces: list[bytes], heads: AnswerHeads | None = None) -> object:
        answer = Answer(method, ANSWER_HEAD, ANSWER_BYTES, heads)
        try:
            for piece in pieces:
                answer.feed(piece)

                assert heads is not None or weight(answer) <= ANSWER_HELD
            answer.eof()
        except BadAnswer as error:
            return type(error)
        return answer.done, answer.status, answer.fields, answer.keep, answer.body if answer.done else b""

    assert outcome([raw]) == outcome(cut(raw, sizes)) == outcome(cut(raw, [1]))
    assert outcome([raw]) == outcome([raw], ANSWER_HEADS) == outcome([raw], ANSWER_HEADS)


# ---------------------------------------------------------------- HTTP/2, server

HTTP2_LIMITS = Http2Limits(
    streams=4, message_bytes=400, window_bytes=300, connection_window_bytes=66_000, promised_bytes=500, allowance=300,
    list_bytes=2000, block_bytes=2000,
)  # fmt: skip
HTTP2_HELD = 768 << 10
"""1,000 remembered resets, a table of 4 KiB, 64 heads in each of three memories, a frame, and Python's overhead."""

HTTP2_GREETING = frames.PREFACE + frames.settings() + frame(frames.SETTINGS, frames.ACK, 0, b"")
KINDS = st.tuples(
    st.sampled_from([*range(10), 0, 1, 1, 77]),
    st.sampled_from([0, END_STREAM, END_HEADERS, END_HEADERS | END_STREAM, 0x8, 0x20, 0xFF]),
    st.sampled_from([0, 1, 2, 3, 5, 7, 9, 11, 1 << 31]),
    st.one_of(
        st.binary(max_size=12),
        st.sampled_from([bytes(4), bytes(8), b"\0\0\0\1", b"\x7f\xff\xff\xff", bytes(16384), prefixed(b"x" * 20)]),
        st.sampled_from([b"\0\4\0\0\0\0", b"\0\4\x7f\xff\xff\xff", b"\0\1\0\0\0\0", b"\0\5\0\0\x40\0"]),
    ),
).map(lambda parts: frame(*parts))
PIECES = [b"", prefixed(b""), prefixed(b"x" * 30), prefixed(b"x" * 300)[:100], prefixed(b"junk", 1), bytes(64)]
HTTP2_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("frame"), KINDS, st.integers(1, 30)),
        st.tuples(st.just("call"), st.sampled_from([CALL, GET, POST, HEAD]), st.integers(0, 450)),
        st.tuples(st.just("call"), st.sampled_from([CALL, HEAD]), st.integers(0, 100)),
        st.tuples(st.just("head"), st.sampled_from([CALL, GET, POST, HEAD]), st.integers(0, 2)),
        st.tuples(st.just("piece"), near(PIECES), st.integers(0, 2)),
        st.tuples(st.just("trace"), st.sampled_from([CALL, HEAD]), st.integers(1, 30)),
        st.tuples(st.just("bytes"), st.binary(max_size=40), st.just(1)),
        st.tuples(st.sampled_from(["answer", "wait", "pause", "go on"]), st.none(), st.integers(0, 60)),
        st.tuples(st.just("answer"), st.none(), st.integers(0, 60)),
        st.tuples(st.just("open"), st.none(), st.integers(0, 60)),
        st.tuples(st.sampled_from(["drain", "reset"]), st.none(), st.integers(0, 60)),
    ),
    max_size=25,
)


def act_on(exchange: Stream, amount: int) -> None:
    """What an owner may do with a request."""
    if isinstance(exchange, GrpcCall):
        exchange.answer(amount % 3, "text", b"r" * amount * 7)
    elif isinstance(exchange, Http2Exchange):
        exchange.answer(200, b"r" * amount * 7, {})
    elif isinstance(exchange, GrpcStreamCall):
        while (message := exchange.receive()) is not None:
            exchange.send(message if isinstance(message, bytes) else b"")
        if amount % 2:
            exchange.finish(amount % 3)


@given(HTTP2_STEPS, SIZES, st.booleans(), st.booleans())
def http2_server(steps: list[tuple[str, Any, int]], sizes: list[int], greeted: bool, fast: bool) -> None:
    """Frames in any order, calls among them, windows that open and shut, owners that answer late."""
    peer = Peer(HTTP2_LIMITS, greet=False, fast=fast, streamed=(CHAT,))
    server: Http2Connection = peer.server
    if greeted:
        peer.send(HTTP2_GREETING)
    waiting: list[Stream] = []
    for step, what, amount in steps:
        raw = b""
        match step, what:
            case (("frame" | "bytes"), bytes()):
                raw = what * amount
            case "call", (*fields,):
                stream = peer.take()
                body = prefixed(bytes(amount)) if fields not in ([*GET], [*POST]) else bytes(amount)
                raw = peer.headers(fields, stream) + data(stream, body, END_STREAM if amount % 4 else 0)
            case "head", (*fields,):
                block, stream = peer.block(fields), peer.take()
                ends = (0, 0, END_STREAM)[amount]
                raw = frame(frames.HEADERS, ends, stream, block[:4])
                raw += frame(frames.CONTINUATION, END_HEADERS, stream, block[4:])
            case "piece", bytes():
                raw = data(max(peer.next - 2, 1), what, amount & END_STREAM)
            case "trace", (*fields,):
                raw = b"".join(peer.call(b"x", ("x-id", f"{amount}-{number}")) for number in range(amount))
            case "answer", _:
                for exchange in waiting[: amount + 1]:
                    act_on(exchange, amount)
                del waiting[: amount + 1]
            case "wait", _:
                peer.now += amount
                server.tick(peer.now)
            case (("pause" | "go on"), _):
                server.paused(step == "pause")
            case "drain", _:
                server.drain(peer.now)
            case "reset", _:
                raw = frames.rst_stream(max(peer.next - 2, 1), ErrorCode.CANCEL)
            case _:
                raw = frames.window_update(0, amount + 1) + frames.settings((4, amount * 100))
        for piece in cut(raw, sizes):
            waiting += server.feed(piece, peer.now)

        split(server.output())
        assert weight(server) <= HTTP2_HELD
        assert len(server.requests.outlet.streams) <= HTTP2_LIMITS.streams
    server.lost()

    assert 0 == len(server.requests.outlet.streams)
    assert 0 == server.requests.intake.promised
    assert all(exchange.carrier is None for exchange in waiting)


# ---------------------------------------------------------------- header blocks

BLOCKS = [
    hpack.Encoder().encode(fields, huffman=coded) for fields in (CALL, GET, POST, HEAD) for coded in (True, False)
]
TABLE_HELD = 64 << 10
"""128 entries of the smallest kind, and 4,096 bytes."""


@given(st.lists(st.tuples(near(BLOCKS), st.integers(1, 30)), max_size=12))
def header_blocks(blocks: list[tuple[bytes, int]]) -> None:
    """Ours and hpack's decoder take the same, and have the same table; ours refuses longer integers, too."""
    theirs, ours = hpack.Decoder(max_header_list_size=1 << 30), Decoder(1 << 30, 1 << 30)
    limited = Decoder(5, 300)
    for block, times in blocks:
        for _ in range(times):
            try:
                expected = [(bytes(name), bytes(value)) for name, value in theirs.decode(block, raw=True)]
            except hpack.HPACKError:
                expected = None
            try:
                found = ours.decode(block)
            except HeaderError:
                found = None
            with suppress(HeaderError, HeadersTooLarge):
                limited.decode(block)

            assert expected == found
            assert weight(ours) <= TABLE_HELD
            if found is None:
                return
            assert list(theirs.header_table.dynamic_entries) == ours._table[::-1]
            assert limited._table == ours._table


@given(st.binary(max_size=60))
def huffman_codes(text: bytes) -> None:
    """Any bytes are text or refused."""
    with suppress(huffman.HuffmanError):
        huffman.decode(text)


# ---------------------------------------------------------------- gRPC messages

MESSAGES = [
    prefixed(b""), prefixed(b"hello"), prefixed(grpc.compress(b"gzip", b"a" * 300), 1),
    prefixed(grpc.compress(b"deflate", b"a" * 500), 1), prefixed(b"junk", 1), b"\0\xff\xff\xff\xff", bytes(5) * 30,
]  # fmt: skip
MESSAGE_LIMITS = Http2Limits(message_bytes=400, window_bytes=1000)
MESSAGES_HELD = 64 << 10


@given(st.lists(near(MESSAGES), max_size=6), SIZES, st.sampled_from([b"", b"gzip", b"deflate"]), st.booleans())
def grpc_messages(texts: list[bytes], sizes: list[int], encoding: bytes, streamed: bool) -> None:
    """Whatever a body holds, a call gets messages or is refused; how the body was cut makes no difference to that."""
    raw = b"".join(texts)[:900]
    fields = (*(HEAD if streamed else CALL), *((("grpc-encoding", encoding.decode()),) if encoding else ()))

    def outcome(pieces: list[bytes]) -> tuple[list[object], list[str | None]]:
        peer = Peer(MESSAGE_LIMITS, streamed=(CHAT,))
        found = peer.send(peer.headers(fields, 1))
        heard: list[object] = []
        for piece in [*pieces, None]:
            found += peer.send(data(1, piece or b"", 0 if piece is not None else END_STREAM))
            for call in found:
                if isinstance(call, GrpcStreamCall):
                    while (message := call.receive()) is not None:
                        heard.append(message)

            assert weight(peer.server) <= MESSAGES_HELD
        heard += [call.message for call in found if isinstance(call, GrpcCall)]
        statuses = [peer.fields(said).get("grpc-status") for said in peer.read() if said.kind == frames.HEADERS]
        return heard, statuses

    (heard, status), (by_pieces, same_status) = outcome([raw]), outcome(cut(raw, sizes))

    assert bool(status) == bool(same_status)  # of two faults, which is found first depends on the cut
    assert heard == by_pieces[: len(heard)]  # good messages in one piece with a broken one are not handed on
    assert streamed or heard == by_pieces


@given(near(MESSAGES), st.sampled_from([b"gzip", b"deflate"]), st.integers(0, 600))
def packed_messages(text: bytes, encoding: bytes, limit: int) -> None:
    """What cannot be inflated within the limit is refused."""
    for inflate in (Packed(encoding, text[5:], limit).quick, Packed(encoding, text[5:], limit).whole):
        found, code = b"", 8
        try:
            found = inflate() or b""
        except Refusal as refusal:
            code = refusal.code

        assert len(found) <= limit
        assert code in {8, 13}


@given(st.binary(max_size=12), st.text(max_size=40), st.lists(st.tuples(st.just(b"a-bin"), st.binary(max_size=12))))
def grpc_fields(timeout: bytes, text: str, fields: list[tuple[bytes, bytes]]) -> None:
    """Time limits, status texts and binary metadata of any kind."""
    seconds = grpc.timeout_s(timeout)

    assert seconds is None or 0 <= seconds < 1e9 * 3600
    assert grpc.percent_encoded(text).isascii()
    assert len(fields) <= len(list(grpc.metadata_pairs(fields)))


WIRE = (
    http1_server, http1_client, http2_server, header_blocks, huffman_codes, grpc_messages, packed_messages, grpc_fields,
)  # fmt: skip
