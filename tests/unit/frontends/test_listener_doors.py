"""Which protocol a connection speaks, where it comes in, how many there may be, and how they end."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path
from typing import cast

import pytest

from batchproxy.core.errors import ConfigError
from batchproxy.frontends.listener import SHARDS, Listener
from batchproxy.frontends.rest_answers import RestAnswer
from batchproxy.frontends.rest_routes import RestRoutes
from batchproxy.wire.base import Limits
from batchproxy.wire.frames import PREFACE
from tests.listening import Held, answer_of, listening, open_to, port, post, speak_other, the_door, tls, until

# ---------------------------------------------------------------- which protocol


@pytest.mark.parametrize("cut", [1, 2, 3, 10, len(PREFACE) - 1, len(PREFACE)])
async def test_the_first_bytes_tell_the_protocol(cut: int) -> None:
    """However few come at first."""
    async with listening(Held()) as listener:
        speak_other(listener)
        reader, writer = await open_to(listener)
        writer.write(PREFACE[:cut])
        await until(lambda: listener.connections and (the_door(listener)._first or the_door(listener)._wire))
        writer.write(PREFACE[cut:])
        repeated = await reader.readexactly(len(PREFACE))
        writer.close()

    assert PREFACE == repeated


@pytest.mark.parametrize("data", [b"P", b"PR", b"PRI", b"PRI * HTTP/1.1\r\nHost: h\r\n\r\n", b"PATCH"])
def test_beginnings_of_one_and_of_the_other(data: bytes) -> None:
    """A P may become both."""
    listener = Listener(None, None)
    speak_other(listener)

    assert (None if PREFACE.startswith(data) else listener.http1) is listener.wire_for(data, None)


async def test_http_2_is_refused_where_it_is_not_spoken() -> None:
    """Its preface is a request of a version that is not known."""
    async with listening(Held()) as listener:
        listener.wires.clear()
        reader, writer = await open_to(listener)
        writer.write(PREFACE)
        status, _page = await answer_of(reader)
        writer.close()

    assert 505 == status


@pytest.mark.parametrize(
    ("alpn", "sent", "found"),
    [
        (["http/1.1"], post("/echo", b"tls"), b"HTTP/1.1 200"),
        ([], post("/echo", b"tls"), b"HTTP/1.1 200"),
        ([], PREFACE, PREFACE[:12]),
        (["h2"], b"anything at all", b"anything at "),
        (["http/1.1"], PREFACE, b"HTTP/1.1 505"),
    ],
)
async def test_within_tls_what_was_agreed_upon_decides(alpn: list[str], sent: bytes, found: bytes) -> None:
    """And the first bytes where nothing was."""
    async with listening(Held(), tls=tls(ssl.PROTOCOL_TLS_SERVER, "h2", "http/1.1")) as listener:
        speak_other(listener)
        client = tls(ssl.PROTOCOL_TLS_CLIENT, *alpn)
        reader, writer = await open_to(listener, ssl=client, server_hostname="localhost")
        writer.write(sent)
        answer = await reader.readexactly(12)
        writer.close()

    assert found == answer


# ---------------------------------------------------------------- addresses


async def test_a_unix_socket(tmp_path: Path) -> None:
    """Both protocols there, too; the file goes with the listener."""
    socket_file = tmp_path / "socket"
    path = str(socket_file)
    async with listening(Held(), unix_path=path) as listener:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(post("/echo", b"here"))
        found = await answer_of(reader)
        writer.close()

    assert (200, b"here") == found
    assert f"unix:{path}" == listener.address
    assert not socket_file.exists()


async def test_an_address_that_cannot_be_bound_is_named_with_its_flag() -> None:
    """A port that is taken, a folder that is not there."""
    async with listening(None) as first:
        taken = Listener(None, None, "127.0.0.1", port(first), flag="--rest_api_port")
        with pytest.raises(ConfigError, match=f"{first.address}.*choose another --rest_api_port"):
            await taken.start()
    nowhere = Listener(None, None, unix_path="/nowhere/socket", flag="--grpc_socket_path")
    with pytest.raises(ConfigError, match="unix:/nowhere/socket.*choose another --grpc_socket_path"):
        await nowhere.start()


# ---------------------------------------------------------------- many, slow, and the end


async def test_connections_are_counted_and_bounded(caplog: pytest.LogCaptureFixture) -> None:
    """One too many is told so and closed, the log says it once; a place that is free is given again."""
    async with listening(Held(), limits=Limits(connections=2)) as listener:
        plugs = [await open_to(listener) for _ in range(2)]
        for reader, writer in plugs:
            writer.write(post("/echo", b"in"))
            _ = await answer_of(reader)
        refused = []
        for _ in range(2):
            reader, writer = await open_to(listener)
            refused.append((await reader.read())[:12])
            writer.close()
        plugs[0][1].close()
        await until(lambda: listener.connections == 1)
        reader, writer = await open_to(listener)
        writer.write(post("/echo", b"next"))
        found = await answer_of(reader)
        for _, one in [(reader, writer), plugs[1]]:
            one.close()

    assert [b"HTTP/1.1 503"] * 2 == refused
    assert (200, b"next") == found
    assert 1 == len(caplog.records)
    assert logging.WARNING == caplog.records[0].levelno


async def test_the_slow_and_the_idle_are_swept_out() -> None:
    """By one timer, with the clock it is given."""
    now = [1000.0]
    async with listening(Held(), clock=lambda: now[0], limits=Limits(head_s=20, idle_s=75)) as listener:
        slow, idle = await open_to(listener), await open_to(listener)
        slow[1].write(b"POST / HTTP/1.1\r\n")
        idle[1].write(post("/echo", b"first"))
        _ = await answer_of(idle[0])
        await until(lambda: all(door._wire for door in listener._doors()))
        now[0] += 20
        for _ in range(SHARDS):
            listener._sweep()
        told = await answer_of(slow[0])
        now[0] += 75
        for _ in range(SHARDS):
            listener._sweep()
        silence = await idle[0].read()
        for _, writer in (slow, idle):
            writer.close()

    assert 408 == told[0]
    assert b"" == silence


async def test_draining_answers_what_was_taken_and_takes_nothing_new() -> None:
    """Who is under way is answered, and told that it was the last; idle ones end with the listener."""
    routes = Held()
    listener = Listener(cast("RestRoutes", routes), None, "127.0.0.1", 0)
    await listener.start()
    idle, busy = await open_to(listener), await open_to(listener)
    busy[1].write(post("/held", b""))
    await routes.come.wait()
    await listener.stop_listening()
    with pytest.raises(OSError, match="(?i)connect|refused"):
        await open_to(listener)
    routes.waiting[0](RestAnswer(200, b"last"))
    last = await busy[0].read()
    await listener.aclose()
    silence = await idle[0].read()
    for _, writer in (idle, busy):
        writer.close()

    assert b"Connection: close" in last
    assert last.endswith(b"last")
    assert b"" == silence
    assert 0 == listener.connections


async def test_closing_does_not_wait_for_callers_that_do_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """After ``CLOSE_S`` they are cut off."""
    monkeypatch.setattr("batchproxy.frontends.listener.CLOSE_S", 0.01)
    routes = Held()
    listener = Listener(cast("RestRoutes", routes), None, "127.0.0.1", 0)
    await listener.start()
    reader, writer = await open_to(listener)
    reader._transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(post("/held", b""))
    await routes.come.wait()
    routes.waiting[0](RestAnswer(200, b"x" * (32 << 20)))
    await listener.aclose()
    await until(lambda: not listener.connections)
    writer.close()

    assert 0 == listener.connections
