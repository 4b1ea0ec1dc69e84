"""Sockets that are made, inherited, copied and closed."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from batchproxy.frontends.binding import Binding, fits


async def asked(family: socket.AddressFamily, address: object) -> bytes:
    """What who listens says to whoever connects."""

    def ask() -> bytes:
        with socket.socket(family) as caller:
            caller.settimeout(10)
            caller.connect(address)  # type: ignore[arg-type]  # of the family
            return caller.recv(10)

    return await asyncio.to_thread(ask)


class Greeter(asyncio.Protocol):
    """Says that somebody listens."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(b"hello")
        transport.close()


async def test_a_copy_of_a_socket_listens_after_the_first_one_is_closed() -> None:
    """Whoever connects meanwhile waits for the next owner."""
    first = Binding("127.0.0.1", 0, None)
    await first.open(Greeter, None, None)
    copies = first.sockets()
    address = copies[0].getsockname()
    first.close()
    waiting = asyncio.ensure_future(asked(socket.AF_INET, address))
    second = Binding("127.0.0.1", 0, None, copies)
    await second.open(Greeter, None, None)
    said = await waiting
    second.close()

    assert b"hello" == said
    assert first.address == second.address == f"127.0.0.1:{address[1]}"


@pytest.mark.parametrize("kept", [True, False])
async def test_a_path_stays_where_another_process_listens_on_it(tmp_path: Path, kept: bool) -> None:
    """Else it goes with the socket."""
    path = tmp_path / "s"
    first = Binding("", 0, str(path))
    await first.open(Greeter, None, None)
    copies = first.sockets()
    first.kept = kept
    first.close()
    stays = path.exists()
    second = Binding("", 0, str(path), copies)
    await second.open(Greeter, None, None)
    said = await asked(socket.AF_UNIX, str(path)) if kept else b""
    second.close()

    assert kept == stays
    assert (b"hello" if kept else b"") == said
    assert not path.exists()


def test_which_socket_is_whose(tmp_path: Path) -> None:
    """By address; any port where none was chosen and the socket has the door's name; any host where a name is given."""
    path = str(tmp_path / "s")
    with socket.create_server(("127.0.0.1", 0)) as ip, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(path)
        port = ip.getsockname()[1]
        right = [
            fits(ip, "127.0.0.1", port, None),
            fits(ip, "127.0.0.1", 0, None),
            fits(ip, "localhost", port, None, named=False),
            fits(unix, "", 0, path),
        ]
        wrong = [
            fits(ip, "127.0.0.1", 0, None, named=False),
            fits(ip, "127.0.0.2", port, None),
            fits(ip, "::1", port, None),
            fits(ip, "127.0.0.1", port + 1, None),
            fits(ip, "", 0, path),
            fits(unix, "", 0, None),
            fits(unix, "", 0, "/elsewhere"),
        ]

    assert [True] * 4 == right
    assert [False] * 7 == wrong
