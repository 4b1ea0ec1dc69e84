"""The test server as a process of its own, for tests: start, addresses, counters, kill and restart. No assertions.

Nothing here imports TensorFlow; the process does.
"""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "tests" / "golden" / "models"

READY = re.compile(r"serving: grpc 127\.0\.0\.1:(\d+) rest 127\.0\.0\.1:(\d+)\n")


class Captured(NamedTuple):
    """A call as the server saw it.

    Attributes:
        front: "grpc" or "rest".
        method: gRPC's full method, or HTTP's method and target.
        request: a gRPC message without its prefix, or all bytes of an HTTP request.
        response: likewise.
        metadata: of gRPC; empty for REST.
    """

    front: str
    method: str
    request: bytes
    response: bytes
    metadata: dict[str, str]


class Server:
    """A running server.

    Attributes:
        grpc: ``127.0.0.1:PORT``.
        rest: likewise.
    """

    def __init__(self, arguments: Sequence[str], config: Path) -> None:
        self._arguments = list(arguments)
        self._config = config
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process: subprocess.Popen[str] | None = None
        self.grpc = self.rest = "127.0.0.1:0"
        self.start()

    def start(self) -> None:
        """Starts it, on the same ports if it ran before; returns when it serves."""
        self._process = subprocess.Popen(
            [
                sys.executable,
                *("-m", "tests.tfserving"),
                *("--port", self.grpc.rpartition(":")[2]),
                *("--rest_api_port", self.rest.rpartition(":")[2]),
                *("--model_config_file", str(self._config)),
                *self._arguments,
            ],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        assert self._process.stdout is not None, "It is a pipe. This is a bug."
        for line in self._process.stdout:
            if ready := READY.fullmatch(line):
                self.grpc, self.rest = f"127.0.0.1:{ready[1]}", f"127.0.0.1:{ready[2]}"
                return
        status = self._process.wait()
        self._process.stdout.close()
        self._log.seek(0)
        said = self._log.read()
        self._log.close()
        raise RuntimeError(f"The test server ended with {status} before it served: {said}")

    def kill(self) -> None:
        """Ends it at once: nothing in flight is answered."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Kills it if it runs, and starts it on the same ports."""
        self.kill()
        self.start()

    def stop(self) -> int:
        """Ends it in good order; returns its exit status."""
        return self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> int:
        process = self._process
        assert process is not None, "It was started in the constructor. This is a bug."
        process.send_signal(how)  # does nothing to one that has ended
        status = process.wait()
        assert process.stdout is not None, "It is a pipe. This is a bug."
        process.stdout.close()
        return status

    def close(self) -> None:
        """Ends it, and forgets its log."""
        self.stop()
        self._log.close()

    def counters(self) -> dict[str, Any]:
        """``calls`` by front, method, model; ``rows`` of each run by model; how many are ``running``; the ``peak``."""
        return dict(self._command("counters"))

    def captured(self) -> list[Captured]:
        """The last calls, in the order in which they were answered."""
        return [
            Captured(
                one["front"],
                one["method"],
                base64.b64decode(one["request_b64"]),
                base64.b64decode(one["response_b64"]),
                dict(one.get("metadata", [])),
            )
            for one in self._command("captured")
        ]

    def reset(self) -> None:
        """Forgets what was counted and captured."""
        self._command("reset")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Runs that begin meanwhile wait until the end of it."""
        self._command("hold")
        try:
            yield
        finally:
            self._command("release")

    def wait_for_running(self, count: int) -> None:
        """Returns when so many runs are in flight; they stay there while :meth:`held`."""
        while self._command(f"running/{count}")["running"] < count:
            pass

    def _command(self, name: str) -> Any:
        with urllib.request.urlopen(f"http://{self.rest}/test/{name}", timeout=10) as answer:
            return json.load(answer)


@contextmanager
def running_server(
    *flags: str, models: Sequence[str] = (), config: Path = MODELS / "models.config"
) -> Iterator[Server]:
    """A server for as long as the block lasts. It takes a second or two to start: share it.

    Args:
        flags: of the command, e.g. ``--latency_ms=5``.
        models: names of those to serve; all of the configuration if left out.
        config: a file like TF Serving's, its base paths relative to it.
    """
    server = Server([*flags, f"--models={','.join(models)}"], config)
    try:
        yield server
    finally:
        server.close()
