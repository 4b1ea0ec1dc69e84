"""The servers under measurement, each a process of its own on free ports of the loopback. No load here."""

from __future__ import annotations

import random
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

HOST = "127.0.0.1"
READY_S = 60.0
"""Starting takes a second or two; the machine may be busy."""

STOP_S = 10.0


class ServerError(Exception):
    """A server did not start; the text has its last words."""


class Server:
    """A child process, and its ports by protocol.

    Args:
        name: for the log file and for people.
        folder: where the log goes.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.ports: dict[str, int] = {}
        self._log = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self._process is not None, "not started. This is a bug."
        return self._process.pid

    def start(self, arguments: Sequence[str]) -> None:
        """Run ``python ARGUMENTS``."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def wait_ready(self) -> None:
        """Return once it takes requests.

        Raises:
            ServerError: it ended, or is not ready in time.
        """
        end = time.monotonic() + READY_S
        while not self._ready():
            if self._process is None or self._process.poll() is not None or time.monotonic() > end:
                raise ServerError(f"server {self.name!r} did not start:\n{self._last_words()}")
            time.sleep(0.05)

    def ended(self) -> str:
        """With which status it ended by itself, and its last words; empty while it runs."""
        status = None if self._process is None else self._process.poll()
        return "" if status is None else f"server {self.name!r} ended with status {status}:\n{self._last_words()}"

    def _last_words(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-20:])

    def _ready(self) -> bool:
        try:
            if "admin" in self.ports:
                self._get("readyz")
            else:
                for port in self.ports.values():
                    socket.create_connection((HOST, port), 1).close()
        except OSError:  # not listening yet, or 503: an HTTPError is one, too
            return False
        return True

    def batches(self, model: str) -> tuple[float, float]:
        """(calls of a model, rows in them) since the start; zeros for a server that has no metrics."""
        if "admin" not in self.ports:
            return 0.0, 0.0
        text = self._get("metrics")
        found = {
            kind: float(value)
            for kind, value in re.findall(
                rf'^batchproxy_batch_rows_(count|sum){{model="{re.escape(model)}"}} (\S+)$', text, re.MULTILINE
            )
        }
        return found.get("count", 0.0), found.get("sum", 0.0)

    def _get(self, path: str) -> str:
        url = f"http://{HOST}:{self.ports['admin']}/{path}"
        with closing(urllib.request.urlopen(url, timeout=10)) as answer:
            return str(answer.read().decode())

    def stop(self) -> None:
        """End it: as an operator would, or at once where that does not help."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def free_ports(count: int) -> list[int]:
    """Ports that nobody has at the moment, and that no connection out of this machine gets by chance."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(10_000, 30_000)  # Linux gives from 32,768 on to connections
        try:
            socket.create_server((HOST, port)).close()
        except OSError:
            continue
        if port not in found:
            found.append(port)
    return found


def echo(protocol: str, folder: Path) -> Server:
    """Start a yardstick: ``rest`` or ``grpc``."""
    server = Server(f"echo-{protocol}", folder)
    (port,) = free_ports(1)
    server.ports = {protocol: port}
    server.start(["-m", f"benchmarks.load.echo_{protocol}", str(port)])
    return server


def batchproxy(name: str, arguments: Sequence[str], folder: Path) -> Server:
    """Start ``batchproxy serve`` with some models."""
    server = Server(name, folder)
    rest, grpc, admin = free_ports(3)
    server.ports = {"rest": rest, "grpc": grpc, "admin": admin}
    doors = ["--host", HOST, "--rest_api_port", str(rest), "--port", str(grpc), "--admin_port", str(admin)]
    server.start(["-m", "batchproxy", "serve", *doors, *arguments])
    return server


def tfserving(name: str, models: Sequence[str], flags: Sequence[str], folder: Path) -> Server:
    """Start the tests' TF Serving server, which runs TensorFlow, with some of the golden models."""
    server = Server(name, folder)
    rest, grpc = free_ports(2)
    server.ports = {"rest": rest, "grpc": grpc}
    doors = ["--rest_api_port", str(rest), "--port", str(grpc)]
    served = ["--model_config_file", "tests/golden/models/models.config", f"--models={','.join(models)}"]
    server.start(["-m", "tests.tfserving", *doors, *served, *flags])
    return server
