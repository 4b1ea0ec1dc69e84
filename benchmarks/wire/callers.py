"""Blocking callers, one call at a time each: what they add is the same for every server. No figures here."""

from __future__ import annotations

import http.client
import socket
import struct
from collections.abc import Callable
from typing import Protocol

import grpc

from benchmarks.load.grpc_client import (
    ACK,
    BLOCK,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    frame,
)
from benchmarks.load.grpc_client import PATH as GRPC_PATH
from benchmarks.servers import HOST

REST_PATH = "/v1/models/{model}:predict"
PATIENCE_S = 30.0
LARGEST_RAW = 16_384
"""Bytes of the one frame that ``RawGrpcCaller`` sends: what any HTTP/2 server must take (RFC 9113, section 4.2)."""


class CallError(Exception):
    """No answer, or one that says that the call failed."""


class Caller(Protocol):
    """One connection."""

    def call(self, body: bytes) -> bytes:
        """Send a request and wait for its answer.

        Raises:
            CallError: it failed.
            OSError: the connection broke.
        """

    def close(self) -> None:
        """End the connection."""


class RestCaller:
    """HTTP/1.1 by the standard library.

    Args:
        port: of the server.
        model: whose Predict is called.
    """

    def __init__(self, port: int, model: str) -> None:
        self._connection = http.client.HTTPConnection(HOST, port, timeout=PATIENCE_S)
        self._path = REST_PATH.format(model=model)

    def call(self, body: bytes) -> bytes:
        self._connection.request("POST", self._path, body, {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status != http.client.OK:
            raise CallError(f"HTTP {answer.status}: {text[:200]!r}")
        return text

    def close(self) -> None:
        self._connection.close()


class RawGrpcCaller:
    """gRPC's frames on a plain socket: grpcio's own latency is ten times that of the servers measured.

    For messages of one frame, which is what fits any server's first window.
    """

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection((HOST, port), PATIENCE_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(PREFACE)
        self._buffer = b""
        self._stream = -1

    def call(self, body: bytes) -> bytes:
        assert len(body) + 5 <= LARGEST_RAW, "This is a bug: the message does not fit one frame."
        self._stream += 2
        stream = self._stream
        self._socket.sendall(
            frame(HEADERS, END_HEADERS, stream, BLOCK)
            + frame(DATA, END_STREAM, stream, struct.pack(">BI", 0, len(body)) + body)
        )
        parts: list[bytes] = []
        while True:
            kind, flags, payload = self._frame()
            if kind == DATA:
                parts.append(payload)
            elif kind in {GOAWAY, RST_STREAM}:
                raise CallError(f"frame of type {kind}: {payload!r}")
            elif kind in {SETTINGS, PING} and not flags & ACK:
                self._socket.sendall(frame(kind, ACK, 0, payload if kind == PING else b""))
            if kind in {DATA, HEADERS} and flags & END_STREAM:
                break
        message = b"".join(parts)
        if len(message) < 5:
            raise CallError(f"no message; trailers {payload!r}")
        return message[5:]

    def _frame(self) -> tuple[int, int, bytes]:
        while len(self._buffer) < 9 or len(self._buffer) < 9 + int.from_bytes(self._buffer[:3]):
            data = self._socket.recv(65_536)
            if not data:
                raise CallError("the server closed the connection")
            self._buffer += data
        end = 9 + int.from_bytes(self._buffer[:3])
        kind, flags, payload = self._buffer[3], self._buffer[4], self._buffer[9:end]
        self._buffer = self._buffer[end:]
        return kind, flags, payload

    def close(self) -> None:
        self._socket.close()


class StubCaller:
    """gRPC by grpcio: a stranger's implementation, messages of any size."""

    def __init__(self, port: int) -> None:
        own = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]  # a connection for each
        self._channel = grpc.insecure_channel(f"{HOST}:{port}", own)
        self._method: Callable[..., bytes] = self._channel.unary_unary(GRPC_PATH.decode())

    def call(self, body: bytes) -> bytes:
        try:
            return self._method(body, timeout=PATIENCE_S)
        except grpc.RpcError as error:
            raise CallError(f"{error.code()}: {error.details()}") from None

    def close(self) -> None:
        self._channel.close()


def connect(protocol: str, port: int, model: str, body: bytes) -> Caller:
    """The caller with the least latency of its own that can send this body."""
    if protocol == "rest":
        return RestCaller(port, model)
    return RawGrpcCaller(port) if len(body) + 5 <= LARGEST_RAW else StubCaller(port)
