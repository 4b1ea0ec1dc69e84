"""A scripted HTTP/2 client with a socket: says anything, hears what the server says. No tests here."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from batchproxy.frontends.listener import Listener
from batchproxy.wire import frames
from batchproxy.wire.frames import DATA, END_STREAM, GOAWAY, HEADERS, ErrorCode
from tests.http2_peer import CALL, Frame, Peer, data, goaway_of, prefixed, resets_of, split
from tests.listening import open_to

GREETING = frames.PREFACE + frames.settings() + frames.frame(frames.SETTINGS, frames.ACK, 0, b"")


class Client:
    """One connection.

    Attributes:
        peer: writes frames and reads header blocks; its own server is not used.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.peer = Peer()
        self._reader, self._writer = reader, writer
        self._said: list[Frame] = []
        self._bodies: dict[int, bytes] = {}
        self._heads: dict[int, dict[str, str]] = {}
        self.send(GREETING)

    @classmethod
    async def connected(cls, listener: Listener) -> Client:
        """A client that has greeted."""
        return cls(*await open_to(listener))

    def send(self, *parts: bytes) -> None:
        """Say anything."""
        self._writer.write(b"".join(parts))

    async def sent(self) -> None:
        """Wait until the server takes more; a server that is gone is no reason to fail."""
        try:
            await self._writer.drain()
        except ConnectionError:
            return

    def request(self, fields: Sequence[tuple[str, str]], body: bytes) -> None:
        """A request on the next stream; its body fits the first window."""
        stream = self.peer.take()
        self.send(self.peer.headers(fields, stream), data_of(stream, body))

    def call(self, message: bytes, *more: tuple[str, str], compressed: int = 0) -> None:
        """A gRPC call on the next stream."""
        self.request((*CALL, *more), prefixed(message, compressed))

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """The next stream to end: its id, its last fields and its body."""
        while True:
            said = await self._next()
            if said.kind == HEADERS:
                self._heads[said.stream] = self.peer.fields(said)
            elif said.kind == DATA:
                self._bodies[said.stream] = self._bodies.get(said.stream, b"") + said.payload
            if said.kind in {HEADERS, DATA} and said.flags & END_STREAM:
                return said.stream, self._heads[said.stream], self._bodies.pop(said.stream, b"")

    async def goaway(self) -> tuple[ErrorCode, str]:
        """The next GOAWAY: its code and reason."""
        while True:
            said = await self._next()
            if said.kind == GOAWAY:
                return goaway_of([said])

    async def reset(self) -> tuple[int, ErrorCode]:
        """The next RST_STREAM: its stream and code."""
        while True:
            found = resets_of([await self._next()])
            if found:
                return found[0]

    async def _next(self) -> Frame:
        if not self._said:
            head = await self._reader.readexactly(9)
            self._said += split(head + await self._reader.readexactly(int.from_bytes(head[:3], "big")))
        return self._said.pop(0)

    def close(self) -> None:
        """Leave."""
        self._writer.close()


def data_of(stream: int, body: bytes) -> bytes:
    """A whole body in frames."""
    pieces = [body[at : at + frames.FRAME_BYTES] for at in range(0, len(body), frames.FRAME_BYTES)] or [b""]
    return b"".join(data(stream, piece) for piece in pieces[:-1]) + data(stream, pieces[-1], END_STREAM)
