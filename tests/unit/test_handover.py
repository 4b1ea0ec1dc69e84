"""Sockets from one process to the next, both ends in this one; ``tests/integration`` has real processes."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchproxy.core.errors import ConfigError
from batchproxy.handover import SELF, Heir, Inheritance, Sockets, _receive, inherit


@pytest.fixture
def door() -> Iterator[socket.socket]:
    """A socket that listens."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        yield one


class Former:
    """The process that serves, as far as it matters here."""

    def __init__(self, path: Path, door: socket.socket, inherited: tuple[socket.socket, ...] = ()) -> None:
        self.steps: list[str] = []
        self.ended = asyncio.Event()
        self._door = door
        self.heir = Heir(str(path), inherited, prepare=self._prepare, sockets=self._sockets, relieved=self.ended.set)
        self.waiting = asyncio.ensure_future(self.heir.wait())

    async def _prepare(self) -> None:
        self.steps.append("prepared")

    def _sockets(self) -> Sockets:
        self.steps.append("handed over")
        return {"REST": [self._door.dup()]}

    async def close(self) -> None:
        self.waiting.cancel()
        await asyncio.wait([self.waiting])
        self.heir.aclose()


def taking(path: Path) -> asyncio.Future[Inheritance]:
    """Another process asks; in a thread, since it waits."""
    return asyncio.ensure_future(asyncio.to_thread(inherit, str(path), {}))


async def test_the_next_one_gets_the_sockets_and_says_when_it_serves(tmp_path: Path, door: socket.socket) -> None:
    """The former one is told then, not before; the path stays, for the one after that."""
    path = tmp_path / "s"
    former = Former(path, door)
    inheritance = await taking(path)
    [got] = inheritance.pop("REST")
    before = former.ended.is_set()
    own = inheritance.pop(SELF)
    inheritance.taken()
    await former.ended.wait()
    await former.close()
    stays = path.is_socket()
    following = Former(path, door, tuple(own))
    again = await taking(path)
    found = bool(again)
    again.close()
    await following.close()

    assert door.getsockname() == got.getsockname()
    assert ["prepared", "handed over"] == former.steps
    assert (False, True, True) == (before, stays, found)
    assert not path.exists()
    got.close()


async def test_one_that_ends_before_it_serves_changes_nothing(
    tmp_path: Path, door: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    """The former one says so and waits for another."""
    path = tmp_path / "s"
    former = Former(path, door)
    with caplog.at_level(logging.WARNING, "batchproxy"):
        (await taking(path)).close()
        second = await taking(path)
    second.taken()
    await former.ended.wait()
    await former.close()

    assert ["a process asked to take over and ended before it served: this one goes on; see what it said"] == [
        record.getMessage() for record in caplog.records
    ]
    assert ["prepared", "handed over"] * 2 == former.steps


def test_a_former_process_that_ends_meanwhile_is_not_missed(caplog: pytest.LogCaptureFixture) -> None:
    """It is said, since its requests were not finished in good order."""
    one, other = socket.socketpair()
    other.close()
    with caplog.at_level(logging.WARNING, "batchproxy"):
        Inheritance({}, one).taken()

    assert ["the former process ended by itself before it was relieved: Broken pipe"] == [
        record.getMessage() for record in caplog.records
    ]


@pytest.mark.parametrize("said", [b"hello", b"{}", b'{"format": 2, "sockets": []}', b"[]", b""])
async def test_somebody_else_at_the_path_is_a_fault(tmp_path: Path, said: bytes) -> None:
    """The flag is named."""
    path = tmp_path / "s"

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        writer.close()

    server = await asyncio.start_unix_server(answer, path)
    with pytest.raises(ConfigError, match="--takeover .*does not hand its sockets over"):
        await taking(path)
    server.close()


def test_a_path_that_cannot_be_one_is_a_fault(tmp_path: Path, door: socket.socket) -> None:
    """For who asks, and for who listens."""
    (tmp_path / "file").touch()
    wrong = str(tmp_path / "file" / "s")
    with pytest.raises(ConfigError, match="--takeover .*: Not a directory; choose another path"):
        inherit(wrong, {})
    with pytest.raises(ConfigError, match="cannot listen on --takeover .*: Not a directory; choose another path"):
        Heir(wrong, (), prepare=lambda: asyncio.sleep(0), sockets=dict, relieved=lambda: None)


def test_nobody_listens_and_nothing_was_passed(tmp_path: Path) -> None:
    """There is nothing to begin with."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    others = {"LISTEN_PID": str(os.getpid() + 1), "LISTEN_FDS": "3"}

    assert not inherit(str(path), {})
    assert not inherit(None, others)
    assert {} == others


def test_sockets_go_to_the_door_of_their_name_or_of_their_address(door: socket.socket) -> None:
    """Those of a name that do not fit are closed; those that nobody asked for are closed in the end."""
    named, unfit, nameless, left = (door.dup() for _ in range(4))
    inheritance = Inheritance({"REST": [named, unfit], "batchproxy.socket": [nameless, left]})
    got = inheritance.pop("REST", lambda one, known: one is named or one is nameless)
    closed_before = left.fileno()
    inheritance.close()

    assert [named, nameless] == got
    assert -1 == unfit.fileno()
    assert (-1, True) == (left.fileno(), closed_before > 0)
    named.close()
    nameless.close()


def test_fewer_sockets_than_names_are_refused(door: socket.socket) -> None:
    """And those that came are closed."""
    one, other = socket.socketpair()
    message = json.dumps({"format": 1, "sockets": ["REST", "gRPC"]}).encode()
    with one, other:
        socket.send_fds(one, [message], [door.fileno()])
        with pytest.raises(ValueError, match="this version reads 1"):
            _receive(other)
