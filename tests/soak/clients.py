"""Callers' connections, written for this purpose: they share no code with the proxy. No judgement on answers here."""

from __future__ import annotations

import asyncio
import struct
from typing import cast

import hpack


class LostError(Exception):
    """The connection ended before the answer."""


class Http1Client(asyncio.Protocol):
    """One connection, one call at a time."""

    def __init__(self) -> None:
        self._buffer = b""
        self._waiter: asyncio.Future[tuple[int, bytes]] | None = None
        self._transport: asyncio.Transport | None = None
        self.usable = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(LostError(str(exc)))

    def post(self, path: str, body: bytes) -> asyncio.Future[tuple[int, bytes]]:
        """Status and body of the answer; raises LostError."""
        assert self._transport is not None
        self._waiter = asyncio.get_running_loop().create_future()
        head = f"POST {path} HTTP/1.1\r\nHost: soak\r\nContent-Length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + body)
        return self._waiter

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        lines = head.lower().split(b"\r\n")
        size = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
        if len(rest) < size:
            return
        self._buffer = rest[size:]
        if b"connection: close" in lines:
            self.usable = False
        waiter, self._waiter = self._waiter, None
        if waiter is None or self._buffer:
            raise AssertionError(f"an answer that nobody asked for: {data!r}")
        if not waiter.done():
            waiter.set_result((int(head.split(b" ", 2)[1]), rest[:size]))

    def close(self) -> None:
        """Hang up."""
        self.usable = False
        if self._transport is not None:
            self._transport.abort()


DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
CANCEL = 8
LARGEST = 2**31 - 1


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """RFC 9113, section 4.1."""
    return struct.pack(">I", len(payload) << 8 | kind) + struct.pack(">BI", flags, stream) + payload


class Http2Client(asyncio.Protocol):
    """One connection, many calls."""

    def __init__(self) -> None:
        self._buffer = b""
        self._next = 1
        self._calls: dict[int, tuple[asyncio.Future[tuple[int, str, bytes]], list[bytes]]] = {}
        self._transport: asyncio.Transport | None = None
        self._decoder = hpack.Decoder()
        self._block = hpack.Encoder().encode(
            [(":method", "POST"), (":scheme", "http"), (":path", "/tensorflow.serving.PredictionService/Predict"),
             (":authority", "soak"), ("te", "trailers"), ("content-type", "application/grpc")],
            huffman=False,
        )  # fmt: skip
        self.usable = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, LARGEST))
        self._transport.write(preface + frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", LARGEST - 65_535)))

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        for waiter, _ in self._calls.values():
            if not waiter.done():
                waiter.set_exception(LostError(str(exc)))
        self._calls.clear()

    def call(self, message: bytes) -> tuple[int, asyncio.Future[tuple[int, str, bytes]]]:
        """The stream, and the status, its text and the message; raises LostError."""
        assert self._transport is not None
        stream, self._next = self._next, self._next + 2
        waiter: asyncio.Future[tuple[int, str, bytes]] = asyncio.get_running_loop().create_future()
        self._calls[stream] = (waiter, [])
        body = struct.pack(">BI", 0, len(message)) + message
        self._transport.write(frame(HEADERS, END_HEADERS, stream, self._block) + frame(DATA, END_STREAM, stream, body))
        return stream, waiter

    def cancel(self, stream: int) -> None:
        """Nobody waits for it any more."""
        if self._calls.pop(stream, None) is not None and self._transport is not None:
            self._transport.write(frame(RST_STREAM, 0, stream, struct.pack(">I", CANCEL)))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        at = 0
        while len(self._buffer) - at >= 9:
            end = at + 9 + int.from_bytes(self._buffer[at : at + 3], "big")
            if end > len(self._buffer):
                break
            kind, flags = self._buffer[at + 3], self._buffer[at + 4]
            stream = int.from_bytes(self._buffer[at + 5 : at + 9], "big") & LARGEST
            self._take(kind, flags, stream, self._buffer[at + 9 : end])
            at = end
        self._buffer = self._buffer[at:]

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        assert self._transport is not None
        waiter, parts = self._calls.get(stream, (None, []))
        if kind == SETTINGS and not flags & ACK:
            self._transport.write(frame(SETTINGS, ACK, 0, b""))
        elif kind == PING and not flags & ACK:
            self._transport.write(frame(PING, ACK, 0, payload))
        elif kind == DATA:
            parts.append(payload)
        elif kind == HEADERS:
            fields = {str(name): str(value) for name, value in self._decoder.decode(payload)}
            if flags & END_STREAM and waiter is not None:
                del self._calls[stream]
                if not waiter.done():
                    text = fields.get("grpc-message", "")
                    waiter.set_result((int(fields["grpc-status"]), text, b"".join(parts)[5:]))
        elif kind == RST_STREAM and waiter is not None:
            del self._calls[stream]
            if not waiter.done():
                waiter.set_exception(LostError(f"RST_STREAM {payload.hex()}"))
        elif kind == GOAWAY:
            self.usable = False

    def close(self) -> None:
        """Hang up."""
        self.usable = False
        if self._transport is not None:
            self._transport.abort()
