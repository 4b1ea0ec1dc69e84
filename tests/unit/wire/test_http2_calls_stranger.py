"""Streamed calls against the ``h2`` library, which keeps its own windows and checks each frame of ours."""

from __future__ import annotations

from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings
from hypothesis import given, settings
from hypothesis import strategies as st

from batchproxy.wire.http2 import Http2Connection
from batchproxy.wire.http2_calls import GrpcStreamCall
from batchproxy.wire.http2_limits import Http2Limits
from tests.http2_peer import prefixed
from tests.streamed import CHAT, HEAD

SIZES = st.lists(st.integers(0, 6000), max_size=4)


class Talk:
    """An h2 client with one streamed call, and our end of it, which echoes.

    Args:
        window: what the client takes on a stream before its first window update.
        limits: our end's.
    """

    def __init__(self, window: int, limits: Http2Limits) -> None:
        self.client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        values = {h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window}
        self.client.local_settings = h2.settings.Settings(client=True, initial_values=values)
        self.server = Http2Connection(limits, 0.0, (CHAT,).__contains__)
        self.client.initiate_connection()
        self.call: GrpcStreamCall | None = None
        self.waiting = False
        self.done = False
        self.body = b""
        self.ending: dict[str, str] = {}
        self.most = 0
        self.turn()  # it knows our windows
        self.client.send_headers(1, list(HEAD))

    def echo(self) -> None:
        """What the owner does: takes a message only where it may send one."""
        call = self.call
        if call is None or self.done:
            return
        while not self.waiting and isinstance(message := call.receive(), bytes):
            self.waiting = not call.send(message)
        if call.ended and not self.waiting:
            self.done = True
            call.finish(0)

    def go_on(self) -> None:
        self.waiting = False

    def turn(self) -> None:
        """Bytes to and fro, once."""
        for call in self.server.feed(self.client.data_to_send(), 0.0):
            assert isinstance(call, GrpcStreamCall)
            self.call = call
            call.on_writable = self.go_on
        self.echo()
        if self.call is not None and self.call.extra is not None:
            self.most = max(self.most, self.call.extra.held)
        for event in self.client.receive_data(self.server.output()):
            self.see(event)

    def see(self, event: h2.events.Event) -> None:
        """Note what the client understood."""
        if isinstance(event, h2.events.DataReceived):
            self.body += event.data
            self.client.acknowledge_received_data(event.flow_controlled_length, 1)
        elif isinstance(event, h2.events.TrailersReceived):
            self.ending = {str(name): str(value) for name, value in event.headers}


@settings(max_examples=40)
@given(
    sizes=SIZES,
    window=st.sampled_from([100, 10_000, 65_535]),
    ours=st.sampled_from([100, 2000, 131_072]),
    frame=st.sampled_from([50, 5000, 16_384]),
)
def test_whatever_the_windows_all_of_it_comes_back(sizes: list[int], window: int, ours: int, frame: int) -> None:
    """And we never hold more than our window, or the one message that is longer."""
    limits = Http2Limits(window_bytes=ours, allowance=100_000)
    talk = Talk(window, limits)
    payload = b"".join(prefixed(bytes([number]) * size) for number, size in enumerate(sizes))
    left: Any = payload
    ended = False
    for _ in range(2000):
        room = min(talk.client.local_flow_control_window(1), frame)
        if not ended and (room or not left):
            ended = len(left) <= room
            talk.client.send_data(1, left[:room], end_stream=ended)
            left = left[room:]
        talk.turn()
        if talk.ending:
            break

    assert payload == talk.body
    assert {"grpc-status": "0"} == talk.ending
    assert talk.most <= max(ours, *(size + 5 for size in sizes), 0) + 512
    assert (0, False) == (talk.server.requests.intake.promised, talk.server.closing)
