"""Connecting that is given up in the very turn in which it works: on either loop, nothing of it stays behind."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from batchproxy.backends.grpc_wire_connections import Channel, Connection

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_given_up_in_the_turn_in_which_it_works(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """uvloop closes such a transport without a word to its protocol: the end of the proxy waited for that for ever."""

    async def scene(port: int) -> None:
        channel = Channel(f"127.0.0.1:{port}")
        made = channel.made

        def leave(connection: Connection) -> None:
            made(connection)
            assert channel._connecting is not None
            channel._connecting.cancel()

        monkeypatch.setattr(channel, "made", leave)
        connecting = asyncio.ensure_future(channel.connected(None))
        await asyncio.wait([connecting])
        told.append(type(connecting.exception()).__name__)
        await channel.aclose()

    told: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        run(scene(listener.getsockname()[1]))

    assert ["NotConnectedError"] == told
