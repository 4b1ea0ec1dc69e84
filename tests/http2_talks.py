"""A scripted HTTP/2 server whose client, ours, makes streamed calls. No tests."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from batchproxy.wire import frames
from batchproxy.wire.budget import Budget
from batchproxy.wire.frames import DATA, WINDOW_UPDATE
from batchproxy.wire.http2_client import STREAM_LIMITS, Http2Client
from batchproxy.wire.http2_client_call import Fate
from batchproxy.wire.http2_client_stream import StreamCall
from batchproxy.wire.http2_limits import Http2Limits
from batchproxy.wire.unpack import Packed
from tests.http2_host import METHOD, Host

SMALL = dataclasses.replace(STREAM_LIMITS, window_bytes=1000, connection_window_bytes=70_000, promised_bytes=3000)


class Talks(Host):
    """A server whose client makes streamed calls.

    Args:
        limits: the client's.
        greet: the server's settings.
        budget: of the client's process.
    """

    def __init__(
        self,
        limits: Http2Limits = STREAM_LIMITS,
        greet: Sequence[tuple[int, int]] = (),
        budget: Budget | None = None,
    ) -> None:
        super().__init__(limits, None)
        self.budget = budget or Budget()
        self.client = Http2Client("host:1", 0.0, limits=limits, budget=self.budget, streams=True)
        self.client.output()
        self.say(frames.settings(*greet))
        self.hear()

    def begin(self, *messages: bytes, finished: bool = False, timeout_s: float | None = None) -> StreamCall:
        """Begin a call."""
        call = self.client.start_stream(METHOD, self.now, timeout_s, (("a", "b"), ("a-bin", b"\0")))
        for message in messages:
            call.send(message)
        if finished:
            call.finish()
        return call

    def bodies(self) -> list[tuple[int, bytes]]:
        """The DATA frames that the client says: flags and payload."""
        return [(frame.flags, frame.payload) for frame in self.hear() if frame.kind == DATA]

    def granted(self, *streams: int) -> int:
        """By how much the client opens their windows."""
        updates = [frame for frame in self.hear() if frame.kind == WINDOW_UPDATE and frame.stream in streams]
        return sum(int.from_bytes(frame.payload, "big") for frame in updates)


class Told:
    """Counts what a call tells its owner."""

    def __init__(self, call: StreamCall) -> None:
        self.inputs = self.writable = 0
        call.on_input, call.on_writable = self._input, self._write

    def _input(self) -> None:
        self.inputs += 1

    def _write(self) -> None:
        self.writable += 1


def taken(call: StreamCall) -> list[bytes | Packed]:
    """All messages that are there."""
    found = []
    while (message := call.receive()) is not None:
        found.append(message)
    return found


def end_of(call: StreamCall) -> tuple[Fate | None, int, str]:
    """What became of it."""
    return call.fate, call.code, call.text
