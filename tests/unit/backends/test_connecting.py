"""Tests of batchproxy.backends.connecting: opened, refused, or given up, the protocol always hears of its end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from batchproxy.backends.connecting import connect

Run = Callable[[Coroutine[Any, Any, None]], None]
RUNS = pytest.mark.parametrize("run", [asyncio.run, uvloop.run])


class Told(asyncio.Protocol):
    """Writes down what it hears.

    Attributes:
        heard: in this order.
        hook: called when it was made.
        lost: whether it heard of its end.
    """

    def __init__(self, hook: Callable[[], object] = lambda: None) -> None:
        self.heard: list[str] = []
        self.hook = hook
        self.transport: asyncio.BaseTransport | None = None
        self.lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.heard.append("made")
        self.transport = transport
        self.hook()

    def connection_lost(self, exc: Exception | None) -> None:
        self.heard.append("lost")
        self.lost.set()


async def _closed(told: Told) -> None:
    assert told.transport is not None
    told.transport.close()
    await told.lost.wait()


@RUNS
@pytest.mark.parametrize("unix", [False, True], ids=["TCP", "unix"])
def test_opens(run: Run, unix: bool, tmp_path: Path) -> None:
    """By address or by path."""
    path = str(tmp_path / "door")
    told = []

    async def scene(port: int) -> None:
        told.append(Told())
        await connect(told[0], "127.0.0.1", port, path=path if unix else "")
        told[0].heard.append("connected")
        await _closed(told[0])

    with socket.socket(socket.AF_UNIX if unix else socket.AF_INET) as listener:
        listener.bind(path if unix else ("127.0.0.1", 0))
        listener.listen()
        run(scene(0 if unix else listener.getsockname()[1]))

    assert ["made", "connected", "lost"] == told[0].heard


@RUNS
def test_refused(run: Run) -> None:
    """The error is the caller's; the protocol hears that it is lost without having been made."""
    told = Told()

    async def scene(port: int) -> None:
        with pytest.raises(ConnectionRefusedError):
            await connect(told, "127.0.0.1", port)

    with socket.socket() as bound:  # bound, but not listening: nobody else can
        bound.bind(("127.0.0.1", 0))
        run(scene(bound.getsockname()[1]))

    assert ["lost"] == told.heard


@RUNS
def test_given_up_in_the_turn_in_which_it_works(run: Run) -> None:
    """uvloop closes such a transport without a word to its protocol: who waits for that would wait for ever."""
    heard: list[list[str]] = []

    async def scene(port: int) -> None:
        told = Told()
        connecting = asyncio.ensure_future(connect(told, "127.0.0.1", port))
        told.hook = connecting.cancel
        await asyncio.wait([connecting])
        assert connecting.cancelled()
        heard.append(told.heard)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        run(scene(listener.getsockname()[1]))

    assert [["made", "lost"]] == [one[:2] for one in heard]
