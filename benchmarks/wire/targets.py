"""What is loaded: the servers of a run and the lines of its table. Starts and checks them; measures nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from benchmarks import servers
from benchmarks.servers import HOST, Server
from benchmarks.wire import bodies, callers, peers
from benchmarks.wire.bodies import Body

NULL = ["--model", "null=python:benchmarks.models:identity"]
SMALL = "1 x 3"


@dataclass(frozen=True)
class Target:
    """One line of the table.

    Attributes:
        name: of the line.
        server: key of the server that is asked.
        door: which of its ports.
        protocol: ``rest`` or ``grpc``.
        body: which of ``bodies.FLOATS``.
        yardstick: line whose figures this one's are divided by; empty where it has none.
        behind: key of the server behind; empty where there is none.
        echo: whether the body comes back as it was.
    """

    name: str
    server: str
    protocol: str
    body: str = SMALL
    yardstick: str = ""
    behind: str = ""
    echo: bool = False
    door: str = ""

    @property
    def callers(self) -> tuple[int, int]:
        """Connections, and requests under way on each: 64 for REST, 8 x 16 for gRPC, and 8 for bodies of 1 MiB."""
        if self.body == "1 MiB":
            return 8, 1
        return (64, 1) if self.protocol == "rest" else (8, 16)

    def port(self, running: Mapping[str, Server]) -> int:
        """Where it listens."""
        return running[self.server].ports[self.door or self.protocol]


def _listeners(body: str) -> Iterator[Target]:
    def named(name: str) -> str:
        return name if body == SMALL else f"{name}, {body}"

    rest, grpc = named("aiohttp echo"), named("grpc.aio echo")
    yield Target(rest, "echo-rest", "rest", body, echo=True)
    yield Target(named("nginx > aiohttp echo"), "nginx", "rest", body, rest, "echo-rest", echo=True, door="echo")
    yield Target(named("null REST"), "null", "rest", body, rest)
    yield Target(grpc, "echo-grpc", "grpc", body, echo=True)
    yield Target(named("null gRPC"), "null", "grpc", body, grpc)


def _in_front(protocol: str, word: str) -> Iterator[Target]:
    yardstick = f"{word}: nginx"
    for name, server in (
        ("nginx", "nginx"),
        ("HAProxy", "haproxy"),
        ("batchproxy", f"proxy-{protocol}"),
        ("batchproxy, batching off", f"single-{protocol}"),
    ):
        yield Target(f"{word}: {name}", server, protocol, SMALL, yardstick if server != "nginx" else "", "upstream")
    yield Target(f"{word}: no proxy", "upstream", protocol, SMALL, yardstick)


LISTENERS = tuple(target for body in bodies.FLOATS for target in _listeners(body))
"""Servers with nothing behind them."""

PROXIES = (*_in_front("rest", "REST"), *_in_front("grpc", "gRPC"))
"""In front of one and the same server."""


def start(targets: Sequence[Target], folder: Path, stack: ExitStack) -> dict[str, Server]:
    """Start the servers that some targets need; ``stack`` stops them.

    Raises:
        ServerError: one did not start.
    """
    needed = {target.server for target in targets} | {target.behind for target in targets if target.behind}
    running: dict[str, Server] = {}

    def add(key: str, server: Server) -> None:
        running[key] = server
        stack.callback(server.stop)

    for protocol in ("rest", "grpc"):
        if f"echo-{protocol}" in needed:
            add(f"echo-{protocol}", servers.echo(protocol, folder))
    for key in ("null", "upstream"):
        if key in needed:
            add(key, servers.batchproxy(key, NULL, folder))
    for server in running.values():
        server.wait_ready()
    doors = {target.door or target.protocol: target for target in targets if target.server in {"nginx", "haproxy"}}
    upstreams = {
        name: (target.protocol, running[target.behind].ports[target.protocol]) for name, target in doors.items()
    }
    for key, starts in (("nginx", peers.nginx), ("haproxy", peers.haproxy)):
        if key in needed:
            add(key, starts(upstreams, folder))
    for protocol, scheme in (("rest", "http"), ("grpc", "grpc")):
        for key, flags in ((f"proxy-{protocol}", []), (f"single-{protocol}", ["--enable_batching=false"])):
            if key in needed:
                backend = f"{scheme}://{HOST}:{running['upstream'].ports[protocol]}"
                add(key, servers.batchproxy(key, ["--backend", backend, *flags], folder))
    for server in running.values():
        server.wait_ready()
    return running


def ask(
    targets: Sequence[Target], running: Mapping[str, Server], made: Mapping[str, Body]
) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Ask each target once, gRPC by grpcio.

    Returns:
        By name, the bytes of the right answer; and name and words of each that did not give it.
    """
    sizes, faults = {}, []
    for target in targets:
        body, port = made[target.body], target.port(running)
        caller = callers.RestCaller(port, "null") if target.protocol == "rest" else callers.StubCaller(port)
        with closing(caller):
            try:
                answer = caller.call(body.of(target.protocol))
            except (callers.CallError, OSError) as error:
                faults.append((target.name, str(error)))
                continue
        sizes[target.name] = len(answer)
        if not bodies.right(body, target.protocol, answer, echo=target.echo):
            faults.append((target.name, f"wrong answer: {answer[:200]!r}"))
    return sizes, faults
