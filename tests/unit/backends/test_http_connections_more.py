"""Connecting that is given up in the very turn in which it works: on either loop, nothing of it stays behind."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from batchproxy.backends.http_connections import Connection, Connections

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_given_up_in_the_turn_in_which_it_works(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """uvloop closes such a transport without a word to its protocol: the end of the proxy waited for that for ever."""

    async def scene(port: int) -> None:
        connections = Connections("127.0.0.1", port)
        connecting = asyncio.ensure_future(connections.new(None))
        made = connections.made

        def leave(connection: Connection) -> None:
            made(connection)
            connecting.cancel()

        monkeypatch.setattr(connections, "made", leave)
        await asyncio.wait([connecting])
        left.append(connecting.cancelled())
        await connections.aclose()

    left: list[bool] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        run(scene(listener.getsockname()[1]))

    assert [True] == left
