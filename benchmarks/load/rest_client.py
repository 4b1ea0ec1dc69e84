"""A small HTTP/1.1 client for load: keep-alive, one request under way on a connection, answers with Content-Length."""

from __future__ import annotations

import asyncio
import time
from typing import cast

from benchmarks.load.recorder import Recorder


class RestCaller(asyncio.Protocol):
    """One connection, one caller."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._buffer = b""
        self._number = 0
        self._sent_at = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._next()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        _, named, rest = head.lower().partition(b"content-length:")
        if not named:
            self._recorder.lost(f"an answer without Content-Length: {head[:200]!r}")
            self.close()
            return
        if len(body) < int(rest.partition(b"\r\n")[0]):
            return
        if head.startswith(b"HTTP/1.1 200 "):
            self._recorder.answered(self._number, self._sent_at, body)
        else:
            self._recorder.lost(f"{head[:100]!r} {body[:200]!r}")
        self._buffer = b""
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._recorder.lost(f"the connection was closed by the server ({exc})")

    def close(self) -> None:
        """Stop; an answer under way is not waited for."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()

    def _next(self) -> None:
        if self._transport is None or not self._recorder.going:
            return
        self._number = self._recorder.next_number()
        self._sent_at = time.perf_counter()
        self._transport.write(self._recorder.requests[self._number])


async def connect(recorder: Recorder, port: int, callers: int) -> list[RestCaller]:
    """As many connections as callers, each at work at once."""
    loop = asyncio.get_running_loop()
    opened = [await loop.create_connection(lambda: RestCaller(recorder), "127.0.0.1", port) for _ in range(callers)]
    return [caller for _, caller in opened]
