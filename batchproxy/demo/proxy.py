"""The proxy under demonstration, as a process of its own: its configuration, start, metrics and end. No load here."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from batchproxy.demo.data import UNBATCHED, Workload

HOST = "127.0.0.1"

READY_S = 30.0
"""Opening the models takes a second; a machine may be thirty times as slow."""

STOP_S = 15.0
"""No request is under way when it is told to stop."""

_SAMPLE = re.compile(r"(\w+)(?:\{(.*)\})? (\S+)(?: \d+)?")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class ProxyError(Exception):
    """The proxy did not start, or ended by itself; the text says what it printed last."""


@dataclass(frozen=True)
class Ports:
    """Where the doors are."""

    grpc: int = 8500
    rest: int = 8501
    admin: int = 8502


def choose_ports(*, free: bool) -> tuple[Ports, list[int]]:
    """TF Serving's ports, each replaced by a free one where it is taken; all of them if ``free``.

    Returns:
        the ports, and the default ones that were taken.
    """
    sockets, ports, taken = [], [], []
    try:
        for port in (Ports.grpc, Ports.rest, Ports.admin):
            door = _bound(0 if free else port)
            if door is None:
                taken.append(port)
                door = _bound(0)
            if door is None:
                raise ProxyError(f"no free port on {HOST}")
            sockets.append(door)  # held until all three are chosen, so that no two are the same
            ports.append(door.getsockname()[1])
    finally:
        for door in sockets:
            door.close()
    return Ports(*ports), taken


def _bound(port: int) -> socket.socket | None:
    door = socket.socket()
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: a port in TIME_WAIT is free
    try:
        door.bind((HOST, port))
        door.listen(1)
    except OSError:
        door.close()
        return None
    return door


def config(workloads: Iterable[Workload], ports: Ports, callers: int) -> dict[str, Any]:
    """The configuration: each model twice, batched and not."""
    pools, models = [], []
    for workload in workloads:
        for name, batching in ((workload.name, True), (workload.name + UNBATCHED, False)):
            pools.append({"name": name, "endpoints": [f"onnx:{workload.path}"], "max_relayed": max(callers, 256)})
            models.append({"name": name, "pool": name, "batching": batching})
    listen = {"grpc": f"{HOST}:{ports.grpc}", "rest": f"{HOST}:{ports.rest}", "admin": f"{HOST}:{ports.admin}"}
    return {"listen": listen, "pools": pools, "models": models}


class Proxy:
    """``batchproxy serve`` in a child process.

    Args:
        workloads: the models it serves.
        ports: where.
        callers: how many requests may be under way at once.
        folder: for its configuration and its log.
    """

    def __init__(self, workloads: Iterable[Workload], ports: Ports, callers: int, folder: Path) -> None:
        self.ports = ports
        self._config = folder / "demo.yaml"
        self._config.write_text(yaml.safe_dump(config(workloads, ports, callers), sort_keys=False))
        self._log = folder / "proxy.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and return when ``/readyz`` says 200.

        Raises:
            ProxyError: it ended, or was not ready in time.
        """
        command = [sys.executable, "-m", "batchproxy", "serve", "--config", str(self._config)]
        with self._log.open("wb") as log:  # its own session: Ctrl-C reaches it once, through us
            self._process = subprocess.Popen(  # noqa: S603 - our own command line
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        end = time.monotonic() + READY_S
        while not self._ready():
            if self._process.poll() is not None:
                raise ProxyError(f"the proxy ended with status {self._process.returncode}:\n{self.last_words()}")
            if time.monotonic() > end:
                raise ProxyError(f"the proxy was not ready within {READY_S:.0f} s:\n{self.last_words()}")
            time.sleep(0.05)

    def _ready(self) -> bool:
        try:
            with closing(_get(self.ports.admin, "readyz")):
                return True
        except OSError:  # not listening yet, or 503: HTTPError is one, too
            return False

    def metrics(self) -> dict[tuple[str, str], float]:
        """(metric, model) to its value, summed over all other labels."""
        with closing(_get(self.ports.admin, "metrics")) as answer:
            return by_model(answer.read().decode())

    def wait(self) -> int:
        """Wait until it ends by itself, and return its exit status."""
        return self._process.wait() if self._process is not None else 0

    def stop(self) -> None:
        """Stop it as an operator would, with SIGTERM; kill it if that does not help, or at a second Ctrl-C."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            self._process.kill()
            self._process.wait()

    def last_words(self) -> str:
        """The end of its log."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-20:])


def by_model(text: str) -> dict[tuple[str, str], float]:
    r"""Read Prometheus' text format: (metric, value of its label ``model``) to the sum over all other labels.

    >>> by_model('calls_total{model="m",endpoint="a"} 2.0\ncalls_total{model="m",endpoint="b"} 3.0')
    {('calls_total', 'm'): 5.0}
    """
    sums: dict[tuple[str, str], float] = {}
    for line in text.splitlines():
        match = _SAMPLE.fullmatch(line)
        if match is None:  # a comment
            continue
        model = dict(_LABEL.findall(match[2] or "")).get("model", "")
        sums[match[1], model] = sums.get((match[1], model), 0.0) + float(match[3])
    return sums


def _get(port: int, path: str) -> Any:
    return urllib.request.urlopen(f"http://{HOST}:{port}/{path}", timeout=10)
