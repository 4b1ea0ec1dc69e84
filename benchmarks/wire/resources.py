"""What a proxy in front of a server takes before there is any traffic: time to start, memory, idle connections."""

from __future__ import annotations

import http.client
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import servers
from benchmarks.servers import HOST, READY_S, Server, ServerError
from benchmarks.wire.bodies import Body

CONNECTIONS = 10_000
SPARE_FILES = 256
"""Descriptors that a process needs beside its connections."""

STARTS, QUICK_STARTS = 5, 2
SETTLE_S = 0.5
"""After the start: the catalogue asks its questions, the first probe is over."""

POLL_S = 0.002


@dataclass
class Found:
    """Of each start, in turn.

    Attributes:
        start_s: from the start of the process until ``/readyz`` says 200.
        idle_mb: resident memory then, in MB of 1,000,000 bytes.
        extra_mb: by protocol, what the idle connections added to it.
        connections: how many these were; the machine's limit of open files may allow less than is due.
    """

    start_s: list[float] = field(default_factory=list)
    idle_mb: list[float] = field(default_factory=list)
    extra_mb: dict[str, list[float]] = field(default_factory=dict)
    connections: int = 0

    def figures(self) -> dict[str, float]:
        """Medians by name of the bar; a figure for fewer connections than due is scaled, and the name says nothing."""
        found = {
            "start to ready, s": statistics.median(self.start_s),
            "idle memory, MB": statistics.median(self.idle_mb),
        }
        for protocol, extra in self.extra_mb.items():
            word = {"rest": "REST", "grpc": "gRPC"}[protocol]
            found[f"10,000 idle {word} connections, MB more"] = (
                statistics.median(extra) * CONNECTIONS / self.connections
            )
        return found


def allow_files() -> int:
    """Raise this process's limit of open files, which its children inherit, to the hard one.

    Returns:
        The limit.
    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def measure(
    upstream: Server, body: Body, folder: Path, starts: int, progress: Callable[[str], None], wanted: int = CONNECTIONS
) -> Found:
    """Start a proxy so many times, and open idle connections to it: REST and gRPC in turn.

    Args:
        upstream: the server behind, with both doors.
        body: sent once on each connection.
        folder: for logs.
        starts: how often, two or more.
        progress: told what happens, in a line.
        wanted: connections.

    Raises:
        ServerError: the proxy did not start.
    """
    limit = allow_files()
    found = Found(connections=min(wanted, limit - SPARE_FILES) if limit != resource.RLIM_INFINITY else wanted)
    backend = f"grpc://{HOST}:{upstream.ports['grpc']},http://{HOST}:{upstream.ports['rest']}"
    for number in range(starts):
        progress(f"start {number + 1} of {starts}")
        began = time.perf_counter()
        proxy = servers.batchproxy("idle", ["--backend", backend], folder)
        try:
            found.start_s.append(_ready(proxy) - began)
            time.sleep(SETTLE_S)
            found.idle_mb.append(resident_mb(proxy.pid))
            protocol = ("rest", "grpc")[number % 2]
            progress(f"start {number + 1} of {starts}: {found.connections:,} idle connections, {protocol}")
            path = body.rest_file if protocol == "rest" else body.grpc_file
            extra = _with_connections(proxy, protocol, path, found.connections)
            found.extra_mb.setdefault(protocol, []).append(extra - found.idle_mb[-1])
        finally:
            proxy.stop()
    return found


def _ready(proxy: Server) -> float:
    end = time.perf_counter() + READY_S
    while time.perf_counter() < end:
        connection = http.client.HTTPConnection(HOST, proxy.ports["admin"], timeout=1)
        try:
            connection.request("GET", "/readyz")
            if connection.getresponse().status == http.client.OK:
                return time.perf_counter()
        except OSError:
            pass  # not listening yet
        finally:
            connection.close()
        time.sleep(POLL_S)
    raise ServerError(f"{proxy.name!r} was not ready within {READY_S:.0f} s")


def _with_connections(proxy: Server, protocol: str, body: Path, count: int) -> float:
    command = [
        sys.executable,
        "-m",
        "benchmarks.wire.idle",
        protocol,
        str(proxy.ports[protocol]),
        str(body),
        str(count),
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        said = client.stdout.readline()
        memory = resident_mb(proxy.pid)
        client.communicate()
    if said.strip() != str(count):
        raise ServerError(f"only {said.strip() or 'no'} connections of {count} were opened")
    return memory


def resident_mb(pid: int) -> float:
    """Resident memory of a process (Linux)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6
