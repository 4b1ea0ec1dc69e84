"""A server with TF Serving's two doors that does as its script says: a loop in a thread, or in a process. No tests.

Nothing here waits for a time: who is to be slow waits for its gate, which the test opens.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from tests.faults.script import Call, Fault, Script

T = TypeVar("T")

HOST = "127.0.0.1"


class Decider(Protocol):
    """What says which fault strikes: a test's script, or a seeded one."""

    deaf: set[str]

    def take(self, call: Call) -> Fault | None: ...


class Site:
    """Both doors on one loop; to be used there only.

    Args:
        script: decides.
        host: the loopback address that it listens on.

    Attributes:
        held: models whose calls wait for the model's gate, whatever the script says.
        waiting: how many calls of a model wait now.
        changed: told whenever that changes, for who looks on from another thread.
    """

    def __init__(self, script: Decider, host: str = HOST) -> None:
        self.script = script
        self.host = host
        self.held: set[str] = set()
        self.waiting: Counter[str] = Counter()
        self.changed = threading.Condition()
        self._gates: dict[str, asyncio.Event] = {}
        self.ports = {"rest": 0, "grpc": 0}
        self.transports: set[asyncio.Transport] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self._servers: list[asyncio.Server] = []

    async def listen(self) -> None:
        """Open the doors, on the same ports as before."""
        from tests.faults.grpc_front import GrpcFront  # noqa: PLC0415 - they import this module
        from tests.faults.rest_front import RestFront  # noqa: PLC0415

        loop = asyncio.get_running_loop()
        fronts: dict[str, Callable[[], asyncio.Protocol]] = {
            "rest": lambda: RestFront(self),
            "grpc": lambda: GrpcFront(self),
        }
        for name, front in fronts.items():
            server = await loop.create_server(front, self.host, self.ports[name])
            self.ports[name] = server.sockets[0].getsockname()[1]
            self._servers.append(server)

    def deafen(self) -> None:
        """Close the doors, and break all connections."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        for transport in tuple(self.transports):
            reset(transport)

    async def pause(self, call: Call, fault: Fault | None) -> None:
        """Wait where the fault, or a test that holds the model, says so."""
        model = call.model
        if model in self.held or fault in {Fault.SLOW, Fault.HANG}:
            self._count(model, 1)
            try:
                await self._gates.setdefault(model, asyncio.Event()).wait()
            finally:
                self._count(model, -1)

    def _count(self, model: str, by: int) -> None:
        with self.changed:
            self.waiting[model] += by
            self.changed.notify_all()

    def release(self, model: str) -> None:
        """Calls of a model that wait go on."""
        self.held.discard(model)
        if model in self._gates:
            self._gates.pop(model).set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do the work of a call beside everything else."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)


def reset(transport: asyncio.Transport) -> None:
    """Close with RST: TCP's word for "forget it"."""
    connection = transport.get_extra_info("socket")
    if connection is not None and connection.fileno() >= 0:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class BadServer:
    """The two doors in a thread of this process, driven by a test.

    Args:
        host: the loopback address that it listens on.
        like: whose ports it has, too, on another address; None: any ports.

    Attributes:
        script: what it does.
        rest: ``127.0.0.1:PORT``.
        grpc: likewise.
    """

    def __init__(self, host: str = HOST, like: BadServer | None = None) -> None:
        self.script = Script()
        self._host = host
        self._ports = {"rest": 0, "grpc": 0} if like is None else dict(like._site.ports)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._site: Site = self._do(self._open)
        self.rest, self.grpc = (f"{host}:{self._site.ports[name]}" for name in ("rest", "grpc"))

    async def _open(self) -> Site:
        site = Site(self.script, self._host)
        site.ports = self._ports
        await site.listen()
        return site

    def _do(self, what: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return asyncio.run_coroutine_threadsafe(what(), self._loop).result(20)

    def refuse(self) -> None:
        """Nobody listens any longer, and what was connected is reset."""

        async def close() -> None:
            self._site.deafen()

        self._do(close)

    def listen(self) -> None:
        """It listens again, on the same ports."""
        self._do(self._site.listen)

    def hold(self, model: str) -> None:
        """Calls of a model wait from now on."""

        async def hold() -> None:
            self._site.held.add(model)

        self._do(hold)

    def release(self, model: str) -> None:
        """Calls of a model that wait, held or struck, go on."""

        async def release() -> None:
            self._site.release(model)

        self._do(release)

    def waiting(self, model: str) -> int:
        """How many calls of a model wait now."""
        return self._site.waiting[model]

    def wait_for_waiting(self, model: str) -> None:
        """Returns when a call of a model waits."""
        with self._site.changed:
            assert self._site.changed.wait_for(lambda: self.waiting(model), 30), f"no call of {model} came"

    def close(self) -> None:
        """Ends it."""

        async def end() -> None:
            self._site.deafen()
            tasks = tuple(self._site.tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self._do(end)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@contextmanager
def bad_server(host: str = HOST, like: BadServer | None = None) -> Iterator[BadServer]:
    """One for as long as the block lasts."""
    server = BadServer(host, like)
    try:
        yield server
    finally:
        server.close()
