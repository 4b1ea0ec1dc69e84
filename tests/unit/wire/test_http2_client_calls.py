"""What becomes of calls: good and ugly answers, resets, compression; by a scripted server, and by Python's h2."""

from __future__ import annotations

import dataclasses
import gzip
from collections.abc import Callable, Sequence

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchproxy.wire import frames
from batchproxy.wire.frames import ErrorCode
from batchproxy.wire.http2_client import CLIENT_LIMITS, Http2Client
from batchproxy.wire.http2_client_call import Call, Fate
from batchproxy.wire.http2_client_calls import MAX_REFUSALS
from tests.http2_host import DONE, GOOD, METHOD, Host, rst

Script = Callable[[Host], bytes]


def outcome(call: Call) -> tuple[Fate | None, int, str]:
    """What became of a call."""
    return call.fate, call.code, call.text


ZIPPED: Sequence[tuple[str, str]] = (*GOOD, ("grpc-encoding", "gzip"))
HTML: Sequence[tuple[str, str]] = ((":status", "503"), ("content-type", "text/html"))


@pytest.mark.parametrize(
    ("script", "code", "text"),
    [
        pytest.param(
            lambda host: host.headers([*GOOD, ("grpc-status", "5"), ("grpc-message", "no %25")], ends=True),
            5, "no %", id="trailers only",
        ),
        pytest.param(
            lambda host: host.headers(GOOD) + host.headers([("grpc-status", "3"), ("grpc-message", "x")], ends=True),
            3, "x", id="metadata, then a bad status",
        ),
        pytest.param(
            lambda host: host.headers(GOOD) + host.data(b"a") + host.headers([("grpc-status", "13")], ends=True),
            13, "", id="a message, then a bad status",
        ),
        pytest.param(
            lambda host: host.headers([*GOOD, *DONE], ends=True),
            13, "the answer has no message", id="OK and no message",
        ),
        pytest.param(
            lambda host: host.headers(GOOD) + host.headers(DONE, ends=True),
            13, "the answer has no message", id="OK and no message in two blocks",
        ),
        pytest.param(
            lambda host: host.headers(GOOD) + host.data(b"a") * 2,
            13, "a unary answer has one message; more came", id="two messages",
        ),
        pytest.param(
            lambda host: host.headers(GOOD) + host.data(b"abc")[:-1].replace(b"\0\0\x08", b"\0\0\x07", 1)
            + host.headers(DONE, ends=True),
            13, "the answer ends before the announced length of its message", id="half a message",
        ),
        pytest.param(
            lambda host: host.headers(GOOD) + host.data(b"a", flags=frames.END_STREAM),
            2, "the answer has no grpc-status", id="no trailers",
        ),
        pytest.param(
            lambda host: host.headers(HTML) + frames.frame(frames.DATA, frames.END_STREAM, 1, b"<html>not gRPC</html>"),
            14, "HTTP status 503, and no grpc-status", id="a gateway's page",
        ),
        pytest.param(
            lambda host: host.headers([("a", "1")]), 13, "the answer has no HTTP status", id="no HTTP status"
        ),
        pytest.param(
            lambda host: host.data(b"a"), 13, "the answer begins without header fields", id="a message first"
        ),
        pytest.param(
            lambda host: host.headers(GOOD) + host.headers(GOOD), 13, "header fields within the answer", id="two heads"
        ),
        pytest.param(
            lambda host: host.headers([*GOOD, ("a", "x" * 5000)]),
            8, "bytes of header fields are more than 5000", id="too much metadata",
        ),
        pytest.param(
            lambda host: host.headers(GOOD) + host.data(b"x" * 1001),
            8, "Received message larger than max (1001 vs. 1000)", id="a message too long",
        ),
        pytest.param(
            lambda host: host.headers([GOOD[0], ("content-type", "text/html")]) + host.data(b"<html>"),
            2, "the answer is no gRPC: its content-type is text/html", id="a gateway's page",
        ),
        pytest.param(
            lambda host: host.headers(GOOD) + host.data(b"x", compressed=1),
            13, "the answer is compressed in what is not known here: no encoding", id="compressed in what?",
        ),
        pytest.param(
            lambda host: host.headers([*GOOD, ("grpc-encoding", "snappy")]) + host.data(b"x", compressed=1),
            13, "the answer is compressed in what is not known here: snappy", id="compressed in snappy",
        ),
        pytest.param(
            lambda host: host.headers(ZIPPED) + host.data(b"xyz", compressed=1) + host.headers(DONE, ends=True),
            13, "the message is not gzip data", id="compressed, but broken",
        ),
        pytest.param(
            lambda host: host.headers(ZIPPED)
            + host.data(gzip.compress(bytes(1001)), compressed=1) + host.headers(DONE, ends=True),
            8, "the message has more than 1000 bytes once decompressed", id="a bomb",
        ),
    ],
)  # fmt: skip
def test_answers_that_are_no_success(script: Script, code: int, text: str) -> None:
    """Each has a status, the server's or what we make of it; the connection goes on."""
    host = Host(dataclasses.replace(CLIENT_LIMITS, message_bytes=1000, list_bytes=5000))
    call = host.start()
    over = host.say(script(host))
    next_one = host.start()

    assert [call] == over
    assert (Fate.STATUS, code) == outcome(call)[:2]
    assert text in call.text
    assert call.message is None
    assert [next_one] == host.say(host.answer(stream=3))


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (lambda host: rst(7), (Fate.NOT_RUN, 7, "the server refused the stream (RST_STREAM with REFUSED_STREAM)")),
        (lambda host: rst(8), (Fate.LOST, 8, "the server broke the call off (RST_STREAM with CANCEL)")),
        (lambda host: rst(0), (Fate.LOST, 0, "the server broke the call off (RST_STREAM with NO_ERROR)")),
        (lambda host: rst(99), (Fate.LOST, 99, "the server broke the call off (RST_STREAM with 99)")),
        (lambda host: host.headers([(":status", "502")], ends=True), (Fate.LOST, 0, "HTTP status 502")),
        (lambda host: host.headers([(":status", "504")], ends=True), (Fate.LOST, 0, "HTTP status 504")),
        (
            lambda host: host.headers([(":status", "2000")]),
            (Fate.LOST, 1, "the answer breaks the rules of HTTP/2: PROTOCOL_ERROR"),
        ),
        (
            lambda host: frames.window_update(1, 0),
            (Fate.LOST, 1, "the answer breaks the rules of HTTP/2: PROTOCOL_ERROR"),
        ),
    ],
)  # fmt: skip
def test_calls_that_end_without_a_status(script: Script, expected: tuple[Fate, int, str]) -> None:
    """What the server did not look at, and what it may have run; the connection goes on."""
    host = Host(greet=[(frames.INITIAL_WINDOW_SIZE, 4)])  # so that all of the request is not sent yet
    call = host.start()
    over = host.say(script(host))
    next_one = host.start()

    assert [call] == over
    assert expected == outcome(call)
    assert [next_one] == host.say(host.answer(stream=3))


def test_a_server_that_counts_otherwise_is_offered_a_refused_call_again() -> None:
    """Where it says how many it takes: when another call has ended, or at once where there is none; not for ever."""
    host = Host(greet=[(frames.MAX_CONCURRENT_STREAMS, 2), (frames.INITIAL_WINDOW_SIZE, 5)])
    calls = [host.start(b"one"), host.start(b"two"), host.start(b"three")]
    host.hear()
    over = host.say(rst(7, 3))
    before = [frame.stream for frame in host.hear()]
    over += host.say(host.answer(b"1"))
    between = [frame.payload[5:] for frame in host.hear() if frame.kind == frames.DATA]
    host.say(frames.window_update(5, 100), frames.window_update(7, 100))
    after = [frame.payload for frame in host.hear() if frame.kind == frames.DATA]
    over += host.say(host.answer(b"2", 5))
    for stream in range(7, 7 + 2 * MAX_REFUSALS, 2):
        over += host.say(rst(7, stream))

    assert ([], [b"", b""], [b"two", b"three"]) == (before, between, after)
    assert [calls[0], calls[1], calls[2]] == over
    assert [(0, b"1"), (0, b"2"), (7, None)] == [(call.code, call.message) for call in calls]
    assert Fate.NOT_RUN is calls[2].fate


def test_nothing_is_offered_again_to_a_server_that_leaves() -> None:
    """After GOAWAY, whatever it said that it takes."""
    host = Host(greet=[(frames.MAX_CONCURRENT_STREAMS, 2)])
    call = host.start()
    host.say(frames.goaway(1, ErrorCode.NO_ERROR), frames.settings((frames.MAX_CONCURRENT_STREAMS, 5)))
    over = host.say(rst(7))

    assert [call] == over
    assert (Fate.NOT_RUN, 7) == outcome(call)[:2]


def test_a_call_cancelled_by_a_server_whose_clock_is_faster_is_late() -> None:
    """Servers reset calls whose time is over; where we see that first, it is our own clock's verdict."""
    host = Host()
    call = host.start(timeout_s=1.0)
    host.now = 1.0
    host.say(rst(8))

    assert (Fate.STATUS, 4, "Deadline Exceeded") == outcome(call)


def test_metadata_comes_apart_from_what_the_wire_reads() -> None:
    """Initial and trailing; of a trailers-only answer all is trailing."""
    host = Host()
    call, other = host.start(), host.start()
    host.say(host.headers([*GOOD, ("i", "1")]), host.data(b""), host.headers([*DONE, ("t-bin", "AA")], ends=True))
    host.say(host.headers([*GOOD, ("t", "2"), ("grpc-status", "9")], 3, ends=True))

    assert ((("i", "1"),), b"", (("t-bin", b"\0"),)) == (call.headers, call.message, call.trailers)
    assert ((), (("t", "2"),)) == (other.headers, other.trailers)
    assert "<Call 1 /s.S/M, has a status>" == repr(call)


def test_informational_answers_are_overlooked() -> None:
    """103 and its kind; too many of them are a flood."""
    host = Host()
    call = host.start()
    host.say(host.headers([(":status", "103"), ("link", "x")]))
    over = host.say(host.answer())

    assert [call] == over
    assert (("link", "x"),) != call.headers


def test_a_call_that_is_given_up_is_cancelled_and_late_frames_are_nothing() -> None:
    """Before it is sent nobody needs to know; afterwards its frames may still be on their way."""
    host = Host(greet=[(frames.MAX_CONCURRENT_STREAMS, 1)])
    sent, waiting, third = host.start(), host.start(), host.start()
    host.hear()
    host.client.give_up(waiting)
    host.client.give_up(sent)
    host.client.give_up(sent)
    heard = host.hear()
    over = host.say(host.answer(), rst(0), frames.window_update(1, 5), host.answer(stream=3))

    assert [(frames.RST_STREAM, 1, ErrorCode.CANCEL.to_bytes(4, "big"))] == [
        (frame.kind, frame.stream, frame.payload) for frame in heard if frame.kind == frames.RST_STREAM
    ]
    assert [third] == over
    assert b"answer" == third.message


def test_an_answer_before_all_of_the_request_ends_the_request() -> None:
    """The server did not need the rest, so it is not sent; and is told so."""
    host = Host()
    call = host.start(bytes(100_000))
    host.hear()
    over = host.say(host.headers([*GOOD, ("grpc-status", "8")], ends=True), frames.window_update(0, 100_000))

    assert [call] == over
    assert [frames.RST_STREAM] == [frame.kind for frame in host.hear()]


def test_a_server_that_sends_more_than_a_stream_may_loses_the_call() -> None:
    """The stream's window is ours to keep; the connection goes on."""
    host = Host(dataclasses.replace(CLIENT_LIMITS, window_bytes=100))
    call = host.start()
    host.hear()
    host.say(host.headers(GOOD), host.data(bytes(200)))

    assert (Fate.LOST, ErrorCode.FLOW_CONTROL_ERROR) == outcome(call)[:2]
    assert [(frames.RST_STREAM, 1)] == [(frame.kind, frame.stream) for frame in host.hear()]
    assert "<Calls 0 sent, 0 waiting, the next is 3>" == repr(host.client.requests)


# ---------------------------------------------------------------- a stranger


class H2Host:
    """A gRPC echo made of Python's h2, which checks every frame of ours, and a client of ours."""

    def __init__(self, window: int, streams: int, frame_bytes: int) -> None:
        config = h2.config.H2Configuration(client_side=False, header_encoding="ascii")
        self.host = h2.connection.H2Connection(config)
        settings = h2.settings.SettingCodes
        self.host.local_settings = h2.settings.Settings(
            client=False,
            initial_values={
                settings.INITIAL_WINDOW_SIZE: window,
                settings.MAX_CONCURRENT_STREAMS: streams,
                settings.MAX_FRAME_SIZE: frame_bytes,
            },
        )
        self.host.max_inbound_frame_size = frame_bytes  # h2 forgets to do so itself
        self.host.initiate_connection()
        self.client = Http2Client("h:1", 0.0)
        self.bodies: dict[int, bytes] = {}
        self.left: dict[int, bytes] = {}
        self.ended: list[Call] = []

    def greet(self) -> None:
        """Exchange settings."""
        self.host.receive_data(b"".join(self.client.output()))
        self.client.feed(self.host.data_to_send(), 0.0)

    def run(self) -> None:
        """Pass bytes to and fro until neither side has anything to say."""
        while data := b"".join(self.client.output()):
            for event in self.host.receive_data(data):
                self._take(event)
            for stream in list(self.left):
                self._send(stream)
            self.ended += self.client.feed(self.host.data_to_send(), 0.0)

    def _take(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.DataReceived):
            self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
            self.host.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            self.host.send_headers(event.stream_id, GOOD)
            self.left[event.stream_id] = self.bodies.pop(event.stream_id)

    def _send(self, stream: int) -> None:
        """As much of an answer as the client takes."""
        while room := min(self.host.local_flow_control_window(stream), self.host.max_outbound_frame_size):
            piece, self.left[stream] = self.left[stream][:room], self.left[stream][room:]
            self.host.send_data(stream, piece)
            if not self.left[stream]:
                del self.left[stream]
                self.host.send_headers(stream, DONE, end_stream=True)
                return


@given(
    sizes=st.lists(st.integers(0, 200_000), min_size=1, max_size=6),
    window=st.sampled_from([1_000, 65_535, 1 << 20]),
    streams=st.integers(1, 6),
    frame_bytes=st.sampled_from([16_384, 100_000]),
)
def test_h2_understands_us_and_we_it(sizes: list[int], window: int, streams: int, frame_bytes: int) -> None:
    """Every call comes back with its own message, whatever the windows, the limits and the sizes."""
    pair = H2Host(window, streams, frame_bytes)
    pair.greet()
    calls = [
        pair.client.start(METHOD, bytes([number]) * size, 0.0, metadata=(("k-bin", b"\0"),))
        for number, size in enumerate(sizes)
    ]
    pair.run()

    assert sorted(map(id, calls)) == sorted(map(id, pair.ended))
    assert [(Fate.STATUS, 0, "")] * len(calls) == [outcome(call) for call in calls]
    assert [bytes([number]) * size for number, size in enumerate(sizes)] == [call.message for call in calls]
