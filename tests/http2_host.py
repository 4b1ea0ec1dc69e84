"""A scripted HTTP/2 server without a socket: writes any frame, right or wrong, and reads what our client says."""

from __future__ import annotations

from collections.abc import Sequence

import hpack

from batchproxy.wire import frames, grpc
from batchproxy.wire.frames import ErrorCode
from batchproxy.wire.http2_client import CLIENT_LIMITS, Http2Client
from batchproxy.wire.http2_client_call import Call
from batchproxy.wire.http2_limits import Http2Limits
from tests.http2_peer import Frame, split

METHOD = "/s.S/M"
GOOD: Sequence[tuple[str, str]] = ((":status", "200"), ("content-type", "application/grpc"))
DONE: Sequence[tuple[str, str]] = (("grpc-status", "0"),)


class Host:
    """A server and the client's end that talks to it.

    Args:
        limits: the client's.
        greet: the server's settings; None: it has not said them yet.
        scheme: of the calls.
    """

    def __init__(
        self, limits: Http2Limits = CLIENT_LIMITS, greet: Sequence[tuple[int, int]] | None = (), scheme: str = "http"
    ) -> None:
        self.client = Http2Client("host:1", 0.0, limits=limits, scheme=scheme)
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder()
        self.now = 0.0
        self.preface = b"".join(self.client.output())
        if greet is not None:
            self.say(frames.settings(*greet))
            self.hear()

    def say(self, *data: bytes) -> list[Call]:
        """Say something; returns the calls that ended."""
        return self.client.feed(b"".join(data), self.now)

    def hear(self) -> list[Frame]:
        """What the client says, in frames."""
        return split(b"".join(self.client.output()))

    def start(self, message: bytes = b"ask", timeout_s: float | None = None) -> Call:
        """Begin a call."""
        return self.client.start(METHOD, message, self.now, timeout_s)

    def headers(
        self, fields: Sequence[tuple[str, str]], stream: int = 1, *, ends: bool = False, flags: int = frames.END_HEADERS
    ) -> bytes:
        """A HEADERS frame."""
        return frames.frame(frames.HEADERS, flags | int(ends), stream, self.encoder.encode(fields))

    def data(self, message: bytes, stream: int = 1, *, compressed: int = 0, flags: int = 0) -> bytes:
        """A message in one DATA frame."""
        return frames.frame(frames.DATA, flags, stream, grpc.PREFIX.pack(compressed, len(message)) + message)

    def answer(self, message: bytes = b"answer", stream: int = 1) -> bytes:
        """All frames of a good answer."""
        return self.headers(GOOD, stream) + self.data(message, stream) + self.headers(DONE, stream, ends=True)

    def fields(self, block: bytes) -> list[tuple[str, str]]:
        """The fields of a block that the client sent."""
        return [(str(name), str(value)) for name, value in self.decoder.decode(block)]


def rst(code: int, stream: int = 1) -> bytes:
    """A RST_STREAM frame."""
    return frames.frame(frames.RST_STREAM, 0, stream, code.to_bytes(4, "big"))


def codes(heard: Sequence[Frame]) -> list[ErrorCode]:
    """The error codes of the GOAWAY frames among these."""
    return [ErrorCode(int.from_bytes(frame.payload[4:8], "big")) for frame in heard if frame.kind == frames.GOAWAY]


def cuts(data: bytes, size: int) -> list[bytes]:
    """Bytes in pieces of one size."""
    return [data[at : at + size] for at in range(0, len(data), size)]
