"""A small gRPC client for load, on its own HTTP/2: grpcio's would take more processor time than the servers measured.

It knows what unary calls with small messages need: it sends literal headers, reads frames, keeps the server's window
of the connection, and does not decode headers, since a right answer is told by its values. It asks for the
largest windows there are and never renews them: 2 GiB of answers a connection are more than a run brings.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections import deque
from functools import partial
from typing import cast

from benchmarks.load.recorder import Recorder

CONNECTIONS = 4
"""Callers share as many: a gRPC client of several processes or channels in front of one server."""

PATH = b"/tensorflow.serving.PredictionService/Predict"

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4

_LARGEST = 2**31 - 1
_DEFAULT_WINDOW = 65_535


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """RFC 9113, section 4.1."""
    return struct.pack(">I", len(payload) << 8 | kind) + struct.pack(">BI", flags, stream) + payload


def literal(name: bytes, value: bytes) -> bytes:
    """RFC 7541, section 6.2.2: without indexing, new name, no Huffman; both shorter than 127 bytes."""
    return bytes((0, len(name))) + name + bytes((len(value),)) + value


BLOCK = b"".join((
    b"\x83\x86",  # :method POST and :scheme http, by the static table
    bytes((0x04, len(PATH))) + PATH,  # :path, whose name is the table's fourth
    bytes((0x01, 9)) + b"localhost",  # :authority, likewise the first
    literal(b"te", b"trailers"),
    literal(b"content-type", b"application/grpc"),
))  # fmt: skip

PREFACE = b"".join((
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    frame(SETTINGS, 0, 0, struct.pack(">HI", 4, _LARGEST)),  # 4: SETTINGS_INITIAL_WINDOW_SIZE
    frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", _LARGEST - _DEFAULT_WINDOW)),
))  # fmt: skip


class GrpcConnection(asyncio.Protocol):
    """One connection with several callers on it, each with one stream open at a time."""

    def __init__(self, recorder: Recorder, callers: int, block: bytes = BLOCK) -> None:
        self._recorder = recorder
        self._block = block
        self._callers = callers
        self._buffer = b""
        self._stream = -1
        self._window = _DEFAULT_WINDOW
        self._streams: dict[int, tuple[int, float, list[bytes]]] = {}
        self._blocked: deque[tuple[int, float]] = deque()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(PREFACE)
        for _ in range(self._callers):
            self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._recorder.lost(f"the connection was closed by the server ({exc})")

    def close(self) -> None:
        """Stop; answers under way are not waited for."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data
        at, end = 0, len(buffer)
        while end - at >= 9:
            length = int.from_bytes(buffer[at : at + 3])
            stop = at + 9 + length
            if stop > end:
                break
            stream = int.from_bytes(buffer[at + 5 : at + 9]) & _LARGEST
            self._frame(buffer[at + 3], buffer[at + 4], stream, buffer[at + 9 : stop])
            at = stop
        self._buffer = buffer[at:]

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == DATA:
            self._streams[stream][2].append(payload)
        elif kind == RST_STREAM:
            self._lost(stream, f"RST_STREAM {payload.hex()}")
            return
        elif kind == SETTINGS and not flags & ACK:
            self._write(frame(SETTINGS, ACK, 0, b""))
        elif kind == PING and not flags & ACK:
            self._write(frame(PING, ACK, 0, payload))
        elif kind == GOAWAY:
            self._recorder.lost(f"GOAWAY {payload!r}")
            self.close()
        elif kind == WINDOW_UPDATE and stream == 0:
            self._window += int.from_bytes(payload) & _LARGEST
            while self._blocked and self._send(*self._blocked[0]):
                self._blocked.popleft()
        if kind in {DATA, HEADERS} and flags & END_STREAM:
            self._ended(stream, payload)

    def _ended(self, stream: int, trailers: bytes) -> None:
        number, sent_at, parts = self._streams.pop(stream)
        message = b"".join(parts)
        if len(message) >= 5 and message[0] == 0 and int.from_bytes(message[1:5]) == len(message) - 5:
            self._recorder.answered(number, sent_at, message[5:])
        else:
            self._recorder.lost(f"no message; trailers {trailers!r}")
        self._next()

    def _lost(self, stream: int, why: str) -> None:
        self._streams.pop(stream, None)
        self._recorder.lost(why)
        self._next()

    def _next(self) -> None:
        if self._recorder.going:
            number = self._recorder.next_number()
            self.send(number, time.perf_counter())

    def send(self, number: int, due: float) -> None:
        """Make a call, at once or when the server's window of the connection allows."""
        if self._blocked or not self._send(number, due):
            self._blocked.append((number, due))

    def _send(self, number: int, due: float) -> bool:
        """Open a stream, unless that window is too small at the moment."""
        message = self._recorder.requests[number]
        size = len(message) + 5
        if size > self._window:
            return False
        self._window -= size
        self._stream += 2
        self._streams[self._stream] = (number, due, [])
        self._write(
            frame(HEADERS, END_HEADERS, self._stream, self._block)
            + frame(DATA, END_STREAM, self._stream, struct.pack(">BI", 0, len(message)) + message)
        )
        return True

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


async def connect(recorder: Recorder, port: int, callers: int) -> list[GrpcConnection]:
    """A few connections that the callers share evenly, at work at once."""
    loop = asyncio.get_running_loop()
    count = min(CONNECTIONS, callers)
    shares = [callers // count + (index < callers % count) for index in range(count)]
    return [
        (await loop.create_connection(partial(GrpcConnection, recorder, share), "127.0.0.1", port))[1]
        for share in shares
    ]
