"""Streams of our own gRPC client to servers that misbehave on purpose."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any

import pytest

from batchproxy.backends.grpc_wire import GrpcWireDoor
from batchproxy.core.errors import BackendRejected, Code
from batchproxy.wire.http2_client_stream import AGAIN_BYTES
from tests.listening import until
from tests.strangers import HEADERS, Running, frame, goaway, listening, reset, status_only

MIB = 1 << 20
SENT = (("x-plain", "a b"), ("x-twice", "1"), ("x-twice", "2"), ("x-some-bin", b"\0\xff\x80"))
OK = b"\x88\x00\x0bgrpc-status\x010"
PREFIXED = b"\0\0\0\0\1"


async def of(*messages: bytes) -> AsyncIterator[bytes]:
    """What a caller streams."""
    for message in messages:
        yield message


async def talk(door: GrpcWireDoor, method: str, *messages: bytes, timeout_s: float | None = 30.0) -> list[Any]:
    """All that a stream says: metadata, messages, status."""
    async with door.stream(method, SENT, of(*messages), timeout_s) as stream:
        headers = await stream.headers()
        answers = [message async for message in stream.messages()]
        return [headers, answers, await stream.status()]


async def heard(reader: asyncio.StreamReader, kind: int, flags: int = -1) -> None:
    """Read on until such a frame has come."""
    found = (-1, -1)
    while found[0] != kind or flags not in {-1, found[1]}:
        begin = await reader.readexactly(9)
        await reader.readexactly(int.from_bytes(begin[:3], "big"))
        found = begin[3], begin[4]


@pytest.mark.parametrize(
    ("answer", "code", "text"),
    [
        pytest.param((), 14, "", id="hangs up"),
        pytest.param((reset(2),), 14, "INTERNAL_ERROR", id="INTERNAL_ERROR"),
        pytest.param((reset(7),), 14, "REFUSED_STREAM", id="REFUSED_STREAM"),
        pytest.param((reset(8),), 14, "CANCEL", id="CANCEL"),
        pytest.param((goaway(1),), 14, "GOAWAY", id="GOAWAY that includes the call"),
        pytest.param((goaway(0),), 14, "GOAWAY", id="GOAWAY that leaves it out"),
        pytest.param((frame(8, 0, 0, bytes(4)),), 14, "a window update by 0", id="a fault of the connection"),
        pytest.param((status_only(b"502"),), 14, "502", id="bad gateway"),
        pytest.param((status_only(b"404"),), 12, "404", id="HTTP 404"),
        pytest.param((frame(HEADERS, 4, 1, b"\x88"), frame(0, 1, 1, b"\0\0")), 2, "no grpc-status", id="half a prefix"),
    ],
)
async def test_broken_streams(answer: Sequence[bytes], code: int, text: str) -> None:
    """As of unary calls: a status there is, always."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(frame(4, 0, 0))
        await reader.readexactly(24)
        await heard(reader, HEADERS)
        writer.write(b"".join(answer))
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            if answer:  # to hang up with something unread would take the answer away
                await heard(reader, 0, 1)
        writer.close()

    async with listening(serve) as port:
        door = GrpcWireDoor(f"127.0.0.1:{port}")
        _, messages, status = await talk(door, "/s/chat", b"1")
        await door.aclose()

    assert ([], code, ()) == (messages, status[0], status[2])
    assert text in status[1]


class Twice:
    """A server whose first connection takes no calls after all, and whose second one answers OK at the end."""

    def __init__(self) -> None:
        self.heard: list[list[bytes]] = []
        self.may = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(frame(4, 0, 0) + frame(8, 0, 0, (8 * MIB).to_bytes(4, "big")))
        heard: list[bytes] = []
        self.heard.append(heard)
        try:
            await reader.readexactly(24)
            while True:
                begin = await reader.readexactly(9)
                payload = await reader.readexactly(int.from_bytes(begin[:3], "big"))
                if begin[3] == 0:
                    heard.append(payload)
                    if len(self.heard) == 1:
                        await self.may.wait()
                        writer.write(goaway(0))
                        break
                    if begin[4]:
                        writer.write(frame(HEADERS, 5, 1, OK))
            await reader.read()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


async def test_a_stream_that_the_server_did_not_look_at_is_sent_again() -> None:
    """On another connection, with all that was sent, and what comes after."""
    server, more = Twice(), asyncio.Event()

    async def sent() -> AsyncIterator[bytes]:
        yield b"1"
        server.may.set()
        yield b"2"
        await more.wait()
        yield b"3"

    async with listening(server.serve) as port:
        door = GrpcWireDoor(f"127.0.0.1:{port}")
        async with door.stream("/s/chat", (), sent(), 30.0) as stream:
            status = asyncio.create_task(stream.status())
            await until(lambda: len(server.heard) == 2 and server.heard[1])
            more.set()
            code, _, _ = await status
        await door.aclose()

    assert 0 == code
    assert b"".join(PREFIXED + each for each in (b"1", b"2", b"3")) == b"".join(server.heard[1])


async def test_what_is_too_much_to_be_remembered_is_not_sent_again() -> None:
    """The status says that it did not run."""
    server = Twice()
    server.may.set()
    async with listening(server.serve) as port:
        door = GrpcWireDoor(f"127.0.0.1:{port}")
        _, _, (code, text, _) = await talk(door, "/s/chat", bytes(AGAIN_BYTES), b"x")
        await door.aclose()

    assert (1, Code.UNAVAILABLE) == (len(server.heard), code)
    assert "GOAWAY" in text


async def test_another_connection_that_there_is_not() -> None:
    """The server takes no calls any more, and no connections either."""
    server = Twice()
    async with listening(server.serve) as port:
        door = GrpcWireDoor(f"127.0.0.1:{port}")
        async with door.stream("/s/chat", (), of(b"1"), 30.0) as stream:
            await until(lambda: server.heard and server.heard[0])
            door._streams._host = "host.invalid"
            server.may.set()
            status = await stream.status()
        await door.aclose()

    assert (Code.UNAVAILABLE, ()) == (status[0], status[2])
    assert "failed to connect" in status[1]


async def test_what_cannot_be_begun() -> None:
    """Nobody said anything in time, or a name that gRPC does not allow: raised where the call is entered."""
    silent = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await silent.wait()
        writer.close()

    async with listening(serve) as port:
        door = GrpcWireDoor(f"127.0.0.1:{port}")
        with pytest.raises(BackendRejected, match="not connected in time") as caught:
            await talk(door, "/s/chat", timeout_s=0.05)
        silent.set()
        await door.aclose()
    server = Running()
    door = GrpcWireDoor(f"127.0.0.1:{server.port}")
    with pytest.raises(BackendRejected, match="cannot be sent"):
        await talk(door, "s/chat")
    await door.aclose()
    server.stop()

    assert Code.DEADLINE_EXCEEDED == caught.value.code
