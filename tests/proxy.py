"""``batchproxy serve`` as a process on free loopback ports, waited for by its own readiness route."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

ROOT = Path(__file__).parents[1]


class Proxy:
    """A running proxy.

    Attributes:
        rest: base URL of the REST door.
        grpc: host:port of the gRPC door.
        admin: base URL of the operator's door.
        log: what it said so far on standard error.
    """

    def __init__(self, process: subprocess.Popen[str], log: list[str]) -> None:
        self.process = process
        self.log = log
        found = re.search(r"REST on (\S+), gRPC on ([^\s,]+),.* page on (\S+)/", log[-1])
        assert found is not None, log
        self.rest, self.grpc, self.admin = found.groups()

    def get(self, url: str) -> tuple[int, bytes]:
        """Status and body of a GET."""
        return ask(url)

    def post(self, path: str, body: Any, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
        """Status and body of a POST to the REST door; ``body`` is JSON, or bytes as they are."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return ask(f"{self.rest}{path}", data, headers)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that carry these labels."""
        total = 0.0
        for line in ask(f"{self.admin}/metrics")[1].decode().splitlines():
            if re.match(rf"{name}[{{ ]", line) and all(f'{key}="{value}"' in line for key, value in labels.items()):
                total += float(line.rpartition(" ")[2])
        return total

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal it and wait for its end; returns the exit status."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for its end, keeping what it says."""
        assert self.process.stderr is not None
        self.log += self.process.stderr.read().splitlines()
        return self.process.wait(30)


def ask(url: str, data: bytes | None = None, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
    """Status and body, whatever the status; the client is the standard library's."""
    request = urllib.request.Request(url, data, dict(headers or {}))  # loopback only
    try:
        with urllib.request.urlopen(request, timeout=40) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


@contextmanager
def running(models: Mapping[str, str | Mapping[str, Any]], **config: Any) -> Iterator[Proxy]:
    """A proxy that serves ``models``: name to endpoint URL, or to the keys of its model entry plus ``endpoint``."""
    entries = {name: {"endpoint": entry} if isinstance(entry, str) else dict(entry) for name, entry in models.items()}
    pools = [{"name": name, "endpoints": [entry.pop("endpoint")]} for name, entry in entries.items()]
    models_of_pools = [{"name": name, "pool": name, **entry} for name, entry in entries.items()]
    with _serving({"pools": pools, "models": models_of_pools, **config}) as proxy:
        yield proxy


class Doors(Protocol):
    """Where a server listens: ``host:port`` each."""

    grpc: str
    rest: str


@contextmanager
def running_in_front_of(
    servers: Sequence[Doors],
    *,
    doors: Sequence[str] = ("grpc", "rest"),
    models: Mapping[str, Mapping[str, Any]] | None = None,
    embedded: Mapping[str, str] | None = None,
    pool: Mapping[str, Any] | None = None,
    **config: Any,
) -> Iterator[Proxy]:
    """A proxy with one pool, ``servers``.

    Args:
        servers: the pool's endpoints.
        doors: which doors of theirs it is told of.
        models: name to the keys of its entry; ``*`` with no further keys if left out. No canaries unless they say so:
            servers are asked what they were called with.
        embedded: name to endpoint URL of models in the proxy's own process, each in a pool of its own.
        pool: further keys of the pool.
        config: further keys of the configuration.
    """
    places = [{door: getattr(server, door) for door in doors} for server in servers]
    inside = embedded or {}
    pools = [
        {"name": "servers", "endpoints": places, **(pool or {})},
        *({"name": name, "endpoints": [endpoint]} for name, endpoint in inside.items()),
    ]
    entries = [
        *(
            {"name": name, "pool": "servers", "canary_every": 0, **entry}
            for name, entry in (models or {"*": {}}).items()
        ),
        *({"name": name, "pool": name} for name in inside),
    ]
    with _serving({"pools": pools, "models": entries, **config}) as proxy:
        yield proxy


@contextmanager
def _serving(config: Mapping[str, Any]) -> Iterator[Proxy]:
    with started([], config) as proxy:
        yield proxy


@contextmanager
def started(
    flags: Sequence[str], config: Mapping[str, Any] | None = None, *, interpreter: Sequence[str] = ()
) -> Iterator[Proxy]:
    """A proxy by its command line.

    Args:
        flags: of ``batchproxy serve``.
        config: its file, beside free ports to listen on.
        interpreter: flags of Python's own.
    """
    listen = dict.fromkeys(("rest", "grpc", "admin"), "127.0.0.1:0")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.json")
        path.write_text(json.dumps({"listen": listen, **(config or {})}))
        command = [sys.executable, *interpreter, "-m", "batchproxy", "serve", "--config", str(path), *flags]
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        try:
            yield Proxy(process, _until_serving(process))
        finally:
            process.kill()
            process.communicate()


def _until_serving(process: subprocess.Popen[str]) -> list[str]:
    assert process.stderr is not None
    log: list[str] = []
    for line in process.stderr:
        log.append(line.rstrip("\n"))
        if "serving: " in line:
            return log
    raise AssertionError("the proxy ended before it served:\n" + "\n".join(log))
