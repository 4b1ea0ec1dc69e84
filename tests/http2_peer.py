"""A scripted HTTP/2 client without a socket: writes any frame, right or wrong, and reads what the server says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import hpack

from batchproxy.wire import frames, grpc
from batchproxy.wire.budget import Budget
from batchproxy.wire.http2 import Http2Connection
from batchproxy.wire.http2_limits import Http2Limits
from batchproxy.wire.http2_plain import Http2Exchange
from batchproxy.wire.http2_streams import GrpcCall

PATH = "/tensorflow.serving.PredictionService/Predict"
CALL: Sequence[tuple[str, str]] = (
    (":method", "POST"),
    (":scheme", "http"),
    (":path", PATH),
    (":authority", "localhost:8500"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
)
GET: Sequence[tuple[str, str]] = (
    (":method", "GET"),
    (":scheme", "http"),
    (":path", "/v1/models/m"),
    (":authority", "localhost:8501"),
)
POST: Sequence[tuple[str, str]] = ((":method", "POST"), *GET[1:])


class Frame(NamedTuple):
    """A frame as it is on the wire."""

    kind: int
    flags: int
    stream: int
    payload: bytes


class Peer:
    """A client and the server's end it talks to.

    Args:
        limits: the server's; None for the usual ones.
        greet: whether the preface and SETTINGS were exchanged already.
        fast: whether the server may take the short way.
        streamed: the paths of streamed calls.
        budget: of the server's process.
        call: what its unary calls are.
    """

    def __init__(
        self,
        limits: Http2Limits | None = None,
        *,
        greet: bool = True,
        fast: bool = True,
        streamed: Sequence[str] = (),
        budget: Budget | None = None,
        call: type[GrpcCall] = GrpcCall,
    ) -> None:
        self.server = Http2Connection(limits or Http2Limits(), 0.0, streamed.__contains__, budget, call)
        self.server.FAST = fast
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder()
        self.now = 0.0
        self.next = 1
        if greet:
            self.send(frames.PREFACE, frames.settings(), frames.frame(frames.SETTINGS, frames.ACK, 0, b""))
            self.server.output()

    def send(self, *data: bytes) -> list[Any]:
        """Say something; returns the requests that became complete."""
        return self.server.feed(b"".join(data), self.now)

    def read(self) -> list[Frame]:
        """What the server says, in frames."""
        return split(self.server.output())

    def block(self, fields: Sequence[tuple[str, str]]) -> bytes:
        """Header fields as this client's encoder writes them."""
        return self.encoder.encode(fields)

    def headers(self, fields: Sequence[tuple[str, str]], stream: int, flags: int = frames.END_HEADERS) -> bytes:
        """A HEADERS frame."""
        return frames.frame(frames.HEADERS, flags, stream, self.block(fields))

    def call(self, message: bytes = b"question", *more: tuple[str, str], stream: int | None = None) -> bytes:
        """A unary call in two frames, on the next stream."""
        stream = self.take() if stream is None else stream
        return self.headers((*CALL, *more), stream) + data(stream, prefixed(message), frames.END_STREAM)

    def take(self) -> int:
        """The id of the next stream."""
        self.next += 2
        return self.next - 2

    def ask(self, message: bytes = b"question", *more: tuple[str, str]) -> GrpcCall:
        """Make a call that is taken in."""
        (call,) = self.send(self.call(message, *more))
        assert isinstance(call, GrpcCall)
        return call

    def request(self, fields: Sequence[tuple[str, str]] = GET, body: bytes | None = None) -> Http2Exchange:
        """Make a plain request that is taken in."""
        stream = self.take()
        ends = frames.END_STREAM if body is None else 0
        parts = [self.headers(fields, stream, frames.END_HEADERS | ends)]
        if body is not None:
            parts.append(data(stream, body, frames.END_STREAM))
        (exchange,) = self.send(*parts)
        assert isinstance(exchange, Http2Exchange)
        return exchange

    def fields(self, frame: Frame) -> dict[str, str]:
        """The fields in a HEADERS frame of the server."""
        assert frame.kind == frames.HEADERS
        return {str(name): str(value) for name, value in self.decoder.decode(frame.payload)}

    def answer(self) -> tuple[dict[str, str], bytes, dict[str, str]]:
        """The server's only answer: header fields, body, trailers; other kinds of frames are left out."""
        head: list[dict[str, str]] = []
        body = b""
        for frame in self.read():
            if frame.kind == frames.HEADERS:
                head.append(self.fields(frame))
            elif frame.kind == frames.DATA:
                body += frame.payload
        return head[0], body, head[1] if len(head) > 1 else {}


def data(stream: int, payload: bytes, flags: int = 0) -> bytes:
    """A DATA frame."""
    return frames.frame(frames.DATA, flags, stream, payload)


def prefixed(message: bytes, compressed: int = 0) -> bytes:
    """A message with gRPC's prefix."""
    return grpc.PREFIX.pack(compressed, len(message)) + message


def split(raw: bytes) -> list[Frame]:
    """Bytes as frames; there must be nothing left over."""
    found = []
    while raw:
        size_kind, flags, stream = frames.HEADER.unpack_from(raw)
        end = 9 + (size_kind >> 8)
        assert len(raw) >= end
        found.append(Frame(size_kind & 255, flags, stream, raw[9:end]))
        raw = raw[end:]
    return found


def goaway_of(said: Sequence[Frame]) -> tuple[frames.ErrorCode, str]:
    """The code and the reason of the last frame, which is GOAWAY."""
    assert said[-1].kind == frames.GOAWAY
    return frames.ErrorCode(int.from_bytes(said[-1].payload[4:8], "big")), said[-1].payload[8:].decode()


def resets_of(said: Sequence[Frame]) -> list[tuple[int, frames.ErrorCode]]:
    """The streams that were reset, and why."""
    return [
        (frame.stream, frames.ErrorCode(int.from_bytes(frame.payload, "big")))
        for frame in said
        if frame.kind == frames.RST_STREAM
    ]
