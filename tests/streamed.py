"""Streamed calls of a scripted HTTP/2 client: begun, taken from, and what the server said of them. No tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from batchproxy.wire.frames import DATA, END_STREAM, WINDOW_UPDATE
from batchproxy.wire.http2_calls import GrpcStreamCall
from batchproxy.wire.http2_limits import Http2Limits
from tests.http2_peer import CALL, Frame, Peer, data

CHAT = "/a.Stranger/Chat"
HEAD: Sequence[tuple[str, str]] = tuple((name, CHAT if name == ":path" else value) for name, value in CALL)
GZIPPED = (*HEAD, ("grpc-encoding", "gzip"))


def a_peer(limits: Http2Limits | None = None, **arguments: Any) -> Peer:
    """A client of a server that takes ``CHAT`` for a streamed method."""
    return Peer(limits, streamed=(CHAT,), **arguments)


def begun(peer: Peer, *payloads: bytes, fields: Sequence[tuple[str, str]] = HEAD, ends: bool = False) -> GrpcStreamCall:
    """A call that was handed on."""
    stream = peer.take()
    pieces = [data(stream, payload) for payload in payloads]
    pieces += [data(stream, b"", END_STREAM)] if ends else []
    (call,) = peer.send(peer.headers(fields, stream), *pieces)
    assert isinstance(call, GrpcStreamCall)
    return call


def taken(call: GrpcStreamCall) -> list[bytes]:
    """All messages that are there, inflated."""
    found = []
    while (message := call.receive()) is not None:
        found.append(message if isinstance(message, bytes) else message.whole())
    return found


def granted(said: Sequence[Frame], stream: int) -> int:
    """By how much a stream's window was opened."""
    updates = [frame for frame in said if frame.kind == WINDOW_UPDATE and frame.stream == stream]
    return sum(int.from_bytes(frame.payload, "big") for frame in updates)


def body(said: Sequence[Frame], stream: int) -> bytes:
    """What was sent as DATA."""
    return b"".join(frame.payload for frame in said if (frame.kind, frame.stream) == (DATA, stream))


class Told:
    """Counts what its call tells it."""

    def __init__(self, call: GrpcStreamCall) -> None:
        self.inputs = self.writable = self.cancelled = 0
        call.on_input, call.on_writable, call.on_cancel = self._input, self._write, self._cancel

    def _input(self) -> None:
        self.inputs += 1

    def _write(self) -> None:
        self.writable += 1

    def _cancel(self) -> None:
        self.cancelled += 1
