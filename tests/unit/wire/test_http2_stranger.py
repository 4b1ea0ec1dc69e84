"""The ``h2`` library as the client: it checks each frame of ours, keeps its own windows, and speaks in its own way."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Sequence

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings
import pytest

from batchproxy.wire import frames
from batchproxy.wire.http2 import Http2Connection
from batchproxy.wire.http2_limits import Http2Limits
from batchproxy.wire.http2_plain import Http2Exchange
from batchproxy.wire.http2_streams import GrpcCall, Stream
from tests.http2_peer import CALL, GET, POST, prefixed


def _texts(fields: Iterable[tuple[bytes | str, bytes | str]]) -> dict[str, str]:
    """Fields as text, which they are with ``header_encoding``."""
    return {str(name): str(value) for name, value in fields}


class Stranger:
    """An h2 client and our server, joined by hand.

    Args:
        settings: the client's own, said in its first breath.
        limits: the server's.
    """

    def __init__(
        self, settings: dict[h2.settings.SettingCodes, int] | None = None, limits: Http2Limits | None = None
    ) -> None:
        self.client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        if settings:
            self.client.local_settings = h2.settings.Settings(client=True, initial_values=settings)
        self.server = Http2Connection(limits or Http2Limits(), 0.0)
        self.client.initiate_connection()
        self.requests: list[Stream] = []
        self.heads: dict[int, dict[str, str]] = {}
        self.trailers: dict[int, dict[str, str]] = {}
        self.bodies: dict[int, bytes] = {}
        self.open = True  # whether the client opens its windows again
        self.turn()

    def turn(self) -> None:
        """Bytes to and fro until both have nothing to say."""
        while True:
            said = self.client.data_to_send()
            self.requests += self.server.feed(said, 0.0)
            answer = self.server.output()
            for event in self.client.receive_data(answer):
                self.see(event)
            if not said and not answer:
                return

    def see(self, event: h2.events.Event) -> None:
        """Note what the client understood."""
        if isinstance(event, h2.events.ResponseReceived):
            self.heads[event.stream_id] = _texts(event.headers)
            self.bodies[event.stream_id] = b""
        elif isinstance(event, h2.events.DataReceived):
            self.bodies[event.stream_id] += event.data
            if self.open:
                self.client.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.TrailersReceived):
            self.trailers[event.stream_id] = _texts(event.headers)

    def ask(self, fields: Sequence[tuple[str, str]], body: bytes, padding: int | None = None) -> Stream:
        """Send a request, as fast as the server's windows let it."""
        stream = self.client.get_next_available_stream_id()
        self.client.send_headers(stream, list(fields))
        while body:
            room = min(self.client.local_flow_control_window(stream), self.client.max_outbound_frame_size)
            if padding is not None:  # less of it where there is no room
                padding = max(min(padding, room - len(body) - 1), 0)
                room -= padding + 1
            assert room > 0
            self.client.send_data(stream, body[:room], pad_length=padding)
            body = body[room:]
            self.turn()
        self.client.end_stream(stream)
        self.turn()
        return self.requests.pop()


def test_calls_and_answers() -> None:
    """A thousand calls on one connection, none lost and none changed."""
    peer = Stranger()
    for number in range(1000):
        call = peer.ask((*CALL, ("x-number", str(number))), prefixed(b"%d" % number))
        assert isinstance(call, GrpcCall)
        call.answer(0, "", b"reply %d" % number)
        peer.turn()

        assert b"%d" % number == call.message
        assert str(number) == call.metadata["x-number"]
        assert prefixed(b"reply %d" % number) == peer.bodies[call.id]
        assert {"grpc-status": "0"} == peer.trailers[call.id]


@pytest.mark.parametrize("padding", [None, 0, 200])
@pytest.mark.parametrize("window", [1, 1000, 65535, 1 << 20])
@pytest.mark.parametrize("size", [0, 1000, 65530, 65531, 300_000])
def test_large_messages_both_ways(size: int, window: int, padding: int | None) -> None:
    """Whatever the windows are, all of it comes; a window of one byte is tried with little."""
    size = min(size, 200) if window == 1 else size
    peer = Stranger({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window})
    message = bytes(range(256)) * (size // 256 + 1)
    call = peer.ask(CALL, prefixed(message[:size]), padding)
    assert isinstance(call, GrpcCall)
    call.answer(0, "", message[1 : size + 1])
    peer.turn()

    assert message[:size] == call.message
    assert prefixed(message[1 : size + 1]) == peer.bodies[call.id]
    assert not peer.server.closing


def test_many_large_messages_share_a_small_promise() -> None:
    """Long messages wait for their turn, and each comes through, however long."""
    limits = Http2Limits(window_bytes=1000, promised_bytes=30_000)
    peer = Stranger(limits=limits)
    sizes = {stream: 20_000 + 1000 * stream for stream in range(1, 20, 2)}
    left = {stream: prefixed(bytes(size)) for stream, size in sizes.items()}
    for stream in left:
        peer.client.send_headers(stream, list(CALL))
    while left:
        for stream, body in list(left.items()):
            room = min(peer.client.local_flow_control_window(stream), 16384)
            if room:
                peer.client.send_data(stream, body[:room], end_stream=room >= len(body))
                left[stream] = body[room:]
            if not left[stream]:
                del left[stream]
            peer.turn()
            assert peer.server.requests.intake.promised <= limits.promised_bytes + max(sizes.values())

    assert sizes == {call.id: len(call.message or b"") for call in peer.requests}
    assert 0 == peer.server.requests.intake.promised


def test_a_blocked_answer_and_a_changed_window() -> None:
    """6.9.2: a setting moves the window of an answer on its way, below zero and up again."""
    peer = Stranger()
    peer.open = False
    call = peer.ask(CALL, prefixed(b""))
    assert isinstance(call, GrpcCall)
    call.answer(0, "", bytes(100_000))
    peer.turn()
    first = len(peer.bodies[1])
    peer.client.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 10})
    peer.client.increment_flow_control_window(100_000)
    peer.turn()
    second = len(peer.bodies[1])
    peer.client.increment_flow_control_window(65_525, 1)
    peer.turn()
    third = len(peer.bodies[1])
    peer.client.increment_flow_control_window(1, 1)
    peer.turn()
    fourth = len(peer.bodies[1])
    peer.client.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 65_535})
    peer.turn()

    assert [65_535, 65_535, 65_535, 65_536] == [first, second, third, fourth]
    assert 100_005 == len(peer.bodies[1])
    assert {"grpc-status": "0"} == peer.trailers[1]


def test_a_smaller_header_table() -> None:
    """RFC 7541, 4.2: a peer that lowers its table hears of ours before the next fields, once."""
    peer = Stranger()
    peer.client.update_settings({h2.settings.SettingCodes.HEADER_TABLE_SIZE: 100})
    peer.turn()
    for _ in range(2):
        call = peer.ask(CALL, prefixed(b""))
        assert isinstance(call, GrpcCall)
        call.answer(0, "", b"")
        peer.turn()

        assert {"grpc-status": "0"} == peer.trailers[call.id]


def test_compression() -> None:
    """gzip in, and out where the caller accepts it."""
    peer = Stranger()
    fields = (*CALL, ("grpc-encoding", "gzip"), ("grpc-accept-encoding", "identity, gzip"))
    call = peer.ask(fields, prefixed(gzip.compress(b"question"), 1))
    assert isinstance(call, GrpcCall)
    call.answer(0, "", b"reply" * 99, compress=True)
    peer.turn()

    assert b"question" == call.message
    assert "gzip" == peer.heads[1]["grpc-encoding"]
    assert 1 == peer.bodies[1][0]
    assert b"reply" * 99 == gzip.decompress(peer.bodies[1][5:])


def test_an_error() -> None:
    """Trailers only, with an encoded text and binary metadata."""
    peer = Stranger()
    call = peer.ask(CALL, prefixed(b""))
    assert isinstance(call, GrpcCall)
    call.answer(5, "no such modèl: 100%\n", b"", [("grpc-retry-pushback-ms", "10"), ("why-bin", b"\0\xff")])
    peer.turn()

    assert {
        ":status": "200",
        "content-type": "application/grpc",
        "grpc-status": "5",
        "grpc-message": "no such mod%C3%A8l: 100%25%0A",
        "grpc-retry-pushback-ms": "10",
        "why-bin": "AP8",
    } == peer.heads[1]
    assert b"" == peer.bodies[1]


def test_an_error_before_the_message_is_there() -> None:
    """The answer comes first, then RST_STREAM with NO_ERROR; the rest of the message does no harm."""
    peer = Stranger(limits=Http2Limits(message_bytes=1000))
    peer.client.send_headers(1, list(CALL))
    peer.client.send_data(1, prefixed(bytes(2000))[:500])
    said = peer.client.data_to_send()
    peer.client.send_data(1, bytes(500))
    peer.client.send_headers(1, [("a", "b")], end_stream=True)
    late = peer.client.data_to_send()
    peer.server.feed(said, 0.0)
    answer = peer.server.output()
    for event in peer.client.receive_data(answer):
        peer.see(event)
    found = peer.server.feed(late, 0.0)

    assert "8" == peer.heads[1]["grpc-status"]
    assert "Received message larger than max (2000 vs. 1000)" == peer.heads[1]["grpc-message"]
    assert answer.endswith(frames.rst_stream(1, frames.ErrorCode.NO_ERROR))
    assert [] == found
    assert b"" == peer.server.output()


def test_plain_requests() -> None:
    """GET, POST and HEAD over HTTP/2, with cookies in crumbs and trailers."""
    peer = Stranger()
    got = peer.ask((*GET, ("cookie", "a=1"), ("cookie", "b=2"), ("x", "1"), ("x", "2")), b"")
    assert isinstance(got, Http2Exchange)
    got.answer(200, b"{}", {"Content-Type": "application/json", "Connection": "close"})
    posted = peer.ask((*POST, ("content-length", "100000")), bytes(100_000), padding=10)
    assert isinstance(posted, Http2Exchange)
    posted.answer(429, bytes(70_000), {})
    headed = peer.ask(((":method", "HEAD"), *GET[1:]), b"")
    assert isinstance(headed, Http2Exchange)
    headed.answer(200, b"not sent", {})
    peer.turn()

    assert ("GET", "/v1/models/m", b"") == (got.method, got.path, got.body)
    assert {"cookie": "a=1; b=2", "x": "1,2", "host": "localhost:8501"} == dict(got.headers)
    assert {":status": "200", "content-type": "application/json", "content-length": "2"} == peer.heads[1]
    assert bytes(100_000) == posted.body
    assert "429" == peer.heads[3][":status"]
    assert (b"{}", bytes(70_000), b"") == tuple(peer.bodies[stream] for stream in (1, 3, 5))
    assert "8" == peer.heads[5]["content-length"]


def test_continue() -> None:
    """Who expects 100-continue gets it before the body, and an unknown expectation 417."""
    peer = Stranger()
    peer.client.send_headers(1, [*POST, ("expect", "100-Continue")])
    said = peer.client.data_to_send()
    peer.server.feed(said, 0.0)
    (event,) = peer.client.receive_data(peer.server.output())
    peer.client.send_headers(3, [*POST, ("expect", "wonders")], end_stream=True)
    peer.turn()

    assert isinstance(event, h2.events.InformationalResponseReceived)
    assert "417" == peer.heads[3][":status"]


def test_a_cancelled_call() -> None:
    """The client's reset reaches us while the answer waits for its window, too."""
    peer = Stranger()
    peer.open = False
    gone: list[int] = []
    call = peer.ask(CALL, prefixed(b""))
    call.on_cancel = lambda: gone.append(1)
    blocked = peer.ask(CALL, prefixed(b""))
    assert isinstance(blocked, GrpcCall)
    blocked.answer(0, "", bytes(100_000))
    peer.turn()
    peer.client.reset_stream(1, h2.errors.ErrorCodes.CANCEL)
    peer.client.reset_stream(3, h2.errors.ErrorCodes.CANCEL)
    peer.turn()

    assert [1] == gone
    assert "<Outlet 0 streams, window 0, 0 ready>" == repr(peer.server.requests.outlet)


def test_plain_answers() -> None:
    """The short cut says what the general way says, or nothing where the windows have no room for all of it."""
    peer = Stranger()
    for message in (b"1", b"234", bytes(100_000), b""):
        call = peer.ask(CALL, prefixed(b""))
        assert isinstance(call, GrpcCall)
        if not call.answer_plain(message):
            call.answer(0, "", message)
        peer.turn()

        assert prefixed(message) == peer.bodies[call.id]
        assert {"grpc-status": "0"} == peer.trailers[call.id]
